//! What breaks allocators under real programs.

mod support;

use support::{Outcome, compiled, preloaded, run};

fn hazard(arguments: &[&str]) -> Outcome {
    run(preloaded(compiled("hazards.c", &[])).args(arguments))
}

#[track_caller]
fn aborted_with_one_line_that_names_the_pointer(arguments: &[&str]) {
    let outcome = hazard(arguments);
    assert_eq!(outcome.signal, Some(libc::SIGABRT), "{arguments:?}: {outcome:?}");
    let pointer = format!("{:#x}", outcome.number("pointer"));
    let line = outcome.only_line();
    assert!(line.starts_with("homing: ") && line.contains(&format!("{pointer}:")), "{arguments:?}: {pointer}: {line}");
}

#[test]
fn a_double_free_of_a_small_block_aborts() {
    for size in ["8", "100", "1000"] {
        aborted_with_one_line_that_names_the_pointer(&["double-free", size]);
    }
}

/// Carved one at a time, so that the first free empties the slab.
#[test]
fn a_double_free_of_the_only_block_of_its_slab_aborts() {
    for size in ["3000", "20000", "65536"] {
        aborted_with_one_line_that_names_the_pointer(&["double-free", size]);
    }
}

#[test]
fn a_double_free_of_the_last_block_of_its_slab_aborts() {
    for size in ["1900", "3000", "20000"] {
        aborted_with_one_line_that_names_the_pointer(&["double-free-of-two", size]);
    }
}

#[test]
fn a_double_free_by_another_thread_aborts() {
    for size in ["8", "100", "102400", "5242880"] {
        aborted_with_one_line_that_names_the_pointer(&["double-free-elsewhere", size]);
    }
}

#[test]
fn a_double_free_that_was_missed_ends_in_a_line_and_not_in_a_walk_without_end() {
    let outcome = hazard(&["late-double-free"]);
    assert_eq!(outcome.signal, Some(libc::SIGABRT), "{outcome:?}");
    assert!(outcome.only_line().contains("(double free)"), "{outcome:?}");
}

#[test]
fn a_double_free_of_a_run_aborts() {
    for size in ["102400", "2000000"] {
        aborted_with_one_line_that_names_the_pointer(&["double-free", size]);
    }
}

#[test]
fn a_double_free_of_a_mapping_aborts() {
    aborted_with_one_line_that_names_the_pointer(&["double-free", "5242880"]);
}

#[test]
fn a_double_free_of_a_large_mapping_aborts() {
    aborted_with_one_line_that_names_the_pointer(&["double-free", "104857600"]);
}

#[test]
fn freeing_a_pointer_that_is_no_block_aborts() {
    for which in ["stack", "static", "low", "inside-run", "inside-mapping"] {
        aborted_with_one_line_that_names_the_pointer(&["foreign", which]);
    }
    let outcome = hazard(&["foreign", "high"]);
    assert_eq!(outcome.signal, Some(libc::SIGABRT), "{outcome:?}");
    assert!(outcome.only_line().contains("0xffff800000000000:"), "{outcome:?}");
}

#[test]
fn blocks_freed_by_another_thread_go_home_whole() {
    hazard(&["other-thread"]).silent();
}

#[test]
fn a_program_in_little_address_space_goes_on_after_null() {
    let text = format!("ulimit -v 400000; exec {} little-room", compiled("hazards.c", &[]).display());
    let outcome = run(preloaded("/bin/sh").args(["-c", &text])).silent();
    // 200 MB at least of the 400 that there are.
    assert!(outcome.number("pieces") >= 2000, "{outcome:?}");
}

#[test]
fn a_large_block_is_served_in_little_address_space_once_small_ones_are_free() {
    let text = format!("ulimit -v 400000; exec {} little-room-large", compiled("hazards.c", &[]).display());
    run(preloaded("/bin/sh").args(["-c", &text])).silent();
}

#[test]
fn where_no_memory_is_left_all_that_is_freed_can_be_had_again() {
    let program = compiled("exhausted.c", &["-pthread"]);
    let limits =
        [("HOMING_STATS", "off"), ("HOMING_DEBUG", "1"), ("HOMING_ZERO", "free"), ("HOMING_POOL_LIMIT", "48M")];
    for what in ["one-at-a-time", "many-at-once", "of-threads-that-ended"] {
        for size in if what == "of-threads-that-ended" { &["64"][..] } else { &["64", "528", "3000", "20000"][..] } {
            for setting in limits {
                let text = format!("ulimit -v 300000; exec {} {what} {size}", program.display());
                run(preloaded("/bin/sh").args(["-c", &text]).envs([setting, ("HOMING_OVERFLOW", "fail")])).silent();
            }
        }
    }
}
