//! The work during which the kernel refuses. A refusal is an answer like any other: what is refused is not had.

use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use crate::Direct;
use crate::common::{Held, Numbers};

pub type Block = Held<Direct>;

/// A block of each kind: of slabs of one slot and of eight, runs, aligned ones, mappings, those of more than a granule,
/// and those aligned to more than that.
pub const KINDS_OF_BLOCKS: [(usize, usize); 10] = [
    (1, 1),
    (100, 8),
    (3000, 64),
    (20_000, 8),
    (5000, 4096),
    (100_000, 8),
    (1 << 20, 1 << 20),
    (3 << 20, 8),
    (33 << 20, 8),
    (50_000, 64 << 20),
];

const THREADS: usize = 4;
const STEPS: usize = 56;

/// A size and an alignment that come up in that step, and how many blocks of them.
fn wanted(step: usize, numbers: &mut Numbers) -> (usize, usize, usize) {
    match step % 16 {
        0..8 => (numbers.size(2000), 8, 30),
        8..11 => (numbers.size(60_000), 8, 4),
        11..13 => (numbers.size(1 << 20), 8, 1),
        13 => (numbers.size(3000), 1 << numbers.below(21), 2),
        14 => ((2 << 20) + numbers.below(2 << 20), 8, 1),
        _ => {
            let (size, align) = KINDS_OF_BLOCKS[numbers.below(KINDS_OF_BLOCKS.len())];
            (size, align, 1)
        }
    }
}

fn take(size: usize, align: usize, zeroed: bool, seed: u64) -> Option<Block> {
    if zeroed { Block::take_zeroed(size, align, seed) } else { Block::take(size, align, seed) }
}

/// A block that grows by and by, from a slab's to a mapping that moves.
fn grow(numbers: &mut Numbers) {
    let Some(mut block) = Block::take(10 << 10, 8, numbers.next()) else { return };
    for size in [30 << 10, 100 << 10, 1 << 20, 2 << 20, 3 << 20] {
        block.resize(size + numbers.below(4096));
    }
}

/// A long run that has no room to grow, since others were taken until one lies just after it: its pages are to be moved.
pub fn grow_past_neighbour(numbers: &mut Numbers) {
    const SIZE: usize = 5 << 20;
    let mut blocks: Vec<Block> = Vec::new();
    for _ in 0..30 {
        blocks.extend(Block::take(SIZE, 8, numbers.next()));
        let has_neighbour = |block: &Block| blocks.iter().any(|other| other.range().0 == block.range().0 + SIZE);
        if let Some(crowded) = blocks.iter().position(has_neighbour) {
            blocks[crowded].resize(4 * SIZE);
            return;
        }
    }
}

/// Takes, resizes, hands on and frees blocks of all kinds; then frees what comes until nobody hands anything on.
fn work(seed: u64, handed: &Receiver<Block>, hand_on: Sender<Block>) {
    let mut numbers = Numbers::new(seed);
    let mut live: Vec<Block> = Vec::new();
    for step in 0..STEPS {
        let (size, align, count) = wanted(step, &mut numbers);
        live.extend((0..count).filter_map(|_| take(size, align, step % 3 == 0, numbers.next())));
        live.extend(handed.try_iter().take(40));
        while live.len() > 100 {
            let at = numbers.below(live.len());
            let size = live[at].size();
            live[at].resize(1 + size / 2 + numbers.below(size + 1));
            drop(live.swap_remove(numbers.below(live.len())));
            let _ = hand_on.send(live.swap_remove(numbers.below(live.len())));
        }
        match step {
            20 => grow(&mut numbers),
            30 => homing::thread_cleanup(),
            40 => drop(homing::entry::trim()),
            // A thread's first use, its end, and what it leaves to others.
            50 => {
                let seed = numbers.next();
                let taken = thread::spawn(move || (0..50).filter_map(|nth| Block::take(200, 8, seed ^ nth)).collect());
                live.extend::<Vec<Block>>(taken.join().expect("a refusal makes no thread panic"));
            }
            _ => {}
        }
    }
    let rest = live.split_off(live.len() / 2);
    rest.into_iter().for_each(|block| drop(hand_on.send(block)));
    drop((live, hand_on));
    handed.iter().for_each(drop);
}

/// Has a child of the process use what it had from its parent, and blocks of its own.
pub fn fork_and_work(seed: u64, own: &mut Vec<Block>) {
    // SAFETY: the child uses this allocator and the system's, both of which are made for that, and ends by `_exit`.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: no preconditions: a child that hangs ends so, and its parent sees it.
        unsafe { libc::alarm(60) };
        let worked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut numbers = Numbers::new(seed);
            for step in 0..16 {
                let (size, align, count) = wanted(step, &mut numbers);
                own.extend((0..count).filter_map(|_| take(size, align, step % 2 == 0, numbers.next())));
            }
            grow(&mut numbers);
            own.clear();
        }));
        // SAFETY: no preconditions.
        unsafe { libc::_exit(i32::from(worked.is_err())) };
    }
    // A process that cannot be had is no matter of the allocator's.
    if child > 0 {
        let mut status = 0;
        // SAFETY: the buffer has the type the call fills.
        unsafe { libc::waitpid(child, &raw mut status, 0) };
        assert_eq!(status, 0, "a child process failed, or hung: see its message");
    }
}

/// Runs the work in four threads that hand blocks on to each other, beside one that trims and forks.
pub fn run(seed: u64) {
    let mut own: Vec<_> =
        KINDS_OF_BLOCKS[..8].iter().filter_map(|(size, align)| Block::take(*size, *align, 3)).collect();
    let (ways, mut ends): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel::<Block>()).unzip();
    ends.rotate_left(1);
    let threads: Vec<_> = ways
        .into_iter()
        .zip(ends)
        .zip(seed * 10..)
        .map(|((way, end), seed)| thread::spawn(move || work(seed, &end, way)))
        .collect();
    homing::entry::trim();
    grow_past_neighbour(&mut Numbers::new(seed));
    fork_and_work(seed, &mut own);
    for thread in threads {
        thread.join().expect("a refusal makes no thread panic");
    }
}
