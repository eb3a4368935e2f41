//! Collections in bump arenas.
#![cfg(feature = "allocator-api2")]

use std::alloc::Layout;
use std::cell::Cell;
use std::hash::RandomState;

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use hashbrown::HashMap;
use homing::{Bump, BumpConfig, BumpOverflow, Homing};

struct Counted<'a>(&'a Cell<usize>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn boxes_and_vectors_in_an_arena_drop_what_they_hold_and_values_put_into_it_do_not() {
    let dropped = Cell::new(0);
    let bump = Bump::new();
    drop(Box::new_in(Counted(&dropped), &bump));
    assert_eq!(dropped.get(), 1);
    let mut vector = Vec::new_in(&bump);
    vector.extend((0..100).map(|_| Counted(&dropped)));
    drop(vector);
    assert_eq!(dropped.get(), 101);
    bump.alloc(Counted(&dropped));
    drop(bump);
    assert_eq!(dropped.get(), 101);
}

#[test]
fn a_vector_that_grows_alone_takes_no_more_than_its_capacity() {
    let bump = Bump::with(BumpConfig::new().pool_size(1 << 20));
    let mut vector = Vec::new_in(&bump);
    for number in 0..100_000_u64 {
        vector.push(number);
    }
    assert_eq!(bump.stats().used, vector.capacity() * 8, "it grew where it was");
    assert!(vector.iter().copied().eq(0..100_000));
    vector.truncate(10);
    vector.shrink_to_fit();
    assert_eq!(bump.stats().used, 80, "and gave back what it did not need");
    assert!(vector.iter().copied().eq(0..10));
    drop(vector);
    assert_eq!(bump.stats().used, 0);
    assert_eq!(bump.stats().high_water_mark, 131_072 * 8);
}

#[test]
fn maps_in_an_arena_hold_what_they_are_given_through_growth_over_chunks() {
    let mut bump = Bump::with(BumpConfig::new().pool_size(256));
    for round in 0..3_u32 {
        let mut map = HashMap::with_hasher_in(RandomState::new(), &bump);
        for key in 0..5000_u32 {
            map.insert(key, bump.alloc_str(&(key * round).to_string()));
        }
        assert!((0..5000).all(|key| *map[&key] == (key * round).to_string()));
        drop(map);
        bump.reset();
    }
}

#[test]
fn an_arena_that_is_full_refuses_and_the_collection_is_whole() {
    let bump = Bump::with(BumpConfig::new().pool_size(1000).overflow(BumpOverflow::Error));
    let mut vector = Vec::new_in(&bump);
    while vector.try_reserve(1).is_ok() {
        vector.push(vector.len());
    }
    assert!(vector.len() >= 32, "{}", vector.len());
    assert!(vector.iter().copied().eq(0..vector.len()));
    assert!(bump.stats().overflows > 0);
}

#[test]
fn a_block_below_a_checkpoint_comes_back_with_a_restore_and_not_alone() {
    let mut bump = Bump::new();
    let first = Box::new_in([1_u64; 10], &bump);
    let point = bump.checkpoint();
    drop(first);
    assert_eq!(bump.stats().used, 80);
    bump.alloc([2_u64; 10]);
    assert_eq!(bump.restore(point), Ok(()));
    assert_eq!(bump.stats().used, 80);
    bump.reset();
    drop(Box::new_in([1_u64; 10], &bump));
    assert_eq!(bump.stats().used, 0);
}

#[test]
fn zeroed_blocks_are_zero_after_blocks_that_were_given_back() {
    for zero in [true, false] {
        let bump = Bump::with(BumpConfig::new().zero_on_reset(zero));
        let layout = Layout::array::<u8>(1000).unwrap();
        for _ in 0..3 {
            let block = bump.allocate_zeroed(layout).unwrap();
            // SAFETY: a live block of 1,000 bytes that are initialised.
            let bytes = unsafe { &mut *block.as_ptr() };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(0xEE);
            // SAFETY: the block, with its layout.
            unsafe { bump.deallocate(block.cast(), layout) };
            assert_eq!(bump.stats().used, 0);
        }
    }
}

#[test]
fn zeroed_blocks_that_grow_are_zero_behind_what_they_held_also_where_they_lay_before() {
    let layout = |size| Layout::array::<u8>(size).unwrap();
    for (zero, is_last) in [(true, true), (true, false), (false, true), (false, false)] {
        let bump = Bump::with(BumpConfig::new().zero_on_reset(zero));
        let block = bump.allocate_zeroed(layout(1000)).unwrap();
        // SAFETY: a live block of 1,000 bytes.
        unsafe { block.cast::<u8>().write_bytes(0xEE, 1000) };
        if !is_last {
            bump.alloc(1_u8);
        }
        // SAFETY: the block, with its layout.
        let grown = unsafe { bump.grow_zeroed(block.cast(), layout(1000), layout(1700)) }.unwrap();
        // SAFETY: a live block of 1,700 bytes that are initialised.
        let (held, new) = unsafe { grown.as_ref() }.split_at(1000);
        assert!(held.iter().all(|byte| *byte == 0xEE) && new.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn vectors_that_grow_in_turns_move_and_keep_what_they_hold() {
    let bump = Bump::with(BumpConfig::new().pool_size(1000));
    let mut vectors: [Vec<usize, _>; 3] = std::array::from_fn(|_| Vec::new_in(&bump));
    for number in 0..3000 {
        vectors[number % 3].push(number);
    }
    for (first, vector) in vectors.iter().enumerate() {
        assert!(vector.iter().copied().eq((first..3000).step_by(3)));
    }
}

#[test]
fn an_arena_is_an_allocator_by_value_too() {
    let mut vector = Vec::new_in(Bump::new());
    vector.extend(0..1000);
    assert_eq!(vector.allocator().stats().used, vector.capacity() * 4);
    let vector = std::thread::spawn(move || vector).join().unwrap();
    assert!(vector.iter().copied().eq(0..1000));
}

#[test]
fn a_block_that_grows_does_not_reach_over_from_one_chunk_into_its_neighbour() {
    for slots in 1..=8_usize {
        // A hole, of the size of the second chunk, that lies before the first one.
        let pool = slots * (64 << 10);
        let hole = Layout::from_size_align(2 * pool, 64).unwrap();
        let holes: Vec<_> = (0..8).map(|_| Homing::new().allocate(hole).unwrap()).collect();
        let bump = Bump::with(BumpConfig::new().pool_size(pool));
        let layout = Layout::from_size_align(64, 64).unwrap();
        let fill = bump.alloc_layout(Layout::from_size_align(pool - 64, 64).unwrap());
        let block = bump.allocate(layout).unwrap().cast::<u8>();
        assert_eq!(block.addr().get() + 64, fill.addr().get(), "the first chunk is full");
        for hole_at in holes {
            // SAFETY: obtained above, and not used.
            unsafe { Homing::new().deallocate(hole_at.cast(), hole) };
        }
        // The second chunk, which nothing is left in.
        let last = bump.allocate(layout).unwrap().cast::<u8>();
        // SAFETY: obtained just now.
        unsafe { bump.deallocate(last, layout) };
        // SAFETY: the block is one of the arena's.
        let grown = unsafe { bump.grow(block, layout, Layout::from_size_align(128, 64).unwrap()) }.unwrap();
        assert!(grown.cast::<u8>().addr().get() + 128 <= last.addr().get() + 64, "within the second chunk");
    }
}
