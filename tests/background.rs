//! `Homing::background`: what a program frees goes back on time though no thread allocates or frees any more. The test's own
//! memory comes from the system.

mod common;

use std::alloc::System;
use std::thread;
use std::time::{Duration, Instant};

use common::{Held, alone, verbs_of};
use homing::Homing;

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new().background(true).purge_delay_ms(Some(50));
verbs_of!(Direct, HOMING);

const ALL: usize = 48 << 20;

fn take(size: usize) -> Vec<Held<Direct>> {
    (0..ALL / size).map(|seed| Held::take(size, 8, seed as u64).expect("there is memory for it")).collect()
}

/// Waits until no freed memory waits any more.
fn goes_back(what: &str) {
    let begun = Instant::now();
    while homing::stats().dirty > 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{what}: {:?}", homing::stats());
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn what_is_freed_goes_back_though_nobody_comes_by() {
    let _alone = alone();
    // Again and again: the thread has fallen asleep by then, or not.
    for pause in [0, 1000, 300, 0, 2500, 0] {
        for size in [1000, 200 << 10, 3 << 20] {
            drop(take(size));
            goes_back("freed by its thread");
        }
        thread::sleep(Duration::from_millis(pause));
    }
}

#[test]
fn what_threads_left_behind_that_have_ended_goes_back_though_nobody_comes_by() {
    let _alone = alone();
    // More than are looked at under one lock.
    let blocks: Vec<_> =
        (0..20).map(|_| thread::spawn(|| take(500).split_off(ALL / 500 * 19 / 20)).join().expect("it works")).collect();
    thread::spawn(move || drop(blocks)).join().expect("it does not panic");
    let begun = Instant::now();
    // All but the arenas themselves, and this thread's slabs.
    while homing::stats().used > 1 << 20 {
        assert!(begun.elapsed() < Duration::from_secs(100), "{:?}", homing::stats());
        thread::sleep(Duration::from_millis(20));
    }
    goes_back("freed to arenas without a thread");
}

#[test]
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(feature = "portable")))]
fn addresses_of_what_is_freed_go_back_too_though_nobody_comes_by() {
    const MUCH: usize = 400 << 20;
    let _alone = alone();
    let blocks: Vec<_> =
        (0..MUCH / 300_000).map(|_| Held::<Direct>::take(300_000, 8, 0).expect("there is memory for it")).collect();
    let during = addresses();
    // Some in each segment go last, when all else of it has gone.
    let (last, first): (Vec<_>, Vec<_>) = blocks.into_iter().enumerate().partition(|(index, _)| index % 40 == 0);
    drop(first);
    goes_back("nearly all");
    drop(last);
    let begun = Instant::now();
    while addresses() > during - MUCH * 3 / 4 {
        assert!(begun.elapsed() < Duration::from_secs(60), "{during} bytes of addresses, then {}", addresses());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Bytes of addresses that the process has mapped.
#[cfg(target_os = "linux")]
fn addresses() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has a /proc/self/statm");
    let pages: usize = statm.split(' ').next().and_then(|field| field.parse().ok()).expect("it begins with a number");
    pages * 4096
}
