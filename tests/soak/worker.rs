//! What each thread of the crew does. It allocates nothing but what it asks for knowingly: anything may be refused.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::allocator::{self, Block};
use crate::common::Numbers;

/// Blocks that a thread has at most, and their bytes.
const PLACES: usize = 400;
const MOST_BYTES: usize = 24 << 20;
/// The largest block that waits for another thread.
const MOST_HANDED: usize = 128 << 10;

/// Blocks on their way from one thread to another.
static HANDED: [Mutex<Option<Block>>; 256] = [const { Mutex::new(None) }; 256];

/// Whether threads are to end.
pub static STOP: AtomicBool = AtomicBool::new(false);
/// Whether somebody is to fork.
pub static FORK: AtomicBool = AtomicBool::new(false);

/// What was done, for people.
pub struct Counts {
    pub taken: AtomicU64,
    pub refused: AtomicU64,
    pub resized: AtomicU64,
    pub handed: AtomicU64,
    pub forks: AtomicU64,
    pub trims: AtomicU64,
}

pub static COUNTS: Counts = Counts {
    taken: AtomicU64::new(0),
    refused: AtomicU64::new(0),
    resized: AtomicU64::new(0),
    handed: AtomicU64::new(0),
    forks: AtomicU64::new(0),
    trims: AtomicU64::new(0),
};

fn count(what: &AtomicU64) {
    what.fetch_add(1, Ordering::Relaxed);
}

/// Frees what waits for other threads.
pub fn free_handed() {
    for place in &HANDED {
        drop(place.lock().expect("nobody panics and lives on").take());
    }
}

/// A thread's blocks.
struct Worker {
    numbers: Numbers,
    blocks: [Option<Block>; PLACES],
    bytes: usize,
}

impl Worker {
    fn new(seed: u64) -> Self {
        Worker { numbers: Numbers::new(seed), blocks: [const { None }; PLACES], bytes: 0 }
    }

    fn wanted(&mut self) -> (usize, usize) {
        let numbers = &mut self.numbers;
        match numbers.below(1000) {
            0..750 => (numbers.size(2000), 8),
            750..880 => (numbers.size(64 << 10), 8),
            880..920 => (numbers.size(5000), 1 << numbers.below(13)),
            920..985 => ((64 << 10) + numbers.size(1 << 20), 8),
            985..997 => ((2 << 20) + numbers.size(4 << 20), 8),
            997 => (numbers.size(1 << 20), 1 << (13 + numbers.below(13))),
            998 => (numbers.size(1 << 20), 64 << 20),
            _ => ((33 << 20) + numbers.size(4 << 20), 8),
        }
    }

    fn take(&mut self, at: usize) {
        let (size, align) = self.wanted();
        let large = size > MOST_BYTES && self.numbers.below(8) == 0;
        if self.bytes + size > MOST_BYTES && !large {
            return self.free_half();
        }
        let seed = self.numbers.next();
        let block = match seed % 3 {
            0 => Block::take_zeroed(size, align, seed),
            _ => Block::take(size, align, seed),
        };
        count(if block.is_some() { &COUNTS.taken } else { &COUNTS.refused });
        self.put(at, block);
    }

    /// Puts a block at a place of the table; what was there is checked and freed.
    fn put(&mut self, at: usize, block: Option<Block>) {
        self.bytes += block.as_ref().map_or(0, Block::size);
        let before = std::mem::replace(&mut self.blocks[at], block);
        self.bytes -= before.as_ref().map_or(0, Block::size);
    }

    fn free_half(&mut self) {
        for at in (self.numbers.below(2)..PLACES).step_by(2) {
            self.put(at, None);
        }
    }

    fn resize(&mut self, at: usize) {
        let Some(block) = &mut self.blocks[at] else { return };
        let old = block.size();
        let new = match self.numbers.below(4) {
            0 => 1 + old / 3,
            1 => old + old / 2 + 1,
            2 => old * 2,
            _ => 1 + self.numbers.below(old * 3),
        };
        if new > old && self.bytes + (new - old) > MOST_BYTES {
            return;
        }
        count(if block.resize(new) { &COUNTS.resized } else { &COUNTS.refused });
        self.bytes = self.bytes - old + block.size();
    }

    /// Swaps a block for one that another thread has left.
    fn hand_on(&mut self, at: usize) {
        let given = self.blocks[at].as_ref().map_or(0, Block::size);
        if given > MOST_HANDED {
            return;
        }
        let place = &HANDED[self.numbers.below(HANDED.len())];
        let Ok(mut place) = place.try_lock() else { return };
        std::mem::swap(&mut *place, &mut self.blocks[at]);
        drop(place);
        self.bytes = self.bytes - given + self.blocks[at].as_ref().map_or(0, Block::size);
        count(&COUNTS.handed);
    }

    fn step(&mut self) {
        let at = self.numbers.below(PLACES);
        match self.numbers.below(10_000) {
            0..5500 => self.take(at),
            5500..8200 => self.put(at, None),
            8200..9200 => self.resize(at),
            9200..9990 => self.hand_on(at),
            9990 => {
                count(&COUNTS.trims);
                allocator::trim();
            }
            // Of the shared object's it is not to be had.
            9991..9994 if !allocator::is_system() => homing::thread_cleanup(),
            _ => {}
        }
    }

    /// Has a child of the process work on with what this thread has, and waits for it.
    fn fork(&mut self) {
        // SAFETY: the child uses the allocator, which is made for that, and ends by `_exit` or `exit`.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // A child that hangs ends so, and its parent sees it.
            // SAFETY: no preconditions.
            unsafe { libc::alarm(60) };
            for _ in 0..500 {
                let at = self.numbers.below(PLACES);
                match self.numbers.below(3) {
                    0 => self.resize(at),
                    1 => self.put(at, None),
                    _ => self.take(at),
                }
            }
            // SAFETY: no other thread is in the child, and nothing is registered that could not run here.
            unsafe { if self.numbers.below(2) == 0 { libc::exit(0) } else { libc::_exit(0) } };
        }
        // A process that cannot be had is no matter of the allocator's.
        if child > 0 {
            let mut status = 0;
            // SAFETY: the buffer has the type the call fills.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            assert_eq!(status, 0, "a child process failed, or hung (status {status:#x}); what it said stands above");
            count(&COUNTS.forks);
        }
    }
}

/// Works so many steps, or until it is stopped. Some of its blocks are left to other threads.
pub fn work(seed: u64, steps: u64) {
    let mut worker = Worker::new(seed);
    for _ in 0..steps {
        if STOP.load(Ordering::Relaxed) {
            break;
        }
        if FORK.swap(false, Ordering::Relaxed) {
            worker.fork();
        }
        worker.step();
    }
}
