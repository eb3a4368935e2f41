//! Every call of the allocator's to the kernel and the C library is refused: each in turn, every so-manieth, and at
//! random, under threads that take, resize, hand on and free blocks of all kinds, come and go, trim, and fork. What must
//! hold then stands in `settled`. The test's own memory comes from the system, so that the workload alone meets refusals.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

#[path = "../common/mod.rs"]
mod common;
mod start_up;
mod workload;

use std::alloc::System;
use std::sync::MutexGuard;
use std::thread;

use common::{resident, verbs_of};
use homing::Homing;
use homing::fault::{self, Call, When};
use workload::{Block, KINDS_OF_BLOCKS, run};

#[global_allocator]
static OWN: System = System;

// A short delay, so that memory is both kept for reuse and given back in the middle of the work.
static HOMING: Homing = Homing::new().purge_delay_ms(Some(1));
verbs_of!(Direct, HOMING);

/// What is held when nothing is in use.
#[derive(Clone, Copy, Debug)]
struct AtRest {
    used: usize,
    resident: usize,
    addresses: usize,
}

/// What the system's allocator, the tests' own lists and threads' stacks may make of the process's figures.
const SLACK: usize = 24 << 20;

/// Bytes of address space that the process has.
fn addresses() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has a /proc/self/statm");
    let pages = statm.split_whitespace().next().and_then(|field| field.parse::<usize>().ok());
    pages.expect("the first field is the number of pages") * 4096
}

/// Keeps tests apart, and says what is held at rest: after work without refusals.
fn alone() -> (MutexGuard<'static, ()>, AtRest) {
    let alone = common::alone();
    // All threads of the test share one arena of the system's allocator, so that addresses are comparable.
    // SAFETY: no preconditions.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 1);
    }
    fault::inject(fault::ALL, When::Never);
    for seed in 0..3 {
        run(seed);
    }
    fault::stop();
    (alone, rest("work without refusals"))
}

/// Gives back all that can be, has the audit look, and says what is held then.
fn rest(after: &str) -> AtRest {
    homing::thread_cleanup();
    // Twice: what an arena at rest sends on may go to one that was looked after before.
    homing::entry::trim();
    homing::entry::trim();
    // SAFETY: no other thread uses the allocator: the tests are apart, and their threads have ended.
    let audit = unsafe { homing::audit() }.unwrap_or_else(|error| panic!("after {after}: {error}"));
    assert_eq!(audit.live_blocks, 0, "after {after}: blocks are in use that nobody has: {audit:?}");
    assert!(audit.granules <= audit.segments, "after {after}: granules are neither in use nor free: {audit:?}");
    let stats = homing::stats();
    assert_eq!(stats.dirty, 0, "after {after}: freed memory waits though all was trimmed: {stats:?}");
    AtRest { used: stats.used, resident: resident(), addresses: addresses() }
}

/// After the refusals are over: everything works again, and no more is held than before.
fn settled(before: &AtRest, after: &str) {
    let again: Vec<_> = KINDS_OF_BLOCKS.iter().map(|(size, align)| Block::take_zeroed(*size, *align, 7)).collect();
    for (block, (size, align)) in again.iter().zip(KINDS_OF_BLOCKS) {
        assert!(
            block.is_some(),
            "after {after}: {size} bytes aligned to {align} are refused, though the kernel is not"
        );
    }
    drop(again);
    let now = rest(after);
    // Arenas are never given up, and another number of them may have been in use at once: a slot holds sixteen.
    assert!(now.used <= before.used + (64 << 10), "after {after}: {now:?} is held, {before:?} before");
    assert!(now.resident <= before.resident + SLACK, "after {after}: {now:?} is resident, {before:?} before");
    assert!(now.addresses <= before.addresses + SLACK, "after {after}: {now:?} of addresses, {before:?} before");
}

/// Has calls of those kinds refused in a run of the workload. Gives how many there were, and how many were refused.
fn refuse(kinds: u32, when: When, seed: u64) -> (u64, u64) {
    fault::inject(kinds, when);
    run(seed);
    fault::stop()
}

/// Refuses each call of those kinds in turn; where there are many, so many of them, evenly spread.
///
/// The threads go on in another order each time, so that a run may make none of the calls, or not the last ones: there are
/// rounds until a call was refused.
fn in_turn(kinds: u32, most: u64) {
    const ROUNDS: usize = 50;
    let (_alone, before) = alone();
    let all_refused = (0..ROUNDS).map(|_| refuse_in_turn(kinds, most, &before)).find(|refused| *refused > 0);
    assert!(all_refused.is_some(), "no call of the kinds {kinds:#x} was refused in {ROUNDS} rounds");
}

/// One round: how many were refused.
fn refuse_in_turn(kinds: u32, most: u64, before: &AtRest) -> u64 {
    let (calls, _) = refuse(kinds, When::Never, 1);
    let refusal_of = |turn: u64| {
        let nth = 1 + turn * calls / calls.min(most);
        let (_, refused) = refuse(kinds, When::Nth(nth), 1);
        settled(before, &format!("a refusal of call {nth} of {calls} of the kinds {kinds:#x}"));
        refused
    };
    (0..calls.min(most)).map(refusal_of).sum()
}

/// Refuses every so-manieth call of those kinds.
fn every_so_manieth(kinds: u32) {
    let (_alone, before) = alone();
    for every in [1, 2, 5] {
        let (calls, refused) = refuse(kinds, When::Every(every), every);
        assert!(refused > 0 || calls < every, "none of {calls} calls was refused");
        settled(&before, &format!("refusals of every {every}th call of the kinds {kinds:#x}"));
    }
}

const fn mask(calls: &[Call]) -> u32 {
    let (mut mask, mut index) = (0, 0);
    while index < calls.len() {
        mask |= calls[index] as u32;
        index += 1;
    }
    mask
}

/// What can be refused together without a place being lost: where the kernel makes room for moved pages, refuses, and
/// then refuses to give the room back, it stays with whoever else has it by then.
const ANY: u32 = fault::ALL & !(Call::MoveAfterUnmap as u32);
const ADDRESSES: u32 = mask(&[Call::Map, Call::Unmap]);
const HOOKS: u32 = mask(&[Call::ThreadHook, Call::ProcessHook]);
const REST: u32 = mask(&[Call::Advise, Call::Read, Call::Ask, Call::Clock, Call::Wait, Call::Policy, Call::Place]);

#[test]
fn each_refused_reservation_or_release_of_addresses_loses_nothing() {
    in_turn(ADDRESSES, 24);
}

#[test]
fn each_refused_commit_loses_nothing() {
    in_turn(Call::Commit as u32, 24);
}

#[test]
fn each_refused_purge_loses_nothing_and_zeroed_blocks_are_zero() {
    in_turn(Call::Purge as u32, 24);
}

#[test]
fn each_refused_move_of_pages_loses_nothing() {
    in_turn(Call::Move as u32, 6);
    in_turn(Call::MoveAfterUnmap as u32, 6);
}

#[test]
fn each_refused_hook_of_a_thread_loses_nothing() {
    in_turn(HOOKS, 20);
}

#[test]
fn each_refused_call_of_any_other_kind_loses_nothing() {
    in_turn(REST, 24);
}

#[test]
fn refusals_of_every_so_manieth_call_lose_nothing() {
    for kinds in [ADDRESSES, Call::Commit as u32, Call::Purge as u32, HOOKS, REST, ANY] {
        every_so_manieth(kinds);
    }
    every_so_manieth(mask(&[Call::Move]));
    every_so_manieth(mask(&[Call::MoveAfterUnmap]));
}

#[test]
fn refusals_at_random_lose_nothing() {
    let (_alone, before) = alone();
    for seed in 0..15 {
        let per_mille = [5, 50, 300][seed as usize % 3];
        let (calls, refused) = refuse(ANY, When::Random { seed, per_mille }, seed);
        assert!(calls > 0 && (refused > 0 || per_mille < 300), "none of {calls} calls was refused");
        settled(&before, &format!("refusals of {per_mille} calls of 1000, seed {seed}"));
    }
}

#[test]
fn segments_that_cannot_be_mapped_further_leave_nothing_behind() {
    let (_alone, before) = alone();
    // Others serve, as far as each is mapped at first.
    fault::inject(Call::Commit as u32, When::Every(1));
    let mut blocks: Vec<_> =
        (0..100).map(|seed| Block::take(1 << 20, 8, seed).expect("new segments can be had")).collect();
    let (asked, _) = fault::stop();
    assert!(asked > 0, "no segment was to be mapped further");
    // No others can be had either.
    fault::inject((Call::Commit as u32) | Call::Map as u32, When::Every(1));
    blocks.extend((0..1000).map_while(|seed| Block::take(1 << 20, 8, seed)));
    assert!(blocks.len() < 1100, "no memory was asked for though all is in use");
    fault::stop();
    // SAFETY: no other thread uses the allocator.
    let audit = unsafe { homing::audit() }.unwrap_or_else(|error| panic!("{error}"));
    assert!(audit.granules <= audit.segments, "granules are neither in use nor free: {audit:?}");
    blocks.push(Block::take(1 << 20, 8, 1).expect("the kernel refuses no more"));
    drop(blocks);
    settled(&before, "segments that could not be mapped further");
}

#[test]
fn threads_whose_end_cannot_be_hooked_lose_no_arena() {
    let (_alone, before) = alone();
    let arenas = homing::stats().arenas;
    fault::inject(Call::ThreadHook as u32, When::Every(1));
    for round in 0..100 {
        let (say, hear) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let mut blocks: Vec<_> = (0..300).filter_map(|seed| Block::take(700, 8, seed)).collect();
            assert_eq!(blocks.len(), 300, "a thread without a hook is refused memory");
            say.send(blocks.split_off(150)).expect("the test listens");
        });
        let blocks = hear.recv().expect("the thread says");
        thread.join().unwrap_or_else(|_| panic!("the thread of round {round} panicked"));
        drop(blocks);
    }
    fault::stop();
    assert!(homing::stats().arenas <= arenas + 2, "{arenas} arenas before, {:?} after", homing::stats());
    settled(&before, "100 threads without a hook");
}
