//! Mappings: blocks too large, or aligned too far, for a segment, each with addresses of its own.
//!
//! A mapping looks like a segment from afar: the owner word of its block stands where masking the block's address leads,
//! one page after the first 64 KiB, and the rest of that page holds the mapping's header. The block begins with the next
//! page or where its alignment wants it, always within the first granule. Only a block aligned to a granule or more
//! cannot be served so; its header stands in the page before it, and the zone's bitmap of outliers tells.

use core::cell::Cell;
use core::ptr::NonNull;

use crate::arith::{align_up, sum};
use crate::hardened;
use crate::os::{self, Moved};
use crate::segment::{HEADER_WORD, OWNERS, OwnerWord, SegmentPtr, SlotIndex};
use crate::topology::NodeIndex;
use crate::zone::{self, GRANULE, Part, Range};

/// Where the header stands in the page of owner words: over words that serve none.
const HEADER: usize = OWNERS + HEADER_WORD * size_of::<usize>();
const _: () = assert!(HEADER + size_of::<MappingHeader>() <= OWNERS + 4096);

/// A mapping's header. Written by whoever holds the mapping: its user's thread inside `realloc` or `free`, or, while it
/// is kept for reuse, the holder of the node's lock.
struct MappingHeader {
    /// What was reserved.
    start: Cell<NonNull<u8>>,
    reserved: Cell<usize>,
    placement: Cell<Placement>,
    block: Cell<NonNull<u8>>,
    /// Bytes that the user may write.
    length: Cell<usize>,
    /// The pool it is counted in; none for emergencies.
    node: Cell<Option<NodeIndex>>,
    /// Where its pages are to lie: as those of that part of the zone.
    part: Cell<Part>,
    kept_at: Cell<u64>,
    next_kept: Cell<Option<Mapping>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Placement {
    Zone,
    Outlier,
    FarAligned,
}

/// A mapping: a pointer to its header.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Mapping(NonNull<MappingHeader>);

impl Mapping {
    /// Maps a block of `size` bytes, zeroed, aligned to `align`, from that part of the zone, and counted in that pool.
    /// Without a pool it is a mapping for emergencies, outside the zone, made without any lock.
    pub(crate) fn map(size: usize, align: usize, part: Part, nodes: usize, node: Option<NodeIndex>) -> Option<Self> {
        let page = os::page_size();
        let length = align_up(size.max(1), page)?;
        if align >= GRANULE {
            return Self::map_far_aligned(length, align, part, node);
        }
        // The block begins after the page of the header, or at its alignment.
        let offset = align_up(OWNERS + page, align)?;
        // Hardened, an inaccessible page follows.
        let total = sum([offset, length, if hardened::ON { page } else { 0 }])?;
        let range = match node {
            Some(_) => zone::allocate(part, nodes, total)?,
            None => zone::allocate_outlier(total)?,
        };
        // SAFETY: the offsets lie within the range.
        let (metadata, block) = unsafe { (range.start.add(OWNERS), range.start.add(offset)) };
        if hardened::ON {
            // What was accessible to a mapping before.
            // SAFETY: the range was just reserved, and nobody uses it.
            unsafe { os::forbid(range.start, range.size) };
        }
        // Whole, so that the mappings of neighbours are one to the kernel, which allows a process 65,530 of them
        // (vm.max_map_count); where it counts what it promises, or has not that much, just what is needed.
        // SAFETY: the range was just reserved, and the parts lie within it.
        let committed = unsafe {
            !hardened::ON && !os::promises_are_counted() && os::commit(range.start, range.size)
                || os::commit(metadata, page) && os::commit(block, length)
        };
        if !committed {
            // SAFETY: nobody was given the range.
            unsafe { zone::free(range) };
            return None;
        }
        zone::show_headers(&range);
        // SAFETY: the header lies in the page just committed.
        let mapping = Mapping(unsafe { range.start.add(HEADER) }.cast());
        let placement = if range.outlier { Placement::Outlier } else { Placement::Zone };
        mapping.begin(MappingHeader {
            start: Cell::new(range.start),
            reserved: Cell::new(range.size),
            placement: Cell::new(placement),
            block: Cell::new(block),
            length: Cell::new(length),
            node: Cell::new(node),
            part: Cell::new(part),
            kept_at: Cell::new(0),
            next_kept: Cell::new(None),
        });
        // SAFETY: the range begins with the page of words that was committed above.
        unsafe { SegmentPtr::of(range.start.as_ptr() as usize) }.set_owner(SlotIndex::FIRST, OwnerWord::OF_MAPPING);
        mapping.set_owner(OwnerWord::MAPPING);
        Some(mapping)
    }

    fn map_far_aligned(length: usize, align: usize, part: Part, node: Option<NodeIndex>) -> Option<Self> {
        let page = os::page_size();
        let (start, reserved, block) = zone::allocate_far_aligned(length, align, page)?;
        // SAFETY: at least `align`, so at least a page, is reserved before the block.
        let metadata = unsafe { block.sub(page) };
        // SAFETY: just reserved, from the page before the block to its end.
        if !unsafe { os::commit(metadata, page + length) } {
            // SAFETY: nobody was given it.
            unsafe { zone::free_far_aligned(start, reserved, block) };
            return None;
        }
        let mapping = Mapping(metadata.cast());
        mapping.begin(MappingHeader {
            start: Cell::new(start),
            reserved: Cell::new(reserved),
            placement: Cell::new(Placement::FarAligned),
            block: Cell::new(block),
            length: Cell::new(length),
            node: Cell::new(node),
            part: Cell::new(part),
            kept_at: Cell::new(0),
            next_kept: Cell::new(None),
        });
        Some(mapping)
    }

    fn begin(self, header: MappingHeader) {
        // SAFETY: the header's place is committed, aligned to a page's eighths at least, and nobody reads it yet.
        unsafe { self.0.write(header) };
    }

    /// The mapping in whose first granule the address lies.
    ///
    /// # Safety
    /// The owner word that masking the address leads to says `Mapping`.
    pub(crate) unsafe fn of(address: usize) -> Self {
        // SAFETY: the owner word stands in the same page as the header.
        let segment = unsafe { SegmentPtr::of(address) };
        let header = core::ptr::with_exposed_provenance_mut(segment.address() + HEADER);
        // SAFETY: never null.
        Mapping(unsafe { NonNull::new_unchecked(header) })
    }

    /// The mapping whose far-aligned block that is.
    ///
    /// # Safety
    /// The zone says that a far-aligned block begins there.
    pub(crate) unsafe fn of_far_aligned(block: usize) -> Self {
        let header = core::ptr::with_exposed_provenance_mut(block - os::page_size());
        // SAFETY: never null, since the block is a granule from 0 at least.
        Mapping(unsafe { NonNull::new_unchecked(header) })
    }

    fn header(&self) -> &MappingHeader {
        // SAFETY: written by `begin`, and there until `unmap`.
        unsafe { self.0.as_ref() }
    }

    /// The block's first byte.
    pub(crate) fn block(&self) -> NonNull<u8> {
        self.header().block.get()
    }

    /// Bytes that the user may write.
    pub(crate) fn length(&self) -> usize {
        self.header().length.get()
    }

    /// The pool it is counted in.
    pub(crate) fn node(&self) -> Option<NodeIndex> {
        self.header().node.get()
    }

    /// Where its pages are to lie.
    pub(crate) fn part(&self) -> Part {
        self.header().part.get()
    }

    /// The block's pages, where they lie outside the zone, so that no part of it binds them: a start and a size.
    pub(crate) fn outside_zone(&self) -> Option<(NonNull<u8>, usize)> {
        (self.header().placement.get() != Placement::Zone).then(|| (self.block(), self.length()))
    }

    /// Whether the block is aligned so far that the zone must be asked for it.
    pub(crate) fn is_far_aligned(&self) -> bool {
        self.header().placement.get() == Placement::FarAligned
    }

    fn set_owner(&self, owner: OwnerWord) {
        let address = self.block().as_ptr() as usize;
        // SAFETY: a block that is not far-aligned lies in its mapping's first granule.
        unsafe { SegmentPtr::of(address) }.set_owner(SlotIndex::of(address), owner);
    }

    /// Hands a kept mapping out again.
    pub(crate) fn use_again(&self) {
        self.set_owner(OwnerWord::MAPPING);
    }

    pub(crate) fn kept_at(&self) -> u64 {
        self.header().kept_at.get()
    }

    pub(crate) fn set_kept_at(&self, time: u64) {
        self.header().kept_at.set(time);
    }

    pub(crate) fn next_kept(&self) -> Option<Mapping> {
        self.header().next_kept.get()
    }

    pub(crate) fn set_next_kept(&self, next: Option<Mapping>) {
        self.header().next_kept.set(next);
    }

    /// Makes the block at least `size` bytes long without moving it. False where the addresses after it are taken or the
    /// kernel refuses; nothing has changed then.
    pub(crate) fn grow(&self, size: usize) -> bool {
        let header = self.header();
        let Some(length) = align_up(size, os::page_size()) else { return false };
        let old = header.length.get();
        if length <= old {
            return true;
        }
        let before = self.block().as_ptr() as usize - header.start.get().as_ptr() as usize;
        let behind = if hardened::ON { os::page_size() } else { 0 };
        let Some(end) = sum([before, length, behind]) else { return false };
        let reserved = header.reserved.get();
        if end > reserved {
            let Some(wanted) = align_up(end, GRANULE) else { return false };
            if header.placement.get() != Placement::Zone || !zone::extend(&self.range(), wanted - reserved) {
                return false;
            }
            if hardened::ON {
                // What was accessible to a mapping before, as in `map`.
                // SAFETY: the range has just grown by that, and nobody uses it.
                unsafe { os::forbid(header.start.get().add(reserved), wanted - reserved) };
            }
            header.reserved.set(wanted);
        }
        // SAFETY: from the block's end to its new one lies within what is reserved for this mapping.
        let grown = unsafe { os::commit(self.block().add(old), length - old) };
        if grown {
            header.length.set(length);
        }
        grown
    }

    /// Gives the pages after the first `size` bytes back to the kernel.
    pub(crate) fn shrink(&self, size: usize) {
        let header = self.header();
        let old = header.length.get();
        let Some(length) = align_up(size.max(1), os::page_size()).filter(|length| *length < old) else { return };
        // SAFETY: the tail is the mapping's, and its user has given it up.
        if unsafe { os::purge(self.block().add(length), old - length) } {
            header.length.set(length);
        }
    }

    /// Moves the contents of another mapping's first `size` bytes here without copying, where the kernel can.
    pub(crate) fn move_from(&self, other: &Mapping, size: usize) -> Moved {
        let page_aligned = |mapping: &Mapping| mapping.block().as_ptr().addr().is_multiple_of(os::page_size());
        let Some(size) = align_up(size, os::page_size()) else { return Moved::No };
        if !page_aligned(self) || !page_aligned(other) {
            return Moved::No;
        }
        debug_assert!(size <= self.length() && size <= other.length());
        // SAFETY: both ranges are whole pages of committed mappings, which the caller holds.
        unsafe { os::move_pages(other.block(), size, self.block()) }
    }

    fn range(&self) -> Range {
        let header = self.header();
        Range {
            start: header.start.get(),
            size: header.reserved.get(),
            outlier: header.placement.get() == Placement::Outlier,
        }
    }

    /// Gives it all back to the kernel.
    ///
    /// # Safety
    /// Nobody uses the block any more, and the mapping is on no list.
    pub(crate) unsafe fn unmap(self) {
        let header = self.header();
        match header.placement.get() {
            Placement::FarAligned => {
                let (start, reserved, block) = (header.start.get(), header.reserved.get(), header.block.get());
                // SAFETY: the caller's promise.
                unsafe { zone::free_far_aligned(start, reserved, block) };
            }
            // SAFETY: the caller's promise.
            Placement::Zone | Placement::Outlier => unsafe { zone::free(self.range()) },
        }
    }
}
