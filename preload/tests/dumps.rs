//! Core dumps, by the kernel and by gdb's `gcore`: what the allocator adds to them.

mod support;

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{compiled, library, scratch};

/// No dump here is to be larger: the kernel and `gcore` are stopped there.
const MOST: libc::rlim_t = 1 << 30;
/// Freed memory that waits to be used again is in a dump: no more than what is kept, and what is dirty.
const WAITS: u64 = 64 << 20;

/// The program in a folder of its own, with the shared object under it or without.
fn dumped(arguments: [&str; 2], folder: &Path, is_preloaded: bool) -> Command {
    let mut command = Command::new(compiled("dumps.c", &[]));
    command.args(arguments).current_dir(folder).env_remove("LD_PRELOAD");
    if is_preloaded {
        command.env("LD_PRELOAD", library());
    }
    limited(&mut command);
    command
}

fn limited(command: &mut Command) {
    let limits = || {
        let most = libc::rlimit { rlim_cur: MOST, rlim_max: MOST };
        // SAFETY: sets limits of the process from a valid structure.
        match unsafe {
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const most) | libc::setrlimit(libc::RLIMIT_CORE, &raw const most)
        } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: two system calls, which may be made between fork and exec.
    unsafe { command.pre_exec(limits) };
}

/// The only file in the folder, which is removed: its bytes.
fn only_file(folder: &Path) -> Vec<u8> {
    let files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("it can be listed").map(|entry| entry.expect("it is there").path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = std::fs::read(&files[0]).expect("it can be read");
    std::fs::remove_file(&files[0]).expect("it can be removed");
    bytes
}

fn holds(dump: &[u8], text: &[u8]) -> bool {
    dump.windows(text.len()).any(|window| window == text)
}

/// What the kernel dumps; `None` where it hands dumps on to a program.
fn by_kernel(what: &str, is_preloaded: bool) -> Option<Vec<u8>> {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    if pattern.contains(['|', '/']) {
        eprintln!("SKIPPED, core dumps do not go to the working folder: {pattern}");
        return None;
    }
    let folder = scratch(&format!("kernel-dump-{what}-{is_preloaded}"));
    let status = dumped([what, "abort"], &folder, is_preloaded).status().expect("it can be run");
    assert_eq!(status.signal(), Some(libc::SIGABRT));
    assert!(status.core_dumped(), "it was dumped");
    Some(only_file(&folder))
}

/// What `gcore` dumps; `None` where there is none.
fn by_gcore(what: &str, is_preloaded: bool) -> Option<Vec<u8>> {
    if Command::new("gcore").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("SKIPPED, needs gdb");
        return None;
    }
    let folder = scratch(&format!("gcore-{what}-{is_preloaded}"));
    let mut command = dumped([what, "wait"], &folder, is_preloaded);
    let mut program = command.stdout(Stdio::piped()).spawn().expect("it can be run");
    let mut ready = [0];
    program.stdout.as_mut().expect("a pipe").read_exact(&mut ready).expect("it says that it is ready");
    let mut gcore = Command::new("gcore");
    gcore.args(["-o", "dump", &program.id().to_string()]).current_dir(&folder);
    limited(&mut gcore);
    let output = gcore.output().expect("it can be run");
    program.kill().expect("it waits");
    program.wait().expect("it was there");
    assert!(output.status.success(), "{output:?}");
    Some(only_file(&folder))
}

fn each_way(what: &str, check: impl Fn(&[u8], &[u8])) {
    for way in [by_kernel, by_gcore] {
        if let (Some(with), Some(without)) = (way(what, true), way(what, false)) {
            assert!(holds(&with, b"kept until the dump"), "what is live is in the dump");
            check(&with, &without);
        }
    }
}

#[test]
fn the_dump_of_an_idle_process_is_small() {
    each_way("idle", |with, without| {
        assert!(with.len() < without.len() + (4 << 20), "{} bytes, {} without", with.len(), without.len());
    });
}

#[test]
fn what_was_freed_is_not_in_the_dump_but_for_what_waits_to_be_used_again() {
    each_way("freed", |with, without| {
        assert!((with.len() as u64) < without.len() as u64 + WAITS, "{} bytes, {} without", with.len(), without.len());
    });
}
