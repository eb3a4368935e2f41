//! The model: a table of live blocks, and what every operation of an allocator must keep true of it.
//!
//! Operations are run by the test's thread or by one of its workers, one at a time, so that a failing sequence fails
//! again and can be made smaller. Where sequences come from is no matter here: `sequences.rs` makes random ones, and the
//! fuzzer in `fuzz/` makes them from bytes.

use std::collections::BTreeMap;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::JoinHandle;

use homing::NodeId;

use crate::common::{Held, Verbs};

/// Who does something: 0 is the test's own thread.
pub const ACTORS: usize = 4;

/// One step. `which` is a live block's place in the table, counted round.
#[derive(Clone, Debug)]
pub enum Step {
    /// So many blocks of one size.
    Allocate { who: usize, size: usize, align: usize, zeroed: bool, count: usize },
    /// A block on a chosen one of the nodes.
    AllocateOn { who: usize, size: usize, align: usize, node: u8 },
    /// A block is made larger or smaller, by any thread.
    Resize { who: usize, which: usize, size: usize },
    /// So many blocks are freed, every `stride`-th from `which` on, by any thread.
    Free { who: usize, which: usize, count: usize, stride: usize },
    /// A block is freed by the verb that wants to be told its node.
    FreeFromNode { who: usize, which: usize },
    /// A block's contents are read.
    Read { who: usize, which: usize },
    /// A worker ends, and another takes its place.
    Rebirth { who: usize },
    /// A thread gives its arena up.
    CleanUp { who: usize },
    /// What nobody uses goes back to the kernel.
    Trim { who: usize },
    /// The allocator's own data are held against each other.
    Audit,
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

    /// Ends the thread, and waits until it has ended.
    fn end(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

/// The test's thread and its workers.
pub struct Team {
    workers: [Worker; ACTORS - 1],
    nodes: Vec<NodeId>,
}

impl Team {
    pub fn new() -> Self {
        let machine = homing::Topology::read();
        let usable = |node: &&homing::Node| node.is_allowed() && node.memory().total != Some(0);
        let nodes = machine.nodes().iter().filter(usable).map(homing::Node::id).collect();
        Team { workers: std::array::from_fn(|_| Worker::new()), nodes }
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
}

/// The table, and who works on it.
struct World<'team, V: Verbs> {
    team: &'team mut Team,
    live: Vec<Held<V>>,
    /// The addresses of live blocks: first to one after the last.
    ranges: BTreeMap<usize, usize>,
    /// Bytes that may be asked for and live at once.
    most: usize,
    seed: u64,
}

impl<V: Verbs> World<'_, V> {
    fn add(&mut self, held: Held<V>) {
        let (start, end) = held.range();
        if let Some((other, other_end)) = self.ranges.range(..end).next_back() {
            assert!(*other_end <= start, "the blocks {start:#x}..{end:#x} and {other:#x}..{other_end:#x} overlap");
        }
        self.ranges.insert(start, end);
        self.live.push(held);
    }

    /// Takes a block off the table; `None` where it is empty.
    fn remove(&mut self, which: usize) -> Option<Held<V>> {
        let at = which.checked_rem(self.live.len())?;
        let held = self.live.swap_remove(at);
        self.ranges.remove(&held.range().0);
        Some(held)
    }

    /// How many more blocks of that size may be asked for.
    fn room(&self, size: usize) -> usize {
        self.most.saturating_sub(self.live.iter().map(Held::size).sum()) / size
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Allocate { who, size, align, zeroed, count } => {
                let (seed, count) = (self.seed, count.min(self.room(size)) as u64);
                self.seed += count;
                let take = if zeroed { Held::<V>::take_zeroed } else { Held::<V>::take };
                let taken = self
                    .team
                    .run(who, move || (0..count).map(|nth| take(size, align, seed + nth)).collect::<Option<Vec<_>>>());
                for held in taken.expect("there is memory for what the model asks for") {
                    self.add(held);
                }
            }
            Step::AllocateOn { who, size, align, node } => {
                if self.room(size) == 0 {
                    return;
                }
                let (seed, node) = (self.seed, self.team.nodes[usize::from(node) % self.team.nodes.len()]);
                self.seed += 1;
                let held = self.team.run(who, move || Held::<V>::take_on(node, size, align, seed));
                self.add(held.expect("there is memory for what the model asks for"));
            }
            Step::Resize { who, which, size } => {
                let Some(mut held) = self.remove(which) else { return };
                let size = if self.room(size) == 0 { held.size() } else { size };
                let held = self.team.run(who, move || held.resize(size).then_some(held));
                self.add(held.expect("there is memory for what the model asks for"));
            }
            Step::Free { who, which, count, stride } => {
                let mut freed = Vec::new();
                for nth in 0..count.min(self.live.len()) {
                    freed.extend(self.remove(which % self.live.len() + nth * stride));
                }
                self.team.run(who, move || drop(freed));
            }
            Step::FreeFromNode { who, which } => {
                if let Some(held) = self.remove(which) {
                    self.team.run(who, move || held.free_from_its_node());
                }
            }
            Step::Read { who, which } => {
                if let Some(held) = self.remove(which) {
                    let held = self.team.run(who, move || {
                        held.check();
                        held
                    });
                    self.add(held);
                }
            }
            Step::Rebirth { who } => {
                // The one before has ended when the next begins.
                self.team.workers[who - 1].end();
                self.team.workers[who - 1] = Worker::new();
            }
            Step::CleanUp { who } => self.team.run(who, homing::thread_cleanup),
            Step::Trim { who } => {
                self.team.run(who, homing::entry::trim);
            }
            Step::Audit => {
                self.audit();
            }
        }
    }

    /// Holds the allocator's own data against each other; gives how many blocks of slabs are handed out. `None` where
    /// others may be at work meanwhile.
    fn audit(&self) -> Option<usize> {
        // SAFETY: the workers wait for jobs, and what they wait with is not this allocator's memory.
        let audit = (!V::SHARED).then(|| unsafe { homing::audit() })?;
        Some(audit.unwrap_or_else(|error| panic!("{error}")).live_blocks)
    }

    /// Frees all, and sees that nothing is left.
    fn end(mut self) {
        while !self.live.is_empty() {
            let (who, count) = (self.live.len() % ACTORS, self.live.len().div_ceil(3));
            self.step(Step::Free { who, which: 0, count, stride: 3 });
        }
        if let Some(left) = self.audit() {
            assert_eq!(left, 0, "all blocks were freed, but so many count as handed out");
        }
        for who in (0..ACTORS).chain(0..ACTORS) {
            self.team.run(who, homing::thread_cleanup);
        }
        if !V::SHARED {
            homing::entry::trim();
            let stats = homing::stats();
            assert!(
                stats.used <= LEFT,
                "all blocks were freed and nobody has an arena, but of the pools is left: {stats:?}"
            );
        }
    }
}

/// Bytes that may be in use when nothing is live: a few slabs that nobody has looked after yet.
const LEFT: usize = 2 << 20;

/// Runs the steps, of which at most `most` bytes are live at once; panics where one breaks a rule.
pub fn run<V: Verbs>(team: &mut Team, most: usize, steps: impl IntoIterator<Item = Step>) {
    let mut world = World::<V> { team, live: Vec::new(), ranges: BTreeMap::new(), most, seed: 0 };
    for step in steps {
        world.step(step);
    }
    world.end();
}
