//! [`NodePools`] and [`OnNode`] as allocators of the crate `allocator-api2`.

use core::alloc::Layout;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use super::region::block_size;
use super::{NodePools, NodePoolsError, OnNode, here};
use crate::allocators::{clear_behind, move_block, nowhere};
use crate::misuse::{self, FreeError};

/// A block for a layout of any size: what has no bytes needs no block.
fn obtain(
    layout: Layout,
    serve: impl FnOnce() -> Result<NonNull<u8>, NodePoolsError>,
) -> Result<NonNull<[u8]>, AllocError> {
    match layout.size() {
        0 => {
            let block = nowhere(layout).ok_or(AllocError)?;
            Ok(NonNull::slice_from_raw_parts(block, 0))
        }
        size => {
            let block = serve().map_err(|_| AllocError)?;
            Ok(NonNull::slice_from_raw_parts(block, block_size(size).unwrap_or(size)))
        }
    }
}

/// Takes a block back; ends the process with one line where it is none. From a signal handler on top of an operation on its
/// pool it is left as it is, and stays counted as live.
///
/// # Safety
/// The block is one of these pools' for that layout, and not used any more.
unsafe fn give(pools: &NodePools, block: NonNull<u8>, layout: Layout) {
    if layout.size() == 0 {
        return;
    }
    // SAFETY: the caller's promise.
    let wrong = match unsafe { pools.deallocate_with(block, layout) } {
        Ok(()) | Err(NodePoolsError::Reentered { .. }) => return,
        Err(NodePoolsError::DoubleFree) => FreeError::DoubleFree,
        Err(NodePoolsError::Interior { offset, size }) => FreeError::Interior { offset, size },
        Err(NodePoolsError::WrongSize { said, actual }) => FreeError::WrongSize { said, actual },
        Err(_) => FreeError::Foreign,
    };
    misuse::fatal("NodePools::deallocate", block.as_ptr().addr(), wrong)
}

/// The block with another layout: in place where it can be.
///
/// # Safety
/// As for `Allocator::grow` and `shrink`.
unsafe fn resize(
    allocator: &impl Allocator,
    pools: &NodePools,
    block: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    let may_stay = old.size() > 0 && new.size() > 0 && block.as_ptr().addr().is_multiple_of(new.align());
    // SAFETY: a live block of these pools, since its size is not 0, and the caller's.
    if may_stay && unsafe { pools.resize_in_place(block, new.size()) } == Ok(true) {
        return Ok(NonNull::slice_from_raw_parts(block, block_size(new.size()).unwrap_or(new.size())));
    }
    // SAFETY: the caller's promise.
    unsafe { move_block(allocator, block, old, new) }
}

macro_rules! allocators {
    ($($(#[$doc:meta])* [$($generics:tt)*] $type:ty, $self:ident, $pools:expr, |$layout:ident, $zero:ident| $serve:expr;)*) => {
        $($(#[$doc])*
        // SAFETY: blocks are as long and aligned as asked for, and stay until they are deallocated or the pools are dropped;
        // a copy of the value, if there is one, is the same allocator.
        unsafe impl $($generics)* Allocator for $type {
            fn allocate(&$self, $layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
                let $zero = false;
                obtain($layout, || $serve)
            }

            fn allocate_zeroed(&$self, $layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
                let $zero = true;
                obtain($layout, || $serve)
            }

            unsafe fn deallocate(&$self, block: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's promise.
                unsafe { give($pools, block, layout) };
            }

            unsafe fn grow(&$self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
                // SAFETY: the caller's promise.
                unsafe { resize($self, $pools, block, old, new) }
            }

            unsafe fn grow_zeroed(
                &$self,
                block: NonNull<u8>,
                old: Layout,
                new: Layout,
            ) -> Result<NonNull<[u8]>, AllocError> {
                // SAFETY: the caller's promise.
                let grown = unsafe { resize($self, $pools, block, old, new) }?;
                // SAFETY: the block is the caller's, and that long.
                unsafe { clear_behind(grown, old.size()) };
                Ok(grown)
            }

            unsafe fn shrink(&$self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
                // SAFETY: the caller's promise.
                unsafe { resize($self, $pools, block, old, new) }
            }
        })*
    };
}

allocators! {
    /// Blocks lie on the node of the thread that asks for them, or for more of them (feature `allocator-api2`).
    [] NodePools, self, self, |layout, zero| self.serve(here()?, layout, zero);
    /// Blocks lie on the node, whichever thread asks (feature `allocator-api2`).
    [<'a>] OnNode<'a>, self, self.pools(), |layout, zero| OnNode::serve(self, layout, zero);
}
