//! Segments with free slots, found by the longest hole that they may have: a list for each length, and a bit for each list
//! that is not empty, so that one with a hole of any length is found by one look, however many there are.
//!
//! How long a segment's longest hole is, is known from above: what is taken leaves the bound as it is, what is given back
//! raises it to the hole that it becomes part of, and a search in vain has the segment measured. So each search in vain is
//! paid for by something that was taken before.

use core::cell::Cell;

use crate::segment::SegmentPtr;
use crate::segment::list::{SegmentList, WITH_ROOM};

/// Lists for holes of just so many slots: below this.
const EXACT: usize = 32;
/// Beyond that, lists for each doubling of the length.
const A_DOUBLING: usize = 8;
const LISTS: usize = u64::BITS as usize;
/// Doublings until a hole's length is always below the last list's end.
const DOUBLINGS: usize = (LISTS - EXACT) / A_DOUBLING;
const _: () = assert!(crate::segment::SLOTS <= EXACT << DOUBLINGS);

/// The lists of a pool's segments of one kind.
pub(super) struct Rooms {
    lists: [SegmentList<WITH_ROOM>; LISTS],
    /// A bit for each list that is not empty.
    filled: Cell<u64>,
}

/// The list for holes of so many slots, which is not 0: of those that are no longer than that, the one for the longest.
fn list_of(slots: usize) -> usize {
    if slots < EXACT {
        return slots;
    }
    let doubling = (slots / EXACT).ilog2();
    let part = (slots >> doubling) % EXACT / (EXACT / A_DOUBLING);
    (EXACT + doubling as usize * A_DOUBLING + part).min(LISTS - 1)
}

/// The first list of which all holes are of so many slots or more.
fn first_list_for(slots: usize) -> usize {
    list_of(slots - 1) + 1
}

impl Rooms {
    pub(super) const fn new() -> Self {
        Rooms { lists: [const { SegmentList::new() }; LISTS], filled: Cell::new(0) }
    }

    /// Forgets all.
    pub(super) fn abandon(&self) {
        self.lists.iter().for_each(SegmentList::abandon);
        self.filled.set(0);
    }

    /// A segment that may have a hole of so many slots: if it has not, it is to be measured and [`put`](Self::put) anew.
    pub(super) fn first(&self, slots: usize) -> Option<SegmentPtr> {
        let enough = self.filled.get() & u64::MAX.checked_shl(first_list_for(slots) as u32)?;
        self.lists.get(enough.trailing_zeros() as usize)?.first()
    }

    /// Puts a segment where its longest hole wants it, on no list if it has none.
    pub(super) fn put(&self, segment: SegmentPtr) {
        let list = match segment.longest_at_most() {
            0 => 0,
            slots => list_of(slots),
        };
        if segment.room().get() == list {
            return;
        }
        self.remove(segment);
        if list > 0 {
            self.lists[list % LISTS].push(segment);
            self.filled.set(self.filled.get() | 1 << list);
            segment.room().set(list);
        }
    }

    /// Takes a segment off its list, if it is on one.
    pub(super) fn remove(&self, segment: SegmentPtr) {
        let room = segment.room().replace(0);
        let Some(list) = self.lists.get(room).filter(|_| room > 0) else { return };
        list.remove(segment);
        if list.first().is_none() {
            self.filled.set(self.filled.get() & !(1 << room));
        }
    }

    /// Segments that [`first`](Self::first) need not give for `enough` slots, but may have a hole of `slots`. They may be put
    /// elsewhere meanwhile, each when it has been given.
    pub(super) fn between(&self, slots: usize, enough: usize) -> impl Iterator<Item = SegmentPtr> {
        let lists = self.lists.get(list_of(slots)..first_list_for(enough).min(LISTS)).unwrap_or(&[]);
        lists.iter().flat_map(SegmentList::iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::SLOTS;

    #[test]
    fn no_hole_is_looked_for_where_only_shorter_ones_are() {
        let mut last = 0;
        for slots in 2..=SLOTS {
            let list = list_of(slots);
            assert!(list == last || list == last + 1 || slots == 2, "{slots}: no list is left out");
            last = list;
            let shortest_there = (1..=SLOTS).find(|length| list_of(*length) == first_list_for(slots));
            assert!(shortest_there.is_none_or(|length| length >= slots), "{slots}");
            assert!(first_list_for(slots) <= list + 1, "{slots}: at most one list need be looked through");
        }
        assert!(last < LISTS);
    }
}
