//! How a region is cut into blocks.
//!
//! A region is a row of granules of 16 bytes. Every granule belongs to one block, live or free, and no two free blocks are
//! neighbours: what is freed is joined with them at once. All that is known of blocks is kept apart from them, so that
//! whatever is written past the end of a block, or after it was freed, the pools go on:
//!
//! - `begins`: the granules that a block begins with; the next one in it is where a block ends
//! - `free`: those of them whose block is free
//! - `room`: by 64 granules, the length of the longest free block that begins there; a tree of maxima finds the first free
//!   block that is long enough, lowest address first, and its root is the longest of all

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
    free: Array<u64>,
    room: Maxima,
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
            free: Array::zeros(source, count.div_ceil(LINE))?,
            room: Maxima::new(source, count.div_ceil(LINE))?,
            count,
        };
        blocks.begins.insert(0);
        blocks.set_free(0, true);
        blocks.look_at_line_of(0);
        Some(blocks)
    }

    /// The longest free block, in granules.
    #[inline]
    pub(super) fn longest(&self) -> Granules {
        self.room.largest()
    }

    /// Whether no block is live.
    pub(super) fn is_empty(&self) -> bool {
        self.longest() as usize == self.count
    }

    #[inline]
    fn is_free(&self, block: usize) -> bool {
        self.free[block / LINE] & 1 << (block % LINE) != 0
    }

    #[inline]
    fn set_free(&mut self, block: usize, free: bool) {
        let bit = 1 << (block % LINE);
        let word = &mut self.free[block / LINE];
        *word = if free { *word | bit } else { *word & !bit };
    }

    /// Where the block ends that begins there.
    #[inline]
    fn end_of(&self, block: usize) -> usize {
        self.begins.next(block + 1).unwrap_or(self.count)
    }

    /// Writes down the longest free block of those that begin in the same line as that granule.
    #[inline(never)]
    fn look_at_line_of(&mut self, granule: usize) {
        let line = granule / LINE;
        let mut left = self.free[line];
        let begins = self.begins.word(line);
        let mut longest = 0;
        while left != 0 {
            let block = left.trailing_zeros() as usize;
            left &= left - 1;
            // The bits of what begins behind the block: none for the last bit of a word.
            let behind = begins & u64::MAX << block << 1;
            let length = match behind {
                0 => self.end_of(line * LINE + block) - (line * LINE + block),
                _ => behind.trailing_zeros() as usize - block,
            };
            longest = longest.max(length);
        }
        self.room.set(line, longest as Granules);
    }

    /// The same, where the free block that begins there ends at `end`. Spares looking for that where no other begins in its
    /// line.
    #[inline]
    fn look_at_line_of_free(&mut self, block: usize, end: usize) {
        if self.free[block / LINE] == 1 << (block % LINE) {
            self.room.set(block / LINE, (end - block) as Granules);
        } else {
            self.look_at_line_of(block);
        }
    }

    /// Takes a block of `count` granules whose address is a multiple of `align` (a power of two): the lowest that there is.
    /// Gives its first granule. `base` is the region's address.
    #[inline]
    pub(super) fn allocate(&mut self, count: usize, align: usize, base: usize) -> Option<usize> {
        let least = Granules::try_from(count).ok()?;
        let mut from = 0;
        loop {
            let line = self.room.first(from, least)?;
            let mut left = self.free[line];
            while left != 0 {
                let block = line * LINE + left.trailing_zeros() as usize;
                left &= left - 1;
                let end = self.end_of(block);
                if let Some(start) = first_aligned(base, block, end, count, align) {
                    self.carve(block, end, start, count);
                    return Some(start);
                }
            }
            from = line + 1;
        }
    }

    /// Makes a part of a free block live.
    #[inline]
    fn carve(&mut self, block: usize, end: usize, start: usize, count: usize) {
        let after = start + count;
        if after < end {
            self.begins.insert(after);
            self.set_free(after, true);
        }
        if start > block {
            self.begins.insert(start);
        } else {
            self.set_free(block, false);
        }
        // What is left behind first: see `Maxima::set`.
        let is_apart = after / LINE != block / LINE;
        if after < end && (is_apart || start == block) {
            self.look_at_line_of_free(after, end);
        }
        if is_apart || after == end || start > block {
            self.look_at_line_of(block);
        }
    }

    /// What lies there.
    #[inline]
    pub(super) fn find(&self, granule: usize) -> Found {
        let block = if self.begins.contains(granule) { Some(granule) } else { self.begins.previous(granule) };
        match block {
            Some(block) if !self.is_free(block) => Found::Live(block, self.end_of(block) - block),
            _ => Found::Free,
        }
    }

    /// Takes back a live block that begins there, and joins it with the free ones on both sides.
    #[inline]
    pub(super) fn free(&mut self, block: usize) {
        debug_assert!(self.begins.contains(block) && !self.is_free(block));
        let end = self.end_of(block);
        let mut end_of_free = end;
        if end < self.count && self.is_free(end) {
            end_of_free = self.end_of(end);
            self.begins.remove(end);
            self.set_free(end, false);
        }
        let before = block.checked_sub(1).and_then(|granule| self.begins.previous(granule));
        let start = match before.filter(|before| self.is_free(*before)) {
            Some(before) => {
                self.begins.remove(block);
                before
            }
            None => {
                self.set_free(block, true);
                block
            }
        };
        // What has grown first: see `Maxima::set`.
        self.look_at_line_of_free(start, end_of_free);
        if end_of_free > end && end / LINE != start / LINE {
            self.look_at_line_of(end);
        }
    }

    /// Makes the live block that begins there `count` granules long (more than 0), where it is longer or what follows it is
    /// free for long enough. False where it is not; nothing has changed then.
    pub(super) fn resize(&mut self, block: usize, count: usize) -> bool {
        let end = self.end_of(block);
        let Some(wanted) = block.checked_add(count) else { return false };
        if wanted < end {
            // The rest is a live block for a moment.
            self.begins.insert(wanted);
            self.free(wanted);
            return true;
        }
        if wanted == end {
            return true;
        }
        if end >= self.count || !self.is_free(end) || self.end_of(end) < wanted {
            return false;
        }
        let end_of_free = self.end_of(end);
        self.begins.remove(end);
        self.set_free(end, false);
        if wanted < end_of_free {
            self.begins.insert(wanted);
            self.set_free(wanted, true);
            self.look_at_line_of(wanted);
        }
        if wanted == end_of_free || wanted / LINE != end / LINE {
            self.look_at_line_of(end);
        }
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
