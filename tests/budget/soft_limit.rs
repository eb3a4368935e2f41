//! Soft limits: told once for each crossing, to a callback that may do anything but panic.

use std::alloc::Layout;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use allocator_api2::alloc::Allocator;
use allocator_api2::vec::Vec;
use homing::{Budget, Homing, SoftLimit};

use crate::{bytes, free};

#[test]
fn the_soft_limit_tells_once_for_each_time_it_is_crossed_upwards() {
    let told = Mutex::new(std::vec::Vec::new());
    let budget = Budget::new("soft", 1000, Homing::new()).with_soft_limit(500, |news: &SoftLimit| {
        told.lock().unwrap().push((news.budget, news.soft_limit, news.used, news.limit));
    });
    let times = || told.lock().unwrap().len();
    let first = budget.try_allocate(bytes(500)).unwrap();
    assert_eq!(times(), 0, "500 are not more than 500");
    let second = budget.try_allocate(bytes(1)).unwrap();
    assert_eq!(*told.lock().unwrap(), [("soft", 500, 501, 1000)]);
    let third = budget.try_allocate(bytes(100)).unwrap();
    assert_eq!(times(), 1, "it was over the limit already");
    assert!(budget.try_allocate(bytes(1000)).is_err());
    assert_eq!(times(), 1, "what is refused is not in use");
    free(&budget, third, bytes(100));
    free(&budget, second, bytes(1));
    // SAFETY: the test's own block, with the layouts that it had last.
    let first = unsafe {
        let first = budget.try_grow(first.cast(), bytes(500), bytes(600)).unwrap();
        assert_eq!(times(), 2, "armed again, and growing counts too");
        let first = budget.try_shrink(first.cast(), bytes(600), bytes(400)).unwrap();
        budget.try_grow_zeroed(first.cast(), bytes(400), bytes(900)).unwrap()
    };
    assert_eq!(times(), 3);
    free(&budget, first, bytes(900));
    assert_eq!(times(), 3);
}

#[test]
fn the_soft_limits_callback_may_allocate_and_free_here_and_is_not_called_for_that() {
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static SPARE: Mutex<Option<(usize, Layout)>> = Mutex::new(None);
    static BUDGET: Budget<Homing> = Budget::new("cache", 1000, Homing::new()).with_soft_limit(500, make_room);

    fn make_room(news: &SoftLimit) {
        assert!(CALLS.fetch_add(1, SeqCst) < 100, "there is no end to it");
        assert_eq!(news.budget, "cache");
        // A trim that goes below the soft limit, and something that goes over it again by itself.
        if let Some((address, layout)) = SPARE.lock().unwrap().take() {
            let block = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(address)).unwrap();
            // SAFETY: the block was put there for this.
            unsafe { BUDGET.deallocate(block, layout) };
        }
        for _ in 0..10 {
            let mut large = Vec::<u8, _>::new_in(&BUDGET);
            large.try_reserve_exact(550).unwrap();
        }
    }

    for round in 1..=3 {
        let spare = BUDGET.try_allocate(bytes(300)).unwrap();
        *SPARE.lock().unwrap() = Some((spare.cast::<u8>().as_ptr().expose_provenance(), bytes(300)));
        let block = BUDGET.try_allocate(bytes(250)).unwrap();
        assert_eq!(CALLS.load(SeqCst), round, "called once a crossing, and not for its own");
        assert_eq!(BUDGET.used(), 250);
        free(&&BUDGET, block, bytes(250));
    }
}

#[test]
fn crossings_by_many_threads_are_each_told_and_never_two_at_once() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 2000;
    static CALLS: AtomicUsize = AtomicUsize::new(0);
    static CALLERS: AtomicUsize = AtomicUsize::new(0);
    static SPARE: Mutex<std::vec::Vec<usize>> = Mutex::new(std::vec::Vec::new());
    static BUDGET: Budget<Homing> =
        Budget::new("crossed", usize::MAX, Homing::new()).with_soft_limit(100, |_: &SoftLimit| {
            assert_eq!(CALLERS.fetch_add(1, SeqCst), 0, "two threads call at once");
            CALLS.fetch_add(1, SeqCst);
            give_up_spare();
            thread::yield_now();
            CALLERS.fetch_sub(1, SeqCst);
        });

    fn give_up_spare() {
        for address in std::mem::take(&mut *SPARE.lock().unwrap()) {
            let block = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(address)).unwrap();
            // SAFETY: blocks are put there for this, each once.
            unsafe { BUDGET.deallocate(block, bytes(60)) };
        }
    }

    // Every second block goes over the limit, and a call makes room for others to do so while it is not over yet; where
    // blocks that are not among the spare ones yet keep the budget above the limit after a call, a thread makes room.
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                for _ in 0..ROUNDS {
                    let block = BUDGET.try_allocate(bytes(60)).unwrap();
                    SPARE.lock().unwrap().push(block.cast::<u8>().as_ptr().expose_provenance());
                    if BUDGET.used() > 300 {
                        give_up_spare();
                    }
                }
            });
        }
    });
    let calls = CALLS.load(SeqCst);
    assert!((1..=THREADS * ROUNDS).contains(&calls), "{calls} calls");
    // No thread is left with calls to make: the next crossing is told at once.
    give_up_spare();
    assert_eq!(BUDGET.used(), 0);
    free(&&BUDGET, BUDGET.try_allocate(bytes(101)).unwrap(), bytes(101));
    assert_eq!(CALLS.load(SeqCst), calls + 1);
}

#[test]
fn a_callback_that_panics_ends_the_process_instead_of_unwinding_through_an_allocator() {
    const CHILD: &str = "BUDGET_TEST_PANICS";
    if std::env::var_os(CHILD).is_some() {
        let budget = Budget::new("panics", 100, Homing::new()).with_soft_limit(1, |_: &SoftLimit| panic!("no"));
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| budget.try_allocate(bytes(2)).is_ok()));
        panic!("it came back: {caught:?}");
    }
    let name = "soft_limit::a_callback_that_panics_ends_the_process_instead_of_unwinding_through_an_allocator";
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let outcome = command.args(["--exact", name, "--nocapture"]).env(CHILD, "1").output().unwrap();
    assert_eq!(outcome.status.code(), None, "it is to end by a signal: {outcome:?}");
}
