//! Refusals while the process is being set up: in processes of their own, since that is done once.

use std::process::Command;
use std::thread;

use homing::fault::{self, Call, When};

use crate::workload::{Block, KINDS_OF_BLOCKS, fork_and_work, run};
use crate::{alone, settled};

/// For the child: the kinds of call that are refused, and which of them (`nth` or `every`, and the number).
const REFUSE: &str = "HOMING_TEST_REFUSE";
const NAME: &str = "start_up::refusals_while_the_process_is_set_up_lose_nothing";

#[test]
fn refusals_while_the_process_is_set_up_lose_nothing() {
    if let Ok(what) = std::env::var(REFUSE) {
        return in_child(&what);
    }
    let calls = child(fault::ALL, "nth", 0);
    assert!(calls > 10, "a process is set up with {calls} calls");
    for nth in 1..=calls {
        child(fault::ALL, "nth", nth);
    }
    for bit in 0..fault::ALL.count_ones() {
        child(1 << bit, "every", 1);
    }
    child(fault::ALL, "every", 1);
    child(fault::ALL, "every", 3);
}

/// Runs the test in a process of its own. Gives how many calls its set-up made.
fn child(kinds: u32, rule: &str, number: u64) -> u64 {
    let what = format!("{kinds} {rule} {number}");
    let output = command(&what).output().expect("the test's program can be run");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "with \"{what}\" refused at the start: {}\n{said}\n{errors}", output.status);
    let calls = said.lines().find_map(|line| line.split_once("calls: ")?.1.parse().ok());
    calls.unwrap_or_else(|| panic!("with \"{what}\" refused at the start, the process does not say its calls:\n{said}"))
}

fn command(what: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("the test knows its program"));
    command.args(["--exact", NAME, "--nocapture"]).env(REFUSE, what);
    command
}

#[test]
fn hooks_that_are_tried_again_have_the_summary_written_once() {
    // The handlers of forks, the summary's hook, the debug mode's.
    for nth in 1..=3 {
        let mut command = command(&format!("{} nth {nth}", Call::ProcessHook as u32));
        let output = command.env("HOMING_STATS", "exit").env("HOMING_DEBUG", "1").output();
        let errors = String::from_utf8(output.expect("the test's program can be run").stderr).expect("it is text");
        let summaries = errors.lines().filter(|line| line.contains("blocks handed out")).count();
        assert_eq!(summaries, 1, "with hook {nth} refused at first:\n{errors}");
    }
}

fn in_child(what: &str) {
    let mut words = what.split(' ');
    let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
    let kinds = number().expect("kinds of calls") as u32;
    let every = what.contains("every");
    let _ = number();
    let number = number().expect("a number");
    fault::inject(kinds, if every { When::Every(number) } else { When::Nth(number) });
    let first: Vec<_> = KINDS_OF_BLOCKS.iter().filter_map(|(size, align)| Block::take(*size, *align, 3)).collect();
    let second = || (0..100).filter_map(|seed| Block::take_zeroed(500, 8, seed)).collect::<Vec<_>>();
    let second = thread::spawn(second).join().expect("a refusal makes no thread panic");
    let (calls, _) = fault::stop();
    println!("calls: {calls}");
    drop((first, second));
    if std::env::var_os("HOMING_DEBUG").is_some() {
        // What it keeps does not settle.
        return;
    }
    // Whoever comes now forks while others are at work; the handlers have been tried again by then.
    let other = thread::spawn(|| run(5));
    (0..5).for_each(|seed| fork_and_work(seed, &mut Vec::new()));
    other.join().expect("nothing is refused any more");
    if kinds & Call::MoveAfterUnmap as u32 == 0 || !every {
        let (_alone, before) = alone();
        settled(&before, "refusals at the start");
    }
}
