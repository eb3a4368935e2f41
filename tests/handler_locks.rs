//! A signal handler on top of a thread that is inside one of the allocator's locks, wherever it is taken, and a fork by
//! another thread meanwhile. The thread stands still there until both are over, so nothing here depends on who is quicker.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::{ptr, thread};

use homing::{Homing, Topology, entry, fault};

#[global_allocator]
static GLOBAL: Homing = Homing::new();

/// What the handler frees: a block that no pool keeps, more than one pool keeps together, a run, a slab's block.
const HANDED: [usize; 5] = [40 << 20, 20 << 20, 20 << 20, 1 << 20, 100];
static BLOCKS: [AtomicPtr<u8>; HANDED.len()] = [const { AtomicPtr::new(ptr::null_mut()) }; HANDED.len()];
/// The thread that is inside.
static THREAD: AtomicUsize = AtomicUsize::new(0);
static HAS_HANDLED: AtomicBool = AtomicBool::new(false);

extern "C" fn handle(_: i32) {
    entry::trim();
    BLOCKS.iter().for_each(|block| free(block.swap(ptr::null_mut(), Ordering::Relaxed)));
    HANDED.iter().for_each(|size| free(take(*size)));
    entry::trim();
    HAS_HANDLED.store(true, Ordering::Release);
}

fn take(size: usize) -> *mut u8 {
    let block = entry::malloc(size);
    if !block.is_null() {
        // SAFETY: a block of that size.
        unsafe { block.write(1) };
    }
    block
}

fn free(block: *mut u8) {
    // SAFETY: null, or a live block that nobody else has.
    unsafe { entry::free(block) };
}

/// What takes locks, each in its own way.
const OPERATIONS: [(&str, fn()); 2] = [
    ("blocks of every size", || {
        [100, 30_000, 300_000, 3 << 20, 40 << 20].into_iter().for_each(|size| free(take(size)));
    }),
    ("a large block that grows", || {
        let block = take(20 << 20);
        // SAFETY: a live block, that nobody else has.
        free(unsafe { entry::realloc(block, 60 << 20) });
    }),
];

/// Forks; the child does nothing but allocate.
fn fork() {
    // SAFETY: the child calls the allocator only, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "a process can be forked");
    if child == 0 {
        HANDED.iter().for_each(|size| free(take(*size)));
        // SAFETY: no preconditions.
        unsafe { libc::_exit(0) };
    }
    let mut status = 0;
    // SAFETY: the status can be written.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    assert_eq!(status, 0, "the child's status");
}

/// Has the handler run on top of a thread that is inside the lock which it takes after so many others in the operation.
/// Gives the lock's address, or none where the operation takes fewer.
fn handle_while_inside(operation: fn(), locks_before: usize) -> Option<usize> {
    HAS_HANDLED.store(false, Ordering::Relaxed);
    // Kept for reuse until the handler trims.
    free(take(10 << 20));
    for (place, size) in BLOCKS.iter().zip(HANDED) {
        place.store(take(size), Ordering::Relaxed);
    }
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // Its first use of the allocator, and its arena, are behind it.
            free(take(100));
            // SAFETY: no preconditions.
            THREAD.store(unsafe { libc::pthread_self() } as usize, Ordering::Relaxed);
            fault::stand_still_after(locks_before);
            operation();
            fault::release();
            is_over.store(true, Ordering::Release);
        });
        while fault::stood_in().is_none() && !is_over.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let lock = fault::stood_in();
        if lock.is_some() {
            let thread = THREAD.load(Ordering::Relaxed) as libc::pthread_t;
            // SAFETY: the thread stands still, so it is there.
            assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
            fork();
            while !HAS_HANDLED.load(Ordering::Acquire) {
                thread::yield_now();
            }
        }
        fault::release();
        inside.join().expect("it does not panic");
        lock
    })
}

#[test]
fn under_the_debug_mode_it_can_too() {
    let mut command = Command::new(std::env::current_exe().expect("the test knows its program"));
    let status = command.args(["--exact", NAME]).env("HOMING_DEBUG", "1").status();
    assert!(status.expect("the test's program can be run").success());
}

const NAME: &str = "a_handler_on_top_of_whoever_is_inside_a_lock_can_take_and_free_blocks_of_every_size";

#[test]
fn a_handler_on_top_of_whoever_is_inside_a_lock_can_take_and_free_blocks_of_every_size() {
    // A handler that hangs ends the test.
    // SAFETY: the handler is a function that lives as long as the program.
    unsafe {
        libc::alarm(60);
        libc::signal(libc::SIGUSR1, handle as *const () as usize);
    }
    let mut seen = BTreeSet::new();
    for (name, operation) in OPERATIONS {
        for locks_before in 0..100 {
            match handle_while_inside(operation, locks_before) {
                Some(lock) => seen.insert(lock),
                None => break,
            };
            // SAFETY: the other threads have ended, and the test's own waits.
            let audit = unsafe { homing::audit() };
            assert!(audit.is_ok(), "{name}, after {locks_before} other locks: {audit:?}");
        }
    }
    // A node's pool, and that of what is spread over all where the figures are asked for.
    let nodes = Topology::read().nodes().len();
    assert!((1..nodes + 2).contains(&seen.len()), "the locks that the thread was inside: {seen:x?}");
}
