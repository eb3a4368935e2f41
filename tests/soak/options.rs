//! What the program is told.

use std::os::unix::process::CommandExt;
use std::process::{Command, exit};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::allocator;

const USAGE: &str = "usage: soak [--seconds N] [--allocator homing|system]

  --seconds N            how long (4)
  --allocator homing     this crate is the program's allocator (if not said otherwise)
  --allocator system     the C library's malloc is, or what is preloaded in its place
  SOAK_SEED=N            the same choices as in the run that printed this seed";

const OWN: [&str; 3] = ["--seconds", "--allocator", "--help"];
/// Seconds, where nothing is said.
const BRIEFLY: u64 = 4;

pub struct Options {
    pub time: Duration,
    pub seed: u64,
}

fn refuse(what: &str) -> ! {
    eprintln!("soak: {what}\n{USAGE}");
    exit(2);
}

/// Reads them; begins the program anew where it is to have the other allocator, as it has one from its first allocation
/// on.
pub fn read() -> Options {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let seconds = if words.first().is_some_and(|word| OWN.contains(&&word[..])) {
        read_own(&words)
    } else {
        // As other tests: words are parts of names, options of the usual harness change nothing, but for `--list`.
        let is_name = |word: &&String| !word.starts_with('-') && word.parse::<u32>().is_err();
        let mut names = words.iter().filter(is_name).peekable();
        let is_wanted = names.peek().is_none() || names.any(|name| "soak".contains(&name[..]));
        if !is_wanted || words.iter().any(|word| word == "--list") {
            exit(0);
        }
        BRIEFLY
    };
    let by_time = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| time.as_nanos() as u64 % 1_000_000);
    let seed = std::env::var("SOAK_SEED").ok();
    let seed = seed.map(|seed| seed.parse().unwrap_or_else(|_| refuse(&format!("SOAK_SEED={seed} is no number"))));
    Options { time: Duration::from_secs(seconds), seed: seed.unwrap_or_else(by_time) }
}

fn read_own(words: &[String]) -> u64 {
    let mut seconds = BRIEFLY;
    for pair in words.chunks(2) {
        match pair {
            [option, number] if option == "--seconds" => {
                seconds = number.parse().unwrap_or_else(|_| refuse(&format!("{number} is no number of seconds")));
            }
            [option, name] if option == "--allocator" && name == "homing" => {}
            [option, name] if option == "--allocator" && name == "system" => {
                if !allocator::is_system() {
                    begin_anew();
                }
            }
            _ => refuse(&format!("{} is not understood", pair.join(" "))),
        }
    }
    seconds
}

fn begin_anew() -> ! {
    let program = std::env::current_exe().expect("the program knows where it lies");
    let error = Command::new(program).args(std::env::args().skip(1)).env(allocator::SYSTEM, "1").exec();
    panic!("the program cannot be run anew: {error}");
}
