//! A fork while another thread is inside one of the allocator's locks: each lock, wherever it is taken. The one inside
//! stands still until the child has ended, so a fork that waited for it would hang, and nothing depends on who is quicker.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

mod common;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{Global, Held};
use homing::{Homing, Topology, fault};

#[global_allocator]
static GLOBAL: Homing = Homing::new();

type Block = Held<Global>;

/// One of each kind of block: of slabs of one slot and of eight, a run, and mappings of one granule and of two.
const SIZES: [usize; 5] = [100, 30_000, 300_000, 3 << 20, 40 << 20];

fn take(size: usize, align: usize) -> Block {
    Block::take(size, align, size as u64).expect("there is memory for it")
}

/// What takes locks, each in its own way.
const OPERATIONS: [(&str, fn()); 6] = [
    ("blocks of every size", || SIZES.iter().for_each(|size| drop(take(*size, 8)))),
    ("blocks of every size side by side", || drop(SIZES.map(|size| take(size, 8)))),
    ("large blocks that grow", || {
        for size in [20_000, 300_000, 3 << 20] {
            let mut block = take(size, 8);
            assert!(block.resize(size + size / 2) && block.resize(4 * size) && block.resize(size / 3));
        }
    }),
    ("blocks of great alignment", || drop([1 << 20, 16 << 20, 64 << 20].map(|align| take(100_000, align)))),
    ("an arena given up and another taken", || {
        let block = take(100, 8);
        homing::thread_cleanup();
        drop(block);
    }),
    ("the figures", || {
        std::hint::black_box(homing::stats());
    }),
];

/// The child's whole life: it takes and frees blocks of every size, frees what it has inherited, and starts a thread.
/// Gives its exit status.
fn live_as_child(inherited: Vec<Block>) -> i32 {
    // The one that stands still is not there, and a thread of the child may have its name.
    fault::release();
    let own = SIZES.map(|size| take(size, 8));
    drop(inherited);
    let work = || SIZES.iter().for_each(|size| drop(take(*size, 16)));
    if thread::spawn(work).join().is_err() {
        return 2;
    }
    own.iter().for_each(Block::check);
    drop(own);
    // SAFETY: no other thread is left.
    if unsafe { homing::audit() }.is_err() {
        return 3;
    }
    CHILD_IS_WELL
}

const CHILD_IS_WELL: i32 = 42;

/// Forks; gives the child's exit status, or the signal that ended it as a negative number. A child that hangs is ended
/// by `SIGALRM`.
fn fork(inherited: Vec<Block>) -> i32 {
    // SAFETY: the child calls the allocator, whose locks are what this is about, starts a thread, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "a process can be forked");
    if child == 0 {
        // SAFETY: no preconditions.
        unsafe { libc::alarm(30) };
        let status = std::panic::catch_unwind(|| live_as_child(inherited)).unwrap_or(4);
        // SAFETY: no preconditions.
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    // SAFETY: the status can be written.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    if libc::WIFSIGNALED(status) { -libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Forks while another thread stands inside the lock that it takes after so many others in the operation. Gives the
/// lock's address, or none where the operation takes fewer.
fn fork_while_inside(name: &str, operation: fn(), locks_before: usize) -> Option<usize> {
    // Blocks that the thread has allocated and not freed; it never ends before the fork is over.
    let inherited = SIZES.iter().map(|size| take(*size, 8)).collect();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // Its first use of the allocator, and its arena, are behind it.
            drop(take(100, 8));
            fault::stand_still_after(locks_before);
            operation();
            // Not at the thread's end, where nobody would wait for it.
            fault::release();
            is_over.store(true, Ordering::Release);
        });
        while fault::stood_in().is_none() && !is_over.load(Ordering::Acquire) {
            thread::yield_now();
        }
        let Some(lock) = fault::stood_in() else {
            inside.join().expect("it does not panic");
            fault::release();
            return None;
        };
        let status = fork(inherited);
        fault::release();
        inside.join().expect("it does not panic");
        let place = format!("{name}, after {locks_before} other locks, in the lock at {lock:#x}");
        assert_ne!(status, -libc::SIGALRM, "{place}: the child hung");
        assert_eq!(status, CHILD_IS_WELL, "{place}: the child's status");
        Some(lock)
    })
}

#[test]
fn a_fork_waits_for_nobody_who_is_inside_a_lock_and_the_child_can_allocate() {
    // A fork that hangs ends the test.
    // SAFETY: no preconditions.
    unsafe { libc::alarm(300) };
    let mut seen = BTreeSet::new();
    for (name, operation) in OPERATIONS {
        for locks_before in 0..100 {
            match fork_while_inside(name, operation, locks_before) {
                Some(lock) => seen.insert(lock),
                None => break,
            };
        }
    }
    // Each node's pool, and the pool of what is spread over all.
    let nodes = Topology::read().nodes().len();
    assert_eq!(seen.len(), nodes + 1, "the locks that a thread was inside: {seen:x?}");
}
