//! What the tests share: programs are compiled, run with the shared object under them, and looked at from outside.

#![allow(dead_code)]

pub mod settings;

use std::collections::HashMap;
use std::ffi::OsStr;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;

/// The launcher.
pub fn launcher() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_homing"))
}

/// The shared object that the launcher finds.
pub fn library() -> PathBuf {
    let beside = launcher().parent().expect("the launcher lies in a folder");
    let places = [beside.to_owned(), beside.join("deps")];
    let found = places.iter().map(|place| place.join("libhoming_preload.so")).find(|file| file.exists());
    found.expect("the shared object is built with the launcher")
}

/// A folder for what tests make.
pub fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("the scratch folder can be made");
    folder
}

/// Copies a program that is to be run; returns the copy. By `cp`: a file that this process had open for writing could be
/// open still in a child that another test's thread has just forked, and would not run then (`ETXTBSY`).
pub fn copied(program: impl AsRef<Path>, to: impl AsRef<Path>) -> PathBuf {
    let status = Command::new("cp").arg("--").arg(program.as_ref()).arg(to.as_ref()).status().expect("there is a cp");
    assert!(status.success(), "{} can be copied", program.as_ref().display());
    to.as_ref().to_owned()
}

/// A program made of `c/<source>`, compiled once a process. A source that ends in `.cpp` is C++.
pub fn compiled(source: &str, options: &[&str]) -> PathBuf {
    static DONE: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    let mut done = DONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let key = format!("{source} {}", options.join(" "));
    let done = done.get_or_insert_default();
    if let Some(program) = done.get(&key) {
        return program.clone();
    }
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c").join(source);
    let name = format!("{}-{}-{}", source.replace('.', "-"), std::process::id(), done.len());
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let compiler = if source.ends_with(".cpp") { "c++" } else { "cc" };
    // Without the optimisations that leave out or merge allocations.
    let mut command = Command::new(compiler);
    command
        .args(["-g", "-O0", "-fno-builtin", "-Wall", "-Wextra", "-Wno-unused-parameter", "-Werror", "-pthread"])
        .arg(&input)
        .arg("-o")
        .arg(&program);
    command.args(options).arg("-ldl");
    let output = command.output().unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(output.status.success(), "{source}: {}", String::from_utf8_lossy(&output.stderr));
    done.insert(key, program.clone());
    program
}

/// A library made of `c/<source>`, as [`compiled`].
pub fn library_of(source: &str, options: &[&str]) -> PathBuf {
    compiled(source, &[&["-shared", "-fPIC"], options].concat())
}

/// Whether this is the superuser; where not, says that what needs it was left out.
pub fn as_root(what: &str) -> bool {
    // SAFETY: no preconditions.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        eprintln!("SKIPPED, needs root: {what}");
    }
    is_root
}

/// A command without settings from outside, that leaves no core file when it is aborted.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (key, _) in std::env::vars_os() {
        if key.to_string_lossy().starts_with("HOMING_") {
            command.env_remove(key);
        }
    }
    command.env_remove("LD_PRELOAD").stdin(Stdio::null());
    let no_core = || {
        let none = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
        // SAFETY: sets a limit of the process from a valid structure.
        unsafe { libc::setrlimit(libc::RLIMIT_CORE, &raw const none) };
        Ok(())
    };
    // SAFETY: one system call, which may be made between fork and exec.
    unsafe { command.pre_exec(no_core) };
    command
}

/// The program with the shared object under it.
pub fn preloaded(program: impl AsRef<OsStr>) -> Command {
    let mut command = command(program);
    command.env("LD_PRELOAD", library());
    command
}

/// `homing run` with these arguments.
pub fn homing_run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = command(launcher());
    command.arg("run").args(arguments);
    command
}

/// What a program left behind.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit status, if it exited.
    pub status: Option<i32>,
    /// The signal that ended it, if one did.
    pub signal: Option<i32>,
    /// What it wrote to standard output.
    pub out: String,
    /// What it wrote to standard error.
    pub err: String,
}

impl Outcome {
    /// The lines on standard error.
    pub fn lines(&self) -> Vec<&str> {
        self.err.lines().collect()
    }

    /// The one line on standard error.
    #[track_caller]
    pub fn only_line(&self) -> &str {
        assert_eq!(self.lines().len(), 1, "exactly one line on standard error: {self:?}");
        self.lines()[0]
    }

    /// That it exited with 0.
    #[track_caller]
    pub fn succeeded(self) -> Self {
        assert_eq!(self.status, Some(0), "{self:?}");
        self
    }

    /// That it exited with 0 and wrote nothing to standard error.
    #[track_caller]
    pub fn silent(self) -> Self {
        let this = self.succeeded();
        assert_eq!(this.err, "");
        this
    }

    /// The number after `<name>=` on standard output.
    #[track_caller]
    pub fn number(&self, name: &str) -> i64 {
        let word = self.out.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        word.and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }
}

/// Runs the command to its end.
pub fn run(command: &mut Command) -> Outcome {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Outcome {
        status: output.status.code(),
        signal: output.status.signal(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Cases of `c/faulty.c` that free what is not the allocator's.
pub const FOREIGN: [&str; 10] = [
    "foreign_stack",
    "foreign_static",
    "foreign_thread_local",
    "foreign_code",
    "foreign_literal",
    "foreign_made_up",
    "foreign_small_number",
    "foreign_environment",
    "foreign_mapped",
    "foreign_realloc",
];
