//! Slots: taken by slabs and runs, given back by both.

use core::ptr::NonNull;

use super::{Locked, bind, part_of, spread};
use crate::address_map::{self, Range};
use crate::config;
use crate::message::Line;
use crate::os;
use crate::segment::{FIRST_SLOT, SLOT, SLOTS, SegmentPtr, SlotIndex, USABLE_SLOTS};
use crate::topology;

/// What is left of the memory that can be had, when a pool obtains its own in advance: one in so many bytes, within bounds.
const LEFT_PART: usize = 16;
const LEFT_LEAST: usize = 4 << 20;
const LEFT_MOST: usize = 1 << 30;

/// Adjacent slots that were taken.
#[derive(Clone, Copy)]
pub(crate) struct Slots {
    pub(crate) segment: SegmentPtr,
    pub(crate) first: SlotIndex,
    /// How many of them hold old data; 0: all of it reads as zero.
    pub(crate) used_before: usize,
}

impl Slots {
    /// The first byte.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.segment.slot_start(self.first)
    }
}

/// Slots that a segment is longer each time, at least; and what part of the pool's it is otherwise.
const LEAST_STEP: usize = 16;
const STEP_PART: usize = 8;

impl Locked {
    /// Takes `count` adjacent slots of which the first is a multiple of `align` slots within its segment. `None` where
    /// the pool's limit or the kernel refuses.
    pub(crate) fn take_slots(&self, count: usize, align: usize) -> Option<Slots> {
        if !self.has_room_for(count * SLOT) {
            return None;
        }
        // What waits to go back to the kernel may be what is wanting.
        let take = || self.find_slots(count, align).and_then(|slots| self.provided(slots, count));
        take().or_else(|| if self.purge_for_want() { take() } else { None })
    }

    /// The slots, if the memory for them is there; else they are free again.
    fn provided(&self, slots: Slots, count: usize) -> Option<Slots> {
        if slots.used_before == count || self.provide(slots.start(), count * SLOT) {
            return Some(slots);
        }
        // Not dirty: they have no pages, or those that were obtained before there were no more.
        // SAFETY: the slots were just taken, and nobody uses them.
        let clean = unsafe { os::purge(slots.start(), count * SLOT) };
        self.take_back(slots.segment, slots.first, count, clean);
        None
    }

    fn find_slots(&self, count: usize, align: usize) -> Option<Slots> {
        self.find_hole(count, align, count).or_else(|| {
            let segment = self.add_segment(count + align - 1)?;
            self.take_at(segment, segment.find_slots(count, align)?, count)
        })
    }

    /// Takes slots of a hole that is `room` slots long at least from there on.
    fn find_hole(&self, count: usize, align: usize, room: usize) -> Option<Slots> {
        let rooms = &self.inner().rooms;
        let take = |segment: SegmentPtr| {
            let slots = segment.find_slots(room, align).and_then(|first| self.take_at(segment, first, count));
            if slots.is_none() {
                segment.measure();
                rooms.put(segment);
            }
            slots
        };
        // A hole that long has a place for so many that is aligned, wherever it begins.
        let enough = room + align - 1;
        while let Some(segment) = rooms.first(enough) {
            if let Some(slots) = take(segment) {
                return Some(slots);
            }
        }
        // Shorter ones may. Many may have to be looked at for one: few blocks are aligned to more than a slot.
        rooms.between(room, enough).find_map(take)
    }

    /// As [`take_slots`](Self::take_slots), if possible where `room` slots in all are free, for what is likely to grow.
    pub(crate) fn take_slots_with_room(&self, count: usize, align: usize, room: usize) -> Option<Slots> {
        if !self.has_room_for(count * SLOT) {
            return None;
        }
        self.find_hole(count, align, room.max(count))
            .and_then(|slots| self.provided(slots, count))
            .or_else(|| self.take_slots(count, align))
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
            self.note_peak();
            slots = Some(Slots { segment, first, used_before });
        } else {
            segment.cut();
        }
        inner.rooms.put(segment);
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
        self.take_at(segment, end, more).and_then(|slots| self.provided(slots, more))
    }

    /// How many slots more a segment is mapped: the more the pool has, the more at a time, up to whole segments.
    fn step(&self) -> usize {
        match os::MAPS_WHERE_ASKED {
            true => (self.inner().mapped_slots.get() / STEP_PART).clamp(LEAST_STEP, SLOTS),
            false => SLOTS,
        }
    }

    /// Sees to it that the segment's first `end` slots are mapped.
    fn map_to(&self, segment: SegmentPtr, end: usize) -> bool {
        let mapped = segment.mapped();
        let wanted = (mapped + self.step()).min(SLOTS);
        end <= mapped || end < wanted && self.map_more(segment, wanted) || self.map_more(segment, end)
    }

    fn map_more(&self, segment: SegmentPtr, end: usize) -> bool {
        let mapped = segment.mapped();
        let start = segment.slot_start(SlotIndex::FIRST.plus(mapped));
        if !os::map_at(start, (end - mapped) * SLOT) {
            return false;
        }
        self.prepare(start, end - mapped);
        segment.note_mapped(end);
        true
    }

    /// What is done with slots that have just been mapped.
    fn prepare(&self, start: NonNull<u8>, slots: usize) {
        let inner = self.inner();
        inner.mapped_slots.set(inner.mapped_slots.get() + slots);
        bind(self.node(), start, slots * SLOT);
        // SAFETY: just mapped for this pool.
        unsafe { os::refuse_huge_pages(start, slots * SLOT) };
    }

    /// Takes adjacent slots back. Their owner words say `FREE` already.
    pub(crate) fn give_slots(&self, segment: SegmentPtr, first: SlotIndex, count: usize) {
        self.take_back(segment, first, count, false);
    }

    /// The same, and their pages go back to the kernel at once.
    pub(crate) fn give_slots_and_pages(&self, segment: SegmentPtr, first: SlotIndex, count: usize) {
        // SAFETY: the slots are the caller's, who gives them up.
        let clean = unsafe { os::purge(segment.slot_start(first), count * SLOT) };
        let purged = &self.inner().counts.purged;
        purged.set(purged.get() + if clean { (count * SLOT) as u64 } else { 0 });
        self.take_back(segment, first, count, clean);
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
        segment.give_slots(first, count);
        inner.rooms.put(segment);
        inner.used_slots.set(inner.used_slots.get() - count);
        if clean {
            segment.mark_clean(first, count);
        } else {
            inner.dirty_slots.set(inner.dirty_slots.get() + count);
        }
        self.purge_if_due();
    }

    /// Takes a new segment from the kernel, of which so many slots can be taken at once.
    fn add_segment(&self, slots: usize) -> Option<SegmentPtr> {
        let part = part_of(self.node());
        let least = (FIRST_SLOT + slots).min(SLOTS);
        let map = |slots: usize| Some((address_map::map(part, 0, slots * SLOT)?, slots));
        let (range, mapped) = map(self.step().max(least)).or_else(|| map(least))?;
        self.prepare(range.start, mapped);
        // SAFETY: the granule's front is mapped, and becomes a segment's here.
        let segment = unsafe { SegmentPtr::of(range.start.as_ptr().expose_provenance()) };
        segment.begin(self.node(), self.inner().generation.get(), mapped);
        range.show_segment();
        let inner = self.inner();
        segment.header().next.set(inner.segments.replace(Some(segment)));
        inner.rooms.put(segment);
        Some(segment)
    }

    fn range_of(&self, segment: SegmentPtr) -> Range {
        Range { part: part_of(self.node()), start: segment.start(), size: segment.mapped() * SLOT, front: 0 }
    }

    /// Gives all segments back to the kernel, arenas and all, and begins anew. For when none of them is used any more.
    pub(crate) fn give_all_back(&self) {
        let mut next = self.inner().segments.get();
        while let Some(segment) = next {
            next = segment.header().next.get();
            // SAFETY: nobody uses what lies there, and the pool forgets it below.
            unsafe { self.range_of(segment).unmap() };
        }
        self.inner().abandon();
    }

    /// Gives the segments back to the kernel in which nothing is used or waits, but for so many. Gives how many went.
    pub(super) fn drop_unused_segments(&self, mut spare: usize) -> usize {
        let inner = self.inner();
        let mut gone = 0;
        let mut place = &inner.segments;
        while let Some(segment) = place.get() {
            let is_unused = segment.is_unused() && segment.used_free_slots() == 0;
            if !is_unused || spare > 0 {
                spare = spare.saturating_sub(usize::from(is_unused));
                place = segment.next_segment();
                continue;
            }
            place.set(segment.header().next.get());
            inner.rooms.remove(segment);
            inner.mapped_slots.set(inner.mapped_slots.get() - segment.mapped());
            // SAFETY: no slot of it is taken, and it is on no list any more.
            unsafe { self.range_of(segment).unmap() };
            gone += 1;
        }
        gone
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
        let Some(segment) = self.add_segment(count) else { return 0 };
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
            let inner = self.inner();
            inner.dirty_slots.set(inner.dirty_slots.get() + 1);
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
