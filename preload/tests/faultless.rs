//! Programs without a fault, under the debug mode: it has nothing to say of them, and they run as without it. The programs
//! are `c/faultless.c`, those of the other tests, and some that are installed.

mod support;

use std::process::Command;

use support::{command, compiled, library, preloaded, run};

const MODES: [&str; 2] = ["1", "leaks"];

/// In both modes: exits with 0, and nothing stands on standard error.
#[track_caller]
fn nothing_to_say(source: &str, cases: &[&str]) {
    let options: &[&str] = if source.ends_with(".cpp") { &["-std=c++17"] } else { &[] };
    for (case, mode) in cases.iter().flat_map(|case| MODES.map(|mode| (case, mode))) {
        let outcome = run(preloaded(compiled(source, options)).arg(case).env("HOMING_DEBUG", mode));
        assert_eq!((outcome.status, &*outcome.err), (Some(0), ""), "{case} with HOMING_DEBUG={mode}: {outcome:?}");
    }
}

#[test]
fn verbs_that_are_used_rightly_give_no_alarm() {
    nothing_to_say("faultless.c", &["every_verb", "growing_and_shrinking", "the_c_library", "handlers_that_allocate"]);
}

/// Their blocks are in the middle of being handed out and freed while the exit looks at all there are.
#[test]
fn threads_at_work_at_the_exit_give_no_alarm() {
    for _ in 0..4 {
        nothing_to_say("faultless.c", &["threads_at_work_at_the_exit", "another_thread_exits"]);
    }
}

#[test]
fn children_that_exit_give_no_alarm_whatever_other_threads_were_doing_at_the_fork() {
    nothing_to_say("faultless.c", &["children_that_exit_while_others_work"]);
}

#[test]
fn blocks_that_something_points_to_are_no_leaks() {
    nothing_to_say("faultless.c", KEPT);
}

const KEPT: &[&str] = &[
    "kept_in_a_static",
    "kept_in_a_thread_local",
    "kept_by_another_thread",
    "kept_by_its_middle",
    "kept_by_its_last_byte",
    "kept_in_mapped_memory",
    "kept_behind_a_guard",
    "kept_in_an_unwatched_block",
    "kept_beside_pointers_to_what_was_freed",
    "kept_by_a_key",
    "kept_in_the_environment",
    "kept_in_a_frame_of_before",
    "kept_until_the_exit",
    "kept_by_a_child",
];

#[test]
fn blocks_that_something_points_to_are_no_leaks_in_little_address_space() {
    let program = compiled("faultless.c", &[]);
    for case in KEPT {
        let text = format!("ulimit -v 600000; exec {} {case}", program.display());
        let outcome = run(preloaded("/bin/sh").args(["-c", &text]).env("HOMING_DEBUG", "leaks"));
        assert_eq!((outcome.status, &*outcome.err), (Some(0), ""), "{case}: {outcome:?}");
    }
}

#[test]
fn large_blocks_that_a_program_hardly_touches_are_hardly_in_memory() {
    nothing_to_say("faultless.c", &["large_blocks_hardly_touched"]);
    let mut clearing = preloaded(compiled("faultless.c", &[]));
    run(clearing.arg("large_blocks_hardly_touched").envs([("HOMING_DEBUG", "1"), ("HOMING_ZERO", "free")])).silent();
}

#[test]
fn what_waits_in_the_quarantine_is_not_missed_where_memory_is_short() {
    for case in ["little_memory", "until_there_is_none"] {
        let mut limited = preloaded(compiled("faultless.c", &[]));
        limited.envs([("HOMING_DEBUG", "1"), ("HOMING_POOL_LIMIT", "24M"), ("HOMING_OVERFLOW", "fail")]);
        run(limited.arg(case)).silent();
        let text = format!("ulimit -v 400000; exec {} {case}", compiled("faultless.c", &[]).display());
        run(preloaded("/bin/sh").args(["-c", &text]).env("HOMING_DEBUG", "1")).silent();
    }
}

#[test]
fn clearing_goes_together_with_watching() {
    for zero in ["alloc", "free"] {
        for case in ["every_verb", "growing_and_shrinking"] {
            let mut cleared = preloaded(compiled("faultless.c", &[]));
            run(cleared.arg(case).envs([("HOMING_DEBUG", "1"), ("HOMING_ZERO", zero)])).silent();
        }
    }
}

/// But for what is about the figures of memory in use, and what takes long.
#[test]
fn the_programs_of_the_other_tests_give_no_alarm() {
    nothing_to_say(
        "contract.c",
        &["malloc: every", "calloc: nothing", "realloc: null", "aligned_alloc: a", "free_sized: takes"],
    );
    nothing_to_say("operators.cpp", &["_Znwm: every", "_ZdlPvm: "]);
    nothing_to_say("surroundings.c", &["fork-handlers-allocate", "first-use-in-a-destructor", "left-behind"]);
}

/// Containers, streams, exceptions, thread-local and static objects.
#[test]
fn a_program_of_the_standard_library_of_cxx_gives_no_alarm() {
    nothing_to_say("faultless.cpp", &[""]);
}

/// Runs a program that is installed, without the allocator and with it in debug mode. They keep blocks that they lose track
/// of, so leaks are not looked for.
#[track_caller]
fn same_with_and_without(prepare: &dyn Fn(&mut Command), program: &str) {
    let mut plain = command(program);
    prepare(&mut plain);
    if plain.output().is_err() {
        eprintln!("{program} is not installed");
        return;
    }
    let plain = run(&mut plain);
    let mut watched = command(program);
    prepare(&mut watched);
    let watched = run(watched.env("LD_PRELOAD", library()).env("HOMING_DEBUG", "1"));
    assert_eq!((watched.status, watched.out), (plain.status, plain.out), "{program}: {}", watched.err);
    assert!(!watched.err.contains("homing"), "{program}: {}", watched.err);
}

#[test]
fn installed_programs_run_as_without_it_and_give_no_alarm() {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let loops = "for i in {1..300}; do a[i]=${a[i-1]:0:50}$i; done; echo ${#a[@]} $(echo ${a[@]} | cksum)";
    same_with_and_without(&|bash| _ = bash.args(["-c", loops]), "bash");
    let hashes = "my %h; $h{$_ % 97} .= \"x\" x $_ for 1..3000; print map { length } @h{sort keys %h}";
    same_with_and_without(&|perl| _ = perl.args(["-e", hashes]), "perl");
    let objects =
        "import json, re; d = [{str(i): [i] * i} for i in range(300)]; print(len(re.sub('1', '', json.dumps(d))))";
    let python = |python: &mut Command| _ = python.args(["-c", objects]).env("PYTHONMALLOC", "malloc");
    same_with_and_without(&python, "/usr/bin/python3");
    same_with_and_without(&|git| _ = git.args(["-C", repository, "ls-files"]), "git");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/c/faultless.c");
    same_with_and_without(&|gcc| _ = gcc.args(["-O1", "-w", "-S", "-o", "-", source]), "gcc");
    same_with_and_without(&|sort| _ = sort.args(["-r", source]), "sort");
}
