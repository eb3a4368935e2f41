//! How a region is cut into blocks.
//!
//! A region is a row of granules of 16 bytes. Every granule belongs to one block, live or free, and no two free blocks are
//! neighbours: what is freed is joined with them at once. All that is known of blocks is kept apart from them, so that
//! whatever is written past the end of a block, or after it was freed, the pools go on:
//!
//! - `tail`: where the free block at the region's end begins; the number of granules, where a live one ends there. So what
//!   is freed last first, and what is cut from untouched memory, costs nothing but this number.
//! - `lines`: by 64 granules, those that a block begins with, the tail's too: the next one is where a block ends; and those
//!   of them that a hole begins with, which is a free block other than the tail
//! - `begun`: the lines that a block begins in
//! - `room`: by lines, the length of the longest hole that begins there; a tree of maxima finds the first hole that is long
//!   enough, lowest address first. The tail comes after all holes, so it is what is left where no hole is long enough.

use super::array::{Array, Zero};
use super::bits::{self, Bits};
use super::late::LateMaxima;
use crate::arith;
use crate::source::Source;

/// Bytes of a granule: what blocks begin at multiples of, and what their sizes are.
pub(super) const GRANULE: usize = 16;
/// The most bytes that a region can be cut from.
pub(super) const LARGEST: usize = 1 << 30;
const _: () = assert!(LARGEST / GRANULE / LINE <= bits::MOST && LARGEST / GRANULE <= u32::MAX as usize);

/// Granules of a line.
const LINE: usize = u64::BITS as usize;

/// A number of granules, or a granule's number, from the region's first.
pub(super) type Granules = u32;

/// What begins in a line of granules, as bits.
#[derive(Clone, Copy, Default)]
struct Line {
    blocks: u64,
    /// Those of them that are holes.
    holes: u64,
}

// SAFETY: integers.
unsafe impl Zero for Line {}

/// A granule's bit in its line.
#[inline]
const fn bit(granule: usize) -> u64 {
    1 << (granule % LINE)
}

/// The blocks of a region. See the module's text.
pub(super) struct Blocks {
    lines: Array<Line>,
    begun: Bits,
    room: LateMaxima,
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
        let lines = count.div_ceil(LINE);
        let mut blocks = Blocks {
            lines: Array::zeros(source, lines)?,
            begun: Bits::new(source, lines)?,
            room: LateMaxima::new(source, lines)?,
            tail: 0,
            count,
        };
        blocks.begin(0);
        Some(blocks)
    }

    /// The longest free block, in granules.
    #[inline]
    pub(super) fn longest(&self) -> Granules {
        self.room.largest().max((self.count - self.tail) as Granules)
    }

    #[inline]
    fn line(&self, line: usize) -> Line {
        self.lines.get(line).copied().unwrap_or_default()
    }

    #[inline]
    fn is_hole(&self, block: usize) -> bool {
        self.line(block / LINE).holes & bit(block) != 0
    }

    /// A block begins there.
    #[inline]
    fn begin(&mut self, block: usize) {
        let Some(line) = self.lines.get_mut(block / LINE) else { return };
        if line.blocks == 0 {
            self.begun.insert(block / LINE);
        }
        line.blocks |= bit(block);
    }

    /// No block begins there any more, nor a hole.
    #[inline]
    fn unbegin(&mut self, block: usize) {
        let Some(line) = self.lines.get_mut(block / LINE) else { return };
        line.blocks &= !bit(block);
        line.holes &= !bit(block);
        if line.blocks == 0 {
            self.begun.remove(block / LINE);
        }
    }

    /// The block that begins there is a hole.
    #[inline]
    fn mark_hole(&mut self, block: usize) {
        if let Some(line) = self.lines.get_mut(block / LINE) {
            line.holes |= bit(block);
        }
    }

    /// The block that begins there is none.
    #[inline]
    fn unmark_hole(&mut self, block: usize) {
        if let Some(line) = self.lines.get_mut(block / LINE) {
            line.holes &= !bit(block);
        }
    }

    /// Where the block ends that begins there.
    #[inline]
    fn end_of(&self, block: usize) -> usize {
        self.end_in(self.line(block / LINE), block)
    }

    /// The same, where its line is at hand.
    #[inline]
    fn end_in(&self, line: Line, block: usize) -> usize {
        // The bits behind it: none for the last bit of a line.
        match line.blocks & u64::MAX << (block % LINE) << 1 {
            0 => self.end_beyond(block / LINE),
            behind => block / LINE * LINE + behind.trailing_zeros() as usize,
        }
    }

    /// Where the last block ends that begins in a line.
    #[inline(never)]
    fn end_beyond(&self, line: usize) -> usize {
        let next = self.begun.next(line + 1);
        next.map_or(self.count, |line| line * LINE + self.line(line).blocks.trailing_zeros() as usize)
    }

    /// The block that a granule is of, and whether it is a hole.
    #[inline]
    fn block_of(&self, granule: usize) -> Option<(usize, bool)> {
        let number = granule / LINE;
        self.last_of(number, self.line(number), u64::MAX >> (LINE - 1 - granule % LINE))
    }

    /// The last block of those bits of a line, or else before it, and whether it is a hole.
    #[inline]
    fn last_of(&self, number: usize, line: Line, bits: u64) -> Option<(usize, bool)> {
        match (line.blocks & bits).checked_ilog2() {
            None => self.last_before(number),
            Some(last) => Some((number * LINE + last as usize, line.holes & 1 << last != 0)),
        }
    }

    /// The last block that begins before a line, and whether it is a hole.
    #[inline(never)]
    fn last_before(&self, line: usize) -> Option<(usize, bool)> {
        let line = self.begun.previous(line.checked_sub(1)?)?;
        self.block_of(line * LINE + LINE - 1)
    }

    /// A hole that begins there has become so long.
    #[inline]
    fn note_hole(&mut self, block: usize, length: usize) {
        self.room.raise(block / LINE, length as Granules);
    }

    /// A hole of that length begins there.
    #[inline(never)]
    fn begin_hole(&mut self, block: usize, length: usize) {
        self.begin(block);
        self.mark_hole(block);
        self.note_hole(block, length);
    }

    /// A hole of that length that began there is no more, or shorter: it may have been the longest of its line.
    #[inline]
    fn note_loss(&mut self, block: usize, length: usize) {
        let line = block / LINE;
        if self.line(line).holes == 0 {
            self.room.set(line, 0);
        } else if self.room.at(line) == length as Granules {
            self.look_at(line);
        }
    }

    /// Writes down the longest hole of those that begin in a line.
    #[inline(never)]
    fn look_at(&mut self, line: usize) {
        let longest = self.holes_in(line).fold(0, |longest, (block, end)| longest.max(end - block));
        self.room.set(line, longest as Granules);
    }

    /// The holes that begin in a line, from granule to granule.
    #[inline]
    fn holes_in(&self, line: usize) -> impl Iterator<Item = (usize, usize)> {
        let begun = self.line(line);
        let mut left = begun.holes;
        core::iter::from_fn(move || {
            let block = line * LINE + (left != 0).then(|| left.trailing_zeros() as usize)?;
            left &= left - 1;
            Some((block, self.end_in(begun, block)))
        })
    }

    /// Takes a block of `count` granules whose address is a multiple of `align` (a power of two): the lowest that there is.
    /// Gives its first granule. `base` is the region's address.
    #[inline(always)]
    pub(super) fn allocate(&mut self, count: usize, align: usize, base: usize) -> Option<usize> {
        let least = Granules::try_from(count).ok()?;
        if align > GRANULE {
            return self.allocate_aligned(count, least, align, base);
        }
        let Some(line) = self.room.first(0, least) else { return self.take_from_tail(count) };
        let (block, end) = self.holes_in(line).find(|(block, end)| end - block >= count)?;
        self.carve(block, end, block, count);
        Some(block)
    }

    /// Takes it from the tail, if there is room.
    #[inline(always)]
    fn take_from_tail(&mut self, count: usize) -> Option<usize> {
        let start = self.tail;
        if count > self.count - start {
            return None;
        }
        self.begin_tail(start + count);
        Some(start)
    }

    /// Takes a block that is aligned to more than a granule from a hole or the tail.
    #[inline(never)]
    fn allocate_aligned(&mut self, count: usize, least: Granules, align: usize, base: usize) -> Option<usize> {
        let mut from = 0;
        while let Some(line) = self.room.first(from, least) {
            let aligned = |(block, end)| Some((block, end, first_aligned(base, block, end, count, align)?));
            let found = self.holes_in(line).find_map(aligned);
            if let Some((block, end, start)) = found {
                self.carve(block, end, start, count);
                return Some(start);
            }
            from = line + 1;
        }
        let tail = self.tail;
        let start = first_aligned(base, tail, self.count, count, align)?;
        if start > tail {
            self.begin(start);
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
            self.begin(tail);
        }
    }

    /// Takes away where the tail begins, which is to begin further ahead or behind.
    #[inline]
    fn end_before_tail(&mut self) {
        if self.tail < self.count {
            self.unbegin(self.tail);
        }
    }

    /// Makes a part of a hole live.
    #[inline(always)]
    fn carve(&mut self, block: usize, end: usize, start: usize, count: usize) {
        let after = start + count;
        // What grows first, so that what shrinks is found to be less than that in few steps.
        if after < end {
            self.begin_hole(after, end - after);
        }
        if start > block {
            self.begin(start);
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
        match self.block_of(granule) {
            Some((block, false)) => Found::Live(block, self.end_of(block) - block),
            _ => Found::Free,
        }
    }

    /// How many granules the live block has that begins there, if one does.
    #[inline(always)]
    pub(super) fn live(&self, granule: usize) -> Option<usize> {
        let line = self.line(granule / LINE);
        self.is_live(line, granule).then(|| self.end_in(line, granule) - granule)
    }

    /// Whether a live block begins there, whose line is at hand.
    #[inline]
    fn is_live(&self, line: Line, granule: usize) -> bool {
        granule < self.tail && line.blocks & !line.holes & bit(granule) != 0
    }

    /// The hole that ends where the block begins, whose line is at hand.
    #[inline]
    fn hole_before(&self, line: Line, block: usize) -> Option<usize> {
        if block == 0 {
            return None;
        }
        let before = self.last_of(block / LINE, line, bit(block) - 1);
        before.filter(|(_, is_hole)| *is_hole).map(|(before, _)| before)
    }

    /// Takes back the live block that begins there and joins it with the free ones on both sides, unless `check` finds
    /// something wrong with its number of granules. Gives that number; `None` where no live block begins there.
    #[inline(always)]
    pub(super) fn free<E>(
        &mut self,
        block: usize,
        check: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        let line = self.line(block / LINE);
        if !self.is_live(line, block) {
            return Ok(None);
        }
        let end = self.end_in(line, block);
        check(end - block)?;
        let before = self.hole_before(line, block);
        self.join(before, block, end);
        Ok(Some(end - block))
    }

    /// Makes a live block free, which is joined with the hole before it, if there is one, and what is free behind it.
    #[inline(always)]
    fn join(&mut self, before: Option<usize>, block: usize, end: usize) {
        if before.is_some() {
            self.unbegin(block);
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
        self.unbegin(end);
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
            self.begin(wanted);
            self.join(None, wanted, end);
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
        self.unbegin(end);
        if wanted < end_of_hole {
            self.begin_hole(wanted, end_of_hole - wanted);
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
