//! The figures, for sequences whose outcome is known. The test's own memory comes from the system, so that the figures
//! are those of the sequence alone.

mod common;

use std::alloc::System;
use std::thread;

use common::{Held, alone, verbs_of};
use homing::{Homing, Stats, entry};

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();
verbs_of!(Direct, HOMING);

/// The figures when nothing is kept at hand for the thread's next request.
fn stats() -> Stats {
    entry::trim();
    homing::stats()
}

fn must(size: usize) -> Held<Direct> {
    Held::take(size, 8, size as u64).expect("there is memory for it")
}

#[test]
fn every_small_block_is_counted_once_with_the_size_of_its_class() {
    let _alone = alone();
    for (size, class, count) in
        [(24, 24, 1000), (60, 64, 5000), (1000, 1024, 300), (5000, 5120, 100), (60_000, 64 << 10, 20)]
    {
        for _ in 0..3 {
            let before = stats();
            let blocks: Vec<_> = (0..count).map(|_| must(size)).collect();
            let during = stats();
            assert_eq!(during.blocks - before.blocks, count);
            assert_eq!(during.bytes - before.bytes, count * class);
            assert!(during.peak >= during.used && during.used >= (count * class) as usize);
            drop(blocks);
            let after = stats();
            assert_eq!((after.blocks, after.bytes), (during.blocks, during.bytes), "a free hands nothing out");
        }
    }
}

#[test]
fn a_large_block_is_in_use_from_its_request_to_its_end() {
    let _alone = alone();
    // The thread's arena, and what it needs for itself.
    drop(must(100_000));
    // Hardened, what is longer than a run can be has a mapping.
    let of_five_million = if cfg!(feature = "hardened") { 5_001_216 } else { 77 << 16 };
    for (size, held) in [
        (100_000, 128 << 10),
        (1 << 20, 1 << 20),
        (3 << 20, 3 << 20),
        (5_000_000, of_five_million),
        (40 << 20, 40 << 20),
        (30_000_000, 30_003_200),
    ] {
        let before = stats();
        let block = must(size);
        let during = stats();
        assert_eq!(during.blocks - before.blocks, 1, "{size} bytes");
        assert_eq!(during.bytes - before.bytes, held as u64, "{size} bytes");
        assert_eq!(during.used - before.used, held, "{size} bytes");
        assert!(during.peak >= during.used);
        drop(block);
        let after = stats();
        assert_eq!(after.used, before.used, "{size} bytes");
        assert_eq!(after.blocks, during.blocks);
    }
}

#[test]
fn a_block_that_is_resized_in_place_is_counted_in_use_as_it_is() {
    let _alone = alone();
    drop(must(100_000));
    let before = stats().used;
    let mut block = must(3 << 20);
    for size in [9 << 20, 4 << 20, 30 << 20, 12 << 20] {
        assert!(block.resize(size));
        assert_eq!(stats().used - before, size);
    }
    assert!(block.resize(1 << 20));
    assert_eq!(stats().used - before, 1 << 20);
    assert!(block.resize(128 << 10));
    assert_eq!(stats().used - before, 128 << 10);
    drop(block);
    assert_eq!(stats().used, before);
}

#[test]
fn live_bytes_are_what_was_handed_out_and_not_freed_whoever_freed_it() {
    let _alone = alone();
    drop(must(100_000));
    let before = homing::stats().live;
    let live = || homing::stats().live - before;
    let sizes = [(24, 24), (60, 64), (1000, 1024), (60_000, 64 << 10), (100_000, 128 << 10), (3 << 20, 3 << 20)];
    let blocks: Vec<_> = sizes.iter().cycle().take(600).map(|(size, _)| must(*size)).collect();
    let of_each = |blocks: usize| blocks * sizes.iter().map(|(_, of_class)| of_class).sum::<usize>();
    assert_eq!(live(), of_each(100));
    let (own, others): (Vec<_>, Vec<_>) = blocks.into_iter().enumerate().partition(|(index, _)| index / 6 % 2 == 0);
    drop(own);
    assert_eq!(live(), of_each(50));
    thread::scope(|scope| {
        scope.spawn(|| {
            drop(others);
            // The thread is at work still: what it freed waits for the one that it goes home to.
            assert_eq!(live(), 0);
        });
    });
    assert_eq!(live(), 0);
}

#[test]
fn what_a_thread_takes_over_from_one_that_has_ended_is_counted_once() {
    let _alone = alone();
    for (size, class) in [(40, 40), (700, 704), (9000, 10_240)] {
        thread::spawn(move || {
            // Attached before the other begins, so that it takes over slabs and not the whole arena.
            let own = must(16);
            thread::spawn(move || drop(must(size))).join().expect("it does not panic");
            let before = stats();
            let block = must(size);
            let after = stats();
            assert_eq!(after.blocks - before.blocks, 1, "{size} bytes");
            assert_eq!(after.bytes - before.bytes, class, "{size} bytes");
            drop((own, block));
        })
        .join()
        .expect("it does not panic");
    }
}

#[test]
fn giving_back_what_was_taken_over_from_a_thread_that_has_ended_does_not_miscount() {
    let _alone = alone();
    thread::spawn(|| {
        let own = must(16);
        thread::spawn(|| drop(must(330))).join().expect("it does not panic");
        drop(must(330));
        let before = homing::stats().blocks;
        entry::trim();
        assert_eq!(homing::stats().blocks, before);
        drop(own);
    })
    .join()
    .expect("it does not panic");
}

#[test]
fn a_refused_request_leaves_no_trace_in_the_figures() {
    let _alone = alone();
    drop(must(100_000));
    for size in [isize::MAX as usize - (64 << 20), 1 << 60, 1 << 50] {
        for align in [8, 64 << 20] {
            let before = stats();
            assert!(Held::<Direct>::take(size, align, 0).is_none());
            assert_eq!(stats(), before, "{size} bytes aligned to {align}");
        }
    }
}

#[test]
fn figures_are_asked_for_while_threads_work_end_and_give_segments_back() {
    let _alone = alone();
    thread::scope(|scope| {
        let work = |mut seed: u64| {
            let mut blocks = Vec::with_capacity(4000);
            for step in 0..40_000_u64 {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let size = 8 << (seed >> 60);
                blocks.push(must(size));
                if blocks.len() == 4000 || step % 10_000 == 9_999 {
                    blocks.truncate(100);
                    entry::trim();
                }
            }
            // The rest is freed by another thread.
            blocks
        };
        let threads = [1, 2, 3].map(|seed| {
            scope.spawn(move || (0..4).map(|round| work(seed + 10 * round)).fold(Vec::new(), |_, last| last))
        });
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            let stats = homing::stats();
            assert!(stats.live < 1 << 40, "{stats:?}");
        }
        threads.into_iter().for_each(|thread| drop(thread.join().expect("it does not panic")));
    });
}
