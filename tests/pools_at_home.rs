//! Pooled memory lies on its node, by the kernel's word, and returns to its own pool whichever node's thread frees it: on
//! whatever machine this runs. `ci/nodes` runs it on a simulated one with four nodes; with one node, that one stands for
//! all.

// Without a kernel to ask there is nothing to hold anything against.
#![cfg(not(feature = "portable"))]

mod common;

use std::alloc::{Layout, System};
use std::collections::BTreeSet;
use std::ptr::NonNull;
use std::sync::mpsc;
use std::thread;

use common::nodes::{cpus, nodes, run_on};
use homing::{NodeId, NodePools, NodePoolsConfig, NodePoolsError, Pool, PoolBox, RemotePoolBox, resident_node};

#[global_allocator]
static OWN: System = System;

/// Blocks that share pages, blocks of pages, and blocks with a region of their own.
const SIZES: [usize; 7] = [1, 100, 1000, 4096, 50_000, 200_000, 3 << 20];
const REGION: usize = 256 << 10;

/// A live block, which any thread may have.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Block {
    address: usize,
    size: usize,
}

impl Block {
    /// Takes one from the pools, here or there, and fills it.
    fn take(pools: &NodePools, size: usize, node: Option<NodeId>) -> Self {
        let layout = Layout::from_size_align(size, 8).expect("a layout can have that size");
        let block = match node {
            Some(node) => pools.allocate_on(layout, node),
            None => pools.allocate(layout),
        };
        let block = block.expect("the node has room");
        // SAFETY: the block is so long.
        unsafe { block.write_bytes(7, size) };
        Block { address: block.as_ptr().expose_provenance(), size }
    }

    fn pointer(self) -> NonNull<u8> {
        NonNull::new(std::ptr::with_exposed_provenance_mut(self.address)).expect("blocks are not at null")
    }

    fn give(self, pools: &NodePools) -> Result<(), NodePoolsError> {
        // SAFETY: the tests use no block after this, unless it is refused.
        unsafe { pools.deallocate(self.pointer()) }
    }

    /// Holds the pools' word and the kernel's, for every page, against the node.
    fn lies_on(self, pools: &NodePools, node: NodeId) {
        assert_eq!(pools.node_of(self.pointer()), Ok(node));
        for at in (0..self.size).step_by(4096) {
            let there = resident_node(self.pointer().as_ptr().wrapping_add(at));
            assert_eq!(there, Ok(Some(node)), "byte {at} of a block of {} bytes", self.size);
        }
    }
}

fn pools() -> NodePools {
    NodePools::with(NodePoolsConfig::new().pool_size(REGION))
}

#[test]
fn blocks_lie_on_the_named_node_or_that_of_their_thread_by_the_kernels_word() {
    let pools = pools();
    let mut blocks = Vec::new();
    for node in nodes() {
        for size in SIZES {
            let block = Block::take(&pools, size, Some(node));
            block.lies_on(&pools, node);
            blocks.push(block);
        }
    }
    thread::scope(|scope| {
        for (cpu, node) in cpus() {
            let pools = &pools;
            scope.spawn(move || {
                run_on(cpu);
                for size in SIZES {
                    let block = Block::take(pools, size, None);
                    block.lies_on(pools, node);
                    block.give(pools).unwrap();
                }
            });
        }
    });
    blocks.into_iter().for_each(|block| block.give(&pools).unwrap());
    assert_eq!(pools.stats().bytes, 0);
}

#[test]
fn blocks_freed_by_threads_of_other_nodes_return_to_their_own_and_are_handed_out_there_again() {
    const EACH: usize = 300;
    let (pools, cpus) = (pools(), cpus());
    let round = || {
        // Each node's thread takes blocks there, which the next node's thread looks at and frees.
        let (senders, receivers): (Vec<_>, Vec<_>) = cpus.iter().map(|_| mpsc::channel()).unzip();
        let taken: Vec<BTreeSet<Block>> = thread::scope(|scope| {
            let threads: Vec<_> = receivers
                .into_iter()
                .enumerate()
                .map(|(index, inbox)| {
                    let (pools, cpus, next) = (&pools, &cpus, senders[(index + 1) % senders.len()].clone());
                    scope.spawn(move || {
                        run_on(cpus[index].0);
                        let sizes = || SIZES.iter().take(5).cycle().take(EACH);
                        let mine: BTreeSet<_> = sizes().map(|size| Block::take(pools, *size, None)).collect();
                        mine.iter().for_each(|block| next.send(*block).unwrap());
                        drop(next);
                        let home = cpus[(index + cpus.len() - 1) % cpus.len()].1;
                        for block in inbox.iter().take(EACH) {
                            let block: Block = block;
                            block.lies_on(pools, home);
                            block.give(pools).unwrap();
                        }
                        mine
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for (_, node) in &cpus {
            let stats = pools.stats_on(*node).unwrap();
            assert_eq!(stats.allocations, stats.deallocations, "on {node:?}");
            assert_eq!((stats.blocks, stats.bytes, stats.regions), (0, 0, 1), "on {node:?}");
            assert_eq!(stats.largest_free, REGION);
        }
        taken
    };
    let first = round();
    // What each node keeps, its lowest blocks lie in again: they came home, and nowhere else.
    let second = round();
    for (index, (_, node)) in cpus.iter().enumerate() {
        let starts = |taken: &[BTreeSet<Block>]| taken[index].iter().map(|block| block.address / REGION).collect();
        let (before, after): (BTreeSet<usize>, BTreeSet<usize>) = (starts(&first), starts(&second));
        assert!(before.intersection(&after).next().is_some(), "nothing was handed out again on {node:?}");
    }
}

#[test]
fn a_block_of_another_node_is_not_freed_from_this_one_on_any_node() {
    let (pools, nodes) = (pools(), nodes());
    for actual in &nodes {
        for size in SIZES {
            let block = Block::take(&pools, size, Some(*actual));
            for said in nodes.iter().filter(|said| *said != actual).chain(&[NodeId::new(999)]) {
                let wrong = NodePoolsError::WrongNode { said: *said, actual: *actual };
                // SAFETY: nothing is freed.
                assert_eq!(unsafe { pools.deallocate_from_node(block.pointer(), *said) }, Err(wrong));
            }
            block.lies_on(&pools, *actual);
            // SAFETY: a live block, that ends here.
            unsafe { pools.deallocate_from_node(block.pointer(), *actual) }.unwrap();
            assert_eq!(block.give(&pools), Err(NodePoolsError::DoubleFree));
        }
    }
}

#[test]
fn threads_of_all_nodes_at_once_free_blocks_of_all_nodes_and_none_is_lost() {
    const ROUNDS: usize = 3000;
    let (pools, nodes, cpus) = (pools(), nodes(), cpus());
    let (senders, receivers): (Vec<_>, Vec<_>) = cpus.iter().map(|_| mpsc::channel::<Block>()).unzip();
    thread::scope(|scope| {
        for (index, inbox) in receivers.into_iter().enumerate() {
            let (senders, pools, nodes, cpu) = (senders.clone(), &pools, &nodes, cpus[index].0);
            scope.spawn(move || {
                run_on(cpu);
                for round in 0..ROUNDS {
                    let number = round * 7 + index;
                    let node = nodes[number % nodes.len()];
                    let block = Block::take(pools, SIZES[number % 6], Some(node));
                    senders[(number / 3) % senders.len()].send(block).unwrap();
                    inbox.try_iter().for_each(|block| block.give(pools).unwrap());
                }
                drop(senders);
                inbox.iter().for_each(|block| block.give(pools).unwrap());
            });
        }
        drop(senders);
    });
    let all = pools.stats();
    assert_eq!(all.allocations, (ROUNDS * cpus.len()) as u64);
    assert_eq!((all.blocks, all.bytes, all.regions), (0, 0, nodes.len()));
    for node in nodes {
        let stats = pools.stats_on(node).unwrap();
        assert_eq!((stats.allocations, stats.bytes, stats.largest_free), (stats.deallocations, 0, REGION));
        // What is kept lies where it did.
        let block = Block::take(&pools, REGION, Some(node));
        block.lies_on(&pools, node);
        block.give(&pools).unwrap();
    }
}

/// Holds the kernel's word on where an object lies against the node.
fn object_lies_on(object: &[u64; 32], node: NodeId) {
    assert_eq!(resident_node((&raw const *object).cast()), Ok(Some(node)));
}

#[test]
fn guards_dropped_by_threads_of_other_nodes_bring_objects_home_which_are_handed_out_there_again() {
    const EACH: u64 = 2000;
    // Few enough that some are in each slab.
    const KEPT_ONE_OF: u64 = 50;
    const KEPT: u64 = EACH / KEPT_ONE_OF;
    type Guards<'p> = Vec<RemotePoolBox<'p, [u64; 32]>>;
    let (cpus, nodes) = (cpus(), nodes());
    // Those of the thread that uses them, and those of the next node, wherever their user is.
    for named in [false, true] {
        let node_of = |index: usize| match named {
            true => nodes[(index + 1) % nodes.len()],
            false => cpus[index].1,
        };
        let pool_of = |index| if named { Pool::on_node(node_of(index)).unwrap() } else { Pool::new() };
        let mut pools: Vec<Pool<[u64; 32]>> = (0..cpus.len()).map(pool_of).collect();
        let (senders, receivers): (Vec<_>, Vec<_>) = cpus.iter().map(|_| mpsc::channel::<Guards<'_>>()).unzip();
        // Nobody sends anything here: ends when all have dropped their guards, and their senders.
        let (working, all_done): (Vec<_>, Vec<_>) = cpus.iter().map(|_| mpsc::channel::<()>()).unzip();
        thread::scope(|scope| {
            for (((index, pool), inbox), all_done) in pools.iter_mut().enumerate().zip(receivers).zip(all_done) {
                let (node, cpu) = (node_of(index), cpus[index].0);
                let (senders, working) = (senders.clone(), working.clone());
                scope.spawn(move || {
                    run_on(cpu);
                    let pool = &*pool;
                    let take_one = |number| PoolBox::into_remote(pool.insert([number; 32]).unwrap());
                    let take = || -> Guards<'_> { (0..EACH).map(take_one).collect() };
                    let addresses = |guards: &Guards<'_>| -> BTreeSet<usize> {
                        guards.iter().map(|guard| (&raw const **guard).addr()).collect()
                    };
                    let mut guards = take();
                    guards.iter().for_each(|guard| object_lies_on(guard, node));
                    let (taken, slabs) = (addresses(&guards), pool.stats().slabs);
                    // So no slab goes back to the heap, from where others would have it.
                    let kept: Guards<'_> = guards.extract_if(.., |guard| guard[0] % KEPT_ONE_OF == 0).collect();
                    // To the other nodes by turns; where there is one node, its own thread has them all.
                    let others = (0..senders.len()).filter(|other| *other != index || senders.len() == 1);
                    let others: Vec<_> = others.collect();
                    let share = guards.len().div_ceil(others.len());
                    for other in others {
                        let rest = guards.split_off(guards.len().min(share));
                        senders[other].send(std::mem::replace(&mut guards, rest)).unwrap();
                    }
                    drop(senders);
                    for guards in inbox {
                        assert!(guards.iter().all(|guard| guard[31] < EACH && guard[0] == guard[31]));
                        // On another thread of this node, too, that has never used a pool.
                        thread::scope(|scope| scope.spawn(move || drop(guards)).join().unwrap());
                    }
                    drop(working);
                    assert_eq!(all_done.iter().count(), 0);

                    let stats = pool.stats();
                    assert_eq!(
                        (stats.allocations, stats.deallocations, stats.objects),
                        (EACH, EACH - KEPT, KEPT as usize)
                    );
                    let guards: Guards<'_> = (0..EACH - KEPT).map(take_one).collect();
                    guards.iter().for_each(|guard| object_lies_on(guard, node));
                    assert_eq!(pool.stats().peak_objects, EACH as usize);
                    // The slab that was taken from last may not be used up; all else is where it was.
                    assert!(pool.stats().slabs <= slabs + 1, "{} slabs after {slabs}", pool.stats().slabs);
                    let others = addresses(&guards).difference(&taken).count();
                    assert!(others <= 2 * (64 << 10) / 256, "{others} objects lie where none lay before");
                    drop((guards, kept));
                    pool.trim();
                    assert_eq!((pool.stats().objects, pool.stats().reserved), (0, 0));
                });
            }
            drop((senders, working));
        });
    }
}
