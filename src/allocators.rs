//! What the crate's allocators of `allocator-api2` have in common. They are allocators of its 0.4, and here of its 0.2 too, the
//! version that `hashbrown` and `bumpalo` go by: the trait is the same.

use core::alloc::Layout;
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};
use allocator_api2_02::alloc as older;

use crate::bump::Bump;
use crate::node_alloc::NodeAlloc;
use crate::node_pools::{NodePools, OnNode};
use crate::{Budget, Homing, Pool, SoftLimit};

/// A block for a layout without bytes: it lies nowhere, and is not taken back.
pub(crate) fn nowhere(layout: Layout) -> Option<NonNull<u8>> {
    NonNull::new(ptr::without_provenance_mut(layout.align()))
}

/// The block with another layout, at another place.
///
/// # Safety
/// As for `Allocator::grow` and `shrink`.
pub(crate) unsafe fn move_block(
    allocator: &impl Allocator,
    block: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    let moved = allocator.allocate(new)?;
    // SAFETY: both blocks are at least that long, and apart.
    unsafe { moved.cast::<u8>().copy_from_nonoverlapping(block, old.size().min(new.size())) };
    // SAFETY: the caller gives the old block up.
    unsafe { allocator.deallocate(block, old) };
    Ok(moved)
}

/// Clears what a block has beyond so many bytes.
///
/// # Safety
/// The block is the caller's, and as long as it says.
pub(crate) unsafe fn clear_behind(block: NonNull<[u8]>, bytes: usize) {
    if let Some(more) = block.len().checked_sub(bytes) {
        // SAFETY: within the block.
        unsafe { block.cast::<u8>().add(bytes).write_bytes(0, more) };
    }
}

macro_rules! serve_older {
    ($([$($generics:tt)*] $type:ty;)*) => {
        $(
        // SAFETY: as the newer trait promises, which promises the same.
        unsafe impl $($generics)* older::Allocator for $type {
            #[inline]
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, older::AllocError> {
                Allocator::allocate(self, layout).map_err(|_| older::AllocError)
            }

            #[inline]
            fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, older::AllocError> {
                Allocator::allocate_zeroed(self, layout).map_err(|_| older::AllocError)
            }

            #[inline]
            unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's promise.
                unsafe { Allocator::deallocate(self, block, layout) };
            }

            #[inline]
            unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, older::AllocError> {
                // SAFETY: the caller's promise.
                unsafe { Allocator::grow(self, block, old, new) }.map_err(|_| older::AllocError)
            }

            #[inline]
            unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, older::AllocError> {
                // SAFETY: the caller's promise.
                unsafe { Allocator::grow_zeroed(self, block, old, new) }.map_err(|_| older::AllocError)
            }

            #[inline]
            unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, older::AllocError> {
                // SAFETY: the caller's promise.
                unsafe { Allocator::shrink(self, block, old, new) }.map_err(|_| older::AllocError)
            }
        })*
    };
}

serve_older! {
    [] Homing;
    [] NodeAlloc;
    [] NodePools;
    [<'a>] OnNode<'a>;
    [] Bump;
    [<T>] Pool<T>;
    [<A: Allocator, F: Fn(&SoftLimit)>] Budget<A, F>;
}
