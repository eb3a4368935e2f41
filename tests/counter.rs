//! A program that forbids itself the processor's counter, by which timers are spared the clock.
#![cfg(all(target_os = "linux", target_arch = "x86_64", not(feature = "portable")))]

mod common;

use std::alloc::System;

use common::{Held, verbs_of};
use homing::Homing;

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();
verbs_of!(Direct, HOMING);

#[test]
fn a_thread_that_may_not_read_the_counter_is_served_on_a_machine_with_one_node() {
    if homing::Topology::read().nodes().len() > 1 {
        return eprintln!("skipped: this machine has more than one node");
    }
    let thread = std::thread::spawn(|| {
        // SAFETY: no preconditions; it is this thread's alone.
        assert_eq!(unsafe { libc::prctl(libc::PR_SET_TSC, libc::PR_TSC_SIGSEGV) }, 0);
        for _ in 0..200 {
            let live: Vec<_> = (0..1000).map(|_| Held::<Direct>::take(1000, 8, 1)).collect();
            drop(live);
        }
    });
    thread.join().expect("it came to its end");
}
