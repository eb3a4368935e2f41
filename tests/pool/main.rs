//! Pools of objects: figures, what becomes of slabs, and where there is no memory; `guards` and `misuse`. The tests' own memory comes from the
//! system, so that the allocator's figures are those of the pools.

#[path = "../common/mod.rs"]
mod common;
mod guards;
mod misuse;

use std::alloc::System;
use std::ptr::NonNull;
use std::thread;

use common::alone;
use homing::{NodeError, NodeId, Pool, PoolBox, PoolError, PoolStats, Topology, resident_node};

#[global_allocator]
static OWN: System = System;

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
struct Nothing;

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(8192))]
struct Wide(u8);

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(4194304))]
struct VeryWide(u64);

/// Of no size, of a byte, of no power of two, around the sizes where slabs grow, over-aligned, and of megabytes.
macro_rules! for_kinds {
    ($run:ident) => {{
        $run::<()>((), 10_000);
        $run::<$crate::Nothing>($crate::Nothing, 10_000);
        $run::<u8>(7, 10_000);
        $run::<[u8; 3]>([7; 3], 10_000);
        $run::<u64>(7, 10_000);
        $run::<[u64; 3]>([7; 3], 10_000);
        $run::<[u64; 8]>([7; 8], 4000);
        $run::<[u8; 5000]>([7; 5000], 200);
        $run::<[u8; 8192]>([7; 8192], 200);
        $run::<[u8; 40_000]>([7; 40_000], 50);
        $run::<$crate::Wide>($crate::Wide(7), 50);
        $run::<$crate::VeryWide>($crate::VeryWide(7), 10);
        $run::<[u64; 400_000]>([7; 400_000], 10);
    }};
}
pub(crate) use for_kinds;

fn stats_of<T>(pool: &Pool<T>) -> (u64, u64, usize, usize) {
    let PoolStats { allocations, deallocations, bytes_out, bytes_in, objects, bytes, peak_objects, peak_bytes, .. } =
        pool.stats();
    let size = size_of::<T>();
    assert_eq!((bytes_out, bytes_in), (allocations * size as u64, deallocations * size as u64));
    assert_eq!((bytes, peak_bytes), (objects * size, peak_objects * size));
    (allocations, deallocations, objects, peak_objects)
}

#[test]
fn objects_overlap_nothing_and_are_counted_exactly_at_each_step() {
    fn run<T: Copy + PartialEq + std::fmt::Debug>(value: T, count: usize) {
        let pool = Pool::new();
        assert_eq!(pool.stats(), PoolStats::default());
        let mut objects = std::collections::BTreeSet::new();
        for number in 1..=count {
            let object = pool.allocate().unwrap();
            assert!(object.is_aligned());
            assert!(objects.insert(object), "{object:?} was handed out twice");
            // SAFETY: the object is a `T`'s.
            unsafe { object.write(value) };
            assert_eq!(stats_of(&pool), (number as u64, 0, number, number));
        }
        let apart = |pair: (&NonNull<T>, &NonNull<T>)| pair.1.addr().get() - pair.0.addr().get() >= size_of::<T>();
        assert!(objects.iter().zip(objects.iter().skip(1)).all(apart));
        let stats = pool.stats();
        assert!(stats.reserved >= count * size_of::<T>());
        // Every other one first, so that slabs come to have room in places.
        let (even, odd): (Vec<_>, Vec<_>) = objects.iter().enumerate().partition(|(at, _)| at % 2 == 0);
        for (number, (_, object)) in even.into_iter().chain(odd).enumerate() {
            let slabs = pool.stats().slabs;
            // SAFETY: handed out above, and holding a value.
            unsafe {
                assert_eq!(object.read(), value);
                assert_eq!(pool.deallocate(*object), Ok(()));
                let error = pool.deallocate(*object).unwrap_err();
                // With the slab that it emptied, an object's memory goes back to the heap.
                assert!(error == PoolError::DoubleFree || pool.stats().slabs < slabs, "{error}");
            }
            let home = number + 1;
            assert_eq!(stats_of(&pool), (count as u64, home as u64, count - home, count));
        }
        assert!(pool.stats().slabs <= 2, "empty slabs are kept: {:?}", pool.stats());
        for again in 1..=100 {
            drop(pool.insert(value).unwrap());
            assert_eq!(stats_of(&pool), (count as u64 + again, count as u64 + again, 0, count));
        }
        pool.trim();
        assert_eq!((pool.stats().slabs, pool.stats().reserved), (0, 0));
        assert_eq!(stats_of(&pool), (count as u64 + 100, count as u64 + 100, 0, count));
        assert_eq!(*pool.insert(value).unwrap(), value);
    }
    let _alone = alone();
    // The largest are several times on the stack.
    let large = thread::Builder::new().stack_size(256 << 20).spawn(|| for_kinds!(run)).unwrap();
    large.join().unwrap();
}

#[test]
fn a_pool_gives_all_its_memory_back_whatever_was_forgotten_in_it() {
    let _alone = alone();
    let leave_behind = || {
        let pool = Pool::<[u64; 100]>::new();
        for _ in 0..3000 {
            std::mem::forget(pool.insert([7; 100]).unwrap());
        }
        let kept = PoolBox::leak(pool.insert([8; 100]).unwrap());
        kept[0] = 9;
        assert_eq!((kept[0], kept[1], pool.stats().objects), (9, 8, 3001));
    };
    leave_behind();
    let before = homing::stats().used;
    for _ in 0..50 {
        leave_behind();
    }
    // Fifty times as much would be 120 MiB; the debug mode keeps up to 32 for a while.
    assert!(homing::stats().used <= before + (48 << 20), "{} after {before}", homing::stats().used);
}

#[test]
fn holes_in_full_slabs_are_used_before_a_new_slab_is_taken() {
    let _alone = alone();
    let pool = Pool::<[u64; 4]>::new();
    let mut objects: Vec<_> = (0..40_000).map(|_| pool.allocate().unwrap()).collect();
    let slabs = pool.stats().slabs;
    for round in 0..8 {
        let mut kept = Vec::new();
        for (at, object) in objects.drain(..).enumerate() {
            if at % 8 == round {
                // SAFETY: handed out, and not used any more.
                assert_eq!(unsafe { pool.deallocate(object) }, Ok(()));
            } else {
                kept.push(object);
            }
        }
        objects = kept;
        while objects.len() < 40_000 {
            objects.push(pool.allocate().unwrap());
        }
        assert!(pool.stats().slabs <= slabs + 1, "{} slabs after {slabs}", pool.stats().slabs);
        assert_eq!(stats_of(&pool).3, 40_000);
    }
}

#[test]
fn where_there_is_no_memory_the_error_says_how_much_was_asked_for() {
    let _alone = alone();
    const HUGE: usize = (if usize::BITS == 64 { 1_u64 << 46 } else { 1 << 30 }) as usize;
    let pool = Pool::<[u8; HUGE]>::new();
    for _ in 0..3 {
        let error = pool.allocate().unwrap_err();
        assert!(
            matches!(error, PoolError::NoMemory { size, node: None } if size / 3 > HUGE || size > isize::MAX as usize),
            "{error}"
        );
    }
    assert_eq!(pool.stats(), PoolStats::default());
    pool.trim();
    let node = Topology::read().nodes()[0].id();
    let error = Pool::<[u8; HUGE]>::on_node(node).unwrap().allocate().unwrap_err();
    assert!(matches!(error, PoolError::NoMemory { node: Some(at), .. } if at == node), "{error}");
}

#[test]
fn a_pool_on_a_node_lies_there_with_all_its_slabs() {
    let _alone = alone();
    for node in Topology::read().nodes().iter().filter(|node| node.is_allowed() && node.memory().total != Some(0)) {
        let pool = Pool::on_node(node.id()).unwrap();
        assert_eq!(pool.node(), Some(node.id()));
        let guards: Vec<_> = (0..5000).map(|number| pool.insert([number; 10]).unwrap()).collect();
        for guard in &guards {
            if let Ok(place) = resident_node((&raw const **guard).cast()) {
                assert_eq!(place, Some(node.id()));
            }
        }
    }
    assert_eq!(Pool::<u8>::new().node(), None);
    let error = Pool::<u8>::on_node(NodeId::new(999)).unwrap_err();
    assert_eq!(error, NodeError::NoSuchNode(NodeId::new(999)));
}
