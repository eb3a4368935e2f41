//! How much memory an allocator takes for the mixed workloads.
//!
//! What a process has taken says nothing about one of several allocators in it, so each gets a process of its own:
//! the program starts itself again. Other allocators are still linked into that process and have touched a little
//! memory before its start; so what counts is by how much the peak lies above the memory taken before the work.

use std::process::Command;
use std::{env, fs, io};

use crate::case::Case;
use crate::peers::PeerId;
use crate::summary::chosen;
use crate::summary::statistics::median_and_spread;
use crate::{table, workloads};

/// Blocks that each process takes from its allocator, beyond those alive from the start.
const BLOCKS: u64 = 2_000_000;
/// Processes for each number: threads interleave differently each time.
const ROUNDS: usize = 3;

/// What to measure, and how to show it.
pub struct Options {
    /// Allocators to compare with; none: all.
    pub peers: Vec<PeerId>,
    /// Whether the table is Markdown.
    pub markdown: bool,
}

fn cases() -> impl Iterator<Item = Case> {
    workloads::all().into_iter().filter(|case| case.group() == "mixed")
}

/// Measures, and prints the table.
///
/// # Errors
/// When a process cannot be started or does not answer.
pub fn run(options: &Options) -> io::Result<()> {
    let mut header = vec!["allocator".to_owned()];
    for case in cases() {
        header.push(format!("{}, MiB", case.name()));
        header.push(format!("to {}'s", PeerId::reference().name()));
    }
    let mut table = table::new(options.markdown, header);
    let mut reference: Option<Vec<f64>> = None;
    for peer in chosen(&options.peers) {
        let peaks = cases().map(|case| median_peak(peer, &case)).collect::<io::Result<Vec<f64>>>()?;
        let reference = reference.get_or_insert_with(|| peaks.clone());
        let mut row = vec![peer.name()];
        for (peak, reference) in peaks.iter().zip(reference) {
            row.push(format!("{:.1}", peak / 1024.0));
            row.push(table::ratio(Some(peak / *reference)));
        }
        table.add_row(row);
    }
    println!("{table}");
    Ok(())
}

fn median_peak(peer: PeerId, case: &Case) -> io::Result<f64> {
    let mut peaks = (0..ROUNDS).map(|_| peak_of_child(peer, case)).collect::<io::Result<Vec<f64>>>()?;
    Ok(median_and_spread(&mut peaks).0)
}

/// Asks a process of its own, see [`child`].
fn peak_of_child(peer: PeerId, case: &Case) -> io::Result<f64> {
    let output = Command::new(env::current_exe()?).args(["peak", &peer.name(), &case.name()]).output()?;
    let answer = String::from_utf8_lossy(&output.stdout);
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(io::Error::other(format!("{}, {}: {complaint}", peer.name(), case.name())));
    }
    answer.trim().parse().map_err(|_| io::Error::other(format!("{} answered {answer:?}", peer.name())))
}

/// The part of the other process: does the work and prints by how many KiB its memory grew.
///
/// # Errors
/// When the workload is unknown or the kernel does not tell.
pub fn child(peer: PeerId, workload: &str) -> io::Result<()> {
    let case = cases().find(|case| case.name() == workload);
    let case = case.ok_or_else(|| io::Error::other(format!("no workload {workload:?}")))?;
    // Makes the peak start again from what is taken now. Where that is refused, the peak so far is little more.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = kibibytes("VmRSS:")?;
    let mut runner = case.runner(peer);
    runner.time(BLOCKS / case.blocks());
    println!("{}", kibibytes("VmHWM:")?.saturating_sub(before));
    Ok(())
}

/// A line of the kernel's report on this process.
fn kibibytes(key: &str) -> io::Result<u64> {
    let report = fs::read_to_string("/proc/self/status")?;
    let line = report.lines().find_map(|line| line.strip_prefix(key));
    let number = line.and_then(|line| line.trim().strip_suffix("kB")).and_then(|number| number.trim().parse().ok());
    number.ok_or_else(|| io::Error::other(format!("the kernel reports no {key}")))
}
