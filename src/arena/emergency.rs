//! What serves a thread that comes back in while it is in the middle of a slow path: a signal handler, a hook of the C
//! library, an allocation made while the process is being set up. Nothing here takes a lock.

use core::ptr;

use crate::address_map::Part;
use crate::block::Block;
use crate::large::Mapping;
use crate::segment::{OwnerWord, SegmentPtr, SlotIndex};
use crate::sync::{AtomicPtr, AtomicU64, Ordering};
use crate::topology::NodeIndex;

/// Blocks that could not be freed at once because the freeing thread held the lock that it takes. Taken whole by one
/// swap, so there is no ABA; linked by their first words.
static DEFERRED: AtomicPtr<u8> = AtomicPtr::new(ptr::null_mut());

/// Blocks that were served here, ever.
static SERVED: AtomicU64 = AtomicU64::new(0);

/// How many blocks were served here, ever, by any thread.
pub(crate) fn served() -> u64 {
    SERVED.load(Ordering::Relaxed)
}

/// A block of its own mapping; zeroed. Null where the kernel refuses.
pub(crate) fn allocate(size: usize, align: usize) -> *mut u8 {
    SERVED.fetch_add(1, Ordering::Relaxed);
    Mapping::map(size, align, Part::FirstTouch(NodeIndex::FIRST), None)
        .map_or(ptr::null_mut(), |mapping| mapping.block().as_ptr())
}

/// Keeps a block until a lock can be taken. Its owner word, if it has one, says `Free` already; `owner` is what it said
/// before.
pub(super) fn defer(block: ptr::NonNull<u8>, owner: Option<OwnerWord>) {
    let address = block.as_ptr() as usize;
    if let Some(owner) = owner {
        // SAFETY: a block of a run or a mapping, whose owner word is found by masking.
        unsafe { SegmentPtr::of(address) }.set_owner(SlotIndex::of(address), owner);
    }
    // SAFETY: the block was freed and is the caller's.
    let block = unsafe { Block::at(block) };
    let mut head = DEFERRED.load(Ordering::Relaxed);
    loop {
        // SAFETY: null, or a block that was deferred.
        block.set_next(ptr::NonNull::new(head).map(|head| unsafe { Block::at(head) }));
        match DEFERRED.compare_exchange_weak(head, block.pointer().as_ptr(), Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return,
            Err(now) => head = now,
        }
    }
}

/// Takes all that was deferred; gives each to `free`.
#[inline]
pub(super) fn take_deferred(mut free: impl FnMut(ptr::NonNull<u8>)) {
    if DEFERRED.load(Ordering::Relaxed).is_null() {
        return;
    }
    let mut next = DEFERRED.swap(ptr::null_mut(), Ordering::AcqRel);
    while let Some(pointer) = ptr::NonNull::new(next) {
        // SAFETY: a block that was deferred.
        let after = unsafe { Block::at(pointer) }.next_of_chain();
        next = after.map_or(ptr::null_mut(), |block| block.pointer().as_ptr());
        free(pointer);
    }
}
