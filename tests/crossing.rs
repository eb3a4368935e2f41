//! Blocks cross from thread to thread, and nothing but the allocator orders their ways back: neither a channel nor a join
//! nor a lock of the test's. What is ordered too weakly in the allocator shows under ThreadSanitizer (`ci/sanitize`); what
//! is handed out twice or lost shows here too. The test's own memory comes from the system.

mod common;

use std::alloc::System;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::thread;

use common::{Held, alone, verbs_of};
use homing::Homing;

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();
verbs_of!(Direct, HOMING);

type Block = Held<Direct>;

/// Slabs of both kinds, runs and mappings; small blocks go home in batches, and are the most.
fn size(nth: usize) -> usize {
    const SIZES: [usize; 8] = [8, 16, 100, 24, 1000, 5000, 100, 60_000];
    match nth % 1000 {
        999 => 3 << 20,
        499 | 749 => 100_000,
        nth => SIZES[nth % SIZES.len()],
    }
}

/// Takes blocks one way: who puts one in learns nothing of what those have done who took others out.
#[derive(Default)]
struct Ferry {
    places: [AtomicPtr<Block>; 16],
    arrived: AtomicUsize,
}

impl Ferry {
    /// Waits for an empty place.
    fn send(&self, nth: usize, block: Block) {
        let block = Box::into_raw(Box::new(block));
        let place = &self.places[nth % self.places.len()];
        // The block's contents are released; that the place is empty again acquires nothing.
        while place.compare_exchange_weak(ptr::null_mut(), block, Ordering::Release, Ordering::Relaxed).is_err() {
            thread::yield_now();
        }
    }

    /// Frees what has come, until so many have in all. `receivers` share the places between them.
    fn free_all(&self, total: usize, receiver: usize, receivers: usize) {
        while self.arrived.load(Ordering::Relaxed) < total {
            let mut none = true;
            for place in self.places.iter().skip(receiver).step_by(receivers) {
                let block = place.load(Ordering::Acquire);
                if !block.is_null() {
                    place.store(ptr::null_mut(), Ordering::Relaxed);
                    self.arrived.fetch_add(1, Ordering::Relaxed);
                    none = false;
                    // SAFETY: the sender made it of a box; of a place there is one receiver, and it was emptied above.
                    drop(unsafe { Box::from_raw(block) });
                }
            }
            if none {
                thread::yield_now();
            }
        }
    }
}

fn take(nth: usize) -> Block {
    let take = if nth.is_multiple_of(5) { Block::take_zeroed } else { Block::take };
    take(size(nth), 8, nth as u64).expect("there is memory for it")
}

#[test]
fn what_other_threads_did_to_a_block_is_over_when_its_owner_gets_it_again() {
    const BLOCKS: usize = 30_000;
    const RECEIVERS: usize = 3;
    let _alone = alone();
    let ferry = Arc::new(Ferry::default());
    let receivers: Vec<_> = (0..RECEIVERS)
        .map(|receiver| {
            let ferry = Arc::clone(&ferry);
            thread::spawn(move || ferry.free_all(BLOCKS, receiver, RECEIVERS))
        })
        .collect();
    thread::spawn({
        let ferry = Arc::clone(&ferry);
        move || (0..BLOCKS).for_each(|nth| ferry.send(nth, take(nth)))
    })
    .join()
    .expect("it does not panic");
    for receiver in receivers {
        receiver.join().expect("it does not panic");
    }
    // SAFETY: nobody else is there any more.
    let audit = unsafe { homing::audit() }.unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(audit.live_blocks, 0, "all blocks have arrived and were freed");
}

#[test]
fn what_a_thread_did_is_over_when_another_takes_its_arena_over() {
    const WAVES: usize = 60;
    const THREADS: usize = 4;
    const BLOCKS: usize = 100;
    let _alone = alone();
    let ferry = Arc::new(Ferry::default());
    let receiver = thread::spawn({
        let ferry = Arc::clone(&ferry);
        move || ferry.free_all(WAVES * THREADS * BLOCKS, 0, 1)
    });
    for wave in 0..WAVES {
        for nth in 0..THREADS {
            let ferry = Arc::clone(&ferry);
            // Nobody waits for its end.
            drop(thread::spawn(move || {
                let first = (wave * THREADS + nth) * BLOCKS;
                let kept: Vec<Block> = (first..first + 40).map(take).collect();
                (first..first + BLOCKS).for_each(|nth| ferry.send(nth, take(nth)));
                kept.iter().for_each(Block::check);
            }));
        }
        // Not too many at a time, and no order between them.
        while ferry.arrived.load(Ordering::Relaxed) + THREADS * BLOCKS < wave * THREADS * BLOCKS {
            thread::yield_now();
        }
    }
    receiver.join().expect("it does not panic");
}
