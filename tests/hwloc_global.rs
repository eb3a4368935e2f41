//! Discovery by way of hwloc in a program that allocates from homing: it must neither recurse, nor wait for itself, nor
//! work on the arena of the thread that it runs on.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use homing::{Homing, Topology};

/// Whether the block is a mapping of its own: those begin where segments keep their headers, so that no other block does.
fn is_mapping(block: *const u8) -> bool {
    (block as usize) % (32 << 20) < 128 << 10
}

/// homing, and how many blocks the calling thread got in mappings of their own.
struct Watched(Homing);

#[global_allocator]
static GLOBAL: Watched = Watched(Homing::new());

thread_local! {
    /// Mappings, and other blocks; `None` while nobody counts.
    static SEEN: Cell<Option<(u64, u64)>> = const { Cell::new(None) };
}

// SAFETY: homing's blocks, handed on as they are.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.0.alloc(layout) };
        let _ = SEEN.try_with(|seen| match seen.get() {
            Some((mappings, others)) if is_mapping(block) => seen.set(Some((mappings + 1, others))),
            Some((mappings, others)) => seen.set(Some((mappings, others + 1))),
            None => {}
        });
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { self.0.dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if SEEN.try_with(|seen| seen.get().is_none()).unwrap_or(true) {
            // SAFETY: the caller's promise.
            return unsafe { self.0.realloc(block, layout, size) };
        }
        // Counted like any other: a new block, and the old one's end.
        // SAFETY: the caller's promise; the new block is as long as what is copied.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                new.copy_from_nonoverlapping(block, layout.size().min(size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

/// Figures are the process's: one test at a time.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> impl Drop {
    ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn discover() -> Topology {
    Topology::from_hwloc_synthetic("NUMANode:8(memory=1GB) PU:4").unwrap()
}

#[test]
fn discovery_allocates_from_mappings_and_its_result_does_not_lie_there() {
    let _alone = alone();
    // The thread's arena has blocks of every size that a description is made of waiting on its lists.
    drop((discover().clone(), discover()));
    let before = homing::stats();
    SEEN.set(Some((0, 0)));
    let machine = discover();
    let (mappings, others) = SEEN.take().unwrap();
    let after = homing::stats();
    assert!(mappings > others, "{mappings} mappings, {others} others");
    assert_eq!(after.emergencies - before.emergencies, mappings, "the guard was on for all of these");
    // The copy: the list of nodes, the CPUs of each, and the list of what is missing.
    assert_eq!(others, 1 + 8 + 1);
    assert!(machine.nodes().iter().all(|node| !is_mapping(node.cpus().as_ptr().cast())));
    let of_the_kernel = homing::stats();
    drop(Topology::read());
    assert_eq!(homing::stats().emergencies, of_the_kernel.emergencies, "only hwloc is guarded");
}

#[test]
fn discovery_returns_the_address_space_it_used() {
    let _alone = alone();
    let mappings = || std::fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    drop(discover());
    let before = mappings();
    for _ in 0..20 {
        drop(discover());
    }
    let after = mappings();
    assert!(after < before + 20, "{before} mappings before, {after} after");
}

#[test]
fn a_failed_discovery_leaves_the_thread_its_arena() {
    let _alone = alone();
    assert!(Topology::from_hwloc_synthetic("nonsense").is_err());
    let before = homing::stats();
    drop(vec![1_u8; 1000]);
    assert_eq!(homing::stats().emergencies, before.emergencies);
}

#[test]
fn threads_at_work_and_a_thread_that_discovers_do_not_wait_for_each_other() {
    let _alone = alone();
    let done = AtomicBool::new(false);
    let rounds = AtomicUsize::new(0);
    thread::scope(|scope| {
        for seed in 1..=3_usize {
            let (done, rounds) = (&done, &rounds);
            scope.spawn(move || {
                let mut kept: Vec<Vec<u8>> = Vec::new();
                let mut random = seed;
                // At least so many, however fast the other thread is.
                let mut round = 0;
                while round < 2000 || !done.load(Ordering::Relaxed) {
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let size = 1 << ((random >> 33) % 22);
                    let mut block = Vec::with_capacity(size + random % 7);
                    block.push(seed as u8);
                    kept.push(block);
                    if kept.len() > 50 {
                        let gone = kept.swap_remove(random % 50);
                        assert_eq!(gone[0], seed as u8);
                    }
                    round += 1;
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..20 {
            assert_eq!(discover().nodes().len(), 8);
            assert!(!Topology::from_hwloc().unwrap().nodes().is_empty());
        }
        done.store(true, Ordering::Relaxed);
    });
    assert!(rounds.load(Ordering::Relaxed) >= 6000);
}

#[test]
fn a_thread_s_first_and_its_last_allocation_may_be_a_discovery() {
    let _alone = alone();
    static FOUND: AtomicUsize = AtomicUsize::new(0);

    struct AtTheEnd(Cell<u32>);

    impl Drop for AtTheEnd {
        fn drop(&mut self) {
            FOUND.fetch_add(discover().nodes().len(), Ordering::Relaxed);
        }
    }

    thread_local! {
        static AT_THE_END: AtTheEnd = const { AtTheEnd(Cell::new(0)) };
    }

    let threads: Vec<_> = (0..4)
        .map(|_| {
            thread::spawn(|| {
                // Registered first, so that it is dropped while others of the thread's values are still there.
                AT_THE_END.with(|at_the_end| at_the_end.0.set(1));
                homing::thread_cleanup();
                let machine = discover();
                homing::thread_cleanup();
                machine
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap().nodes().len(), 8);
    }
    assert_eq!(FOUND.load(Ordering::Relaxed), 4 * 8);
}
