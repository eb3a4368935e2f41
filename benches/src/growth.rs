//! What grows with the heap, the threads or time: `growth/rows.c` under homing, glibc and the allocators that Debian packages,
//! each preloaded into a process of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs, io};

use crate::summary::statistics::median_and_spread;
use crate::table;

/// Processes for each number.
const ROUNDS: usize = 3;

/// A row: its name in `rows.c`, its sizes, and what its number is.
struct Row {
    name: &'static str,
    sizes: &'static [u64],
    what: &'static str,
}

const fn row(name: &'static str, sizes: &'static [u64], what: &'static str) -> Row {
    Row { name, sizes, what }
}

const ROWS: [Row; 23] = [
    row("fill", &[1, 10, 20], "GiB in blocks of 1 MiB, nothing freed: us of processor time a block"),
    row(
        "holes",
        &[4000, 16000, 64000, 256_000],
        "blocks of 100 KiB, every second freed, then some of 190 KiB: us a block",
    ),
    row("shrunk", &[2000, 20000, 100_000], "live buffers of some 20 KB, shrunk and grown again: us a pair"),
    row("mappings", &[1000, 10000, 30000], "blocks of 2.2 MiB, every second freed, then some of 40 MiB: us a block"),
    row(
        "woken",
        &[100_000, 1_000_000, 10_000_000],
        "blocks of a sleeping thread's that others free: ms of its next malloc",
    ),
    row("parked-large", &[400], "threads that freed 4 blocks of 500 kB each and stand still for 4 s: MiB resident"),
    row("parked-large-trimmed", &[400], "likewise, after malloc_trim: MiB"),
    row("touched", &[400], "threads that used every size up to 2 MiB once and stand still: MiB"),
    row("touched-and-joined", &[400], "likewise, ended: MiB"),
    row("ended", &[2000], "threads that had 500 kB each and ended 3 s ago: MiB"),
    row("freed-by-others", &[40], "threads that freed blocks of each other's and stand still: MiB"),
    row("freed-by-others-trimmed", &[40], "likewise, after malloc_trim: MiB"),
    row("parked-own", &[64], "threads that freed their own 32 MiB and stand still, after malloc_trim: MiB"),
    row("sparse", &[512], "MiB of small blocks of which 12 in a row of a thousand stay, after malloc_trim: MiB"),
    row("locked", &[20], "blocks of 2.5 MiB under mlockall: MiB resident"),
    row(
        "limited-data",
        &[262_144],
        "KiB of RLIMIT_DATA: MiB of small blocks to be had after six of 2.5 MiB were freed",
    ),
    row("limited-addresses", &[60_000, 100_000, 500_000], "KiB of RLIMIT_AS: MiB to be had in blocks of 3 MiB"),
    row("passed-on", &[8], "ever shorter blocks of 12 MB, each freed after the next is written: MiB at the peak"),
    row("far-aligned", &[60_000], "blocks aligned to 32 MiB asked for: had"),
    row("over-and-over", &[300], "times one of 20 blocks of 5 to 25 MiB freed and taken anew: us each"),
    row("served", &[8000], "bytes at most: two threads replace blocks at random, and end: ns of kernel time a pair"),
    row("grown", &[1500], "rounds over 100 buffers that grow from 16 B to 4 MiB by half: us a step"),
    row("walked", &[32], "arrays of 2.2 MiB walked side by side: ns a step"),
];

/// What to measure, and how to show it.
pub struct Options {
    /// Rows, by their names; none: all.
    pub rows: Vec<String>,
    /// Sizes instead of the rows' own.
    pub sizes: Vec<u64>,
    /// The shared object of homing's, if not the one that `cargo build --release` makes at the root.
    pub so: Option<PathBuf>,
    /// Whether the table is Markdown.
    pub markdown: bool,
}

/// The names of all rows.
pub fn names() -> impl Iterator<Item = &'static str> {
    ROWS.iter().map(|row| row.name)
}

/// Allocators by name, and what is preloaded for each: nothing for the C library's own.
fn allocators(so: Option<&Path>) -> io::Result<Vec<(&'static str, Option<PathBuf>)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let so = so.map_or_else(|| root.join("target/release/libhoming_preload.so"), Path::to_owned);
    let so =
        fs::canonicalize(&so).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", so.display())))?;
    let mut all = vec![("homing", Some(so)), ("glibc", None)];
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    for (name, file) in
        [("jemalloc", "libjemalloc.so.2"), ("mimalloc", "libmimalloc.so.2"), ("tcmalloc", "libtcmalloc_minimal.so.4")]
    {
        match folders.iter().map(|folder| Path::new(folder).join(file)).find(|path| path.exists()) {
            Some(path) => all.push((name, Some(path))),
            None => eprintln!("{file} is not installed (ci/install far): left out"),
        }
    }
    Ok(all)
}

/// Measures, and prints the table.
///
/// # Errors
/// When there is no compiler, no shared object, or a process cannot be started.
pub fn run(options: &Options) -> io::Result<()> {
    let allocators = allocators(options.so.as_deref())?;
    let program = env::temp_dir().join(format!("growth-rows-{}", std::process::id()));
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("growth/rows.c");
    let mut compiler = Command::new("gcc");
    compiler.args(["-O1", "-pthread", "-o"]).arg(&program).arg(&source);
    if !compiler.status()?.success() {
        return Err(io::Error::other(format!("{} does not compile", source.display())));
    }
    let mut header = vec!["row".to_owned()];
    header.extend(allocators.iter().map(|(name, _)| (*name).to_owned()));
    header.push("what".to_owned());
    let mut table = table::new(options.markdown, header);
    for row in ROWS.iter().filter(|row| options.rows.is_empty() || options.rows.iter().any(|name| name == row.name)) {
        for size in if options.sizes.is_empty() { row.sizes } else { &options.sizes } {
            let mut cells = vec![format!("{} {size}", row.name)];
            let mut taken = vec![Vec::new(); allocators.len()];
            for _ in 0..ROUNDS {
                for (numbers, (_, so)) in taken.iter_mut().zip(&allocators) {
                    numbers.extend(measure(&program, row.name, *size, so.as_deref())?);
                }
            }
            cells.extend(taken.iter_mut().map(|numbers| match numbers.len() {
                0 => "fails".to_owned(),
                _ => format!("{:.*}", if numbers[0] < 100.0 { 2 } else { 0 }, median_and_spread(numbers).0),
            }));
            cells.push(row.what.to_owned());
            table.add_row(cells);
            eprintln!("{} {size}", row.name);
        }
    }
    fs::remove_file(&program)?;
    println!("{table}");
    Ok(())
}

/// The number that a process prints; none where it fails.
fn measure(program: &Path, row: &str, size: u64, so: Option<&Path>) -> io::Result<Option<f64>> {
    let mut command = Command::new("timeout");
    command.arg("60").arg(program).args([row, &size.to_string()]);
    if let Some(so) = so {
        command.env("LD_PRELOAD", so);
    }
    let output = command.output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().parse().ok().filter(|_| output.status.success()))
}
