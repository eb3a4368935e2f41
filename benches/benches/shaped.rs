//! Bump arenas and pools by criterion: absolute times, and how they change from commit to commit. To compare, take the
//! command `shaped`, which measures all contenders in turn.

#![deny(missing_docs)]

mod common;

use common::criterion;
use homing_benches::shaped;
use homing_benches::summary::Options;

fn main() {
    let mut criterion = criterion();
    let all = Options { quick: false, only: Vec::new(), peers: Vec::new(), markdown: false };
    for contest in shaped::contests(&all) {
        for contender in &contest.contenders {
            let name = format!("{}/{}/{}", contest.group, contest.name, contender.name);
            // Prepared when it is first asked for: what the command line leaves out costs nothing.
            let mut timed = None;
            criterion.bench_function(&name, |bencher| {
                let timed = timed.get_or_insert_with(|| (contender.prepare)());
                bencher.iter_custom(|passes| timed.time(passes));
            });
        }
    }
    criterion.final_summary();
}
