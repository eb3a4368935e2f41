//! The kernel refuses: every kind of call, every first to seventh time. The test's own memory comes from the system, so
//! that the workload alone meets refusals.

mod common;

use std::alloc::System;
use std::sync::mpsc;
use std::thread;

use common::{Held, Numbers, SIZES, alone, verbs_of};
use homing::Homing;
use homing::fault::{self, Call, When};

#[global_allocator]
static OWN: System = System;

// A short delay, so that memory is both kept for reuse and given back in the middle of the work.
static HOMING: Homing = Homing::new().purge_delay_ms(Some(1));
verbs_of!(Direct, HOMING);

type Block = Held<Direct>;

const MAP: u32 = Call::Map as u32 | Call::Unmap as u32;
const COMMIT: u32 = Call::Commit as u32;
const PURGE: u32 = Call::Purge as u32;
const MOVE: u32 = Call::Move as u32 | Call::MoveAfterUnmap as u32;

/// Takes, resizes, hands on and frees blocks of all kinds; a refusal is an answer like any other.
fn work(seed: u64, handed: &mpsc::Receiver<Block>, hand_on: &mpsc::Sender<Block>) -> Vec<Block> {
    let mut numbers = Numbers::new(seed);
    let mut live: Vec<Block> = Vec::new();
    for step in 0..250 {
        let size = if step % 8 == 0 { SIZES[numbers.below(SIZES.len())] } else { numbers.size(6 << 20) };
        let align = if step % 16 == 0 { 1 << numbers.below(27) } else { 8 };
        live.extend(if step % 3 == 0 {
            Block::take_zeroed(size, align, numbers.next())
        } else {
            Block::take(size, align, numbers.next())
        });
        live.extend(handed.try_iter());
        if live.len() > 12 {
            let at = numbers.below(live.len());
            live[at].resize(numbers.size(6 << 20));
            drop(live.swap_remove(numbers.below(live.len())));
            let _ = hand_on.send(live.swap_remove(numbers.below(live.len())));
        }
        if step % 50 == 49 {
            homing::entry::trim();
        }
        if step % 60 == 59 {
            homing::thread_cleanup();
        }
    }
    live
}

fn survives(kinds: u32) {
    let _alone = alone();
    for every in 1..=7 {
        let kept: Vec<_> = SIZES.iter().filter_map(|size| Block::take(*size, 8, *size as u64)).collect();
        assert_eq!(kept.len(), SIZES.len());
        fault::inject(kinds, When::Every(every));
        let (ways, mut ends): (Vec<_>, Vec<_>) = (0..3).map(|_| mpsc::channel::<Block>()).unzip();
        ends.rotate_left(1);
        let threads: Vec<_> = ways
            .into_iter()
            .zip(ends)
            .zip(every * 10..)
            .map(|((way, end), seed)| thread::spawn(move || work(seed, &end, &way)))
            .collect();
        let live: Vec<_> =
            threads.into_iter().map(|thread| thread.join().expect("a refusal makes no thread panic")).collect();
        // Half is freed while the kernel still refuses.
        kept.iter().chain(live.iter().flatten()).for_each(Block::check);
        let mut live: Vec<_> = live.into_iter().flatten().collect();
        live.truncate(live.len() / 2);
        fault::stop();
        let after: Vec<_> = SIZES.iter().filter_map(|size| Block::take_zeroed(*size, 8, 7)).collect();
        assert_eq!(after.len(), SIZES.len(), "a request is refused after the kernel's refusals are over");
        kept.iter().chain(&live).chain(&after).for_each(Block::check);
    }
}

#[test]
fn refused_mappings_lose_nothing() {
    survives(MAP);
}

#[test]
fn refused_commits_lose_nothing() {
    survives(COMMIT);
}

#[test]
fn refused_purges_lose_nothing() {
    survives(PURGE);
}

#[test]
fn refused_moves_lose_nothing() {
    survives(MOVE);
}

#[test]
fn refusals_of_every_kind_together_lose_nothing() {
    survives(MAP | COMMIT | PURGE | MOVE);
}

#[test]
fn a_bump_arena_that_is_refused_memory_says_so_and_serves_once_there_is_some() {
    use homing::{Bump, BumpConfig, BumpError};
    let _alone = alone();
    // The heap has small blocks at hand for what arenas keep apart, and none of this size.
    let others: Vec<Bump> = (0..3).map(|_| Bump::new()).collect();
    others.iter().for_each(|bump| *bump.alloc(0) += 1);
    drop(others);
    let mut bump = Bump::with(BumpConfig::new().pool_size(48 << 20));
    let point = bump.checkpoint();
    fault::inject(MAP | COMMIT, When::Every(1));
    let refused = bump.try_alloc_bytes(1, 1);
    fault::stop();
    assert_eq!(refused, Err(BumpError::NoMemory { size: 48 << 20, align: 1 }));
    assert_eq!(*bump.alloc(7_u8), 7);
    let before = bump.stats();
    fault::inject(MAP | COMMIT, When::Every(1));
    let refused = bump.try_alloc_bytes(200 << 20, 1);
    fault::stop();
    assert_eq!(refused, Err(BumpError::NoMemory { size: 200 << 20, align: 1 }));
    assert_eq!((bump.stats().used, bump.stats().chunks, bump.stats().overflows), (before.used, 1, 1));
    // What is to be given back to the kernel, and is not taken, is cleared by hand.
    bump.alloc_slice_fill_with(20 << 20, |_| 0xFF_u8);
    fault::inject(PURGE, When::Every(1));
    bump.restore(point).unwrap();
    fault::stop();
    assert!(bump.alloc_slice_fill_default::<u8>(20 << 20).iter().all(|byte| *byte == 0));
    let zeroed = bump.try_alloc_bytes(20 << 20, 1).unwrap();
    // SAFETY: handed out just now, zeroed.
    assert!(unsafe { std::slice::from_raw_parts(zeroed.as_ptr(), 20 << 20) }.iter().all(|byte| *byte == 0));
}

#[test]
fn a_bump_arena_that_is_refused_a_chunk_twice_as_large_takes_one_that_is_just_enough() {
    use homing::{Bump, BumpConfig};
    const CHUNK: usize = 48 << 20;
    const ENOUGH: usize = 1 << 20;
    let _alone = alone();
    // The heap has a segment that as much fits in.
    Bump::with(BumpConfig::new().pool_size(ENOUGH)).try_alloc_bytes(ENOUGH, 1).unwrap();
    let bump = Bump::with(BumpConfig::new().pool_size(CHUNK));
    bump.try_alloc_bytes(CHUNK, 1).unwrap();
    fault::inject(MAP | COMMIT, When::Every(1));
    let block = bump.try_alloc_bytes(ENOUGH, 1);
    fault::stop();
    assert!(block.is_ok(), "{block:?}");
    assert_eq!((bump.stats().capacity, bump.stats().chunks), (CHUNK + ENOUGH, 2));
}

#[test]
fn a_thread_without_room_for_its_data_has_no_bump_arena_until_there_is_some() {
    use homing::{Bump, BumpError};
    let _alone = alone();
    thread::spawn(|| {
        fault::inject(Call::ThreadHook as u32, When::Every(1));
        let refused = Bump::local().map(|bump| bump.stats());
        fault::stop();
        assert_eq!(refused, Err(BumpError::NoThreadData));
        assert!(Bump::local().is_ok_and(|bump| *bump.alloc(1) == 1));
    })
    .join()
    .unwrap();
}

#[test]
fn node_pools_refuse_and_lose_nothing_whichever_call_is_refused() {
    let _alone = alone();
    let node = homing::Topology::read().nodes()[0].id();
    let layout = |size| std::alloc::Layout::from_size_align(size, 8).unwrap();
    for kinds in [MAP, COMMIT, PURGE, MAP | COMMIT | PURGE] {
        for every in 1..=7 {
            // Each region is a mapping, so that each is a question to the kernel.
            let pools = homing::NodePools::with(homing::NodePoolsConfig::new().pool_size(4 << 20));
            fault::inject(kinds, When::Every(every));
            let mut live = Vec::new();
            let mut refused = 0;
            for step in 0..60_usize {
                let size = [100, 3 << 20, 5 << 20, 40 << 20][step % 4];
                match pools.allocate_on(layout(size), node) {
                    Ok(block) => {
                        // SAFETY: the block is so long.
                        unsafe { common::pattern::fill(block, size, step as u64) };
                        live.push((block, size, step as u64));
                    }
                    Err(error) => {
                        assert_eq!(error, homing::NodePoolsError::Full { node, size });
                        refused += 1;
                    }
                }
                if live.len() > 6 {
                    let (block, size, seed) = live.swap_remove(step % 6);
                    // SAFETY: a live block that was filled, and ends here.
                    unsafe {
                        assert_eq!(common::pattern::first_difference(block, size, size, seed), None);
                        pools.deallocate(block).unwrap();
                    }
                }
            }
            fault::stop();
            assert_eq!(pools.stats().allocations, 60 - refused);
            assert_eq!(pools.stats().blocks, live.len());
            // Nothing is refused any more.
            let last = pools.allocate_on(layout(5 << 20), node).unwrap();
            live.push((last, 0, 0));
            for (block, size, seed) in live {
                // SAFETY: as above.
                unsafe {
                    assert_eq!(common::pattern::first_difference(block, size, size, seed), None);
                    pools.deallocate(block).unwrap();
                }
            }
            assert_eq!(pools.stats().bytes, 0);
        }
    }
}
