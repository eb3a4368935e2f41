//! `alloc_zeroed` where nothing is cleared beyond what is asked for: never a dirty byte, whatever the history. The test's own
//! memory comes from the system.
//!
//! Large blocks that were freed and are handed out again are where others have gone wrong.

mod common;
#[path = "common/zeroing.rs"]
mod zeroing;

use std::alloc::System;

use common::{Held, SIZES, alone, verbs_of};
use homing::{Homing, entry};

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();
verbs_of!(Direct, HOMING);

#[test]
fn zeros_after_the_same_thread_freed_secrets() {
    let _alone = alone();
    zeroing::after_frees_of_the_same_thread::<Direct, true>();
}

#[test]
fn zeros_after_other_threads_freed_secrets() {
    let _alone = alone();
    zeroing::after_frees_of_other_threads::<Direct, true>();
}

#[test]
fn zeros_where_blocks_of_other_kinds_lay() {
    let _alone = alone();
    zeroing::after_a_mixed_history::<Direct, true>();
}

/// Kept at hand, kept by the pool, given back to the kernel, shrunk, grown, moved: each, then asked for zeros.
#[test]
fn zeros_in_mappings_that_were_used_before() {
    let _alone = alone();
    let mut seed = 0;
    let mut dirty = |size: usize| {
        seed += 1;
        Held::<Direct>::take(size, 8, seed).expect("there is memory for it")
    };
    for size in SIZES.into_iter().filter(|size| *size > 64 << 10) {
        for trims in [false, true] {
            for (first, then) in [(size, size), (size, size - size / 5), (size + size / 4, size), (size / 2, size)] {
                drop(dirty(first));
                let mut block = dirty(first);
                block.resize(first / 2 + 1);
                block.resize(first + (1 << 20));
                drop(block);
                if trims {
                    entry::trim();
                }
                let again: Vec<_> = (0..3).map(|seed| Held::<Direct>::take_zeroed(then, 4096, seed)).collect();
                assert!(again.iter().all(Option::is_some), "there is memory for {then} bytes");
            }
        }
    }
}
