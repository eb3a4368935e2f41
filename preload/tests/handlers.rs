//! Handlers of signals that allocate. One that interrupts a fast path has no right to (POSIX lists what handlers may
//! call, and README.md says so); those that interrupt a slow path, or anything else of the program, are served. Where
//! every operation takes the slow path, they are served wherever they come.

mod support;

use support::{compiled, preloaded, run};

#[cfg(target_arch = "x86_64")]
#[test]
fn handlers_that_allocate_in_the_middle_of_slow_paths_are_served() {
    for (delay, zero) in [("0", "off"), ("1s", "off"), ("0", "free")] {
        let mut command = preloaded(compiled("handlers.c", &[]));
        command.arg("in-the-middle").env("HOMING_PURGE_DELAY", delay).env("HOMING_ZERO", zero);
        let outcome = run(&mut command).silent();
        assert!(outcome.number("alone") > 20 && outcome.number("interrupted") > 60, "{outcome:?}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn handlers_that_allocate_between_a_program_s_own_operations_are_served() {
    run(preloaded(compiled("handlers.c", &[])).arg("outside")).silent();
}

#[cfg(target_arch = "x86_64")]
#[test]
fn handlers_that_allocate_at_any_instruction_are_served_where_every_operation_takes_the_slow_path() {
    for (setting, value) in [("HOMING_ZERO", "alloc"), ("HOMING_ZERO", "free"), ("HOMING_DEBUG", "1")] {
        run(preloaded(compiled("handlers.c", &[])).arg("anywhere").env(setting, value)).silent();
    }
}
