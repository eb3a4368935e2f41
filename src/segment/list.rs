//! Lists of a pool's segments, through their headers; guarded by the node's lock.

use core::cell::Cell;

use super::SegmentPtr;

/// How many lists a segment can be on at a time.
const KINDS: usize = 3;
/// All segments of a pool.
pub(crate) const ALL: usize = 0;
/// Those with holes of a length.
pub(crate) const WITH_ROOM: usize = 1;
/// Those with free slots that hold old data; and some that had.
pub(crate) const DIRTY: usize = 2;

/// A segment's place on a list.
struct Links {
    is_on: Cell<bool>,
    next: Cell<Option<SegmentPtr>>,
    previous: Cell<Option<SegmentPtr>>,
}

/// A segment's places on its lists. All zero: it is on none.
pub(super) struct Places([Links; KINDS]);

/// A list, newest first; of the kind that its number tells.
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

    /// The newest.
    pub(crate) fn first(&self) -> Option<SegmentPtr> {
        self.0.get()
    }

    /// Puts a segment on it that is on no list of the kind.
    pub(crate) fn push(&self, segment: SegmentPtr) {
        let next = self.0.replace(Some(segment));
        let links = Self::links(&segment);
        debug_assert!(!links.is_on.get());
        links.is_on.set(true);
        links.next.set(next);
        links.previous.set(None);
        if let Some(next) = next {
            Self::links(&next).previous.set(Some(segment));
        }
    }

    /// Takes a segment off it, if it is on it; it is on no other of the kind.
    pub(crate) fn remove(&self, segment: SegmentPtr) {
        let links = Self::links(&segment);
        if !links.is_on.replace(false) {
            return;
        }
        let (next, previous) = (links.next.take(), links.previous.take());
        match previous {
            Some(previous) => Self::links(&previous).next.set(next),
            None => self.0.set(next),
        }
        if let Some(next) = next {
            Self::links(&next).previous.set(previous);
        }
    }

    /// Whether a segment is on a list of the kind.
    pub(crate) fn has(segment: SegmentPtr) -> bool {
        Self::links(&segment).is_on.get()
    }

    /// Its segments. Each may be put elsewhere, or be gone, once it has been given.
    pub(crate) fn iter(&self) -> impl Iterator<Item = SegmentPtr> + use<KIND> {
        let mut next = self.0.get();
        core::iter::from_fn(move || {
            let segment = next?;
            next = Self::links(&segment).next.get();
            Some(segment)
        })
    }

    /// Forgets all.
    pub(crate) fn abandon(&self) {
        self.0.set(None);
    }
}
