//! Free slots whose pages go back to the kernel: after the purge delay, and at once when there is too much of them.
//!
//! There is no thread for it. Dirty slots age when somebody takes or gives slots, and when an arena looks at the clock in
//! its slow path; and since an idle process does neither, no more than a bounded amount may wait at all.

use core::cell::Cell;

use super::{ALARM, Locked, Pool, Run, pool};
use crate::arith;
use crate::config;
use crate::os;
use crate::segment::{FIRST_SLOT, SLOT, SegmentPtr};
use crate::sync::{AtomicUsize, Backoff, Ordering};
use crate::topology::NodeIndex;

/// Dirty slots that may wait, as a part of those in use, and the bounds of it, in bytes.
const DIRTY_PART: usize = 4;
const DIRTY_LEAST: usize = 16 << 20;
const DIRTY_MOST: usize = 64 << 20;
/// How many more where what has gone back is missed at once: so many times those in use at most, and no more than so many bytes, or
/// that part of those in use.
const MISSED_TIMES: usize = 4;
const MISSED_MOST: usize = 256 << 20;

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

/// Slots that would have been in memory still, had more been allowed to wait.
pub(super) struct Regret {
    /// Slots whose pages went back as too many and whose like was not wanted since.
    gone: Cell<usize>,
    /// How many more may wait.
    allowed: Cell<usize>,
}

impl Regret {
    pub(super) const fn new() -> Self {
        Regret { gone: Cell::new(0), allowed: Cell::new(0) }
    }

    /// So many slots went back.
    fn note_gone(&self, slots: usize) {
        self.gone.set(self.gone.get() + slots);
    }

    /// So many slots were taken that have no pages.
    #[inline]
    pub(super) fn note_missed(&self, slots: usize) {
        let missed = slots.min(self.gone.get());
        self.gone.set(self.gone.get() - missed);
        self.allowed.set(self.allowed.get() + missed);
    }

    /// Half of it is forgotten as time goes by.
    fn fade(&self) {
        self.gone.set(0);
        self.allowed.set(self.allowed.get() / 2);
    }
}

/// How often a thread that gives pages back looks whether others have found more.
const ROUNDS: usize = 4;

/// Runs of slots whose pages go back at once, before the pool is asked for more.
const AT_ONCE: usize = 16;

/// What is to go back once the pool is not held any more.
#[derive(Clone, Copy, Default)]
pub(super) struct Wanted {
    /// What is more than may wait.
    excess: bool,
    /// All that is aged.
    aged: bool,
    /// All.
    all: bool,
}

/// Which dirty slots.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Excess,
    Aged,
    All,
}

/// Slots whose pages are going back, by one thread at a time and while it does not hold the pool. They are neither free nor
/// anybody's: that thread alone gives them back, and in the child of a `fork`, which does not have it, the child.
pub(super) struct Leaving {
    wanted: Cell<Wanted>,
    /// The token of that thread, or 0.
    thread: Cell<usize>,
    /// Whether that thread is gone: in the child of a `fork` by a thread that held the pool.
    is_gone: Cell<bool>,
    runs: [Cell<Option<Run>>; AT_ONCE],
    slots: Cell<usize>,
}

impl Leaving {
    pub(super) const fn new() -> Self {
        Leaving {
            wanted: Cell::new(Wanted { excess: false, aged: false, all: false }),
            thread: Cell::new(0),
            is_gone: Cell::new(false),
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

    /// Whether another thread does it.
    pub(super) fn is_anothers(&self) -> bool {
        let thread = self.thread.get();
        thread != 0 && thread != os::thread_token() && !self.is_gone.get()
    }

    /// In the child of a `fork`, where the calling thread holds the pool and goes on with it: no other thread is there.
    pub(super) fn note_fork(&self) {
        self.is_gone.set(self.is_gone.get() || self.is_anothers());
    }

    /// How many slots they are.
    pub(super) fn slots(&self) -> usize {
        self.slots.get()
    }

    /// Whether something is to go back, and nobody is at it.
    #[inline]
    fn is_wanted(&self) -> bool {
        let wanted = self.wanted.get();
        (wanted.excess || wanted.aged || wanted.all) && (self.thread.get() == 0 || self.is_gone.get())
    }
}

/// How often somebody waits, at most, for what another thread gives back: that may stand still.
const MOST_WAITS: u32 = 1000;

impl Pool {
    /// Waits while another thread gives pages back: that may be what is wanting. The calling thread holds no pool.
    pub(crate) fn wait_for_purge(&'static self) -> bool {
        let backoff = Backoff::new();
        let mut waits = 0;
        while waits < MOST_WAITS && self.lock().is_purged_by_another() {
            backoff.wait();
            waits += 1;
        }
        waits > 0
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
        if inner.dirty_slots.get() == 0 || waits_for_ever {
            return;
        }
        ALARM.ring();
        let wanted = &inner.leaving.wanted;
        if inner.dirty_slots.get() > self.may_wait() {
            wanted.set(Wanted { excess: true, ..wanted.get() });
        }
        if delay == 0 {
            return;
        }
        if inner.ageing.is_time((delay / 2).max(1)).is_none() {
            return;
        }
        wanted.set(Wanted { aged: true, ..wanted.get() });
        inner.longest_freed.set(0);
        inner.regret.fade();
    }

    /// How many dirty slots may wait.
    fn may_wait(&self) -> usize {
        let inner = self.inner();
        let config = config::current();
        if config.purge_delay_ms == 0 {
            return 0;
        }
        let by_use = || {
            let by_use = (inner.used_slots.get() * SLOT / DIRTY_PART).clamp(DIRTY_LEAST, DIRTY_MOST);
            // Of what was missed as soon as it had gone more may wait; and the longest run whole: a program that frees and takes
            // its like in turn has it in memory.
            let used = inner.used_slots.get() * SLOT;
            let most = used.saturating_mul(MISSED_TIMES).min(MISSED_MOST.max(used / DIRTY_PART));
            let missed = inner.regret.allowed.get().saturating_mul(SLOT).min(most);
            (by_use + missed).max(inner.longest_freed.get() * SLOT)
        };
        waits_most().unwrap_or_else(by_use).saturating_add(config.pool_size) / SLOT
    }

    /// How many of them stay when they are more: most, since what is freed at such a rate is mostly taken again.
    fn stays(&self) -> usize {
        let longest = if waits_most().is_none() { self.inner().longest_freed.get() } else { 0 };
        let kept = config::current().pool_size / SLOT;
        let may_wait = self.may_wait();
        (may_wait.saturating_sub(kept) / 8 * 7).max(longest.min(may_wait)) + kept
    }

    /// Has the pages of what [`purge_if_due`](Self::purge_if_due) found go back, while nobody waits for the pool: a few runs of
    /// slots at a time are taken, their pages are given to the kernel, and they are given back. So is what others find
    /// meanwhile.
    #[cold]
    pub(super) fn purge_apart(&mut self) {
        let own = self.node().get();
        let holds_another = || (0..super::pools()).any(|index| index != own && pool(NodeIndex::new(index)).is_mine());
        // Whoever holds another pool must not wait for this one; the next one sees to it.
        if holds_another() {
            return;
        }
        if self.inner().leaving.is_gone.replace(false) {
            let _ = self.put_back_what_left(&[false; AT_ONCE]);
        }
        self.inner().leaving.thread.set(os::thread_token());
        for _ in 0..ROUNDS {
            let wanted = self.inner().leaving.wanted.take();
            while wanted.all && self.purge_some(Which::All) {}
            while wanted.excess && self.purge_some(Which::Excess) {}
            while wanted.aged && self.purge_some(Which::Aged) {}
            if wanted.aged {
                self.inner().dirty.iter().for_each(SegmentPtr::age);
                // Now that nothing waits in them any more.
                if config::current().pool_size == 0 {
                    let _ = self.drop_unused_segments(1);
                }
            }
        }
        self.inner().leaving.thread.set(0);
    }

    /// Has the pages of some slots go back while the pool is not held. False where there are none, or none could.
    fn purge_some(&mut self, which: Which) -> bool {
        if !self.take_what_leaves(which) {
            return false;
        }
        let runs = &self.inner().leaving.runs;
        let runs: [Option<Run>; AT_ONCE] = core::array::from_fn(|index| runs[index].get());
        self.guard = None;
        // SAFETY: slots that were taken, and are nobody's.
        let is_clean = runs.map(|run| run.is_some_and(|run| unsafe { os::purge(run.start(), run.count * SLOT) }));
        self.guard = Some(self.pool.lock.lock());
        let gone = self.put_back_what_left(&is_clean);
        self.inner().regret.note_gone(if which == Which::Excess { gone } else { 0 });
        gone > 0
    }

    /// Takes some runs of such dirty slots, but none that the pool is to keep. False where there are none.
    fn take_what_leaves(&self, which: Which) -> bool {
        let inner = self.inner();
        let keep = config::current().pool_size.div_ceil(SLOT);
        let may_go = (inner.used_slots.get() + inner.dirty_slots.get()).saturating_sub(keep);
        let stays = if which == Which::Excess { self.stays() } else { 0 };
        let most = may_go.min(inner.dirty_slots.get().saturating_sub(stays));
        let mut places = inner.leaving.runs.iter();
        let mut slots = 0;
        for segment in inner.dirty.iter() {
            while slots < most
                && let Some(place) = places.as_slice().first()
                && let Some((first, count)) = segment.take_dirty(which == Which::Aged, most - slots)
            {
                place.set(Some(Run { segment, first, count }));
                slots += count;
                places.next();
            }
            self.look_whether_dirty(segment);
            if slots >= most || places.as_slice().is_empty() {
                break;
            }
        }
        inner.dirty_slots.set(inner.dirty_slots.get() - slots);
        inner.leaving.slots.set(slots);
        slots > 0
    }

    /// Puts the slots back that were taken; dirty ones where the kernel refused their pages. Gives how many have none any more.
    fn put_back_what_left(&self, is_clean: &[bool; AT_ONCE]) -> usize {
        let inner = self.inner();
        let mut gone = 0;
        for (place, is_clean) in inner.leaving.runs.iter().zip(is_clean) {
            // Not in the child of a fork, if the pool was given up there.
            let Some(run) = place.take().filter(|run| self.has(run.segment)) else { continue };
            self.put_free(run.segment, run.first, run.count, *is_clean);
            gone += if *is_clean { run.count } else { 0 };
        }
        self.count_purged(gone * SLOT);
        inner.leaving.slots.set(0);
        gone
    }

    /// In the child of a `fork`: puts the slots back whose pages another thread was giving to the kernel.
    pub(super) fn take_back_what_leaves(&self) {
        let leaving = &self.inner().leaving;
        if leaving.is_anothers() {
            let _ = self.put_back_what_left(&[false; AT_ONCE]);
            leaving.thread.set(0);
        }
    }

    /// Has all go back that can, when the pool is let go.
    pub(crate) fn purge_all_apart(&self) {
        os::release_refused();
        let _ = self.take_back_at_hand();
        let wanted = &self.inner().leaving.wanted;
        wanted.set(Wanted { all: true, ..wanted.get() });
    }

    /// Purges all that can be at once. True where anything went back.
    fn purge_all(&self) -> bool {
        os::release_refused();
        let _ = self.take_back_at_hand();
        self.purge_slots(config::current().pool_size) > 0
    }

    /// Gives the addresses of segments back that nobody uses. Gives how many bytes their headers had, which may be in memory.
    pub(crate) fn drop_all_unused(&self) -> usize {
        if config::current().pool_size > 0 { 0 } else { self.drop_unused_segments(0) * FIRST_SLOT * SLOT }
    }

    /// Likewise, and what the pool was to keep too: for a request that the node has no memory for otherwise.
    pub(crate) fn purge_for_want(&self) -> bool {
        let purged = self.purge_all() | (self.purge_slots(0) > 0);
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
            self.purge_slots(keep);
        }
    }

    /// Purges free slots, down to so many bytes in use and free that the pool is to keep; gives how many.
    fn purge_slots(&self, keep: usize) -> usize {
        let inner = self.inner();
        let may_go = (inner.used_slots.get() + inner.dirty_slots.get()).saturating_sub(keep.div_ceil(SLOT));
        let mut left = may_go.min(inner.dirty_slots.get());
        let mut purged = 0;
        for segment in inner.dirty.iter() {
            if left == 0 {
                break;
            }
            let (done, rest) = segment.purge(left, |start, count| {
                // SAFETY: free slots of this pool's segment: committed, and nobody's.
                unsafe { os::purge(start, count * SLOT) }
            });
            left = rest;
            purged += done;
            self.look_whether_dirty(segment);
        }
        inner.dirty_slots.set(inner.dirty_slots.get() - purged);
        self.count_purged(purged * SLOT);
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

    /// Takes a segment off the list of those with dirty slots, if it has none.
    fn look_whether_dirty(&self, segment: SegmentPtr) {
        if segment.used_free_slots() == 0 {
            self.inner().dirty.remove(segment);
            segment.measure();
        }
        self.put_by_rows(segment);
    }
}

#[cfg(all(test, not(homing_loom)))]
mod tests {
    use super::*;
    use crate::node::spread;
    use crate::segment::Use;

    /// The pool, 4 slots of which another thread is giving back, which stands where it does so without the lock.
    fn with_slots_on_their_way() -> &'static Pool {
        // Nothing here is spread.
        let unused = pool(spread());
        let other = std::thread::spawn(move || {
            let pool = unused.lock();
            let slots = pool.take_slots(Use::Small, 4, 1).expect("there is memory for it");
            pool.give_slots(slots.segment, slots.first, 4);
            pool.inner().dirty.iter().for_each(SegmentPtr::age);
            pool.inner().leaving.thread.set(os::thread_token());
            assert!(pool.take_what_leaves(Which::Aged));
            assert_eq!((pool.inner().dirty_slots.get(), pool.inner().leaving.slots()), (0, 4));
        });
        other.join().unwrap();
        unused
    }

    #[test]
    fn slots_whose_pages_another_thread_was_giving_back_when_the_process_forked_are_free_in_the_child() {
        let unused = with_slots_on_their_way();
        unused.after_fork_in_child();
        let pool = unused.lock();
        assert_eq!((pool.inner().dirty_slots.get(), pool.inner().leaving.slots()), (4, 0));
        assert_eq!(pool.inner().leaving.thread.get(), 0, "else nothing would ever go back again");
        assert!(!pool.is_purging());
        drop(pool);

        // Likewise where a signal handler forks on top of a thread that holds the pool.
        let unused = with_slots_on_their_way();
        let mut pool = unused.lock();
        assert!(pool.is_purged_by_another());
        unused.after_fork_in_child();
        assert!(!pool.is_purged_by_another(), "else whoever finds nothing would wait for it");
        pool.inner().leaving.wanted.set(Wanted { all: true, ..Wanted::default() });
        assert!(pool.inner().leaving.is_wanted(), "else nothing would ever go back again");
        pool.purge_apart();
        assert_eq!((pool.inner().dirty_slots.get(), pool.inner().leaving.slots()), (0, 0));
        assert_eq!(pool.take_slots(Use::Small, 4, 1).expect("they are free").used_before, 0);
    }
}
