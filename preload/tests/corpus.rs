//! Faulty programs of known kinds, under the debug mode: each is noticed, and the report names what is wrong, with which
//! block, and where that was allocated and freed. The programs are `c/faulty.c` and `c/faulty.cpp`.

mod support;

use std::path::PathBuf;

use support::{FOREIGN, Outcome, compiled, preloaded, run};

const MIB: usize = 1 << 20;
/// Blocks of slabs and of mappings; the last has more than one granule.
const SIZES: &[usize] = &[24, 1000, 20_000, 65_536, 300_000, 40 * MIB];
/// Blocks of slabs, whose memory stays where it is.
const SMALL: &[usize] = &[24, 1000, 20_000];
/// Blocks of which many wait in the quarantine together.
const FEW_MIB: &[usize] = &[24, 1000, 20_000, 65_536, 300_000];
const HUGE: &[usize] = &[40 * MIB];
/// The program's own size.
const ANY: &[usize] = &[100];

/// How much a report can tell.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The block, its size, and who allocated it and where.
    Block,
    /// There is no block: the line says so, and where the pointer was freed.
    Pointer,
    /// What is kept about the block is gone.
    Address,
}

use Known::{Address, Block, Pointer};

/// A program of the corpus, run.
struct Case {
    program: PathBuf,
    name: &'static str,
    size: usize,
    outcome: Outcome,
}

impl Case {
    fn run(source: &str, name: &'static str, size: usize, mode: &str) -> Self {
        let options: &[&str] = if source.ends_with(".cpp") { &["-std=c++17"] } else { &[] };
        let program = compiled(source, options);
        let outcome = run(preloaded(&program).arg(name).arg(size.to_string()).env("HOMING_DEBUG", mode));
        Case { program, name, size, outcome }
    }

    /// The number after `<name>=` on standard output, if it is there.
    fn said(&self, name: &str) -> Option<i64> {
        let mut words = self.outcome.out.split_whitespace();
        words.find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    }

    /// What the report lacks.
    fn complaint(&self, kind: &str, known: Known) -> Option<String> {
        let lines = self.outcome.lines();
        let Some(first) = lines.first() else { return Some("nothing was reported".to_owned()) };
        let pointer = self.said("pointer").or(self.said("block")).expect("the program names a pointer");
        if self.outcome.signal != Some(libc::SIGABRT) {
            return Some("not aborted".to_owned());
        }
        if !first.starts_with("homing: ") || !first.contains(&format!("({kind})")) {
            return Some(format!("the first line does not say {kind}"));
        }
        if !first.contains(&format!(" {pointer:#x}:")) {
            return Some(format!("the first line does not name {pointer:#x}"));
        }
        match known {
            Address => None,
            Pointer => self.lacks_stack("freed now", None).and_then(|_| self.lacks_stack("used now", None)),
            Block => {
                let (block, size) = (self.said("block").unwrap_or(0), self.said("size").unwrap_or(0));
                if !first.contains(&format!("; block {block:#x} of {size} bytes ")) {
                    return Some(format!("the first line does not name the block {block:#x} of {size} bytes"));
                }
                if size < 60_000 && !first.contains("mapping of") && !first.contains(", node ") {
                    return Some("the first line does not name the node".to_owned());
                }
                let freed = self.said("freed");
                self.lacks_stack("allocated", self.said("allocated"))
                    .or_else(|| freed.and_then(|freed| self.lacks_stack("freed", Some(freed))))
            }
        }
    }

    /// What is wrong with the stack of what was done: it is to name the thread and a place in the program.
    fn lacks_stack(&self, what: &str, thread: Option<i64>) -> Option<String> {
        let head = format!("  {what} by thread {}", thread.map_or(String::new(), |thread| format!("{thread} at")));
        let mut lines = self.outcome.lines().into_iter().skip_while(|line| !line.starts_with(&head));
        if lines.next().is_none() {
            return Some(format!("no line begins with {head:?}"));
        }
        let program = format!(" {}+0x", self.program.display());
        let stands = lines.take_while(|line| line.starts_with("    ")).any(|line| line.contains(&program));
        (!stands).then(|| format!("no call below {head:?} stands in the program"))
    }

    fn report(&self, complaint: &str) -> String {
        format!("{} {}: {complaint}:\n{}{}", self.name, self.size, self.outcome.out, self.outcome.err)
    }
}

/// Runs each program with each size; all reports must be as they should.
#[track_caller]
fn noticed(source: &str, kind: &str, known: Known, cases: &[(&'static str, &[usize])]) {
    let all = cases.iter().flat_map(|(name, sizes)| sizes.iter().map(|size| (*name, *size)));
    let wrong: Vec<_> = all
        .filter_map(|(name, size)| {
            let case = Case::run(source, name, size, "1");
            case.complaint(kind, known).map(|complaint| case.report(&complaint))
        })
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same for leaks, which end nothing.
#[track_caller]
fn leaks_noticed(source: &str, cases: &[(&'static str, &[usize])]) {
    for (name, size) in cases.iter().flat_map(|(name, sizes)| sizes.iter().map(|size| (*name, *size))) {
        let case = Case::run(source, name, size, "leaks");
        assert_eq!(case.outcome.status, Some(0), "{}", case.report("leaks end no program"));
        let block = case.said("block").expect("the program names a block");
        let told = case.outcome.lines().iter().any(|line| {
            line.starts_with("homing: leak of ")
                && line.ends_with(&format!(
                    "{}, one at {block:#x}",
                    if line.contains(" in 1 block,") { "block" } else { "blocks" }
                ))
        });
        // Blocks that were allocated at one place are told together, and any of them is named.
        let alike = name.contains("list") && case.outcome.err.contains(" in 10 blocks, one at ");
        assert!(told || alike, "{}", case.report("the block is not told"));
        assert_eq!(case.lacks_stack("allocated", case.said("allocated")), None, "{}", case.report("no stack"));
        // And a program without that mode says nothing of it.
        let quiet = Case::run(source, name, size, "1");
        assert_eq!((quiet.outcome.status, &*quiet.outcome.err), (Some(0), ""), "{}", quiet.report("not silent"));
    }
}

#[test]
fn every_double_free_is_noticed() {
    noticed(
        "faulty.c",
        "double free",
        Block,
        &[
            ("double_free", SIZES),
            ("double_free_after_others", FEW_MIB),
            ("double_free_by_another_thread", SIZES),
            ("double_free_of_anothers_block", SIZES),
            ("double_free_in_two_threads", SIZES),
            ("double_free_after_realloc_moved", FEW_MIB),
            ("double_free_after_realloc_to_nothing", SIZES),
            ("double_free_of_calloc", SIZES),
            ("double_free_of_realloc", SIZES),
            ("double_free_aligned_64", SIZES),
            ("double_free_aligned_4096", SIZES),
            ("double_free_aligned_65536", SIZES),
            ("double_free_aligned_mib", SIZES),
            ("double_free_of_strdup", SIZES),
            ("double_free_in_a_child", SIZES),
            ("double_free_in_a_handler", SIZES),
            ("double_free_long_after", SMALL),
        ],
    );
}

#[test]
fn every_use_of_a_freed_block_by_the_allocator_s_verbs_is_noticed() {
    noticed("faulty.c", "double free", Block, &[("realloc_after_free", SIZES), ("usable_size_after_free", SIZES)]);
}

#[test]
fn every_pointer_into_a_block_is_noticed() {
    noticed(
        "faulty.c",
        "interior pointer",
        Block,
        &[
            ("interior_1", SIZES),
            ("interior_8", SIZES),
            ("interior_16", SIZES),
            ("interior_middle", SIZES),
            ("interior_last", SIZES),
            ("interior_of_second_granule", HUGE),
            ("interior_over_the_header", HUGE),
            ("interior_over_the_header_moved", HUGE),
            ("interior_aligned", SIZES),
            ("interior_far", SIZES),
            ("interior_by_another_thread", SIZES),
            ("interior_realloc", SIZES),
            ("interior_usable_size", SIZES),
        ],
    );
}

#[test]
fn the_place_of_a_pointer_within_a_block_is_told_from_the_user_s_first_byte() {
    let huge = 40 * MIB;
    for (name, size, offset) in [
        ("interior_16", 24, 16),
        ("interior_last", 300_000, 299_999),
        ("interior_middle", huge, 20 * MIB),
        ("interior_of_second_granule", huge, 33 * MIB),
        ("interior_far", huge, huge - 1),
    ] {
        let case = Case::run("faulty.c", name, size, "1");
        let wanted = format!(" lies {offset} bytes within a block of {size} bytes,");
        assert!(case.outcome.err.contains(&wanted), "{}", case.report(&wanted));
    }
}

#[test]
fn every_pointer_that_is_no_block_is_noticed() {
    noticed("faulty.c", "foreign pointer", Pointer, &FOREIGN.map(|case| (case, ANY)));
    const FAR: &[usize] = &[64 << 20, 1 << 40];
    noticed("faulty.c", "foreign pointer", Pointer, &[("foreign_far_behind", FAR), ("foreign_far_before", FAR)]);
}

#[test]
fn every_pointer_beside_a_block_is_noticed() {
    noticed(
        "faulty.c",
        "foreign pointer",
        Block,
        &[("foreign_past_the_end", SIZES), ("foreign_before_the_start", SIZES)],
    );
}

#[test]
fn every_wrong_size_is_noticed() {
    noticed(
        "faulty.c",
        "wrong size",
        Block,
        &[
            ("wrong_size_more", SIZES),
            ("wrong_size_less", SIZES),
            ("wrong_size_nothing", SIZES),
            ("wrong_size_aligned", SIZES),
            ("wrong_size_of_before", SIZES),
        ],
    );
}

#[test]
fn every_wrong_alignment_is_noticed() {
    noticed("faulty.c", "wrong alignment", Block, &[("wrong_alignment_more", SIZES), ("wrong_alignment_less", SIZES)]);
}

#[test]
fn every_write_behind_a_block_is_noticed() {
    noticed(
        "faulty.c",
        "overrun",
        Block,
        &[
            ("overrun_by_one", SIZES),
            ("overrun_by_16", SIZES),
            ("overrun_by_only_the_16th", SIZES),
            ("overrun_by_a_terminator", SIZES),
            ("overrun_in_a_memset", SIZES),
            ("overrun_over_the_neighbours", SIZES),
            ("overrun_never_freed", SIZES),
            ("overrun_found_by_realloc", SIZES),
            ("overrun_of_calloc", SIZES),
            ("overrun_of_aligned", SIZES),
            ("overrun_by_another_thread", SIZES),
            ("overrun_of_usable_size", SIZES),
            ("overrun_of_nothing", ANY),
            ("overrun_of_a_shrunk_block", SIZES),
            ("overrun_found_in_another_thread", SIZES),
        ],
    );
}

#[test]
fn every_write_before_a_block_is_noticed() {
    noticed(
        "faulty.c",
        "underrun",
        Block,
        &[
            ("underrun_by_one", SIZES),
            ("underrun_by_16", SIZES),
            ("underrun_never_freed", SIZES),
            ("underrun_of_aligned", SIZES),
            ("underrun_found_by_realloc", SIZES),
        ],
    );
}

/// Where the allocator's own record of the block is gone there is less to tell, but nothing breaks.
#[test]
fn every_write_to_what_is_kept_about_a_block_is_noticed() {
    noticed(
        "faulty.c",
        "underrun",
        Address,
        &[
            ("underrun_of_the_header", SIZES),
            ("underrun_of_the_header_with_zeros", SIZES),
            ("underrun_of_the_header_never_freed", SIZES),
            ("underrun_far", SIZES),
            ("underrun_further", SIZES),
            ("underrun_furthest", SIZES),
        ],
    );
}

#[test]
fn a_write_to_any_byte_before_a_block_is_noticed() {
    for size in [24, 300_000] {
        let case = Case::run("faulty.c", "underrun_of_each_byte", size, "1");
        assert_eq!(case.said("missed"), Some(0), "{}", case.report("some of 288 bytes can be written over"));
    }
}

#[test]
fn every_write_to_a_freed_block_is_noticed() {
    noticed(
        "faulty.c",
        "write after free",
        Block,
        &[
            ("late_write_found_at_exit", SIZES),
            ("late_write_of_the_first", SIZES),
            ("late_write_of_the_last", SIZES),
            ("late_write_found_on_leaving", SIZES),
            ("late_write_found_on_reuse", SMALL),
            ("late_write_long_after", SMALL),
            ("late_write_after_realloc_moved", SIZES),
            ("late_write_by_another_thread", SIZES),
            ("late_write_of_anothers_free", SIZES),
            ("late_write_of_aligned", SIZES),
            ("late_write_in_a_child", SIZES),
        ],
    );
}

/// Clearing what is handed out must not wipe off what tells of a write.
#[test]
fn a_write_to_a_freed_block_is_noticed_on_reuse_where_memory_is_cleared_too() {
    for (zero, size) in ["alloc", "free"].into_iter().flat_map(|zero| SMALL.iter().map(move |size| (zero, size))) {
        let mut command = preloaded(compiled("faulty.c", &[]));
        command.arg("late_write_found_on_reuse").arg(size.to_string());
        let outcome = run(command.envs([("HOMING_DEBUG", "1"), ("HOMING_ZERO", zero)]));
        assert_eq!(outcome.signal, Some(libc::SIGABRT), "HOMING_ZERO={zero}, {size}: {outcome:?}");
        assert!(outcome.lines()[0].contains("(write after free)"), "HOMING_ZERO={zero}, {size}: {outcome:?}");
    }
}

#[test]
fn every_leak_is_noticed() {
    leaks_noticed(
        "faulty.c",
        &[
            ("leak_lost", SIZES),
            ("leak_overwritten", SIZES),
            ("leak_cycle", ANY),
            ("leak_list_without_its_head", ANY),
            ("leak_of_a_thread_that_ended", SIZES),
            ("leak_reached_only_from_a_leak", SIZES),
            ("leak_by_realloc", SIZES),
            ("leak_aligned", SIZES),
            ("leak_of_calloc", SIZES),
            ("leak_past_its_end", SIZES),
            ("leak_kept_in_freed_memory", SIZES),
            ("leak_at_an_early_return", SIZES),
        ],
    );
}

#[test]
fn every_misuse_by_way_of_new_and_delete_is_noticed() {
    noticed(
        "faulty.cpp",
        "double free",
        Block,
        &[
            ("delete_twice", ANY),
            ("delete_array_twice", SIZES),
            ("delete_aligned_twice", ANY),
            ("two_owners", ANY),
            ("deleted_under_its_container", SIZES),
            ("freed_then_deleted", SIZES),
            ("deleted_in_two_threads", ANY),
        ],
    );
    noticed("faulty.cpp", "interior pointer", Block, &[("delete_of_an_element", SIZES)]);
    noticed(
        "faulty.cpp",
        "foreign pointer",
        Pointer,
        &[("delete_of_a_short_string", ANY), ("delete_of_a_reference", ANY)],
    );
    noticed(
        "faulty.cpp",
        "wrong size",
        Block,
        &[
            ("delete_without_virtual_destructor", ANY),
            ("sized_delete", SIZES),
            ("sized_delete_of_array", SIZES),
            ("delete_as_another_type", ANY),
        ],
    );
    noticed(
        "faulty.cpp",
        "wrong alignment",
        Block,
        &[
            ("delete_aligned_otherwise", ANY),
            ("delete_unaligned_as_aligned", SIZES),
            ("delete_aligned_and_sized_otherwise", ANY),
        ],
    );
    noticed(
        "faulty.cpp",
        "overrun",
        Block,
        &[("written_past_a_vector", SIZES), ("written_past_an_array", SIZES), ("written_past_an_object", ANY)],
    );
    noticed("faulty.cpp", "underrun", Block, &[("written_before_an_array", SIZES)]);
    noticed(
        "faulty.cpp",
        "write after free",
        Block,
        &[
            ("written_by_an_iterator_of_before", SIZES),
            ("written_through_a_reference_of_before", ANY),
            ("erased_node_written_to", ANY),
        ],
    );
    leaks_noticed(
        "faulty.cpp",
        &[
            ("lost_object", ANY),
            ("lost_array", SIZES),
            ("released_and_forgotten", ANY),
            ("cycle_of_shared_pointers", ANY),
            ("lost_by_an_exception", SIZES),
        ],
    );
}
