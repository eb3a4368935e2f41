//! Segments with free slots, found by the longest hole that they may have: a list for each length, and a bit for each list
//! that is not empty, so that one with a hole of any length is found by one look, however many there are.
//!
//! How long a segment's longest hole is, is known from above: what is taken leaves the bound as it is, what is given back
//! raises it to the hole that it becomes part of, and a search in vain has the segment measured. So each search in vain is
//! paid for by something that was taken before.

use core::cell::Cell;

use crate::segment::SegmentPtr;

/// The lists: for holes of so many slots, the last one for all longer ones too. None for segments without a hole.
const LISTS: usize = u64::BITS as usize;

/// The lists of a pool's segments.
pub(super) struct Rooms {
    lists: [Cell<Option<SegmentPtr>>; LISTS],
    /// A bit for each list that is not empty.
    filled: Cell<u64>,
}

impl Rooms {
    pub(super) const fn new() -> Self {
        Rooms { lists: [const { Cell::new(None) }; LISTS], filled: Cell::new(0) }
    }

    /// Forgets all.
    pub(super) fn abandon(&self) {
        self.lists.iter().for_each(|list| list.set(None));
        self.filled.set(0);
    }

    /// Of the segments that may have a hole of so many slots, one whose longest is as short as can be.
    pub(super) fn first(&self, slots: usize) -> Option<SegmentPtr> {
        let list = (self.filled.get() & u64::MAX << slots.min(LISTS - 1)).trailing_zeros() as usize;
        self.lists.get(list)?.get()
    }

    /// Puts a segment where its bound says, or nowhere, wherever it was.
    pub(super) fn put(&self, segment: SegmentPtr) {
        let room = segment.longest_at_most().min(LISTS - 1);
        if segment.room().get() == room {
            return;
        }
        self.remove(segment);
        if room > 0 {
            let next = self.lists[room].replace(Some(segment));
            let (forth, back) = segment.neighbours();
            forth.set(next);
            back.set(None);
            if let Some(next) = next {
                next.neighbours().1.set(Some(segment));
            }
            self.filled.set(self.filled.get() | 1 << room);
            segment.room().set(room);
        }
    }

    /// Takes a segment off its list, if it is on one.
    pub(super) fn remove(&self, segment: SegmentPtr) {
        let room = segment.room().replace(0);
        let Some(list) = self.lists.get(room).filter(|_| room > 0) else { return };
        let (forth, back) = segment.neighbours();
        let (next, previous) = (forth.take(), back.take());
        match previous {
            Some(previous) => previous.neighbours().0.set(next),
            None => list.set(next),
        }
        if let Some(next) = next {
            next.neighbours().1.set(previous);
        }
        if list.get().is_none() {
            self.filled.set(self.filled.get() & !(1 << room));
        }
    }

    /// Segments that may have a hole of so many slots or more, but fewer than `less`. They may be put elsewhere meanwhile,
    /// each when it has been given.
    pub(super) fn between(&self, slots: usize, less: usize) -> impl Iterator<Item = SegmentPtr> {
        let lists = self.lists.get(slots..less.min(LISTS)).unwrap_or(&[]).iter();
        lists.flat_map(|list| {
            let mut next = list.get();
            core::iter::from_fn(move || {
                let segment = next?;
                next = segment.neighbours().0.get();
                Some(segment)
            })
        })
    }
}
