//! What the two modes of clearing promise, and `alloc_zeroed` in any mode: no byte of an earlier owner can be read,
//! whatever the history.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::alloc::Layout;
use std::ptr::NonNull;

use crate::common::{Numbers, Verbs, pattern};

/// A block's earlier owner writes this to every byte.
const SECRET: u8 = 0xA5;

/// A block of an allocator that is asked for it in one of two ways.
struct Raw<const ASKED: bool> {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: the block is this value's alone.
unsafe impl<const ASKED: bool> Send for Raw<ASKED> {}

impl<const ASKED: bool> Raw<ASKED> {
    fn usable(&self) -> usize {
        // SAFETY: the block is live.
        unsafe { homing::entry::usable_size(self.start.as_ptr()) }
    }

    /// A block of which every byte up to the last usable one is zero; where zeros are asked for, up to the size.
    fn take<V: Verbs>(size: usize, align: usize) -> Self {
        let layout = Layout::from_size_align(size, align).expect("a layout");
        let start = NonNull::new(V::allocate(layout, ASKED)).expect("there is memory for it");
        let raw = Raw { start, layout };
        raw.must_be_zero_from(0, "a new block");
        raw
    }

    fn must_be_zero_from(&self, from: usize, what: &str) {
        let end = if ASKED { self.layout.size() } else { self.usable() };
        // SAFETY: the usable bytes are the block's.
        let first = unsafe { pattern::first_not_zero(self.start, from, end) };
        assert_eq!(first, None, "{what} of {:?}: an earlier owner's byte can be read", self.layout);
    }

    fn write_secrets(&self) {
        // SAFETY: the usable bytes are the block's.
        unsafe { self.start.write_bytes(SECRET, self.usable()) };
    }

    fn free<V: Verbs>(self) {
        self.write_secrets();
        // SAFETY: the block is this value's, which ends here.
        unsafe { V::free(self.start.as_ptr(), self.layout) };
    }

    /// Grows the block, whose bytes are still all zero; it stays so.
    fn grow<V: Verbs>(&mut self, size: usize) {
        // SAFETY: the block is this value's.
        let new = unsafe { V::reallocate(self.start.as_ptr(), self.layout, size) };
        self.start = NonNull::new(new).expect("there is memory for it");
        self.layout = Layout::from_size_align(size, self.layout.align()).expect("a layout");
        self.must_be_zero_from(0, "a grown block");
    }
}

/// Sizes of every kind.
const KINDS: [usize; 12] = [8, 24, 100, 1000, 2048, 5000, 20_000, 60_000, 100_000, 1 << 20, 3 << 20, 12 << 20];

/// Blocks freed by their own thread, and taken again in the same sizes and in smaller ones.
pub fn after_frees_of_the_same_thread<V: Verbs, const ASKED: bool>() {
    for size in KINDS {
        for less in [0, size / 8, size / 5, size / 2] {
            let count = (1 << 20) / size + 2;
            let blocks: Vec<Raw<ASKED>> = (0..count).map(|_| Raw::take::<V>(size, 8)).collect();
            blocks.into_iter().for_each(Raw::free::<V>);
            let again: Vec<Raw<ASKED>> = (0..count).map(|_| Raw::take::<V>(size - less, 8)).collect();
            again.into_iter().for_each(Raw::free::<V>);
        }
    }
}

/// Blocks freed by another thread, and by one that has ended.
pub fn after_frees_of_other_threads<V: Verbs, const ASKED: bool>() {
    for size in KINDS {
        let count = (1 << 20) / size + 2;
        let blocks: Vec<Raw<ASKED>> = (0..count).map(|_| Raw::take::<V>(size, 8)).collect();
        let free = move || blocks.into_iter().for_each(Raw::free::<V>);
        std::thread::spawn(free).join().expect("it does not panic");
        let again: Vec<Raw<ASKED>> = (0..count).map(|_| Raw::take::<V>(size, 8)).collect();
        std::thread::spawn(move || {
            again.into_iter().for_each(Raw::free::<V>);
            let more: Vec<Raw<ASKED>> = (0..count).map(|_| Raw::take::<V>(size, 8)).collect();
            more.into_iter().for_each(Raw::free::<V>);
        })
        .join()
        .expect("it does not panic");
    }
}

/// Memory that was one kind of block and is another now.
pub fn after_a_mixed_history<V: Verbs, const ASKED: bool>() {
    let mut numbers = Numbers::new(9);
    let mut live = Vec::new();
    for _ in 0..3000 {
        let align = 1 << numbers.below(13);
        live.push(Raw::<ASKED>::take::<V>(numbers.size(4 << 20), align));
        while live.len() > 40 {
            live.swap_remove(numbers.below(live.len())).free::<V>();
        }
    }
    live.into_iter().for_each(Raw::free::<V>);
}

/// Blocks that grow, in place or not, over memory that was an earlier owner's.
pub fn when_a_block_grows<V: Verbs>() {
    for (size, steps) in [
        (9_usize, [20_usize, 100, 1000]),
        (3000, [5000, 20_000, 60_000]),
        (70_000, [100_000, 400_000, 1 << 20]),
        (200_000, [900_000, 2 << 20, 3 << 20]),
        (3 << 20, [4 << 20, 9 << 20, 20 << 20]),
        (9 << 20, [10 << 20, 11 << 20, 30 << 20]),
    ] {
        for last in steps {
            // The earlier owner's: what will follow on the block, what it may move to, and what it may be.
            for earlier in [last, last + last / 5, 2 << 20, size + size / 6] {
                let dirty: Vec<Raw<false>> = (0..3).map(|_| Raw::take::<V>(earlier, 8)).collect();
                dirty.into_iter().for_each(Raw::free::<V>);
                let mut block = Raw::<false>::take::<V>(size, 8);
                for step in steps.into_iter().filter(|step| *step <= last) {
                    block.grow::<V>(step);
                }
                block.free::<V>();
            }
        }
    }
}
