//! A pool with a limit: requests past it are refused, and nothing else changes. The test's own memory comes from the
//! system, so that it has some where the pool has none.

mod common;

use std::alloc::System;
use std::sync::{MutexGuard, mpsc};
use std::thread;

use common::{Held, SIZES, verbs_of};
use homing::{Homing, Overflow, stats};

#[global_allocator]
static OWN: System = System;

const LIMIT: usize = 64 << 20;

static HOMING: Homing = Homing::new().pool_limit(LIMIT).overflow(Overflow::Fail);
verbs_of!(Direct, HOMING);

type Block = Held<Direct>;

/// Keeps tests apart, and makes the settings the process's, which they are of whatever asks first.
fn alone() -> MutexGuard<'static, ()> {
    let alone = common::alone();
    drop(Block::take(8, 8, 0).expect("there is room for one"));
    alone
}

/// Takes blocks until one is refused.
fn take_all(size: usize) -> Vec<Block> {
    let blocks: Vec<_> = (0..=LIMIT / size).map_while(|seed| Block::take(size, 8, seed as u64)).collect();
    assert!(blocks.len() <= LIMIT / size, "more than the limit was handed out in blocks of {size}");
    blocks
}

#[test]
fn requests_past_the_limit_are_refused_and_served_again_after_frees() {
    let _alone = alone();
    for size in [100, 3000, 60_000, 128 << 10, 1 << 20, 3 << 20] {
        for round in 0..2 {
            let mut blocks = take_all(size);
            assert!(blocks.len() >= LIMIT * 3 / 4 / size, "{} blocks of {size} in round {round}", blocks.len());
            assert!(stats().used <= LIMIT, "{} bytes in use", stats().used);
            assert!(Block::take(8 << 20, 8, 1).is_none());
            assert!(Block::take_zeroed(40 << 20, 4096, 1).is_none());
            blocks.iter().for_each(Block::check);
            blocks.truncate(blocks.len() / 2);
            let mut more: Vec<_> = (0..5).map(|seed| Block::take(1 << 20, 8, seed)).collect();
            assert!(more.iter().all(Option::is_some), "half of the pool is free, but a MiB of it is refused ({size})");
            more.clear();
            blocks.iter().for_each(Block::check);
        }
    }
}

#[test]
fn a_block_that_may_not_grow_past_the_limit_stays_as_it_was() {
    let _alone = alone();
    for size in SIZES.into_iter().filter(|size| *size <= 8 << 20) {
        let mut block = Block::take(size, 8, 2).expect("there is room for one");
        let mut blocks = take_all(1 << 20);
        assert!(!block.resize(70 << 20));
        assert!(!block.resize(20 << 20), "{size} bytes grew in a full pool");
        blocks.truncate(blocks.len() / 2);
        assert!(block.resize(10 << 20), "{size} bytes may not grow in a pool half empty");
    }
}

#[test]
fn freed_memory_that_waits_for_the_kernel_does_not_count_against_the_limit() {
    let _alone = alone();
    for _ in 0..3 {
        for size in [1 << 20, 3 << 20, 200, 30 << 20, 60_000] {
            let blocks = take_all(size);
            assert!(blocks.len() >= LIMIT / 3 / size, "{} blocks of {size}", blocks.len());
        }
    }
}

/// Has nodes and headers: not where the system's allocator serves.
#[test]
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn a_request_that_names_a_full_node_is_served_from_the_blocks_that_are_free() {
    let _alone = alone();
    let node = homing::home_node().expect("the kernel tells where a thread runs");
    let layout = std::alloc::Layout::from_size_align(1000, 8).unwrap();
    // By this thread, whose arena has the slabs then; and by one that has ended, from which an arena is at rest.
    for by_another in [false, true] {
        let all = if by_another { thread::spawn(|| take_all(1000)).join().unwrap() } else { take_all(1000) };
        let (kept, freed): (Vec<_>, Vec<_>) = all.into_iter().enumerate().partition(|(index, _)| index % 2 == 0);
        let free = freed.len();
        drop(freed);
        // The last blocks that were freed are on their way yet.
        homing::thread_cleanup();
        let served: Vec<_> = (0..free).map_while(|_| homing::alloc_on_node(layout, node).ok()).collect();
        assert!(served.len() >= free * 9 / 10, "{free} blocks of the node are free, {} were to be had", served.len());
        for block in served {
            // SAFETY: a live block of that layout, not used any more.
            unsafe { homing::dealloc_from_node(block, layout, node) }.unwrap();
        }
        drop(kept);
    }
}

#[test]
fn threads_without_an_arena_yet_are_held_to_the_limit_too() {
    let _alone = alone();
    let (go, wait): (Vec<_>, Vec<_>) = (0..40).map(|_| mpsc::channel::<()>()).unzip();
    let (say, hear) = mpsc::channel();
    let threads: Vec<_> = wait
        .into_iter()
        .map(|wait| {
            let say = say.clone();
            thread::spawn(move || {
                wait.recv().expect("the test says when");
                say.send(Block::take(8 << 20, 8, 1)).expect("the test listens");
                // No thread leaves its arena to the next.
                let _ = wait.recv();
            })
        })
        .collect();
    let mut blocks = take_all(1 << 20);
    // To the last slot, so that there is none for an arena either.
    blocks.extend(take_all(128 << 10));
    blocks.extend(take_all(3000));
    for go in &go {
        go.send(()).expect("the thread listens");
        let taken = hear.recv().expect("the thread answers");
        assert!(taken.is_none(), "8 MiB were handed out by a pool that is full");
    }
    drop(go);
    for thread in threads {
        thread.join().expect("it does not panic");
    }
}

#[test]
fn what_threads_that_stand_still_have_freed_is_kept_from_nobody() {
    let _alone = alone();
    const THREADS: usize = 16;
    let (done, all_done) = mpsc::channel();
    let (ends, waits): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel::<()>()).unzip();
    thread::scope(|scope| {
        for wait in waits {
            let done = done.clone();
            scope.spawn(move || {
                for size in [100, 3000, 20_000, 128 << 10, 500 << 10, 1 << 20, 2 << 20, 3 << 20] {
                    drop((0..(4 << 20) / size).map_while(|seed| Block::take(size, 8, seed as u64)).collect::<Vec<_>>());
                }
                done.send(()).expect("the test waits");
                let _ = wait.recv();
            });
        }
        (0..THREADS).for_each(|_| all_done.recv().expect("each has a turn"));
        let had = take_all(1 << 20).len();
        drop(ends);
        // A slab or two of each class stay with their threads: some 300 KiB each here, by the pages that they take.
        assert!(had >= (LIMIT >> 20) - THREADS, "{had} MiB of {} while {THREADS} threads have nothing", LIMIT >> 20);
    });
}
