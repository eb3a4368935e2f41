//! Blocks that are not in slabs: runs of slots (to 2 MiB, aligned to at most 1 MiB), and mappings of their own.

use core::cell::Cell;
use core::ptr::NonNull;

use super::enter::{self, Held, HeldPool};
use super::{Arena, Handed, emergency, tls};
use crate::address_map::Part;
use crate::arith::align_up;
use crate::config::{self, Config, Zero};
use crate::hardened;
use crate::large::Mapping;
use crate::node::{self, Locked, Slots};
use crate::os::{self, Moved};
use crate::segment::{OwnerWord, SLOT, SegmentPtr, SlotIndex};
use crate::sync::{AtomicU32, Backoff, Ordering, Seen};
use crate::topology::NodeIndex;

/// The largest run, and the farthest alignment of one, in bytes: hardened, what always fits between two guards.
const MAX_RUN: usize = if hardened::ON { (hardened::GUARD_EVERY - 1) * SLOT } else { 2 << 20 };
const MAX_RUN_ALIGN: usize = if hardened::ON { SLOT } else { 1 << 20 };

/// How often a request waits, at most, for what another thread gives back: that may stand still.
const MOST_WAITS: u32 = 1000;

/// Runs that a thread has freed and keeps at hand, and how many slots they may have together.
const KEPT_RUNS: usize = 4;
const KEPT_SLOTS: usize = MAX_RUN / SLOT;

/// A run that was freed: its first owner word says `FREE`, those of its interior are as they were.
#[derive(Clone, Copy)]
struct KeptRun {
    segment: SegmentPtr,
    first: SlotIndex,
    slots: u16,
}

/// A few runs that were freed lately: whoever frees and allocates large blocks in turn needs no lock for it. They count
/// as in use, and go back to the node's pool when the arena is looked after or given up.
pub(super) struct AtHand {
    places: [Cell<Option<KeptRun>>; KEPT_RUNS],
    /// Slots of all of them.
    slots: Cell<usize>,
    /// The place whose run goes next when one has to.
    next: Cell<usize>,
    /// A mapping that was freed lately: its owner word says `FREE`.
    mapping: Cell<Option<Mapping>>,
    /// Its bytes, or 0.
    mapping_bytes: Seen<usize>,
    /// Whether this arena is one of the few that may keep a mapping.
    may_keep_mapping: Cell<bool>,
}

/// The largest mapping that an arena keeps, in bytes, and how many arenas may keep one: an idle process holds on to no
/// more than their product for it.
const KEPT_MAPPING: usize = 4 << 20;
const KEEPERS: u32 = 4;

/// How many arenas may keep a mapping now.
static KEEPING: AtomicU32 = AtomicU32::new(0);

/// In the child of a `fork`: the other arenas keep nothing any more.
pub(super) fn after_fork_in_child() {
    KEEPING.store(u32::from(tls::get().at_hand.may_keep_mapping.get()), Ordering::Relaxed);
}

impl AtHand {
    pub(super) const fn new() -> Self {
        AtHand {
            places: [const { Cell::new(None) }; KEPT_RUNS],
            slots: Cell::new(0),
            next: Cell::new(0),
            mapping: Cell::new(None),
            mapping_bytes: Seen::new(0),
            may_keep_mapping: Cell::new(false),
        }
    }

    /// Takes a run of just so many slots that begins at a multiple of `align` slots.
    #[inline]
    fn take(&self, slots: usize, align: usize) -> Option<KeptRun> {
        let fits = |run: &KeptRun| usize::from(run.slots) == slots && run.first.get().is_multiple_of(align);
        let run = self.places.iter().find(|place| place.get().as_ref().is_some_and(fits))?.take();
        self.slots.set(self.slots.get() - slots);
        run
    }

    /// Keeps a run; gives those that have to go for it to `give_back`.
    #[inline]
    fn keep(&self, run: KeptRun, mut give_back: impl FnMut(KeptRun)) {
        self.slots.set(self.slots.get() + usize::from(run.slots));
        let mut run = Some(run);
        if let Some(empty) = self.places.iter().find(|place| place.get().is_none()) {
            empty.set(run.take());
        }
        while self.slots.get() > KEPT_SLOTS || run.is_some() {
            let oldest = self.next.get() % KEPT_RUNS;
            self.next.set(oldest + 1);
            let place = &self.places[oldest];
            if let Some(old) = place.replace(run.take()) {
                self.slots.set(self.slots.get() - usize::from(old.slots));
                give_back(old);
            }
        }
    }

    /// Takes the mapping that is kept, if it is of that part and can serve so many bytes without wasting more than a
    /// quarter.
    #[inline]
    fn take_mapping(&self, length: usize, align: usize, part: Part) -> Option<Mapping> {
        let fits = |mapping: &Mapping| {
            let kept = mapping.length();
            kept >= length
                && kept - length <= length / 4
                && mapping.part() == part
                && mapping.block().as_ptr().addr().is_multiple_of(align)
        };
        if self.mapping.get().as_ref().is_some_and(fits) { self.put_mapping(None) } else { None }
    }

    /// Keeps a mapping, if this arena may and keeps none; false where it does not.
    #[inline]
    fn keep_mapping(&self, mapping: Mapping) -> bool {
        if mapping.length() > KEPT_MAPPING || self.mapping.get().is_some() || !self.obtain_keeping() {
            return false;
        }
        self.put_mapping(Some(mapping));
        true
    }

    fn obtain_keeping(&self) -> bool {
        if !self.may_keep_mapping.get() {
            let add = |keeping: u32| (keeping < KEEPERS).then_some(keeping + 1);
            let added = KEEPING.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
            self.may_keep_mapping.set(added.is_ok());
        }
        self.may_keep_mapping.get()
    }

    /// Takes the mapping that is kept, and leaves it to other arenas to keep one.
    fn drain_mapping(&self) -> Option<Mapping> {
        if self.may_keep_mapping.replace(false) {
            KEEPING.fetch_sub(1, Ordering::Relaxed);
        }
        self.put_mapping(None)
    }

    /// Puts another mapping in the place of what is kept, which is given.
    #[inline]
    fn put_mapping(&self, mapping: Option<Mapping>) -> Option<Mapping> {
        self.mapping_bytes.set(mapping.as_ref().map_or(0, Mapping::length));
        self.mapping.replace(mapping)
    }

    /// Bytes of the mapping that is kept, for a thread that may not hold the arena.
    pub(crate) fn mapping_bytes(&self) -> usize {
        self.mapping_bytes.get()
    }

    fn is_empty(&self) -> bool {
        self.slots.get() == 0 && self.mapping.get().is_none()
    }

    /// Takes all runs.
    fn drain(&self, mut give_back: impl FnMut(KeptRun)) {
        self.slots.set(0);
        self.places.iter().filter_map(Cell::take).for_each(&mut give_back);
    }
}

/// Gives a kept run's slots back to their node's pool.
fn give_back_run(run: KeptRun, pool: Option<&Locked>) {
    let slots = usize::from(run.slots);
    for slot in 1..slots {
        run.segment.set_owner(run.first.plus(slot), OwnerWord::FREE);
    }
    let give = |pool: &Locked| match node::goes_at_once(slots * SLOT) {
        true => pool.give_slots_and_pages(run.segment, run.first, slots),
        false => pool.give_slots(run.segment, run.first, slots),
    };
    match pool {
        Some(pool) => give(pool),
        None => give(&node::pool(run.segment.node()).lock()),
    }
}

impl Arena {
    /// Gives what is kept at hand back to its node: the arena's, whose pool may be held.
    pub(super) fn give_back_kept(&self, pool: Option<&Locked>) {
        if let Some(mapping) = self.at_hand.drain_mapping() {
            let kept = match (pool, mapping.node()) {
                (Some(pool), _) => pool.keep_mapping(mapping),
                (None, Some(node)) => node::pool(node).lock().keep_mapping(mapping),
                (None, None) => false,
            };
            if !kept {
                // SAFETY: its user has freed it, and it is on no list.
                unsafe { mapping.unmap() };
            }
        }
        self.at_hand.drain(|run| give_back_run(run, pool));
    }

    /// A block of `size` bytes that no slab can serve, aligned to `align`. `None` where there is no memory for it.
    pub(crate) fn allocate_large(&self, size: usize, align: usize, want_zero: bool) -> Option<Handed> {
        self.allocate_run_or_mapping(size, align, want_zero, false, self.part_for_large())
    }

    /// Where a mapping is to lie: as the settings say of large blocks, but for a request that names the arena's node.
    fn part_for_large(&self) -> Part {
        if self.stays_home.get() { node::part_of(self.node()) } else { node::part_for_large(self.node()) }
    }

    /// The same for a block that has grown so far, and may well grow on: at a place where there is room for that.
    pub(crate) fn allocate_growing(&self, size: usize, align: usize) -> Option<Handed> {
        self.allocate_run_or_mapping(size, align, false, true, node::part_for_large(self.node()))
    }

    /// For the debug mode: a mapping, however few bytes are wanted.
    pub(crate) fn allocate_watched_mapping(&self, size: usize, align: usize) -> Option<Handed> {
        free_deferred();
        let part = self.part_for_large();
        if node::any_is_mine() {
            return None;
        }
        self.look_after();
        self.collect_inbox(None);
        self.allocate_mapping(size, align, false, part)
    }

    fn allocate_run_or_mapping(
        &self,
        size: usize,
        align: usize,
        want_zero: bool,
        grows: bool,
        part: Part,
    ) -> Option<Handed> {
        free_deferred();
        if node::any_is_mine() {
            let block = NonNull::new(emergency::allocate(size, align))?;
            return Some(Handed { block, is_zero: true });
        }
        // A thread that allocates only large blocks comes to no refill.
        self.look_after();
        self.collect_inbox(None);
        let want_zero = want_zero || config::current().zero != Zero::Off;
        if is_run(size, align) {
            let slots = size.max(1).div_ceil(SLOT);
            let align = align.div_ceil(SLOT);
            let at_hand = if grows {
                // So that the block can grow over what it or its like had before, which is in the cache.
                self.at_hand.drain(|run| give_back_run(run, None));
                None
            } else {
                self.at_hand.take(slots, align)
            };
            if let Some(run) = at_hand {
                self.count_reused(slots * SLOT);
                run.segment.set_owner(run.first, OwnerWord::run(slots));
                let block = run.segment.slot_start(run.first);
                if want_zero {
                    clear_pages(block, if config::current().zero == Zero::Off { size } else { slots * SLOT });
                }
                return Some(Handed { block, is_zero: want_zero });
            }
            let take = |pool: &Locked| {
                let taken = match grows {
                    true => pool.take_slots_with_room(slots, align, MAX_RUN / SLOT)?,
                    false => pool.take_slots(slots, align)?,
                };
                pool.count_large(slots * SLOT);
                Some(taken)
            };
            let taken = self.in_pool_or_nearest(take, take)?;
            return Some(hand_out_run(taken, slots, size, want_zero));
        }
        self.allocate_mapping(size, align, want_zero, part)
    }

    /// What `serve` gives for the pool of this arena's node; if it gives nothing, once more with what is kept at hand
    /// given back; and then for the nearest other node. Once no other may serve, what `last` gives for its own, where this
    /// arena and the idle ones have given up the slabs without a block in use.
    pub(super) fn in_pool_or_nearest<R>(
        &self,
        mut serve: impl FnMut(&Locked) -> Option<R>,
        last: impl FnOnce(&Locked) -> Option<R>,
    ) -> Option<R> {
        // Each time by a statement of its own: the lock is let go at its end.
        let pool = node::pool(self.node());
        let mut served = serve(&pool.lock());
        if served.is_none() && (!self.at_hand.is_empty() || self.has_received()) {
            self.give_back_kept(None);
            self.collect_whole_inbox(None);
            served = serve(&pool.lock());
        }
        // What another thread gives back just now may be what is wanting.
        let backoff = Backoff::new();
        for _ in 0..MOST_WAITS {
            if served.is_some() || !pool.lock().is_purged_by_another() {
                break;
            }
            backoff.wait();
            served = serve(&pool.lock());
        }
        let may_leave = !self.stays_home.get() && enter::others_may_serve();
        if served.is_none() && may_leave {
            served = enter::in_nearest_with_room(self.node(), serve);
        }
        if served.is_none() {
            let pool = pool.lock();
            self.give_up_unused(Some(&pool));
            super::give_up_unused_of_idle(&pool);
            served = last(&pool);
        }
        if served.is_some() || may_leave || self.stays_home.get() { served } else { enter::end_if_full() }
    }

    fn count_reused(&self, bytes: usize) {
        self.reused_runs.add(1);
        self.reused_bytes.add(bytes as u64);
    }

    fn allocate_mapping(&self, size: usize, align: usize, want_zero: bool, part: Part) -> Option<Handed> {
        let length = align_up(size.max(1), os::page_size())?;
        if let Some(kept) = self.at_hand.take_mapping(length, align, part) {
            self.count_reused(kept.length());
            return hand_out_kept(kept, size, want_zero);
        }
        // Where another pool serves, its memory is meant.
        let is_home = |part| matches!(part, Part::Node(node) if node != node::spread());
        let part_in = |node| if is_home(part) { node::part_of(node) } else { part };
        let begin = |pool: &Locked| {
            let part = part_in(pool.node());
            if let Some(kept) = pool.reuse_mapping(length, align, part) {
                pool.count_large(kept.length());
                return Some((pool.node(), Some(kept)));
            }
            pool.begin_mapping(length).then(|| (pool.node(), None))
        };
        let (node, kept) = self.in_pool_or_nearest(begin, begin)?;
        if let Some(kept) = kept {
            return hand_out_kept(kept, size, want_zero);
        }
        let part = part_in(node);
        let pool = node::pool(node);
        let map = || Mapping::map(length, align, part, Some(node));
        let mapped = map().or_else(|| if pool.lock().purge_for_want() { map() } else { None });
        let Some(mapping) = mapped else {
            pool.lock().end_mapping(length);
            return None;
        };
        node::bind_range(&mapping.range());
        let pool = pool.lock();
        let provide = || part == Part::Unbound || pool.provide(mapping.block(), length);
        let provided = provide() || pool.purge_for_want() && provide();
        if !provided {
            pool.end_mapping(length);
            drop(pool);
            // SAFETY: nobody was given it.
            unsafe { mapping.unmap() };
            return None;
        }
        pool.made_mapping(length);
        Some(Handed { block: mapping.block(), is_zero: true })
    }
}

/// Whether a block that no slab can serve is a run.
pub(crate) fn is_run(size: usize, align: usize) -> bool {
    size <= MAX_RUN && align <= MAX_RUN_ALIGN
}

fn hand_out_kept(kept: Mapping, size: usize, want_zero: bool) -> Option<Handed> {
    kept.use_again();
    let is_zero = node::settle(kept.part(), kept.block(), kept.length());
    if is_zero
        && let (Part::Node(_), Some(node)) = (kept.part(), kept.node())
        && !node::pool(node).lock().provide(kept.block(), kept.length())
    {
        node::pool(node).lock().end_mapping(kept.length());
        // SAFETY: nobody was given it.
        unsafe { kept.unmap() };
        return None;
    }
    if want_zero && !is_zero {
        clear_pages(kept.block(), if config::current().zero == Zero::Off { size } else { kept.length() });
    }
    Some(Handed { block: kept.block(), is_zero: is_zero || want_zero })
}

/// Clears the block's first `size` bytes.
fn clear_pages(block: NonNull<u8>, size: usize) {
    // SAFETY: callers pass a block of at least `size` bytes that nobody uses yet.
    unsafe { block.write_bytes(0, size) };
}

fn hand_out_run(taken: Slots, slots: usize, size: usize, want_zero: bool) -> Handed {
    let is_zero = taken.used_before == 0;
    own_run(taken.segment, taken.first, slots);
    if want_zero && !is_zero {
        clear_pages(taken.start(), if config::current().zero == Zero::Off { size } else { slots * SLOT });
    }
    Handed { block: taken.start(), is_zero: is_zero || want_zero }
}

fn own_run(segment: SegmentPtr, first: SlotIndex, slots: usize) {
    for slot in 1..slots {
        segment.set_owner(first.plus(slot), OwnerWord::RUN_INTERIOR);
    }
    segment.set_owner(first, OwnerWord::run(slots));
}

/// Takes back a run of so many slots. Its owner word says `FREE` already.
pub(crate) fn free_run(segment: SegmentPtr, block: NonNull<u8>, slots: usize) {
    // Whoever holds the node's pool may wait, on top of it, for one that this thread holds.
    if node::any_is_mine() {
        return emergency::defer(block, Some(OwnerWord::run(slots)));
    }
    if config::current().zero == Zero::Free {
        clear_pages(block, slots * SLOT);
    }
    let run = KeptRun { segment, first: SlotIndex::of(block.as_ptr() as usize), slots: slots as u16 };
    let held = if super::is_attached() { enter::enter(&Config::new()).ok() } else { None };
    match held {
        Some(held) if held.node() == segment.node() && !node::goes_at_once(slots * SLOT) => {
            held.at_hand.keep(run, |old| give_back_run(old, None));
        }
        _ => give_back_run(run, None),
    }
}

/// Takes back a mapping. Its owner word, if it has one, says `FREE` already.
pub(crate) fn free_mapping(mapping: Mapping) {
    let length = mapping.length();
    let kept = match mapping.node() {
        None => false,
        Some(_) if node::any_is_mine() => {
            return emergency::defer(mapping.block(), (!mapping.is_far_aligned()).then_some(OwnerWord::MAPPING));
        }
        Some(node) => {
            let pool = node::pool(node);
            if mapping.is_far_aligned() {
                HeldPool::of(pool).end_mapping(length);
                false
            } else {
                // What is not kept is gone anyway.
                if config::current().zero == Zero::Free && length <= node::KEPT_MOST {
                    clear_pages(mapping.block(), length);
                }
                keep_at_hand(mapping, node) || HeldPool::of(pool).keep_mapping(mapping)
            }
        }
    };
    if !kept {
        // SAFETY: its user has freed it, and it is on no list.
        unsafe { mapping.unmap() };
    }
}

/// Keeps a mapping in the calling thread's arena, if that is of its node; false where it does not.
fn keep_at_hand(mapping: Mapping, node: NodeIndex) -> bool {
    if !super::is_attached() || node::goes_at_once(mapping.length()) {
        return false;
    }
    enter::enter(&Config::new()).is_ok_and(|held| held.node() == node && held.at_hand.keep_mapping(mapping))
}

/// Frees what could not be freed when it was.
fn free_deferred() {
    emergency::take_deferred(crate::heap::free_deferred);
}

/// Makes a run longer or shorter without moving it. False where the slots after it are taken.
pub(crate) fn resize_run(segment: SegmentPtr, block: NonNull<u8>, old: usize, new_size: usize) -> bool {
    let first = SlotIndex::of(block.as_ptr() as usize);
    let new = new_size.div_ceil(SLOT);
    let pool = node::pool(segment.node());
    if new == old {
        return true;
    }
    if new_size > MAX_RUN || node::any_is_mine() || new == 0 {
        return false;
    }
    if new < old && config::current().zero == Zero::Free {
        // SAFETY: the run's last slots, which its user gives up.
        clear_pages(unsafe { block.add(new * SLOT) }, (old - new) * SLOT);
    }
    let pool = HeldPool::of(pool);
    if new < old {
        for slot in new..old {
            segment.set_owner(first.plus(slot), OwnerWord::FREE);
        }
        segment.set_owner(first, OwnerWord::run(new));
        pool.give_slots(segment, first.plus(new), old - new);
        return true;
    }
    if first.get() + new > crate::segment::SLOTS {
        return false;
    }
    let Some(added) = pool.extend_run(segment, first.plus(old), new - old) else { return false };
    if added.used_before > 0 && config::current().zero != Zero::Off {
        clear_pages(added.start(), (new - old) * SLOT);
    }
    own_run(segment, first, new);
    true
}

/// Makes a mapping longer or shorter without moving it. False where that cannot be.
pub(crate) fn resize_mapping(mapping: Mapping, new_size: usize) -> bool {
    let Some(node) = mapping.node() else { return new_size <= mapping.length() };
    let pool = node::pool(node);
    if node::any_is_mine() {
        return new_size <= mapping.length();
    }
    let old = mapping.length();
    if new_size <= old {
        mapping.shrink(new_size);
        HeldPool::of(pool).end_mapping(old - mapping.length());
        return true;
    }
    let Some(length) = align_up(new_size, os::page_size()) else { return false };
    if !HeldPool::of(pool).begin_mapping(length - old) {
        return false;
    }
    if !mapping.grow(new_size) {
        HeldPool::of(pool).end_mapping(length - old);
        return false;
    }
    let pool = HeldPool::of(pool);
    // SAFETY: the block is `length` bytes long now.
    let added = unsafe { mapping.block().add(old) };
    if mapping.part() != Part::Unbound && !pool.provide(added, length - old) {
        mapping.shrink(old);
        // Not all of it, where the kernel does not take pages back.
        pool.end_mapping(length - mapping.length());
        return false;
    }
    pool.note_peak();
    true
}

/// Moves a mapping's pages to a new one of `new_size` bytes. `None` where that cannot be; the old one is intact then.
pub(crate) fn move_mapping(mapping: &Mapping, new_size: usize, align: usize) -> Option<NonNull<u8>> {
    let held: Held = enter::enter(&Config::new()).ok()?;
    let handed = held.allocate_mapping(new_size, align, config::current().zero != Zero::Off, mapping.part())?;
    // SAFETY: a mapping that was just made, not aligned to a granule or more.
    let new = unsafe { Mapping::of(handed.block.as_ptr() as usize) };
    match new.move_from(mapping, mapping.length()) {
        Moved::Yes => {}
        // SAFETY: both are at least as long as the old one, and apart.
        Moved::No => unsafe {
            handed.block.copy_from_nonoverlapping(mapping.block(), mapping.length().min(new_size));
        },
        refused @ (Moved::PlaceEmptied | Moved::PlaceLost) => {
            if let Some(node) = new.node() {
                node::pool(node).lock().end_mapping(new.length());
            }
            let lost = if refused == Moved::PlaceLost { mapping.length() } else { 0 };
            // SAFETY: nobody was given it. Its header, before the block, is as it was.
            unsafe { new.unmap_around(lost) };
            return None;
        }
    }
    Some(handed.block)
}
