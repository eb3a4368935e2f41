//! A pool as an allocator: what fits in an object lies in its slabs, what does not in the heap.

use core::alloc::Layout;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use super::Pool;
use crate::allocators::{clear_behind, move_block, nowhere};
use crate::heap;
use crate::source::Source;

/// Where blocks of a layout lie.
enum Place {
    /// Nowhere: they have no bytes.
    Nowhere,
    /// In an object.
    Object,
    /// In the heap.
    Heap,
}

impl<T> Pool<T> {
    fn place(layout: Layout) -> Place {
        if layout.size() == 0 {
            Place::Nowhere
        } else if layout.size() <= Self::GEOMETRY.size && layout.align() <= Self::GEOMETRY.align() {
            Place::Object
        } else {
            Place::Heap
        }
    }

    fn obtain(&self, layout: Layout, zero: bool) -> Option<NonNull<u8>> {
        match Self::place(layout) {
            Place::Nowhere => nowhere(layout),
            Place::Object => {
                let object = self.slabs.take(&Self::GEOMETRY)?;
                if zero {
                    // SAFETY: the object is at least that long, and nobody else's.
                    unsafe { object.write_bytes(0, layout.size()) };
                }
                Some(object)
            }
            Place::Heap => {
                let block = self.slabs.source().allocate(layout.size(), layout.align(), zero)?;
                self.slabs.count_heap(Some(layout.size()), None, &Self::GEOMETRY);
                Some(block)
            }
        }
    }

    fn obtain_slice(&self, layout: Layout, zero: bool) -> Result<NonNull<[u8]>, AllocError> {
        let block = self.obtain(layout, zero).ok_or(AllocError)?;
        Ok(NonNull::slice_from_raw_parts(block, layout.size()))
    }

    /// The block with another layout: in place where it can be.
    ///
    /// # Safety
    /// As for `Allocator::grow` and `shrink`.
    unsafe fn resize(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        let stays = match (Self::place(old), Self::place(new)) {
            (Place::Object, Place::Object) => true,
            (Place::Heap, Place::Heap) if block.addr().get().is_multiple_of(new.align()) => {
                // SAFETY: a block of the heap, the caller's.
                let stays = unsafe { heap::resize_in_place(block, new.size()) };
                if stays {
                    self.slabs.count_heap(Some(new.size()), Some(old.size()), &Self::GEOMETRY);
                }
                stays
            }
            _ => false,
        };
        if stays {
            return Ok(NonNull::slice_from_raw_parts(block, new.size()));
        }
        // SAFETY: the caller's promise.
        unsafe { move_block(self, block, old, new) }
    }
}

// SAFETY: blocks are as long and aligned as asked for, and stay until they are deallocated or the pool is dropped, wherever it
// is moved: slabs and the heap do not move with it. It has no copies; a reference is the same allocator.
unsafe impl<T> Allocator for Pool<T> {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.obtain_slice(layout, false)
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.obtain_slice(layout, true)
    }

    #[inline]
    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        match Self::place(layout) {
            Place::Nowhere => {}
            // SAFETY: an object of `obtain`'s, which its user gives up.
            Place::Object => unsafe { self.slabs.give(block, &Self::GEOMETRY) },
            Place::Heap => {
                self.slabs.count_heap(None, Some(layout.size()), &Self::GEOMETRY);
                // SAFETY: a block of `obtain`'s, which its user gives up.
                unsafe { Source::free(block, layout.size(), layout.align()) };
            }
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
