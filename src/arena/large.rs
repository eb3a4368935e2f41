//! Blocks that are not in slabs: runs of slots (to 28 MiB, aligned to at most 1 MiB), and mappings of their own.

use core::ptr::NonNull;

use super::enter::{self, Held, HeldPool};
use super::{Arena, Handed, emergency, tls};
use crate::address_map::{GRANULE, Part};
use crate::arith::align_up;
use crate::background;
use crate::config::{self, Config, Zero};
use crate::hardened;
use crate::large::Mapping;
use crate::node::{self, Locked, Run, Slots};
use crate::os::{self, Moved};
use crate::segment::{FIRST_SLOT, Owner, OwnerWord, SLOT, SLOTS, SegmentPtr, SlotIndex, Use};

/// The largest run among slabs, and the farthest alignment of any, in bytes: hardened, what always fits between two guards.
const MAX_SMALL_RUN: usize = if hardened::ON { (hardened::GUARD_EVERY - 1) * SLOT } else { 2 << 20 };
const MAX_RUN_ALIGN: usize = if hardened::ON { SLOT } else { 1 << 20 };
/// The largest run, in bytes, in segments for such: seven eighths of one.
const MAX_RUN: usize = if hardened::ON { MAX_SMALL_RUN } else { SLOTS / 8 * 7 * SLOT };

/// A block of so many bytes and more is moved by its pages where it outgrows its place: what is shorter is copied faster than
/// the kernel is asked, and each move can cost the kernel two mappings.
const MOVED_BY_PAGES: usize = 4 << 20;

/// What the slots are for that a run of so many bytes takes.
fn used_for(size: usize, part: Part) -> Use {
    match part {
        _ if size <= MAX_SMALL_RUN => Use::Small,
        Part::Node(_) => Use::Bound,
        Part::FirstTouch(_) => Use::FirstTouch,
    }
}

/// The longest run in slots for such.
fn longest_run(used_for: Use) -> usize {
    if used_for == Use::Small { MAX_SMALL_RUN } else { MAX_RUN }
}

impl Arena {
    /// A block of `size` bytes that no slab can serve, aligned to `align`. `None` where there is no memory for it.
    pub(crate) fn allocate_large(&self, size: usize, align: usize, want_zero: bool) -> Option<Handed> {
        self.allocate_run_or_mapping(size, align, want_zero, false)
    }

    /// The same for a block that has grown so far, and may well grow on: at a place where there is room for that.
    pub(crate) fn allocate_growing(&self, size: usize, align: usize) -> Option<Handed> {
        self.allocate_run_or_mapping(size, align, false, true)
    }

    /// Where what is no run among slabs is to lie: as the settings say of large blocks, but for a request that names the
    /// arena's node.
    fn part_for_large(&self) -> Part {
        if self.stays_home.get() { node::part_of(self.node()) } else { node::part_for_large(self.node()) }
    }

    /// For the debug mode: a mapping, however few bytes are wanted.
    pub(crate) fn allocate_watched_mapping(&self, size: usize, align: usize) -> Option<Handed> {
        free_deferred();
        if node::any_is_mine() {
            return None;
        }
        self.look_after();
        self.collect_inbox(None);
        self.allocate_mapping(size, align, self.part_for_large())
    }

    fn allocate_run_or_mapping(&self, size: usize, align: usize, want_zero: bool, grows: bool) -> Option<Handed> {
        free_deferred();
        if node::any_is_mine() {
            let block = NonNull::new(emergency::allocate(size, align))?;
            return Some(Handed { block, is_zero: true });
        }
        // A thread that allocates only large blocks comes to no refill.
        self.look_after();
        self.collect_inbox(None);
        let part = self.part_for_large();
        // What is spread over the nodes is in no node's segments.
        let is_elsewhere = size > MAX_SMALL_RUN && part == Part::Node(node::spread()) && self.node() != node::spread();
        if !is_run(size, align) || is_elsewhere {
            return self.allocate_mapping(size, align, part);
        }
        let want_zero = want_zero || config::current().zero != Zero::Off;
        let (slots, align) = (size.max(1).div_ceil(SLOT), align.div_ceil(SLOT));
        let used_for = used_for(size, part);
        if !grows && let Some(run) = node::pool(self.node()).take_at_hand(used_for, self.address(), slots, align) {
            self.reused_runs.add(1);
            self.reused_bytes.add((slots * SLOT) as u64);
            return hand_out_run(Slots { run, used_before: slots }, size, want_zero);
        }
        let take = |pool: &Locked| {
            // What is at hand is of another length, and may serve as a part; or a block can grow over what its like had before.
            if grows || used_for != Use::Small {
                pool.take_back_near(used_for, self.address());
            }
            let taken = match grows {
                true => {
                    let room = (2 * slots).max(MAX_SMALL_RUN / SLOT).min(longest_run(used_for) / SLOT);
                    pool.take_slots_with_room(used_for, slots, align, room)?
                }
                false => pool.take_slots(used_for, slots, align)?,
            };
            pool.count_large(slots * SLOT);
            Some(taken)
        };
        let taken = self.in_pool_or_nearest(take, take)?;
        own_interior(taken.segment, taken.first, slots);
        hand_out_run(taken, size, want_zero)
    }

    /// What `serve` gives for the pool of this arena's node; if it gives nothing, for the nearest other node. Once no other may
    /// serve, what `last` gives for its own, where this arena and the idle ones have given up the slabs without a block in use.
    pub(super) fn in_pool_or_nearest<R>(
        &self,
        mut serve: impl FnMut(&Locked) -> Option<R>,
        last: impl FnOnce(&Locked) -> Option<R>,
    ) -> Option<R> {
        background::begin_if_wanted();
        // Each time by a statement of its own: the lock is let go at its end.
        let pool = node::pool(self.node());
        let mut served = serve(&pool.lock());
        if served.is_none() && self.has_received() {
            self.collect_whole_inbox(None);
            served = serve(&pool.lock());
        }
        // What another thread gives back just now may be what is wanting.
        if served.is_none() && pool.wait_for_purge() {
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

    fn allocate_mapping(&self, size: usize, align: usize, part: Part) -> Option<Handed> {
        let length = align_up(size.max(1), os::page_size())?;
        let begin = |pool: &Locked| pool.begin_mapping(length).then(|| pool.node());
        let node = self.in_pool_or_nearest(begin, begin)?;
        // Where another pool serves, its memory is meant.
        let part = match part {
            Part::Node(spread) if spread == node::spread() => part,
            Part::Node(_) => node::part_of(node),
            Part::FirstTouch(_) => Part::FirstTouch(node),
        };
        let pool = node::pool(node);
        let map = || Mapping::map(length, align, part, Some(node));
        let mapped = map().or_else(|| if pool.lock().purge_for_want() { map() } else { None });
        let Some(mapping) = mapped else {
            pool.lock().end_mapping(length);
            return None;
        };
        node::bind_range(&mapping.range());
        let pool = pool.lock();
        let provide = || part == Part::FirstTouch(node) || pool.provide(mapping.block(), length);
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

/// Whether a block that no slab can serve is a run: an empty segment has room for it where its alignment wants it.
pub(crate) fn is_run(size: usize, align: usize) -> bool {
    size <= MAX_RUN && align <= MAX_RUN_ALIGN && size + align.max(FIRST_SLOT * SLOT) <= GRANULE
}

/// Clears a block that nobody uses yet: what was asked for of it, or all of its `length` bytes where blocks are to hold nothing
/// old.
fn clear(block: NonNull<u8>, size: usize, length: usize) {
    clear_pages(block, if config::current().zero == Zero::Off { size } else { length });
}

/// Clears the block's first `size` bytes.
fn clear_pages(block: NonNull<u8>, size: usize) {
    // SAFETY: callers pass a block of at least `size` bytes that nobody uses yet.
    unsafe { block.write_bytes(0, size) };
}

fn hand_out_run(taken: Slots, size: usize, want_zero: bool) -> Option<Handed> {
    let Run { segment, first, count: slots } = taken.run;
    let mut is_zero = taken.used_before == 0;
    if !is_zero && segment.used_for() != Use::Small {
        let (start, length) = (taken.start(), slots * SLOT);
        is_zero = node::settle(segment.binding_part(), start, length);
        // SAFETY: nobody was given the run. Where little of it is in memory, that goes rather than that all comes.
        is_zero = is_zero || want_zero && taken.used_before * 2 < slots && unsafe { os::purge(start, length) };
        let pool = node::pool(segment.node());
        if is_zero && segment.used_for() == Use::Bound && !pool.lock().provide(start, length) {
            pool.lock().give_run(taken.run, false);
            return None;
        }
    }
    segment.set_owner(first, OwnerWord::run(slots));
    if want_zero && !is_zero {
        clear(taken.start(), size, slots * SLOT);
    }
    Some(Handed { block: taken.start(), is_zero: is_zero || want_zero })
}

/// Writes the owner words of a run's slots but for the first one.
fn own_interior(segment: SegmentPtr, first: SlotIndex, slots: usize) {
    for slot in 1..slots {
        segment.set_owner(first.plus(slot), OwnerWord::RUN_INTERIOR);
    }
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
    let run = Run { segment, first: SlotIndex::of(block.as_ptr() as usize), count: slots };
    let pool = node::pool(segment.node());
    let goes_at_once = node::goes_at_once(slots * SLOT);
    let old = if goes_at_once { Some(run) } else { pool.keep_at_hand(tls::get().address(), run) };
    if let Some(old) = old {
        // SAFETY: its user has given it up, and nobody else has it.
        let is_clean = goes_at_once && unsafe { os::purge(old.start(), old.count * SLOT) };
        let pool = HeldPool::of(pool);
        pool.count_purged(if is_clean { old.count * SLOT } else { 0 });
        pool.give_run(old, is_clean);
    }
}

/// Takes back a mapping. Its owner word, if it has one, says `FREE` already.
pub(crate) fn free_mapping(mapping: Mapping) {
    if let Some(node) = mapping.node() {
        if node::any_is_mine() {
            return emergency::defer(mapping.block(), (!mapping.is_far_aligned()).then_some(OwnerWord::MAPPING));
        }
        HeldPool::of(node::pool(node)).end_mapping(mapping.length());
    }
    // SAFETY: its user has freed it.
    unsafe { mapping.unmap() };
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
    if new_size > longest_run(segment.used_for()) || node::any_is_mine() || new == 0 {
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
    if first.get() + new > SLOTS {
        return false;
    }
    let Some(added) = pool.extend_run(segment, first.plus(old), new - old) else { return false };
    if added.used_before > 0 && config::current().zero != Zero::Off {
        clear_pages(added.start(), (new - old) * SLOT);
    }
    own_interior(segment, first, new);
    segment.set_owner(first, OwnerWord::run(new));
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
    if matches!(mapping.part(), Part::Node(_)) && !pool.provide(added, length - old) {
        mapping.shrink(old);
        // Not all of it, where the kernel does not take pages back.
        pool.end_mapping(length - mapping.length());
        return false;
    }
    pool.note_peak();
    true
}

/// Where a large block lies.
#[derive(Clone, Copy)]
enum Large {
    Run(Run),
    Mapping(Mapping),
}

impl Large {
    /// # Safety
    /// A block begins there that is a run, or a mapping that is not far-aligned, and the caller's.
    unsafe fn at(block: NonNull<u8>) -> Option<Self> {
        let address = block.addr().get();
        // SAFETY: the caller's promise.
        let segment = unsafe { SegmentPtr::of(address) };
        let first = SlotIndex::of(address);
        match segment.owner(first).decode() {
            Owner::Run(count) => Some(Large::Run(Run { segment, first, count })),
            // SAFETY: the word says so.
            Owner::Mapping => Some(Large::Mapping(unsafe { Mapping::of(address) })),
            _ => None,
        }
    }

    /// What binds its pages.
    fn part(self) -> Part {
        match self {
            Large::Run(run) => run.segment.binding_part(),
            Large::Mapping(mapping) => mapping.part(),
        }
    }

    /// Gives it back, whose first `size` bytes were to be moved away, or to here.
    ///
    /// # Safety
    /// Nobody uses it any more.
    unsafe fn give_back(self, moved: Moved, size: usize) {
        let lost = if moved == Moved::PlaceLost { size } else { 0 };
        match self {
            // In the middle of a segment they are lost for good.
            Large::Run(run) if lost > 0 => run.segment.set_owner(run.first, OwnerWord::RUN_INTERIOR),
            Large::Run(run) => {
                run.segment.set_owner(run.first, OwnerWord::FREE);
                let pool = HeldPool::of(node::pool(run.segment.node()));
                match moved {
                    Moved::PlaceEmptied => pool.give_run_mapped_anew(run),
                    _ => pool.give_run(run, moved == Moved::Yes && size == run.count * SLOT),
                }
            }
            Large::Mapping(mapping) => {
                if let Some(node) = mapping.node() {
                    HeldPool::of(node::pool(node)).end_mapping(mapping.length());
                }
                // SAFETY: the caller's promise.
                unsafe { mapping.unmap_around(lost) };
            }
        }
    }
}

/// Moves the pages of a large block that is `old_size` bytes long to a new one of `new_size` bytes, or copies them where the
/// kernel moves none, and frees the old one. `None` where it can be neither; then nothing has changed.
///
/// # Safety
/// The block is the caller's: a run, or a mapping that is not far-aligned.
pub(crate) unsafe fn move_block(
    block: NonNull<u8>,
    old_size: usize,
    new_size: usize,
    align: usize,
) -> Option<NonNull<u8>> {
    // What grows there from an emergency is to be watched from now on by the debug mode.
    if old_size < MOVED_BY_PAGES || align >= GRANULE || config::current().watches_blocks() || node::any_is_mine() {
        return None;
    }
    // SAFETY: the caller's promise.
    let old = unsafe { Large::at(block) }?;
    let held: Held = enter::enter(&Config::new()).ok()?;
    let new_block = held.allocate_growing(new_size, align)?.block;
    drop(held);
    // SAFETY: just handed out, and aligned to less than a granule.
    let new = unsafe { Large::at(new_block) }?;
    let size = align_up(old_size.min(new_size), os::page_size())?;
    let is_whole = |block: NonNull<u8>| block.addr().get().is_multiple_of(os::page_size());
    // Pages that are bound elsewhere would lie elsewhere than new ones.
    let is_first_touch = |large: Large| matches!(large.part(), Part::FirstTouch(_));
    let is_alike = old.part() == new.part() || is_first_touch(old) && is_first_touch(new);
    let can_move = is_alike && is_whole(block) && is_whole(new_block);
    // SAFETY: both are whole pages of blocks that are the caller's, and at least that long; what is given back is used no more.
    unsafe {
        let moved = if can_move { os::move_pages(block, size, new_block) } else { Moved::No };
        if moved == Moved::PlaceEmptied || moved == Moved::PlaceLost {
            new.give_back(moved, size);
            return None;
        }
        if moved == Moved::Yes {
            old.give_back(moved, size);
            return Some(new_block);
        }
        new_block.copy_from_nonoverlapping(block, old_size.min(new_size));
    }
    match old {
        Large::Run(run) => {
            run.segment.set_owner(run.first, OwnerWord::FREE);
            free_run(run.segment, block, run.count);
        }
        Large::Mapping(mapping) => free_mapping(mapping),
    }
    Some(new_block)
}

#[cfg(all(test, not(homing_loom)))]
mod tests {
    use super::*;

    #[test]
    fn no_block_counts_as_a_run_that_no_empty_segment_has_room_for_where_its_alignment_wants_it() {
        for align in core::iter::successors(Some(1), |align| Some(align * 2)).take_while(|align| is_run(1, *align)) {
            let longest = (1..=SLOTS).rev().find(|slots| is_run(slots * SLOT, align)).expect("a slot is a run");
            let first = FIRST_SLOT.next_multiple_of(align.div_ceil(SLOT));
            assert!(first + longest <= SLOTS, "{longest} slots, aligned to {align} bytes");
        }
    }
}
