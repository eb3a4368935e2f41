//! Node pools that are dropped give all back. A test of the whole process's figures, so it is alone in its binary; its own
//! memory comes from the system.

use std::alloc::{Layout, System};

use homing::{NodePools, NodePoolsConfig};

#[global_allocator]
static OWN: System = System;

const KIB: usize = 1 << 10;

#[test]
fn pools_made_and_dropped_ten_thousand_times_leave_nothing_behind() {
    let round = || {
        let pools = NodePools::with(NodePoolsConfig::new().pool_size(64 * KIB));
        // They go with the pools, whether they were freed or not.
        for size in [10, 1000, 70_000] {
            pools.allocate(Layout::from_size_align(size, 8).unwrap()).unwrap();
        }
    };
    // More than the quarantine of the debug mode holds.
    (0..3000).for_each(|_| round());
    let before = homing::stats().used;
    (0..10_000).for_each(|_| round());
    let after = homing::stats().used;
    assert!(after <= before + (64 << 10), "{before} bytes were used before, {after} after");
}
