//! What the crate's allocators of `allocator-api2` have in common.

use core::alloc::Layout;
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};

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
