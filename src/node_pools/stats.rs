//! What node pools have done so far, and hold now.

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// The figures of the pool of one node, or of all together.
///
/// Bytes are those of blocks: what was asked for, rounded up to a multiple of 16, and at least 16.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodePoolsStats {
    /// Blocks handed out so far.
    pub allocations: u64,
    /// Blocks taken back so far.
    pub deallocations: u64,
    /// Bytes handed out so far; a block that grew in place counts for what it grew by.
    pub bytes_allocated: u64,
    /// Bytes taken back so far; a block that shrank in place counts for what it shrank by.
    pub bytes_deallocated: u64,
    /// Live blocks.
    pub blocks: usize,
    /// Bytes in them.
    pub bytes: usize,
    /// The most live blocks there ever were. Of all nodes together: the sum of what each had at most, which need not have
    /// been at one time.
    pub peak_blocks: usize,
    /// The most bytes in live blocks there ever were; of all nodes together as `peak_blocks`.
    pub peak_bytes: usize,
    /// Bytes in free blocks of regions.
    pub free_bytes: usize,
    /// Bytes in the largest free block: the largest request that needs no other region.
    pub largest_free: usize,
    /// Regions.
    pub regions: usize,
    /// Bytes in regions: those in live blocks and in free ones.
    pub reserved_bytes: usize,
}

impl NodePoolsStats {
    /// The share of the free memory that the largest request could not use, from 0 to 1: 1 less the largest free block's
    /// part of all free bytes. 0 where nothing is free.
    ///
    /// Of all nodes together it counts what is free on other nodes than that of the largest free block as such a share too;
    /// ask for a node's own figures to leave that out.
    pub fn fragmentation(&self) -> f64 {
        match self.free_bytes {
            0 => 0.0,
            free => 1.0 - self.largest_free as f64 / free as f64,
        }
    }

    /// Both together.
    pub(super) fn and(self, other: Self) -> Self {
        NodePoolsStats {
            allocations: self.allocations + other.allocations,
            deallocations: self.deallocations + other.deallocations,
            bytes_allocated: self.bytes_allocated + other.bytes_allocated,
            bytes_deallocated: self.bytes_deallocated + other.bytes_deallocated,
            blocks: self.blocks + other.blocks,
            bytes: self.bytes + other.bytes,
            peak_blocks: self.peak_blocks + other.peak_blocks,
            peak_bytes: self.peak_bytes + other.peak_bytes,
            free_bytes: self.free_bytes + other.free_bytes,
            largest_free: self.largest_free.max(other.largest_free),
            regions: self.regions + other.regions,
            reserved_bytes: self.reserved_bytes + other.reserved_bytes,
        }
    }
}

/// The same as a node's pool keeps it. Written by the holder of the pool's lock alone, by plain stores; read under it too,
/// but for a signal handler on top of the holder, which reads how far that has come.
pub(super) struct Figures {
    allocations: AtomicU64,
    deallocations: AtomicU64,
    bytes_allocated: AtomicU64,
    bytes_deallocated: AtomicU64,
    peak_blocks: AtomicUsize,
    peak_bytes: AtomicUsize,
    largest_free: AtomicUsize,
    regions: AtomicUsize,
    reserved: AtomicUsize,
}

fn add(figure: &AtomicU64, more: u64) -> u64 {
    let sum = figure.load(Ordering::Relaxed).wrapping_add(more);
    figure.store(sum, Ordering::Relaxed);
    sum
}

fn raise(figure: &AtomicUsize, to: usize) {
    if figure.load(Ordering::Relaxed) < to {
        figure.store(to, Ordering::Relaxed);
    }
}

impl Figures {
    pub(super) const fn new() -> Self {
        Figures {
            allocations: AtomicU64::new(0),
            deallocations: AtomicU64::new(0),
            bytes_allocated: AtomicU64::new(0),
            bytes_deallocated: AtomicU64::new(0),
            peak_blocks: AtomicUsize::new(0),
            peak_bytes: AtomicUsize::new(0),
            largest_free: AtomicUsize::new(0),
            regions: AtomicUsize::new(0),
            reserved: AtomicUsize::new(0),
        }
    }

    /// Bytes in regions.
    pub(super) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// A block of so many bytes was handed out.
    #[inline]
    pub(super) fn count_allocation(&self, bytes: usize) {
        let blocks = add(&self.allocations, 1) - self.deallocations.load(Ordering::Relaxed);
        raise(&self.peak_blocks, blocks as usize);
        self.count_growth(bytes);
    }

    /// A block of so many bytes was taken back.
    #[inline]
    pub(super) fn count_deallocation(&self, bytes: usize) {
        add(&self.deallocations, 1);
        self.count_shrinking(bytes);
    }

    /// A block has so many bytes more.
    #[inline]
    pub(super) fn count_growth(&self, bytes: usize) {
        let live = add(&self.bytes_allocated, bytes as u64) - self.bytes_deallocated.load(Ordering::Relaxed);
        raise(&self.peak_bytes, live as usize);
    }

    /// A block has so many bytes less.
    #[inline]
    pub(super) fn count_shrinking(&self, bytes: usize) {
        add(&self.bytes_deallocated, bytes as u64);
    }

    /// There are so many regions now, with so many bytes.
    pub(super) fn note_regions(&self, regions: usize, reserved: usize) {
        self.regions.store(regions, Ordering::Relaxed);
        self.reserved.store(reserved, Ordering::Relaxed);
    }

    /// The largest free block has so many bytes now.
    #[inline]
    pub(super) fn note_largest_free(&self, bytes: usize) {
        self.largest_free.store(bytes, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> NodePoolsStats {
        let (allocations, deallocations) =
            (self.allocations.load(Ordering::Relaxed), self.deallocations.load(Ordering::Relaxed));
        let (bytes_in, bytes_out) =
            (self.bytes_allocated.load(Ordering::Relaxed), self.bytes_deallocated.load(Ordering::Relaxed));
        let bytes = bytes_in.wrapping_sub(bytes_out) as usize;
        let reserved_bytes = self.reserved();
        NodePoolsStats {
            allocations,
            deallocations,
            bytes_allocated: bytes_in,
            bytes_deallocated: bytes_out,
            blocks: allocations.wrapping_sub(deallocations) as usize,
            bytes,
            peak_blocks: self.peak_blocks.load(Ordering::Relaxed),
            peak_bytes: self.peak_bytes.load(Ordering::Relaxed),
            // Every byte of a region is a live block's or a free one's; less for who looks on while that changes.
            free_bytes: reserved_bytes.saturating_sub(bytes),
            largest_free: self.largest_free.load(Ordering::Relaxed),
            regions: self.regions.load(Ordering::Relaxed),
            reserved_bytes,
        }
    }
}
