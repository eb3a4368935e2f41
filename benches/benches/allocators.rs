//! Every benchmark with every allocator, by criterion: absolute times, and how they change from commit to commit.
//! To compare allocators, take the command `summary`, which measures them in turn.

#![deny(missing_docs)]

mod common;

use std::cell::OnceCell;

use common::criterion;
use homing_benches::case::Runner;
use homing_benches::peers::PeerId;
use homing_benches::workloads;

fn main() {
    let mut criterion = criterion();
    for case in workloads::all() {
        for &peer in PeerId::all() {
            if !case.is_supported(peer) {
                continue;
            }
            let mut runner = Lazy::default();
            let name = format!("{}/{}/{}", case.group(), case.name(), peer.name());
            criterion.bench_function(&name, |bencher| {
                bencher.iter_custom(|passes| runner.get(|| case.runner(peer)).time(passes));
            });
        }
    }
    criterion.final_summary();
}

/// A runner that is prepared when it is first asked for: benchmarks that the command line leaves out cost nothing.
#[derive(Default)]
struct Lazy(OnceCell<Runner>);

impl Lazy {
    fn get(&mut self, prepare: impl FnOnce() -> Runner) -> &mut Runner {
        self.0.get_or_init(prepare);
        self.0.get_mut().expect("it was just prepared")
    }
}
