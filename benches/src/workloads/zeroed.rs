//! A block of zeroes: which allocators know that fresh pages need no clearing, and what clearing costs the others.

use std::alloc::Layout;

use super::human;
use crate::block::Block;
use crate::peers::Peer;
use crate::workload::Workload;

/// A block of this size, each page read, then both ends written: so that a block which is used again has something to
/// be cleared of.
pub struct Zeroed {
    /// In bytes.
    pub size: usize,
}

impl Workload for Zeroed {
    type State<P: Peer> = Layout;

    fn group(&self) -> &'static str {
        "zeroed"
    }

    fn name(&self) -> String {
        human(self.size)
    }

    fn blocks(&self) -> u64 {
        1
    }

    fn prepare<P: Peer>(&self) -> Layout {
        Layout::from_size_align(self.size, 8).expect("a valid layout")
    }

    #[inline(always)]
    fn pass<P: Peer>(layout: &mut Layout) -> u64 {
        let mut block = Block::<P>::zeroed(*layout);
        let dirty = block.dirty_pages() + u64::from(block.read(block.size() - 1) != 0);
        block.mark();
        dirty
    }
}
