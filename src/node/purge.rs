//! Memory that goes back to the kernel: free slots after the purge delay, large mappings that were kept, and all of it
//! when there is too much.
//!
//! There is no thread for it. Dirty slots age when somebody takes or gives slots, and when an arena looks at the clock in
//! its slow path; and since an idle process does neither, no more than a bounded amount may wait at all.

use core::cell::Cell;
use core::ptr::NonNull;

use super::{ALARM, Locked, pool};
use crate::address_map::Part;
use crate::arith;
use crate::config;
use crate::large::Mapping;
use crate::os;
use crate::segment::{FIRST_SLOT, SLOT, SegmentPtr, SlotIndex};
use crate::sync::{AtomicUsize, Ordering};
use crate::topology::NodeIndex;

/// Dirty slots that may wait, as a part of those in use, and the bounds of it, in bytes.
const DIRTY_PART: usize = 4;
const DIRTY_LEAST: usize = 16 << 20;
const DIRTY_MOST: usize = 64 << 20;

/// Bytes of large mappings that are kept for reuse.
pub(crate) const KEPT_MOST: usize = 32 << 20;

/// What `mallopt(3)` has said; all zero where it was not called.
static BOUNDS: Bounds = Bounds { waits_most: AtomicUsize::new(0), goes_at_once: AtomicUsize::new(0) };

struct Bounds {
    /// One more than the bytes that may wait in each pool; 0: what the settings and the use say; `usize::MAX`: there is no bound.
    waits_most: AtomicUsize,
    /// A freed block of at least so many bytes does not wait, if it is not in a slab; 0: all may.
    goes_at_once: AtomicUsize,
}

/// Has no more than so many freed bytes wait in each pool, or as many as there are for more than `isize::MAX`.
pub(crate) fn set_most_that_waits(bytes: usize) {
    let bytes = if bytes > isize::MAX as usize { usize::MAX } else { bytes + 1 };
    BOUNDS.waits_most.store(bytes, Ordering::Relaxed);
}

/// Has freed blocks of so many bytes and more go back to the kernel at once, but for blocks of slabs.
pub(crate) fn set_least_that_goes_at_once(bytes: usize) {
    BOUNDS.goes_at_once.store(bytes.max(1), Ordering::Relaxed);
}

/// Whether a freed block of so many bytes goes back to the kernel at once.
pub(crate) fn goes_at_once(bytes: usize) -> bool {
    let least = BOUNDS.goes_at_once.load(Ordering::Relaxed);
    least != 0 && bytes >= least || config::current().purge_delay_ms == 0
}

/// How many bytes may wait in a pool, where that was said.
fn waits_most() -> Option<usize> {
    BOUNDS.waits_most.load(Ordering::Relaxed).checked_sub(1)
}

/// Runs of slots whose pages go back at once, before the pool is asked for more.
const AT_ONCE: usize = 32;

/// What is to go back once the pool is not held any more.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted {
    /// So many dirty slots.
    dirty: usize,
    /// All that are aged.
    aged: bool,
}

#[derive(Clone, Copy)]
struct Run {
    segment: SegmentPtr,
    first: SlotIndex,
    count: usize,
}

impl Run {
    fn start(&self) -> NonNull<u8> {
        self.segment.slot_start(self.first)
    }
}

/// Slots whose pages are going back, by one thread at a time and while it does not hold the pool. They are neither free nor
/// anybody's: that thread alone gives them back, and in the child of a `fork`, which does not have it, the child.
pub(super) struct Leaving {
    wanted: Cell<Wanted>,
    /// The token of that thread, or 0.
    thread: Cell<usize>,
    runs: [Cell<Option<Run>>; AT_ONCE],
    slots: Cell<usize>,
}

impl Leaving {
    pub(super) const fn new() -> Self {
        Leaving {
            wanted: Cell::new(Wanted { dirty: 0, aged: false }),
            thread: Cell::new(0),
            runs: [const { Cell::new(None) }; AT_ONCE],
            slots: Cell::new(0),
        }
    }

    /// Forgets all; a thread that was at it finds its slots in segments that are not the pool's any more.
    pub(super) fn abandon(&self) {
        self.thread.set(0);
        self.runs.iter().for_each(|run| run.set(None));
        self.slots.set(0);
    }

    /// The token of the thread that does it, or 0.
    pub(super) fn thread(&self) -> usize {
        self.thread.get()
    }

    /// How many slots they are.
    pub(super) fn slots(&self) -> usize {
        self.slots.get()
    }

    /// Whether something is to go back.
    #[inline]
    fn is_wanted(&self) -> bool {
        let wanted = self.wanted.get();
        wanted.dirty > 0 || wanted.aged
    }
}

impl Drop for Locked {
    #[inline]
    fn drop(&mut self) {
        if self.inner().leaving.is_wanted() {
            self.purge_apart();
        }
    }
}

impl Locked {
    /// Sees whether something has waited long enough, or is too much, and has it go back when the pool is let go.
    pub(crate) fn purge_if_due(&self) {
        let delay = config::current().purge_delay_ms;
        let inner = self.inner();
        let said = waits_most();
        let waits_for_ever = said.map_or(delay == u64::MAX, |most| most == usize::MAX - 1);
        if inner.dirty_slots.get() == 0 && inner.kept.get().is_none() || waits_for_ever {
            return;
        }
        ALARM.ring();
        if delay == 0 {
            self.drop_kept_before(u64::MAX);
            inner.leaving.wanted.set(Wanted { dirty: usize::MAX, aged: true });
            return;
        }
        let by_use = || (inner.used_slots.get() * SLOT / DIRTY_PART).clamp(DIRTY_LEAST, DIRTY_MOST);
        let most = said.unwrap_or_else(by_use);
        let waiting = inner.dirty_slots.get();
        if waiting * SLOT > most.saturating_add(config::current().pool_size) {
            // Half of it stays: what is freed at such a rate is mostly taken again.
            let wanted = Wanted { dirty: waiting - most / 2 / SLOT, ..inner.leaving.wanted.get() };
            inner.leaving.wanted.set(wanted);
        }
        let Some(now) = inner.ageing.is_time((delay / 2).max(1)) else { return };
        inner.leaving.wanted.set(Wanted { aged: true, ..inner.leaving.wanted.get() });
        if config::current().pool_size == 0 {
            let _ = self.drop_unused_segments(1);
        }
        self.drop_kept_before(now.saturating_sub(delay));
    }

    /// Has the pages of what [`purge_if_due`](Self::purge_if_due) found go back, while nobody waits for the pool: a few runs of
    /// slots at a time are taken, their pages are given to the kernel, and they are given back.
    #[cold]
    pub(super) fn purge_apart(&mut self) {
        let wanted = self.inner().leaving.wanted.take();
        let own = self.node().get();
        let holds_another = || (0..super::pools()).any(|index| index != own && pool(NodeIndex::new(index)).is_mine());
        // Whoever holds another pool must not wait for this one; and one at a time is enough.
        if self.inner().leaving.thread.get() != 0 || holds_another() {
            return;
        }
        self.inner().leaving.thread.set(os::thread_token());
        for (only_aged, most) in [(false, wanted.dirty), (true, if wanted.aged { usize::MAX } else { 0 })] {
            let mut left = most;
            while self.take_what_leaves(only_aged, &mut left) {
                let runs = &self.inner().leaving.runs;
                let runs: [Option<Run>; AT_ONCE] = core::array::from_fn(|index| runs[index].get());
                self.guard = None;
                // SAFETY: slots that were taken, and are nobody's.
                let is_clean =
                    runs.map(|run| run.is_some_and(|run| unsafe { os::purge(run.start(), run.count * SLOT) }));
                self.guard = Some(self.pool.lock.lock());
                self.put_back_what_left(&is_clean);
            }
        }
        self.inner().leaving.thread.set(0);
        if wanted.aged {
            self.segments().for_each(SegmentPtr::age);
        }
    }

    /// Takes some runs of dirty slots, `left` slots at most, and no more than the pool need not keep. False where there are none.
    fn take_what_leaves(&self, only_aged: bool, left: &mut usize) -> bool {
        let inner = self.inner();
        let keep = config::current().pool_size.div_ceil(SLOT);
        let may_go = (inner.used_slots.get() + inner.dirty_slots.get()).saturating_sub(keep);
        *left = (*left).min(may_go).min(inner.dirty_slots.get());
        let mut places = inner.leaving.runs.iter();
        let mut slots = 0;
        for segment in self.segments() {
            while slots < *left
                && let Some(place) = places.as_slice().first()
                && let Some((first, count)) = segment.take_dirty(only_aged, *left - slots)
            {
                place.set(Some(Run { segment, first, count }));
                inner.rooms.put(segment);
                slots += count;
                places.next();
            }
        }
        *left -= slots;
        inner.dirty_slots.set(inner.dirty_slots.get() - slots);
        inner.leaving.slots.set(slots);
        slots > 0
    }

    /// Puts the slots back that were taken; dirty ones where the kernel refused their pages.
    fn put_back_what_left(&self, is_clean: &[bool; AT_ONCE]) {
        let inner = self.inner();
        for (place, is_clean) in inner.leaving.runs.iter().zip(is_clean) {
            // Not in the child of a fork, if the pool was given up there.
            let Some(run) = place.take().filter(|run| self.has(run.segment)) else { continue };
            run.segment.give_slots(run.first, run.count);
            inner.rooms.put(run.segment);
            if *is_clean {
                run.segment.mark_clean(run.first, run.count);
                inner.counts.purged.set(inner.counts.purged.get() + (run.count * SLOT) as u64);
            } else {
                inner.dirty_slots.set(inner.dirty_slots.get() + run.count);
            }
        }
        inner.leaving.slots.set(0);
    }

    /// In the child of a `fork`: puts the slots back whose pages another thread was giving to the kernel.
    pub(super) fn take_back_what_leaves(&self) {
        let thread = &self.inner().leaving.thread;
        if thread.get() != 0 && thread.get() != os::thread_token() {
            self.put_back_what_left(&[false; AT_ONCE]);
            thread.set(0);
        }
    }

    /// Purges all that can be. True where anything went back.
    pub(crate) fn purge_all(&self) -> bool {
        os::release_refused();
        let kept = self.inner().kept_bytes.get();
        self.drop_kept_before(u64::MAX);
        self.purge_slots(false, config::current().pool_size, usize::MAX) > 0 || kept > 0
    }

    /// Likewise, with the addresses of segments that nobody uses; gives how many bytes went back, the headers of these among them.
    pub(crate) fn trim(&self) -> usize {
        let purged = &self.inner().counts.purged;
        let before = purged.get();
        self.purge_all();
        let gone = if config::current().pool_size == 0 { self.drop_unused_segments(0) } else { 0 };
        (purged.get() - before) as usize + gone * FIRST_SLOT * SLOT
    }

    /// Likewise, and what the pool was to keep too: for a request that the node has no memory for otherwise.
    pub(crate) fn purge_for_want(&self) -> bool {
        let purged = self.purge_all() | (self.purge_slots(false, 0, usize::MAX) > 0);
        (self.drop_unused_segments(0) > 0) | purged
    }

    /// After more has come into use: gives back of the free memory what is too much for the pool's limit, what the pool was
    /// to keep among it if need be, before what is in use is written to.
    pub(crate) fn heed_limit(&self) {
        let limit = config::current().pool_limit;
        if limit == usize::MAX || self.held() <= limit {
            return;
        }
        self.purge_all();
        if self.held() > limit {
            let keep = arith::align_down(limit.saturating_sub(self.inner().mapped.get()), SLOT);
            self.purge_slots(false, keep, usize::MAX);
        }
    }

    /// Purges free slots, so many at most, and down to so many bytes in use and free that the pool is to keep; gives how many.
    fn purge_slots(&self, only_aged: bool, keep: usize, most: usize) -> usize {
        let inner = self.inner();
        let keep = keep.div_ceil(SLOT);
        let may_go = (inner.used_slots.get() + inner.dirty_slots.get()).saturating_sub(keep);
        let mut left = may_go.min(inner.dirty_slots.get()).min(most);
        let mut purged = 0;
        let mut next = inner.segments.get();
        while let Some(segment) = next.filter(|_| left > 0) {
            let (done, rest) = segment.purge(only_aged, left, |start, count| {
                // SAFETY: free slots of this pool's segment: committed, and nobody's.
                unsafe { os::purge(start, count * SLOT) }
            });
            left = rest;
            purged += done;
            next = segment.header().next.get();
        }
        inner.dirty_slots.set(inner.dirty_slots.get() - purged);
        inner.counts.purged.set(inner.counts.purged.get() + (purged * SLOT) as u64);
        purged
    }

    /// Counts a mapping's bytes as in use, before it is made. False where the pool's limit forbids it.
    pub(crate) fn begin_mapping(&self, bytes: usize) -> bool {
        let inner = self.inner();
        let Some(mapped) = arith::sum([inner.mapped.get(), bytes]) else { return false };
        if !self.has_room_for(bytes) {
            return false;
        }
        inner.mapped.set(mapped);
        self.heed_limit();
        true
    }

    /// Counts the mapping as made.
    pub(crate) fn made_mapping(&self, bytes: usize) {
        self.count_large(bytes);
        self.note_peak();
    }

    /// Counts a mapping's bytes as not in use any more.
    pub(crate) fn end_mapping(&self, bytes: usize) {
        let inner = self.inner();
        // Less may be counted in the child of a `fork`.
        inner.mapped.set(inner.mapped.get().saturating_sub(bytes));
    }

    /// A kept mapping of that part that can serve `size` bytes aligned to `align` without wasting more than a
    /// quarter.
    pub(crate) fn reuse_mapping(&self, size: usize, align: usize, part: Part) -> Option<Mapping> {
        let inner = self.inner();
        let mut previous: Option<Mapping> = None;
        let mut next = inner.kept.get();
        while let Some(mapping) = next {
            let after = mapping.next_kept();
            if mapping.part() == part
                && mapping.length() >= size
                && mapping.length() - size <= size / 4
                && mapping.block().as_ptr().addr().is_multiple_of(align)
            {
                match previous {
                    Some(previous) => previous.set_next_kept(after),
                    None => inner.kept.set(after),
                }
                inner.kept_bytes.set(inner.kept_bytes.get() - mapping.length());
                inner.mapped.set(inner.mapped.get() + mapping.length());
                self.note_peak();
                return Some(mapping);
            }
            previous = Some(mapping);
            next = after;
        }
        None
    }

    /// Takes a mapping out of use and keeps it for reuse, if it is small enough. False where the caller is to drop it.
    pub(crate) fn keep_mapping(&self, mapping: Mapping) -> bool {
        let inner = self.inner();
        let bytes = mapping.length();
        self.end_mapping(bytes);
        let most = waits_most().unwrap_or(KEPT_MOST).min(KEPT_MOST);
        if bytes > most || goes_at_once(bytes) {
            return false;
        }
        if inner.kept_bytes.get() + bytes > most {
            self.drop_kept_before(u64::MAX);
        }
        let now = os::now_ms();
        mapping.set_kept_at(now);
        mapping.set_next_kept(inner.kept.replace(Some(mapping)));
        inner.kept_bytes.set(inner.kept_bytes.get() + bytes);
        self.purge_if_due();
        true
    }

    /// Drops the mappings that were kept at or before that time.
    fn drop_kept_before(&self, time: u64) {
        let inner = self.inner();
        let mut previous: Option<Mapping> = None;
        let mut next = inner.kept.get();
        while let Some(mapping) = next {
            next = mapping.next_kept();
            if mapping.kept_at() > time {
                previous = Some(mapping);
                continue;
            }
            match previous {
                Some(previous) => previous.set_next_kept(next),
                None => inner.kept.set(next),
            }
            inner.kept_bytes.set(inner.kept_bytes.get() - mapping.length());
            inner.counts.purged.set(inner.counts.purged.get() + mapping.length() as u64);
            // SAFETY: it was freed by its user and is on no list any more.
            unsafe { mapping.unmap() };
        }
    }
}
