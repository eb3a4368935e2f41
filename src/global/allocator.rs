//! [`Homing`] as an allocator of the crate `allocator-api2`.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use super::Homing;
use crate::allocators::{clear_behind, move_block, nowhere};
use crate::heap;

impl Homing {
    fn obtain(&self, layout: Layout, zero: bool) -> Result<NonNull<[u8]>, AllocError> {
        let (size, align) = (layout.size(), layout.align());
        let block = match size {
            0 => nowhere(layout),
            _ if zero => NonNull::new(heap::allocate_zeroed(size, align, &self.config)),
            _ => NonNull::new(heap::allocate(size, align, &self.config)),
        };
        block.map(|block| NonNull::slice_from_raw_parts(block, size)).ok_or(AllocError)
    }

    /// The block with another layout: in place where it can be.
    ///
    /// # Safety
    /// As for `Allocator::grow` and `shrink`.
    unsafe fn resize(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if old.align() == new.align() && old.size() > 0 && new.size() > 0 {
            // SAFETY: a block of this allocator with that layout, the caller's, since its size is not 0.
            let block = unsafe { self.realloc(block.as_ptr(), old, new.size()) };
            return NonNull::new(block).map(|block| NonNull::slice_from_raw_parts(block, new.size())).ok_or(AllocError);
        }
        // SAFETY: the caller's promise.
        unsafe { move_block(self, block, old, new) }
    }
}

// SAFETY: blocks are as long and aligned as asked for, and stay until they are deallocated; all values of the type are the
// same allocator.
unsafe impl Allocator for Homing {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.obtain(layout, false)
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.obtain(layout, true)
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        if layout.size() > 0 {
            // SAFETY: the block is one of `obtain`'s, and its user gives it up.
            unsafe { self.dealloc(block.as_ptr(), layout) };
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
