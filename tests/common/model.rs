//! The model: a table of live blocks, and what every operation of an allocator must keep true of it.
//!
//! Operations are run by the test's thread or by one of its workers, one at a time, so that a failing sequence fails
//! again and can be made smaller.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, TestRunner};

use crate::common::{Held, Verbs};

/// Who does something: 0 is the test's own thread.
const ACTORS: usize = 4;

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// So many blocks of one size.
    Allocate { who: usize, size: usize, align: usize, zeroed: bool, count: usize },
    /// A block is made larger or smaller, by any thread.
    Resize { who: usize, which: Index, size: usize },
    /// So many blocks are freed, every `stride`-th from `which` on, by any thread.
    Free { who: usize, which: Index, count: usize, stride: usize },
    /// A block's contents are read.
    Read { which: Index },
    /// A worker ends, and another takes its place.
    Rebirth { who: usize },
    /// A thread gives its arena up.
    CleanUp { who: usize },
}

fn size() -> impl Strategy<Value = usize> {
    let upto = |doublings: u32| (0..doublings).prop_flat_map(|doubling| (1_usize << doubling)..=(2_usize << doubling));
    prop_oneof![
        30 => upto(11),
        30 => upto(17),
        12 => upto(22),
        1 => Just(64 << 20),
    ]
}

fn align() -> impl Strategy<Value = usize> {
    prop_oneof![
        20 => (0_u32..=4).prop_map(|shift| 1_usize << shift),
        6 => (5_u32..=16).prop_map(|shift| 1_usize << shift),
        2 => (17_u32..=22).prop_map(|shift| 1_usize << shift),
        1 => (23_u32..=27).prop_map(|shift| 1_usize << shift),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..ACTORS;
    prop_oneof![
        6 => (who(), size(), align(), any::<bool>())
            .prop_map(|(who, size, align, zeroed)| Step::Allocate { who, size, align, zeroed, count: 1 }),
        3 => (who(), size(), align(), any::<bool>(), 2..700_usize).prop_map(|(who, size, align, zeroed, count)| {
            let count = count.min((4 << 20) / size.max(align).min(4 << 20)).max(1);
            Step::Allocate { who, size, align, zeroed, count }
        }),
        4 => (who(), any::<Index>(), size()).prop_map(|(who, which, size)| Step::Resize { who, which, size }),
        4 => (who(), any::<Index>()).prop_map(|(who, which)| Step::Free { who, which, count: 1, stride: 1 }),
        4 => (who(), any::<Index>(), 1..1000_usize, 1..5_usize)
            .prop_map(|(who, which, count, stride)| Step::Free { who, which, count, stride }),
        2 => any::<Index>().prop_map(|which| Step::Read { which }),
        1 => (1..ACTORS).prop_map(|who| Step::Rebirth { who }),
        1 => who().prop_map(|who| Step::CleanUp { who }),
    ]
}

type Job = Box<dyn FnOnce() + Send>;

/// A thread that does what it is told, one thing at a time.
struct Worker {
    jobs: Option<Sender<Job>>,
    done: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

impl Worker {
    fn new() -> Self {
        let (jobs, inbox) = mpsc::channel::<Job>();
        let (say, done) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            for job in inbox {
                job();
                if say.send(()).is_err() {
                    return;
                }
            }
        });
        Worker { jobs: Some(jobs), done, thread: Some(thread) }
    }

    /// Runs the job there and waits for it.
    fn run(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("the worker is there until it is dropped");
        jobs.send(job).expect("a worker listens until it is dropped");
        self.done.recv().expect("what the worker was told to do has panicked: see its message");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The table, and who works on it.
struct World<V: Verbs> {
    live: Vec<Held<V>>,
    /// The addresses of live blocks: first to one after the last.
    ranges: BTreeMap<usize, usize>,
    workers: [Worker; ACTORS - 1],
    seed: u64,
}

impl<V: Verbs> World<V> {
    fn new() -> Self {
        World { live: Vec::new(), ranges: BTreeMap::new(), workers: std::array::from_fn(|_| Worker::new()), seed: 0 }
    }

    fn run<R: Send + 'static>(&self, who: usize, job: impl FnOnce() -> R + Send + 'static) -> R {
        if who == 0 {
            return job();
        }
        let (say, hear) = mpsc::channel();
        self.workers[who - 1].run(Box::new(move || {
            let _ = say.send(job());
        }));
        hear.recv().expect("the job is done")
    }

    fn add(&mut self, held: Held<V>) {
        let (start, end) = held.range();
        if let Some((other, other_end)) = self.ranges.range(..end).next_back() {
            assert!(*other_end <= start, "the blocks {start:#x}..{end:#x} and {other:#x}..{other_end:#x} overlap");
        }
        self.ranges.insert(start, end);
        self.live.push(held);
    }

    fn remove(&mut self, at: usize) -> Held<V> {
        let held = self.live.swap_remove(at);
        self.ranges.remove(&held.range().0);
        held
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Allocate { who, size, align, zeroed, count } => {
                let seed = self.seed;
                self.seed += count as u64;
                let take = if zeroed { Held::<V>::take_zeroed } else { Held::<V>::take };
                let taken = self.run(who, move || {
                    (0..count as u64).map(|nth| take(size, align, seed + nth)).collect::<Option<Vec<_>>>()
                });
                for held in taken.expect("there is memory for what the model asks for") {
                    self.add(held);
                }
            }
            Step::Resize { who, which, size } => {
                if self.live.is_empty() {
                    return;
                }
                let mut held = self.remove(which.index(self.live.len()));
                let held = self.run(who, move || held.resize(size).then_some(held));
                self.add(held.expect("there is memory for what the model asks for"));
            }
            Step::Free { who, which, count, stride } => {
                let mut freed = Vec::new();
                for nth in 0..count.min(self.live.len()) {
                    let first = which.index(self.live.len());
                    freed.push(self.remove((first + nth * stride) % self.live.len()));
                }
                self.run(who, move || drop(freed));
            }
            Step::Read { which } => {
                if !self.live.is_empty() {
                    self.live[which.index(self.live.len())].check();
                }
            }
            Step::Rebirth { who } => self.workers[who - 1] = Worker::new(),
            Step::CleanUp { who } => self.run(who, homing::thread_cleanup),
        }
    }
}

/// Runs so many random sequences of steps; panics with the shortest that breaks a rule.
pub fn hold_the_rules<V: Verbs>(cases: u32) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let steps = proptest::collection::vec(step(), 1..150);
    TestRunner::new(config)
        .run(&steps, |steps| {
            let mut world = World::<V>::new();
            for step in steps {
                world.step(step);
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
