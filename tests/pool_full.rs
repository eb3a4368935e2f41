//! Pools over a heap that has no more memory (`pool_limit`): an object that has come back serves again, wherever it lies.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::thread;

use homing::{Homing, Pool, PoolBox, PoolError, Topology};

#[global_allocator]
static OWN: System = System;

const LIMIT: usize = 16 << 20;

static HOMING: Homing = Homing::new().pool_limit(LIMIT);

/// All objects that the pool can have.
fn fill<T>(pool: &Pool<T>) -> Vec<NonNull<T>> {
    let mut objects = Vec::new();
    loop {
        match pool.allocate() {
            Ok(object) => objects.push(object),
            Err(error) => {
                assert!(matches!(error, PoolError::NoMemory { node, .. } if node == pool.node()), "{error}");
                return objects;
            }
        }
        assert!(objects.len() * size_of::<T>() <= LIMIT, "the heap has a limit");
    }
}

fn serve_again<T>() {
    // So that the limit is the process's.
    let layout = Layout::new::<u64>();
    // SAFETY: the size is not 0; the block ends here.
    unsafe { HOMING.dealloc(HOMING.alloc(layout), layout) };
    let node = Topology::read().nodes()[0].id();
    let pool = Pool::<T>::on_node(node).unwrap();
    let mut objects = fill(&pool);
    let full = pool.stats();
    assert!(objects.len() * size_of::<T>() >= LIMIT / 3, "{full:?}");
    assert_eq!((full.objects, full.peak_objects), (objects.len(), objects.len()));
    // One at a time, of the first slabs, the last, and those between.
    for at in [0, 1, objects.len() / 2, objects.len() - 1] {
        // SAFETY: an object that is out, and not used.
        unsafe { pool.deallocate(objects[at]) }.unwrap();
        objects[at] = pool.allocate().expect("one has come back");
        assert!(pool.allocate().is_err());
    }
    // A few of each slab.
    let step = objects.len() / full.slabs * 2 / 3 + 1;
    for at in (0..objects.len()).step_by(step) {
        // SAFETY: as above.
        unsafe { pool.deallocate(objects[at]) }.unwrap();
    }
    for at in (0..objects.len()).step_by(step) {
        objects[at] = pool.allocate().expect("so many have come back");
    }
    assert!(pool.allocate().is_err());
    assert_eq!(
        (pool.stats().objects, pool.stats().peak_objects, pool.stats().slabs),
        (full.objects, full.objects, full.slabs)
    );
    // No object is out twice.
    let mut addresses: Vec<_> = objects.iter().map(|object| object.addr()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    assert_eq!(addresses.len(), objects.len());
    for object in objects {
        // SAFETY: as above.
        unsafe { pool.deallocate(object) }.unwrap();
    }
    assert!(pool.stats().slabs <= 2);
}

#[test]
fn an_object_that_came_back_serves_again_where_there_is_no_memory_for_a_slab() {
    serve_again::<u8>();
    serve_again::<[u64; 3]>();
    serve_again::<[u64; 4]>();
    serve_again::<[u8; 5000]>();
    serve_again::<[u8; 100_000]>();

    // Also one that came back on another thread.
    let pool = Pool::<[u64; 4]>::on_node(Topology::read().nodes()[0].id()).unwrap();
    let mut guards = vec![pool.insert([1; 4]).unwrap()];
    let objects = fill(&pool);
    for round in 2..10 {
        let guard = guards.pop().unwrap();
        let guard = PoolBox::into_remote(guard);
        thread::scope(|threads| threads.spawn(move || drop(guard)).join().unwrap());
        guards.push(pool.insert([round; 4]).expect("one has come back"));
        assert!(pool.insert([0; 4]).is_err());
        assert_eq!((guards[0][3], pool.stats().objects), (round, objects.len() + 1));
    }
}
