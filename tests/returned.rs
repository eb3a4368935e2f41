//! Freed memory goes back to the kernel at once where the delay is 0. The test's own memory comes from the system.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

mod common;

use std::alloc::System;
use std::thread;

use common::{Held, alone, resident, verbs_of};
use homing::{Homing, entry};

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new().purge_delay_ms(Some(0));
verbs_of!(Direct, HOMING);

const ALL: usize = 200 << 20;
/// What may stay: slabs in use of each class, metadata, and what the test's own lists leave behind.
const SLACK: usize = 24 << 20;

fn take(size: usize) -> Vec<Held<Direct>> {
    (0..ALL / size).map(|seed| Held::take(size, 8, seed as u64).expect("there is memory for it")).collect()
}

/// Has the system's allocator give back what the test's own lists took.
fn give_back_the_lists() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no preconditions.
    unsafe {
        libc::malloc_trim(0);
    }
}

fn falls_after(sizes: &[usize], free: impl Fn(Vec<Held<Direct>>)) {
    let _alone = alone();
    for size in sizes {
        let before = resident();
        let blocks = take(*size);
        let during = resident();
        assert!(during >= before + ALL / 2, "{size}: {before} bytes resident before, {during} with the blocks");
        free(blocks);
        give_back_the_lists();
        let after = resident();
        assert_eq!(homing::stats().dirty, 0, "{size}: freed memory waits though the delay is 0");
        assert!(after <= before + SLACK, "{size}: {before} bytes resident before, {during} with them, {after} after");
    }
}

#[test]
fn small_blocks_that_their_own_thread_frees_do_not_stay_resident() {
    falls_after(&[128, 1000, 5000, 60_000], drop);
}

#[test]
fn large_blocks_do_not_stay_resident() {
    falls_after(&[64 << 10, 200 << 10, 2 << 20], drop);
    // Of mappings the pattern touches every page too.
    falls_after(&[3 << 20, 50 << 20], drop);
}

#[test]
fn blocks_freed_in_no_order_do_not_stay_resident() {
    falls_after(&[256, 8 << 10, 100 << 10], |mut blocks| {
        let mut numbers = common::Numbers::new(4);
        while !blocks.is_empty() {
            let at = numbers.below(blocks.len());
            blocks.swap_remove(at);
        }
    });
}

#[test]
fn blocks_that_another_thread_frees_do_not_stay_resident_once_the_owner_looks() {
    falls_after(&[128, 4000, 200 << 10], |blocks| {
        thread::spawn(move || drop(blocks)).join().expect("it does not panic");
        entry::trim();
    });
}

#[test]
fn blocks_of_threads_that_have_ended_go_back_when_another_thread_frees_them() {
    let _alone = alone();
    // By the figures: what the system's allocator keeps of the threads' own lists would blur the resident size.
    let blocks: Vec<_> = (0..4)
        .map(|_| thread::spawn(|| take(512).split_off(ALL / 512 * 3 / 4)).join().expect("it does not panic"))
        .collect();
    assert!(homing::stats().used >= ALL);
    drop(blocks);
    homing::thread_cleanup();
    entry::trim();
    let stats = homing::stats();
    assert!(stats.used <= 2 << 20 && stats.dirty == 0, "{stats:?}");
}

/// A thread frees all that another one has allocated, which then goes on doing only the one thing, and comes to no refill.
fn comes_home_while(what: &str, go_on: impl Fn()) {
    let _alone = alone();
    let blocks: Vec<_> = take(1000);
    // What the other thing needs is there.
    go_on();
    assert!(homing::stats().used >= ALL, "{what}");
    thread::spawn(move || drop(blocks)).join().expect("it does not panic");
    // By a bounded part in each slow path.
    (0..10).for_each(|_| go_on());
    let stats = homing::stats();
    assert!(stats.used <= 8 << 20 && stats.dirty == 0, "{what}: what others have freed did not come home: {stats:?}");
    entry::trim();
}

#[test]
fn a_thread_that_frees_each_small_block_before_the_next_takes_its_own_back() {
    comes_home_while("small blocks in turn", || {
        for seed in 0..10_000 {
            drop(Held::<Direct>::take(40, 8, seed));
        }
    });
}

#[test]
fn a_thread_that_has_only_large_blocks_takes_its_small_ones_back() {
    comes_home_while("large blocks in turn", || {
        for seed in 0..100 {
            drop(Held::<Direct>::take(300_000, 8, seed));
        }
    });
}

#[test]
fn a_thread_that_only_frees_takes_its_own_blocks_back() {
    comes_home_while("frees of others' blocks", || {
        // Of a class that nothing else has, by a thread that lives on.
        let (say, hear) = std::sync::mpsc::channel();
        let (done, wait) = std::sync::mpsc::channel::<()>();
        let other = thread::spawn(move || {
            let blocks: Vec<_> = (0..1000).map(|seed| Held::<Direct>::take(3000, 8, seed)).collect();
            say.send(blocks).expect("the test listens");
            let _ = wait.recv();
        });
        drop(hear.recv().expect("the thread says"));
        drop(done);
        other.join().expect("it does not panic");
    });
}
