//! Node pools: neighbours joined, limits kept, figures exact, threads crossing. The test's own memory comes from the system,
//! so that the pools' blocks are all that the allocator has.

mod common;

use std::alloc::{Layout, System};
use std::process::Command;
use std::ptr::NonNull;
use std::sync::{Barrier, mpsc};
use std::thread;

use common::{Numbers, pattern};
use homing::{NodeId, NodePools, NodePoolsConfig, NodePoolsError, NodePoolsStats, Topology};

#[global_allocator]
static OWN: System = System;

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The nodes that this process may take memory from.
fn nodes() -> Vec<NodeId> {
    let machine = Topology::read();
    let usable = |node: &&homing::Node| node.is_allowed() && node.memory().total != Some(0);
    machine.nodes().iter().filter(usable).map(homing::Node::id).collect()
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a layout can have that size")
}

fn bytes(size: usize) -> Layout {
    layout(size, 1)
}

/// One region of so many bytes on one node, and no more.
struct OneRegion {
    pools: NodePools,
    node: NodeId,
}

impl OneRegion {
    fn of(size: usize) -> Self {
        OneRegion { pools: NodePools::with(NodePoolsConfig::new().pool_size(size).limit(size)), node: nodes()[0] }
    }

    fn try_take(&self, size: usize) -> Result<NonNull<u8>, NodePoolsError> {
        self.pools.allocate_on(bytes(size), self.node)
    }

    fn take(&self, size: usize) -> NonNull<u8> {
        self.try_take(size).expect("the region has room")
    }

    fn give(&self, block: NonNull<u8>) {
        // SAFETY: the tests use no block after this.
        unsafe { self.pools.deallocate(block) }.expect("the block is live");
    }

    fn stats(&self) -> NodePoolsStats {
        self.pools.stats_on(self.node).expect("the node is there")
    }

    /// What a request for so many bytes is refused with.
    fn full(&self, size: usize) -> Result<NonNull<u8>, NodePoolsError> {
        Err(NodePoolsError::Full { node: self.node, size })
    }
}

/// Calls `visit` with every order of the numbers below `count`.
fn each_order(count: usize, visit: &mut impl FnMut(&[usize])) {
    fn go(left: &mut Vec<usize>, order: &mut Vec<usize>, visit: &mut impl FnMut(&[usize])) {
        if left.is_empty() {
            visit(order);
        }
        for at in 0..left.len() {
            let next = left.remove(at);
            order.push(next);
            go(left, order, visit);
            order.pop();
            left.insert(at, next);
        }
    }
    go(&mut (0..count).collect(), &mut Vec::new(), visit);
}

#[test]
fn adjacent_blocks_freed_in_any_order_serve_one_request_of_their_joint_size_at_the_same_address() {
    // Blocks of a granule, of lines of the bitmaps, across them, and longer than many of them.
    let sizes = [[16, 16, 16, 16, 16, 16], [1024, 1024, 1024, 1024, 1024, 1024], [16, 48, 1008, 2064, 30_000, 16]];
    for sizes in sizes {
        for count in 1..=sizes.len() {
            let region = OneRegion::of(64 * KIB);
            // Live blocks on both sides, and nothing free but what is freed here.
            let before = region.take(16);
            let first: Vec<_> = sizes[..count].iter().map(|size| region.take(*size)).collect();
            let joint: usize = sizes[..count].iter().sum();
            let after = region.take(64 * KIB - 16 - joint);
            assert_eq!(region.stats().free_bytes, 0);
            first.iter().for_each(|block| region.give(*block));
            let mut orders = 0_usize;
            each_order(count, &mut |order| {
                orders += 1;
                let blocks: Vec<_> = sizes[..count].iter().map(|size| region.take(*size)).collect();
                assert_eq!(blocks, first, "after the order before {order:?}");
                for (freed, index) in order.iter().enumerate() {
                    region.give(blocks[*index]);
                    let is_free = |index: &usize| order[..=freed].contains(index);
                    // The longest row of neighbours that are free by now.
                    let (mut longest, mut row) = (0, 0);
                    for (index, size) in sizes[..count].iter().enumerate() {
                        row = if is_free(&index) { row + size } else { 0 };
                        longest = longest.max(row);
                    }
                    assert_eq!(region.stats().largest_free, longest, "{order:?} of {sizes:?}, {freed}");
                }
                assert_eq!(region.try_take(joint + 1), region.full(joint + 1));
                let all = region.take(joint);
                assert_eq!(all, blocks[0], "{order:?} of {sizes:?}");
                region.give(all);
            });
            assert_eq!(orders, (1..=count).product::<usize>());
            region.give(after);
            region.give(before);
            assert_eq!(region.stats().largest_free, 64 * KIB);
        }
    }
}

#[test]
fn neighbours_within_a_full_region_are_joined_with_what_is_free_on_either_side() {
    for (left, right) in [(false, false), (false, true), (true, false), (true, true)] {
        let region = OneRegion::of(4 * KIB);
        let blocks: Vec<_> = (0..256).map(|_| region.take(16)).collect();
        assert_eq!(region.try_take(1), region.full(1));
        for middle in [1, 62, 63, 64, 65, 127, 128, 254] {
            let mut joint = 16;
            if left {
                region.give(blocks[middle - 1]);
                joint += 16;
            }
            if right {
                region.give(blocks[middle + 1]);
                joint += 16;
            }
            region.give(blocks[middle]);
            assert_eq!(region.stats().largest_free, joint);
            assert_eq!(region.stats().free_bytes, joint);
            let freed = middle - usize::from(left)..=middle + usize::from(right);
            blocks[freed].iter().for_each(|block| assert_eq!(region.take(16), *block));
        }
    }
}

#[test]
fn blocks_are_aligned_as_asked_for_to_64_mib_and_do_not_overlap() {
    let pools = NodePools::new();
    let mut blocks = Vec::new();
    for shift in 0..=26 {
        for size in [0, 1, 16, 100, 4096, 70_000, MIB, 2 * MIB + 1] {
            let layout = layout(size, 1 << shift);
            for zeroed in [false, true] {
                let block = if zeroed { pools.allocate_zeroed(layout) } else { pools.allocate(layout) };
                let block = block.unwrap_or_else(|error| panic!("{layout:?}: {error}"));
                assert!(block.addr().get().is_multiple_of(layout.align()), "{layout:?}");
                assert_eq!(pools.usable_size(block), Ok(size.max(1).next_multiple_of(16)));
                let seed = blocks.len() as u64;
                // SAFETY: the block is so long.
                unsafe {
                    assert!(!zeroed || pattern::first_not_zero(block, 0, size).is_none(), "{layout:?} is not zero");
                    pattern::fill(block, size, seed);
                }
                blocks.push((block, size, seed));
            }
        }
        // So that much is freed, and used anew, in between.
        for at in (0..blocks.len()).rev().step_by(3) {
            let (block, size, seed) = blocks.swap_remove(at);
            // SAFETY: a live block that was filled, and ends here.
            unsafe {
                assert_eq!(pattern::first_difference(block, size, size, seed), None);
                pools.deallocate(block).unwrap();
            }
        }
    }
    for (block, size, seed) in blocks {
        // SAFETY: as above.
        unsafe {
            assert_eq!(pattern::first_difference(block, size, size, seed), None);
            pools.deallocate(block).unwrap();
        }
    }
    assert_eq!(pools.stats().bytes, 0);
}

#[test]
fn an_aligned_block_finds_the_only_place_where_it_fits() {
    let region = OneRegion::of(64 * KIB);
    let start = region.take(16);
    region.give(start);
    for shift in 5..16 {
        let align = 1 << shift;
        // All is taken but one granule before a multiple of `align`, and that many bytes behind it.
        let before = region.take(64 * KIB / 2 - 16);
        let free = region.take(16 + align.min(64 * KIB / 2));
        let rest = region.stats().free_bytes;
        let behind = (rest > 0).then(|| region.take(rest));
        region.give(free);
        let found = region.pools.allocate_on(layout(align.min(64 * KIB / 2), align), region.node).unwrap();
        assert_eq!(found.addr().get(), start.addr().get() + 64 * KIB / 2);
        assert_eq!(region.stats().largest_free, 16);
        for block in behind.into_iter().chain([found, before]) {
            region.give(block);
        }
        assert_eq!(region.stats().largest_free, 64 * KIB);
    }
}

#[test]
fn sizes_to_the_most_that_a_layout_can_have_are_refused_and_do_not_wrap() {
    let pools = NodePools::new();
    let node = nodes()[0];
    for shift in 0..=26 {
        let align = 1_usize << shift;
        let most = isize::MAX as usize + 1 - align;
        for size in [most, most - 1, most - 15, most - 16, most / 2, 1 << 47] {
            let full = NodePoolsError::Full { node, size };
            assert_eq!(pools.allocate_on(layout(size, align), node), Err(full));
            assert_eq!(pools.allocate_zeroed_on(layout(size, align), node), Err(full));
        }
    }
    assert_eq!(pools.stats(), NodePoolsStats::default());
    let block = pools.allocate_on(bytes(16), node).unwrap();
    // SAFETY: a live block, of which nothing is used.
    unsafe {
        for size in [isize::MAX as usize, usize::MAX - 16, usize::MAX] {
            assert_eq!(pools.resize_in_place(block, size), Ok(false));
        }
    }
    assert_eq!(pools.stats().bytes, 16);
}

#[test]
fn a_node_never_holds_more_than_its_limit_and_gives_an_empty_region_back_before_it_refuses() {
    let (size, limit) = (64 * KIB, 3 * 64 * KIB + 100);
    let pools = NodePools::with(NodePoolsConfig::new().pool_size(size).limit(limit));
    let node = nodes()[0];
    let take = |size| pools.allocate_on(bytes(size), node);
    // SAFETY: tests pass live blocks that end here.
    let give = |block| unsafe { pools.deallocate(block) }.unwrap();
    let reserved = || pools.stats_on(node).unwrap().reserved_bytes;
    let blocks: Vec<_> = (0..3).map(|_| take(size).unwrap()).collect();
    assert_eq!((take(1), reserved()), (Err(NodePoolsError::Full { node, size: 1 }), 3 * size));
    blocks.into_iter().for_each(give);
    assert_eq!(reserved(), size, "one region is kept");
    // Regions of their own: up to the limit, for which the kept one has to go.
    let large = take(limit / 16 * 16).unwrap();
    assert_eq!(reserved(), limit / 16 * 16);
    assert!(matches!(take(1), Err(NodePoolsError::Full { .. })));
    give(large);
    assert_eq!(reserved(), 0);
    assert!(matches!(take(limit / 16 * 16 + 1), Err(NodePoolsError::Full { .. })));
    assert!(take(limit / 16 * 16).is_ok());
}

#[test]
fn fragmentation_is_what_a_hand_calculation_says() {
    let region = OneRegion::of(4 * KIB);
    assert_eq!(region.pools.fragmentation(), 0.0, "nothing is free yet");
    let blocks: Vec<_> = [1024, 512, 1024, 512, 1024].map(|size| region.take(size)).into();
    assert_eq!(region.pools.fragmentation(), 0.0, "nothing is free");
    region.give(blocks[1]);
    assert_eq!(region.pools.fragmentation(), 0.0, "what is free is in one piece");
    region.give(blocks[4]);
    // 512 and 1,024 bytes are free.
    assert_eq!(region.pools.fragmentation(), 1.0 - 1024.0 / 1536.0);
    region.give(blocks[0]);
    // 1,536 (the first two joined) and 1,024.
    assert_eq!(region.pools.fragmentation(), 1.0 - 1536.0 / 2560.0);
    assert_eq!(region.pools.fragmentation_on(region.node), Ok(0.4));
    region.give(blocks[3]);
    // 1,536 and 1,536, with 1,024 between them.
    assert_eq!(region.pools.fragmentation(), 0.5);
    region.give(blocks[2]);
    assert_eq!(region.pools.fragmentation(), 0.0);
    assert_eq!(region.stats().free_bytes, 4 * KIB);
    // A comb: every other one of 256 blocks of 16 bytes is free.
    let teeth: Vec<_> = (0..256).map(|_| region.take(16)).collect();
    teeth.iter().step_by(2).for_each(|tooth| region.give(*tooth));
    assert_eq!(region.pools.fragmentation(), 1.0 - 16.0 / 2048.0);
}

#[test]
fn figures_are_exact_after_each_call() {
    let pools = NodePools::with(NodePoolsConfig::new().pool_size(64 * KIB));
    let node = nodes()[0];
    // SAFETY: tests pass live blocks that end here.
    let give = |block| unsafe { pools.deallocate(block) };
    let held = |stats: NodePoolsStats| {
        assert_eq!(stats, pools.stats());
        (
            (stats.allocations, stats.deallocations, stats.bytes_allocated, stats.bytes_deallocated),
            (stats.blocks, stats.bytes, stats.peak_blocks, stats.peak_bytes),
            (stats.free_bytes, stats.largest_free, stats.regions, stats.reserved_bytes),
        )
    };
    let now = || held(pools.stats_on(node).unwrap());
    assert_eq!(now(), ((0, 0, 0, 0), (0, 0, 0, 0), (0, 0, 0, 0)));
    let first = pools.allocate_on(bytes(0), node).unwrap();
    assert_eq!(now(), ((1, 0, 16, 0), (1, 16, 1, 16), (65_520, 65_520, 1, 65_536)));
    let second = pools.allocate_on(bytes(100), node).unwrap();
    assert_eq!(now(), ((2, 0, 128, 0), (2, 128, 2, 128), (65_408, 65_408, 1, 65_536)));
    give(first).unwrap();
    assert_eq!(now(), ((2, 1, 128, 16), (1, 112, 2, 128), (65_424, 65_408, 1, 65_536)));
    // Refusals change nothing.
    let before = now();
    assert_eq!(give(first), Err(NodePoolsError::DoubleFree));
    assert!(pools.allocate_on(bytes(1 << 47), node).is_err());
    assert_eq!(now(), before);
    let large = pools.allocate_on(bytes(100_000), node).unwrap();
    assert_eq!(now(), ((3, 1, 100_128, 16), (2, 100_112, 2, 100_112), (65_424, 65_408, 2, 165_536)));
    give(large).unwrap();
    assert_eq!(now(), ((3, 2, 100_128, 100_016), (1, 112, 2, 100_112), (65_424, 65_408, 1, 65_536)));
    // SAFETY: a live block of which nothing is used.
    unsafe {
        assert_eq!(pools.resize_in_place(second, 200), Ok(true));
        assert_eq!(now(), ((3, 2, 100_224, 100_016), (1, 208, 2, 100_112), (65_328, 65_312, 1, 65_536)));
        assert_eq!(pools.resize_in_place(second, 20), Ok(true));
        assert_eq!(now(), ((3, 2, 100_224, 100_192), (1, 32, 2, 100_112), (65_504, 65_488, 1, 65_536)));
    }
    give(second).unwrap();
    assert_eq!(now(), ((3, 3, 100_224, 100_224), (0, 0, 2, 100_112), (65_536, 65_536, 1, 65_536)));
    assert_eq!(pools.trim(), 65_536);
    assert_eq!(now(), ((3, 3, 100_224, 100_224), (0, 0, 2, 100_112), (0, 0, 0, 0)));
    assert_eq!(pools.trim(), 0);
}

#[test]
fn a_block_grows_and_shrinks_where_it_lies_only_into_what_is_free_behind_it() {
    let region = OneRegion::of(8 * KIB);
    let blocks: Vec<_> = [1024, 2048, 1024, 4096].map(|size| region.take(size)).into();
    // SAFETY: the blocks are live, and nothing of them is used.
    let resize = |block, size| unsafe { region.pools.resize_in_place(block, size) };
    assert_eq!(resize(blocks[0], 1025), Ok(false));
    region.give(blocks[1]);
    assert_eq!(resize(blocks[0], 1024 + 2048 + 1), Ok(false));
    for size in [1040, 2000, 3072, 1500, 3071, 16, 3072, 1, 1024] {
        assert_eq!(resize(blocks[0], size), Ok(true), "{size}");
        let rounded = size.next_multiple_of(16);
        assert_eq!(region.pools.usable_size(blocks[0]), Ok(rounded));
        assert_eq!(region.stats().free_bytes, 3072 - rounded);
        assert_eq!(region.stats().largest_free, 3072 - rounded);
    }
    let between = region.take(2048);
    assert_eq!(between, blocks[1]);
    assert_eq!(resize(blocks[3], 4097), Ok(false), "the region ends there");
    region.give(blocks[3]);
    assert_eq!(resize(blocks[3], 4096), Err(NodePoolsError::DoubleFree));
    assert_eq!(resize(blocks[2], 1024 + 4096), Ok(true));
    assert_eq!(region.stats().free_bytes, 0);
}

#[test]
fn each_node_keeps_one_empty_region_and_gives_the_others_back() {
    let pools = NodePools::with(NodePoolsConfig::new().pool_size(MIB));
    for node in nodes() {
        let stats = || pools.stats_on(node).unwrap();
        let blocks: Vec<_> = (0..40).map(|_| pools.allocate_on(bytes(MIB / 2), node).unwrap()).collect();
        assert_eq!(stats().regions, 20);
        // Every other half of each, then the rest, in an order that is not that of addresses.
        for block in blocks.iter().step_by(2).chain(blocks.iter().skip(1).step_by(2).rev()) {
            // SAFETY: a live block, that ends here.
            unsafe { pools.deallocate(*block) }.unwrap();
        }
        assert_eq!((stats().regions, stats().reserved_bytes, stats().largest_free), (1, MIB, MIB));
    }
    assert_eq!(pools.trim(), nodes().len() * MIB);
    assert_eq!(pools.stats().regions, 0);
}

#[test]
fn what_is_written_past_a_block_or_after_its_end_spoils_nothing_of_the_pools() {
    let region = OneRegion::of(64 * KIB);
    let mut numbers = Numbers::new(5);
    let mut live: Vec<NonNull<u8>> = Vec::new();
    let start = region.take(64 * KIB);
    region.give(start);
    for _ in 0..3000 {
        if numbers.below(3) == 0 && !live.is_empty() {
            region.give(live.swap_remove(numbers.below(live.len())));
        } else if let Ok(block) = region.try_take(numbers.size(4000)) {
            live.push(block);
        }
        // All of the region, live or free: what a program does that overruns and uses what it has freed.
        // SAFETY: the region stays the pool's, and no contents are relied on.
        unsafe { start.write_bytes(numbers.next() as u8, 64 * KIB) };
    }
    live.into_iter().for_each(|block| region.give(block));
    assert_eq!(region.take(64 * KIB), start);
}

#[test]
fn threads_that_free_each_others_blocks_lose_none_and_count_each() {
    const THREADS: usize = 8;
    const ROUNDS: usize = if cfg!(miri) { 100 } else { 20_000 };
    let pools = NodePools::with(NodePoolsConfig::new().pool_size(256 * KIB));
    let nodes = nodes();
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel::<(usize, usize, u64)>()).unzip();
    thread::scope(|scope| {
        for (index, inbox) in receivers.into_iter().enumerate() {
            let (senders, pools, nodes) = (senders.clone(), &pools, &nodes);
            scope.spawn(move || {
                let mut numbers = Numbers::new(index as u64 + 1);
                let give = |(address, size, seed): (usize, usize, u64)| {
                    let block = NonNull::new(std::ptr::with_exposed_provenance_mut::<u8>(address)).unwrap();
                    // SAFETY: the block was sent here, and is this thread's now.
                    unsafe {
                        assert_eq!(pattern::first_difference(block, size, size, seed), None);
                        pools.deallocate_with(block, bytes(size)).unwrap();
                    }
                };
                for round in 0..ROUNDS {
                    let size = if round % 500 == 0 { 300 * KIB } else { numbers.size(8 * KIB) };
                    let node = nodes[numbers.below(nodes.len())];
                    let block = pools.allocate_on(layout(size, 1 << numbers.below(10)), node).unwrap();
                    let seed = numbers.next();
                    // SAFETY: the block is this thread's, and so long.
                    unsafe { pattern::fill(block, size, seed) };
                    let to = &senders[numbers.below(THREADS)];
                    to.send((block.as_ptr().expose_provenance(), size, seed)).unwrap();
                    inbox.try_iter().for_each(give);
                }
                drop(senders);
                inbox.iter().for_each(give);
            });
        }
        drop(senders);
    });
    let stats = pools.stats();
    assert_eq!((stats.allocations, stats.deallocations), ((THREADS * ROUNDS) as u64, (THREADS * ROUNDS) as u64));
    assert_eq!((stats.blocks, stats.bytes, stats.bytes_allocated), (0, 0, stats.bytes_deallocated));
    assert!(stats.regions <= nodes.len());
    assert_eq!(stats.free_bytes, stats.reserved_bytes);
    nodes.iter().for_each(|node| assert_eq!(pools.fragmentation_on(*node), Ok(0.0)));
}

#[test]
fn threads_that_use_pools_first_at_once_all_use_the_same() {
    for _ in 0..200 {
        let pools = NodePools::new();
        let barrier = Barrier::new(4);
        let blocks: Vec<usize> = thread::scope(|scope| {
            let take = || {
                barrier.wait();
                pools.allocate(bytes(64)).unwrap().as_ptr().expose_provenance()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(take)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(pools.stats().allocations, 4);
        for block in blocks {
            let block = NonNull::new(std::ptr::with_exposed_provenance_mut(block)).unwrap();
            // SAFETY: a live block, that ends here.
            unsafe { pools.deallocate(block) }.unwrap();
        }
        assert_eq!(pools.stats().blocks, 0);
    }
}

#[test]
fn all_of_it_holds_in_debug_mode_too() {
    if std::env::var_os("HOMING_DEBUG").is_some() {
        return;
    }
    let output = Command::new(std::env::current_exe().unwrap()).env("HOMING_DEBUG", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
