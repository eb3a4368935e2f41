//! Few blocks in use that lie far apart: the pages between them go back to the kernel when the program asks for it. The
//! test's own memory comes from the system.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

mod common;

use std::alloc::System;
use std::thread;

use common::{Held, Numbers, alone, resident, verbs_of};
use homing::{Homing, entry};

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();
verbs_of!(Direct, HOMING);

type Block = Held<Direct>;

const ALL: usize = 24 << 20;

/// So many bytes of blocks of which one in so many stays, each where it happens to be.
fn sparse(size: usize, one_in: usize) -> Vec<Block> {
    let mut numbers = Numbers::new(size as u64);
    let blocks: Vec<_> = (0..ALL / size).map(|seed| Block::take(size, 8, seed as u64).unwrap()).collect();
    // Not collected where they lie, which would keep all of that memory.
    let mut live = Vec::new();
    live.extend(blocks.into_iter().filter(|_| numbers.below(one_in) == 0));
    live
}

fn is_checked() -> bool {
    std::env::var_os("HOMING_DEBUG").is_some()
}

/// Of slabs of one slot and of eight; blocks that lie within pages, that straddle them, and that have several.
const SIZES: [usize; 10] = [8, 24, 64, 200, 640, 1500, 4096, 5000, 12_000, 60_000];

/// One in so many stays: some for each slab.
fn one_in(size: usize) -> usize {
    let slab = if size > 8 << 10 { 512 << 10 } else { 64 << 10 };
    (slab / size / 3).max(2)
}

#[test]
fn pages_between_blocks_in_use_do_not_stay_resident() {
    let _alone = alone();
    for size in SIZES {
        entry::trim();
        let before = resident();
        let live = sparse(size, one_in(size));
        let during = resident();
        entry::trim();
        let after = resident();
        live.iter().for_each(Block::check);
        // SAFETY: no other thread is at work.
        let audit = unsafe { homing::audit() }.unwrap();
        assert!(audit.live_blocks >= live.len());
        if is_checked() {
            continue;
        }
        let part = if size > 32 << 10 { 5 } else { 2 };
        let gone = during.saturating_sub(after);
        assert!(
            gone > (during - before) / 10 * part,
            "{size}: {before} bytes resident before, {during} with the blocks, {after} after"
        );
        // All of it is handed out anew, and nothing of what is in use.
        let more = sparse(size, 1);
        live.iter().chain(&more).for_each(Block::check);
        // SAFETY: likewise.
        unsafe { homing::audit() }.unwrap();
    }
}

#[test]
fn pages_between_blocks_of_a_thread_that_has_ended_do_not_stay_resident() {
    let _alone = alone();
    let live = thread::spawn(|| sparse(100, 300)).join().unwrap();
    let during = resident();
    entry::trim();
    let after = resident();
    live.iter().for_each(Block::check);
    assert!(is_checked() || after + ALL / 2 < during, "{during} bytes resident before, {after} after");
    // They come home to an arena that nobody has.
    drop(live);
    entry::trim();
    // SAFETY: no other thread is at work.
    unsafe { homing::audit() }.unwrap();
}

#[test]
fn blocks_come_and_go_around_pages_that_went_back() {
    let _alone = alone();
    let mut numbers = Numbers::new(7);
    let mut live: Vec<Block> = Vec::new();
    for round in 0..40 {
        for _ in 0..3000 {
            let size = SIZES[numbers.below(SIZES.len())];
            live.push(if numbers.below(2) == 0 {
                Block::take(size, 8, numbers.next()).unwrap()
            } else {
                Block::take_zeroed(size, 8, numbers.next()).unwrap()
            });
        }
        let keep = numbers.below(5) * 400;
        while live.len() > keep {
            drop(live.swap_remove(numbers.below(live.len())));
        }
        if round % 3 != 0 {
            entry::trim();
        }
        live.iter().for_each(Block::check);
        // SAFETY: no other thread is at work.
        let audit = unsafe { homing::audit() }.unwrap();
        assert!(audit.live_blocks >= live.len(), "{audit:?}");
    }
}
