//! The program: found as `execvp(3)` finds it, and looked at for whether the shared object can be put under it.

use std::ffi::{CString, OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Failure;
use super::elf::{self, Kind};

/// Where programs are looked for if `PATH` is not set (`confstr(_CS_PATH)`).
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// How many scripts may interpret each other, as the kernel has it.
const SCRIPTS: usize = 5;
/// Bytes of a script's first line that the kernel reads (`BINPRM_BUF_SIZE`).
const FIRST_LINE: u64 = 256;

/// The file that `execvp` would run.
pub(crate) fn find(program: &OsStr) -> Result<PathBuf, Failure> {
    let none = || Failure::NoProgram(format!("{}: no such program", program.display()));
    if program.is_empty() {
        return Err(none());
    }
    if program.as_bytes().contains(&b'/') {
        return match look_at(Path::new(program)) {
            Found::Executable => Ok(program.into()),
            Found::Nothing => Err(none()),
            Found::Other(why) => Err(Failure::Program(format!("{}: {why}", program.display()))),
        };
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(DEFAULT_PATH));
    let mut refused = None;
    for folder in std::env::split_paths(&path) {
        // An empty element is the working directory.
        let file = if folder.as_os_str().is_empty() { Path::new(".").join(program) } else { folder.join(program) };
        match look_at(&file) {
            Found::Executable => return Ok(file),
            Found::Nothing => {}
            Found::Other(why) => {
                refused.get_or_insert_with(|| Failure::Program(format!("{}: {why}", file.display())));
            }
        }
    }
    Err(refused.unwrap_or_else(none))
}

enum Found {
    Executable,
    Nothing,
    Other(String),
}

fn look_at(file: &Path) -> Found {
    use std::io::ErrorKind::{NotADirectory, NotFound};
    let metadata = match file.metadata() {
        Ok(metadata) => metadata,
        Err(error) if matches!(error.kind(), NotFound | NotADirectory) => return Found::Nothing,
        Err(error) => return Found::Other(error.to_string()),
    };
    if metadata.is_dir() {
        return Found::Other("is a directory".to_owned());
    }
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else { return Found::Nothing };
    // SAFETY: the path is a C string.
    match unsafe { libc::faccessat(libc::AT_FDCWD, path.as_ptr(), libc::X_OK, libc::AT_EACCESS) } {
        0 => Found::Executable,
        _ => Found::Other("is not executable".to_owned()),
    }
}

/// Whether the library can be preloaded under the program; for a script, under what interprets it.
pub(crate) fn check(program: &Path, library: &Path) -> Result<(), Failure> {
    let mut file = program.to_owned();
    for _ in 0..SCRIPTS {
        match interpreter(&file) {
            // It cannot be read, though it may be run: then nothing can be said of it.
            Err(_) => return Ok(()),
            Ok(Some(next)) => file = next,
            Ok(None) => return check_binary(program, &file, library),
        }
    }
    Ok(())
}

/// What interprets the file, if it is a script: `execve(2)`, "Interpreter scripts".
fn interpreter(file: &Path) -> std::io::Result<Option<PathBuf>> {
    let mut start = Vec::new();
    File::open(file)?.take(FIRST_LINE).read_to_end(&mut start)?;
    if start.starts_with(elf::MAGIC) {
        return Ok(None);
    }
    let Some(rest) = start.strip_prefix(b"#!") else {
        // `execvp` has the shell run what the kernel does not know.
        return Ok(Some(PathBuf::from("/bin/sh")));
    };
    let line = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let name = line.split(|byte| b" \t".contains(byte)).find(|word| !word.is_empty()).unwrap_or_default();
    Ok(Some(PathBuf::from(OsStr::from_bytes(name))))
}

fn check_binary(program: &Path, file: &Path, library: &Path) -> Result<(), Failure> {
    let refuse = |why: &str| {
        let name = match program == file {
            true => file.display().to_string(),
            false => format!("{} (run by {})", program.display(), file.display()),
        };
        Err(Failure::Program(format!("{name}: {why}")))
    };
    let read = |file: &Path| elf::read(file).map_err(|error| Failure::Program(format!("{}: {error}", file.display())));
    let wanted = read(file)?;
    if wanted.machine != read(library)?.machine {
        return refuse("is built for another kind of processor than the shared object, which cannot be loaded into it");
    }
    if wanted.kind == Kind::Static {
        return refuse("is statically linked: nothing can be preloaded, since no dynamic linker runs");
    }
    if gains_privileges(file) {
        return refuse(
            "runs with privileges of its own (set-user-ID, set-group-ID or capabilities): the dynamic linker ignores \
             LD_PRELOAD for such programs",
        );
    }
    Ok(())
}

/// Whether the kernel would start the file in secure mode (`AT_SECURE`, getauxval(3)).
fn gains_privileges(file: &Path) -> bool {
    let Ok(metadata) = file.metadata() else { return false };
    // SAFETY: no preconditions.
    let (user, group) = unsafe { (libc::getuid(), libc::getgid()) };
    let mode = metadata.mode();
    if mode & libc::S_ISUID != 0 && metadata.uid() != user {
        return true;
    }
    if mode & libc::S_ISGID != 0 && mode & libc::S_IXGRP != 0 && metadata.gid() != group {
        return true;
    }
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else { return false };
    // SAFETY: both are C strings; a null buffer of no length asks for the attribute's length.
    user != 0 && unsafe { libc::getxattr(path.as_ptr(), c"security.capability".as_ptr(), core::ptr::null_mut(), 0) } > 0
}
