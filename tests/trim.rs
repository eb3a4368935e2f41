//! `homing::trim`: what nobody uses goes back at once, and it tells how much that was. The test's own memory comes from the
//! system.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

mod common;

use std::alloc::System;
use std::thread;

use common::{Held, alone, resident, verbs_of};
use homing::Homing;

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new().purge_delay_ms(None);
verbs_of!(Direct, HOMING);

const MIB: usize = 1 << 20;
/// Slabs in use of each class, headers, and what else the process touches meanwhile.
const SLACK: usize = 4 * MIB;

fn take(size: usize, all: usize) -> Vec<Held<Direct>> {
    (0..all / size).map(|seed| Held::take(size, 8, seed as u64).expect("there is memory for it")).collect()
}

fn all_goes_at_once(size: usize, all: usize, free: impl FnOnce(&mut Vec<Held<Direct>>)) {
    homing::trim();
    // The list itself stays: it is the system's.
    let mut blocks = take(size, all);
    let full = resident();
    free(&mut blocks);
    let waiting = resident();
    assert!(
        waiting + SLACK > full,
        "{size}: {full} bytes resident with the blocks, {waiting} before anything is to go"
    );
    let went = homing::trim();
    let after = resident();
    assert!((all - SLACK..all + all / 4).contains(&went), "{size}: {went} bytes went back of {all}");
    let fell = waiting.saturating_sub(after);
    assert!(fell + SLACK > went && went + SLACK > fell, "{size}: {went} bytes went back, resident ones fell by {fell}");
    let again = homing::trim();
    assert!(again < MIB, "{size}: {again} bytes went back that were gone");
}

#[test]
fn what_waits_goes_back_and_is_counted_once() {
    let _alone = alone();
    for (size, all) in [(100, 64 * MIB), (3000, 64 * MIB), (60_000, 64 * MIB), (256 << 10, 64 * MIB)] {
        all_goes_at_once(size, all, Vec::clear);
    }
    // Hardened, these are mappings, which do not wait.
    if !cfg!(feature = "hardened") {
        all_goes_at_once(3 * MIB, 24 * MIB, Vec::clear);
    }
}

#[test]
fn what_threads_that_have_ended_left_behind_is_counted_too() {
    let _alone = alone();
    all_goes_at_once(1000, 64 * MIB, |blocks| {
        thread::scope(|scope| scope.spawn(|| blocks.clear()).join().expect("it does not panic"));
    });
}

#[test]
fn pools_are_waited_for_that_other_threads_hold_for_a_moment() {
    let _alone = alone();
    homing::trim();
    // Figures are made with the pool held, by way of all slabs.
    let _many = take(100, 16 * MIB);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                homing::stats();
            }
        });
        let went = (0..200).map(|_| {
            drop(take(200 << 10, 4 * MIB));
            homing::trim()
        });
        let least = went.min();
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(least >= Some(2 * MIB), "{least:?} bytes");
    });
}

#[test]
fn what_is_to_wait_for_ever_does_not_go_back_when_classes_begin_slabs_there() {
    let _alone = alone();
    homing::trim();
    drop(take(300 << 10, 16 * MIB));
    let waiting = resident();
    // No other test has filled a slab of these.
    let sizes = [10_000, 12_000, 14_000, 16_000, 20_000, 24_000, 28_000, 32_000, 40_000, 48_000];
    let blocks: Vec<_> = sizes.map(|size| Held::<Direct>::take(size, 8, 0).expect("there is memory for it")).into();
    let after = resident();
    assert!(after + MIB > waiting, "{waiting} bytes resident before, {after} after");
    drop(blocks);
}
