//! What comes to the allocator before it has begun: the loader, constructors, programs that change their environment; and
//! programs whose environment must not be trusted.

mod support;

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use support::{Outcome, as_root, compiled, library, library_of, preloaded, run};

fn beginning(what: &str) -> Command {
    let mut command = preloaded(compiled("beginnings.c", &[]));
    command.arg(what);
    command
}

/// Both under the program, in this order.
fn with_library(first: PathBuf, second: PathBuf) -> Command {
    let mut command = preloaded(compiled("beginnings.c", &[]));
    command.env("LD_PRELOAD", format!("{}:{}", first.display(), second.display()));
    command
}

#[test]
fn a_program_that_allocates_before_all_constructors_is_served() {
    run(&mut beginning("plain")).silent();
}

#[test]
fn a_program_that_has_no_environment_at_first_is_served() {
    run(&mut beginning("without-environment")).silent();
}

#[test]
fn a_program_that_sets_variables_before_anything_was_allocated_is_served() {
    run(&mut beginning("setenv")).silent();
}

#[test]
fn settings_that_a_program_gives_itself_before_anything_was_allocated_hold() {
    let outcome = run(&mut beginning("settings")).succeeded();
    assert!(outcome.only_line().contains("zero alloc"), "{outcome:?}");
}

/// The C library's functions that allocate under a lock which the allocator might come to want.
#[test]
fn a_first_allocation_under_a_lock_of_the_c_librarys_does_not_wait_for_it() {
    for words in [
        &["in-atexit"][..],
        &["in-on-exit"],
        &["in-pthread-atfork"],
        &["later", "atexit"],
        &["later", "on-exit"],
        &["later", "pthread-atfork"],
    ] {
        for setting in
            [("HOMING_STATS", "off"), ("HOMING_STATS", "exit"), ("HOMING_DEBUG", "1"), ("HOMING_DEBUG", "leaks")]
        {
            let outcome = run(preloaded(compiled("beginnings.c", &[])).args(words).envs([setting])).succeeded();
            assert_eq!(outcome.err.contains("blocks handed out"), setting.1 == "exit", "{words:?}: {outcome:?}");
        }
    }
}

#[test]
fn the_first_allocation_of_a_process_needs_no_more_than_16_kib_of_stack() {
    run(&mut beginning("small-stack")).silent();
    run(beginning("small-stack").env("HOMING_POOL_SIZE", "1M")).silent();
    let said = run(beginning("small-stack").env("HOMING_VERBOSE", "1").env("HOMING_UNKNOWN", "1")).succeeded();
    assert_eq!(said.lines().len(), 2, "{said:?}");
}

#[test]
fn a_resolver_that_allocates_before_thread_local_storage_is_filled_is_served() {
    run(&mut preloaded(compiled("beginnings.c", &["-DRESOLVER"]))).silent();
    let mut eager = preloaded(compiled("beginnings.c", &["-DRESOLVER"]));
    run(eager.env("LD_BIND_NOW", "1")).silent();
}

#[test]
fn a_resolver_of_a_library_that_is_relocated_after_ours_is_served() {
    run(&mut with_library(library_of("before.c", &["-DRESOLVER"]), library())).silent();
}

#[test]
fn a_library_whose_constructor_comes_before_ours_allocates_starts_threads_and_forks() {
    let theirs = library_of("before.c", &["-Wl,-z,initfirst"]);
    run(&mut with_library(library(), theirs.clone())).silent();
    run(&mut with_library(theirs.clone(), library())).silent();
    // The loader calls the last of those that want to be first; it tells so.
    let told = run(with_library(library(), theirs.clone()).env("LD_DEBUG", "files")).succeeded();
    let begins = |file: &PathBuf| told.err.find(&format!("calling init: {}", file.display()));
    assert!(begins(&theirs).is_some() && begins(&theirs) < begins(&library()), "{}", told.err);
}

/// The program with the shared object linked to it: the loader takes no preloads in a program with privileges.
fn linked(source: &str, language: &[&str]) -> PathBuf {
    let library = library();
    let folder = library.parent().expect("it lies in a folder").display();
    let (library, path) = (library.display().to_string(), format!("-Wl,-rpath,{folder}"));
    compiled(source, &[language, &["-Wl,--no-as-needed", &library, &path]].concat())
}

/// As a set-user-ID program is run: by a user who is not the one whose rights it has.
fn with_privileges(command: &mut Command) -> Outcome {
    let by_nobody = || {
        // SAFETY: one system call, which may be made between fork and exec.
        match unsafe { libc::setresuid(65534, 0, 0) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: as above.
    run(unsafe { command.pre_exec(by_nobody) })
}

const LIMITED: [(&str, &str); 4] =
    [("HOMING_POOL_LIMIT", "48M"), ("HOMING_OVERFLOW", "fail"), ("HOMING_STATS", "exit"), ("HOMING_NONSENSE", "1")];

#[test]
fn the_settings_of_whoever_runs_a_set_user_id_program_are_ignored() {
    if !as_root("a program with another user's rights") {
        return;
    }
    let fill = || {
        let mut command = support::command(linked("probe.c", &[]));
        command.arg("fill").envs(LIMITED);
        command
    };
    let trusted = run(&mut fill()).succeeded();
    assert!(trusted.number("blocks") < 128, "else the other run would prove nothing: {trusted:?}");
    assert!(trusted.err.contains("HOMING_NONSENSE") && trusted.err.contains("blocks handed out"), "{trusted:?}");
    let privileged = with_privileges(&mut fill()).silent();
    assert_eq!(privileged.number("blocks"), 128, "{privileged:?}");
}

#[test]
fn a_set_user_id_program_takes_no_preload_and_has_what_it_is_linked_to() {
    if !as_root("a program with another user's rights") {
        return;
    }
    let whose = ["-whose", "malloc"];
    let preloaded = with_privileges(preloaded(compiled("operators.cpp", &["-std=c++17"])).args(whose));
    assert!(preloaded.out.contains("/libc.so"), "{preloaded:?}");
    let linked = linked("operators.cpp", &["-std=c++17"]);
    let linked = with_privileges(support::command(linked).args(whose)).silent();
    assert!(linked.out.contains("/libhoming_preload.so"), "{linked:?}");
}
