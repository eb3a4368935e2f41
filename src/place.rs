//! Where a pointer leads: by masking to a slab, a run or a mapping, or to nothing.

use core::ptr::NonNull;

use crate::address_map::{self, Kind};
use crate::debug::{self, Watched};
use crate::large::Mapping;
use crate::misuse::{self, FreeError};
use crate::os;
use crate::segment::{self, Owner, OwnerWord, SLOT, SegmentPtr, SlotIndex};
use crate::slab::Slab;

/// Where a live block lies.
pub(crate) enum Place {
    /// In that slab.
    Slab(Slab),
    /// In that segment, so many slots.
    Run(SegmentPtr, usize),
    /// It has a mapping of its own.
    Mapping(Mapping),
    /// It is watched by the debug mode.
    Watched(Watched),
}

/// Finds a block that is live; a pointer to none ends the process with one line that begins with `what`.
#[inline]
pub(crate) fn find(block: NonNull<u8>, what: &str) -> Place {
    let address = block.as_ptr() as usize;
    // Every block is aligned to 8 bytes at least.
    if !address_map::has_aligned_headers(address, 3) {
        return look(block).unwrap_or_else(|error| fail(block, what, error));
    }
    // SAFETY: headers stand where masking leads.
    let segment = unsafe { SegmentPtr::of(address) };
    let slot = SlotIndex::of(address);
    let word = segment.owner_if_any(slot);
    match word.decode() {
        Owner::Arena(_, back) if !word.is_checked() => Place::Slab(Slab::at(segment, slot.minus(back))),
        Owner::Run(slots) if address.is_multiple_of(SLOT) => Place::Run(segment, slots),
        _ => look(block).unwrap_or_else(|error| fail(block, what, error)),
    }
}

/// Ends the process with what the verb `what` found wrong with a pointer.
#[cold]
fn fail(block: NonNull<u8>, what: &str, error: FreeError) -> ! {
    if debug::is_on() {
        debug::fatal(what, block, error);
    }
    misuse::fatal(what, block.as_ptr() as usize, error)
}

/// Where a pointer leads, or what is wrong with it. Whatever the pointer is, nothing is read but headers.
///
/// A block of a slab that was freed already, but not under the debug mode, is not told from a live one here.
#[cold]
pub(crate) fn look(block: NonNull<u8>) -> Result<Place, FreeError> {
    let address = block.as_ptr() as usize;
    match address_map::kind(address) {
        Kind::Headers => {}
        Kind::FarAligned | Kind::Within => {
            let Some(mapping) = address_map::range_around(address).and_then(mapping_at) else {
                return Err(FreeError::Foreign);
            };
            let is_start = mapping.block().addr() == block.addr();
            return if is_start { Ok(Place::Mapping(mapping)) } else { Err(not_at_start(mapping, address)) };
        }
        Kind::Gone => return Err(gone(address)),
        Kind::Foreign => return Err(FreeError::Foreign),
    }
    // SAFETY: headers stand where masking leads.
    let segment = unsafe { SegmentPtr::of(address) };
    let slot = SlotIndex::of(address);
    let word = segment.owner_if_any(slot);
    let at_start = |start: usize, size: usize| match address == start {
        true => Ok(()),
        false => Err(FreeError::Interior { offset: address - start, size }),
    };
    match word.decode() {
        Owner::Arena(_, back) => {
            let slab = Slab::at(segment, slot.minus(back));
            if word.is_checked() && debug::is_on() {
                return Watched::in_slab(slab, address).map(Place::Watched);
            }
            // What is behind the last block is no block's.
            let start = slab.block_around(address).ok_or(FreeError::Foreign)?;
            at_start(start.as_ptr() as usize, slab.block_size()).map(|()| Place::Slab(slab))
        }
        Owner::Run(slots) => {
            let start = segment.slot_start(slot).as_ptr() as usize;
            at_start(start, slots * SLOT).map(|()| Place::Run(segment, slots))
        }
        Owner::Mapping => {
            // SAFETY: the owner word says so.
            let mapping = unsafe { Mapping::of(address) };
            let start = mapping.block().as_ptr() as usize;
            match address < start {
                true => Err(FreeError::Foreign),
                false => at_start(start, mapping.length()).map(|()| Place::Mapping(mapping)),
            }
        }
        // SAFETY: the owner word says so.
        Owner::WatchedMapping => Watched::in_mapping(unsafe { Mapping::of(address) }, address).map(Place::Watched),
        Owner::RunInterior => {
            let (start, slots) = run_around(segment, slot)?;
            Err(FreeError::Interior { offset: address - start, size: slots * SLOT })
        }
        Owner::Free => match mapping_at(segment.address()) {
            Some(mapping) => Err(not_at_start(mapping, address)),
            None => Err(FreeError::DoubleFree),
        },
    }
}

/// What the address map alone tells of an address: whether it is in use. Nothing is read where it leads, not even headers, so
/// that others may be giving that memory back at the same moment. All of a granule counts as in use that the end of a range
/// lies in.
#[cold]
pub(crate) fn look_at_map(address: usize) -> Result<(), FreeError> {
    match address_map::kind(address) {
        Kind::Foreign => Err(FreeError::Foreign),
        Kind::Gone => Err(gone(address)),
        Kind::Headers | Kind::FarAligned | Kind::Within => Ok(()),
    }
}

/// What is wrong with an address that was the allocator's and went back to the kernel, which may have given it to others since.
fn gone(address: usize) -> FreeError {
    if os::is_mapped(address) { FreeError::Foreign } else { FreeError::DoubleFree }
}

/// The run that a slot lies within, its start and how many slots it has; or why there is none.
fn run_around(segment: SegmentPtr, slot: SlotIndex) -> Result<(usize, usize), FreeError> {
    let before = (1..=slot.get()).map(|back| slot.minus(back));
    let mut owners = before.map(|first| (first, segment.owner(first).decode()));
    match owners.find(|(_, owner)| !matches!(owner, Owner::RunInterior)) {
        Some((first, Owner::Run(slots))) if first.get() + slots > slot.get() => {
            Ok((segment.slot_start(first).as_ptr() as usize, slots))
        }
        // An arena keeps freed runs at hand as they were, but for their first words.
        Some((_, Owner::Free)) => Err(FreeError::DoubleFree),
        // Where arenas lie.
        _ => Err(FreeError::Foreign),
    }
}

/// What is wrong with a pointer into the range of that mapping, other than its block's.
fn not_at_start(mapping: Mapping, address: usize) -> FreeError {
    if is_watched(mapping) {
        return Watched::in_mapping(mapping, address).err().unwrap_or(FreeError::Foreign);
    }
    match address.checked_sub(mapping.block().as_ptr() as usize) {
        Some(offset) if offset < mapping.length() => FreeError::Interior { offset, size: mapping.length() },
        _ => FreeError::Foreign,
    }
}

/// Whether the debug mode watches a mapping.
pub(crate) fn is_watched(mapping: Mapping) -> bool {
    let block = mapping.block().as_ptr() as usize;
    // SAFETY: the block of a mapping that is not far-aligned lies in its first granule, where headers stand.
    let owner = || unsafe { SegmentPtr::of(block) }.owner(SlotIndex::of(block));
    !mapping.is_far_aligned() && owner() == OwnerWord::WATCHED_MAPPING
}

/// The live mapping whose first granule that is, or whose block begins with it, if it is one's.
pub(crate) fn mapping_at(granule: usize) -> Option<Mapping> {
    match address_map::kind(granule) {
        Kind::Headers => {}
        // SAFETY: the map says that a far-aligned block begins there.
        Kind::FarAligned => return Some(unsafe { Mapping::of_far_aligned(granule) }),
        Kind::Within | Kind::Gone | Kind::Foreign => return None,
    }
    // SAFETY: headers stand where masking leads.
    let segment = unsafe { SegmentPtr::of(granule) };
    // A mapping's block begins in slot 1, or where its alignment puts it.
    let is_mapping = |slot: &SlotIndex| matches!(segment.owner(*slot).decode(), Owner::Mapping | Owner::WatchedMapping);
    let slot = (0..segment::SLOTS.ilog2()).map(|shift| SlotIndex::FIRST.plus(1 << shift)).find(is_mapping)?;
    // SAFETY: the owner word of one of its slots says so.
    Some(unsafe { Mapping::of(segment.slot_start(slot).as_ptr() as usize) })
}
