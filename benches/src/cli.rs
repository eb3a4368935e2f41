//! Commands: `summary`, `memory` and `shaped`.

#![deny(missing_docs)]

use std::io;

use clap::builder::PossibleValuesParser;
use clap::{Parser, Subcommand};
use homing_benches::peers::PeerId;
use homing_benches::{memory, summary, workloads};

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
        Command::Memory { common: Common { peers, markdown } } => memory::run(&memory::Options { peers, markdown }),
        Command::Peak { peer, workload } => memory::child(peer, &workload),
    }
}
