//! The program itself, as it is used.

use std::process::{Command, Output};

fn run(arguments: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_homing-benches")).args(arguments).output();
    output.expect("the program starts")
}

fn text(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("the program writes UTF-8")
}

#[test]
fn the_summary_is_one_table_with_its_verdict() {
    let text = text(&run(&["summary", "--quick", "--only", "threads", "--markdown"]));
    let table: Vec<&str> = text.lines().take_while(|line| line.starts_with('|')).collect();
    assert_eq!(table.len(), 4, "header, rule, benchmark and mean:\n{text}");
    assert!(table[2].starts_with("| threads short-lived"), "{text}");
    assert!(table[3].starts_with("| geometric mean"), "{text}");
    assert!(text.contains("times the time of the best other allocator"), "{text}");
}

#[test]
fn memory_is_measured_for_the_allocators_asked_for() {
    let text = text(&run(&["memory", "--peers", "system", "--markdown"]));
    let row = text.lines().find(|line| line.starts_with("| system")).expect("a row for system");
    let cells: Vec<&str> = row.split('|').map(str::trim).collect();
    let peak: f64 = cells[2].parse().expect("a number of MiB");
    // Some 40 MiB are alive at any time.
    assert!((38.0..400.0).contains(&peak), "{text}");
}

#[cfg(feature = "homing")]
#[test]
fn arenas_and_pools_are_measured_beside_other_crates() {
    let text = text(&run(&["shaped", "--quick", "--peers", "system", "--markdown"]));
    let header = |name: &str| text.lines().find(|line| line.starts_with("| benchmark") && line.contains(name));
    assert!(header("bumpalo").is_some_and(|line| line.contains("typed-arena")), "{text}");
    assert!(header("slab").is_some_and(|line| line.contains("Box, system")), "{text}");
    assert_eq!(text.matches("| bump ").count(), 14, "{text}");
    assert_eq!(text.matches("| pool ").count(), 3, "{text}");
    for line in text.lines().filter(|line| line.starts_with("| bump ") || line.starts_with("| pool ")) {
        let time: f64 = line.split('|').nth(2).and_then(|cell| cell.trim().parse().ok()).expect("a time");
        assert!(time > 0.1, "{line}");
    }
}

#[test]
fn an_unknown_group_is_refused() {
    let output = run(&["summary", "--only", "nonsense"]);
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("producer_consumer"), "the groups are listed");
}
