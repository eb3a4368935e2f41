//! Programs in little room: sandboxes that refuse system calls, no `/proc` and no `/sys`, small stacks.

mod support;

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use support::{as_root, command, compiled, copied, library, preloaded, run, scratch};

/// What the allocator may ask about nodes, and what the C library registers for it.
const CALLS: [&str; 6] = ["mbind", "get_mempolicy", "move_pages", "process_madvise", "getcpu", "rseq"];

/// The settings under which nodes matter even where there is one.
const POLICIES: [&str; 3] = ["local", "bind", "interleave"];

fn refused(error: &str, calls: &str) {
    for policy in POLICIES {
        let mut command = preloaded(compiled("sandbox.c", &[]));
        command.args([error, calls]).arg(compiled("confined.c", &[])).env("HOMING_POLICY", policy);
        let outcome = run(&mut command).succeeded();
        for line in outcome.lines() {
            assert!(line.starts_with("homing: "), "{error} for {calls}, policy {policy}: {outcome:?}");
        }
    }
}

macro_rules! each_call_refused {
    ($($name:ident: $call:literal)*) => {
        $(#[test]
        fn $name() {
            for error in ["EPERM", "ENOSYS"] {
                refused(error, $call);
            }
        })*

        #[test]
        fn every_call_has_its_test() {
            assert_eq!(CALLS, [$($call),*]);
        }
    };
}

each_call_refused! {
    threads_work_on_where_mbind_is_refused: "mbind"
    threads_work_on_where_get_mempolicy_is_refused: "get_mempolicy"
    threads_work_on_where_move_pages_is_refused: "move_pages"
    threads_work_on_where_process_madvise_is_refused: "process_madvise"
    threads_work_on_where_getcpu_is_refused: "getcpu"
    threads_work_on_where_rseq_is_refused: "rseq"
}

#[test]
fn threads_work_on_where_all_calls_about_nodes_are_refused() {
    for error in ["EPERM", "ENOSYS"] {
        refused(error, &CALLS.join(","));
    }
}

#[test]
fn a_process_that_has_begun_makes_no_call_but_for_memory() {
    for what in ["alone", "threads", "used-before"] {
        for setting in
            [("HOMING_STATS", "off"), ("HOMING_ZERO", "free"), ("HOMING_PURGE_DELAY", "0"), ("HOMING_POLICY", "bind")]
        {
            run(preloaded(compiled("memory_only.c", &[])).arg(what).envs([setting])).silent();
        }
    }
    // What stacks are read with is loaded at the first allocation.
    run(preloaded(compiled("memory_only.c", &[])).arg("used-before").env("HOMING_DEBUG", "1")).silent();
}

/// What the loader loads for the program and the shared object, both and itself among it, by their absolute paths.
fn loaded_for(program: &Path) -> Vec<PathBuf> {
    let list = run(preloaded(program).env("LD_TRACE_LOADED_OBJECTS", "1")).succeeded();
    list.out.split_whitespace().filter(|word| word.starts_with('/')).map(PathBuf::from).collect()
}

/// A folder that is to be the whole file system: the program and what it loads, nothing else.
fn bare_root(program: &Path) -> PathBuf {
    let root = scratch("bare-root");
    for file in loaded_for(program) {
        let place = root.join(file.strip_prefix("/").expect("it is absolute"));
        std::fs::create_dir_all(place.parent().expect("it lies in a folder")).expect("folders can be made");
        copied(&file, place);
    }
    copied(program, root.join("program"));
    copied(library(), root.join("libhoming_preload.so"));
    root
}

#[test]
fn threads_work_on_without_proc_and_sys() {
    if !as_root("a file system without /proc and /sys") {
        return;
    }
    let root = bare_root(&compiled("confined.c", &[]));
    let folder = CString::new(root.as_os_str().as_bytes()).expect("paths have no zero bytes");
    for policy in POLICIES {
        let folder = folder.clone();
        let mut command = command("/program");
        command.env("LD_PRELOAD", "/libhoming_preload.so").env("HOMING_POLICY", policy).env("HOMING_STATS", "exit");
        let change_root = move || {
            // SAFETY: two system calls, which may be made between fork and exec; both paths are C strings.
            match unsafe { libc::chroot(folder.as_ptr()) | libc::chdir(c"/".as_ptr()) } {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        };
        // SAFETY: as above.
        let outcome = run(unsafe { command.pre_exec(change_root) }).succeeded();
        assert_eq!((outcome.number("proc"), outcome.number("sys")), (0, 0), "{outcome:?}");
        assert!(outcome.err.contains("blocks handed out"), "the allocator was not there: {outcome:?}");
        assert!(outcome.err.contains("unknown (/proc does not tell)"), "{outcome:?}");
    }
    std::fs::remove_dir_all(root).expect("what was made can be removed");
}

#[test]
fn threads_with_stacks_of_16_kib_can_do_everything() {
    let outcome = run(preloaded(compiled("confined.c", &[])).arg("small-stack")).silent();
    // Nothing was only just enough.
    assert!(outcome.number("unused") >= 1024, "{outcome:?}");
}
