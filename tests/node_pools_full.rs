//! Node pools over a heap that has no more memory (`pool_limit`): requests are refused at any step, nothing is lost, and
//! what was freed serves again.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;

use homing::{Homing, NodeId, NodePools, NodePoolsConfig, NodePoolsError, Topology};

#[global_allocator]
static OWN: System = System;

const LIMIT: usize = 16 << 20;

static HOMING: Homing = Homing::new().pool_limit(LIMIT);

/// All that pools can have of blocks of that size before they are refused one.
fn fill(pools: &NodePools, node: NodeId, size: usize) -> Vec<NonNull<u8>> {
    let layout = Layout::from_size_align(size, 16).expect("a layout can have that size");
    let mut blocks = Vec::new();
    loop {
        match pools.allocate_on(layout, node) {
            Ok(block) => {
                // SAFETY: the block is so long.
                unsafe { block.write_bytes(1, size) };
                blocks.push(block);
            }
            Err(error) => {
                assert_eq!(error, NodePoolsError::Full { node, size });
                return blocks;
            }
        }
        assert!(blocks.len() * size <= LIMIT, "the heap has a limit");
    }
}

#[test]
fn a_heap_without_memory_is_an_error_that_loses_nothing() {
    // So that the limit is the process's.
    let layout = Layout::new::<u64>();
    // SAFETY: the size is not 0; the block ends here.
    unsafe { HOMING.dealloc(HOMING.alloc(layout), layout) };
    let node = Topology::read().nodes()[0].id();
    for region in [16 << 10, 300 << 10, 1 << 20, 4 << 20] {
        for size in [16, 1000, 100_000, 3 << 20] {
            let pools = NodePools::with(NodePoolsConfig::new().pool_size(region));
            let blocks = fill(&pools, node, size);
            // A third at least, whatever the heap keeps at hand of what was freed before.
            assert!(blocks.len() * size >= LIMIT / 3, "{} blocks of {size} from regions of {region}", blocks.len());
            let full = pools.stats();
            assert_eq!((full.blocks, full.bytes), (blocks.len(), blocks.len() * size.next_multiple_of(16)));
            // Others are refused their first block, and hold nothing. It is so long that a slab which the heap has given
            // back meanwhile makes no room for it.
            let others = NodePools::with(NodePoolsConfig::new().pool_size(region));
            let refused = others.allocate_on(Layout::from_size_align(LIMIT / 4 * 3, 1).unwrap(), node);
            assert!(matches!(refused, Err(NodePoolsError::Full { .. })));
            assert_eq!(others.stats().reserved_bytes, 0);
            // Every other one is freed, and serves again.
            for block in blocks.iter().step_by(2) {
                // SAFETY: a live block, that ends here.
                unsafe { pools.deallocate(*block) }.unwrap();
            }
            let again = fill(&pools, node, size);
            assert!(again.len() >= blocks.len().div_ceil(2), "{} of {} blocks of {size}", again.len(), blocks.len());
            for block in blocks.iter().skip(1).step_by(2).chain(&again) {
                // SAFETY: as above.
                unsafe { pools.deallocate(*block) }.unwrap();
            }
            assert_eq!((pools.stats().bytes, pools.fragmentation()), (0, 0.0));
        }
    }
}
