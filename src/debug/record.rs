//! The record of a watched block, and where it stands.
//!
//! ```text
//! raw ................. raw + FRONT ...... user ............ user + size ....... raw's end
//! |  record            |  no man's land  |  the user's      |  no man's land    |
//! ```
//!
//! `raw` is a block of the heap below. Its first two words are left to that heap, which links free blocks by them, so that
//! the record outlives the block until the memory is handed out anew.

use core::cell::Cell;
use core::ptr::NonNull;

use super::report::Finding;
use super::stack::Stack;
use super::{Said, is_on, leaks};
use crate::address_map::{self, GRANULE, granule_start};
use crate::arena;
use crate::arith::{MAX_SIZE, align_down, align_up, sum};
use crate::config::{self, Zero};
use crate::large::Mapping;
use crate::misuse::FreeError;
use crate::os;
use crate::place;
use crate::segment::{Owner, OwnerWord, SLOT, SegmentPtr, SlotIndex};
use crate::slab::Slab;
use crate::sync::{AtomicUsize, Ordering};
use crate::topology::NodeIndex;

/// What a new block is filled with, what stands around it, and what a freed one is filled with.
const NEW: u8 = 0xa5;
const EDGE: u8 = 0xe7;
const FREED: u8 = 0xdf;

/// Blocks of so many bytes and more are filled at their ends only, and their pages go back to the kernel when they are freed.
const LARGE: usize = 256 << 10;
/// Bytes of a large freed block that are looked through: to ask which pages are there takes longer the more there could be.
const MOST_LOOKED_AT: usize = 1 << (if usize::BITS > 32 { 34 } else { 30 });

/// The least no man's land behind a block, in bytes.
const LEAST_BEHIND: usize = 16;
/// No man's land before a block is looked at so far, in bytes; an alignment may make it longer.
const BEFORE: usize = 4096;

/// What a record's mark says, together with the record's address, so that no copy of it counts.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
enum Mark {
    /// About to be handed out: the record is being written.
    Begun = 0x6265_6701,
    Live = 0x6c69_7601,
    /// Live, and found by whoever looks for leaks.
    Reached = 0x6c69_7602,
    /// Being freed: the record and the block are being written.
    Leaving = 0x6c65_6101,
    /// Freed, in the quarantine.
    Freed = 0x6672_6501,
    /// Freed, and given back to the heap below.
    Released = 0x6672_6502,
}

impl Mark {
    const ALL: [Self; 6] = [Mark::Begun, Mark::Live, Mark::Reached, Mark::Leaving, Mark::Freed, Mark::Released];
}

#[repr(C)]
struct Record {
    /// The heap's own, while the block is free; else `UNUSED`.
    links: Cell<[usize; 2]>,
    mark: AtomicUsize,
    /// The next in the quarantine, and what that must agree with. Guarded by the quarantine's lock while it is in there.
    next: Cell<Option<Watched>>,
    next_check: Cell<usize>,
    /// The next of those that a search for leaks has come to; that search's own.
    next_found: Cell<Option<Watched>>,
    /// What the fields below must agree with, but while they are being written (`Begun`, `Leaving`).
    seal: Cell<u64>,
    /// How many blocks were watched before it.
    born: Cell<usize>,
    user: Cell<NonNull<u8>>,
    size: Cell<usize>,
    align: Cell<usize>,
    /// Bytes in the block of the heap.
    raw_size: Cell<usize>,
    /// 1 if the block's own pages went back to the kernel when it was freed; else 0. A word, so that every byte counts.
    is_purged: Cell<usize>,
    allocated_by: Cell<u32>,
    freed_by: Cell<u32>,
    allocated_at: Cell<Stack>,
    freed_at: Cell<Stack>,
}

/// Blocks that were watched so far.
static BORN: AtomicUsize = AtomicUsize::new(0);

/// What stands where the heap would link the block.
const UNUSED: [usize; 2] = [usize::from_ne_bytes([EDGE; size_of::<usize>()]); 2];

/// Bytes before a block at least: the record and sixteen of no man's land.
const FRONT: usize = 288;
const _: () = assert!(size_of::<Record>() + 16 <= FRONT && FRONT.is_multiple_of(16));

/// How a watched block lies in one of the heap's.
pub(super) struct Extent {
    size: usize,
    /// Bytes that the heap's block has at least, not counting `shift`.
    pub(super) total: usize,
    /// What the heap's block is aligned to.
    pub(super) align: usize,
    /// Bytes that the heap's block must be longer, where it is not aligned as the user's.
    pub(super) shift: usize,
}

impl Extent {
    /// For a block of that size and alignment; `None` where it would wrap.
    pub(super) fn of(size: usize, align: usize) -> Option<Self> {
        // So that the user's block is in the same slot as the heap's, or found by an owner word of its own.
        let (align, shift) = if align < SLOT { (align.max(16), 0) } else { (16, align) };
        let front = align_up(FRONT, align)?;
        let total = sum([front, size, LEAST_BEHIND])?;
        (sum([total, shift])? <= MAX_SIZE).then_some(Extent { size, total, align, shift })
    }
}

/// A block of the heap that holds, or held, a watched one: a pointer to its record.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Watched(NonNull<Record>);

impl Watched {
    /// The record at the start of that block of the heap.
    ///
    /// # Safety
    /// The block is at least `FRONT` bytes long and readable; it was cleared before a record was written to it.
    pub(super) unsafe fn at(raw: NonNull<u8>) -> Self {
        Watched(raw.cast())
    }

    fn record(&self) -> &Record {
        // SAFETY: the block has room for a record, and any bytes that are there were written by `begin` or are zero,
        // but for those that a program wrote over: see `is_whole`.
        unsafe { self.0.as_ref() }
    }

    /// The block of the heap.
    pub(super) fn raw(self) -> NonNull<u8> {
        self.0.cast()
    }

    fn address(self) -> usize {
        self.0.as_ptr() as usize
    }

    /// What its mark says; `None` where it was never a watched block, or where its mark was written over.
    fn mark(self) -> Option<Mark> {
        let word = self.record().mark.load(Ordering::Acquire) ^ self.address();
        Mark::ALL.into_iter().find(|mark| *mark as usize == word)
    }

    fn set(self, mark: Mark) {
        self.record().mark.store(mark as usize ^ self.address(), Ordering::Release);
    }

    /// Marks it as `to` if it is marked as `from`.
    fn turn(self, from: Mark, to: Mark) -> bool {
        let (from, to) = (from as usize ^ self.address(), to as usize ^ self.address());
        self.record().mark.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Whether it is in its user's hands.
    pub(super) fn is_live(self) -> bool {
        matches!(self.mark(), Some(Mark::Live | Mark::Reached))
    }

    fn is_freed(self) -> bool {
        matches!(self.mark(), Some(Mark::Freed | Mark::Released))
    }

    /// What a record's fields come to: another number if one byte of them is another.
    fn sum(self) -> u64 {
        let record = self.record();
        let threads = u64::from(record.allocated_by.get()) << 32 | u64::from(record.freed_by.get());
        let place = self.user().as_ptr() as usize;
        let (raw_size, is_purged) = (self.raw_size(), record.is_purged.get());
        let fields = [record.born.get(), place, self.size(), self.align(), raw_size, is_purged];
        let (allocated_at, freed_at) = self.stacks();
        let words = fields.into_iter().chain(allocated_at.calls()).chain(freed_at.calls());
        let words = words.map(|word| word as u64).chain([threads]);
        // Each step leads from different sums to different ones.
        words.fold(self.address() as u64, |sum, word| (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29))
    }

    /// To be done when the record's fields are written, before the mark that says so.
    fn seal(self) {
        self.record().seal.set(self.sum());
    }

    /// Whether nobody wrote over the record of a live or a freed block.
    pub(super) fn is_whole(self) -> bool {
        let record = self.record();
        let is_unlinked = || self.next() == Ok(None) && record.next_found.get().is_none();
        let are_links_left = || record.links.get() == UNUSED;
        let may_be = match self.mark() {
            Some(Mark::Live) => are_links_left() && is_unlinked(),
            Some(Mark::Reached | Mark::Freed) => are_links_left(),
            _ => true,
        };
        may_be && record.seal.get() == self.sum()
    }

    /// Whether the heap's block, of so many bytes, was handed out, and what its mark said is gone.
    fn has_lost_mark(self, length: usize) -> bool {
        // SAFETY: the last byte of the heap's block. It is behind the user's of any watched block, and is cleared before.
        let last = || unsafe { self.raw().add(length - 1).read_volatile() };
        self.mark().is_none() && (self.record().mark.load(Ordering::Relaxed) != 0 || last() == EDGE)
    }

    /// Looks at a block again from which others may take it meanwhile: what is wrong with it, if it is still what it was.
    /// The heap's block has `length` bytes.
    pub(super) fn check(self, length: usize) -> Result<(), Finding> {
        let (mark, born) = (self.mark(), self.record().born.get());
        let found = match mark {
            None if self.has_lost_mark(length) => Err(Finding::RecordLost),
            None | Some(Mark::Begun | Mark::Leaving) => Ok(()),
            Some(_) if !self.is_whole() => Err(Finding::RecordLost),
            Some(Mark::Live | Mark::Reached) => self.check_edges(),
            Some(Mark::Freed | Mark::Released) => self.check_filling(),
        };
        core::sync::atomic::fence(core::sync::atomic::Ordering::Acquire);
        let is_same = self.mark() == mark && self.record().born.get() == born;
        if is_same { found } else { Ok(()) }
    }

    /// The user's block.
    pub(super) fn user(self) -> NonNull<u8> {
        self.record().user.get()
    }

    /// Where the user's block begins, if it was aligned to no more than the heap's, for when the record is lost.
    pub(super) fn likely_user(self) -> usize {
        self.address() + FRONT
    }

    /// Bytes that the user asked for.
    pub(crate) fn size(self) -> usize {
        self.record().size.get()
    }

    pub(super) fn align(self) -> usize {
        self.record().align.get()
    }

    /// The mapping that it has; `None` where it lies in a slab.
    pub(crate) fn mapping(self) -> Option<Mapping> {
        // SAFETY: watched blocks lie in segments and in the first granules of mappings.
        let owner = unsafe { SegmentPtr::of(self.address()) }.owner(SlotIndex::of(self.address()));
        // SAFETY: the owner word says so.
        (owner == OwnerWord::WATCHED_MAPPING).then(|| unsafe { Mapping::of(self.address()) })
    }

    /// The node of its segment, where it lies in a slab.
    pub(crate) fn segment_node(self) -> NodeIndex {
        // SAFETY: watched blocks in slabs lie in segments.
        unsafe { SegmentPtr::of(self.address()) }.node()
    }

    pub(super) fn threads(self) -> (u32, u32) {
        (self.record().allocated_by.get(), self.record().freed_by.get())
    }

    pub(super) fn stacks(self) -> (Stack, Stack) {
        (self.record().allocated_at.get(), self.record().freed_at.get())
    }

    /// The next in the quarantine; an error where that was written over.
    pub(super) fn next(self) -> Result<Option<Watched>, Finding> {
        let next = self.record().next.get();
        if self.record().next_check.get() == self.check_of(next) { Ok(next) } else { Err(Finding::RecordLost) }
    }

    pub(super) fn set_next(self, next: Option<Watched>) {
        self.record().next.set(next);
        self.record().next_check.set(self.check_of(next));
    }

    fn check_of(self, next: Option<Watched>) -> usize {
        !(self.address() ^ next.map_or(0, Self::address).rotate_left(32))
    }

    pub(super) fn next_found(self) -> Option<Watched> {
        self.record().next_found.get()
    }

    pub(super) fn set_next_found(self, next: Option<Watched>) {
        self.record().next_found.set(next);
    }

    /// Bytes of the heap that it takes.
    pub(super) fn raw_size(self) -> usize {
        self.record().raw_size.get()
    }

    /// Makes the heap's block, of `raw_size` bytes, a watched one.
    pub(super) fn begin(self, extent: &Extent, raw_size: usize, align: usize) {
        self.set(Mark::Begun);
        let record = self.record();
        record.born.set(BORN.fetch_add(1, Ordering::Relaxed));
        record.links.set(UNUSED);
        record.next_found.set(None);
        let front = align_up(self.address() + FRONT, align.max(16)).unwrap_or(self.address() + FRONT) - self.address();
        // SAFETY: `front + size` bytes are within the heap's block: see `Extent`.
        record.user.set(unsafe { self.raw().add(front) });
        record.size.set(extent.size);
        record.align.set(align);
        record.raw_size.set(raw_size);
        record.is_purged.set(0);
        record.freed_by.set(0);
        record.freed_at.set(Stack::EMPTY);
        self.set_next(None);
        self.each_edge(|start, length| {
            // SAFETY: within the heap's block, outside the record and the user's part.
            unsafe { start.write_bytes(EDGE, length) };
        });
    }

    /// Calls `visit` with no man's land: before the user's block, and behind it.
    fn each_edge(self, mut visit: impl FnMut(NonNull<u8>, usize)) {
        let (user, size) = (self.user(), self.size());
        let before = user.as_ptr() as usize - self.address() - size_of::<Record>();
        let before = before.min(BEFORE);
        // SAFETY: so many bytes stand between the record and the user's block.
        visit(unsafe { user.sub(before) }, before);
        let behind = self.address() + self.raw_size() - (user.as_ptr() as usize + size);
        // SAFETY: so many bytes of the heap's block follow the user's.
        visit(unsafe { user.add(size) }, behind);
    }

    /// The pages that are wholly the user's block's, where it is so long that they are not to be touched without need: their
    /// start and their bytes.
    fn own_pages(self) -> Option<(NonNull<u8>, usize)> {
        if self.size() < LARGE {
            return None;
        }
        let (user, page) = (self.user().as_ptr() as usize, os::page_size());
        let start = align_up(user, page)?;
        let end = align_down(user + self.size(), page);
        // SAFETY: within the user's block.
        Some((unsafe { self.user().add(start - user) }, end - start))
    }

    /// Fills what of the user's block is not in those pages: all of it, where there are none.
    fn fill_around(self, pages: Option<(NonNull<u8>, usize)>, filling: u8) {
        self.each_around(pages, |start, length| {
            // SAFETY: parts of the user's block, which no user has now.
            unsafe { start.write_bytes(filling, length) };
        });
    }

    /// Calls `visit` with what of the user's block lies before those pages, and behind them.
    fn each_around(self, pages: Option<(NonNull<u8>, usize)>, mut visit: impl FnMut(NonNull<u8>, usize)) {
        let Some((start, bytes)) = pages else { return visit(self.user(), self.size()) };
        let before = start.as_ptr() as usize - self.user().as_ptr() as usize;
        visit(self.user(), before);
        // SAFETY: the pages lie within the user's block.
        visit(unsafe { start.add(bytes) }, self.size() - before - bytes);
    }

    /// Fills a new block: with zeros, or with a pattern that is no pointer and no small number, but for the pages of a large
    /// one. `is_zero`: all of it reads as zero already.
    pub(super) fn fill_new(self, zero: bool, is_zero: bool) {
        let pages = self.own_pages();
        if let Some((start, bytes)) = pages.filter(|_| zero && !is_zero) {
            // SAFETY: pages of a block that nobody was given yet.
            let purged = unsafe { os::purge(start, bytes) };
            if !purged {
                // SAFETY: likewise.
                unsafe { start.write_bytes(0, bytes) };
            }
        }
        self.fill_around(pages, if zero { 0 } else { NEW });
    }

    /// What freed blocks are filled with.
    fn filling() -> u8 {
        if config::current().zero == Zero::Free { 0 } else { FREED }
    }

    /// Notes who allocated it and where, and hands it to the user.
    pub(super) fn note_allocation(self, stack: Stack) {
        self.record().allocated_by.set(arena::thread_number());
        self.record().allocated_at.set(stack);
        self.seal();
        // What comes while leaks are looked for is held by whoever asked for it.
        self.set(if leaks::are_looked_for() { Mark::Reached } else { Mark::Live });
    }

    /// Takes it out of its user's hands; false where that was done already.
    pub(super) fn retire(self) -> bool {
        // One of them, since it is never turned back.
        self.turn(Mark::Live, Mark::Leaving) || self.turn(Mark::Reached, Mark::Leaving)
    }

    /// Fills it, and notes who freed it and where.
    pub(super) fn note_free(self, stack: Stack) {
        // SAFETY: pages of a block that its user has given up.
        let pages = self.own_pages().filter(|(start, bytes)| unsafe { os::purge(*start, *bytes) });
        self.record().is_purged.set(usize::from(pages.is_some()));
        self.fill_around(pages, Self::filling());
        self.record().freed_by.set(arena::thread_number());
        self.record().freed_at.set(stack);
        self.seal();
        self.set(Mark::Freed);
    }

    /// It goes back to the heap.
    pub(super) fn set_released(self) {
        self.set(Mark::Released);
    }

    /// For a search for leaks: marks it as found; false where it was already, or is not live.
    pub(super) fn reach(self) -> bool {
        self.turn(Mark::Live, Mark::Reached)
    }

    /// Whether it is live and was not found.
    pub(super) fn is_unreached(self) -> bool {
        self.mark() == Some(Mark::Live) && self.is_whole()
    }

    /// Whether a live block can be freed by somebody who says that of it.
    pub(super) fn check_live(self, said: Said) -> Result<(), FreeError> {
        let is_damaged = |finding: Finding| match finding {
            Finding::Underrun { before } => Some(FreeError::Underrun { before }),
            Finding::Overrun { behind } => Some(FreeError::Overrun { behind }),
            Finding::WrittenAfterFree { .. } | Finding::RecordLost => None,
        };
        let damage = self.check_edges().err().and_then(is_damaged);
        damage.map_or(Ok(()), Err)?;
        let differs = |said: &usize, actual: usize| *said != actual;
        if let Some(said) = said.size.filter(|said| differs(said, self.size())) {
            return Err(FreeError::WrongSize { said, actual: self.size() });
        }
        match said.align.filter(|said| differs(said, self.align())) {
            Some(said) => Err(FreeError::WrongAlign { said, actual: self.align() }),
            None => Ok(()),
        }
    }

    /// Whether no man's land is as it was.
    pub(super) fn check_edges(self) -> Result<(), Finding> {
        let user = self.user().as_ptr() as usize;
        let mut found = Ok(());
        self.each_edge(|start, length| {
            let is_before = (start.as_ptr() as usize) < user;
            // SAFETY: within the heap's block; nobody but who is in the wrong writes to it.
            let edge = unsafe { core::slice::from_raw_parts(start.as_ptr(), length) };
            let differs = |byte: &u8| *byte != EDGE;
            let nearest = if is_before { edge.iter().rposition(differs) } else { edge.iter().position(differs) };
            if let (Ok(()), Some(at)) = (&found, nearest) {
                found = Err(match is_before {
                    true => Finding::Underrun { before: length - at },
                    false => Finding::Overrun { behind: at + 1 },
                });
            }
        });
        found
    }

    /// Whether a block that was freed is as it was left.
    fn check_filling(self) -> Result<(), Finding> {
        let pages = self.own_pages().filter(|_| self.record().is_purged.get() == 1);
        let user = self.user().as_ptr() as usize;
        let mut lowest: Option<usize> = None;
        let mut look = |start: NonNull<u8>, length: usize, filling: u8| {
            // SAFETY: a part of a freed block; nobody but who is in the wrong writes to it.
            let bytes = unsafe { core::slice::from_raw_parts(start.as_ptr(), length) };
            if let Some(at) = bytes.iter().position(|byte| *byte != filling) {
                let at = start.as_ptr() as usize - user + at;
                lowest = Some(lowest.map_or(at, |lowest| lowest.min(at)));
            }
        };
        self.each_around(pages, |start, length| look(start, length, Self::filling()));
        if let Some((start, bytes)) = pages {
            // What was never touched since then reads as zero.
            os::each_resident_page(start, bytes.min(MOST_LOOKED_AT), |page| look(page, os::page_size(), 0));
        }
        lowest.map_or_else(|| self.check_edges(), |at| Err(Finding::WrittenAfterFree { at }))
    }

    /// The block of a slab in checked mode that an address is the user's start of.
    pub(crate) fn in_slab(slab: Slab, address: usize) -> Result<Self, FreeError> {
        let raw = slab.block_around(address).ok_or(FreeError::Foreign)?;
        // SAFETY: a block of a slab in checked mode, which was cleared before its first use.
        unsafe { Self::at(raw) }.begins_at(address, slab.block_size())
    }

    /// The block of a watched mapping that an address is the user's start of.
    pub(crate) fn in_mapping(mapping: Mapping, address: usize) -> Result<Self, FreeError> {
        // SAFETY: a watched mapping's block begins with a record.
        unsafe { Self::at(mapping.block()) }.begins_at(address, mapping.length())
    }

    /// The heap's block has `length` bytes.
    fn begins_at(self, address: usize, length: usize) -> Result<Self, FreeError> {
        let is_whole = match self.mark() {
            None => !self.has_lost_mark(length),
            Some(Mark::Begun | Mark::Leaving) => true,
            Some(_) => self.is_whole(),
        };
        if !is_whole {
            return Err(self.underrun_before(address));
        }
        if !self.is_live() {
            return Err(FreeError::DoubleFree);
        }
        match address.checked_sub(self.user().as_ptr() as usize) {
            Some(0) => Ok(self),
            Some(offset) if offset < self.size() => Err(FreeError::Interior { offset, size: self.size() }),
            _ => Err(FreeError::Foreign),
        }
    }

    /// Its record was written over, and what begins at that address is taken for the user's block.
    fn underrun_before(self, address: usize) -> FreeError {
        let end = self.address() + size_of::<Record>();
        let is_edge = |back: &usize| {
            // SAFETY: behind the record, before an address in the same block of the heap.
            unsafe { self.raw().add(address - back - self.address()).read_volatile() == EDGE }
        };
        let between = address.saturating_sub(end);
        // If none of the man's land is touched, it is the record at the nearest.
        FreeError::Underrun { before: (1..=between.min(BEFORE)).find(|back| !is_edge(back)).unwrap_or(between + 1) }
    }

    /// The watched block that an address lies in or near, live or freed, for reports.
    pub(super) fn around(address: NonNull<u8>) -> Option<Self> {
        let address = address.as_ptr() as usize;
        // A block aligned to a granule or more is not watched.
        let granule = address_map::range_around(address).filter(|granule| address_map::has_headers(*granule))?;
        // SAFETY: a range begins with the granule, so headers stand there.
        let segment = unsafe { SegmentPtr::of(granule) };
        let watched = match place::mapping_at(granule) {
            Some(mapping) => {
                let raw = mapping.block();
                let is_watched = segment.owner(SlotIndex::of(raw.as_ptr() as usize)).decode() == Owner::WatchedMapping;
                // SAFETY: a watched mapping's block begins with a record.
                is_watched.then(|| unsafe { Self::at(raw) })?
            }
            None => {
                let slot = SlotIndex::of(address);
                let word = segment.owner_if_any(slot);
                if granule != granule_start(address) || !word.is_checked() || !is_on() {
                    return None;
                }
                let raw = Slab::at(segment, slot.minus(word.back())).block_around(address)?;
                // SAFETY: a block of a slab in checked mode, which was cleared before its first use.
                unsafe { Self::at(raw) }
            }
        };
        ((watched.is_live() || watched.is_freed()) && watched.is_whole()).then_some(watched)
    }

    /// The live block whose user's part an address lies in; for a search for leaks.
    pub(super) fn holding(address: usize) -> Option<Self> {
        if align_down(address, GRANULE) == 0 {
            return None;
        }
        let watched = Self::around(NonNull::new(core::ptr::without_provenance_mut(address))?)?;
        let offset = address.checked_sub(watched.user().as_ptr() as usize)?;
        (watched.is_live() && offset < watched.size().max(1)).then_some(watched)
    }
}
