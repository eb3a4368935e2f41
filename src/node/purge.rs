//! Memory that goes back to the kernel: free slots after the purge delay, large mappings that were kept, and all of it
//! when there is too much.
//!
//! There is no thread for it. Dirty slots age when somebody takes or gives slots, and when an arena looks at the clock in
//! its slow path; and since an idle process does neither, no more than a bounded amount may wait at all.

use super::Locked;
use crate::address_map::Part;
use crate::arith;
use crate::config;
use crate::large::Mapping;
use crate::os;
use crate::segment::SLOT;
use crate::sync::{AtomicUsize, Ordering};

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

impl Locked {
    /// Purges what has waited long enough, or is too much.
    pub(crate) fn purge_if_due(&self) {
        let delay = config::current().purge_delay_ms;
        let inner = self.inner();
        let said = waits_most();
        let waits_for_ever = said.map_or(delay == u64::MAX, |most| most == usize::MAX - 1);
        if inner.dirty_slots.get() == 0 && inner.kept.get().is_none() || waits_for_ever {
            return;
        }
        if delay == 0 {
            self.purge_all();
            return;
        }
        let by_use = || (inner.used_slots.get() * SLOT / DIRTY_PART).clamp(DIRTY_LEAST, DIRTY_MOST);
        let most = said.unwrap_or_else(by_use);
        if inner.dirty_slots.get() * SLOT > most.saturating_add(config::current().pool_size) {
            self.purge_slots(false, config::current().pool_size);
        }
        let Some(now) = inner.ageing.is_time((delay / 2).max(1)) else { return };
        self.purge_slots(true, config::current().pool_size);
        if config::current().pool_size == 0 {
            let _ = self.drop_unused_segments(1);
        }
        let mut next = inner.segments.get();
        while let Some(segment) = next {
            segment.age();
            next = segment.header().next.get();
        }
        self.drop_kept_before(now.saturating_sub(delay));
    }

    /// Purges all that can be. True where anything went back.
    pub(crate) fn purge_all(&self) -> bool {
        os::release_refused();
        let kept = self.inner().kept_bytes.get();
        self.drop_kept_before(u64::MAX);
        self.purge_slots(false, config::current().pool_size) > 0 || kept > 0
    }

    /// Likewise, with the addresses of segments that nobody uses.
    pub(crate) fn trim(&self) -> bool {
        let purged = self.purge_all();
        (config::current().pool_size == 0 && self.drop_unused_segments(0)) | purged
    }

    /// Likewise, and what the pool was to keep too: for a request that the node has no memory for otherwise.
    pub(crate) fn purge_for_want(&self) -> bool {
        let purged = self.purge_all() | (self.purge_slots(false, 0) > 0);
        self.drop_unused_segments(0) | purged
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
            self.purge_slots(false, arith::align_down(limit.saturating_sub(self.inner().mapped.get()), SLOT));
        }
    }

    /// Purges free slots, down to so many bytes in use and free that the pool is to keep; gives how many.
    fn purge_slots(&self, only_aged: bool, keep: usize) -> usize {
        let inner = self.inner();
        let keep = keep.div_ceil(SLOT);
        let may_go = (inner.used_slots.get() + inner.dirty_slots.get()).saturating_sub(keep);
        let mut left = may_go.min(inner.dirty_slots.get());
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
