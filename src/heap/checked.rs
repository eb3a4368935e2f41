//! Checked mode, in which every operation takes the slow path: for `HOMING_ZERO`, and for the debug mode. And frees that
//! give an error instead of ending the process.

use core::alloc::Layout;
use core::ptr::{self, NonNull};

use crate::arena::{self, Arena, Handed};
use crate::block::Block;
use crate::config::{self, Config, Zero};
use crate::debug::{self, Said, Watched};
use crate::hardened;
use crate::misuse::{self, FreeError};
use crate::place::{self, Place};
use crate::segment::{OwnerWord, SLOT, SegmentPtr, SlotIndex};
use crate::size_class::ClassId;
use crate::slab::Slab;

/// What whoever frees a block says of it. The fast paths carry it along for nothing, to where it may be looked at.
pub(crate) trait Claim: Copy {
    /// Every block that it is said of is aligned to 2 to the power of that at least; where the pointer is not, it is none.
    const LOG_ALIGN: u32 = 0;

    /// What is said.
    fn said(self) -> Said;
}

/// Nothing is said: `free(3)`.
impl Claim for () {
    fn said(self) -> Said {
        Said::NOTHING
    }
}

/// What is said by C and C++, whose blocks are aligned to 16 bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct OfC<C>(pub(crate) C);

impl<C: Claim> Claim for OfC<C> {
    const LOG_ALIGN: u32 = 4;

    fn said(self) -> Said {
        self.0.said()
    }
}

/// The size that was asked for, in bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct OfSize(pub(crate) usize);

impl Claim for OfSize {
    fn said(self) -> Said {
        Said { size: Some(self.0), align: None }
    }
}

/// The alignment that was asked for, in bytes.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct OfAlign(pub(crate) usize);

impl Claim for OfAlign {
    fn said(self) -> Said {
        Said { size: None, align: Some(self.0) }
    }
}

/// Both, in bytes.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct OfLayout {
    pub(crate) size: usize,
    pub(crate) align: usize,
}

impl Claim for OfLayout {
    fn said(self) -> Said {
        Said { size: Some(self.size), align: Some(self.align) }
    }
}

/// A block by an arena in checked mode.
#[cold]
#[inline(never)]
pub(super) fn allocate(arena: &Arena, size: usize, align: usize, want_zero: bool) -> Option<Handed> {
    if debug::is_on() && debug::can_watch(align) {
        return debug::allocate(arena, size, align, want_zero);
    }
    match ClassId::of(size, align) {
        Some(class) => arena.allocate_checked(class, want_zero),
        None => arena.allocate_large(size, align, want_zero),
    }
}

/// Takes back a block that is watched, or lies in a slab whose arena is in checked mode.
#[cold]
#[inline(never)]
pub(super) fn free(block: NonNull<u8>, segment: SegmentPtr, slot: SlotIndex, word: OwnerWord, claim: impl Claim) {
    if debug::is_on() {
        return debug::free(block, claim.said());
    }
    let Some(owner) = word.arena_address() else { free_foreign(block) };
    // SAFETY: the slab's, and its user has given it up.
    let is_free = hardened::ON && unsafe { Block::at(block) }.looks_free();
    if is_free {
        arena::suspect_free_block(segment, slot, word, block);
    } else if config::current().zero == Zero::Free {
        let size = Slab::at(segment, slot.minus(word.back())).block_size();
        // SAFETY: the block is the slab's, `size` bytes long, and its user has given it up.
        unsafe { block.write_bytes(0, size) };
    }
    arena::free_to_arena(segment, slot, word, owner, block);
}

/// Ends the process for a pointer that leads to no live block.
#[cold]
#[inline(never)]
pub(super) fn free_foreign(block: NonNull<u8>) -> ! {
    if debug::is_on() {
        debug::free(block, Said::NOTHING);
    }
    let error = place::look(block).err().unwrap_or(FreeError::DoubleFree);
    misuse::fatal("free", block.as_ptr() as usize, error)
}

/// Moves a watched block.
#[cold]
#[inline(never)]
pub(super) fn reallocate(watched: Watched, new_size: usize, align: usize, base: &Config, claim: impl Claim) -> *mut u8 {
    let allocate = || super::allocate(new_size, align, base);
    debug::reallocate(watched, claim.said(), new_size, allocate).map_or(ptr::null_mut(), NonNull::as_ptr)
}

/// Frees a block as [`GlobalAlloc::dealloc`](core::alloc::GlobalAlloc::dealloc) of [`Homing`](crate::Homing) does, or says
/// why it cannot be freed, and then does nothing. Null is fine, and nothing.
///
/// Noticed are pointers that are not this allocator's ([`FreeError::Foreign`]), pointers into a block
/// ([`FreeError::Interior`]), and blocks that were freed already ([`FreeError::DoubleFree`]): always, where the block was
/// more than 64 KiB long or its slab has been given up since; and blocks of slabs, where the block waits in the calling
/// thread's own arena, in one that no thread has now, or in what the calling thread has freed for others and not sent yet.
/// What another thread has freed and keeps at hand is not told from a block in use, nor is memory that was handed out again
/// since, which is in use. Under [`Debug::On`](crate::Debug::On) every block that was freed is known, whoever freed it,
/// until its memory is handed out again; and memory written over before or behind the block is noticed
/// ([`FreeError::Underrun`], [`FreeError::Overrun`]).
///
/// - *Cost*: for a block of a slab, the free blocks of that slab are walked: this is for callers who want the error.
/// - *Re-entry* and *thread exit*: as for `dealloc`.
///
/// ```
/// use homing::{Config, FreeError, Homing, try_free};
/// use std::alloc::{GlobalAlloc, Layout};
///
/// let homing = Homing::new();
/// unsafe {
///     let block = homing.alloc(Layout::new::<[u8; 100]>());
///     assert!(matches!(try_free(block.add(1)), Err(FreeError::Interior { offset: 1, .. })));
///     assert_eq!(try_free(block), Ok(()));
///     assert_eq!(try_free(block), Err(FreeError::DoubleFree));
/// }
/// ```
///
/// # Errors
/// See [`FreeError`]; nothing was freed then.
///
/// # Safety
/// If the pointer is that of a live block, the block is the caller's, and is not used any more after `Ok`. No other thread
/// frees meanwhile what it leads to: the block itself, or, of a pointer that was freed before, what lies there now.
pub unsafe fn try_free(block: *mut u8) -> Result<(), FreeError> {
    try_free_said(block, Said::NOTHING)
}

/// As [`try_free`] for a block of that layout; noticed too is a layout that the block cannot have been asked for with:
/// exactly under [`Debug::On`](crate::Debug::On), else as far as the block's size class tells.
///
/// ```
/// use homing::{FreeError, Homing, try_dealloc};
/// use std::alloc::{GlobalAlloc, Layout};
///
/// let layout = Layout::new::<[u8; 100]>();
/// unsafe {
///     let block = Homing::new().alloc(layout);
///     let wrong = Layout::new::<[u8; 5000]>();
///     assert!(matches!(try_dealloc(block, wrong), Err(FreeError::WrongSize { said: 5000, .. })));
///     assert_eq!(try_dealloc(block, layout), Ok(()));
/// }
/// ```
///
/// # Errors
/// See [`FreeError`]; nothing was freed then.
///
/// # Safety
/// As for [`try_free`].
pub unsafe fn try_dealloc(block: *mut u8, layout: Layout) -> Result<(), FreeError> {
    try_free_said(block, OfLayout { size: layout.size(), align: layout.align() }.said())
}

fn try_free_said(block: *mut u8, said: Said) -> Result<(), FreeError> {
    let Some(block) = NonNull::new(block) else { return Ok(()) };
    let alignment = said.align;
    let (usable, least) = match place::look(block)? {
        Place::Watched(_) => return debug::try_free(block, said).map_err(|(error, _)| error),
        Place::Slab(slab) => {
            if arena::is_known_free(slab, block) {
                return Err(FreeError::DoubleFree);
            }
            let size = slab.block_size();
            // What `realloc` leaves in place is more than half of the block.
            let serves = |said: usize, align| ClassId::of(said, align).map(ClassId::size) == Some(size);
            let is_new = |said: &usize| [8, 16].iter().any(|least| serves(*said, alignment.unwrap_or(*least)));
            let least = said.size.filter(is_new).unwrap_or(if size <= 32 { 0 } else { size / 2 + 1 });
            (size, least)
        }
        Place::Run(_, slots) => (slots * SLOT, 0),
        Place::Mapping(mapping) => (mapping.length(), 0),
    };
    if let Some(said) = said.size.filter(|said| *said > usable || *said < least) {
        return Err(FreeError::WrongSize { said, actual: usable });
    }
    if let Some(said) = said.align.filter(|align| !block.as_ptr().addr().is_multiple_of(*align)) {
        return Err(FreeError::WrongAlign { said, actual: 1 << block.as_ptr().addr().trailing_zeros() });
    }
    // SAFETY: a live block, as far as can be told, and the caller's.
    unsafe { super::free(block.as_ptr(), ()) };
    Ok(())
}
