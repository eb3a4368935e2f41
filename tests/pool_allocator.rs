//! Pools as allocators: collections in them, of nodes that fit in an object and of tables that do not.

mod common;

use std::alloc::{Layout, System};
use std::hash::RandomState;
use std::ptr::NonNull;
use std::thread;
use std::vec::Vec as StdVec;

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use common::alone;
use hashbrown::HashMap;
use homing::{Pool, PoolStats, Topology, resident_node};

#[global_allocator]
static OWN: System = System;

/// A tree as collections have them: nodes of one size, each in a box of its own.
struct Tree<'p> {
    root: Option<Link<'p>>,
    pool: &'p Pool<Node<'p>>,
}

type Link<'p> = Box<Node<'p>, &'p Pool<Node<'p>>>;

struct Node<'p> {
    key: u64,
    value: u64,
    sides: [Option<Link<'p>>; 2],
}

impl<'p> Tree<'p> {
    fn insert(&mut self, key: u64, value: u64) {
        let mut place = &mut self.root;
        while let Some(node) = place {
            if node.key == key {
                node.value = value;
                return;
            }
            let side = usize::from(key > node.key);
            place = &mut node.sides[side];
        }
        *place = Some(Box::new_in(Node { key, value, sides: [None, None] }, self.pool));
    }

    fn get(&self, key: u64) -> Option<u64> {
        let mut place = &self.root;
        while let Some(node) = place {
            if node.key == key {
                return Some(node.value);
            }
            place = &node.sides[usize::from(key > node.key)];
        }
        None
    }
}

#[test]
fn a_tree_of_boxes_lies_in_slabs_of_the_pools_node() {
    let _alone = alone();
    let node = Topology::read().nodes()[0].id();
    let pool = Pool::on_node(node).unwrap();
    let mut tree = Tree { root: None, pool: &pool };
    for key in 0..20_000_u64 {
        tree.insert(key.wrapping_mul(0x9e37_79b9_7f4a_7c15), key);
    }
    let stats = pool.stats();
    assert_eq!((stats.objects, stats.bytes), (20_000, 20_000 * size_of::<Node<'_>>()));
    assert!(stats.reserved < stats.bytes * 3 / 2, "{stats:?}");
    for key in 0..20_000_u64 {
        assert_eq!(tree.get(key.wrapping_mul(0x9e37_79b9_7f4a_7c15)), Some(key));
    }
    let root: *const Node<'_> = tree.root.as_deref().unwrap();
    if let Ok(place) = resident_node(root.cast()) {
        assert_eq!(place, Some(node));
    }
    drop(tree);
    assert_eq!((pool.stats().objects, pool.stats().peak_objects), (0, 20_000));
    assert!(pool.stats().slabs <= 2);
}

#[test]
fn a_vector_outgrows_the_objects_and_comes_back_to_them() {
    let _alone = alone();
    let pool = Pool::<[u64; 8]>::new();
    let mut numbers = Vec::new_in(&pool);
    numbers.push(0_u64);
    assert_eq!((pool.stats().objects, pool.stats().bytes, pool.stats().slabs), (1, 64, 1));
    numbers.extend(1..8);
    // It has grown within its object.
    assert_eq!(pool.stats().allocations, 1);
    numbers.extend(8..100_000);
    assert_eq!((pool.stats().objects, pool.stats().bytes), (1, numbers.capacity() * 8));
    assert!(numbers.iter().copied().eq(0..100_000));
    numbers.truncate(5);
    numbers.shrink_to_fit();
    assert_eq!((pool.stats().objects, pool.stats().bytes), (1, 64));
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    drop(numbers);
    let stats = pool.stats();
    assert_eq!((stats.objects, stats.bytes, stats.allocations - stats.deallocations), (0, 0, 0));
    assert_eq!(stats.bytes_in, stats.bytes_out);
    assert!(stats.peak_bytes >= 800_000 && stats.peak_objects <= 2);
}

#[test]
fn a_map_in_a_pool_keeps_what_it_is_given() {
    let _alone = alone();
    let pool = Pool::<[u64; 64]>::new();
    let mut map = HashMap::with_hasher_in(RandomState::new(), &pool);
    for key in 0..50_000_u32 {
        map.insert(key, u64::from(key) * 3);
        if key % 3 == 0 {
            map.remove(&(key / 2));
        }
    }
    for (key, value) in &map {
        assert_eq!(*value, u64::from(*key) * 3);
    }
    assert_eq!(pool.stats().objects, 1);
    drop(map);
    assert_eq!(pool.stats().objects, 0);
}

#[test]
fn a_collection_that_owns_its_pool_goes_to_another_thread_with_it() {
    let _alone = alone();
    let mut words: Vec<u64, Pool<[u64; 4]>> = Vec::new_in(Pool::new());
    words.extend([1, 2, 3]);
    let words = thread::spawn(move || {
        words.extend([4, 5, 6, 7, 8]);
        words
    })
    .join()
    .unwrap();
    assert_eq!(words, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(words.allocator().stats().bytes, 64);
}

#[test]
fn layouts_of_every_size_and_alignment_are_served_zeroed_resized_and_counted() {
    let _alone = alone();
    let pool = Pool::<[u64; 16]>::new();
    let mut before = PoolStats::default();
    // SAFETY: callers pass a block of so many bytes.
    let bytes_of = |block: NonNull<u8>, size: usize| unsafe { std::slice::from_raw_parts_mut(block.as_ptr(), size) };
    for align in (0..16).map(|shift| 1_usize << shift) {
        for size in [0, 1, 7, 64, 127, 128, 129, 500, 5000, 70_000, 3 << 20] {
            for new_size in [size, size + 1, size * 3, size + 3] {
                let layout = Layout::from_size_align(size, align).unwrap();
                let block = pool.allocate_zeroed(layout).unwrap();
                assert!(block.len() == size && block.cast::<u8>().addr().get().is_multiple_of(align));
                let bytes = bytes_of(block.cast(), size);
                assert!(bytes.iter().all(|byte| *byte == 0), "{layout:?}");
                bytes.fill(0xa5);

                let new = Layout::from_size_align(new_size, align * 2).unwrap();
                // SAFETY: the block is of that layout, which is no larger.
                let grown = unsafe { pool.grow_zeroed(block.cast(), layout, new) }.unwrap().cast::<u8>();
                assert!(grown.addr().get().is_multiple_of(align * 2));
                let bytes = bytes_of(grown, new_size);
                assert!(bytes[..size].iter().all(|byte| *byte == 0xa5), "{layout:?} {new:?}");
                assert!(bytes[size..].iter().all(|byte| *byte == 0), "{layout:?} {new:?}");
                bytes.fill(0x5a);

                // SAFETY: the block is of that layout, which is no smaller.
                let shrunk = unsafe { pool.shrink(grown, new, layout) }.unwrap().cast::<u8>();
                assert!(shrunk.addr().get().is_multiple_of(align));
                assert!(bytes_of(shrunk, size).iter().all(|byte| *byte == 0x5a), "{layout:?} {new:?}");
                let stats = pool.stats();
                assert_eq!(stats.objects, usize::from(size > 0), "{layout:?} {new:?}");
                assert!(stats.bytes >= size);
                // SAFETY: of that layout, and given up.
                unsafe { Allocator::deallocate(&pool, shrunk, layout) };

                let stats = pool.stats();
                assert_eq!((stats.objects, stats.bytes), (0, 0), "{layout:?} {new:?}");
                assert_eq!((stats.bytes_in, stats.deallocations), (stats.bytes_out, stats.allocations));
                assert!(stats.allocations >= before.allocations && stats.peak_bytes >= before.peak_bytes);
                before = stats;
            }
        }
    }
    // Above the largest, which it moved from: both were there at once, or one grew in place.
    let largest = 9 << 20;
    assert!((largest..=largest + (3 << 20)).contains(&before.peak_bytes), "{before:?}");
}

#[test]
fn blocks_that_do_not_fit_count_in_the_peak_beside_the_objects_that_are_out() {
    let _alone = alone();
    let pool = Pool::<[u64; 2]>::new();
    let take = |count: usize| std::iter::repeat_with(|| pool.allocate().unwrap()).take(count).collect::<StdVec<_>>();
    let objects = take(100);
    let large = Vec::<u8, _>::with_capacity_in(1000, &pool);
    let stats = pool.stats();
    assert_eq!((stats.objects, stats.bytes), (101, 2600));
    assert_eq!((stats.peak_objects, stats.peak_bytes), (101, 2600));
    for object in objects {
        // SAFETY: handed out above.
        unsafe { pool.deallocate(object) }.unwrap();
    }
    // 50 objects and a larger block, less than there was in objects and more than there was in bytes.
    let objects = take(50);
    let larger = Vec::<u8, _>::with_capacity_in(5000, &pool);
    let stats = pool.stats();
    assert_eq!((stats.objects, stats.bytes), (52, 50 * 16 + 6000));
    assert_eq!((stats.peak_objects, stats.peak_bytes), (101, 50 * 16 + 6000));
    drop((large, larger, objects));
    let stats = pool.stats();
    assert_eq!((stats.objects, stats.bytes, stats.peak_objects, stats.peak_bytes), (50, 800, 101, 6800));
}
