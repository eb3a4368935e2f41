//! Collections in node pools, by the trait of the crate `allocator-api2`.
#![cfg(feature = "allocator-api2")]

use std::alloc::{Layout, System};
use std::process::Command;
use std::ptr::NonNull;

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use homing::{NodePools, NodePoolsConfig, Topology};

#[global_allocator]
static OWN: System = System;

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a layout can have that size")
}

#[test]
fn a_vector_grows_where_it_lies_while_there_is_room_and_keeps_its_contents_when_it_moves() {
    let pools = NodePools::with(NodePoolsConfig::new().pool_size(64 << 10));
    let node = Topology::read().nodes()[0].id();
    let there = pools.on(node).unwrap();
    assert_eq!(there.node(), node);
    let mut numbers = Vec::new_in(there);
    numbers.extend(0..10_u64);
    let start = numbers.as_ptr();
    numbers.extend(10..4000);
    assert_eq!(numbers.as_ptr(), start, "all behind it was free");
    assert_eq!(pools.stats_on(node).unwrap().allocations, 1);
    // Past a region it moves.
    numbers.extend(4000..100_000);
    assert!(numbers.iter().copied().eq(0..100_000));
    let stats = pools.stats_on(node).unwrap();
    assert_eq!((stats.blocks, stats.regions), (1, 2));
    numbers.truncate(5);
    numbers.shrink_to_fit();
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    drop(numbers);
    assert_eq!(pools.stats().bytes, 0);
}

#[test]
fn pools_that_a_collection_owns_go_with_it() {
    let mut words = Vec::new_in(NodePools::new());
    words.extend(["home"; 1000].map(|word| word.to_owned()));
    assert_eq!(words.allocator().stats().blocks, 1);
    let boxed = Box::new_in([1_u8; 300], NodePools::new());
    assert_eq!(Box::allocator(&boxed).stats().bytes, 304);
    let nothing = Vec::<u64, _>::new_in(NodePools::new());
    assert_eq!(nothing.allocator().id(), None);
}

#[test]
fn every_verb_of_the_trait_keeps_contents_alignment_and_zeros() {
    let pools = NodePools::with(NodePoolsConfig::new().pool_size(64 << 10));
    let node = Topology::read().nodes()[0].id();
    let there = pools.on(node).unwrap();
    let sizes = [0, 1, 16, 17, 1000, 40_000, 70_000, 1 << 20];
    // So that old contents lie about.
    let dirt = there.allocate(layout(64 << 10, 1)).unwrap();
    // SAFETY: a live block of that length, that ends here.
    unsafe {
        dirt.cast::<u8>().write_bytes(0xff, 64 << 10);
        there.deallocate(dirt.cast(), layout(64 << 10, 1));
    }
    for old in sizes {
        for new in sizes {
            for (old_align, new_align) in [(1, 1), (8, 64), (4096, 1), (1, 1 << 20)] {
                let (from, to) = (layout(old, old_align), layout(new, new_align));
                let neighbour = there.allocate(layout(32, 1)).unwrap();
                let block = there.allocate_zeroed(from).unwrap();
                assert!(block.len() >= old);
                // SAFETY: each block is live, as long as it says, and ends with the verb that takes it.
                unsafe {
                    let read =
                        |block: NonNull<[u8]>| std::slice::from_raw_parts(block.cast::<u8>().as_ptr(), block.len());
                    assert!(read(block)[..old].iter().all(|byte| *byte == 0));
                    block.cast::<u8>().write_bytes(5, old);
                    let block = match new >= old {
                        true => there.grow_zeroed(block.cast(), from, to).unwrap(),
                        false => there.shrink(block.cast(), from, to).unwrap(),
                    };
                    assert!(block.len() >= new);
                    assert!(block.cast::<u8>().addr().get().is_multiple_of(new_align));
                    let kept = old.min(new);
                    assert!(read(block)[..kept].iter().all(|byte| *byte == 5), "{from:?} {to:?}");
                    assert!(read(block)[kept..new].iter().all(|byte| *byte == 0), "{from:?} {to:?}");
                    there.deallocate(block.cast(), to);
                    there.deallocate(neighbour.cast(), layout(32, 1));
                }
            }
        }
    }
    let stats = pools.stats();
    assert_eq!((stats.blocks, stats.bytes), (0, 0));
    // SAFETY: the size is not 0 only where there was room.
    assert!(there.allocate(layout(1 << 47, 1)).is_err());
}

/// Runs a test of this binary that is ignored otherwise, in a process of its own; gives what it says.
fn said_by(test: &str) -> String {
    let this = std::env::current_exe().expect("this is a program");
    let output = Command::new(this).args(["--exact", test, "--ignored", "--nocapture"]).output().expect("it runs");
    assert!(!output.status.success());
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_collection_that_frees_twice_ends_the_process_with_a_line_that_says_so() {
    let said = said_by("double_free_of_a_collection");
    assert!(said.contains("NodePools::deallocate of 0x") && said.contains("freed already"), "{said}");
    let said = said_by("wrong_layout_of_a_collection");
    assert!(said.contains("said to be 40 bytes long, but this block has 32"), "{said}");
}

#[test]
#[ignore = "ends the process"]
fn double_free_of_a_collection() {
    let pools = NodePools::new();
    let block = pools.on(Topology::read().nodes()[0].id()).unwrap().allocate(layout(10, 1)).unwrap().cast();
    // SAFETY: none: that is what the test is about.
    unsafe {
        Allocator::deallocate(&pools, block, layout(10, 1));
        Allocator::deallocate(&pools, block, layout(10, 1));
    }
}

#[test]
#[ignore = "ends the process"]
fn wrong_layout_of_a_collection() {
    let pools = NodePools::new();
    let block = pools.on(Topology::read().nodes()[0].id()).unwrap().allocate(layout(30, 1)).unwrap().cast();
    // SAFETY: none: that is what the test is about.
    unsafe { Allocator::deallocate(&pools, block, layout(40, 1)) };
}
