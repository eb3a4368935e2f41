//! Where pools, bump arenas and regions take their memory from: this allocator's own heap, whichever allocator the program
//! declares, on a chosen node or that of the thread that asks.

use core::ptr::NonNull;

use crate::config::Config;
use crate::heap;
use crate::heap::checked::OfLayout;
use crate::placement::{self, NodeError};
use crate::topology::{self, NodeId, NodeIndex};

/// Whose memory is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// That of the node which the asking thread runs on then, or as the policy says.
    Caller,
    /// That of one node, and of no other.
    Node(NodeIndex),
}

impl Source {
    /// The node's memory.
    ///
    /// # Errors
    /// [`NodeError::NoSuchNode`], [`NodeError::WithoutMemory`] or [`NodeError::NotAllowed`].
    pub(crate) fn on(node: NodeId) -> Result<Self, NodeError> {
        placement::usable(node).map(Source::Node)
    }

    /// The node, if it is a certain one.
    pub(crate) fn node(self) -> Option<NodeId> {
        match self {
            Source::Caller => None,
            Source::Node(node) => Some(topology::machine().id(node)),
        }
    }

    /// A block of at least `size` bytes, aligned to `align`; all zero if `zero` says so. `None` where there is no memory for
    /// it, for more than `isize::MAX` bytes, and where `align` is no power of two.
    pub(crate) fn allocate(self, size: usize, align: usize, zero: bool) -> Option<NonNull<u8>> {
        match self {
            Source::Caller if zero => NonNull::new(heap::allocate_zeroed(size, align, &Config::new())),
            Source::Caller => NonNull::new(heap::allocate(size, align, &Config::new())),
            Source::Node(node) => heap::allocate_on(node, size, align, zero),
        }
    }

    /// Takes a block of any source back.
    ///
    /// # Safety
    /// The block is one of [`allocate`](Self::allocate)'s for that size and alignment, and nobody uses it any more.
    pub(crate) unsafe fn free(block: NonNull<u8>, size: usize, align: usize) {
        // SAFETY: the caller's promise.
        unsafe { heap::free(block.as_ptr(), OfLayout { size, align }) };
    }
}
