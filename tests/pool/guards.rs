//! Guards: dropped on other threads, brought home, of values that panic or that hold others.

use std::cell::{Cell, RefCell};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;

use homing::{Pool, PoolBox, RemotePoolBox};

use crate::common::alone;
use crate::stats_of;

/// A value that knows its contents, and counts its drops.
struct Watched<'a> {
    numbers: [usize; 5],
    drops: &'a AtomicUsize,
}

impl<'a> Watched<'a> {
    fn new(number: usize, drops: &'a AtomicUsize) -> Self {
        Watched { numbers: std::array::from_fn(|at| number.wrapping_mul(31) + at), drops }
    }

    fn check(&self) {
        assert!(self.numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "written over: {:?}", self.numbers);
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.check();
        self.numbers = [0; 5];
        self.drops.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn guards_dropped_on_other_threads_come_home_while_the_owner_hands_objects_out() {
    const COUNT: usize = 60_000;
    let _alone = alone();
    let drops = AtomicUsize::new(0);
    let pool = Pool::new();
    let mut most = 0;
    thread::scope(|threads| {
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let (sender, receiver) = mpsc::sync_channel::<RemotePoolBox<'_, Watched<'_>>>(300);
                threads.spawn(move || receiver.into_iter().for_each(drop));
                sender
            })
            .collect();
        for number in 0..COUNT {
            let guard = pool.insert(Watched::new(number, &drops)).unwrap();
            match number % 4 {
                3 => drop(guard),
                to => senders[to].send(PoolBox::into_remote(guard)).unwrap(),
            }
            if number % 1000 == 0 {
                most = most.max(pool.stats().slabs);
            }
        }
    });
    assert_eq!(drops.load(Ordering::Relaxed), COUNT);
    let (allocations, deallocations, objects, peak) = stats_of(&pool);
    assert_eq!((allocations, deallocations, objects), (COUNT as u64, COUNT as u64, 0));
    // In each channel, at each of its ends, and one here.
    assert!(peak <= 3 * 302 + 1, "{peak}");
    assert!(most <= 5, "{most} slabs for at most {peak} objects");
    pool.trim();
    assert_eq!(pool.stats().slabs, 0, "slabs that other threads have emptied");
}

#[test]
fn what_came_back_on_another_thread_makes_no_new_peak() {
    let _alone = alone();
    let pool = Pool::new();
    for round in 1..200_u64 {
        let guards: Vec<_> = (0..10).map(|number| PoolBox::into_remote(pool.insert(number).unwrap())).collect();
        thread::scope(|threads| {
            threads.spawn(move || drop(guards));
        });
        if round % 2 == 0 {
            assert_eq!(stats_of(&pool), (round * 10, round * 10, 0, 10));
        }
    }
    assert_eq!(stats_of(&pool), (1990, 1990, 0, 10));
}

#[test]
fn a_slab_emptied_by_other_threads_goes_back_to_the_heap() {
    let _alone = alone();
    let pool = Pool::new();
    let guards: Vec<_> = (0..10_000).map(|_| PoolBox::into_remote(pool.insert([1_u64; 8]).unwrap())).collect();
    let slabs = pool.stats().slabs;
    assert!(slabs >= 10);
    thread::scope(|threads| {
        threads.spawn(move || drop(guards));
    });
    assert_eq!(pool.stats().slabs, slabs, "another thread than the user's gave slabs back");
    // The word at hand has objects still; once it is used up the owner looks at what came back.
    let _kept: Vec<_> = (0..65).map(|_| pool.insert([2; 8]).unwrap()).collect();
    assert!(pool.stats().slabs <= 2, "{} of {slabs} slabs are left", pool.stats().slabs);
}

#[test]
fn a_pool_goes_from_thread_to_thread_with_objects_out() {
    let _alone = alone();
    let mut pool = Pool::new();
    let mut raw = Vec::new();
    for round in 0..20_u64 {
        (pool, raw) = thread::spawn(move || {
            let object = PoolBox::into_raw(pool.insert(round).unwrap());
            raw.push(object.addr().get());
            // The guard of an object of another thread's, dropped on a third, while this one goes on.
            let old = NonNull::new(std::ptr::with_exposed_provenance_mut(raw.remove(0))).unwrap();
            object.as_ptr().expose_provenance();
            // SAFETY: the object is out and no guard's.
            let guard = PoolBox::into_remote(unsafe { PoolBox::from_raw(&pool, old) });
            thread::scope(|threads| {
                threads.spawn(move || drop(guard));
                for _ in 0..100 {
                    drop(pool.insert(9).unwrap());
                }
            });
            let object = PoolBox::into_raw(pool.insert(round).unwrap());
            object.as_ptr().expose_provenance();
            raw.push(object.addr().get());
            (pool, raw)
        })
        .join()
        .unwrap();
        assert_eq!(stats_of(&pool).2, round as usize + 1);
    }
}

#[test]
fn guards_that_stay_behind_on_the_thread_that_had_the_pool_before_are_not_taken_for_its_users() {
    const COUNT: usize = 10_000;
    let _alone = alone();
    let mut pool = Pool::new();
    // This thread is the one that made the last guard.
    let addresses: Vec<_> =
        (0..COUNT).map(|_| PoolBox::into_raw(pool.insert([1_u64; 8]).unwrap()).as_ptr().expose_provenance()).collect();
    let slabs = pool.stats().slabs;
    let (to_here, from_there) = mpsc::channel();
    let (to_there, from_here) = mpsc::channel::<()>();
    thread::scope(|threads| {
        let pool = &mut pool;
        threads.spawn(move || {
            let pool = &*pool;
            let object = |address| NonNull::new(std::ptr::with_exposed_provenance_mut(address)).unwrap();
            // SAFETY: the objects are out and no guard's.
            let guard = |address| PoolBox::into_remote(unsafe { PoolBox::from_raw(pool, object(address)) });
            to_here.send(addresses.into_iter().map(guard).collect::<Vec<_>>()).unwrap();
            from_here.recv().unwrap();
            let expected = (COUNT as u64, COUNT as u64, 0, COUNT);
            assert_eq!(stats_of(pool), expected);
            assert_eq!(pool.stats().slabs, slabs, "another thread than the user's gave slabs back");
            pool.trim();
            assert_eq!((stats_of(pool), pool.stats().slabs), (expected, 0));
        });
        let guards: Vec<RemotePoolBox<'_, [u64; 8]>> = from_there.recv().unwrap();
        assert!(guards.iter().all(|guard| **guard == [1; 8]));
        drop(guards);
        to_there.send(()).unwrap();
    });
}

/// Goes on when it is polled once more.
struct Once(bool);

impl Future for Once {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        match std::mem::replace(&mut self.0, true) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

#[test]
fn a_task_takes_its_pool_to_another_thread_while_guards_are_dropped_on_the_one_before() {
    const COUNT: u64 = 20_000;
    type Guards<'p> = Vec<RemotePoolBox<'p, u64>>;

    async fn task<'p>(pool: &'p mut Pool<u64>, sender: mpsc::Sender<Guards<'p>>, both: &Barrier) {
        let guards: Guards<'_> = (0..COUNT).map(|number| PoolBox::into_remote(pool.insert(number).unwrap())).collect();
        sender.send(guards).unwrap();
        Once(false).await;
        both.wait();
        for number in 0..COUNT {
            let guard = pool.insert(number).unwrap();
            assert_eq!(*guard, number);
        }
        both.wait();
        assert_eq!(stats_of(pool), (2 * COUNT, 2 * COUNT, 0, pool.stats().peak_objects));
        pool.trim();
        assert_eq!(pool.stats().slabs, 0);
    }

    let _alone = alone();
    let (mut pool, both) = (Pool::new(), Barrier::new(2));
    thread::scope(|threads| {
        let (sender, receiver) = mpsc::channel();
        let mut task = Box::pin(task(&mut pool, sender, &both));
        assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let guards = receiver.recv().unwrap();
        threads.spawn(move || {
            assert!(task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready());
        });
        both.wait();
        drop(guards);
        both.wait();
    });
}

#[test]
fn a_guard_is_brought_home_by_its_own_pool_only() {
    let _alone = alone();
    let (pool, other) = (Pool::new(), Pool::new());
    let guard = PoolBox::into_remote(pool.insert(String::from("a guard")).unwrap());
    let guard = thread::scope(|threads| threads.spawn(move || guard).join().unwrap());
    let guard = other.bring_home(guard).unwrap_err();
    assert_eq!((stats_of(&pool).2, stats_of(&other).2), (1, 0));
    let guard = pool.bring_home(guard).unwrap();
    assert_eq!(PoolBox::into_inner(guard), "a guard");
    assert_eq!((stats_of(&pool), stats_of(&other)), ((1, 1, 0, 1), (0, 0, 0, 0)));
}

struct Panics<'a>(&'a Cell<usize>);

impl Drop for Panics<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
        panic!("in drop");
    }
}

#[test]
fn a_value_that_panics_when_it_is_dropped_gives_its_object_back() {
    let _alone = alone();
    let drops = Cell::new(0);
    let pool = Pool::new();
    for round in 1..=200 {
        let guard = pool.insert(Panics(&drops)).unwrap();
        assert!(catch_unwind(AssertUnwindSafe(|| drop(guard))).is_err());
        assert_eq!(drops.get(), round);
        assert_eq!(stats_of(&pool), (round as u64, round as u64, 0, 1));
    }

    struct PanicsAnywhere;
    impl Drop for PanicsAnywhere {
        fn drop(&mut self) {
            panic!("in drop");
        }
    }
    let pool = Pool::new();
    let guard = PoolBox::into_remote(pool.insert(PanicsAnywhere).unwrap());
    let dropped = thread::scope(|threads| threads.spawn(move || drop(guard)).join());
    assert!(dropped.is_err());
    assert_eq!(stats_of(&pool), (1, 1, 0, 1));
}

#[test]
fn a_closure_that_panics_leaves_no_object_behind() {
    let _alone = alone();
    let pool = Pool::<String>::new();
    for round in 1..=200 {
        assert!(catch_unwind(|| pool.insert_with(|| panic!("no value")).is_ok()).is_err());
        assert_eq!(stats_of(&pool), (round, round, 0, 1));
    }
    // A guard that is dropped on the way goes wherever a `Box` may.
    let pool = Pool::new();
    let guard = pool.insert(Cell::new(0)).unwrap();
    assert!(catch_unwind(move || 7_u8.checked_div(guard.get()).unwrap()).is_err());
    assert_eq!(stats_of(&pool), (1, 1, 0, 1));
}

/// A value that has others of its pool, and drops and makes some when it is dropped.
struct Nested<'p> {
    pool: &'p Pool<Nested<'p>>,
    inner: RefCell<Vec<PoolBox<'p, Nested<'p>>>>,
    depth: usize,
}

impl<'p> Nested<'p> {
    fn new(pool: &'p Pool<Nested<'p>>, depth: usize) -> Self {
        let child = |_| pool.insert_with(|| Nested::new(pool, depth - 1)).unwrap();
        let inner = if depth == 0 { Vec::new() } else { (0..3).map(child).collect() };
        Nested { pool, inner: RefCell::new(inner), depth }
    }
}

impl Drop for Nested<'_> {
    fn drop(&mut self) {
        let before = self.pool.stats().objects;
        let inner = std::mem::take(&mut *self.inner.borrow_mut());
        if self.depth > 0 {
            // Its like takes places that its own children leave, while its own is not home yet.
            let other = self.pool.insert_with(|| Nested::new(self.pool, 0)).unwrap();
            drop(inner);
            assert!(self.pool.stats().objects <= before + 1);
            drop(other);
        }
    }
}

#[test]
fn values_that_use_the_pool_in_drop_and_while_they_are_made_find_it_whole() {
    let _alone = alone();
    // The values borrow the pool for as long as there is one, so it stays.
    let pool: &'static Pool<Nested<'static>> = Box::leak(Box::new(Pool::new()));
    for round in 1..=3 {
        let root = pool.insert_with(|| Nested::new(pool, 6)).unwrap();
        // 3^0 + ... + 3^6.
        assert_eq!(pool.stats().objects, 1093);
        drop(root);
        let (allocations, deallocations, objects, _) = stats_of(pool);
        // And one for each that has children.
        assert_eq!((allocations, deallocations, objects), (round * (1093 + 364), round * (1093 + 364), 0));
    }
}

#[test]
fn values_hold_guards_of_their_own_pool_and_borrow_what_lives_as_long_as_it() {
    let _alone = alone();
    /// A list whose links are guards.
    struct Link<'p> {
        number: &'p Cell<u32>,
        next: RefCell<Option<PoolBox<'p, Link<'p>>>>,
    }
    let numbers: Vec<_> = (0..100).map(Cell::new).collect();
    let pool = Pool::new();
    let mut list = None;
    for number in &numbers {
        list = Some(pool.insert(Link { number, next: RefCell::new(list) }).unwrap());
    }
    let mut sum = 0;
    while let Some(link) = list {
        sum += link.number.get();
        link.number.set(0);
        list = link.next.take();
    }
    assert_eq!((sum, stats_of(&pool)), (4950, (100, 100, 0, 100)));
    // A ring has no first to drop: it goes with the pool.
    let first = PoolBox::leak(pool.insert(Link { number: &numbers[0], next: RefCell::new(None) }).unwrap());
    let second = pool.insert(Link { number: &numbers[1], next: RefCell::new(None) }).unwrap();
    // SAFETY: the object holds a value, which its leaked reference is not used for from here on.
    let first = unsafe { PoolBox::from_raw(&pool, NonNull::from(first)) };
    let second = PoolBox::into_raw(second);
    // SAFETY: the second object holds a value, and is the first one's from here on.
    first.next.replace(Some(unsafe { PoolBox::from_raw(&pool, second) }));
    // SAFETY: it is alive, as the pool is.
    unsafe { second.as_ref() }.next.replace(Some(first));
    assert_eq!(pool.stats().objects, 2);
}

#[test]
fn a_guard_is_its_value_to_those_who_look() {
    let _alone = alone();
    let pool = Pool::new();
    let mut guard = pool.insert(String::from("home")).unwrap();
    guard.push('!');
    assert_eq!((format!("{guard}"), format!("{guard:?}"), guard.len()), ("home!".into(), "\"home!\"".into(), 5));
    assert!(guard == pool.insert("home!".into()).unwrap() && guard > pool.insert("away".into()).unwrap());
    let value = PoolBox::into_inner(guard);
    assert_eq!((value.as_str(), pool.stats().objects), ("home!", 0));
    assert_eq!(size_of::<Option<PoolBox<'_, String>>>(), 2 * size_of::<usize>());
    assert!(format!("{pool:?}").contains("peak_objects: 2"));
}
