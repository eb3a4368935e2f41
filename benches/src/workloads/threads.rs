//! A thread's whole life: what an allocator sets up for a thread, and what becomes of it.

use std::alloc::Layout;
use std::array;
use std::thread;

use crate::block::Block;
use crate::peers::Peer;
use crate::workload::Workload;

const COUNT: usize = 100;

/// A thread that allocates a hundred small blocks, frees them and ends.
pub struct Threads;

impl Workload for Threads {
    type State<P: Peer> = ();

    fn group(&self) -> &'static str {
        "threads"
    }

    fn name(&self) -> String {
        "short-lived".to_owned()
    }

    fn blocks(&self) -> u64 {
        COUNT as u64
    }

    fn prepare<P: Peer>(&self) {}

    #[inline(always)]
    fn pass<P: Peer>((): &mut ()) -> u64 {
        thread::spawn(live::<P>).join().expect("the thread does not panic")
    }
}

fn live<P: Peer>() -> u64 {
    let blocks: [Block<P>; COUNT] = array::from_fn(|number| {
        let size = 16 + number * 37 % 240;
        Block::new(Layout::from_size_align(size, 8).expect("a valid layout"))
    });
    blocks.into_iter().map(|block| u64::from(!block.is_intact())).sum()
}
