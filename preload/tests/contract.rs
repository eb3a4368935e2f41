//! What a preloaded allocator owes to C and C++ programs.

mod support;

use support::{Outcome, command, compiled, preloaded, run};

fn c(part: &str) -> Outcome {
    run(preloaded(compiled("contract.c", &[])).arg(part))
}

fn cxx(part: &str) -> Outcome {
    run(preloaded(compiled("operators.cpp", &["-std=c++17"])).arg(part))
}

#[test]
fn every_name_and_alias_is_ours_and_works_on_the_same_blocks() {
    c("names").silent();
    let without = run(command(compiled("contract.c", &[])).arg("names"));
    assert_ne!(without.status, Some(0), "without the shared object the names are the C library's: {without:?}");
}

#[test]
fn sizes_of_nothing_are_served_and_sizes_too_large_are_enomem() {
    c("plain").silent();
}

#[test]
fn calloc_never_overflows_and_is_always_zero() {
    c("zeroed").silent();
    // The check sees bytes that are not zero: there calloc alone is to clear.
    run(preloaded(compiled("contract.c", &[])).arg("zeroed").env("HOMING_ZERO", "free")).silent();
}

#[test]
fn realloc_keeps_contents_and_a_failure_keeps_the_block() {
    c("resized").silent();
}

#[test]
fn aligned_requests_are_aligned_and_bad_ones_leave_output_and_errno_alone() {
    c("aligned").silent();
}

#[test]
fn every_size_is_aligned_to_16_writable_to_its_usable_size_and_apart_from_others() {
    c("every-size").silent();
}

#[test]
fn free_leaves_errno_alone() {
    c("free-keeps-errno").silent();
}

#[test]
fn figures_follow_the_program_and_trim_tells_the_truth() {
    let outcome = c("figures").succeeded();
    assert!(outcome.err.starts_with("homing: ") && outcome.err.contains("in use bytes"), "malloc_stats: {outcome:?}");
    assert!(!outcome.err.contains("does not hold"), "{outcome:?}");
}

#[test]
fn the_twenty_operators_are_ours() {
    cxx("names").silent();
    let without = run(command(compiled("operators.cpp", &["-std=c++17"])).arg("names"));
    assert_ne!(without.status, Some(0), "without the shared object they are libstdc++'s: {without:?}");
}

#[test]
fn every_form_of_new_and_delete_serves() {
    cxx("each-form").silent();
}

#[test]
fn new_throws_bad_alloc_and_nothrow_new_gives_null() {
    cxx("failure").silent();
}

#[test]
fn new_calls_the_handler_until_it_gives_up_or_throws() {
    cxx("handler").silent();
}

#[test]
fn new_is_served_after_the_handler_has_freed() {
    let mut command = preloaded(compiled("operators.cpp", &["-std=c++17"]));
    run(command.arg("handler-frees").envs([("HOMING_POOL_LIMIT", "40M"), ("HOMING_OVERFLOW", "fail")])).silent();
}

#[test]
fn nothrow_new_calls_the_handler_and_catches_what_it_throws() {
    cxx("nothrow-handler").silent();
}
