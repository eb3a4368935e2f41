//! Slots: taken by slabs and runs, given back by both.

use core::ptr::NonNull;

use super::{Locked, bind, is_strict, part_of, spread};
use crate::config;
use crate::message::Line;
use crate::os;
use crate::segment::{SLOT, SegmentPtr, SlotIndex, USABLE_SLOTS};
use crate::topology;
use crate::zone::{self, GRANULE};

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

impl Locked {
    /// Takes `count` adjacent slots of which the first is a multiple of `align` slots within its segment. `None` where
    /// the pool's limit or the kernel refuses.
    pub(crate) fn take_slots(&self, count: usize, align: usize) -> Option<Slots> {
        self.find_slots(count, align).and_then(|slots| self.provided(slots, count)).or_else(|| {
            // Strict binding: what waits to go back to the kernel may be what is wanting.
            let again = is_strict() && self.purge_for_want();
            again.then(|| self.find_slots(count, align)).flatten().and_then(|slots| self.provided(slots, count))
        })
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
        if !self.has_room_for(count * SLOT) {
            return None;
        }
        let mut next = self.inner().with_room.get();
        while let Some(segment) = next {
            if let Some(slots) = self.take_from(segment, count, align) {
                return Some(slots);
            }
            next = segment.header().next_with_room.get();
        }
        let segment = self.add_segment()?;
        self.take_from(segment, count, align)
    }

    /// As [`take_slots`](Self::take_slots), if possible where `room` slots in all are free, for what is likely to grow.
    pub(crate) fn take_slots_with_room(&self, count: usize, align: usize, room: usize) -> Option<Slots> {
        if !self.has_room_for(count * SLOT) {
            return None;
        }
        let mut next = self.inner().with_room.get();
        while let Some(segment) = next {
            if let Some(taken) = segment.take_slots_with_room(count, align, room) {
                let slots = self.provided(self.note_taken(segment, taken, count), count);
                return slots.or_else(|| self.take_slots(count, align));
            }
            next = segment.header().next_with_room.get();
        }
        self.take_slots(count, align)
    }

    fn take_from(&self, segment: SegmentPtr, count: usize, align: usize) -> Option<Slots> {
        let taken = segment.take_slots(count, align)?;
        Some(self.note_taken(segment, taken, count))
    }

    fn note_taken(&self, segment: SegmentPtr, taken: crate::segment::Taken, count: usize) -> Slots {
        let inner = self.inner();
        inner.used_slots.set(inner.used_slots.get() + count);
        inner.dirty_slots.set(inner.dirty_slots.get() - taken.used_before);
        self.note_peak();
        if segment.free_slots() == 0 {
            self.unlist(segment);
        }
        self.heed_limit();
        Slots { segment, first: taken.first, used_before: taken.used_before }
    }

    /// Takes `more` slots that follow on a run, if they are free. Gives how many of them hold old data.
    pub(crate) fn extend_run(&self, segment: SegmentPtr, end: SlotIndex, more: usize) -> Option<Slots> {
        if !self.has_room_for(more * SLOT) {
            return None;
        }
        let taken = segment.take_slots_at(end, more)?;
        self.provided(self.note_taken(segment, taken, more), more)
    }

    /// Takes adjacent slots back. Their owner words say `FREE` already.
    pub(crate) fn give_slots(&self, segment: SegmentPtr, first: SlotIndex, count: usize) {
        self.take_back(segment, first, count, false);
    }

    /// The same for slots that may read as zero.
    fn take_back(&self, segment: SegmentPtr, first: SlotIndex, count: usize, clean: bool) {
        debug_assert_eq!(segment.node(), self.node(), "slots go home to their own node");
        let inner = self.inner();
        let was_full = segment.free_slots() == 0;
        segment.give_slots(first, count);
        inner.used_slots.set(inner.used_slots.get() - count);
        if clean {
            segment.mark_clean(first, count);
        } else {
            inner.dirty_slots.set(inner.dirty_slots.get() + count);
        }
        if was_full {
            self.list_first(segment);
        }
        if segment.free_slots() == USABLE_SLOTS
            && let Some(range) = zone::outlier_of_segment(segment.start())
        {
            self.drop_segment(segment, range);
            return;
        }
        self.purge_if_due();
    }

    /// Takes a new segment from the zone.
    fn add_segment(&self) -> Option<SegmentPtr> {
        let node = self.node();
        let nodes = topology::machine().count();
        let range = zone::allocate(part_of(node), nodes, GRANULE)?;
        if range.outlier {
            bind(node, range.start, GRANULE);
        }
        // SAFETY: the range was just reserved for this pool.
        if !unsafe { os::commit(range.start, GRANULE) } {
            // SAFETY: nobody was given the range.
            unsafe { zone::free(range) };
            return None;
        }
        zone::show_headers(&range);
        // SAFETY: as above.
        unsafe { os::refuse_huge_pages(range.start, GRANULE) };
        // SAFETY: the granule is committed, and becomes a segment here.
        let segment = unsafe { SegmentPtr::of(range.start.as_ptr() as usize) };
        segment.begin(node);
        let inner = self.inner();
        segment.header().next.set(inner.segments.replace(Some(segment)));
        self.list_last(segment);
        Some(segment)
    }

    /// Gives a segment up that has no block and lies outside the zone: where addresses are limited, others need them.
    fn drop_segment(&self, segment: SegmentPtr, range: zone::Range) {
        let inner = self.inner();
        let is_last = inner.with_room.get() == Some(segment) && segment.header().next_with_room.get().is_none();
        if is_last || config::current().pool_size > 0 {
            self.purge_if_due();
            return;
        }
        self.unlist(segment);
        let after = segment.header().next.get();
        let mut place = &inner.segments;
        while let Some(other) = place.get() {
            if other == segment {
                place.set(after);
                break;
            }
            place = other.next_segment();
        }
        inner.dirty_slots.set(inner.dirty_slots.get() - segment.used_free_slots());
        inner.counts.purged.set(inner.counts.purged.get() + GRANULE as u64);
        // SAFETY: no slot of it is taken, and it is on no list any more.
        unsafe { zone::free(range) };
    }

    fn list_first(&self, segment: SegmentPtr) {
        let inner = self.inner();
        let next = inner.with_room.replace(Some(segment));
        segment.header().next_with_room.set(next);
        segment.header().previous_with_room.set(None);
        match next {
            Some(next) => next.header().previous_with_room.set(Some(segment)),
            None => inner.last_with_room.set(Some(segment)),
        }
    }

    fn list_last(&self, segment: SegmentPtr) {
        let inner = self.inner();
        let previous = inner.last_with_room.replace(Some(segment));
        segment.header().previous_with_room.set(previous);
        segment.header().next_with_room.set(None);
        match previous {
            Some(previous) => previous.header().next_with_room.set(Some(segment)),
            None => inner.with_room.set(Some(segment)),
        }
    }

    fn unlist(&self, segment: SegmentPtr) {
        let inner = self.inner();
        let (next, previous) = (segment.header().next_with_room.take(), segment.header().previous_with_room.take());
        match previous {
            Some(previous) => previous.header().next_with_room.set(next),
            None => inner.with_room.set(next),
        }
        match next {
            Some(next) => next.header().previous_with_room.set(previous),
            None => inner.last_with_room.set(previous),
        }
    }

    /// Obtains so many bytes from the kernel, to be kept: no more than there are to be had. Says so where they are fewer.
    pub(super) fn obtain(&self, bytes: usize) {
        let all = bytes.div_ceil(SLOT).min(config::current().pool_limit / SLOT);
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
        let Some(segment) = self.add_segment() else { return 0 };
        let mut obtained = 0;
        for slot in SlotIndex::all().filter(|slot| segment.slot_is_free(*slot).0).take(count) {
            let start = segment.slot_start(slot);
            if !self.provide(start, SLOT) {
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
