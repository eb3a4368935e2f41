//! A signal handler that uses node pools on top of a thread that is in the middle of using them: it is served or refused,
//! and never waits. How often it strikes in the middle is up to the machine; what must hold does not depend on it.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

use std::alloc::{Layout, System};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use homing::{NodePools, NodePoolsConfig, NodePoolsError};

#[global_allocator]
static OWN: System = System;

static POOLS: NodePools = NodePools::with(NodePoolsConfig::new().pool_size(64 << 10));

/// Blocks that the handler has allocated.
static KEPT: [AtomicPtr<u8>; 16] = [const { AtomicPtr::new(ptr::null_mut()) }; 16];
static HANDLED: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicUsize = AtomicUsize::new(0);
/// What the handler was told that it must not be told; 0 is nothing.
static WRONG: AtomicUsize = AtomicUsize::new(0);
static SERVED: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

const SIGNALS: usize = 1000;

fn bytes(size: usize) -> Layout {
    Layout::from_size_align(size, 1).expect("a layout can have that size")
}

extern "C" fn handle(_: i32) {
    let handled = HANDLED.load(Ordering::Relaxed);
    let kept = &KEPT[handled % KEPT.len()];
    let size = [16, 700, 5000, 100_000][handled / 3 % 4];
    match NonNull::new(kept.load(Ordering::Relaxed)) {
        None => match POOLS.allocate(bytes(size)) {
            Ok(block) => {
                SERVED.fetch_add(1, Ordering::Relaxed);
                // SAFETY: the block is so long.
                unsafe { block.write_bytes(9, size) };
                kept.store(block.as_ptr(), Ordering::Relaxed);
            }
            // In the middle of the heap's own operation no region can be had.
            Err(NodePoolsError::Reentered { .. } | NodePoolsError::Full { .. }) => {
                REFUSED.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => WRONG.store(1, Ordering::Relaxed),
        },
        // SAFETY: a live block of the handler's.
        Some(block) => match unsafe { POOLS.deallocate(block) } {
            Ok(()) => {
                FREED.fetch_add(1, Ordering::Relaxed);
                kept.store(ptr::null_mut(), Ordering::Relaxed);
            }
            Err(NodePoolsError::Reentered { .. }) => {
                REFUSED.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => WRONG.store(2, Ordering::Relaxed),
        },
    }
    let stats = POOLS.stats();
    if stats.deallocations > stats.allocations {
        WRONG.store(3, Ordering::Relaxed);
    }
    // Last of all: whoever sends the next signal waits for it.
    HANDLED.store(handled + 1, Ordering::Release);
}

#[test]
fn handlers_on_top_of_operations_are_served_or_refused_and_never_wait_for_themselves() {
    POOLS.allocate(bytes(1)).unwrap();
    let action: extern "C" fn(i32) = handle;
    // SAFETY: the handler does nothing but what this test is about.
    unsafe { libc::signal(libc::SIGUSR1, action as *const () as libc::sighandler_t) };
    // SAFETY: no preconditions.
    let this = unsafe { libc::pthread_self() };
    let sender = thread::spawn(move || {
        for sent in 0..SIGNALS {
            // SAFETY: the thread lives until it has joined this one.
            unsafe { libc::pthread_kill(this, libc::SIGUSR1) };
            while HANDLED.load(Ordering::Acquire) <= sent {
                thread::yield_now();
            }
        }
    });
    let mut rounds = 0;
    while HANDLED.load(Ordering::Acquire) < SIGNALS {
        for size in [10, 3000, 60_000, 70_000] {
            let block = POOLS.allocate(bytes(size)).unwrap();
            // SAFETY: a live block that is so long, and ends here.
            unsafe {
                block.write_bytes(1, size);
                POOLS.deallocate_with(block, bytes(size)).unwrap();
            }
            rounds += 1;
        }
    }
    sender.join().unwrap();
    assert_eq!(WRONG.load(Ordering::Relaxed), 0);
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed);
    assert_eq!(count(&SERVED) + count(&FREED) + REFUSED.load(Ordering::Relaxed) as u64, SIGNALS as u64);
    let stats = POOLS.stats();
    assert_eq!(stats.allocations, 1 + rounds + count(&SERVED));
    assert_eq!(stats.deallocations, rounds + count(&FREED));
    for kept in &KEPT {
        if let Some(block) = NonNull::new(kept.load(Ordering::Relaxed)) {
            // SAFETY: a live block, that ends here.
            unsafe { POOLS.deallocate(block) }.unwrap();
        }
    }
    assert_eq!(POOLS.stats().blocks, 1);
}
