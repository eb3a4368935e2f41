//! The debug mode (`HOMING_DEBUG=1`): every block is watched from when it is handed out until its memory is used anew.
//!
//! A watched block lies within a larger one of the heap below: a record stands before it, and bytes of a pattern before
//! and behind it that nobody may touch. Freed blocks are filled with another pattern and wait in a quarantine; that
//! pattern is looked for when they leave it, when the memory is handed out again, and when the process exits.
//!
//! | misuse | noticed |
//! |---|---|
//! | double free | at the second free, until the memory is handed out again |
//! | free of a pointer into a block, or of one that is not the allocator's | at once |
//! | layout or size that differs from what was asked for | at once |
//! | bytes before or behind a block written over, one is enough | when it is freed or moved, or at the exit |
//! | writing to a block after it was freed | when it leaves the quarantine or is handed out again, or at the exit |
//! | blocks that nothing points to any more (`HOMING_DEBUG=leaks`) | at the exit |
//!
//! Nothing of this costs anything where the mode is off: under it arenas work in checked mode, in which every operation
//! takes the slow path, and it is only there that it is asked for.
//!
//! Of blocks of 256 KiB and more only the ends are filled; their pages go back to the kernel when they are freed, and what was
//! written to since then is what is in memory again.
//!
//! Not watched are blocks that are served in an emergency (a thread that comes back in while it is inside) and blocks
//! aligned to 32 MiB or more.

mod leaks;
mod quarantine;
mod record;
mod report;
mod stack;

use core::ptr::NonNull;

use crate::address_map;
use crate::arena::{self, Arena, Handed};
use crate::arith::MAX_SIZE;
use crate::block::Block;
use crate::config::{self, Debug, Zero};
use crate::large::Mapping;
use crate::misuse::FreeError;
use crate::place::{self, Place};
use crate::segment::{Owner, OwnerWord, SegmentPtr, SlotIndex};
use crate::size_class::ClassId;
use crate::slab::Slab;
pub(crate) use quarantine::{after_fork_in_child, is_mine, quarantined_bytes};
use record::Extent;
pub(crate) use record::Watched;
use report::Finding;
use stack::Stack;

/// What whoever frees a block says of it, in bytes; `None` for what is not said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) size: Option<usize>,
    pub(crate) align: Option<usize>,
}

impl Said {
    /// Nothing.
    pub(crate) const NOTHING: Self = Said { size: None, align: None };
}

/// Whether the mode is on.
#[inline]
pub(crate) fn is_on() -> bool {
    config::current().watches_blocks()
}

/// Done once, when the process is set up and may allocate: what stacks are read with may have to be loaded.
pub(crate) fn begin() {
    if is_on() {
        stack::begin();
    }
}

/// A watched block. Never inlined: see `stack`. `None` where there is no memory for it.
#[inline(never)]
pub(crate) fn allocate(arena: &Arena, size: usize, align: usize, want_zero: bool) -> Option<Handed> {
    let extent = Extent::of(size, align)?;
    let make = || make(arena, &extent, align);
    // What waits in the quarantine is memory that the program has given back.
    let (watched, is_zero) = make().or_else(|| if quarantine::empty() { make() } else { None })?;
    watched.fill_new(want_zero || config::current().zero != Zero::Off, is_zero);
    watched.note_allocation(Stack::here());
    Some(Handed { block: watched.user(), is_zero: true })
}

/// A block of the heap made a watched one, but for who asked for it; and whether the user's part of it reads as zero.
fn make(arena: &Arena, extent: &Extent, align: usize) -> Option<(Watched, bool)> {
    match ClassId::of(extent.total, extent.align) {
        Some(class) if extent.shift == 0 => {
            let raw = arena.allocate_checked(class, false)?.block;
            // SAFETY: a block of the class, nobody's yet; memory of slabs was cleared before its first use.
            let watched = unsafe { Watched::at(raw) };
            if let Err(finding) = watched.check(class.size()) {
                report::fatal(finding, watched);
            }
            watched.begin(extent, class.size(), align);
            Some((watched, false))
        }
        _ => {
            let Handed { block: raw, is_zero } =
                arena.allocate_watched_mapping(extent.total + extent.shift, extent.align)?;
            // SAFETY: a mapping that was just made, not aligned to a granule or more.
            let mapping = unsafe { Mapping::of(raw.as_ptr() as usize) };
            // SAFETY: the mapping's block, nobody's yet.
            let watched = unsafe { Watched::at(raw) };
            watched.begin(extent, mapping.length(), align);
            own(watched, OwnerWord::WATCHED_MAPPING);
            Some((watched, is_zero))
        }
    }
}

/// Says in the owner words which masking leads to, from the mapping's block and from the user's, whose block it is.
fn own(watched: Watched, word: OwnerWord) {
    for address in [watched.raw(), watched.user()] {
        let address = address.as_ptr() as usize;
        // SAFETY: both lie in the mapping's first granule.
        unsafe { SegmentPtr::of(address) }.set_owner(SlotIndex::of(address), word);
    }
}

/// Whether a request can be watched at all.
pub(crate) fn can_watch(align: usize) -> bool {
    align < address_map::GRANULE
}

/// Takes a watched block back, if nothing is wrong with it; a report ends the process if something is.
pub(crate) fn free(block: NonNull<u8>, said: Said) {
    match try_free(block, said) {
        Ok(()) => {}
        Err((error, watched)) => report::fatal_use("free", error, block, watched),
    }
}

/// Reports what the verb `what` found wrong with a pointer, and ends the process.
#[inline(never)]
pub(crate) fn fatal(what: &str, block: NonNull<u8>, error: FreeError) -> ! {
    report::fatal_use(what, error, block, Watched::around(block))
}

/// Takes a watched block back, if nothing is wrong with it. Never inlined: see `stack`.
#[inline(never)]
pub(crate) fn try_free(block: NonNull<u8>, said: Said) -> Result<(), (FreeError, Option<Watched>)> {
    let watched = match place::look(block) {
        Ok(Place::Watched(watched)) => watched,
        Ok(_) => return Err((FreeError::Foreign, None)),
        Err(error) => return Err((error, Watched::around(block))),
    };
    watched.check_live(said).map_err(|error| (error, Some(watched)))?;
    if !watched.retire() {
        // Another thread was faster.
        return Err((FreeError::DoubleFree, Some(watched)));
    }
    watched.note_free(Stack::here());
    quarantine::put(watched);
    Ok(())
}

/// Gives a block that leaves the quarantine back to the heap below.
fn release(watched: Watched) {
    if let Err(finding) = watched.check(watched.raw_size()) {
        report::fatal(finding, watched);
    }
    let raw = watched.raw();
    let address = raw.as_ptr() as usize;
    // SAFETY: a block of the heap, in its segment or in its mapping's first granule.
    let segment = unsafe { SegmentPtr::of(address) };
    let slot = SlotIndex::of(address);
    let word = segment.owner(slot);
    match (word.decode(), word.arena_address()) {
        (_, Some(owner)) => {
            watched.set_released();
            arena::free_to_arena(segment, slot, word, owner, raw);
        }
        (Owner::WatchedMapping, _) => {
            // SAFETY: the owner word says so.
            let mapping = unsafe { Mapping::of(address) };
            own(watched, OwnerWord::FREE);
            arena::large::free_mapping(mapping);
        }
        _ => report::fatal(Finding::RecordLost, watched),
    }
}

/// The block moved to one of another size, which is always another: whoever goes on with the old one is found out. `None`
/// where there is no memory for it; then the block is as it was.
pub(crate) fn reallocate(
    watched: Watched,
    said: Said,
    new_size: usize,
    allocate: impl FnOnce() -> *mut u8,
) -> Option<NonNull<u8>> {
    debug_assert!(new_size <= MAX_SIZE);
    if let Err(error) = watched.check_live(said) {
        report::fatal_use("realloc", error, watched.user(), Some(watched));
    }
    let new = NonNull::new(allocate())?;
    // SAFETY: both blocks are at least that long, and apart.
    unsafe { new.copy_from_nonoverlapping(watched.user(), watched.size().min(new_size)) };
    free(watched.user(), Said::NOTHING);
    Some(new)
}

/// Calls `visit` with every block that is watched now, in users' hands or freed lately, and how long the heap's block is.
/// Others may allocate meanwhile.
fn each_watched(mut visit: impl FnMut(Watched, usize)) {
    address_map::each_with_headers(|start| {
        // SAFETY: a range begins there, so headers stand there.
        let segment = unsafe { SegmentPtr::of(start) };
        if let Some(mapping) = place::mapping_at(start) {
            let raw = mapping.block();
            let address = raw.as_ptr() as usize;
            if segment.owner(SlotIndex::of(address)) == OwnerWord::WATCHED_MAPPING {
                // SAFETY: the owner word says so.
                visit(unsafe { Watched::at(raw) }, mapping.length());
            }
            return;
        }
        for slot in SlotIndex::all() {
            // A mapping that is kept for reuse has no block, and its header over some words.
            let word = segment.owner_if_any(slot);
            if word.is_checked() && word.back() == 0 {
                let slab = Slab::at(segment, slot);
                slab.each_carved(|block: Block| {
                    // SAFETY: blocks of slabs in checked mode have room for a record; they were cleared before their
                    // first use.
                    visit(unsafe { Watched::at(block.pointer()) }, slab.block_size());
                });
            }
        }
    });
}

/// When the process exits: looks at every block once more, and for those that nothing points to.
pub(crate) fn at_exit() {
    if !is_on() {
        return;
    }
    quarantine::freeze();
    each_watched(|watched, length| {
        if let Err(finding) = watched.check(length) {
            report::fatal(finding, watched);
        }
    });
    if config::current().debug == Debug::Leaks {
        leaks::report();
    }
}
