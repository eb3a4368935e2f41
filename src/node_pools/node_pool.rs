//! The pool of one node: its regions, behind one lock.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::blocks::{GRANULE, Granules};
use super::config::NodePoolsConfig;
use super::gone::Gone;
use super::region::{Misled, Region};
use super::stats::{Figures, NodePoolsStats};
use super::tree::{Entry, Tree};
use crate::source::Source;
use crate::sync::lock::{Guard, Lock};
use crate::topology::NodeIndex;
use crate::{debug, node};

/// The pool of a node.
pub(super) struct NodePool {
    lock: Lock,
    inner: UnsafeCell<Inner>,
    figures: Figures,
}

// SAFETY: `inner` is touched only by who holds `lock`, through `Held`; it may be any thread, since all it holds may.
unsafe impl Sync for NodePool {}

/// What the lock guards.
pub(super) struct Inner {
    source: Source,
    config: NodePoolsConfig,
    /// By address, each with the length of its longest free block. One at most is as long as its region, but for a moment.
    regions: Tree<Region>,
    gone: Gone,
}

/// What is asked for.
#[derive(Clone, Copy)]
pub(super) struct Request {
    /// Bytes, a multiple of [`GRANULE`] and not 0.
    pub(super) size: usize,
    /// A power of two.
    pub(super) align: usize,
    /// Whether all bytes are to be zero.
    pub(super) zero: bool,
}

/// A block that is handed out, and whether it is known to be all zero.
pub(super) struct Handed {
    pub(super) block: NonNull<u8>,
    pub(super) is_zero: bool,
}

/// What was taken back.
pub(super) enum Freed {
    /// Nothing: no live block begins there.
    Nothing,
    /// A block.
    Block,
    /// The last block of the region that begins there, which is to be [taken out](Held::take_out), and dropped once the lock
    /// is free, since that takes time.
    LastOf(usize),
}

/// What a pool knows of a pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// A live block of so many bytes begins there.
    Live(usize),
    /// It leads into one of the pool's regions, but no live block begins there.
    Misled(Misled),
    /// It leads into none of the regions, but into one that went back to the heap.
    Gone,
    /// It never led here, as far as is known.
    No,
}

/// Whoever has this holds the pool's lock.
pub(super) struct Held<'a> {
    pool: &'a NodePool,
    _guard: Guard<'a>,
}

impl NodePool {
    /// The pool of that node, without a region yet.
    pub(super) const fn new(node: NodeIndex, config: NodePoolsConfig) -> Self {
        let inner = Inner { source: Source::Node(node), config, regions: Tree::new(), gone: Gone::new() };
        NodePool { lock: Lock::new(), inner: UnsafeCell::new(inner), figures: Figures::new() }
    }

    /// Waits until the pool is the calling thread's. `None` where it holds it already, in an operation that a signal has
    /// interrupted: waiting would be for ever. So it would be where it holds a lock of the heap's, which the pool's holder may
    /// wait for.
    #[inline]
    pub(super) fn hold(&self) -> Option<Held<'_>> {
        self.lock.lock_unless(is_inside_heap).map(|guard| Held { _guard: guard, pool: self })
    }

    /// The figures: of one moment between two operations, or, where the calling thread is in the middle of one, as far as
    /// that has come.
    pub(super) fn stats(&self) -> NodePoolsStats {
        let _held = self.hold();
        self.figures.read()
    }
}

/// Whether the calling thread comes in on top of one of the heap's own operations.
fn is_inside_heap() -> bool {
    node::any_is_mine() || debug::is_mine()
}

impl Deref for Held<'_> {
    type Target = Inner;

    #[inline]
    fn deref(&self) -> &Inner {
        // SAFETY: the guard excludes all others, and this thread is not inside twice (`hold`).
        unsafe { &*self.pool.inner.get() }
    }
}

impl DerefMut for Held<'_> {
    #[inline]
    fn deref_mut(&mut self) -> &mut Inner {
        // SAFETY: as above.
        unsafe { &mut *self.pool.inner.get() }
    }
}

impl Held<'_> {
    /// A block; `None` where the limit or the heap leaves no room for it.
    #[inline]
    pub(super) fn allocate(&mut self, request: Request) -> Option<Handed> {
        let handed = match self.config.is_cut(request.size, request.align) {
            true => {
                let block = self.cut(request.size, request.align);
                let block = block.or_else(|| self.cut_anew(request.size, request.align));
                block.map(|block| Handed { block, is_zero: false })
            }
            false => self.add_block(request.size, request.align, request.zero),
        };
        if handed.is_some() {
            self.pool.figures.count_allocation(request.size);
            self.note_largest_free();
        }
        handed
    }

    /// Takes back the live block that begins at that address, unless `check` finds something wrong with how many bytes it
    /// has.
    #[inline(always)]
    pub(super) fn free<E>(&mut self, address: usize, check: impl FnOnce(usize) -> Result<(), E>) -> Result<Freed, E> {
        let inner = &mut **self;
        let Some(mut region) = inner.region_at(address) else { return Ok(Freed::Nothing) };
        let Some(size) = region.free(address, check)? else { return Ok(Freed::Nothing) };
        let (start, longest) = (region.start(), region.longest());
        let is_gone = if region.is_of_many() {
            region.set(longest);
            longest == inner.config.region_granules() && inner.regions.len() > 1 && inner.has_other_empty(start)
        } else {
            true
        };
        self.pool.figures.count_deallocation(size);
        self.note_largest_free();
        Ok(if is_gone { Freed::LastOf(start) } else { Freed::Block })
    }

    /// Takes the region out that begins there.
    #[cold]
    pub(super) fn take_out(&mut self, start: usize) -> Option<Region> {
        let region = self.regions.find(start)?.take();
        self.gone.remember(region.start(), region.end());
        let reserved = self.pool.figures.reserved() - region.size();
        self.pool.figures.note_regions(self.regions.len(), reserved);
        self.note_largest_free();
        Some(region)
    }

    /// Makes the live block of `old` bytes that begins at that address `new` bytes long without moving it; both are multiples
    /// of [`GRANULE`]. False where that cannot be.
    pub(super) fn resize(&mut self, address: usize, old: usize, new: usize) -> bool {
        let Some(mut region) = self.region_at(address) else { return false };
        if !region.resize(address, old, new) {
            return false;
        }
        let longest = region.longest();
        region.set(longest);
        if new > old {
            self.pool.figures.count_growth(new - old);
        } else {
            self.pool.figures.count_shrinking(old - new);
        }
        self.note_largest_free();
        true
    }

    /// Takes the empty region out, if there is one.
    pub(super) fn take_empty(&mut self) -> Option<Region> {
        let all = self.config.region_granules();
        let start = self.regions.first(all)?.start();
        self.take_out(start)
    }

    /// A block of the first region that has room for it.
    #[inline(always)]
    fn cut(&mut self, size: usize, align: usize) -> Option<NonNull<u8>> {
        let region = self.regions.first((size / GRANULE) as Granules)?;
        let start = region.start();
        cut_from(region, size, align).or_else(|| self.cut_behind(start, size, align))
    }

    /// A block of the first region behind one that has room, but none aligned so.
    #[cold]
    fn cut_behind(&mut self, start: usize, size: usize, align: usize) -> Option<NonNull<u8>> {
        let mut start = start;
        loop {
            let region = self.regions.first_from(start + 1, (size / GRANULE) as Granules)?;
            start = region.start();
            if let Some(block) = cut_from(region, size, align) {
                return Some(block);
            }
        }
    }

    /// A block of a new region.
    #[cold]
    fn cut_anew(&mut self, size: usize, align: usize) -> Option<NonNull<u8>> {
        let (all, aligned) = (self.config.region_size(), self.config.region_align());
        self.add(all, |source| Region::of_many(source, all, aligned))?;
        self.cut(size, align)
    }

    /// A block with a region of its own.
    #[cold]
    fn add_block(&mut self, size: usize, align: usize, zero: bool) -> Option<Handed> {
        let block = self.add(size, |source| Region::of_one(source, size, align, zero))?;
        Some(Handed { block, is_zero: zero })
    }

    /// Puts a region of `size` bytes where it belongs, which `obtain` obtains; gives its start. Where the limit or the heap
    /// leaves no room, the empty region is given back first, if there is one.
    fn add(&mut self, size: usize, obtain: impl Fn(Source) -> Option<Region>) -> Option<NonNull<u8>> {
        let reserved =
            |held: &Self| held.pool.figures.reserved().checked_add(size).filter(|sum| *sum <= held.config.most());
        if reserved(self).is_none() {
            drop(self.take_empty());
            reserved(self)?;
        }
        self.put(size, &obtain).or_else(|| {
            // What this pool keeps may be what there is no room for beside.
            drop(self.take_empty()?);
            self.put(size, &obtain)
        })
    }

    /// Does so where the heap leaves room.
    fn put(&mut self, size: usize, obtain: impl Fn(Source) -> Option<Region>) -> Option<NonNull<u8>> {
        let source = self.source;
        let region = obtain(source)?;
        let (start, end, longest, whole) = (region.start(), region.end(), region.longest(), region.whole());
        self.regions.insert(source, start, longest, region).ok()?;
        self.gone.forget(start, end);
        let reserved = self.pool.figures.reserved() + size;
        self.pool.figures.note_regions(self.regions.len(), reserved);
        Some(whole)
    }

    #[inline]
    fn note_largest_free(&self) {
        self.pool.figures.note_largest_free(self.regions.largest() as usize * GRANULE);
    }
}

impl Inner {
    /// The bytes of the live block that begins at that address.
    #[inline(always)]
    pub(super) fn find(&mut self, address: usize) -> Option<usize> {
        self.region_at(address)?.live_at(address)
    }

    /// Looks at nodes of the tree so far.
    #[cfg(test)]
    pub(super) fn looks(&self) -> usize {
        self.regions.looks.get()
    }

    /// The region that an address leads to.
    #[inline(always)]
    fn region_at(&mut self, address: usize) -> Option<Entry<'_, Region>> {
        self.regions.find(address).filter(|region| address < region.end())
    }

    /// What is known of the pointer with that address.
    pub(super) fn look_up(&mut self, address: usize) -> Known {
        if let Some(region) = self.region_at(address) {
            return region.block_at(address).map_or_else(Known::Misled, Known::Live);
        }
        if self.gone.contains(address) { Known::Gone } else { Known::No }
    }

    /// Whether another region than the one that begins there has no live block.
    #[cold]
    fn has_other_empty(&mut self, start: usize) -> bool {
        let all = self.config.region_granules();
        self.regions.first(all).is_some_and(|first| first.start() != start)
            || self.regions.first_from(start + 1, all).is_some()
    }
}

/// A block of that region.
#[inline(always)]
fn cut_from(region: Entry<'_, Region>, size: usize, align: usize) -> Option<NonNull<u8>> {
    let mut region = region;
    let block = region.allocate(size, align)?;
    let longest = region.longest();
    region.set(longest);
    Some(block)
}
