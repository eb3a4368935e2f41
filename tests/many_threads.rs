//! Thousands of threads with objects of their own, one after another and all at once: what they held comes back, and
//! the allocator's own data agree afterwards.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

mod common;

use std::cell::RefCell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread::{self, Builder};

use common::{Global, Held, Numbers, alone, resident};
use homing::Homing;

#[global_allocator]
static GLOBAL: Homing = Homing::new();

type Block = Held<Global>;

/// What may be in use, or in memory, more after many threads than after some: slabs that one of them happened to need,
/// and pages of its tables and stack.
/// Hardened, blocks are used in random order, so that in time every page of a slab is touched.
const SLACK: usize = if cfg!(feature = "hardened") { 16 << 20 } else { 4 << 20 };

/// A thread's own blocks, which are freed while it ends; the destructor takes others, and leaves one to others.
struct Own(Vec<Block>);

static LEFT: Mutex<Vec<Block>> = Mutex::new(Vec::new());
static ENDED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static OWN: RefCell<Own> = const { RefCell::new(Own(Vec::new())) };
}

impl Drop for Own {
    fn drop(&mut self) {
        let seed = ENDED.fetch_add(1, Ordering::Relaxed) as u64;
        let mut numbers = Numbers::new(seed);
        let more: Vec<_> = (0..5).map(|_| take(&mut numbers)).collect();
        self.0.clear();
        let mut left = LEFT.lock().expect("nobody panics with the lock");
        left.extend(more.into_iter().take(1));
        if left.len() > 20 {
            let old = left.swap_remove(numbers.below(20));
            drop(left);
            drop(old);
        }
    }
}

fn take(numbers: &mut Numbers) -> Block {
    Block::take(numbers.size(300_000), 8, numbers.next()).expect("there is memory for it")
}

fn live(seed: usize) {
    let mut numbers = Numbers::new(seed as u64);
    OWN.with_borrow_mut(|own| own.0.extend((0..10).map(|_| take(&mut numbers))));
    (0..10).for_each(|_| drop(take(&mut numbers)));
}

/// What is in use and in memory once all that can go back has gone.
fn held() -> (usize, usize) {
    LEFT.lock().expect("nobody panicked with the lock").clear();
    homing::entry::trim();
    (homing::stats().used, resident())
}

#[track_caller]
fn assert_back(before: (usize, usize)) {
    let after = held();
    assert!(after.0 <= before.0 + SLACK, "{} bytes in use before, {} after", before.0, after.0);
    assert!(after.1 <= before.1 + SLACK, "{} bytes in memory before, {} after", before.1, after.1);
    // SAFETY: the only other thread, the harness's, waits for this one.
    let audit = unsafe { homing::audit() };
    audit.expect("pools, segments, slabs and blocks agree");
}

#[test]
fn ten_thousand_threads_one_after_another_give_all_back() {
    let _alone = alone();
    let live_one_after_another = |threads| {
        let before = ENDED.load(Ordering::Relaxed);
        (0..threads).for_each(|seed| thread::spawn(move || live(seed)).join().expect("it does not panic"));
        assert_eq!(ENDED.load(Ordering::Relaxed) - before, threads, "destructors that ran");
    };
    live_one_after_another(200);
    let (before, arenas) = (held(), homing::stats().arenas);
    live_one_after_another(10_000);
    assert_back(before);
    // One after another uses the same.
    assert_eq!(homing::stats().arenas, arenas);
}

#[test]
fn a_thousand_threads_at_once_give_all_back() {
    const THREADS: usize = 1000;
    let _alone = alone();
    let live_at_once = || {
        let all_there = Arc::new(Barrier::new(THREADS));
        let start = |seed| {
            let all_there = all_there.clone();
            let work = move || {
                live(seed);
                all_there.wait();
            };
            Builder::new().stack_size(128 << 10).spawn(work).expect("there is room for a thread")
        };
        let threads: Vec<_> = (0..THREADS).map(start).collect();
        // Their destructors have run, too, when they are joined.
        threads.into_iter().for_each(|thread| thread.join().expect("it does not panic"));
    };
    // That there are arenas for so many.
    live_at_once();
    let (before, arenas) = (held(), homing::stats().arenas);
    assert!(arenas >= THREADS, "{arenas} arenas");
    (0..3).for_each(|_| live_at_once());
    assert_back(before);
    assert!(homing::stats().arenas <= arenas + 8, "{arenas} arenas before, {} after", homing::stats().arenas);
}
