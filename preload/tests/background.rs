//! `HOMING_BACKGROUND=1`: a process that does nothing gives memory back, by one thread.

mod support;

use std::process::Command;

use support::{compiled, preloaded, run};

fn background(what: &str) -> Command {
    let mut command = preloaded(compiled("background.c", &[]));
    command.arg(what).env("HOMING_BACKGROUND", "1").env("HOMING_PURGE_DELAY", "200ms");
    command
}

#[test]
fn an_idle_process_gives_back_what_it_freed_by_one_thread() {
    run(&mut background("idle")).silent();
    run(background("idle").env("HOMING_ZERO", "free")).silent();
}

#[test]
fn without_the_setting_there_is_no_thread_and_what_waits_stays() {
    run(background("plain").env_remove("HOMING_BACKGROUND")).silent();
    run(background("plain").env("HOMING_BACKGROUND", "0")).silent();
}

#[test]
fn memory_that_never_goes_back_needs_no_thread() {
    run(background("plain").env("HOMING_PURGE_DELAY", "never")).silent();
}

#[test]
fn memory_that_goes_back_at_once_does_so_beside_a_thread() {
    run(background("idle").env("HOMING_PURGE_DELAY", "0")).silent();
}

#[test]
fn children_begin_a_thread_of_their_own_once_they_need_it() {
    run(&mut background("forks")).silent();
}

#[test]
fn threads_that_come_first_at_once_begin_one_thread() {
    run(&mut background("together")).silent();
}

#[test]
fn where_no_thread_can_be_made_one_line_says_so_and_work_goes_on() {
    let mut command = preloaded(compiled("sandbox.c", &[]));
    command.args(["EPERM", "clone,clone3"]).arg(compiled("background.c", &[])).arg("refused");
    let said = run(command.env("HOMING_BACKGROUND", "1")).succeeded();
    // The sandbox itself is one process more.
    assert!((1..=2).contains(&said.lines().len()), "{said:?}");
    assert!(said.lines().iter().all(|line| line.contains("HOMING_BACKGROUND is not met")), "{said:?}");
}
