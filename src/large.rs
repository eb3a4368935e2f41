//! Mappings: blocks too large, or aligned too far, for a segment, each with addresses of its own.
//!
//! A mapping looks like a segment from afar: the owner word of its block stands where masking the block's address leads,
//! one page after the first 64 KiB, and the rest of that page holds the mapping's header. The block begins with the next
//! page or where its alignment wants it, always within the first granule. What lies before that page is not mapped. Only a
//! block aligned to a granule or more cannot be found so: its header stands in the page before it, and the address map
//! tells.

use core::cell::Cell;
use core::ptr::NonNull;

use crate::address_map::{self, GRANULE, Part, Range};
use crate::arith::{align_up, sum};
use crate::hardened;
use crate::os;
use crate::segment::{HEADER_WORD, OWNERS, OwnerWord, SegmentPtr, SlotIndex};
use crate::topology::NodeIndex;

/// Where the header stands in the page of owner words: over words that serve none.
const HEADER: usize = HEADER_WORD * size_of::<usize>();
const _: () = assert!(HEADER + size_of::<MappingHeader>() <= 4096);

/// A mapping's header. Written by whoever holds the mapping: its user's thread inside `realloc` or `free`.
struct MappingHeader {
    /// Bytes that are mapped from the header's page on.
    mapped: Cell<usize>,
    is_far_aligned: Cell<bool>,
    block: Cell<NonNull<u8>>,
    /// Bytes that the user may write.
    length: Cell<usize>,
    /// The pool it is counted in; none for emergencies.
    node: Cell<Option<NodeIndex>>,
    /// What binds its pages.
    part: Cell<Part>,
}

/// Bytes behind the block that nobody may touch.
fn guard() -> usize {
    if hardened::ON { os::page_size() } else { 0 }
}

/// A mapping: a pointer to its header.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Mapping(NonNull<MappingHeader>);

impl Mapping {
    /// Maps a block of `size` bytes, zeroed, aligned to `align`, not yet bound to any node; of that part, and counted in that
    /// pool, or in none. Takes no lock.
    pub(crate) fn map(size: usize, align: usize, part: Part, node: Option<NodeIndex>) -> Option<Self> {
        let page = os::page_size();
        let length = align_up(size.max(1), page)?;
        let is_far_aligned = align >= GRANULE;
        // From the header's page.
        let to_block = if is_far_aligned { page } else { align_up(OWNERS + page, align)? - OWNERS };
        let mapped = sum([to_block, length, guard()])?;
        let range = match is_far_aligned {
            true => address_map::map_far_aligned(part, page, mapped, align)?,
            false => address_map::map(part, OWNERS, mapped)?,
        };
        let start = range.start;
        // SAFETY: both lie within what was mapped.
        let (block, header) = unsafe { (start.add(to_block), start.add(if is_far_aligned { 0 } else { HEADER })) };
        if hardened::ON {
            // SAFETY: the last page of what was just mapped.
            unsafe { os::forbid(block.add(length), guard()) };
        }
        let mapping = Mapping(header.cast());
        // SAFETY: the header's place is mapped, aligned to a page's eighths at least, and nobody reads it yet.
        unsafe {
            mapping.0.write(MappingHeader {
                mapped: Cell::new(mapped),
                is_far_aligned: Cell::new(is_far_aligned),
                block: Cell::new(block),
                length: Cell::new(length),
                node: Cell::new(node),
                part: Cell::new(part),
            });
        }
        block.as_ptr().expose_provenance();
        if is_far_aligned {
            range.show_far_aligned();
        } else {
            // SAFETY: the granule's owner words are mapped.
            let words = unsafe { SegmentPtr::of(start.as_ptr().expose_provenance()) };
            words.set_owner(SlotIndex::FIRST, OwnerWord::OF_MAPPING);
            mapping.set_owner(OwnerWord::MAPPING);
            range.show_headers(false);
        }
        Some(mapping)
    }

    /// The mapping in whose first granule the address lies.
    ///
    /// # Safety
    /// The owner word that masking the address leads to says `Mapping`.
    pub(crate) unsafe fn of(address: usize) -> Self {
        // SAFETY: the owner word stands in the same page as the header.
        let segment = unsafe { SegmentPtr::of(address) };
        let header = core::ptr::with_exposed_provenance_mut(segment.address() + OWNERS + HEADER);
        // SAFETY: never null.
        Mapping(unsafe { NonNull::new_unchecked(header) })
    }

    /// The mapping whose far-aligned block that is.
    ///
    /// # Safety
    /// The address map says that a far-aligned block begins there.
    pub(crate) unsafe fn of_far_aligned(block: usize) -> Self {
        let header = core::ptr::with_exposed_provenance_mut(block - os::page_size());
        // SAFETY: never null, since the block is a granule from 0 at least.
        Mapping(unsafe { NonNull::new_unchecked(header) })
    }

    fn header(&self) -> &MappingHeader {
        // SAFETY: written by `map`, and there until `unmap`.
        unsafe { self.0.as_ref() }
    }

    /// Where what is mapped begins: with the header's page.
    fn start(&self) -> NonNull<u8> {
        let back = if self.is_far_aligned() { 0 } else { HEADER };
        // SAFETY: within the header's page.
        unsafe { self.0.cast::<u8>().sub(back) }
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

    /// What binds its pages.
    pub(crate) fn part(&self) -> Part {
        self.header().part.get()
    }

    /// Whether the block is aligned so far that the address map must be asked for it.
    pub(crate) fn is_far_aligned(&self) -> bool {
        self.header().is_far_aligned.get()
    }

    fn set_owner(&self, owner: OwnerWord) {
        let address = self.block().as_ptr() as usize;
        // SAFETY: a block that is not far-aligned lies in its mapping's first granule.
        unsafe { SegmentPtr::of(address) }.set_owner(SlotIndex::of(address), owner);
    }

    /// Bytes from the header's page to the end of a block of `length` bytes, and of what stands behind it.
    fn bytes_for(&self, length: usize) -> Option<usize> {
        sum([self.block().addr().get() - self.start().addr().get(), length, guard()])
    }

    /// Makes the block at least `size` bytes long without moving it; what is added reads as zero. False where the addresses
    /// after it are taken or the kernel refuses; nothing has changed then.
    pub(crate) fn grow(&self, size: usize) -> bool {
        let header = self.header();
        let Some(length) = align_up(size, os::page_size()) else { return false };
        if length <= header.length.get() {
            return true;
        }
        let mapped = header.mapped.get();
        let Some(wanted) = self.bytes_for(length) else { return false };
        // Where the end was given back without its addresses it is still there.
        // SAFETY: the range is this mapping's.
        let grown = wanted <= mapped || !hardened::ON && unsafe { self.range().extend(wanted) };
        if grown {
            header.mapped.set(wanted.max(mapped));
            header.length.set(length);
        }
        grown
    }

    /// Gives the pages after the first `size` bytes back to the kernel, if it takes them.
    pub(crate) fn shrink(&self, size: usize) {
        let header = self.header();
        let old = header.length.get();
        let Some(length) = align_up(size.max(1), os::page_size()).filter(|length| *length < old) else { return };
        let Some(wanted) = self.bytes_for(length) else { return };
        // SAFETY: the end is the mapping's, and its user has given it up.
        if !hardened::ON && unsafe { self.range().shorten(wanted) } {
            header.mapped.set(wanted);
            header.length.set(length);
            return;
        }
        // SAFETY: likewise.
        if unsafe { os::purge(self.block().add(length), old - length) } {
            header.length.set(length);
        }
    }

    /// All its pages, from the header's on.
    pub(crate) fn range(&self) -> Range {
        let front = if self.is_far_aligned() { os::page_size() } else { 0 };
        Range { part: self.part(), start: self.start(), size: self.header().mapped.get(), front }
    }

    /// As [`unmap`](Self::unmap), but for the block's first `lost` bytes, whose addresses may be another's by now.
    ///
    /// # Safety
    /// Nobody was given the block.
    pub(crate) unsafe fn unmap_around(self, lost: usize) {
        let before = self.block().addr().get() - self.start().addr().get();
        // SAFETY: the caller's promise.
        unsafe { self.range().unmap_around(before..before + lost) };
    }

    /// Gives it all back to the kernel.
    ///
    /// # Safety
    /// Nobody uses the block any more, and the mapping is on no list.
    pub(crate) unsafe fn unmap(self) {
        // SAFETY: the caller's promise.
        unsafe { self.range().unmap() };
    }
}
