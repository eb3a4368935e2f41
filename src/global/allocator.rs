//! [`Homing`] as an allocator of the crate `allocator-api2`.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use super::Homing;
use crate::heap;

impl Homing {
    fn obtain(&self, layout: Layout, zero: bool) -> Result<NonNull<[u8]>, AllocError> {
        let (size, align) = (layout.size(), layout.align());
        let block = match size {
            0 => core::ptr::without_provenance_mut(align),
            _ if zero => heap::allocate_zeroed(size, align, &self.config),
            _ => heap::allocate(size, align, &self.config),
        };
        NonNull::new(block).map(|block| NonNull::slice_from_raw_parts(block, size)).ok_or(AllocError)
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
        let moved = self.obtain(new, false)?;
        // SAFETY: both blocks are at least that long, and apart.
        unsafe { moved.cast::<u8>().copy_from_nonoverlapping(block, old.size().min(new.size())) };
        // SAFETY: the caller gives the old block up.
        unsafe { self.deallocate(block, old) };
        Ok(moved)
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
        let block = unsafe { self.resize(block, old, new) }?;
        // SAFETY: the block is `new.size()` bytes long, which is no less.
        unsafe { block.cast::<u8>().add(old.size()).write_bytes(0, new.size().saturating_sub(old.size())) };
        Ok(block)
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.resize(block, old, new) }
    }
}
