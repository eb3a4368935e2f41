//! One table of all benchmarks and all allocators.
//!
//! Criterion measures one allocator for a second and then the next: whatever the machine does meanwhile falls on one
//! of them. Here a round measures every allocator once, for some milliseconds, and rounds follow each other; the
//! medians of many rounds then compare under the same conditions.

pub mod measure;
pub mod statistics;
mod verdict;

use self::measure::{Plan, Row, measure};
use crate::peers::PeerId;
use crate::{table, workloads};

/// What to measure, and how to show it.
pub struct Options {
    /// A fifth of the time, for more noise.
    pub quick: bool,
    /// Groups to measure; none: all.
    pub only: Vec<String>,
    /// Allocators to compare with; none: all.
    pub peers: Vec<PeerId>,
    /// Whether the table is Markdown.
    pub markdown: bool,
}

/// The allocators to measure: those asked for, and always the reference and `System`, by which all are judged.
pub fn chosen(asked: &[PeerId]) -> Vec<PeerId> {
    let wanted = |peer: &PeerId| {
        asked.is_empty() || asked.contains(peer) || [PeerId::reference(), PeerId::System].contains(peer)
    };
    PeerId::all().iter().copied().filter(wanted).collect()
}

/// Measures, and prints the table to standard output; progress goes to standard error.
pub fn run(options: &Options) {
    let peers = chosen(&options.peers);
    let plan = Plan::new(options.quick);
    let mut rows = Vec::new();
    for case in workloads::all() {
        if options.only.is_empty() || options.only.iter().any(|group| group == case.group()) {
            eprintln!("{} {}", case.group(), case.name());
            rows.push(measure(&case, &peers, &plan));
        }
    }
    println!("{}", render(&rows, &peers, options.markdown));
    println!();
    for line in verdict::lines(&rows, &peers) {
        println!("{line}");
    }
}

/// The table: ratios to the reference, whose own time a block stands in the second column.
fn render(rows: &[Row], peers: &[PeerId], markdown: bool) -> comfy_table::Table {
    let mut header = vec!["benchmark".to_owned(), format!("{}, ns a block", PeerId::reference().name())];
    header.extend(peers.iter().map(|peer| peer.name()));
    let mut table = table::new(markdown, header);
    for row in rows {
        let time = row.times[0].as_ref().map_or_else(|| "-".to_owned(), |time| format!("{:.1}", time.nanoseconds));
        let mut cells = vec![row.name.clone(), time];
        cells.extend((0..peers.len()).map(|at| table::ratio(row.ratio(at))));
        table.add_row(cells);
    }
    let mut means = vec!["geometric mean".to_owned(), String::new()];
    means.extend((0..peers.len()).map(|at| table::ratio(verdict::mean(rows, at))));
    table.add_row(means);
    table
}
