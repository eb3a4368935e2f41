//! Node pools: pointers to no live block of theirs, wrong nodes and wrong sizes are told, and nothing is freed. The test's own
//! memory comes from the system, so that the pools' blocks are all that the allocator has.

use std::alloc::{Layout, System};
use std::process::Command;
use std::ptr::NonNull;

use homing::{
    NodeError, NodeId, NodePools, NodePoolsConfig, NodePoolsError, Topology, alloc_on_node, dealloc_from_node,
};

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

fn bytes(size: usize) -> Layout {
    Layout::from_size_align(size, 1).expect("a layout can have that size")
}

#[test]
fn a_block_freed_twice_is_told_whatever_was_joined_with_it_and_wherever_its_region_went() {
    for size in [1, 16, 100, 5000, 64 * KIB, 64 * KIB + 1, MIB, 40 * MIB] {
        let pools = NodePools::with(NodePoolsConfig::new().pool_size(64 * KIB));
        for keep_neighbours in [true, false] {
            let blocks: Vec<_> = (0..3).map(|_| pools.allocate(bytes(size)).unwrap()).collect();
            let before = pools.stats();
            // SAFETY: live blocks, and then one that is not, which is what the test is about.
            unsafe {
                pools.deallocate(blocks[1]).unwrap();
                assert_eq!(pools.deallocate(blocks[1]), Err(NodePoolsError::DoubleFree), "{size} bytes");
                if !keep_neighbours {
                    pools.deallocate(blocks[0]).unwrap();
                    pools.deallocate(blocks[2]).unwrap();
                    for block in &blocks {
                        assert_eq!(pools.deallocate(*block), Err(NodePoolsError::DoubleFree), "{size} bytes");
                        assert_eq!(pools.deallocate_with(*block, bytes(size)), Err(NodePoolsError::DoubleFree));
                        assert_eq!(pools.node_of(*block), Err(NodePoolsError::DoubleFree));
                    }
                }
            }
            let now = pools.stats();
            assert_eq!(now.deallocations - before.deallocations, if keep_neighbours { 1 } else { 3 });
            if keep_neighbours {
                // SAFETY: live blocks.
                unsafe {
                    pools.deallocate(blocks[0]).unwrap();
                    pools.deallocate(blocks[2]).unwrap();
                }
            }
            assert_eq!(pools.stats().bytes, 0);
        }
    }
}

#[test]
fn a_pointer_into_a_block_is_told_with_its_offset_and_the_block_stays() {
    let pools = NodePools::new();
    for size in [2, 16, 17, 100, 5000, 64 * KIB, MIB, MIB + 5, 40 * MIB] {
        let rounded = size.next_multiple_of(16);
        let block = pools.allocate(bytes(size)).unwrap();
        // SAFETY: the block is so long.
        unsafe { block.write_bytes(3, size) };
        for offset in [1, 8, 15, 16, 17, size / 2, size - 1, rounded - 1] {
            if offset == 0 || offset >= rounded {
                continue;
            }
            // SAFETY: within the block.
            let within = unsafe { block.add(offset) };
            let told = NodePoolsError::Interior { offset, size: rounded };
            // SAFETY: nothing is freed.
            assert_eq!(unsafe { pools.deallocate(within) }, Err(told));
            assert_eq!(pools.usable_size(within), Err(told));
        }
        assert_eq!(pools.usable_size(block), Ok(rounded));
        // SAFETY: a live block, that ends here.
        unsafe {
            assert_eq!(block.add(size - 1).read(), 3);
            pools.deallocate(block).unwrap();
        }
    }
}

#[test]
fn pointers_of_others_are_told_and_nothing_is_read_behind_them() {
    let (pools, others) = (NodePools::new(), NodePools::new());
    let node = nodes()[0];
    let local = 5_u64;
    let system = Box::new([0_u8; 5000]);
    let (small, large) = (alloc_on_node(bytes(24), node).unwrap(), alloc_on_node(bytes(5 * MIB), node).unwrap());
    let theirs = others.allocate(bytes(24)).unwrap();
    let their_large = others.allocate(bytes(5 * MIB)).unwrap();
    // Before there is any pool, and with some.
    for round in 0..2 {
        let refused = |pointer: *const u8| {
            // SAFETY: nothing is freed.
            unsafe { pools.deallocate(NonNull::new(pointer.cast_mut()).unwrap()) }.unwrap_err()
        };
        for pointer in [(&raw const local).cast(), system.as_ptr(), nodes as *const u8] {
            let error = refused(pointer);
            // The portable twin cannot ask whether the system has given memory that went back to others since.
            let is_told =
                error == NodePoolsError::Foreign || cfg!(feature = "portable") && error == NodePoolsError::DoubleFree;
            assert!(is_told, "{pointer:p}: {error:?}");
        }
        for made_up in [1, 16, 4096, 1 << 40, (1 << 47) - 1, 1 << 48, 1 << 63, usize::MAX - 15, usize::MAX] {
            assert_eq!(refused(std::ptr::without_provenance(made_up)), NodePoolsError::Foreign, "{made_up:#x}");
        }
        for pointer in [small, large, theirs, their_large] {
            assert_eq!(refused(pointer.as_ptr()), NodePoolsError::NotHere);
            assert_eq!(refused(pointer.as_ptr().wrapping_add(1)), NodePoolsError::NotHere);
        }
        if round == 0 {
            pools.allocate(bytes(24)).unwrap();
        }
    }
    // SAFETY: live blocks, that end here.
    unsafe {
        dealloc_from_node(small, bytes(24), node).unwrap();
        dealloc_from_node(large, bytes(5 * MIB), node).unwrap();
        others.deallocate(theirs).unwrap();
        others.deallocate(their_large).unwrap();
    }
    assert_eq!(pools.stats().deallocations, 0);
    assert_eq!(pools.stats().blocks, 1);
}

#[test]
fn a_wrong_node_or_size_is_told_and_nothing_is_freed() {
    let pools = NodePools::new();
    let nodes = nodes();
    let elsewhere = nodes.get(1).copied().unwrap_or(NodeId::new(9));
    for (actual, said) in [(nodes[0], elsewhere), (*nodes.last().unwrap(), NodeId::new(u16::MAX))] {
        for size in [1, 1000, 3 * MIB] {
            let block = pools.allocate_on(bytes(size), actual).unwrap();
            let rounded = size.next_multiple_of(16);
            // SAFETY: a live block, freed by the last of these alone.
            unsafe {
                let wrong = NodePoolsError::WrongNode { said, actual };
                assert_eq!(pools.deallocate_from_node(block, said), Err(wrong));
                for said in [0, rounded + 1, 4 * MIB, isize::MAX as usize] {
                    // What nothing is asked for with has a block of 16 bytes too.
                    if said == 0 && rounded == 16 {
                        continue;
                    }
                    let wrong = NodePoolsError::WrongSize { said, actual: rounded };
                    assert_eq!(pools.deallocate_with(block, bytes(said)), Err(wrong));
                }
                assert_eq!(pools.node_of(block), Ok(actual));
                assert_eq!(pools.deallocate_from_node(block, actual), Ok(()));
                assert_eq!(pools.deallocate_from_node(block, actual), Err(NodePoolsError::DoubleFree));
            }
        }
    }
}

#[test]
fn a_node_that_is_not_there_is_an_error_that_says_so() {
    let pools = NodePools::new();
    let (node, wrong) = (NodeId::new(1000), NodeError::NoSuchNode(NodeId::new(1000)));
    assert_eq!(pools.allocate_on(bytes(1), node), Err(NodePoolsError::Node(wrong)));
    assert_eq!(pools.stats_on(node), Err(wrong));
    assert_eq!(pools.fragmentation_on(node), Err(wrong));
    assert_eq!(pools.on(node).err(), Some(wrong));
    assert_eq!(pools.id(), None, "nothing was obtained");
    let text = NodePoolsError::from(wrong).to_string();
    assert!(text.contains("no node 1000"), "{text}");
}

#[test]
fn errors_say_what_happened_to_what_and_what_to_do() {
    let node = NodeId::new(3);
    let told = [
        (NodePoolsError::WrongNode { said: node, actual: NodeId::new(4) }, "node 4, not of node 3"),
        (NodePoolsError::WrongSize { said: 7, actual: 32 }, "7 bytes long, but this block has 32"),
        (NodePoolsError::DoubleFree, "freed already"),
        (NodePoolsError::Interior { offset: 5, size: 48 }, "5 bytes within a block of 48 bytes"),
        (NodePoolsError::Foreign, "not allocated by homing"),
        (NodePoolsError::NotHere, "not of these pools"),
        (NodePoolsError::Full { node, size: 77 }, "node 3 has no room for 77 bytes"),
        (NodePoolsError::Reentered { node }, "in the middle of an operation on the pool of node 3"),
    ];
    for (error, text) in told {
        assert!(error.to_string().contains(text), "{error}");
        assert!(std::error::Error::source(&error).is_none());
    }
    let error = NodePoolsError::from(NodeError::WithoutMemory(node));
    assert_eq!(std::error::Error::source(&error).unwrap().to_string(), error.to_string());
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
