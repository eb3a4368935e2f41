//! A program that keeps its memory locked (`mlockall`): the kernel refuses to drop the contents of its pages.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

mod common;

use std::alloc::System;

use common::{Held, SIZES, verbs_of};
use homing::{Homing, entry};

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();
verbs_of!(Direct, HOMING);

#[test]
fn zeroed_memory_is_zero_where_the_kernel_drops_no_pages() {
    drop(Held::<Direct>::take(100, 8, 1));
    // SAFETY: no preconditions; pages are locked as they are touched.
    if unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) } != 0 {
        return eprintln!("skipped: this user may not lock memory");
    }
    for _ in 0..3 {
        for zeroed in [false, true] {
            let take = if zeroed { Held::<Direct>::take_zeroed } else { Held::<Direct>::take };
            for size in SIZES {
                drop(take(size, 8, 2).expect("there is memory for it"));
            }
            let live: Vec<_> = SIZES.iter().map(|size| take(*size, 8, 3).expect("there is memory for it")).collect();
            drop(live);
            entry::trim();
        }
    }
    // SAFETY: no preconditions.
    unsafe { libc::munlockall() };
}
