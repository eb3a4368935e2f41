//! Two threads that share a table.

use std::ops::Range;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::{LIVE, block};
use crate::block::Block;
use crate::peers::Peer;
use crate::rng::Rng;
use crate::workload::Workload;

/// Replacements of each thread in a pass: enough that waking the other thread does not count.
const REPLACED: usize = 10_000;
/// One replacement in so many is anywhere in the table, the others are in the thread's own half.
const ANYWHERE: usize = 4;

/// Two threads replace blocks at random, mostly their own, some of the other's.
pub struct MixedPair;

/// A lock for each block, so that the threads hardly ever meet.
type Table<P> = Arc<[Mutex<Option<Block<P>>>]>;

/// One thread's side.
struct Side<P: Peer> {
    rng: Rng,
    table: Table<P>,
    own: Range<usize>,
}

/// This thread's side, and the way to the other's.
pub struct Pair<P: Peer> {
    side: Side<P>,
    /// There until the drop.
    go: Option<SyncSender<()>>,
    done: Receiver<u64>,
    /// There until the drop.
    other: Option<JoinHandle<()>>,
}

impl<P: Peer> Side<P> {
    fn new(seed: u64, table: &Table<P>, own: Range<usize>) -> Self {
        Self { rng: Rng::new(seed), table: Arc::clone(table), own }
    }

    /// Puts a block in each place of the own half.
    fn fill(&mut self) {
        for at in self.own.clone() {
            self.replace(at);
        }
    }

    #[inline(always)]
    fn pass(&mut self) -> u64 {
        let mut damaged = 0;
        for _ in 0..REPLACED {
            let at = if self.rng.below(ANYWHERE) == 0 {
                self.rng.below(LIVE)
            } else {
                self.own.start + self.rng.below(self.own.len())
            };
            damaged += self.replace(at);
        }
        damaged
    }

    /// The lock is held for the exchange alone, neither for the allocation nor for the free.
    #[inline(always)]
    fn replace(&mut self, at: usize) -> u64 {
        let new = block(&mut self.rng);
        let old = {
            let mut place = self.table[at].lock().expect("no thread panics");
            place.replace(new)
        };
        u64::from(old.is_some_and(|old| !old.is_intact()))
    }
}

impl Workload for MixedPair {
    type State<P: Peer> = Pair<P>;

    fn group(&self) -> &'static str {
        "mixed"
    }

    fn name(&self) -> String {
        "two threads".to_owned()
    }

    fn blocks(&self) -> u64 {
        2 * REPLACED as u64
    }

    fn prepare<P: Peer>(&self) -> Pair<P> {
        let table: Table<P> = (0..LIVE).map(|_| Mutex::new(None)).collect();
        let (go, told) = sync_channel(1);
        let (tell, done) = sync_channel(1);
        let mut others = Side::new(8, &table, LIVE / 2..LIVE);
        let other = thread::spawn(move || {
            others.fill();
            // The first answer says that the half is full.
            if tell.send(0).is_err() {
                return;
            }
            while told.recv().is_ok() && tell.send(others.pass()).is_ok() {}
        });
        let mut side = Side::new(9, &table, 0..LIVE / 2);
        side.fill();
        done.recv().expect("the other thread fills its half and waits");
        Pair { side, go: Some(go), done, other: Some(other) }
    }

    #[inline(always)]
    fn pass<P: Peer>(pair: &mut Pair<P>) -> u64 {
        let go = pair.go.as_ref().expect("the pair is alive");
        go.send(()).expect("the other thread lives as long as the pair");
        let damaged = pair.side.pass();
        damaged + pair.done.recv().expect("the other thread lives as long as the pair")
    }
}

impl<P: Peer> Drop for Pair<P> {
    fn drop(&mut self) {
        self.go = None;
        if let Some(other) = self.other.take() {
            other.join().expect("the other thread does not panic");
        }
    }
}
