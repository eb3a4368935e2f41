//! Measuring one benchmark, all contenders in turn.

use std::time::Duration;

use super::statistics::median_and_spread;
use crate::case::{Case, Runner};
use crate::peers::PeerId;

/// How long to measure.
pub struct Plan {
    /// Samples of each contender.
    pub rounds: usize,
    /// The time of one sample, about.
    pub sample: Duration,
}

impl Plan {
    /// For figures to rely on, or a fifth of that time for more noise.
    pub fn new(quick: bool) -> Self {
        if quick {
            Plan { rounds: 7, sample: Duration::from_millis(4) }
        } else {
            Plan { rounds: 15, sample: Duration::from_millis(10) }
        }
    }
}

/// What a contender needed.
pub struct Time {
    /// A block, in the median.
    pub nanoseconds: f64,
    /// How far apart the middle half of the samples lay, as a share of the median.
    pub spread: f64,
}

/// What all contenders needed for a benchmark; `None` where one cannot do it.
pub struct Row {
    /// Group and name.
    pub name: String,
    /// In the order of the contenders; the first is the reference.
    pub times: Vec<Option<Time>>,
}

/// Something whose time is taken.
pub trait Timed {
    /// The time of so many passes.
    fn time(&mut self, passes: u64) -> Duration;
}

impl Timed for Runner {
    fn time(&mut self, passes: u64) -> Duration {
        Runner::time(self, passes)
    }
}

impl Row {
    /// The time of the contender at `at` in the list, divided by the reference's.
    pub fn ratio(&self, at: usize) -> Option<f64> {
        Some(self.times[at].as_ref()?.nanoseconds / self.times[0].as_ref()?.nanoseconds)
    }
}

/// A contender while it is measured.
struct Contender {
    timed: Box<dyn Timed>,
    passes: u64,
    samples: Vec<f64>,
}

/// Measures `case` with `peers`.
pub(super) fn measure(case: &Case, peers: &[PeerId], plan: &Plan) -> Row {
    let timed = peers.iter().map(|&peer| {
        let is_supported = case.is_supported(peer);
        is_supported.then(|| Box::new(case.runner(peer)) as Box<dyn Timed>)
    });
    in_turns(format!("{} {}", case.group(), case.name()), case.blocks(), timed, plan)
}

/// Measures all that is there of the contenders, whose passes each take so many blocks.
pub fn in_turns(
    name: String,
    blocks: u64,
    contenders: impl Iterator<Item = Option<Box<dyn Timed>>>,
    plan: &Plan,
) -> Row {
    let mut contenders: Vec<Option<Contender>> =
        contenders.map(|timed| timed.map(|timed| contender(timed, plan))).collect();
    let count = contenders.len();
    for round in 0..plan.rounds {
        // Each round begins with another one, so that none always follows the same one.
        for turn in 0..count {
            if let Some(contender) = &mut contenders[(round + turn) % count] {
                let time = contender.timed.time(contender.passes);
                contender.samples.push(time.as_nanos() as f64 / (contender.passes * blocks) as f64);
            }
        }
    }
    let times = contenders.into_iter().map(|contender| {
        let (nanoseconds, spread) = median_and_spread(&mut contender?.samples);
        Some(Time { nanoseconds, spread })
    });
    Row { name, times: times.collect() }
}

/// Warms up, and finds how many passes make a sample.
fn contender(mut timed: Box<dyn Timed>, plan: &Plan) -> Contender {
    let mut passes = 1;
    loop {
        let time = timed.time(passes);
        if time * 2 >= plan.sample {
            let scale = plan.sample.as_secs_f64() / time.as_secs_f64();
            passes = ((passes as f64 * scale).round() as u64).max(1);
            return Contender { timed, passes, samples: Vec::with_capacity(plan.rounds) };
        }
        passes *= 2;
    }
}
