//! Many sizes, many live blocks, no order: what a long-lived program does to its heap.

mod pair;
mod single;

pub use pair::MixedPair;
pub use single::Mixed;

use std::alloc::Layout;

use crate::block::Block;
use crate::peers::Peer;
use crate::rng::Rng;

/// Blocks alive at any time.
const LIVE: usize = 10_000;

/// A block of 8 bytes to 32 KiB, each page touched.
#[inline(always)]
fn block<P: Peer>(rng: &mut Rng) -> Block<P> {
    let layout = Layout::from_size_align(rng.size(8, 12), 8).expect("a valid layout");
    let mut block = Block::new(layout);
    block.mark_pages();
    block
}
