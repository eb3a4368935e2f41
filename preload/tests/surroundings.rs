//! Surroundings that break allocators: handlers of forks, ends of threads, limits of the kernel.

mod support;

use support::{compiled, preloaded, run};

fn surroundings(what: &str) {
    run(preloaded(compiled("surroundings.c", &[])).arg(what).env("HOMING_PURGE_DELAY", "1ms")).silent();
}

#[test]
fn handlers_of_a_fork_that_allocate_are_served_before_and_after_it() {
    surroundings("fork-handlers-allocate");
}

#[test]
fn a_handler_of_a_fork_that_waits_for_a_thread_that_allocates_does_not_hang() {
    surroundings("fork-handler-waits");
}

#[test]
fn threads_that_come_first_in_a_destructor_lose_no_arena() {
    surroundings("first-use-in-a-destructor");
}

#[test]
fn many_large_blocks_do_not_use_up_the_kernels_mappings() {
    surroundings("many-large-blocks");
}

#[test]
fn a_limit_on_addresses_that_comes_late_does_not_break_a_block_that_grows() {
    surroundings("limit-lowered");
}

#[test]
fn what_ended_threads_left_behind_goes_back_when_others_free_it() {
    surroundings("left-behind");
}
