//! Many threads, their ends, and the end of the process while some go on.

mod support;

use support::{Outcome, compiled, preloaded, run};

fn threads(arguments: &[&str]) -> Outcome {
    run(preloaded(compiled("threads.c", &[])).args(arguments))
}

#[test]
fn ten_thousand_threads_one_after_another_leave_no_memory_behind() {
    threads(&["one-after-another"]).silent();
}

#[test]
fn a_thousand_threads_at_once_that_free_each_others_blocks_leave_no_memory_behind() {
    threads(&["at-once"]).silent();
}

#[test]
fn destructors_of_every_round_allocate_and_free_before_and_after_the_allocators_own_hook() {
    let outcome = threads(&["destructor-rounds"]).silent();
    // The key between them is the allocator's.
    assert_eq!(outcome.number("second_key"), outcome.number("first_key") + 2, "{outcome:?}");
}

#[test]
fn what_the_c_library_frees_after_all_destructors_comes_back() {
    threads(&["late-library"]).silent();
}

#[test]
fn destructors_of_cxx_thread_locals_allocate_free_and_bring_new_ones_to_life() {
    run(&mut preloaded(compiled("thread_locals.cpp", &["-std=c++17"]))).silent();
}

#[test]
fn threads_that_only_free_what_others_allocated_keep_no_memory() {
    threads(&["only-free"]).silent();
}

/// Often, since every time the threads are somewhere else.
fn ends_well(how: &str) {
    for round in 0..30 {
        let outcome = threads(&["end", how]);
        assert_eq!((outcome.status, &*outcome.err), (Some(42), ""), "round {round}: {outcome:?}");
    }
}

#[test]
fn main_may_return_while_detached_threads_allocate() {
    ends_well("return");
}

#[test]
fn the_process_may_exit_while_detached_threads_allocate() {
    ends_well("exit");
    ends_well("quick_exit");
    ends_well("_exit");
}

#[test]
fn another_thread_may_exit_the_process_while_detached_threads_allocate() {
    ends_well("other-thread-exits");
    ends_well("main-thread-ends");
}

#[test]
fn a_summary_at_the_exit_is_written_while_detached_threads_allocate() {
    for _ in 0..10 {
        let mut command = preloaded(compiled("threads.c", &[]));
        let outcome = run(command.args(["end", "return"]).env("HOMING_STATS", "exit"));
        assert_eq!(outcome.status, Some(42), "{outcome:?}");
        assert!(outcome.lines().iter().all(|line| line.starts_with("homing: ")), "{outcome:?}");
        assert!(!outcome.lines().is_empty(), "{outcome:?}");
    }
}
