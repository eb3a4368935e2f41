//! `Zero::Free`: no byte of an earlier owner can be read. The test's own memory comes from the system.

mod common;
#[path = "common/zeroing.rs"]
mod zeroing;

use std::alloc::System;

use common::{alone, verbs_of};
use homing::{Homing, Zero};

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new().zero(Zero::Free);
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

#[test]
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn the_end_that_a_block_gives_up_by_shrinking_is_cleared() {
    use std::alloc::{GlobalAlloc, Layout};
    use std::ptr::NonNull;

    use common::pattern;

    let _alone = alone();
    // Runs: a mapping gives its end back to the kernel.
    for (size, less) in [(512 << 10, 200 << 10), (2 << 20, 1 << 20)] {
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the size is not 0.
        let block = NonNull::new(unsafe { HOMING.alloc(layout) }).unwrap();
        // SAFETY: a live block of that size.
        unsafe { block.write_bytes(0xA5, size) };
        // SAFETY: the block is the test's.
        let shrunk = unsafe { HOMING.realloc(block.as_ptr(), layout, less) };
        assert_eq!(shrunk, block.as_ptr(), "{size} bytes to {less}: a shorter run stays where it is");
        let first_free = less.next_multiple_of(64 << 10);
        // SAFETY: what a run gives up stays mapped, and nobody else is there to be handed it.
        let first = unsafe { pattern::first_not_zero(block, first_free, size) };
        assert_eq!(first, None, "{size} bytes to {less}: what was given up can be read");
        // SAFETY: a live block of that layout, not used any more.
        unsafe { HOMING.dealloc(shrunk, Layout::from_size_align(less, 8).unwrap()) };
    }
}

/// Where the memory stays mapped, as it does until it is purged.
#[test]
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn nothing_is_left_in_a_block_once_it_is_freed() {
    use std::alloc::{GlobalAlloc, Layout};
    use std::ptr::NonNull;

    use common::pattern;

    let _alone = alone();
    // Hardened, what is longer than a run can be has a mapping, which goes.
    let longest = if cfg!(feature = "hardened") { 960 << 10 } else { 28 << 20 };
    for size in [64, 3000, 60_000, 200_000, 2 << 20, 3 << 20, 20 << 20].into_iter().filter(|size| *size <= longest) {
        let layout = Layout::from_size_align(size, 8).unwrap();
        // SAFETY: the size is not 0.
        let block = NonNull::new(unsafe { HOMING.alloc(layout) }).unwrap();
        // SAFETY: a live block of that size.
        unsafe { block.write_bytes(0xA5, size) };
        // SAFETY: a live block of that layout, not used any more.
        unsafe { HOMING.dealloc(block.as_ptr(), layout) };
        // Of a small one, the first two words are links.
        let from = if size <= 64 << 10 { 16 } else { 0 };
        // SAFETY: what was freed stays mapped for the purge delay, and nobody else is there to be handed it.
        let first = unsafe { pattern::first_not_zero(block, from, size) };
        assert_eq!(first, None, "{size} bytes: an owner's byte is there after the free");
    }
}
