//! Threads that are to be cancelled (pthread_cancel(3)): none of the allocator's functions is a cancellation point.

mod support;

use std::process::Command;

use support::{compiled, preloaded, run};

/// The settings under which files are read, lines written, or more is done than usual.
const SETTINGS: [(&str, &str); 6] = [
    ("HOMING_STATS", "off"),
    ("HOMING_POLICY", "bind"),
    ("HOMING_DEBUG", "1"),
    ("HOMING_VERBOSE", "1"),
    ("HOMING_POOL_SIZE", "8M"),
    ("HOMING_NONSENSE", "1"),
];

fn cancelled(what: &str, setting: (&str, &str)) -> Command {
    let mut command = preloaded(compiled("cancelled.c", &[]));
    command.arg(what).envs([setting]);
    command
}

#[test]
fn a_thread_that_is_to_be_cancelled_gets_blocks_of_every_size_and_goes_on() {
    for setting in SETTINGS {
        for what in ["large", "small"] {
            run(&mut cancelled(what, setting)).succeeded();
        }
    }
}

#[test]
fn a_thread_that_is_to_be_cancelled_asks_for_figures_and_goes_on() {
    for setting in SETTINGS {
        let outcome = run(&mut cancelled("figures", setting)).succeeded();
        assert!(outcome.err.contains("in use bytes"), "{setting:?}: {outcome:?}");
    }
}

#[test]
fn a_report_of_misuse_by_a_thread_that_is_to_be_cancelled_is_written_and_ends_the_process() {
    for mode in ["0", "1"] {
        let outcome = run(&mut cancelled("misuse", ("HOMING_DEBUG", mode)));
        assert_eq!(outcome.signal, Some(libc::SIGABRT), "{outcome:?}");
        assert!(outcome.lines()[0].contains("(double free)"), "{outcome:?}");
    }
}
