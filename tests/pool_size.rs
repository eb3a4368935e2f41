//! `Homing::pool_size`: what a pool has obtained it keeps. The test's own memory comes from the system.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

mod common;

use std::alloc::System;

use common::{Held, alone, resident, verbs_of};
use homing::Homing;

#[global_allocator]
static OWN: System = System;

const SIZE: usize = 64 << 20;

static HOMING: Homing = Homing::new().pool_size(SIZE);
verbs_of!(Direct, HOMING);

#[test]
fn what_a_pool_has_obtained_does_not_go_back_when_it_is_first_used() {
    let _alone = alone();
    let first = Held::<Direct>::take(16, 8, 0).expect("there is memory for it");
    let obtained = resident();
    assert!(obtained > SIZE, "{obtained} bytes resident, {:?}", homing::stats());
    // One block of many classes, for which slabs begin.
    let sizes = (4..16).flat_map(|power| (4..8).map(move |quarters| (quarters << power) / 4));
    let blocks: Vec<_> = sizes.map(|size| Held::<Direct>::take(size, 8, 1).expect("there is memory for it")).collect();
    let after = resident();
    assert!(after + (2 << 20) > obtained, "{obtained} bytes resident before its first use, {after} after it");
    drop((first, blocks));
}
