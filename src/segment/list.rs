//! Lists of a pool's segments, through their headers; guarded by the node's lock.

use core::cell::Cell;

use super::SegmentPtr;

/// How many lists a segment can be on at a time.
const KINDS: usize = 4;
/// All segments of a pool.
pub(crate) const ALL: usize = 0;
/// Those with free slots that hold old data; and some that had.
pub(crate) const DIRTY: usize = 1;
/// Those with free slots, by the longest hole.
pub(crate) const WITH_ROOM: usize = 2;
/// Those with dirty slots, by the longest row of them.
pub(crate) const WITH_DIRTY_ROOM: usize = 3;

/// A segment's place on a list: between its neighbours, in a circle.
struct Links {
    is_on: Cell<bool>,
    next: Cell<Option<SegmentPtr>>,
    previous: Cell<Option<SegmentPtr>>,
}

/// A segment's places on its lists. All zero: it is on none.
pub(super) struct Places([Links; KINDS]);

/// A list; of the kind that its number tells.
pub(crate) struct SegmentList<const KIND: usize>(Cell<Option<SegmentPtr>>);

impl<const KIND: usize> SegmentList<KIND> {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        const { assert!(KIND < KINDS) };
        SegmentList(Cell::new(None))
    }

    fn links(segment: &SegmentPtr) -> &Links {
        &segment.header().places.0[KIND]
    }

    /// The first.
    pub(crate) fn first(&self) -> Option<SegmentPtr> {
        self.0.get()
    }

    /// Puts a segment at its front that is on no list of the kind.
    pub(crate) fn push(&self, segment: SegmentPtr) {
        self.push_back(segment);
        self.0.set(Some(segment));
    }

    /// The same at its end.
    pub(crate) fn push_back(&self, segment: SegmentPtr) {
        let first = self.0.get().unwrap_or(segment);
        let last = Self::links(&first).previous.get().filter(|_| first != segment).unwrap_or(segment);
        let links = Self::links(&segment);
        debug_assert!(!links.is_on.get(), "a segment is put on a list twice");
        links.is_on.set(true);
        links.next.set(Some(first));
        links.previous.set(Some(last));
        Self::links(&first).previous.set(Some(segment));
        Self::links(&last).next.set(Some(segment));
        self.0.set(Some(first));
    }

    /// Takes a segment off it, if it is on it; it is on no other of the kind.
    pub(crate) fn remove(&self, segment: SegmentPtr) {
        let links = Self::links(&segment);
        if !links.is_on.replace(false) {
            return;
        }
        let (Some(next), Some(previous)) = (links.next.take(), links.previous.take()) else { return };
        Self::links(&next).previous.set(Some(previous));
        Self::links(&previous).next.set(Some(next));
        if self.0.get() == Some(segment) {
            self.0.set((next != segment).then_some(next));
        }
    }

    /// Its segments. Each may be put elsewhere, or be gone, once it has been given.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SegmentPtr> + use<KIND> {
        let mut next = self.0.get();
        let last = next.and_then(|first| Self::links(&first).previous.get());
        core::iter::from_fn(move || {
            let segment = next?;
            next = if Some(segment) == last { None } else { Self::links(&segment).next.get() };
            Some(segment)
        })
    }

    /// Forgets all.
    pub(crate) fn abandon(&self) {
        self.0.set(None);
    }
}
