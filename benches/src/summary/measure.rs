//! Measuring one benchmark, all allocators in turn.

use std::time::Duration;

use super::statistics::median_and_spread;
use crate::case::{Case, Runner};
use crate::peers::PeerId;

/// How long to measure.
pub(super) struct Plan {
    /// Samples of each allocator.
    pub rounds: usize,
    /// The time of one sample, about.
    pub sample: Duration,
}

/// What an allocator needed.
pub(super) struct Time {
    /// A block, in the median.
    pub nanoseconds: f64,
    /// How far apart the middle half of the samples lay, as a share of the median.
    pub spread: f64,
}

/// What all allocators needed for a benchmark; `None` where one cannot do it.
pub(super) struct Row {
    /// Group and name.
    pub name: String,
    /// In the order of the allocators; the first is the reference.
    pub times: Vec<Option<Time>>,
}

impl Row {
    /// The time of the allocator at `at` in the list, divided by the reference's.
    pub fn ratio(&self, at: usize) -> Option<f64> {
        Some(self.times[at].as_ref()?.nanoseconds / self.times[0].as_ref()?.nanoseconds)
    }
}

/// An allocator while it is measured.
struct Contender {
    runner: Runner,
    passes: u64,
    samples: Vec<f64>,
}

/// Measures `case` with `peers`.
pub(super) fn measure(case: &Case, peers: &[PeerId], plan: &Plan) -> Row {
    let mut contenders: Vec<Option<Contender>> =
        peers.iter().map(|&peer| case.is_supported(peer).then(|| contender(case, peer, plan))).collect();

    for round in 0..plan.rounds {
        // Each round begins with another allocator, so that none always follows the same one.
        for turn in 0..peers.len() {
            if let Some(contender) = &mut contenders[(round + turn) % peers.len()] {
                let time = contender.runner.time(contender.passes);
                let blocks = contender.passes * case.blocks();
                contender.samples.push(time.as_nanos() as f64 / blocks as f64);
            }
        }
    }

    let times = contenders.into_iter().map(|contender| {
        let (nanoseconds, spread) = median_and_spread(&mut contender?.samples);
        Some(Time { nanoseconds, spread })
    });
    Row { name: format!("{} {}", case.group(), case.name()), times: times.collect() }
}

/// Warms up, and finds how many passes make a sample.
fn contender(case: &Case, peer: PeerId, plan: &Plan) -> Contender {
    let mut runner = case.runner(peer);
    let mut passes = 1;
    loop {
        let time = runner.time(passes);
        if time * 2 >= plan.sample {
            let scale = plan.sample.as_secs_f64() / time.as_secs_f64();
            passes = ((passes as f64 * scale).round() as u64).max(1);
            return Contender { runner, passes, samples: Vec::with_capacity(plan.rounds) };
        }
        passes *= 2;
    }
}
