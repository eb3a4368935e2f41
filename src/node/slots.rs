//! Slots: taken by slabs and runs, given back by both.

use core::ops::Range as Lengths;
use core::ptr::NonNull;

use super::at_hand::{PLACES, Place};
use super::rooms::ByRow;
use super::{ALARM, Locked, Pool, bind, spread};
use crate::address_map::{self, Range};
use crate::config;
use crate::message::Line;
use crate::os;
use crate::segment::{ARENA_ALIGN, FIRST_SLOT, OwnerWord, SLOT, SLOTS, SegmentPtr, SlotIndex, USABLE_SLOTS, Use};
use crate::topology;

/// What is left of the memory that can be had, when a pool obtains its own in advance: one in so many bytes, within bounds.
const LEFT_PART: usize = 16;
const LEFT_LEAST: usize = 4 << 20;
const LEFT_MOST: usize = 1 << 30;

/// Adjacent slots.
#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) segment: SegmentPtr,
    pub(crate) first: SlotIndex,
    pub(crate) count: usize,
}

impl Run {
    /// The first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.segment.slot_start(self.first)
    }

    /// What names it whole: its address and, below that, how many slots it has.
    fn name(&self) -> usize {
        self.start().as_ptr().expose_provenance() | self.count
    }

    /// # Safety
    /// `name` is a run's.
    unsafe fn named(name: usize) -> Self {
        // SAFETY: the run lies in a segment.
        let segment = unsafe { SegmentPtr::of(name) };
        Run { segment, first: SlotIndex::of(name), count: name % SLOT }
    }
}
const _: () = assert!(SLOTS < SLOT);

/// Adjacent slots that were taken.
#[derive(Clone, Copy)]
pub(crate) struct Slots {
    pub(crate) run: Run,
    /// How many of them hold old data; 0: all of it reads as zero.
    pub(crate) used_before: usize,
}

impl core::ops::Deref for Slots {
    type Target = Run;

    fn deref(&self) -> &Run {
        &self.run
    }
}

/// Segments that are looked at, where none is known to have a hole that is long enough, before another is taken.
const LOOKED_AT: usize = 16;

/// Slots that a segment is longer each time, at least; and what part of the pool's it is otherwise.
const LEAST_STEP: usize = 16;
const STEP_PART: usize = 8;

impl Pool {
    /// The place for such runs at hand of whoever is at that address.
    fn place_near(&self, used_for: Use, near: usize) -> &Place {
        let long = (used_for as usize).checked_sub(1).and_then(|long| self.long_at_hand.get(long));
        long.unwrap_or(&self.at_hand[near / ARENA_ALIGN % PLACES])
    }

    /// A run of just so many slots that is at hand for the arena at that address and begins at a multiple of `align` slots. Its
    /// interior's owner words are as they were.
    #[inline]
    pub(crate) fn take_at_hand(&self, used_for: Use, near: usize, count: usize, align: usize) -> Option<Run> {
        // SAFETY: what is at hand are runs' names.
        let run = |name| unsafe { Run::named(name) };
        let fits = |name: usize| name % SLOT == count && run(name).first.get().is_multiple_of(align);
        self.place_near(used_for, near).take_if(fits).map(run)
    }

    /// Keeps a freed run at hand there; gives what has to go back for it.
    #[inline]
    pub(crate) fn keep_at_hand(&self, near: usize, run: Run) -> Option<Run> {
        let old = self.place_near(run.segment.used_for(), near).put(run.name());
        ALARM.ring_without_lock();
        // SAFETY: what is at hand are runs' names.
        old.map(|name| unsafe { Run::named(name) })
    }
}

impl Locked {
    /// Takes `count` adjacent slots of which the first is a multiple of `align` slots within its segment. `None` where
    /// the pool's limit or the kernel refuses.
    pub(crate) fn take_slots(&self, used_for: Use, count: usize, align: usize) -> Option<Slots> {
        if !self.has_room_for(count * SLOT) {
            return None;
        }
        // What waits to go back to the kernel may be what is wanting.
        let take = || self.find_slots(used_for, count, align).and_then(|slots| self.provided(slots));
        take().or_else(|| if self.purge_for_want() { take() } else { None })
    }

    /// The slots, if the memory for them is there, or will be wherever it is touched; else they are free again.
    fn provided(&self, slots: Slots) -> Option<Slots> {
        let count = slots.count;
        let is_first_touch = slots.segment.used_for() == Use::FirstTouch;
        if is_first_touch || slots.used_before == count || self.provide(slots.start(), count * SLOT) {
            return Some(slots);
        }
        // Not dirty: they have no pages, or those that were obtained before there were no more.
        // SAFETY: the slots were just taken, and nobody uses them.
        let clean = unsafe { os::purge(slots.start(), count * SLOT) };
        self.take_back(slots.segment, slots.first, count, clean);
        None
    }

    fn find_slots(&self, used_for: Use, count: usize, align: usize) -> Option<Slots> {
        let in_new = || {
            let segment = self.add_segment(used_for, count + align - 1)?;
            self.take_at(segment, segment.find_slots(count, align)?, count)
        };
        self.find_dirty(used_for, count, align, count)
            .or_else(|| self.find_hole(used_for, count, align, count, LOOKED_AT))
            .or_else(in_new)
            .or_else(|| self.find_hole(used_for, count, align, count, usize::MAX))
    }

    /// Takes slots of a hole that is `room` slots long at least from there on. Of segments that may have none that fits, so many
    /// are looked at.
    fn find_hole(&self, used_for: Use, count: usize, align: usize, room: usize, looked_at: usize) -> Option<Slots> {
        let find = |segment: SegmentPtr| segment.find_slots(room, align);
        self.find_row(&self.inner().rooms[used_for as usize], find, count, room..room + align, looked_at)
    }

    /// The same where all of it is in memory already: to touch new memory takes the kernel longer than to copy as much.
    fn find_dirty(&self, used_for: Use, count: usize, align: usize, room: usize) -> Option<Slots> {
        let find = |segment: SegmentPtr| segment.find_dirty_slots(room, align);
        self.find_row(&self.inner().dirty_rooms[used_for as usize], find, count, room..room + align, LOOKED_AT)
    }

    /// Takes slots where `find` finds a row: any segment has one whose longest row has the last of those lengths, wherever it
    /// begins; shorter ones may have.
    fn find_row<const KIND: usize, const EXACT: usize, const LISTS: usize>(
        &self,
        lists: &ByRow<KIND, EXACT, LISTS>,
        find: impl Fn(SegmentPtr) -> Option<SlotIndex>,
        count: usize,
        lengths: Lengths<usize>,
        looked_at: usize,
    ) -> Option<Slots> {
        let take = |segment: SegmentPtr| {
            let slots = find(segment).and_then(|first| self.take_at(segment, first, count));
            if slots.is_none() {
                segment.measure();
                self.put_by_rows(segment);
            }
            slots
        };
        let enough = lengths.end - 1;
        while let Some(segment) = lists.first(enough) {
            if let Some(slots) = take(segment) {
                return Some(slots);
            }
        }
        lists.between(lengths.start, enough).take(looked_at).find_map(take)
    }

    /// Puts a segment on the lists where its longest rows want it.
    pub(super) fn put_by_rows(&self, segment: SegmentPtr) {
        let (inner, used_for) = (self.inner(), segment.used_for() as usize);
        inner.rooms[used_for].put(segment);
        inner.dirty_rooms[used_for].put(segment);
    }

    /// As [`take_slots`](Self::take_slots), if possible where `room` slots in all are free, for what is likely to grow.
    pub(crate) fn take_slots_with_room(&self, used_for: Use, count: usize, align: usize, room: usize) -> Option<Slots> {
        if !self.has_room_for(count * SLOT) {
            return None;
        }
        let room = room.max(count);
        self.find_dirty(used_for, count, align, room)
            .or_else(|| self.find_dirty(used_for, count, align, count))
            .or_else(|| self.find_hole(used_for, count, align, room, LOOKED_AT))
            .and_then(|slots| self.provided(slots))
            .or_else(|| self.take_slots(used_for, count, align))
    }

    /// Takes those slots, which are free, if the segment reaches so far or can be mapped so far.
    fn take_at(&self, segment: SegmentPtr, first: SlotIndex, count: usize) -> Option<Slots> {
        let inner = self.inner();
        let is_mapped = self.map_to(segment, first.get() + count);
        let mut slots = None;
        if is_mapped {
            let used_before = segment.take_slots(first, count);
            inner.used_slots.set(inner.used_slots.get() + count);
            inner.dirty_slots.set(inner.dirty_slots.get() - used_before);
            inner.regret.note_missed(count - used_before);
            self.note_peak();
            slots = Some(Slots { run: Run { segment, first, count }, used_before });
        } else {
            segment.cut();
        }
        self.put_by_rows(segment);
        if is_mapped {
            self.heed_limit();
        }
        slots
    }

    /// Takes `more` slots that follow on a run, if they are free. Gives how many of them hold old data.
    pub(crate) fn extend_run(&self, segment: SegmentPtr, end: SlotIndex, more: usize) -> Option<Slots> {
        if !self.has_room_for(more * SLOT) || !self.has(segment) || !segment.are_free(end, more) {
            return None;
        }
        self.take_at(segment, end, more).and_then(|slots| self.provided(slots))
    }

    /// How many slots more a segment is mapped: the more the pool has, the more at a time, up to whole segments; for long runs
    /// no more than they have.
    fn step(&self, used_for: Use) -> usize {
        match (os::MAPS_WHERE_ASKED, used_for) {
            (false, _) => SLOTS,
            (true, Use::Small) => (self.inner().mapped_slots.get() / STEP_PART).clamp(LEAST_STEP, SLOTS),
            (true, Use::Bound | Use::FirstTouch) => 0,
        }
    }

    /// Sees to it that the segment's first `end` slots are mapped.
    fn map_to(&self, segment: SegmentPtr, end: usize) -> bool {
        let mapped = segment.mapped();
        let wanted = (mapped + self.step(segment.used_for())).min(SLOTS);
        end <= mapped || end < wanted && self.map_more(segment, wanted) || self.map_more(segment, end)
    }

    fn map_more(&self, segment: SegmentPtr, end: usize) -> bool {
        let mapped = segment.mapped();
        let start = segment.slot_start(SlotIndex::FIRST.plus(mapped));
        if !os::map_at(start, (end - mapped) * SLOT) {
            return false;
        }
        self.prepare(segment.used_for(), start, end - mapped);
        segment.note_mapped(end);
        true
    }

    /// What is done with slots that have just been mapped.
    fn prepare(&self, used_for: Use, start: NonNull<u8>, slots: usize) {
        let inner = self.inner();
        inner.mapped_slots.set(inner.mapped_slots.get() + slots);
        self.place(used_for, start, slots);
    }

    /// Has the pages of slots lie as what they are for wants them.
    fn place(&self, used_for: Use, start: NonNull<u8>, slots: usize) {
        if used_for != Use::FirstTouch {
            bind(self.node(), start, slots * SLOT);
        }
        if used_for == Use::Small {
            // SAFETY: just mapped for this pool.
            unsafe { os::refuse_huge_pages(start, slots * SLOT) };
        }
    }

    /// Takes adjacent slots back. Their owner words say `FREE` already.
    pub(crate) fn give_slots(&self, segment: SegmentPtr, first: SlotIndex, count: usize) {
        self.take_back(segment, first, count, false);
    }

    /// Takes a freed run back, which reads as zero if it is clean. Its first owner word says `FREE`.
    pub(crate) fn give_run(&self, run: Run, clean: bool) {
        for slot in 1..run.count {
            run.segment.set_owner(run.first.plus(slot), OwnerWord::FREE);
        }
        let longest = &self.inner().longest_freed;
        longest.set(if clean { longest.get() } else { longest.get().max(run.count) });
        self.take_back(run.segment, run.first, run.count, clean);
    }

    /// The same for one that was mapped anew while it was in use.
    pub(crate) fn give_run_mapped_anew(&self, run: Run) {
        self.place(run.segment.used_for(), run.start(), run.count);
        self.give_run(run, false);
    }

    /// Takes all runs back that are at hand. True where there was one.
    pub(crate) fn take_back_at_hand(&self) -> bool {
        let places = self.pool.at_hand.iter().chain(&self.pool.long_at_hand);
        places.fold(false, |any, place| self.take_back_from(place) | any)
    }

    /// Takes such a run back that is at hand for the arena at that address, if there is one.
    pub(crate) fn take_back_near(&self, used_for: Use, near: usize) {
        let _ = self.take_back_from(self.pool.place_near(used_for, near));
    }

    fn take_back_from(&self, place: &Place) -> bool {
        let name = place.put(0);
        if let Some(name) = name {
            // SAFETY: what is at hand are runs' names.
            self.give_run(unsafe { Run::named(name) }, false);
        }
        name.is_some()
    }

    /// The same for slots that may read as zero.
    fn take_back(&self, segment: SegmentPtr, first: SlotIndex, count: usize, clean: bool) {
        debug_assert_eq!(segment.node(), self.node(), "slots go home to their own node");
        if !self.has(segment) {
            // Nobody is handed them again; only their pages go back.
            // SAFETY: slots of a segment, which nobody uses.
            let _ = unsafe { os::purge(segment.slot_start(first), count * SLOT) };
            return;
        }
        let inner = self.inner();
        inner.used_slots.set(inner.used_slots.get() - count);
        self.put_free(segment, first, count, clean);
        self.purge_if_due();
    }

    /// Puts slots that are taken among the free ones. What long runs lay in goes with its last one, as a mapping would.
    pub(super) fn put_free(&self, segment: SegmentPtr, first: SlotIndex, count: usize, clean: bool) {
        segment.give_slots(first, count, clean);
        self.put_by_rows(segment);
        if !clean {
            self.note_dirty(segment, count);
        } else if segment.used_for() != Use::Small && Self::is_unused(segment) {
            self.drop_segment(segment);
        }
    }

    /// So many more free slots of the segment hold old data.
    fn note_dirty(&self, segment: SegmentPtr, count: usize) {
        let inner = self.inner();
        inner.dirty_slots.set(inner.dirty_slots.get() + count);
        inner.dirty.remove(segment);
        inner.dirty.push_back(segment);
    }

    /// Takes a new segment from the kernel, of which so many slots can be taken at once.
    fn add_segment(&self, used_for: Use, slots: usize) -> Option<SegmentPtr> {
        let part = used_for.part(self.node());
        let least = (FIRST_SLOT + slots).min(SLOTS);
        let map = |slots: usize| Some((address_map::map(part, 0, slots * SLOT)?, slots));
        let (range, mapped) = map(self.step(used_for).max(least)).or_else(|| map(least))?;
        self.prepare(used_for, range.start, mapped);
        // SAFETY: the granule's front is mapped, and becomes a segment's here.
        let segment = unsafe { SegmentPtr::of(range.start.as_ptr().expose_provenance()) };
        segment.begin(used_for, self.node(), self.inner().generation.get(), mapped);
        range.show_headers(true);
        self.inner().segments.push(segment);
        self.put_by_rows(segment);
        Some(segment)
    }

    fn range_of(segment: SegmentPtr) -> Range {
        Range { part: segment.binding_part(), start: segment.start(), size: segment.mapped() * SLOT, front: 0 }
    }

    /// Gives all segments back to the kernel, arenas and all, and begins anew. For when none of them is used any more.
    pub(crate) fn give_all_back(&self) {
        for segment in self.segments() {
            // SAFETY: nobody uses what lies there, and the pool forgets it below.
            unsafe { Self::range_of(segment).unmap() };
        }
        self.inner().abandon();
    }

    /// Gives the segments back to the kernel in which nothing is used or waits, but for so many. Gives how many went.
    pub(super) fn drop_unused_segments(&self, mut spare: usize) -> usize {
        let mut gone = 0;
        for segment in self.segments().filter(|segment| Self::is_unused(*segment)) {
            if spare > 0 {
                spare -= 1;
                continue;
            }
            self.drop_segment(segment);
            gone += 1;
        }
        gone
    }

    /// Whether nothing of the segment is used, nor waits.
    pub(super) fn is_unused(segment: SegmentPtr) -> bool {
        segment.is_unused() && segment.used_free_slots() == 0
    }

    /// Gives a segment of which nothing is used back to the kernel.
    pub(super) fn drop_segment(&self, segment: SegmentPtr) {
        let inner = self.inner();
        inner.segments.remove(segment);
        inner.dirty.remove(segment);
        inner.rooms[segment.used_for() as usize].remove(segment);
        inner.dirty_rooms[segment.used_for() as usize].remove(segment);
        inner.mapped_slots.set(inner.mapped_slots.get() - segment.mapped());
        // SAFETY: no slot of it is taken, and it is on no list any more.
        unsafe { Self::range_of(segment).unmap() };
    }

    /// Obtains so many bytes from the kernel, to be kept: no more than there are to be had. Says so where they are fewer.
    pub(super) fn obtain(&self, bytes: usize) {
        let all = bytes.div_ceil(SLOT).min(config::current().pool_limit / SLOT);
        if all == 0 {
            return;
        }
        // Not more than at the first look, should later ones tell nothing of what was obtained since.
        let first = self.obtainable() / SLOT;
        let mut obtained = 0;
        while obtained < all {
            // Looked at for each segment anew: other processes may obtain theirs at the same time.
            let most = (all.min(first) - obtained).min(self.obtainable() / SLOT).min(USABLE_SLOTS);
            let taken = if most == 0 { 0 } else { self.obtain_slots(most) };
            obtained += taken;
            if taken < most || most == 0 {
                return self.say_not_met(obtained, bytes, most == 0);
            }
        }
    }

    /// Obtains a segment, and the pages of so many of its slots, if it has so many; gives of how many.
    fn obtain_slots(&self, count: usize) -> usize {
        let Some(segment) = self.add_segment(Use::Small, count) else { return 0 };
        let mut obtained = 0;
        for slot in SlotIndex::all().filter(|slot| segment.slot_is_free(*slot).0).take(count) {
            let start = segment.slot_start(slot);
            if !self.map_to(segment, slot.plus(1).get()) || !self.provide(start, SLOT) {
                break;
            }
            for offset in (0..SLOT).step_by(os::page_size()) {
                // SAFETY: the slot is committed, free and this pool's; a byte a page is touched, with what it holds.
                unsafe { start.add(offset).write_volatile(0) };
            }
            segment.mark_dirty(slot, 1);
            self.note_dirty(segment, 1);
            self.put_by_rows(segment);
            obtained += 1;
        }
        obtained
    }

    /// Bytes that may be obtained in advance: what there is, less a part that is left to the program and to others.
    fn obtainable(&self) -> usize {
        let machine = topology::machine();
        let is_one_of_many = machine.count() > 1 && self.node() != spread();
        let node = is_one_of_many.then(|| machine.id(self.node()));
        topology::available(node)
            .map_or(usize::MAX, |bytes| bytes.saturating_sub((bytes / LEFT_PART).clamp(LEFT_LEAST, LEFT_MOST)))
    }

    fn say_not_met(&self, obtained: usize, bytes: usize, there_is_no_more: bool) {
        let line = Line::new().text("HOMING_POOL_SIZE is not met: ").size(obtained.saturating_mul(SLOT)).text(" of ");
        let line = line.size(bytes).text(" obtained");
        let machine = topology::machine();
        let line = match machine.count() {
            1 => line,
            _ if self.node() == spread() => line.text(" over all nodes"),
            _ => line.text(" on node ").number(usize::from(machine.id(self.node()).number())),
        };
        let why = if there_is_no_more { "; nearly all the memory is in use" } else { "; the kernel refuses more" };
        line.text(why).say();
    }
}
