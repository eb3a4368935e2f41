//! From the command line to the program: what is asked for, where the shared object is, whether the program can take it;
//! and the description of the machine.

mod command_line;
mod elf;
mod library;
mod program;
mod topology;

use std::ffi::OsString;
use std::fmt;
use std::os::fd::RawFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

use command_line::{Asked, Run};

/// Why a program was not run.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing was asked for.
    Nothing,
    /// The command line is wrong.
    Usage(String),
    /// The shared object cannot be used.
    Library(String),
    /// The program cannot be run, or not with the shared object.
    Program(String),
    /// There is no such program.
    NoProgram(String),
}

impl Failure {
    /// The launcher's exit status, as `env(1)` and `timeout(1)` have them.
    pub(crate) fn status(&self) -> u8 {
        match self {
            Failure::Nothing | Failure::Usage(_) => 2,
            Failure::Library(_) => 125,
            Failure::Program(_) => 126,
            Failure::NoProgram(_) => 127,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Nothing => to.write_str(command_line::USAGE),
            Failure::Usage(why) => writeln!(to, "homing: {why}\nTry `homing --help`."),
            Failure::Library(why) | Failure::Program(why) | Failure::NoProgram(why) => writeln!(to, "homing: {why}"),
        }
    }
}

impl std::error::Error for Failure {}

/// Does what the arguments say. Gives a text to print, or does not come back.
pub(crate) fn launch(arguments: impl Iterator<Item = OsString>) -> Result<String, Failure> {
    match command_line::parse(arguments)? {
        Asked::Text(text) => Ok(text),
        Asked::Run(run) => Err(become_program(&run)),
        Asked::Topology(asked) => Ok(topology::describe(&asked)),
    }
}

/// Becomes the program; comes back only where that fails.
fn become_program(run: &Run) -> Failure {
    let prepare = || -> Result<Command, Failure> {
        let library = library::find()?;
        let program = program::find(&run.program)?;
        program::check(&program, &library)?;
        let mut command = Command::new(&program);
        command.arg0(&run.program).args(&run.arguments);
        command.env("LD_PRELOAD", library::prepend(&library, std::env::var_os("LD_PRELOAD")));
        command.envs(run.settings.iter().map(|(key, value)| (key, value)));
        if run.report {
            // The program keeps the launcher's process id; its children have others, and say nothing.
            command.env("HOMING_REPORT", format!("{}:{}", std::process::id(), report_descriptor()?));
        }
        Ok(command)
    };
    match prepare() {
        Ok(mut command) => {
            let error = command.exec();
            Failure::Program(format!("{}: cannot be run: {error}", run.program.display()))
        }
        Err(failure) => failure,
    }
}

/// The least number of the descriptor that the report goes to: out of the way of programs that count theirs.
const REPORT_DESCRIPTOR: RawFd = 100;

/// A second descriptor for standard error that the program inherits, so that one that closes its standard error before
/// it exits still reports.
fn report_descriptor() -> Result<RawFd, Failure> {
    // Under a low limit of open files a low number must do.
    for least in [REPORT_DESCRIPTOR, libc::STDERR_FILENO + 1] {
        // SAFETY: makes a new descriptor and touches no memory.
        let descriptor = unsafe { libc::fcntl(libc::STDERR_FILENO, libc::F_DUPFD, least) };
        if descriptor >= 0 {
            return Ok(descriptor);
        }
    }
    let error = std::io::Error::last_os_error();
    Err(Failure::Library(format!("--report: standard error cannot be kept for the report: {error}")))
}
