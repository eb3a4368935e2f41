//! A workload with its type forgotten, so that all of them fit in one list.

use std::time::{Duration, Instant};

use crate::peers::turn::Turn;
use crate::peers::{Peer, PeerId, Visitor};
use crate::workload::Workload;

/// A benchmark.
pub struct Case(Box<dyn AnyWorkload>);

impl Case {
    /// The benchmark that does this work.
    pub fn new<W: Workload>(workload: W) -> Self {
        Self(Box::new(workload))
    }

    /// The group it belongs to.
    pub fn group(&self) -> &'static str {
        self.0.any_group()
    }

    /// Its name within the group.
    pub fn name(&self) -> String {
        self.0.any_name()
    }

    /// How many blocks a pass takes.
    pub fn blocks(&self) -> u64 {
        self.0.any_blocks()
    }

    /// Whether `peer` can do it at all.
    pub fn is_supported(&self, peer: PeerId) -> bool {
        let _turn = Turn::of(peer);
        self.0.any_supported(peer)
    }

    /// The benchmark for one allocator, ready to run.
    pub fn runner(&self, peer: PeerId) -> Runner {
        let _turn = Turn::of(peer);
        Runner { peer, job: Some(self.0.any_job(peer)) }
    }
}

/// A benchmark for one allocator. All it does, it does in the allocator's turn.
pub struct Runner {
    peer: PeerId,
    /// Always there until the drop.
    job: Option<Box<dyn Job>>,
}

impl Runner {
    /// The time of so many passes.
    ///
    /// # Panics
    /// When a block was found damaged.
    pub fn time(&mut self, passes: u64) -> Duration {
        let _turn = Turn::of(self.peer);
        let job = self.job.as_mut().expect("the runner is alive");
        let (time, damaged) = job.time(passes);
        assert_eq!(damaged, 0, "{} damaged blocks", self.peer.name());
        time
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _turn = Turn::of(self.peer);
        self.job = None;
    }
}

/// [`Workload`] without types.
trait AnyWorkload {
    fn any_group(&self) -> &'static str;
    fn any_name(&self) -> String;
    fn any_blocks(&self) -> u64;
    fn any_supported(&self, peer: PeerId) -> bool;
    fn any_job(&self, peer: PeerId) -> Box<dyn Job>;
}

impl<W: Workload> AnyWorkload for W {
    fn any_group(&self) -> &'static str {
        self.group()
    }

    fn any_name(&self) -> String {
        self.name()
    }

    fn any_blocks(&self) -> u64 {
        self.blocks()
    }

    fn any_supported(&self, peer: PeerId) -> bool {
        peer.visit(Supported(self))
    }

    fn any_job(&self, peer: PeerId) -> Box<dyn Job> {
        peer.visit(Prepare(self))
    }
}

struct Supported<'a, W>(&'a W);

impl<W: Workload> Visitor for Supported<'_, W> {
    type Output = bool;

    fn visit<P: Peer>(self) -> bool {
        self.0.is_supported::<P>()
    }
}

struct Prepare<'a, W>(&'a W);

impl<W: Workload> Visitor for Prepare<'_, W> {
    type Output = Box<dyn Job>;

    fn visit<P: Peer>(self) -> Box<dyn Job> {
        Box::new(Prepared::<W, P>(self.0.prepare::<P>()))
    }
}

/// A workload prepared for an allocator, without types: one call through a table for a whole sample.
trait Job {
    fn time(&mut self, passes: u64) -> (Duration, u64);
}

struct Prepared<W: Workload, P: Peer>(W::State<P>);

impl<W: Workload, P: Peer> Job for Prepared<W, P> {
    fn time(&mut self, passes: u64) -> (Duration, u64) {
        let mut damaged = 0;
        let start = Instant::now();
        for _ in 0..passes {
            damaged += W::pass::<P>(&mut self.0);
        }
        (start.elapsed(), damaged)
    }
}
