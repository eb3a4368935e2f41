//! Pools that are full, beside others that are not. `ci/nodes` runs it on simulated machines with many nodes; with one
//! node there is no other, and requests past the limit are refused.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::thread;

use common::alone;
use homing::{Homing, NodeError, NodeId, Topology, alloc_on_node, audit, dealloc_from_node, entry, node_of, stats};

// The test's own memory comes from the system, so that figures and audits are the tests' blocks' alone.
#[global_allocator]
static OWN: System = System;

const LIMIT: usize = 16 << 20;

static HOMING: Homing = Homing::new().pool_limit(LIMIT);

/// A block's address and the node it lies on.
type Block = (usize, Option<NodeId>);

/// The node of the first CPU that has one, the last node with another CPU, and those CPUs: the same where there is none.
fn two_nodes() -> [(usize, NodeId); 2] {
    let machine = Topology::read();
    let usable = |node: &&homing::Node| node.is_allowed() && node.memory().total != Some(0);
    let cpu_of = |node: &homing::Node| Some((node.cpus().first()?.number() as usize, node.id()));
    let mut cpus = machine.nodes().iter().filter(usable).filter_map(cpu_of);
    let first = cpus.next().expect("a thread runs somewhere");
    [first, cpus.next_back().unwrap_or(first)]
}

fn run_on(cpu: usize) {
    // SAFETY: an all-zero set is an empty one, of which one bit is set; the call reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
}

/// What a thread on that CPU can have of half as much again as a pool may hold, and a few blocks more, so that the last
/// slab has room. The thread has ended.
fn overfill(cpu: usize, layout: Layout) -> Vec<Block> {
    let take = move || {
        run_on(cpu);
        // SAFETY: the size is not 0.
        let blocks = (0..LIMIT * 3 / 2 / layout.size() + 10).map(|_| unsafe { HOMING.alloc(layout) });
        // SAFETY: live blocks.
        let named = blocks.map_while(|block| (!block.is_null()).then(|| (block as usize, unsafe { node_of(block) })));
        named.collect()
    };
    thread::spawn(take).join().unwrap()
}

fn free(blocks: impl IntoIterator<Item = Block>, layout: Layout) {
    for (block, _) in blocks {
        // SAFETY: a live block of that layout, not used any more.
        unsafe { HOMING.dealloc(std::ptr::with_exposed_provenance_mut(block), layout) };
    }
}

/// As many blocks of that node as there are, to `most`.
fn take_on(node: NodeId, layout: Layout, most: usize) -> Vec<Block> {
    let mut blocks = Vec::new();
    while blocks.len() < most {
        match alloc_on_node(layout, node) {
            // SAFETY: a live block.
            Ok(block) => blocks.push((block.as_ptr().expose_provenance(), unsafe { node_of(block.as_ptr()) })),
            Err(error) => {
                assert_eq!(error, NodeError::Full { node, size: layout.size() });
                break;
            }
        }
    }
    assert!(blocks.iter().all(|(_, lies)| *lies == Some(node)), "a request that names a node is served there");
    blocks
}

/// On a thread of its own, so that no test leaves its arena or its CPU to the next. Afterwards nothing is in use.
fn on(cpu: usize, test: impl FnOnce() + Send) {
    let _alone = alone();
    thread::scope(|scope| {
        let run = || {
            run_on(cpu);
            // The settings are those of the first use.
            // SAFETY: the size is not 0; a live block of that layout, not used any more.
            unsafe { HOMING.dealloc(HOMING.alloc(Layout::new::<u64>()), Layout::new::<u64>()) };
            test();
            homing::thread_cleanup();
        };
        scope.spawn(run).join().unwrap();
    });
    entry::trim();
    // SAFETY: all threads that used the allocator have been joined, or have cleaned up.
    let audit = unsafe { audit() }.unwrap();
    assert_eq!(audit.live_blocks, 0);
    // A slab of each class that was used last, and arenas.
    assert!(stats().used <= 2 << 20, "all is free, but {} bytes are in use: {audit:?}", stats().used);
}

#[test]
fn a_request_that_names_a_node_is_served_again_once_the_node_was_full() {
    let [(here, _), (_, node)] = two_nodes();
    on(here, || {
        for size in [64, 5000, 100_000] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            let many = take_on(node, layout, usize::MAX);
            assert!(many.len() >= LIMIT / 2 / (size * 4 / 3), "{} blocks of {size}", many.len());
            // What is asked for in vain must not spoil what comes after.
            assert!((0..200).all(|_| take_on(node, layout, 1).is_empty()));
            free(many.iter().copied(), layout);
            for round in 0..3 {
                homing::thread_cleanup();
                let again = take_on(node, layout, many.len() / 2);
                assert_eq!(again.len(), many.len() / 2, "{size} bytes, round {round}: all was free");
                free(again, layout);
            }
            homing::thread_cleanup();
            entry::trim();
        }
    });
}

#[test]
fn a_request_that_names_a_node_finds_the_nodes_free_blocks_behind_slabs_of_others() {
    let [(here, _), (there, node)] = two_nodes();
    for cpu in [here, there] {
        on(cpu, || {
            let layout = Layout::from_size_align(1000, 8).unwrap();
            // Which fills the node, and goes on elsewhere; so that the arena has slabs of both with free blocks, the other
            // node's first.
            let mut turn = 0;
            let (freed, kept): (Vec<_>, Vec<_>) = overfill(there, layout).into_iter().partition(|_| {
                turn += 1;
                turn % 2 == 0
            });
            let (freed_there, freed_elsewhere): (Vec<_>, Vec<_>) =
                freed.into_iter().partition(|(_, lies)| *lies == Some(node));
            let many = freed_there.len();
            for freed in [freed_there, freed_elsewhere] {
                free(freed, layout);
                homing::thread_cleanup();
                // The arena takes them back now: what came last it would use first.
                entry::trim();
            }
            for round in 0..3 {
                let again = take_on(node, layout, many);
                let found = again.len();
                assert!(found >= many * 9 / 10, "round {round}: of {many} free blocks {found} were found");
                for (block, _) in again {
                    let block = std::ptr::NonNull::new(std::ptr::with_exposed_provenance_mut(block)).unwrap();
                    // SAFETY: a live block of that layout, not used any more.
                    unsafe { dealloc_from_node(block, layout, node) }.unwrap();
                }
                homing::thread_cleanup();
            }
            free(kept, layout);
        });
    }
}

#[test]
fn slabs_that_an_arena_at_rest_has_on_other_nodes_go_back_when_all_is_freed() {
    let [(here, _), (there, _)] = two_nodes();
    on(here, || {
        let layout = Layout::from_size_align(1000, 8).unwrap();
        let blocks = overfill(there, layout);
        assert!(stats().used >= LIMIT * 3 / 4);
        free(blocks, layout);
    });
}

#[test]
fn large_blocks_that_name_a_node_stay_within_its_limit() {
    let [(here, _), (_, node)] = two_nodes();
    on(here, || {
        for size in [3 << 20, 5 << 20] {
            let layout = Layout::from_size_align(size, 8).unwrap();
            for _ in 0..2 {
                let blocks = take_on(node, layout, 100);
                assert!((1..=LIMIT / size).contains(&blocks.len()), "{} blocks of {size}", blocks.len());
                free(blocks, layout);
            }
        }
    });
}
