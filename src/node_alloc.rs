//! Collections on a chosen node: [`NodeAlloc`].

use core::alloc::Layout;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use crate::allocators::{clear_behind, move_block, nowhere};
use crate::heap;
use crate::placement::{self, NodeError};
use crate::source::Source;
use crate::topology::{self, NodeId, NodeIndex};

/// An allocator of the crate `allocator-api2` whose blocks all lie on one node, whichever threads allocate, use and free
/// them (feature `allocator-api2`).
///
/// Where the node's pool has no memory left, allocation fails; no other node's pool serves instead (see
/// [`alloc_on_node`](crate::alloc_on_node) for errors, cost, re-entry, and for pages that the kernel has none of there). It works beside any global allocator. Values are
/// small and freely copied; all of one node are the same.
///
/// ```
/// use allocator_api2::vec::Vec;
/// use homing::{NodeAlloc, Topology, node_of};
///
/// let node = Topology::read().nodes()[0].id();
/// let mut numbers = Vec::new_in(NodeAlloc::new(node)?);
/// numbers.extend(0..1000_u64);
/// assert_eq!(unsafe { node_of(numbers.as_ptr().cast()) }, Some(node));
/// # Ok::<(), homing::NodeError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeAlloc {
    node: NodeIndex,
}

impl NodeAlloc {
    /// The allocator for that node.
    ///
    /// # Errors
    /// [`NodeError::NoSuchNode`], [`NodeError::WithoutMemory`] or [`NodeError::NotAllowed`].
    pub fn new(node: NodeId) -> Result<Self, NodeError> {
        placement::usable(node).map(|node| NodeAlloc { node })
    }

    /// The allocator for the node that the calling thread runs on now, or the nearest with memory.
    ///
    /// # Errors
    /// [`NodeError::Unknown`] where the kernel does not tell which that is.
    pub fn here() -> Result<Self, NodeError> {
        let node = placement::current_node()?;
        crate::process::set_up(&crate::Config::new());
        Ok(NodeAlloc { node: topology::machine().nearest(u32::from(node.number())) })
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        topology::machine().id(self.node)
    }

    fn obtain(&self, layout: Layout, want_zero: bool) -> Result<NonNull<[u8]>, AllocError> {
        let block = match layout.size() {
            0 => nowhere(layout),
            size => Source::Node(self.node).allocate(size, layout.align(), want_zero),
        };
        block.map(|block| NonNull::slice_from_raw_parts(block, layout.size())).ok_or(AllocError)
    }

    /// The block with another layout: in place where it can be.
    ///
    /// # Safety
    /// As for `Allocator::grow` and `shrink`.
    unsafe fn resize(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let stays = new.size() > 0 && old.size() > 0 && block.as_ptr().addr().is_multiple_of(new.align());
        // SAFETY: a block of this allocator, the caller's, since its size is not 0.
        if stays && unsafe { heap::resize_in_place(block, new.size()) } {
            return Ok(NonNull::slice_from_raw_parts(block, new.size()));
        }
        // SAFETY: the caller's promise.
        unsafe { move_block(self, block, old, new) }
    }
}

// SAFETY: blocks are as long and aligned as asked for, and stay until they are deallocated, by whichever copy; a copy of
// the value is the same allocator.
unsafe impl Allocator for NodeAlloc {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.obtain(layout, false)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.obtain(layout, true)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() > 0 {
            // SAFETY: the block is one of `obtain`'s, and its user gives it up.
            unsafe { Source::free(block, layout.size(), layout.align()) };
        }
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.resize(block, old, new) }
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        let grown = unsafe { self.resize(block, old, new) }?;
        // SAFETY: the block is the caller's, and that long.
        unsafe { clear_behind(grown, old.size()) };
        Ok(grown)
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.resize(block, old, new) }
    }
}
