//! What a preloaded allocator owes to C and C++ programs, symbol by symbol; and where the C library's own agrees.
//!
//! The checks are in `c/contract.c`, `c/figures.c` and `c/operators.cpp`. Under the shared object all of them hold. The
//! same programs run without it, too: that shows that the checks ask for no more than programs are used to, but for
//! what is listed here, each with its reason.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Outcome, command, compiled, library, preloaded, run};

/// The C library's names that the shared object has.
const NAMES: [&str; 28] = [
    "__libc_calloc",
    "__libc_cfree",
    "__libc_free",
    "__libc_malloc",
    "__libc_memalign",
    "__libc_pvalloc",
    "__libc_realloc",
    "__libc_valloc",
    "__posix_memalign",
    "aligned_alloc",
    "calloc",
    "cfree",
    "free",
    "free_aligned_sized",
    "free_sized",
    "mallinfo",
    "mallinfo2",
    "malloc",
    "malloc_info",
    "malloc_stats",
    "malloc_trim",
    "malloc_usable_size",
    "mallopt",
    "memalign",
    "posix_memalign",
    "pvalloc",
    "realloc",
    "valloc",
];

/// jemalloc's own names that it has: `jemalloc.rs` has the checks.
const OF_JEMALLOC: [&str; 11] = [
    "dallocx",
    "mallctl",
    "mallctlbymib",
    "mallctlnametomib",
    "malloc_stats_print",
    "mallocx",
    "nallocx",
    "rallocx",
    "sallocx",
    "sdallocx",
    "xallocx",
];

/// The loader's, which take a flag out: `loading.rs` has the tests.
const LOADING: [&str; 2] = ["dlmopen", "dlopen"];

/// The C++ names: those of libstdc++.
const OPERATORS: [&str; 20] = [
    "_ZdaPv",
    "_ZdaPvRKSt9nothrow_t",
    "_ZdaPvSt11align_val_t",
    "_ZdaPvSt11align_val_tRKSt9nothrow_t",
    "_ZdaPvm",
    "_ZdaPvmSt11align_val_t",
    "_ZdlPv",
    "_ZdlPvRKSt9nothrow_t",
    "_ZdlPvSt11align_val_t",
    "_ZdlPvSt11align_val_tRKSt9nothrow_t",
    "_ZdlPvm",
    "_ZdlPvmSt11align_val_t",
    "_Znam",
    "_ZnamRKSt9nothrow_t",
    "_ZnamSt11align_val_t",
    "_ZnamSt11align_val_tRKSt9nothrow_t",
    "_Znwm",
    "_ZnwmRKSt9nothrow_t",
    "_ZnwmSt11align_val_t",
    "_ZnwmSt11align_val_tRKSt9nothrow_t",
];

/// Left to the C library, whose functions call ours.
const THEIRS: [&str; 4] = ["strdup", "strndup", "reallocarray", "open_memstream"];

/// Names that glibc 2.36 does not have.
const ABSENT_FROM_GLIBC: &[(&str, &str)] = &[
    ("__libc_cfree", "an old name of cfree; nothing of that name is exported any more"),
    ("__posix_memalign", "only posix_memalign is exported"),
    ("cfree", "of 2.26 and before; only programs that were linked then still find it"),
    ("free_aligned_sized", "of C23, later than 2.36"),
    ("free_sized", "of C23, later than 2.36"),
];

const WRAPS: &str =
    "libstdc++ rounds the size up to a multiple of the alignment, to 0 where that wraps, and serves that";

/// Checks that do not hold for glibc 2.36 and the libstdc++ of gcc 12.
const OTHERWISE_IN_GLIBC: &[(&str, &str)] = &[
    ("posix_memalign: without memory errno stays", "it sets errno beside what it returns; POSIX has the answer only"),
    (
        "aligned_alloc: an alignment that is no power of two is null and EINVAL",
        "it was another name of memalign before 2.38, which rounds up; C17 has it fail",
    ),
    (
        "malloc_info: options other than 0 write nothing and are -1 and EINVAL",
        "it returns EINVAL instead of -1, and errno stays; the manual page says -1",
    ),
    (
        "mallopt: M_MMAP_THRESHOLD: a freed block of so many bytes goes back at once",
        "it takes such a block from free memory of its heap where some is long enough, and does not give that back",
    ),
    (
        "mallopt: M_TRIM_THRESHOLD: no more than that waits, and with -1 all of it",
        "it bounds what is free at the end of its heap",
    ),
    ("_ZnwmSt11align_val_t: without memory it throws bad_alloc, or gives null where it may not throw", WRAPS),
    ("_ZnamSt11align_val_t: without memory it throws bad_alloc, or gives null where it may not throw", WRAPS),
    (
        "_ZnwmSt11align_val_tRKSt9nothrow_t: without memory it throws bad_alloc, or gives null where it may not throw",
        WRAPS,
    ),
    (
        "_ZnamSt11align_val_tRKSt9nothrow_t: without memory it throws bad_alloc, or gives null where it may not throw",
        WRAPS,
    ),
    ("_ZnwmSt11align_val_t: an alignment and a size that reach beyond the end are refused", WRAPS),
    ("_ZnamSt11align_val_t: an alignment and a size that reach beyond the end are refused", WRAPS),
    ("_ZnwmSt11align_val_tRKSt9nothrow_t: an alignment and a size that reach beyond the end are refused", WRAPS),
    ("_ZnamSt11align_val_tRKSt9nothrow_t: an alignment and a size that reach beyond the end are refused", WRAPS),
];

fn blocks() -> PathBuf {
    compiled("contract.c", &[])
}

fn figures() -> PathBuf {
    compiled("figures.c", &[])
}

fn operators() -> PathBuf {
    compiled("operators.cpp", &["-std=c++17"])
}

/// What became of a program's checks: their names.
#[derive(Default)]
struct Checks {
    held: BTreeSet<String>,
    differed: BTreeSet<String>,
    absent: BTreeSet<String>,
}

impl Checks {
    #[track_caller]
    fn of(outcome: Outcome) -> Self {
        let outcome = outcome.silent();
        let mut checks = Checks::default();
        for line in outcome.out.lines() {
            let (verdict, name) = line.split_once(' ').unwrap_or_else(|| panic!("no verdict: {line}"));
            let set = match verdict {
                "holds" => &mut checks.held,
                "differs" => &mut checks.differed,
                "absent" => &mut checks.absent,
                _ => panic!("no verdict: {line}"),
            };
            let name = name.split('\t').next().expect("a line has a first part");
            assert!(set.insert(name.to_owned()), "two checks have the name {name}");
        }
        checks
    }

    fn names(&self) -> BTreeSet<&str> {
        [&self.held, &self.differed, &self.absent].into_iter().flatten().map(String::as_str).collect()
    }
}

#[track_caller]
fn all_hold(command: &mut Command) {
    let outcome = run(command).silent();
    let not: Vec<_> = outcome.out.lines().filter(|line| !line.starts_with("holds ")).collect();
    assert!(not.is_empty(), "{command:?}:\n{}", not.join("\n"));
    assert!(!Checks::of(outcome).held.is_empty(), "{command:?} had nothing to check");
}

/// That glibc differs where it is said above to differ, and nowhere else.
#[track_caller]
fn glibc_differs_as_listed(program: &Path) {
    let checks = Checks::of(run(&mut command(program)));
    let all = checks.names();
    let listed = OTHERWISE_IN_GLIBC.iter().map(|(name, _)| *name).filter(|name| all.contains(name));
    let differed: BTreeSet<_> = checks.differed.iter().map(String::as_str).collect();
    assert_eq!(differed, listed.collect(), "what differs in glibc, and what is listed");
    for name in &all {
        let is_listed = ABSENT_FROM_GLIBC.iter().any(|(symbol, _)| *symbol == symbol_of(name));
        assert_eq!(checks.absent.contains(*name), is_listed, "whether glibc has what this is of: {name}");
    }
}

/// The symbol that a check is of.
fn symbol_of(name: &str) -> &str {
    name.split(['(', ':']).next().expect("a name has a first part")
}

#[test]
fn every_way_to_get_and_give_back_blocks_does_as_the_standards_say() {
    all_hold(&mut preloaded(blocks()));
}

#[test]
fn so_it_does_with_every_operation_in_the_slow_path() {
    for zero in ["alloc", "free"] {
        all_hold(preloaded(blocks()).env("HOMING_ZERO", zero));
    }
}

#[test]
fn so_it_does_where_addresses_are_limited() {
    let text = format!("ulimit -v 8000000; exec {}", blocks().display());
    all_hold(preloaded("/bin/sh").args(["-c", &text]));
}

/// What goes back goes by `malloc_trim` alone, whatever the time.
#[test]
fn figures_follow_the_program_and_trim_tells_the_truth() {
    all_hold(preloaded(figures()).env("HOMING_PURGE_DELAY", "never"));
}

#[test]
fn every_operator_does_as_the_standard_says() {
    all_hold(&mut preloaded(operators()));
}

#[test]
fn glibc_agrees_about_blocks_but_for_what_is_listed() {
    glibc_differs_as_listed(&blocks());
}

#[test]
fn glibc_agrees_about_figures_but_for_what_is_listed() {
    glibc_differs_as_listed(&figures());
}

#[test]
fn libstdcxx_agrees_about_operators_but_for_what_is_listed() {
    glibc_differs_as_listed(&operators());
}

#[test]
fn every_symbol_has_a_check_and_every_listed_difference_is_one_of_a_check() {
    let lists = [blocks(), figures(), operators()].map(|program| Checks::of(run(command(program).arg("-list"))));
    let listed: BTreeSet<_> = lists.iter().flat_map(Checks::names).collect();
    let checked: BTreeSet<_> = listed.iter().map(|name| symbol_of(name)).collect();
    for symbol in NAMES.iter().chain(&OPERATORS).chain(&THEIRS) {
        assert!(checked.contains(symbol), "{symbol} has no check");
    }
    for (name, _) in OTHERWISE_IN_GLIBC {
        assert!(listed.contains(name), "there is no check of that name (any more): {name}");
    }
}

#[test]
fn the_shared_object_exports_these_names_and_no_other() {
    let output = run(Command::new("nm").args(["--dynamic", "--defined-only", "--format=just-symbols"]).arg(library()));
    // Those that begin so are held against `homing.h`: tests/header.rs.
    let exported: BTreeSet<_> = output.out.split_whitespace().filter(|name| !name.starts_with("homing_")).collect();
    assert_eq!(
        exported,
        NAMES.into_iter().chain(OPERATORS).chain(OF_JEMALLOC).chain(LOADING).collect(),
        "{}",
        output.err
    );
}

#[test]
fn programs_find_our_functions_and_the_c_library_s_where_it_calls_ours() {
    let ours = run(preloaded(operators()).arg("-whose").args(NAMES).args(OPERATORS)).silent();
    assert_eq!(ours.out.lines().count(), NAMES.len() + OPERATORS.len());
    for line in ours.out.lines() {
        assert!(line.ends_with("/libhoming_preload.so"), "{line}");
    }
    let theirs = run(preloaded(operators()).arg("-whose").args(THEIRS)).silent();
    for line in theirs.out.lines() {
        assert!(line.contains("/libc.so"), "{line}");
    }
}

#[test]
fn new_is_served_after_the_handler_has_freed() {
    let mut command = preloaded(compiled("handler.cpp", &["-std=c++17"]));
    run(command.envs([("HOMING_POOL_LIMIT", "40M"), ("HOMING_OVERFLOW", "fail")])).silent();
}
