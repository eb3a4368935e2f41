//! A signal handler that uses node pools on top of a thread that is inside one of the heap's locks, while another thread is inside
//! a node's pool and waits for that lock. The thread stands still there until the handler has come back, and the handler
//! begins when the other thread sleeps, so nothing here depends on who is quicker.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

use std::alloc::{Layout, System};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::thread;

use homing::{NodeId, NodePools, NodePoolsError, Topology, entry, fault};

#[global_allocator]
static OWN: System = System;

static POOLS: NodePools = NodePools::new();
/// By node's number: a block of the pools there, which the handler frees.
static BLOCKS: [AtomicPtr<u8>; 1024] = [const { AtomicPtr::new(ptr::null_mut()) }; 1024];
/// The thread that is inside the heap's lock.
static THREAD: AtomicUsize = AtomicUsize::new(0);
static SERVED: AtomicUsize = AtomicUsize::new(0);
static REFUSED: AtomicUsize = AtomicUsize::new(0);
static WRONG: AtomicUsize = AtomicUsize::new(0);

fn bytes(size: usize) -> Layout {
    Layout::from_size_align(size, 1).expect("a layout can have that size")
}

fn count<T>(result: Result<T, NodePoolsError>) {
    let figure = match result {
        Ok(_) => &SERVED,
        Err(NodePoolsError::Reentered { .. }) => &REFUSED,
        Err(_) => &WRONG,
    };
    figure.fetch_add(1, Ordering::Relaxed);
}

extern "C" fn handle(_: i32) {
    while !fault::was_awaited() {
        std::hint::spin_loop();
    }
    for (number, block) in BLOCKS.iter().enumerate() {
        if let Some(block) = NonNull::new(block.load(Ordering::Relaxed)) {
            count(POOLS.allocate_on(bytes(100), NodeId::new(number as u16)));
            // SAFETY: a live block that nobody uses.
            count(unsafe { POOLS.deallocate(block) });
        }
    }
}

#[test]
fn a_handler_inside_the_heap_does_not_wait_for_whoever_waits_for_the_heap_inside_a_pool() {
    let action: extern "C" fn(i32) = handle;
    // A handler that hangs ends the test.
    // SAFETY: the handler is a function that lives as long as the program.
    unsafe {
        libc::alarm(60);
        libc::signal(libc::SIGUSR1, action as *const () as libc::sighandler_t);
    }
    let nodes: Vec<_> = Topology::read().nodes().iter().map(|node| node.id()).collect();
    // Those that this process may use.
    let usable = nodes.iter().filter_map(|node| Some((*node, POOLS.allocate_on(bytes(100), *node).ok()?)));
    let usable: Vec<_> = usable.map(|(node, block)| (node, AtomicPtr::new(block.as_ptr()))).collect();
    for (node, block) in &usable {
        BLOCKS[usize::from(node.number())].store(block.load(Ordering::Relaxed), Ordering::Relaxed);
    }
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            // The thread's first use of the heap, and its arena, are behind it.
            // SAFETY: null, or a block that nobody else has; so below.
            unsafe { entry::free(entry::malloc(100)) };
            // SAFETY: no preconditions.
            THREAD.store(unsafe { libc::pthread_self() } as usize, Ordering::Relaxed);
            fault::stand_still_after(0);
            // SAFETY: as above.
            unsafe { entry::free(entry::malloc(3 << 20)) };
        });
        while fault::stood_in().is_none() {
            thread::yield_now();
        }
        let thread = THREAD.load(Ordering::Relaxed) as libc::pthread_t;
        // SAFETY: the thread stands still, so it is there.
        assert_eq!(unsafe { libc::pthread_kill(thread, libc::SIGUSR1) }, 0);
        // One of these waits for the lock, inside its node's pool: a block of this size has a region of its own.
        for (node, _) in &usable {
            scope.spawn(|| {
                let large = POOLS.allocate_on(bytes(5 << 20), *node).expect("there is room for it");
                // SAFETY: a live block, that ends here.
                unsafe { POOLS.deallocate(large) }.expect("it is live");
            });
        }
        inside.join().expect("it does not panic");
    });
    fault::release();
    let [served, refused, wrong] = [&SERVED, &REFUSED, &WRONG].map(|figure| figure.load(Ordering::Relaxed));
    assert_eq!((served + refused, wrong), (2 * usable.len(), 0), "the handler was served or refused");
    assert!(refused >= 2, "a pool whose user waits for the heap refuses the handler");
}
