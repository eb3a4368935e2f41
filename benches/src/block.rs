//! A block of memory from one allocator. The workloads are safe code, all that is not stands here.

use std::alloc::{Layout, handle_alloc_error};
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

use crate::peers::{Peer, entry};

/// The step in which a page is touched.
const PAGE: usize = 4096;

/// A block from the allocator `P`, of at least one byte, freed when dropped.
///
/// Bytes are read and written by volatile accesses: the optimiser must not drop a write because the block is freed
/// next. Whatever is read was written before, or came from [`Block::zeroed`]: what could break that rule is for the
/// workloads alone.
pub struct Block<P: Peer> {
    start: NonNull<u8>,
    layout: Layout,
    peer: PhantomData<fn() -> P>,
}

// SAFETY: a block owns its bytes alone, and allocators allow a free from any thread.
unsafe impl<P: Peer> Send for Block<P> {}

impl<P: Peer> Block<P> {
    /// A block whose tag is written to its first and its last byte.
    ///
    /// # Panics
    /// When the size is zero.
    #[inline(always)]
    pub fn new(layout: Layout) -> Self {
        Self::try_new(layout).unwrap_or_else(|| handle_alloc_error(layout))
    }

    /// As [`new`](Self::new); `None` when the allocator refuses.
    ///
    /// # Panics
    /// When the size is zero.
    #[inline(always)]
    pub fn try_new(layout: Layout) -> Option<Self> {
        assert!(layout.size() > 0);
        // SAFETY: the size is not zero.
        let start = unsafe { entry::alloc::<P>(layout) };
        let mut block = Self::adopt(start, layout)?;
        block.mark();
        Some(block)
    }

    /// A block of zeroes, untouched.
    ///
    /// # Panics
    /// When the size is zero.
    #[inline(always)]
    pub fn zeroed(layout: Layout) -> Self {
        assert!(layout.size() > 0);
        // SAFETY: the size is not zero.
        let start = unsafe { entry::alloc_zeroed::<P>(layout) };
        Self::adopt(start, layout).unwrap_or_else(|| handle_alloc_error(layout))
    }

    #[inline(always)]
    fn adopt(start: *mut u8, layout: Layout) -> Option<Self> {
        let start = NonNull::new(start)?;
        Some(Self { start, layout, peer: PhantomData })
    }

    /// The size asked for.
    #[inline(always)]
    pub fn size(&self) -> usize {
        self.layout.size()
    }

    /// Whether the block lies where its layout says it must.
    #[inline(always)]
    pub fn is_aligned(&self) -> bool {
        self.start.addr().get().is_multiple_of(self.layout.align())
    }

    /// The byte that stands at both ends of the block: made of its size and its address, so that one block's is
    /// rarely another's.
    #[inline(always)]
    fn tag(&self) -> u8 {
        (self.layout.size() ^ (self.start.addr().get() >> 4)) as u8 | 1
    }

    /// Writes the tag to both ends.
    #[inline(always)]
    pub fn mark(&mut self) {
        let tag = self.tag();
        self.write(0, tag);
        self.write(self.size() - 1, tag);
    }

    /// Whether the tag still stands at both ends.
    #[inline(always)]
    pub fn is_intact(&self) -> bool {
        let tag = self.tag();
        self.read(0) == tag && self.read(self.size() - 1) == tag
    }

    /// Writes the tag into each page, and to both ends: the block then takes as much memory as it would in use.
    #[inline(always)]
    pub fn mark_pages(&mut self) {
        let tag = self.tag();
        for at in (0..self.size()).step_by(PAGE) {
            self.write(at, tag);
        }
        self.write(self.size() - 1, tag);
    }

    /// How many pages have another first byte than zero.
    #[inline(always)]
    pub(crate) fn dirty_pages(&self) -> u64 {
        (0..self.size()).step_by(PAGE).map(|at| u64::from(self.read(at) != 0)).sum()
    }

    /// Gives the block another size, at the same or at another place. New bytes are unwritten, and the ends unmarked.
    ///
    /// # Panics
    /// When the size is zero, or larger than an object can be.
    #[inline(always)]
    pub(crate) fn resize(&mut self, size: usize) {
        let layout = Layout::from_size_align(size, self.layout.align()).expect("a size that memory can have");
        assert!(size > 0);
        // SAFETY: the block came from `P` with this layout; the new size is not zero and was just found valid.
        let start = unsafe { entry::realloc::<P>(self.start.as_ptr(), self.layout, size) };
        self.start = NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout));
        self.layout = layout;
    }

    /// Writes `byte` to all of `range`.
    ///
    /// # Panics
    /// When the range leaves the block.
    #[inline(always)]
    pub fn fill(&mut self, range: Range<usize>, byte: u8) {
        assert!(range.start <= range.end && range.end <= self.size());
        // SAFETY: the range lies inside the block.
        unsafe { self.start.add(range.start).write_bytes(byte, range.len()) };
    }

    /// Writes one byte.
    ///
    /// # Panics
    /// When `at` lies outside the block.
    #[inline(always)]
    pub fn write(&mut self, at: usize, byte: u8) {
        assert!(at < self.size());
        // SAFETY: the byte lies inside the block.
        unsafe { self.start.add(at).write_volatile(byte) }
    }

    /// Reads one byte, which must have been written.
    ///
    /// # Panics
    /// When `at` lies outside the block.
    #[inline(always)]
    pub(crate) fn read(&self, at: usize) -> u8 {
        assert!(at < self.size());
        // SAFETY: the byte lies inside the block, and the type's rule is that it was written before.
        unsafe { self.start.add(at).read_volatile() }
    }
}

impl<P: Peer> Drop for Block<P> {
    #[inline(always)]
    fn drop(&mut self) {
        // SAFETY: the block came from `P` with this layout, and is not used again.
        unsafe { entry::dealloc::<P>(self.start.as_ptr(), self.layout) }
    }
}
