//! What is noticed without the debug mode: one line that names the pointer and where it leads, and the process is aborted.
//! The programs are those of `c/faulty.c`.

mod support;

use support::{FOREIGN, Outcome, compiled, preloaded, run};

const MIB: usize = 1 << 20;
/// Of slabs; of a run; of a mapping; of one of several granules.
const SMALL: &[usize] = &[24, 1000, 20_000, 65_536];
const LARGE: &[usize] = &[70_000, 300_000, 5 * MIB, 40 * MIB];
const HUGE: &[usize] = &[40 * MIB, 100 * MIB];
const ANY: &[usize] = &[100];

/// What a program was seen to do wrong, or what the line lacks.
fn complaint(outcome: &Outcome, kinds: &[&str], place: &[&str]) -> Option<String> {
    let said = |name: &str| {
        let mut words = outcome.out.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse::<i64>().ok())
    };
    let pointer = said("pointer").or(said("block")).expect("the program names a pointer");
    if outcome.signal != Some(libc::SIGABRT) {
        return Some("not aborted".to_owned());
    }
    let [line] = outcome.lines()[..] else { return Some("not one line".to_owned()) };
    if !line.starts_with("homing: ") || !line.contains(&format!(" {pointer:#x}: ")) || !line.ends_with("; aborting") {
        return Some(format!("the line does not name {pointer:#x}"));
    }
    if !kinds.iter().any(|kind| line.contains(kind)) {
        return Some(format!("the line does not say {kinds:?}"));
    }
    let names_place = place.is_empty() || place.iter().any(|place| line.contains(place));
    (!names_place).then(|| format!("the line does not say that it leads to {place:?}"))
}

/// Runs each program with each size.
#[track_caller]
fn noticed(kinds: &[&str], place: &[&str], cases: &[(&str, &[usize])]) {
    let program = compiled("faulty.c", &[]);
    let all = cases.iter().flat_map(|(name, sizes)| sizes.iter().map(move |size| (name, size)));
    let wrong: Vec<_> = all
        .filter_map(|(name, size)| {
            let outcome = run(preloaded(&program).arg(name).arg(size.to_string()));
            let complaint = complaint(&outcome, kinds, place)?;
            Some(format!("{name} {size}: {complaint}: {outcome:?}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn freeing_a_small_block_twice_at_once_names_its_size_class_and_node() {
    noticed(
        &["(double free)"],
        &["; size class "],
        &[
            ("double_free", SMALL),
            ("double_free_of_calloc", SMALL),
            ("double_free_of_realloc", &[24, 1000]),
            ("double_free_of_strdup", &[24, 1000]),
            ("double_free_aligned_64", &[24, 1000]),
            ("double_free_in_a_child", SMALL),
            ("double_free_in_a_handler", SMALL),
        ],
    );
    let outcome = run(preloaded(compiled("faulty.c", &[])).args(["double_free", "1000"]));
    assert!(outcome.only_line().contains("; size class 1.0 KiB, node "), "{outcome:?}");
}

#[test]
fn freeing_a_small_block_then_another_then_it_again_is_noticed() {
    noticed(&["(double free)"], &["; size class "], &[("double_free_around_another", &[24, 100, 1000, 5000, 20_000])]);
}

#[test]
fn freeing_a_block_again_that_waits_to_be_handed_out_is_noticed_once_its_slab_is_free() {
    noticed(&["(double free)"], &["; size class "], &[("double_free_of_one_that_waits", &[20_000, 60_000])]);
}

#[test]
fn freeing_a_block_again_whose_pages_have_gone_back_is_noticed() {
    noticed(&["(double free)"], &["; size class "], &[("double_free_around_a_trim", &[24, 100, 1000, 5000, 20_000])]);
}

/// But for multiples of 16, at which blocks can begin.
#[test]
fn pointers_into_small_blocks_that_no_block_can_begin_at_are_noticed() {
    noticed(
        &["(interior pointer)"],
        &[],
        &[
            ("interior_1", SMALL),
            ("interior_8", SMALL),
            ("interior_1_realloc", SMALL),
            ("interior_1_usable_size", SMALL),
        ],
    );
}

/// The memory may be nobody's by then.
#[test]
fn freeing_a_large_block_twice_is_noticed_whoever_freed_it() {
    noticed(
        &["(double free)"],
        &[],
        &[
            ("double_free", LARGE),
            ("double_free_by_another_thread", LARGE),
            ("double_free_of_anothers_block", LARGE),
            ("double_free_in_two_threads", LARGE),
            ("double_free_after_realloc_to_nothing", LARGE),
            ("double_free_of_calloc", LARGE),
            ("double_free_aligned_65536", LARGE),
            ("double_free_aligned_mib", LARGE),
            ("double_free_in_a_handler", LARGE),
            ("realloc_after_free", LARGE),
            ("usable_size_after_free", LARGE),
        ],
    );
}

#[test]
fn pointers_into_large_blocks_are_noticed() {
    noticed(
        &["(interior pointer)"],
        &[],
        &[
            ("interior_1", LARGE),
            ("interior_8", LARGE),
            ("interior_16", LARGE),
            ("interior_middle", LARGE),
            ("interior_last", LARGE),
            ("interior_of_second_granule", HUGE),
            ("interior_over_the_header", HUGE),
            ("interior_over_the_header_moved", HUGE),
            ("interior_aligned", LARGE),
            ("interior_far", LARGE),
            ("interior_by_another_thread", LARGE),
            ("interior_realloc", LARGE),
            ("interior_usable_size", LARGE),
        ],
    );
}

#[test]
fn pointers_that_are_not_the_allocators_are_noticed() {
    noticed(&["(foreign pointer)"], &[], &FOREIGN.map(|case| (case, ANY)));
}

#[test]
fn pointers_into_addresses_that_were_never_used_are_noticed() {
    const FAR: &[usize] = &[32 * MIB, 64 * MIB, 96 * MIB, 1 << 30, 100 << 30, 1 << 40, 5 << 40];
    noticed(
        &["(foreign pointer)"],
        &[],
        &[
            ("foreign_far_behind", FAR),
            ("foreign_far_before", FAR),
            ("foreign_far_behind_realloc", FAR),
            ("foreign_far_before_usable_size", FAR),
        ],
    );
}

#[test]
fn what_others_have_mapped_where_a_block_was_is_not_told_as_freed_twice() {
    noticed(&["(foreign pointer)"], &[], &[("foreign_mapped_later", &[40 * MIB, 100 * MIB])]);
}

#[test]
fn pointers_are_noticed_in_little_address_space_too() {
    let program = compiled("faulty.c", &[]);
    for (case, size, kind) in [
        ("foreign_mapped", 100, "(foreign pointer)"),
        ("foreign_stack", 100, "(foreign pointer)"),
        ("interior_middle", 300_000, "(interior pointer)"),
        ("interior_middle", 5 * MIB, "(interior pointer)"),
        ("interior_of_second_granule", 40 * MIB, "(interior pointer)"),
        ("double_free", 24, "(double free)"),
        ("double_free", 300_000, "(double free)"),
    ] {
        let text = format!("ulimit -v 600000; exec {} {case} {size}", program.display());
        for mode in ["0", "1"] {
            let outcome = run(preloaded("/bin/sh").args(["-c", &text]).env("HOMING_DEBUG", mode));
            assert_eq!(outcome.signal, Some(libc::SIGABRT), "{case} {size}: {outcome:?}");
            assert!(outcome.lines()[0].contains(kind), "{case} {size} with HOMING_DEBUG={mode}: {outcome:?}");
        }
    }
}

/// The first block of a list, by what stands there then. By zeros only where other blocks of the slab are free too: else a
/// zero is what stands there anyway.
#[test]
fn links_that_were_written_over_are_noticed_before_they_lead_anywhere() {
    const SIZES: &[usize] = &[24, 200, 1000, 5000, 20_000];
    noticed(
        &["a free block was written to at "],
        &["; size class "],
        &[
            ("corrupted_by_garbage", SIZES),
            ("corrupted_by_text", SIZES),
            ("corrupted_by_zero", &[24, 200]),
            ("corrupted_by_a_stack_pointer", SIZES),
            ("corrupted_by_a_far_block", SIZES),
            ("corrupted_garbage_elsewhere", SIZES),
            ("corrupted_stack_elsewhere", SIZES),
        ],
    );
}
