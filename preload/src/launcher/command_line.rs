//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;

use lexopt::prelude::{Long, Short, Value, ValueExt};

use super::Failure;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// A text.
    Text(String),
    /// To run a program.
    Run(Run),
    /// To describe the machine.
    Topology(Topology),
}

/// A program to run, and how.
#[derive(Debug)]
pub(crate) struct Run {
    /// Variables of the environment, checked.
    pub(crate) settings: Vec<(String, String)>,
    /// Whether the program writes its summary when it exits.
    pub(crate) report: bool,
    /// As it was typed.
    pub(crate) program: OsString,
    /// The program's own, untouched.
    pub(crate) arguments: Vec<OsString>,
}

/// A machine to describe, and how.
#[derive(Debug, Default)]
pub(crate) struct Topology {
    /// Whether a program is to read the description.
    pub(crate) json: bool,
    /// Where another machine's files are; `None` for the machine this runs on.
    pub(crate) root: Option<PathBuf>,
}

pub(crate) const USAGE: &str = "\
Usage: homing run [--set KEY=VALUE]... [--report] [--] PROGRAM [ARGUMENT]...
       homing topology [--json]
Try `homing --help`.
";

const HELP: &str = "\
Runs a program, unmodified, on the homing memory allocator.

Usage: homing run [--set KEY=VALUE]... [--report] [--] PROGRAM [ARGUMENT]...
       homing topology [--json] [--root DIR]
       homing --help | --version

Options:
  -s, --set KEY=VALUE  a setting, such as pool_size=64M; may be given more than once
  -r, --report         write a summary to standard error when the program exits
  -j, --json           describe the machine as JSON
      --root DIR       describe the machine whose /sys and /proc are in DIR (never by hwloc)
  -h, --help           this text
  -V, --version        the version

What follows PROGRAM is the program's own. `homing topology` shows the machine's memory nodes: their
CPUs and memory, how fast it is where that is known, whether this process may use it (its cpuset),
and how far the nodes are from each other (10 is a node's own memory, 20 takes twice as long).

Settings (also read from the environment as HOMING_POOL_SIZE and so on; --set wins):
  pool_size=SIZE       what each node's pool obtains at its first use and keeps, such as 64M [0]
  pool_limit=SIZE      what each node's pool may hold at most; 0: no limit [0]
  overflow=WORD        past the limit: spill to the nearest node with room, fail the request,
                       or abort the program [spill]
  zero=WORD            off; alloc: clear each block when it is handed out;
                       free: when it is freed [off]
  policy=WORD          local: memory of the node the thread runs on; bind: of no other;
                       interleave: of all in turn; prefer:N: of node N [local]
  large=WORD           blocks over 2 MiB: local: as smaller ones; firsttouch: each page near
                       the thread that first writes it; interleave: on all nodes in turn
                       [firsttouch under policy=local, else as the policy]
  purge_delay=TIME     how long freed memory waits before the kernel has it back, such as
                       0, 500ms, 2s or never [1s]
  background=0|1       whether a thread gives freed memory back on time, also while PROGRAM does
                       nothing [0]
  bump_size=SIZE       what a thread's bump arena obtains at its first use [64K]
  bump_zero=0|1        whether memory of threads' bump arenas is zero when it is handed out [1]
  bump_overflow=WORD   a thread's bump arena that is full: error: the request fails; abort: the
                       program is aborted; grow: the arena obtains more [grow]
  bump_limit=SIZE      what a thread's bump arena may hold at most; 0: no limit [0]
  debug=WORD           1: watch every block for misuse, with a report and an abort;
                       leaks: and report at the exit what nothing points to any more [0]
  stats=WORD           exit: write a summary when a process exits, children too [off]
  verbose=0|1          say once what was found and chosen [0]

Exit status: the program's own; 2 for a wrong command line, 125 if the shared object
libhoming_preload.so cannot be used, 126 if PROGRAM cannot be run with it, 127 if there is none.
";

/// Understands the arguments after the launcher's own name.
pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Asked, Failure> {
    let usage = |error: lexopt::Error| Failure::Usage(error.to_string());
    let mut parser = lexopt::Parser::from_args(arguments);
    match parser.next().map_err(usage)? {
        None => Err(Failure::Nothing),
        Some(Short('h') | Long("help")) => Ok(Asked::Text(HELP.to_owned())),
        Some(Short('V') | Long("version")) => Ok(Asked::Text(format!("homing {}\n", env!("CARGO_PKG_VERSION")))),
        Some(Value(word)) if word == "run" => parse_run(parser),
        Some(Value(word)) if word == "topology" => parse_topology(parser),
        Some(Value(word)) if word == "help" => Ok(Asked::Text(HELP.to_owned())),
        Some(Value(word)) => Err(Failure::Usage(format!(
            "there is no command '{}'; to run a program: homing run PROGRAM",
            word.display()
        ))),
        Some(option) => Err(usage(option.unexpected())),
    }
}

fn parse_run(mut parser: lexopt::Parser) -> Result<Asked, Failure> {
    let usage = |error: lexopt::Error| Failure::Usage(error.to_string());
    let mut settings = Vec::new();
    let mut report = false;
    loop {
        match parser.next().map_err(usage)? {
            None => return Err(Failure::Usage("which program is to be run?".to_owned())),
            Some(Short('h') | Long("help")) => return Ok(Asked::Text(HELP.to_owned())),
            Some(Short('s') | Long("set")) => {
                let text = parser.value().and_then(|value| value.string()).map_err(usage)?;
                settings.push(parse_setting(&text)?);
            }
            Some(Short('r') | Long("report")) => report = true,
            Some(Value(program)) => {
                let arguments = parser.raw_args().map_err(usage)?.collect();
                return Ok(Asked::Run(Run { settings, report, program, arguments }));
            }
            Some(option) => return Err(usage(option.unexpected())),
        }
    }
}

fn parse_topology(mut parser: lexopt::Parser) -> Result<Asked, Failure> {
    let usage = |error: lexopt::Error| Failure::Usage(error.to_string());
    let mut asked = Topology::default();
    loop {
        match parser.next().map_err(usage)? {
            None => return Ok(Asked::Topology(asked)),
            Some(Short('h') | Long("help")) => return Ok(Asked::Text(HELP.to_owned())),
            Some(Short('j') | Long("json")) => asked.json = true,
            Some(Long("root")) => {
                let root = PathBuf::from(parser.value().map_err(usage)?);
                if !root.is_dir() {
                    return Err(Failure::Usage(format!("--root wants a folder, and {} is none", root.display())));
                }
                asked.root = Some(root);
            }
            Some(option) => return Err(usage(option.unexpected())),
        }
    }
}

/// `KEY=VALUE` as a variable of the environment. The key may be in either case, and begin with `HOMING_` or not.
fn parse_setting(text: &str) -> Result<(String, String), Failure> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(Failure::Usage(format!("--set wants KEY=VALUE, such as pool_size=64M, not '{text}'")));
    };
    let upper = key.to_ascii_uppercase();
    let name = upper.strip_prefix("HOMING_").unwrap_or(&upper);
    if name == "REPORT" {
        return Err(Failure::Usage(format!("--set {text}: this is what --report is for")));
    }
    homing::check_setting(name, value).map_err(|wrong| {
        let verb = if wrong.starts_with("no such") { "" } else { "this wants " };
        Failure::Usage(format!("--set {text}: {verb}{wrong}"))
    })?;
    Ok((format!("HOMING_{name}"), value.to_owned()))
}
