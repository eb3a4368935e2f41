//! The launcher: runs a program, unmodified, on homing.
//!
//! `homing run [--set KEY=VALUE]... [--report] [--] PROGRAM [ARGUMENT]...` has the dynamic linker load the shared object
//! before everything else and becomes the program, so that signals and the exit status are the program's own.
//!
//! `homing topology [--json]` describes the machine.
//!
//! Exit statuses of the launcher itself: 2 for a command line that it does not understand, 125 where the shared object
//! cannot be used, 126 where the program cannot be run with it, 127 where there is no such program.

mod launcher;

use std::io::{ErrorKind, Write, stderr, stdout};
use std::process::ExitCode;

fn main() -> ExitCode {
    match launcher::launch(std::env::args_os().skip(1)) {
        Ok(text) => {
            match write_all(text.as_bytes()) {
                // A closed pipe is no reason to complain.
                Err(error) if error.kind() != ErrorKind::BrokenPipe => {
                    let _ = writeln!(stderr(), "homing: standard output cannot be written to: {error}");
                    ExitCode::FAILURE
                }
                _ => ExitCode::SUCCESS,
            }
        }
        Err(failure) => {
            let _ = stderr().write_all(failure.to_string().as_bytes());
            ExitCode::from(failure.status())
        }
    }
}

fn write_all(text: &[u8]) -> std::io::Result<()> {
    let mut out = stdout().lock();
    out.write_all(text)?;
    out.flush()
}
