//! The benchmarks, a file for each group.

mod aligned;
mod bulk;
mod mixed;
mod one;
mod producer_consumer;
mod realloc;
mod threads;
mod zeroed;

pub use aligned::Aligned;
pub use bulk::{Bulk, Order};
pub use mixed::{Mixed, MixedPair};
pub use one::One;
pub use producer_consumer::ProducerConsumer;
pub use realloc::{Growth, Realloc};
pub use threads::Threads;
pub use zeroed::Zeroed;

use crate::case::Case;
use crate::workload::Workload;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Something to do with each benchmark, see [`visit`].
pub trait Visitor {
    /// Does it with one.
    fn visit<W: Workload>(&mut self, workload: W);
}

/// Shows `visitor` every benchmark: the one list of them.
pub fn visit(visitor: &mut impl Visitor) {
    for size in [8, 16, 64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 4 * MIB] {
        visitor.visit(One { size });
    }
    for size in [16, 64, 512, 4 * KIB] {
        for order in [Order::Forward, Order::Backward, Order::Shuffled] {
            visitor.visit(Bulk { size, order });
        }
    }
    for growth in [Growth::Double, Growth::Half, Growth::Push] {
        visitor.visit(Realloc { growth });
    }
    for size in [64, 4 * KIB, 64 * KIB, MIB, 8 * MIB] {
        visitor.visit(Zeroed { size });
    }
    for align in [64, 4 * KIB, 64 * KIB] {
        visitor.visit(Aligned { align });
    }
    visitor.visit(ProducerConsumer);
    visitor.visit(Threads);
    visitor.visit(Mixed);
    visitor.visit(MixedPair);
}

/// Every benchmark.
pub fn all() -> Vec<Case> {
    struct Collect(Vec<Case>);

    impl Visitor for Collect {
        fn visit<W: Workload>(&mut self, workload: W) {
            self.0.push(Case::new(workload));
        }
    }

    let mut collect = Collect(Vec::new());
    visit(&mut collect);
    collect.0
}

/// A size as people write it.
fn human(size: usize) -> String {
    if size >= MIB {
        format!("{} MiB", size / MIB)
    } else if size >= KIB {
        format!("{} KiB", size / KIB)
    } else {
        format!("{size} B")
    }
}
