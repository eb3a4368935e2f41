//! `homing topology`, on machines that do not exist and on this one.

mod support;

#[path = "../../tests/common/files.rs"]
mod files;

use std::path::{Path, PathBuf};

use support::{Outcome, command, launcher, run, scratch};

fn topology(arguments: &[&str]) -> Outcome {
    run(command(launcher()).arg("topology").args(arguments))
}

fn of(root: &Path, arguments: &[&str]) -> Outcome {
    run(command(launcher()).arg("topology").arg("--root").arg(root).args(arguments)).silent()
}

/// That the text is the one kept for it, or becomes it where `HOMING_TEST_KEEP` is set.
#[track_caller]
fn is_kept(name: &str, text: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/topology").join(name);
    if std::env::var_os("HOMING_TEST_KEEP").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, text).unwrap();
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(text == kept, "{} has\n{kept}\nand this is\n{text}", file.display());
}

/// A machine with gaps in its numbers and a node without memory, on which this process may use the first of two with some.
fn sparse() -> PathBuf {
    let root = files::sparse();
    std::fs::create_dir_all(root.join("proc/self")).unwrap();
    std::fs::write(root.join("proc/self/status"), "Name:\thoming\nMems_allowed_list:\t0\n").unwrap();
    root
}

#[test]
fn a_machine_with_gaps_in_its_numbers_is_drawn_with_them() {
    is_kept("sparse.txt", &of(&sparse(), &[]).out);
}

#[test]
fn a_slower_tier_is_drawn_with_its_speed() {
    is_kept("expanded.txt", &of(&files::expanded(), &[]).out);
}

#[test]
fn seventy_two_nodes_are_drawn_within_the_width_of_a_page() {
    let text = of(&files::many(), &[]).out;
    // Between the first row and the last one they are alike.
    let is_kept_row = |line: &&str| {
        let number = line.split_whitespace().nth(1).and_then(|word| word.parse::<u32>().ok());
        number.is_none_or(|number| number == 0 || number >= 70)
    };
    is_kept("many.txt", &text.lines().filter(is_kept_row).map(|line| format!("{line}\n")).collect::<String>());
    assert_eq!(text.lines().count(), 463);
    assert!(text.lines().all(|line| line.chars().count() <= 120));
}

#[test]
fn a_program_reads_in_json_what_people_see_in_the_drawing() {
    is_kept("expanded.json", &of(&files::expanded(), &["--json"]).out);
    let sparse: serde_json::Value = serde_json::from_str(&of(&sparse(), &["-j"]).out).unwrap();
    assert_eq!(sparse["nodes"][2]["allowed"], false);
    assert_eq!(sparse["nodes"][1]["total_bytes"], 0);
    assert_eq!(sparse["nodes"][0]["tier"], serde_json::Value::Null);
    let bare: serde_json::Value = serde_json::from_str(&of(&scratch("bare-json"), &["--json"]).out).unwrap();
    assert_eq!(bare["missing"][0], "which nodes there are");
}

#[test]
fn a_long_list_of_cpus_goes_on_in_the_next_line() {
    let even = |id: usize| files::MadeNode {
        id,
        cpus: (0..64).map(|cpu| cpu * 2 + id).collect(),
        kib: 1 << 20,
        ..Default::default()
    };
    let root = files::machine("interleaved", &[even(0), even(1)], |from, to| if from == to { 10 } else { 21 });
    let text = of(&root, &[]).out;
    assert!(text.lines().all(|line| line.chars().count() <= 120), "{text}");
    let numbers: Vec<&str> = text.split(|letter: char| !letter.is_ascii_digit()).collect();
    assert!(numbers.contains(&"126") && numbers.contains(&"127"), "{text}");
}

#[test]
fn a_machine_that_says_nothing_is_one_node_and_a_line_of_what_is_missing() {
    let text = of(&scratch("bare"), &[]).out;
    assert!(text.contains("not known: which nodes there are, the CPUs of node 0, the memory of node 0\n"), "{text}");
    assert_eq!(text.lines().count(), 8, "{text}");
}

#[test]
fn this_machine_is_drawn_without_colours_and_with_the_cpus_that_are_online() {
    let drawn = topology(&[]).silent();
    assert!(!drawn.out.contains('\x1b'), "{drawn:?}");
    let json: serde_json::Value = serde_json::from_str(&topology(&["--json"]).silent().out).unwrap();
    let cpus: usize = json["nodes"].as_array().unwrap().iter().map(|node| node["cpus"].as_array().unwrap().len()).sum();
    assert!(cpus >= std::thread::available_parallelism().unwrap().get(), "{json:#}");
}

#[test]
fn a_machine_whose_sys_is_not_mounted_has_its_cpus_from_elsewhere() {
    let script = format!("mount -t tmpfs none /sys && exec {} topology --json", launcher().display());
    let outcome = run(command("unshare").args(["--mount", "sh", "-c", &script]));
    if outcome.status != Some(0) {
        eprintln!("left out: only the super-user can hide /sys: {}", outcome.err);
        return;
    }
    // hwloc says on its own what it lacks.
    assert!(cfg!(feature = "hwloc") || outcome.err.is_empty(), "{outcome:?}");
    let json: serde_json::Value = serde_json::from_str(&outcome.out).unwrap();
    assert_eq!(json["missing"][0], "which nodes there are", "{json:#}");
    let cpus = json["nodes"][0]["cpus"].as_array().unwrap().len();
    assert_eq!(cpus, std::thread::available_parallelism().unwrap().get(), "{json:#}");
    assert!(json["nodes"][0]["total_bytes"].as_u64() > Some(0), "{json:#}");
}

#[cfg(feature = "hwloc")]
#[test]
fn the_kernel_s_files_serve_where_hwloc_fails_and_one_line_says_why() {
    let file = scratch("empty").join("empty.xml");
    std::fs::write(&file, r#"<?xml version="1.0"?><topology version="2.0"><object type="Machine"/></topology>"#)
        .unwrap();
    let outcome = run(command(launcher()).args(["topology", "--json"]).env("HWLOC_XMLFILE", &file)).succeeded();
    let line = outcome.only_line();
    assert!(line.starts_with("homing: hwloc could not read the machine (hwloc_topology_load: "), "{line}");
    assert!(line.ends_with("; this is from the kernel's files"), "{line}");
    assert!(outcome.out.contains("\"source\": \"the kernel's files\""), "{outcome:?}");
    assert!(topology(&["--json"]).silent().out.contains("\"source\": \"hwloc\""));
}

#[cfg(feature = "hwloc")]
#[test]
fn a_machine_that_hwloc_is_told_of_is_drawn_as_hwloc_has_it() {
    let described = "Package:2 [NUMANode(memory=16GiB)] [NUMANode(memory=64GiB)] PU:4";
    let outcome = run(command(launcher()).arg("topology").env("HWLOC_SYNTHETIC", described)).silent();
    is_kept("synthetic.txt", &outcome.out);
}

#[test]
fn a_wrong_command_line_is_one_reason_and_2() {
    for (arguments, part) in [
        (&["--fast"][..], "--fast"),
        (&["node"], "node"),
        (&["--root"], "--root"),
        (&["--root", "/nowhere/at/all"], "/nowhere/at/all"),
        (&["--root", "/proc/version"], "folder"),
        (&["--json=yes"], "--json"),
    ] {
        let outcome = topology(arguments);
        assert_eq!(outcome.status, Some(2), "{arguments:?}: {outcome:?}");
        assert!(outcome.err.starts_with("homing: ") && outcome.lines()[0].contains(part), "{arguments:?}: {outcome:?}");
        assert_eq!(outcome.out, "", "{arguments:?}");
    }
    assert!(topology(&["--help"]).silent().out.contains("--json"));
}

#[test]
fn a_description_that_cannot_be_written_is_said() {
    for arguments in [&["topology"][..], &["topology", "--json"], &["--help"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").expect("Linux has /dev/full");
        let outcome = run(command(launcher()).args(arguments).stdout(full));
        assert_eq!(outcome.status, Some(1), "{arguments:?}: {outcome:?}");
        assert!(outcome.only_line().contains("standard output cannot be written to"), "{outcome:?}");
    }
}
