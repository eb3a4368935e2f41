//! Requests of every size and alignment, those that cannot be served among them.

mod common;

use std::alloc::{Layout, alloc, alloc_zeroed, dealloc, realloc};
use std::hint::black_box;

use common::{Global, Held, Numbers, SIZES, alone};
use homing::{Homing, entry};

#[global_allocator]
static GLOBAL: Homing = Homing::new();

type Block = Held<Global>;

fn must(size: usize, align: usize, seed: u64) -> Block {
    Block::take(size, align, seed).unwrap_or_else(|| panic!("{size} bytes aligned to {align} are refused"))
}

#[test]
fn every_alignment_to_64_mib_is_kept_for_every_kind_of_size() {
    let _alone = alone();
    for shift in 0..=26 {
        let align = 1 << shift;
        let blocks: Vec<_> = SIZES.iter().zip(0..).map(|(size, seed)| must(*size, align, seed)).collect();
        blocks.iter().for_each(Block::check);
        // Every other one goes, and what comes instead is aligned just as well.
        let kept: Vec<_> = blocks.into_iter().step_by(2).collect();
        let more: Vec<_> = SIZES.iter().zip(100..).map(|(size, seed)| must(*size, align, seed)).collect();
        kept.iter().chain(&more).for_each(Block::check);
    }
}

#[test]
fn an_alignment_of_a_gibibyte_is_kept_or_refused() {
    for size in [1, 4096, 3 << 20] {
        if let Some(block) = Block::take(size, 1 << 30, 5) {
            block.check();
        }
    }
    for shift in 31..=62 {
        drop(Block::take(1, 1 << shift, 6));
    }
    must(100, 8, 7).check();
}

#[test]
fn a_block_keeps_its_alignment_and_contents_when_it_grows_and_shrinks() {
    let _alone = alone();
    for align in [1, 16, 64, 4096, 64 << 10, 1 << 20, 4 << 20, 32 << 20] {
        let mut numbers = Numbers::new(align as u64);
        let mut block = must(10, align, 8);
        for size in SIZES.iter().chain(SIZES.iter().rev()) {
            assert!(block.resize(*size));
        }
        for _ in 0..60 {
            assert!(block.resize(numbers.size(12 << 20)));
        }
    }
}

#[test]
fn requests_that_no_machine_can_serve_are_refused_and_cost_nothing() {
    let _alone = alone();
    let held: Vec<_> = SIZES.iter().zip(0..).map(|(size, seed)| must(*size, 8, seed)).collect();
    let most = isize::MAX as usize;
    for align in [1, 8, 16, 4096, 1 << 20, 1 << 25, 1 << 40, 1 << 62] {
        for size in [most, most - 1, most - 4095, most - 65_536, most - (1 << 25), most / 2, 1 << 50] {
            // Layouts go to `isize::MAX` rounded up to the alignment; skip what is none.
            let Ok(layout) = Layout::from_size_align(size, align) else { continue };
            // Without the black box, the compiler may take it that an allocation nobody uses succeeds.
            // SAFETY: the size is not 0.
            assert!(black_box(unsafe { alloc(layout) }).is_null(), "{layout:?}");
            // SAFETY: the size is not 0.
            assert!(black_box(unsafe { alloc_zeroed(layout) }).is_null(), "{layout:?}");
        }
    }
    for size in [usize::MAX, usize::MAX - 15, most + 1, most, 1 << 62] {
        assert!(entry::malloc(size).is_null());
        assert!(entry::calloc(1, size).is_null());
        assert!(entry::calloc(size, 2).is_null());
        assert!(entry::memalign(1 << 40, size).is_null());
        assert!(entry::aligned_alloc(64, size).is_null());
        assert!(entry::posix_memalign(64, size).is_err());
        assert!(entry::pvalloc(size).is_null());
    }
    assert!(Vec::<u8>::new().try_reserve_exact(most).is_err());
    assert!(Vec::<u64>::new().try_reserve_exact(most / 8).is_err());
    held.iter().for_each(Block::check);
    must(1000, 8, 9).check();
}

#[test]
fn a_block_that_cannot_grow_stays_as_it_was() {
    let _alone = alone();
    for size in SIZES {
        let layout = Layout::from_size_align(size, 8).expect("a layout");
        let block = must(size, 8, size as u64);
        let (start, _) = block.range();
        let start: *mut u8 = std::ptr::with_exposed_provenance_mut(start);
        for new_size in [isize::MAX as usize - 7, (isize::MAX as usize) / 2, 1 << 50] {
            // SAFETY: the block is live with that layout, and stays so where it is refused.
            assert!(black_box(unsafe { realloc(start, layout, new_size) }).is_null());
        }
        block.check();
    }
}

/// Leaves the allocator with freed memory of every kind, none of it zero.
fn make_dirty(numbers: &mut Numbers) {
    let mut blocks: Vec<_> = SIZES.iter().map(|size| must(*size, 8, numbers.next() | 1)).collect();
    for _ in 0..300 {
        blocks.push(must(numbers.size(100_000), 8, numbers.next()));
    }
    while !blocks.is_empty() {
        let at = numbers.below(blocks.len());
        blocks.swap_remove(at);
    }
}

#[test]
fn zeroed_memory_is_zero_whatever_lay_there_before() {
    let _alone = alone();
    let mut numbers = Numbers::new(77);
    for round in 0..6 {
        make_dirty(&mut numbers);
        let zeroed = |size, align| Block::take_zeroed(size, align, 3).expect("there is memory for it");
        // Each size twice at the same time: the first may be a block freed before, the second one never used.
        let mut kept = Vec::new();
        for size in SIZES {
            for less in [0, size / 9, size / 3] {
                kept.push(zeroed(size - less, 1 << (round * 3)));
            }
        }
        kept.extend((0..500).map(|_| zeroed(numbers.size(70_000), 8)));
        kept.iter().for_each(Block::check);
    }
}

#[test]
fn a_mapping_that_is_used_again_for_less_is_zeroed_to_the_end_of_what_is_asked() {
    let _alone = alone();
    for size in [3 << 20, 5_000_000, 20 << 20] {
        drop(must(size, 8, 1));
        drop(Block::take_zeroed(size - size / 5, 8, 2).expect("there is memory for it"));
        drop(Block::take_zeroed(size - size / 7 + 1, 8, 3).expect("there is memory for it"));
    }
}

#[test]
fn zeroed_memory_that_other_threads_have_freed_is_zero() {
    let _alone = alone();
    for size in [16, 500, 4000, 30_000, 100_000, 3 << 20] {
        let count = (8 << 20) / size;
        let layout = Layout::from_size_align(size, 8).expect("a layout");
        let blocks: Vec<usize> = (0..count)
            .map(|_| {
                // SAFETY: the size is not 0.
                let block = unsafe { alloc(layout) };
                assert!(!block.is_null());
                // SAFETY: the block is that long.
                unsafe { block.write_bytes(0xA5, size) };
                block.expose_provenance()
            })
            .collect();
        std::thread::spawn(move || {
            for block in blocks {
                // SAFETY: each was allocated above with that layout, and is freed once.
                unsafe { dealloc(std::ptr::with_exposed_provenance_mut(block), layout) };
            }
        })
        .join()
        .expect("it does not panic");
        let _kept: Vec<_> = (0..count).map(|_| Block::take_zeroed(size, 8, 1).expect("there is memory")).collect();
    }
}
