//! How a region is cut into blocks.
//!
//! A region is a row of granules of 16 bytes. Every granule belongs to one block, live or free, and no two free blocks are
//! neighbours: what is freed is joined with them at once. All that is known of blocks is kept apart from them, so that
//! whatever is written past the end of a block, or after it was freed, the pools go on:
//!
//! - `tail`: where the free block at the region's end begins; the number of granules, where a live one ends there. So what
//!   is freed last first, and what is cut from untouched memory, costs nothing but this number.
//! - `begins`: the granules that a block begins with, the tail's too; the next one in it is where a block ends
//! - `holes`: those of them that a free block begins with, but for the tail
//! - `room`: by 64 granules, the length of the longest hole that begins there; a tree of maxima finds the first hole that is
//!   long enough, lowest address first, and its root is the longest of all. The tail comes after all holes, so it is what
//!   is left where no hole is long enough.

use super::array::Array;
use super::bits::{self, Bits};
use super::maxima::Maxima;
use crate::arith;
use crate::source::Source;

/// Bytes of a granule: what blocks begin at multiples of, and what their sizes are.
pub(super) const GRANULE: usize = 16;
/// The most bytes that a region can be cut from.
pub(super) const LARGEST: usize = 1 << 30;
const _: () = assert!(LARGEST / GRANULE <= bits::MOST && LARGEST / GRANULE <= u32::MAX as usize);

/// Granules whose free blocks have one number in `room`: those of a word.
const LINE: usize = u64::BITS as usize;

/// A number of granules, or a granule's number, from the region's first.
pub(super) type Granules = u32;

/// The blocks of a region. See the module's text.
pub(super) struct Blocks {
    begins: Bits,
    holes: Array<u64>,
    room: Maxima,
    tail: usize,
    count: usize,
}

/// What an address of a region leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// A live block's granules, first and number.
    Live(usize, usize),
    /// Free memory.
    Free,
}

impl Blocks {
    /// One free block of so many granules, more than 0.
    pub(super) fn new(source: Source, count: usize) -> Option<Self> {
        let mut blocks = Blocks {
            begins: Bits::new(source, count)?,
            holes: Array::zeros(source, count.div_ceil(LINE))?,
            room: Maxima::new(source, count.div_ceil(LINE))?,
            tail: 0,
            count,
        };
        blocks.begins.insert(0);
        Some(blocks)
    }

    /// The longest free block, in granules.
    #[inline]
    pub(super) fn longest(&self) -> Granules {
        self.room.largest().max((self.count - self.tail) as Granules)
    }

    /// Whether no block is live.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.tail == 0
    }

    /// The holes that begin in a line, as bits.
    #[inline]
    fn holes_in(&self, line: usize) -> u64 {
        self.holes.get(line).copied().unwrap_or(0)
    }

    #[inline]
    fn is_hole(&self, block: usize) -> bool {
        self.holes_in(block / LINE) & 1 << (block % LINE) != 0
    }

    #[inline]
    fn mark_hole(&mut self, block: usize) {
        if let Some(holes) = self.holes.get_mut(block / LINE) {
            *holes |= 1 << (block % LINE);
        }
    }

    #[inline]
    fn unmark_hole(&mut self, block: usize) {
        if let Some(holes) = self.holes.get_mut(block / LINE) {
            *holes &= !(1 << (block % LINE));
        }
    }

    /// Where the block ends that begins there.
    #[inline]
    fn end_of(&self, block: usize) -> usize {
        self.begins.next(block + 1).unwrap_or(self.count)
    }

    /// A hole that begins there has become so long.
    #[inline]
    fn note_hole(&mut self, block: usize, length: usize) {
        self.room.raise(block / LINE, length as Granules);
    }

    /// A hole of that length that began there is no more, or shorter: it may have been the longest of its line.
    #[inline]
    fn note_loss(&mut self, block: usize, length: usize) {
        let line = block / LINE;
        if self.room.at(line) == length as Granules {
            match self.holes_in(line) {
                0 => self.room.set(line, 0),
                _ => self.look_at(line),
            }
        }
    }

    /// Writes down the longest hole of those that begin in a line.
    #[inline(never)]
    fn look_at(&mut self, line: usize) {
        let mut left = self.holes_in(line);
        let begins = self.begins.word(line);
        let mut longest = 0;
        while left != 0 {
            let block = left.trailing_zeros() as usize;
            left &= left - 1;
            // The bits of what begins behind the hole: none for the last bit of a word.
            let behind = begins & u64::MAX << block << 1;
            let length = match behind {
                0 => self.end_of(line * LINE + block) - (line * LINE + block),
                _ => behind.trailing_zeros() as usize - block,
            };
            longest = longest.max(length);
        }
        self.room.set(line, longest as Granules);
    }

    /// Takes a block of `count` granules whose address is a multiple of `align` (a power of two): the lowest that there is.
    /// Gives its first granule. `base` is the region's address.
    #[inline]
    pub(super) fn allocate(&mut self, count: usize, align: usize, base: usize) -> Option<usize> {
        let least = Granules::try_from(count).ok()?;
        if self.room.largest() >= least
            && let Some(start) = self.take_from_hole(count, least, align, base)
        {
            return Some(start);
        }
        self.take_from_tail(count, align, base)
    }

    /// Takes it from the first hole where there is room for it.
    #[inline(never)]
    fn take_from_hole(&mut self, count: usize, least: Granules, align: usize, base: usize) -> Option<usize> {
        let mut from = 0;
        loop {
            let line = self.room.first(from, least)?;
            let mut left = self.holes_in(line);
            while left != 0 {
                let block = line * LINE + left.trailing_zeros() as usize;
                left &= left - 1;
                let end = self.end_of(block);
                if end - block < count {
                    continue;
                }
                let start = match align <= GRANULE {
                    true => Some(block),
                    false => first_aligned(base, block, end, count, align),
                };
                if let Some(start) = start {
                    self.carve(block, end, start, count);
                    return Some(start);
                }
            }
            from = line + 1;
        }
    }

    /// Takes it from the tail, if there is room.
    #[inline]
    fn take_from_tail(&mut self, count: usize, align: usize, base: usize) -> Option<usize> {
        let tail = self.tail;
        let start = match align <= GRANULE {
            true => (count <= self.count - tail).then_some(tail)?,
            false => first_aligned(base, tail, self.count, count, align)?,
        };
        if start > tail {
            self.begins.insert(start);
            self.mark_hole(tail);
            self.note_hole(tail, start - tail);
        }
        self.begin_tail(start + count);
        Some(start)
    }

    /// Has the tail begin there; what is before it has ended there.
    #[inline]
    fn begin_tail(&mut self, tail: usize) {
        self.tail = tail;
        if tail < self.count {
            self.begins.insert(tail);
        }
    }

    /// Takes away where the tail begins, which is to begin further ahead or behind.
    #[inline]
    fn end_before_tail(&mut self) {
        if self.tail < self.count {
            self.begins.remove(self.tail);
        }
    }

    /// Makes a part of a hole live.
    #[inline]
    fn carve(&mut self, block: usize, end: usize, start: usize, count: usize) {
        let after = start + count;
        // What grows first, so that what shrinks is found to be less than that in few steps.
        if after < end {
            self.begins.insert(after);
            self.mark_hole(after);
            self.note_hole(after, end - after);
        }
        if start > block {
            self.begins.insert(start);
        } else {
            self.unmark_hole(block);
        }
        self.note_loss(block, end - block);
    }

    /// What lies there.
    #[inline(always)]
    pub(super) fn find(&self, granule: usize) -> Found {
        if granule >= self.tail {
            return Found::Free;
        }
        match self.begins.previous(granule) {
            Some(block) if !self.is_hole(block) => Found::Live(block, self.end_of(block) - block),
            _ => Found::Free,
        }
    }

    /// How many granules the live block has that begins there, if one does.
    #[inline(always)]
    pub(super) fn live(&self, granule: usize) -> Option<usize> {
        let bit = 1 << (granule % LINE);
        let line = granule / LINE;
        let is_live = granule < self.tail && self.begins.word(line) & !self.holes_in(line) & bit != 0;
        is_live.then(|| self.end_of(granule) - granule)
    }

    /// Takes back a live block of `count` granules that begins there, and joins it with the free ones on both sides.
    #[inline(always)]
    pub(super) fn free(&mut self, block: usize, count: usize) {
        let end = block + count;
        debug_assert!(block < self.tail && !self.is_hole(block) && self.end_of(block) == end);
        let before = block.checked_sub(1).and_then(|granule| self.begins.previous(granule));
        let before = before.filter(|before| self.is_hole(*before));
        if before.is_some() {
            self.begins.remove(block);
        }
        let start = before.unwrap_or(block);
        if end == self.tail {
            self.end_before_tail();
            self.tail = start;
            if before.is_some() {
                self.unmark_hole(start);
                self.note_loss(start, block - start);
            }
            return;
        }
        if before.is_none() {
            self.mark_hole(block);
        }
        if !self.is_hole(end) {
            return self.note_hole(start, end - start);
        }
        let end_of_hole = self.end_of(end);
        self.begins.remove(end);
        self.unmark_hole(end);
        // What grows first: see `carve`.
        self.note_hole(start, end_of_hole - start);
        self.note_loss(end, end_of_hole - end);
    }

    /// Makes the live block of `old` granules that begins there `count` granules long (more than 0), where it is longer or what
    /// follows it is free for long enough. False where it is not; nothing has changed then.
    pub(super) fn resize(&mut self, block: usize, old: usize, count: usize) -> bool {
        let end = block + old;
        let Some(wanted) = block.checked_add(count) else { return false };
        if wanted < end {
            // The rest is a live block for a moment.
            self.begins.insert(wanted);
            self.free(wanted, end - wanted);
            return true;
        }
        if wanted == end {
            return true;
        }
        if end == self.tail {
            if wanted > self.count {
                return false;
            }
            self.end_before_tail();
            self.begin_tail(wanted);
            return true;
        }
        if !self.is_hole(end) {
            return false;
        }
        let end_of_hole = self.end_of(end);
        if end_of_hole < wanted {
            return false;
        }
        self.begins.remove(end);
        self.unmark_hole(end);
        if wanted < end_of_hole {
            self.begins.insert(wanted);
            self.mark_hole(wanted);
            self.note_hole(wanted, end_of_hole - wanted);
        }
        self.note_loss(end, end_of_hole - end);
        true
    }
}

/// The first granule of a free block from `block` to `end` at which `count` granules fit whose address is aligned so.
#[inline]
fn first_aligned(base: usize, block: usize, end: usize, count: usize, align: usize) -> Option<usize> {
    let (from, end) = (base + block * GRANULE, base + end * GRANULE);
    let (start, _) = arith::place_up(from, end, count * GRANULE, align.max(GRANULE))?;
    Some((start - base) / GRANULE)
}
