//! What others have freed while a thread slept: it takes a bounded part of it home each time. The test's own memory comes
//! from the system.
#![cfg(not(feature = "portable"))]

mod common;

use std::alloc::System;
use std::thread;

use common::{Held, alone, verbs_of};
use homing::Homing;

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();
verbs_of!(Direct, HOMING);

type Block = Held<Direct>;

const BLOCKS: usize = 40_000;
/// Blocks of a call, and what another call within it may add: the idle arenas', and that of a look.
const MOST: usize = 3 * 4096;

/// Blocks that are on their way home.
fn on_the_way() -> usize {
    // SAFETY: no other thread is at work.
    let audit = unsafe { homing::audit() }.unwrap();
    audit.on_the_way
}

fn is_watched() -> bool {
    std::env::var_os("HOMING_DEBUG").is_some()
}

/// Blocks of the calling thread's that another has freed.
fn freed_elsewhere() {
    let blocks: Vec<_> = (0..BLOCKS).map(|seed| Block::take(64, 8, seed as u64).unwrap()).collect();
    thread::spawn(move || drop(blocks)).join().unwrap();
}

#[test]
fn one_call_does_not_take_all_home_that_others_freed_while_its_thread_slept() {
    let _alone = alone();
    freed_elsewhere();
    if is_watched() {
        return;
    }
    let mut waiting = on_the_way();
    assert!(waiting > BLOCKS - 1000, "{waiting} wait");
    let mut pieces = 0;
    while waiting > 0 {
        let block = Block::take(64, 8, 1).unwrap();
        let now = on_the_way();
        assert!(waiting - now <= MOST, "one call has taken {} blocks home", waiting - now);
        pieces += usize::from(now < waiting);
        waiting = now;
        std::mem::forget(block);
    }
    assert!(pieces >= BLOCKS / MOST);
}

#[test]
fn what_waits_to_be_taken_home_counts_as_free_and_is_there_for_whoever_needs_all() {
    let _alone = alone();
    freed_elsewhere();
    // A part of it.
    while on_the_way() > BLOCKS - 1000 {
        std::mem::forget(Block::take(64, 8, 1).unwrap());
    }
    let waits = on_the_way();
    assert!(waits > 0 || is_watched());
    let before = homing::stats().used;
    homing::entry::trim();
    assert_eq!(on_the_way(), 0, "a trim leaves some");
    assert!(homing::stats().used <= before + (64 << 10), "what waited counted as in use");
}

#[test]
fn what_a_thread_has_left_to_be_taken_home_is_taken_home_when_it_has_ended() {
    let _alone = alone();
    thread::spawn(|| {
        freed_elsewhere();
        std::mem::forget(Block::take(64, 8, 1).unwrap());
        while !is_watched() && on_the_way() > BLOCKS - 1000 {
            std::mem::forget(Block::take(64, 8, 1).unwrap());
        }
    })
    .join()
    .unwrap();
    homing::entry::trim();
    assert_eq!(on_the_way(), 0);
}
