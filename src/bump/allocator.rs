//! Bump arenas as allocators of the crate `allocator-api2`.

use core::alloc::Layout;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use super::Bump;

impl Bump {
    /// The block with another layout: the last one that was handed out grows and shrinks at its place, from its end
    /// downwards.
    ///
    /// # Safety
    /// As for `Allocator::grow`.
    #[inline]
    unsafe fn grow_block(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<u8>, AllocError> {
        let head = self.head();
        let end = block.addr().get() + old.size();
        // A block that begins where an empty chunk ends is its neighbour's.
        let grown = match head.is_last(block) && head.may_give_back(end) {
            true => head.place_last(end, new.size(), new.align()),
            false => None,
        };
        if let Some(grown) = grown {
            // SAFETY: both are within the chunk, as long as the old block at least; they may overlap.
            unsafe { grown.copy_from(block, old.size()) };
            return Ok(grown);
        }
        let moved = self.obtain(new.size(), new.align()).map_err(|_| AllocError)?;
        // SAFETY: as long as the old block at least, and apart from it.
        unsafe { moved.copy_from_nonoverlapping(block, old.size()) };
        Ok(moved)
    }
}

// SAFETY: blocks are as long and aligned as asked for, and nobody else's; they stay until they are deallocated, however
// the arena is moved, or until it is borrowed exclusively (to reset it or to restore it) or dropped.
unsafe impl Allocator for Bump {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let block = self.obtain(layout.size(), layout.align()).map_err(|_| AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let block = self.allocate(layout)?;
        if !self.zeroes() {
            // SAFETY: the block is that long.
            unsafe { block.cast::<u8>().write_bytes(0, layout.size()) };
        }
        Ok(block)
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if self.head().is_last(block) && self.head().may_give_back(block.addr().get() + layout.size()) {
            // SAFETY: the last block, which its user gives up.
            unsafe { self.give_back(block, layout.size()) };
        }
    }

    #[inline]
    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        let grown = unsafe { self.grow_block(block, old, new) }?;
        Ok(NonNull::slice_from_raw_parts(grown, new.size()))
    }

    #[inline]
    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        let grown = unsafe { self.grow_block(block, old, new) }?;
        // What the block had before it was moved down may lie there.
        // SAFETY: the block is `new.size()` bytes long.
        unsafe { grown.add(old.size()).write_bytes(0, new.size() - old.size()) };
        Ok(NonNull::slice_from_raw_parts(grown, new.size()))
    }

    #[inline]
    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if !block.addr().get().is_multiple_of(new.align()) {
            let moved = self.allocate(new)?;
            // SAFETY: the new block is `new.size()` bytes long, the old one longer, and apart.
            unsafe { moved.cast::<u8>().copy_from_nonoverlapping(block, new.size()) };
            return Ok(moved);
        }
        let end = block.addr().get() + old.size();
        let less = crate::arith::align_down(old.size() - new.size(), new.align());
        // Moving the block costs as much as it then has; what comes back is to be worth that.
        if less < new.size() || !self.head().is_last(block) || !self.head().may_give_back(end) {
            return Ok(NonNull::slice_from_raw_parts(block, new.size()));
        }
        // SAFETY: within the old block.
        let kept = unsafe { block.add(less) };
        // SAFETY: `less` is not below `new.size()`, so they are apart, and both within the old block.
        unsafe { kept.copy_from_nonoverlapping(block, new.size()) };
        // SAFETY: the last block's first bytes, which were copied from.
        unsafe { self.give_back(block, less) };
        Ok(NonNull::slice_from_raw_parts(kept, new.size()))
    }
}
