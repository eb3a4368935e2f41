//! Pointers that are no object to be freed: told apart, and nothing changes.

use std::ptr::NonNull;
use std::thread;

use homing::{Pool, PoolBox, PoolError};

use crate::common::alone;
use crate::{for_kinds, stats_of};

#[test]
fn a_double_free_is_named_though_the_object_waits_to_be_handed_out() {
    let _alone = alone();
    let pool = Pool::<u64>::new();
    let first = pool.allocate().unwrap();
    // SAFETY: the pool checks what it is given; the one that is out is not used.
    unsafe {
        // Never handed out, and among those that are next.
        assert_eq!(pool.deallocate(first.add(1)), Err(PoolError::DoubleFree));
        // Never handed out, and far from being so.
        assert_eq!(pool.deallocate(first.add(2000)), Err(PoolError::DoubleFree));
        let second = pool.allocate().unwrap();
        assert_eq!(second, first.add(1));
        assert_eq!(pool.deallocate(first), Ok(()));
        assert_eq!(pool.deallocate(first), Err(PoolError::DoubleFree));
        // Once more when the words of free objects have been taken from the slab anew.
        let others: Vec<_> = (0..1000).map(|_| pool.allocate().unwrap()).collect();
        let held = others.contains(&first);
        assert_eq!(pool.deallocate(first), if held { Ok(()) } else { Err(PoolError::DoubleFree) });
        assert_eq!(pool.deallocate(first), Err(PoolError::DoubleFree));
        assert_eq!(pool.deallocate(second), Ok(()));
        assert_eq!(pool.deallocate(second), Err(PoolError::DoubleFree));
    }
}

#[test]
fn an_object_whose_guard_was_dropped_elsewhere_cannot_be_freed_once_more_before_it_is_collected() {
    let _alone = alone();
    let pool = Pool::new();
    let guard = PoolBox::into_remote(pool.insert(7_u64).unwrap());
    let object = NonNull::from(&*guard);
    thread::scope(|threads| {
        threads.spawn(move || drop(guard));
    });
    // SAFETY: the pool checks what it is given.
    assert_eq!(unsafe { pool.deallocate(object) }, Err(PoolError::DoubleFree));
    // Having been counted does not mean it was collected.
    assert_eq!(stats_of(&pool), (1, 1, 0, 1));
    // SAFETY: the pool checks what it is given.
    assert_eq!(unsafe { pool.deallocate(object) }, Err(PoolError::DoubleFree));
    assert_eq!(stats_of(&pool), (1, 1, 0, 1));
}

#[test]
fn pointers_that_are_no_object_of_the_pool_are_told_apart_and_change_nothing() {
    fn run<T: Copy>(value: T, count: usize) {
        let (pool, other) = (Pool::new(), Pool::new());
        let objects: Vec<_> = (0..count).map(|_| PoolBox::into_raw(pool.insert(value).unwrap())).collect();
        let foreign = Box::new([0_u64; 64]);
        let before = pool.stats();
        // SAFETY: the pool checks what it is given.
        let refused = |address: NonNull<u8>| unsafe { pool.deallocate(address.cast()) }.unwrap_err();
        let stride = size_of::<T>().max(align_of::<T>());
        for object in &objects {
            for offset in [1, stride / 2, stride - 1].into_iter().filter(|offset| (1..stride).contains(offset)) {
                // SAFETY: within the object.
                let within = unsafe { object.cast::<u8>().add(offset) };
                assert_eq!(refused(within), PoolError::Interior { offset, size: stride });
            }
        }
        assert_eq!(refused(NonNull::from(&*foreign).cast()), PoolError::Foreign);
        assert_eq!(refused(NonNull::from(&objects).cast()), PoolError::Foreign);
        for address in [1, 8, 4096, 65_536, 1 << 30, usize::MAX & !65_535, usize::MAX] {
            assert_eq!(refused(NonNull::new(std::ptr::without_provenance_mut(address)).unwrap()), PoolError::Foreign);
        }
        let theirs = PoolBox::into_raw(other.insert(value).unwrap());
        assert_eq!(refused(theirs.cast()), PoolError::OtherPool);
        // A block of the heap.
        let block = homing::entry::malloc(100);
        assert_eq!(refused(NonNull::new(block).unwrap()), PoolError::OtherPool);
        // SAFETY: from `malloc`.
        unsafe { homing::entry::free(block) };
        // The header of a slab: less than an object before the first one, as objects go in order at first.
        let slab = pool.stats().reserved / pool.stats().slabs;
        let header = NonNull::new(objects[0].as_ptr().cast::<u8>().map_addr(|address| address & !(slab - 1))).unwrap();
        assert_eq!(refused(header), PoolError::NoObject { offset: 0 });
        assert_eq!(pool.stats(), before);
        // SAFETY: handed out above.
        objects.iter().for_each(|object| assert_eq!(unsafe { pool.deallocate(*object) }, Ok(())));
    }
    let _alone = alone();
    // The largest are several times on the stack.
    let large = thread::Builder::new().stack_size(256 << 20).spawn(|| for_kinds!(run)).unwrap();
    large.join().unwrap();
}

/// Where memory comes from `System`, it may be nobody's by then.
#[test]
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn objects_of_slabs_that_have_gone_are_told_as_freed_already_wherever_in_the_slab_they_lay() {
    fn run<T>(count: usize) {
        let pool = Pool::<T>::new();
        let objects: Vec<_> = (0..count).map(|_| pool.allocate().unwrap()).collect();
        // SAFETY: they are out.
        objects.iter().for_each(|object| assert_eq!(unsafe { pool.deallocate(*object) }, Ok(())));
        pool.trim();
        assert_eq!(pool.stats().slabs, 0);
        for object in objects {
            // SAFETY: the pool checks what it is given.
            let error = unsafe { pool.deallocate(object) }.unwrap_err();
            // Where the slab was one of several blocks of a slab of the heap.
            assert!(matches!(error, PoolError::DoubleFree | PoolError::OtherPool), "{error}");
        }
    }
    let _alone = alone();
    run::<u8>(10_000);
    run::<[u64; 8]>(4000);
    run::<[u8; 9001]>(50);
    run::<[u8; 40_000]>(50);
    run::<[u8; 400_000]>(10);
    run::<[u8; 4_000_000]>(10);
}

#[test]
fn empty_slabs_go_back_to_the_heap_but_for_one_and_pointers_into_them_are_still_refused() {
    let _alone = alone();
    let pool = Pool::<[u64; 8]>::new();
    let objects: Vec<_> = (0..200_000).map(|_| pool.allocate().unwrap()).collect();
    let (full, used) = (pool.stats(), homing::stats().used);
    assert!(full.slabs > 100 && full.reserved == full.slabs * 65_536);
    // SAFETY: handed out above.
    objects.iter().for_each(|object| assert_eq!(unsafe { pool.deallocate(*object) }, Ok(())));
    assert!(pool.stats().slabs <= 2);
    assert!(homing::stats().used <= used - full.reserved / 2, "{} of {used}", homing::stats().used);
    for object in &objects {
        // SAFETY: the pool checks what it is given.
        let error = unsafe { pool.deallocate(*object) }.unwrap_err();
        assert!(matches!(error, PoolError::DoubleFree | PoolError::OtherPool), "{error}");
    }
    pool.trim();
    assert_eq!(pool.stats().slabs, 0);
    // SAFETY: the pool checks what it is given.
    assert!(unsafe { pool.deallocate(objects[0]) }.is_err());
}

#[test]
fn a_slab_that_has_gone_to_another_pool_is_not_taken_for_ones_own() {
    let _alone = alone();
    let (first, second) = (Pool::<[u64; 8]>::new(), Pool::<[u64; 8]>::new());
    let objects: Vec<_> = (0..5000).map(|_| first.allocate().unwrap()).collect();
    // SAFETY: handed out above.
    objects.iter().for_each(|object| assert_eq!(unsafe { first.deallocate(*object) }, Ok(())));
    first.trim();
    for object in (0..5000).map(|_| second.allocate().unwrap()) {
        // SAFETY: the pool checks what it is given.
        assert_eq!(unsafe { first.deallocate(object) }, Err(PoolError::OtherPool));
    }
    assert_eq!((stats_of(&first).2, stats_of(&second).2), (0, 5000));
}
