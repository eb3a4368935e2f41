//! Random sequences of operations against a model, while the test itself, its threads and channels live in the same
//! allocator.

mod common;
#[path = "common/model.rs"]
mod model;
#[path = "common/sequences.rs"]
mod sequences;

use homing::Homing;

#[global_allocator]
static GLOBAL: Homing = Homing::new();

#[test]
fn no_sequence_of_layouts_makes_blocks_overlap_when_the_whole_program_lives_there_too() {
    sequences::hold_the_rules::<common::Global>(48);
}
