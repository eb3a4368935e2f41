//! What only the inside can show.

use super::*;
use crate::address_map::{GRANULE, Part};
use crate::os;

fn bytes(size: usize) -> Layout {
    Layout::from_size_align(size, 1).expect("a layout can have that size")
}

#[test]
fn a_handler_on_top_of_an_operation_is_refused_at_once_and_changes_nothing() {
    let pools = NodePools::new();
    let node = placement::home_node().expect("memory is not spread here");
    let block = pools.allocate_on(bytes(100), node).unwrap();
    let reentered = NodePoolsError::Reentered { node };
    let index = topology::machine().find(node).unwrap();
    let held = pools.made_pool(index).unwrap().hold().unwrap();
    // What a handler would do on top of whoever holds the pool.
    assert_eq!(pools.allocate_on(bytes(1), node), Err(reentered));
    assert_eq!(pools.allocate_zeroed_on(bytes(5 << 20), node), Err(reentered));
    assert_eq!(pools.node_of(block), Err(reentered));
    assert_eq!(pools.usable_size(block), Err(reentered));
    // SAFETY: nothing is freed, and nothing of the block is used.
    unsafe {
        assert_eq!(pools.deallocate(block), Err(reentered));
        assert_eq!(pools.deallocate_from_node(block, node), Err(reentered));
        assert_eq!(pools.resize_in_place(block, 1), Err(reentered));
    }
    assert_eq!(pools.trim(), 0);
    assert_eq!((pools.stats().allocations, pools.stats().blocks), (1, 1));
    assert_eq!(pools.stats_on(node).unwrap().bytes, 112);
    // Other threads wait, and are served.
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| pools.allocate_on(bytes(1), node).is_ok());
        drop(held);
        assert!(waits.join().unwrap());
    });
    // SAFETY: a live block, that ends here.
    unsafe { pools.deallocate(block) }.unwrap();
}

#[test]
fn a_block_whose_address_tells_no_node_is_found_in_whichever_pool_it_is_of() {
    let pools = NodePools::new();
    let block = pools.allocate(bytes(100)).unwrap();
    // As where memory lies where it is first touched, and there are several nodes.
    let owned = pools.look_elsewhere(block, None, Known::No, Look::AtMap).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(owned.size, 112);
    drop(owned);
    let index = topology::machine().find(pools.node_of(block).unwrap());
    assert_eq!(pools.look_elsewhere(block, index, Known::Gone, Look::AtMap).err(), Some(NodePoolsError::DoubleFree));
    assert_eq!(pools.look_elsewhere(block, index, Known::No, Look::AtMap).err(), Some(NodePoolsError::NotHere));
}

#[test]
fn a_safe_look_reads_nothing_behind_a_pointer_into_memory_that_another_thread_gives_back() {
    let pools = NodePools::new();
    let node = placement::home_node().expect("memory is not spread here");
    let block = pools.allocate_on(bytes(100), node).unwrap();
    // As when its memory went back between a look at the map and one at the headers: the map says that there are some,
    // but nothing can be read.
    let range = address_map::map(Part::FirstTouch(NodeIndex::FIRST), 0, GRANULE).unwrap();
    let start = range.start;
    // SAFETY: just mapped, and nobody's.
    unsafe { os::forbid(start, GRANULE) };
    range.show_headers(false);
    for offset in [0, 16, 64 << 10, 68 << 10, 1 << 20, GRANULE - 1] {
        // SAFETY: within the range.
        let within = unsafe { start.add(offset) };
        assert_eq!(pools.usable_size(within), Err(NodePoolsError::NotHere));
        assert_eq!(pools.node_of(within), Err(NodePoolsError::NotHere));
        // SAFETY: nothing is resized.
        assert_eq!(unsafe { pools.resize_in_place(within, 1) }, Err(NodePoolsError::NotHere));
    }
    // SAFETY: mapped above, and nobody's.
    unsafe { range.unmap() };
    for made_up in [16, 4096, usize::MAX] {
        let pointer = NonNull::new(core::ptr::without_provenance_mut(made_up)).unwrap();
        assert_eq!(pools.usable_size(pointer), Err(NodePoolsError::Foreign), "{made_up:#x}");
    }
    let others = NodePools::new();
    let theirs = others.allocate_on(bytes(100), node).unwrap();
    assert_eq!(pools.usable_size(theirs), Err(NodePoolsError::NotHere));
    // SAFETY: live blocks, that end here.
    unsafe {
        others.deallocate(theirs).unwrap();
        pools.deallocate(block).unwrap();
    }
}

#[test]
fn what_a_block_with_a_region_of_its_own_costs_does_not_grow_with_the_number_of_regions() {
    // Looks at the tree of regions for each block that comes and goes, where there are so many others.
    let looks = |others: usize| {
        let pools = NodePools::with(NodePoolsConfig::new().pool_size(4 << 10));
        let node = placement::home_node().expect("memory is not spread here");
        let take = || pools.allocate_on(bytes(4097), node).unwrap();
        // SAFETY: what is passed is a live block, that ends there.
        let give = |block| unsafe { pools.deallocate(block) }.unwrap();
        let mut all: Vec<_> = (0..others).map(|_| take()).collect();
        let index = topology::machine().find(node).unwrap();
        let sum = || pools.made_pool(index).unwrap().hold().unwrap().looks();
        let before = sum();
        // From all over the memory that they have.
        for block in all.iter_mut().step_by(others / 500) {
            give(*block);
            *block = take();
        }
        let looks = (sum() - before) / 500;
        all.into_iter().for_each(give);
        looks
    };
    let (few, many) = (looks(1000), looks(20_000));
    assert!(few < 300 && many < 2 * few, "{few} looks with 1,000 regions, {many} with 20,000");
}
