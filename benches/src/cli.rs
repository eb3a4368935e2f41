//! Commands: `summary`, `memory`, `growth` and `shaped`.

#![deny(missing_docs)]

use std::io;
use std::path::PathBuf;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use homing_benches::peers::PeerId;
use homing_benches::{growth, memory, summary, workloads};

/// Compares homing with its peers.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Time: one table of all benchmarks, as ratios to homing's time
    Summary {
        /// A fifth of the time, for more noise
        #[arg(long)]
        quick: bool,
        /// Groups to measure
        #[arg(long, value_name = "GROUP", value_delimiter = ',', value_parser = groups())]
        only: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Memory: the peak of the mixed workloads, in a process for each allocator
    Memory {
        #[command(flatten)]
        common: Common,
    },
    /// What grows with the heap, the threads or time, in processes that allocators are preloaded into
    Growth {
        /// Rows to measure
        #[arg(long, value_name = "ROW", value_delimiter = ',', value_parser = PossibleValuesParser::new(growth::names()))]
        only: Vec<String>,
        /// Sizes instead of the rows' own
        #[arg(long, value_name = "SIZE", value_delimiter = ',')]
        sizes: Vec<u64>,
        /// homing's shared object, if not target/release/libhoming_preload.so
        #[arg(long)]
        so: Option<PathBuf>,
        /// Print the table as Markdown
        #[arg(long)]
        markdown: bool,
    },
    /// Time of bump arenas and pools: homing's, other crates', and boxes of every allocator, as ratios to homing's
    #[cfg(feature = "homing")]
    Shaped {
        /// A fifth of the time, for more noise
        #[arg(long)]
        quick: bool,
        /// Groups to measure
        #[arg(long, value_name = "GROUP", value_delimiter = ',', value_parser = ["bump", "pool"])]
        only: Vec<String>,
        #[command(flatten)]
        common: Common,
    },
    /// What a process started by `memory` does
    #[command(hide = true)]
    Peak {
        /// The allocator
        peer: PeerId,
        /// The name of the workload
        workload: String,
    },
}

#[derive(clap::Args)]
struct Common {
    /// Allocators to compare with; homing and system are always measured
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    peers: Vec<PeerId>,
    /// Print the table as Markdown
    #[arg(long)]
    markdown: bool,
}

fn groups() -> PossibleValuesParser {
    let mut groups: Vec<&str> = workloads::all().iter().map(|case| case.group()).collect();
    groups.dedup();
    PossibleValuesParser::new(groups)
}

fn main() -> io::Result<()> {
    match Arguments::parse().command {
        Command::Summary { quick, only, common: Common { peers, markdown } } => {
            summary::run(&summary::Options { quick, only, peers, markdown });
            Ok(())
        }
        #[cfg(feature = "homing")]
        Command::Shaped { quick, only, common: Common { peers, markdown } } => {
            homing_benches::shaped::run(&summary::Options { quick, only, peers, markdown });
            Ok(())
        }
        Command::Growth { only, sizes, so, markdown } => {
            growth::run(&growth::Options { rows: only, sizes, so, markdown })
        }
        Command::Memory { common: Common { peers, markdown } } => memory::run(&memory::Options { peers, markdown }),
        Command::Peak { peer, workload } => memory::child(peer, &workload),
    }
}
