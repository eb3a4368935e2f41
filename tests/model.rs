//! Random sequences of operations against a model, by both faces of the allocator. The test's own memory comes from the
//! system, so that the sequences alone decide what the allocator does.

mod common;
#[path = "common/model.rs"]
mod model;

use std::alloc::{Layout, System};

use common::{Verbs, verbs_of};
use homing::{Homing, entry};

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();
verbs_of!(Direct, HOMING);

/// The C library's verbs.
struct C;

impl Verbs for C {
    fn allocate(layout: Layout, zeroed: bool) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        match (align <= 16, zeroed, size % 3) {
            (true, true, _) => entry::calloc(1, size),
            (true, false, _) => entry::malloc(size),
            // Nothing but `calloc` gives zeroed memory: clear it as a user would.
            (false, _, way) => {
                let block = match way {
                    0 => entry::memalign(align, size),
                    1 => entry::aligned_alloc(align, size),
                    _ => entry::posix_memalign(align, size).map_or(std::ptr::null_mut(), |block| block.as_ptr()),
                };
                if zeroed && !block.is_null() {
                    // SAFETY: the block is `size` bytes long.
                    unsafe { block.write_bytes(0, size) };
                }
                block
            }
        }
    }

    unsafe fn reallocate(block: *mut u8, _: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { entry::realloc(block, new_size) }
    }

    unsafe fn free(block: *mut u8, _: Layout) {
        // SAFETY: the caller's promise.
        unsafe { entry::free(block) };
    }

    fn align_after_reallocate(align: usize) -> usize {
        align.min(16)
    }
}

#[test]
fn no_sequence_of_layouts_makes_blocks_overlap_or_lose_their_contents() {
    model::hold_the_rules::<Direct>(CASES);
}

#[test]
fn no_sequence_of_c_calls_makes_blocks_overlap_or_lose_their_contents() {
    model::hold_the_rules::<C>(CASES);
}

const CASES: u32 = 64;
