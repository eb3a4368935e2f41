//! Threads in a ring hand blocks of every size on to each other: each makes some larger and some smaller, and frees what
//! has been round. `ci/valgrind` runs it under memcheck.
//!
//! `cargo run --release --example relay [ROUNDS]`

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::NonNull;
use std::sync::mpsc;
use std::thread;

use homing::Homing;

#[global_allocator]
static GLOBAL: Homing = Homing::new();

const THREADS: usize = 3;

/// Sizes of slabs of one slot and of eight, of runs, and of mappings.
const SIZES: [usize; 12] =
    [1, 24, 100, 1000, 2048, 8 << 10, 20_000, 64 << 10, 100_000, 1 << 20, (2 << 20) + 1, 33 << 20];

/// Bytes that are all the same, and how far they have come.
struct Parcel {
    bytes: Vec<u8>,
    value: u8,
    stations: usize,
}

impl Parcel {
    fn new(size: usize, value: u8) -> Self {
        Parcel { bytes: vec![value; size], value, stations: 0 }
    }

    fn check(&self) {
        assert!(self.bytes.iter().all(|byte| *byte == self.value), "a parcel of {} was changed", self.value);
    }

    /// Larger at every second station, smaller at the others.
    fn resize(&mut self) {
        let size = self.bytes.len();
        self.bytes.resize(if self.stations.is_multiple_of(2) { size + size / 2 } else { size / 3 }, self.value);
        self.bytes.shrink_to_fit();
        self.stations += 1;
    }
}

/// What one thread does in a round by itself: zeroed memory, alignments, and many blocks that are freed in another order.
fn work_alone(value: u8) {
    for size in SIZES {
        assert!(vec![0_u8; size].iter().all(|byte| *byte == 0), "zeroed memory of {size} bytes is not zero");
    }
    for shift in [4, 6, 12, 16, 21] {
        let layout = Layout::from_size_align(3000, 1 << shift).expect("a layout");
        // SAFETY: the size is not 0.
        let block = NonNull::new(unsafe { GLOBAL.alloc(layout) }).expect("there is memory for it");
        assert!(block.addr().get().is_multiple_of(1 << shift));
        // SAFETY: the block is this function's, 3,000 bytes long, and is freed once.
        unsafe {
            block.write_bytes(value, 3000);
            GLOBAL.dealloc(block.as_ptr(), layout);
        }
    }
    let mut texts: Vec<String> = (0..2000).map(|length| "x".repeat(length % 500 + 1)).collect();
    texts.sort_unstable();
    texts.dedup();
    assert_eq!(texts.len(), 500);
}

fn station(nth: u8, rounds: u8, from: mpsc::Receiver<Vec<Parcel>>, to: mpsc::Sender<Vec<Parcel>>) {
    for round in 0..rounds {
        let value = nth * rounds + round;
        work_alone(value);
        let mut parcels: Vec<Parcel> = SIZES.iter().map(|size| Parcel::new(*size, value)).collect();
        parcels.extend((0..300).map(|size| Parcel::new(size * 7, value)));
        // Those behind may have ended: then it is freed here.
        let _ = to.send(parcels);
        if let Ok(mut parcels) = from.recv() {
            parcels.iter().for_each(Parcel::check);
            parcels.retain(|parcel| parcel.stations < THREADS);
            parcels.iter_mut().for_each(Parcel::resize);
            let _ = to.send(parcels);
        }
        if round % 2 == 1 {
            homing::thread_cleanup();
        }
    }
}

fn main() {
    let rounds = std::env::args().nth(1).map_or(4, |rounds| rounds.parse().expect("ROUNDS is a number"));
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..THREADS).map(|_| mpsc::channel()).unzip();
    // Each sends to the one after it.
    let ends = receivers.into_iter().zip(senders.iter().cycle().skip(1).cloned());
    let stations: Vec<_> =
        (0..).zip(ends).map(|(nth, (from, to))| thread::spawn(move || station(nth, rounds, from, to))).collect();
    drop(senders);
    for station in stations {
        station.join().expect("stations do not panic");
    }
    homing::entry::trim();
    // SAFETY: all other threads have ended.
    let audit = unsafe { homing::audit() }.unwrap_or_else(|error| panic!("{error}"));
    println!("{} blocks handed out, {} still in use", homing::stats().blocks, audit.live_blocks);
}
