//! The pool of one node: its regions, behind one lock.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::array::Array;
use super::blocks::GRANULE;
use super::config::NodePoolsConfig;
use super::gone::Gone;
use super::maxima::Maxima;
use super::region::{Misled, Region};
use super::stats::{Figures, NodePoolsStats};
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
    /// By address.
    regions: Array<Region>,
    /// By the same places: the longest free block of each. One at most is as long as its region, but for a moment.
    room: Maxima,
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
    /// The last block of that region, which is to be [taken out](Held::take_out), and dropped once the lock is free, since that
    /// takes time.
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
        let source = Source::Node(node);
        let inner =
            Inner { source, config, regions: Array::new(source), room: Maxima::none(source), gone: Gone::new() };
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
        let place = inner.place_of(address);
        let Some(region) = inner.regions.get_mut(place).filter(|region| address < region.end()) else {
            return Ok(Freed::Nothing);
        };
        let Some(size) = region.free(address, check)? else { return Ok(Freed::Nothing) };
        let is_gone = if region.is_of_many() {
            let longest = region.longest();
            inner.room.set(place, longest);
            longest == inner.config.region_granules() && inner.regions.len() > 1 && inner.has_other_empty(place)
        } else {
            true
        };
        self.pool.figures.count_deallocation(size);
        self.note_largest_free();
        Ok(if is_gone { Freed::LastOf(place) } else { Freed::Block })
    }

    /// Takes that region out.
    pub(super) fn take_out(&mut self, region: usize) -> Option<Region> {
        let region = self.remove(region);
        self.note_largest_free();
        region
    }

    /// Makes the live block of `old` bytes that begins at that address of that region `new` bytes long without moving it;
    /// both are multiples of [`GRANULE`]. False where that cannot be.
    pub(super) fn resize(&mut self, region: usize, address: usize, old: usize, new: usize) -> bool {
        if !self.regions.get_mut(region).is_some_and(|region| region.resize(address, old, new)) {
            return false;
        }
        self.look_at(region);
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
        let region = self.first_empty(0)?;
        self.take_out(region)
    }

    /// A block of the first region that has room for it.
    #[inline(always)]
    fn cut(&mut self, size: usize, align: usize) -> Option<NonNull<u8>> {
        let least = u32::try_from(size / GRANULE).ok()?;
        let place = self.room.first(0, least)?;
        self.cut_from(place, size, align).or_else(|| self.cut_behind(place, size, align))
    }

    /// A block of the first region behind one that has room, but none aligned so.
    #[cold]
    fn cut_behind(&mut self, place: usize, size: usize, align: usize) -> Option<NonNull<u8>> {
        let least = u32::try_from(size / GRANULE).ok()?;
        let mut place = place;
        loop {
            place = self.room.first(place + 1, least)?;
            if let Some(block) = self.cut_from(place, size, align) {
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
        self.regions.make_room()?;
        self.make_room_for_maxima()?;
        let source = self.source;
        let region = obtain(source).or_else(|| {
            // What this pool keeps may be what there is no room for beside.
            drop(self.take_empty()?);
            obtain(source)
        })?;
        let (start, end, whole) = (region.start(), region.end(), region.whole());
        let place = self.regions.partition_point(|other| other.start() < start);
        self.gone.forget(start, end);
        let is_last = place == self.regions.len();
        self.regions.insert(place, region).ok()?;
        if is_last {
            self.look_at(place)
        } else {
            self.look_from(place)
        }
        let reserved = self.pool.figures.reserved() + size;
        self.pool.figures.note_regions(self.regions.len(), reserved);
        Some(whole)
    }

    /// Takes a region out.
    #[cold]
    fn remove(&mut self, place: usize) -> Option<Region> {
        let region = self.regions.remove(place)?;
        self.gone.remember(region.start(), region.end());
        self.look_from(place);
        self.give_room_back();
        let reserved = self.pool.figures.reserved() - region.size();
        self.pool.figures.note_regions(self.regions.len(), reserved);
        Some(region)
    }

    #[inline]
    fn note_largest_free(&self) {
        self.pool.figures.note_largest_free(self.room.largest() as usize * GRANULE);
    }
}

impl Inner {
    /// A block of that region.
    #[inline(always)]
    fn cut_from(&mut self, place: usize, size: usize, align: usize) -> Option<NonNull<u8>> {
        let region = self.regions.get_mut(place)?;
        let block = region.allocate(size, align)?;
        self.room.set(place, region.longest());
        Some(block)
    }

    /// The region of the live block that begins at that address, and the block's bytes.
    #[inline(always)]
    pub(super) fn find(&self, address: usize) -> Option<(usize, usize)> {
        let place = self.place_of(address);
        let region = self.regions.get(place).filter(|region| address < region.end())?;
        region.live_at(address).map(|size| (place, size))
    }

    /// The place of the last region that does not begin behind that address; no region's, where there is none.
    #[inline]
    fn place_of(&self, address: usize) -> usize {
        self.regions.partition_point(|region| region.start() <= address).wrapping_sub(1)
    }

    /// What is known of the pointer with that address, and the region that it leads into.
    pub(super) fn look_up(&self, address: usize) -> (usize, Known) {
        let place = self.place_of(address);
        let known = match self.regions.get(place).filter(|region| address < region.end()) {
            Some(region) => region.block_at(address).map_or_else(Known::Misled, Known::Live),
            None if self.gone.contains(address) => Known::Gone,
            None => Known::No,
        };
        (place, known)
    }

    /// The first region from that place on without a live block.
    fn first_empty(&self, from: usize) -> Option<usize> {
        self.room.first(from, self.config.region_granules())
    }

    /// Whether another region than the one at that place has no live block.
    #[cold]
    fn has_other_empty(&self, place: usize) -> bool {
        self.first_empty(0) != Some(place) || self.first_empty(place + 1).is_some()
    }

    /// Writes down the longest free block of the region at that place.
    #[inline]
    fn look_at(&mut self, place: usize) {
        if let Some(region) = self.regions.get(place) {
            self.room.set(place, region.longest());
        }
    }

    /// Does so for all regions from that place on, where one was put in or taken out.
    fn look_from(&mut self, place: usize) {
        (place..self.regions.len()).for_each(|place| self.look_at(place));
        self.room.set(self.regions.len(), 0);
    }

    /// Gives back what is kept about regions, where there were many more of them than there are; if not now, then later.
    fn give_room_back(&mut self) {
        self.regions.give_room_back();
        let most = (self.regions.len() + 1).saturating_mul(16);
        if self.room.length() > most
            && let Some(room) = Maxima::new(self.source, self.regions.len() + 1)
        {
            self.room = room;
            self.look_from(0);
        }
    }

    /// Sees to it that there is room for one region more in `room`.
    fn make_room_for_maxima(&mut self) -> Option<()> {
        let wanted = self.regions.len() + 1;
        if self.room.length() < wanted {
            self.room = Maxima::new(self.source, wanted)?;
            self.look_from(0);
        }
        Some(())
    }
}
