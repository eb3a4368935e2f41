//! The chunks of a bump arena: blocks of the heap, each with a record apart from it, which what is handed out cannot
//! overrun.

use core::ptr::NonNull;

use crate::config::{self, Policy};
use crate::os;
use crate::source::Source;

/// A chunk that its arena holds. The record lives until [`free`](Self::free); only the arena's owner uses it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk(NonNull<Record>);

struct Record {
    block: NonNull<u8>,
    size: usize,
    align: usize,
    /// Bytes of the block, at its end, that are known to be zero where nothing is handed out of them. Others are cleared
    /// before they are handed out.
    clean: usize,
    /// The chunk that the arena used before this one.
    before: Option<Chunk>,
    /// Bytes of all chunks before this one: where positions in it begin.
    base: usize,
    /// Bytes used of all chunks before this one.
    used_before: usize,
}

/// Chunks beyond this are obtained as zeros: those are mappings, which the kernel hands out so. Smaller ones are cleared as they
/// are used, a little ahead.
const ZERO_FROM: usize = 2 << 20;
/// Bytes that are cleared ahead of their use.
const AHEAD: usize = 4096;
/// Ranges from this size on are cleared by giving them back to the kernel: they are too large to be in a cache, so writing
/// zeros costs the passage to memory and back, and the kernel clears no more of them than is used again.
const PURGE_FROM: usize = 8 << 20;

impl Chunk {
    /// A chunk of `size` bytes aligned to `align`. `None` where there is no memory for it. If `zero` says so, it is
    /// cleared as it is used.
    pub(super) fn obtain(source: Source, size: usize, align: usize, zero: bool) -> Option<Chunk> {
        let record = source.allocate(size_of::<Record>(), align_of::<Record>(), false)?.cast::<Record>();
        let is_zero = zero && size > ZERO_FROM;
        let Some(block) = source.allocate(size, align, is_zero) else {
            // SAFETY: obtained above, with this size and alignment.
            unsafe { Source::free(record.cast(), size_of::<Record>(), align_of::<Record>()) };
            return None;
        };
        let clean = if is_zero || !zero { size } else { 0 };
        // SAFETY: the memory is large and aligned enough, and nobody else's.
        unsafe { record.write(Record { block, size, align, clean, before: None, base: 0, used_before: 0 }) };
        Some(Chunk(record))
    }

    /// Gives the chunk back to the heap.
    ///
    /// # Safety
    /// Nobody uses its memory, or another copy of this, any more.
    pub(super) unsafe fn free(self) {
        let (block, size, align) = (self.record().block, self.size(), self.record().align);
        // SAFETY: obtained with this size and alignment, and given up by the caller.
        unsafe { Source::free(block, size, align) };
        // SAFETY: likewise.
        unsafe { Source::free(self.0.cast(), size_of::<Record>(), align_of::<Record>()) };
    }

    fn record(&self) -> &Record {
        // SAFETY: the record lives as long as the chunk is held, and its owner's reference to change it is short.
        unsafe { self.0.as_ref() }
    }

    fn change(mut self, change: impl FnOnce(&mut Record)) {
        // SAFETY: as in `record`; the owner alone is here, and `change` calls nothing that is.
        change(unsafe { self.0.as_mut() });
    }

    /// Bytes to hand out.
    pub(super) fn size(self) -> usize {
        self.record().size
    }

    /// The address of the first byte.
    pub(super) fn start(self) -> usize {
        self.record().block.addr().get()
    }

    /// The address after the last byte.
    pub(super) fn end(self) -> usize {
        self.start() + self.size()
    }

    /// The first byte of those that may be handed out without being cleared.
    pub(super) fn clean_floor(self) -> NonNull<u8> {
        let record = self.record();
        // SAFETY: no more than `size` bytes are clean.
        unsafe { record.block.add(record.size - record.clean) }
    }

    /// Sees to it that all from `start` on is clean, and some more below it.
    pub(super) fn clean_down_to(self, start: usize) {
        let floor = self.clean_floor().addr().get();
        let ahead = start.saturating_sub(AHEAD).max(self.start());
        if ahead < floor {
            // SAFETY: within the chunk.
            let unclean = unsafe { self.record().block.add(ahead - self.start()) };
            // SAFETY: likewise, and below all that was ever handed out of it.
            unsafe { unclean.write_bytes(0, floor - ahead) };
            let clean = self.end() - ahead;
            self.change(|record| record.clean = clean);
        }
    }

    /// Clears a part of what was handed out.
    ///
    /// # Safety
    /// The addresses are the chunk's, and nobody uses what is between them any more.
    pub(super) unsafe fn clear(self, from: usize, to: usize) {
        // SAFETY: within the chunk.
        let start = unsafe { self.record().block.add(from - self.start()) };
        // SAFETY: the caller's promise.
        unsafe { clear(start, to - from) };
    }

    /// The chunk before this one.
    pub(super) fn before(self) -> Option<Chunk> {
        self.record().before
    }

    /// Where positions in it begin.
    pub(super) fn base(self) -> usize {
        self.record().base
    }

    /// Bytes used of the chunks before it.
    pub(super) fn used_before(self) -> usize {
        self.record().used_before
    }

    /// The address down to which a chunk was used that this one followed.
    pub(super) fn top_before(self) -> Option<usize> {
        self.before().map(|before| before.end() - (self.used_before() - before.used_before()))
    }

    /// Puts it on top of another, of which `used` bytes and those of the ones before are used in all; or at the bottom.
    pub(super) fn follow(self, before: Option<Chunk>, used: usize) {
        let base = before.map_or(0, |before| before.base().saturating_add(before.size()));
        self.change(|record| {
            record.before = before;
            record.base = base;
            record.used_before = used;
        });
    }
}

/// Has the range read as zero.
///
/// # Safety
/// The range is the caller's, and its contents may be lost.
unsafe fn clear(start: NonNull<u8>, size: usize) {
    // Under strict binding, pages that were given back might not be had again, which would end the process.
    if size < PURGE_FROM || config::current().policy == Policy::Bind {
        // SAFETY: the caller's promise.
        return unsafe { start.write_bytes(0, size) };
    }
    let first = start.addr().get();
    // Sizes of pages are powers of two; the compiler does not know, and would have the program panic where one is not.
    let in_page = os::page_size() - 1;
    let (head, tail) = (first.wrapping_neg() & in_page, (first + size) & in_page);
    // SAFETY: `size` is more than two pages, so both parts are within it.
    let (pages, end) = unsafe { (start.add(head), start.add(size - tail)) };
    let whole = size - head - tail;
    // SAFETY: whole pages of the range.
    if !unsafe { os::purge(pages, whole) } {
        // SAFETY: as above.
        unsafe { pages.write_bytes(0, whole) };
    }
    // SAFETY: the rest of the range.
    unsafe { start.write_bytes(0, head) };
    // SAFETY: likewise.
    unsafe { end.write_bytes(0, tail) };
}
