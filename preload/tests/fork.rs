//! New processes while threads allocate: their children work on, and none hangs.

mod support;

use support::{compiled, preloaded, run};

fn fork(what: &str) {
    run(preloaded(compiled("fork.c", &[])).arg(what)).silent();
}

#[test]
fn four_hundred_children_forked_while_four_threads_allocate_free_what_they_inherit_and_start_threads() {
    fork("busy");
}

#[test]
fn children_forked_by_several_threads_at_once_never_hang() {
    fork("threads");
}

#[test]
fn children_with_threads_have_children_of_their_own() {
    fork("children");
}

#[test]
fn a_fork_beside_threads_inside_streams_never_hangs() {
    fork("streams");
    let debug = run(preloaded(compiled("fork.c", &[])).arg("streams").env("HOMING_DEBUG", "1"));
    debug.silent();
}

#[test]
fn programs_spawned_while_threads_allocate_begin_and_end_as_they_should() {
    fork("spawn");
}

#[test]
fn a_child_of_vfork_may_begin_a_program_end_or_even_allocate() {
    fork("vfork");
}
