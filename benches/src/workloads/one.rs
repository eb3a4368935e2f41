//! One block, allocated and freed: the fast path, and for large sizes the way to the kernel and back.

use std::alloc::Layout;

use super::human;
use crate::block::Block;
use crate::peers::Peer;
use crate::workload::Workload;

/// A block of this size, its first and its last byte touched.
pub struct One {
    /// In bytes.
    pub size: usize,
}

impl Workload for One {
    type State<P: Peer> = Layout;

    fn group(&self) -> &'static str {
        "one"
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
        let block = Block::<P>::new(*layout);
        u64::from(!block.is_intact())
    }
}
