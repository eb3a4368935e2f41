//! `Zero::Alloc`: no byte of an earlier owner can be read. The test's own memory comes from the system.

mod common;
#[path = "common/zeroing.rs"]
mod zeroing;

use std::alloc::System;

use common::{alone, verbs_of};
use homing::{Homing, Zero};

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new().zero(Zero::Alloc);
verbs_of!(Direct, HOMING);

#[test]
fn nothing_can_be_read_of_what_the_same_thread_freed() {
    let _alone = alone();
    zeroing::after_frees_of_the_same_thread::<Direct, false>();
}

#[test]
fn nothing_can_be_read_of_what_other_threads_freed() {
    let _alone = alone();
    zeroing::after_frees_of_other_threads::<Direct, false>();
}

#[test]
fn nothing_can_be_read_of_blocks_of_other_kinds_that_lay_there() {
    let _alone = alone();
    zeroing::after_a_mixed_history::<Direct, false>();
}

#[test]
fn nothing_can_be_read_behind_the_old_end_of_a_block_that_grew() {
    let _alone = alone();
    zeroing::when_a_block_grows::<Direct>();
}
