//! Regions: ranges of memory that a node's pool has from the heap, each either cut into blocks or one block.

use core::ptr::NonNull;

use super::blocks::{Blocks, Found, GRANULE, Granules};
use crate::arith;
use crate::source::Source;

/// A block of the heap, which goes back to it when this is dropped.
struct Memory {
    start: NonNull<u8>,
    size: usize,
    align: usize,
}

// SAFETY: the block is this value's alone; any thread may give it back.
unsafe impl Send for Memory {}

impl Memory {
    fn obtain(source: Source, size: usize, align: usize, zero: bool) -> Option<Self> {
        source.allocate(size, align, zero).map(|start| Memory { start, size, align })
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: a block of the source of that layout; what was handed out of it is not used any more, as whoever dropped
        // this has promised.
        unsafe { Source::free(self.start, self.size, self.align) };
    }
}

/// A region. Dropping it gives its memory back; until then nothing of it is anybody else's.
pub(super) struct Region {
    memory: Memory,
    holds: Holds,
}

#[allow(
    clippy::large_enum_variant,
    reason = "most regions are cut; a pointer more would be followed at each operation"
)]
enum Holds {
    /// Any number of blocks.
    Many(Blocks),
    /// One live block, all of it: what is too large for the others, or aligned too far.
    One,
}

/// What is wrong with a pointer into a region, if it is not that of a live block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misled {
    /// It leads into free memory.
    Freed,
    /// It leads into a live block of `size` bytes, `offset` bytes from its start.
    Within { offset: usize, size: usize },
}

impl Region {
    /// A region of `size` bytes (a multiple of [`GRANULE`]), all free.
    pub(super) fn of_many(source: Source, size: usize, align: usize) -> Option<Self> {
        // What is known of the blocks first: it is the smaller part.
        let blocks = Blocks::new(source, size / GRANULE)?;
        Some(Region { memory: Memory::obtain(source, size, align, false)?, holds: Holds::Many(blocks) })
    }

    /// A region that is one live block.
    pub(super) fn of_one(source: Source, size: usize, align: usize, zero: bool) -> Option<Self> {
        Some(Region { memory: Memory::obtain(source, size, align, zero)?, holds: Holds::One })
    }

    /// The first address.
    #[inline]
    pub(super) fn start(&self) -> usize {
        self.memory.start.as_ptr().addr()
    }

    /// The address behind the last.
    #[inline]
    pub(super) fn end(&self) -> usize {
        self.start() + self.memory.size
    }

    /// Bytes, the same as were obtained from the heap.
    pub(super) fn size(&self) -> usize {
        self.memory.size
    }

    /// Whether it is cut into blocks.
    pub(super) fn is_of_many(&self) -> bool {
        matches!(self.holds, Holds::Many(_))
    }

    /// The longest free block, in granules.
    #[inline]
    pub(super) fn longest(&self) -> Granules {
        match &self.holds {
            Holds::Many(blocks) => blocks.longest(),
            Holds::One => 0,
        }
    }

    fn at(&self, offset: usize) -> NonNull<u8> {
        debug_assert!(offset < self.memory.size);
        // SAFETY: within the region, as callers see to.
        unsafe { self.memory.start.add(offset) }
    }

    /// The whole region, where it is one block.
    pub(super) fn whole(&self) -> NonNull<u8> {
        self.memory.start
    }

    /// A block of `size` bytes, a multiple of [`GRANULE`].
    #[inline(always)]
    pub(super) fn allocate(&mut self, size: usize, align: usize) -> Option<NonNull<u8>> {
        let base = self.start();
        let Holds::Many(blocks) = &mut self.holds else { return None };
        let granule = blocks.allocate(size / GRANULE, align, base)?;
        Some(self.at(granule * GRANULE))
    }

    /// How many bytes the live block has that begins at an address of the region, if one does.
    #[inline(always)]
    pub(super) fn live_at(&self, address: usize) -> Option<usize> {
        let offset = address - self.start();
        match &self.holds {
            Holds::Many(blocks) if offset.is_multiple_of(GRANULE) => {
                blocks.live(offset / GRANULE).map(|count| count * GRANULE)
            }
            Holds::Many(_) => None,
            Holds::One => (offset == 0).then_some(self.memory.size),
        }
    }

    /// The same; or why none does.
    pub(super) fn block_at(&self, address: usize) -> Result<usize, Misled> {
        let offset = address - self.start();
        let (start, size) = match &self.holds {
            Holds::One => (0, self.memory.size),
            Holds::Many(blocks) => match blocks.find(offset / GRANULE) {
                Found::Live(block, count) => (block * GRANULE, count * GRANULE),
                Found::Free => return Err(Misled::Freed),
            },
        };
        if offset == start { Ok(size) } else { Err(Misled::Within { offset: offset - start, size }) }
    }

    /// Takes back the live block that begins at that address of the region, unless `check` finds something wrong with how
    /// many bytes it has. Gives these; `None` where no live block begins there. Where the region is that block, it is to be
    /// dropped.
    #[inline(always)]
    pub(super) fn free<E>(
        &mut self,
        address: usize,
        check: impl FnOnce(usize) -> Result<(), E>,
    ) -> Result<Option<usize>, E> {
        let offset = address - self.start();
        match &mut self.holds {
            Holds::Many(blocks) if offset.is_multiple_of(GRANULE) => {
                let freed = blocks.free(offset / GRANULE, |count| check(count * GRANULE))?;
                Ok(freed.map(|count| count * GRANULE))
            }
            Holds::One if offset == 0 => check(self.memory.size).map(|()| Some(self.memory.size)),
            Holds::Many(_) | Holds::One => Ok(None),
        }
    }

    /// Makes the live block of `old` bytes that begins at that address `size` bytes long, a multiple of [`GRANULE`], without
    /// moving it. False where that cannot be.
    pub(super) fn resize(&mut self, address: usize, old: usize, size: usize) -> bool {
        let offset = address - self.start();
        match &mut self.holds {
            Holds::Many(blocks) => blocks.resize(offset / GRANULE, old / GRANULE, size / GRANULE),
            Holds::One => size == self.memory.size,
        }
    }
}

/// The size of the block that serves so many bytes: a multiple of [`GRANULE`], and not 0.
#[inline]
pub(super) const fn block_size(bytes: usize) -> Option<usize> {
    arith::align_up(if bytes == 0 { 1 } else { bytes }, GRANULE)
}
