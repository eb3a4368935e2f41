//! Random sequences of operations against a model, by both faces of the allocator. The test's own memory comes from the
//! system, so that the sequences alone decide what the allocator does.

mod common;
#[path = "common/model.rs"]
mod model;
#[path = "common/sequences.rs"]
mod sequences;

use std::alloc::System;

use common::c_verbs::C;
use common::{alone, verbs_of};
use homing::Homing;

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();
verbs_of!(Direct, HOMING);

#[test]
fn no_sequence_of_layouts_makes_blocks_overlap_or_lose_their_contents() {
    let _alone = alone();
    sequences::hold_the_rules::<Direct>(CASES);
}

#[test]
fn no_sequence_of_c_calls_makes_blocks_overlap_or_lose_their_contents() {
    let _alone = alone();
    sequences::hold_the_rules::<C>(CASES);
}

const CASES: u32 = 64;
