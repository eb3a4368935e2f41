//! Segments by the longest row that they may have, of free slots or of dirty ones: a list for each length, and a bit for each
//! list that is not empty, so that one with a row of any length is found by one look, however many there are.
//!
//! How long a segment's longest row is, is known from above: what is taken leaves the bound as it is, what is given back
//! raises it to the row that it becomes part of, and a search in vain has the segment measured. So each search in vain is
//! paid for by something that was taken before.

use core::cell::Cell;

use crate::segment::list::{SegmentList, WITH_DIRTY_ROOM, WITH_ROOM};
use crate::segment::{SLOTS, SegmentPtr};

/// Lists for rows of just so many slots, below this; beyond it, a quarter as many for each doubling of the length.
const FINE: usize = 32;
const COARSE: usize = 16;

const fn lists(exact: usize) -> usize {
    exact + (SLOTS / exact).ilog2() as usize * exact / 4
}

/// By rows of free slots.
pub(super) type Rooms = ByRow<WITH_ROOM, FINE, { lists(FINE) }>;
/// By rows of dirty ones.
pub(super) type DirtyRooms = ByRow<WITH_DIRTY_ROOM, COARSE, { lists(COARSE) }>;

/// The lists of a pool's segments of one use.
pub(super) struct ByRow<const KIND: usize, const EXACT: usize, const LISTS: usize> {
    lists: [SegmentList<KIND>; LISTS],
    /// A bit for each list that is not empty.
    filled: Cell<u64>,
}

impl<const KIND: usize, const EXACT: usize, const LISTS: usize> ByRow<KIND, EXACT, LISTS> {
    pub(super) const fn new() -> Self {
        const { assert!(LISTS <= u64::BITS as usize && EXACT.is_power_of_two()) };
        ByRow { lists: [const { SegmentList::new() }; LISTS], filled: Cell::new(0) }
    }

    /// The list for rows of so many slots, which is not 0: of those that are no longer than that, the one for the longest.
    fn list_of(slots: usize) -> usize {
        if slots < EXACT {
            return slots;
        }
        let doubling = (slots / EXACT).ilog2();
        let part = (slots >> doubling) % EXACT / 4;
        (EXACT + doubling as usize * EXACT / 4 + part).min(LISTS - 1)
    }

    /// The first list of which all rows are of so many slots or more.
    fn first_list_for(slots: usize) -> usize {
        Self::list_of(slots - 1) + 1
    }

    /// Forgets all.
    pub(super) fn abandon(&self) {
        self.lists.iter().for_each(SegmentList::abandon);
        self.filled.set(0);
    }

    /// A segment that may have a row of so many slots: if it has not, it is to be measured and [`put`](Self::put) anew.
    pub(super) fn first(&self, slots: usize) -> Option<SegmentPtr> {
        let enough = self.filled.get() & u64::MAX.checked_shl(Self::first_list_for(slots) as u32)?;
        self.lists.get(enough.trailing_zeros() as usize)?.first()
    }

    /// Puts a segment where its longest row wants it, on no list if it has none.
    pub(super) fn put(&self, segment: SegmentPtr) {
        let row = segment.longest_row(KIND);
        let list = match row.at_most.get() {
            0 => 0,
            slots => Self::list_of(slots as usize),
        };
        if usize::from(row.list.get()) == list {
            return;
        }
        self.remove(segment);
        if list > 0
            && let Some(place) = self.lists.get(list)
        {
            place.push(segment);
            self.filled.set(self.filled.get() | 1 << list);
            row.list.set(list as u8);
        }
    }

    /// Takes a segment off its list, if it is on one.
    pub(super) fn remove(&self, segment: SegmentPtr) {
        let number = usize::from(segment.longest_row(KIND).list.replace(0));
        let Some(list) = self.lists.get(number).filter(|_| number > 0) else { return };
        list.remove(segment);
        if list.first().is_none() {
            self.filled.set(self.filled.get() & !(1 << number));
        }
    }

    /// Segments that [`first`](Self::first) need not give for `enough` slots, but may have a row of `slots`. They may be put
    /// elsewhere meanwhile, each when it has been given.
    pub(super) fn between(&self, slots: usize, enough: usize) -> impl Iterator<Item = SegmentPtr> {
        let lists = self.lists.get(Self::list_of(slots)..Self::first_list_for(enough).min(LISTS)).unwrap_or(&[]);
        lists.iter().flat_map(SegmentList::iter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_length<const KIND: usize, const EXACT: usize, const LISTS: usize>(_: &ByRow<KIND, EXACT, LISTS>) {
        let list_of = ByRow::<KIND, EXACT, LISTS>::list_of;
        let first_list_for = ByRow::<KIND, EXACT, LISTS>::first_list_for;
        let mut last = 1;
        for slots in 2..=SLOTS {
            let list = list_of(slots);
            assert!(list == last || list == last + 1, "{slots}: no list is left out");
            last = list;
            let shortest_there = (1..=SLOTS).find(|length| list_of(*length) == first_list_for(slots));
            assert!(shortest_there.is_none_or(|length| length >= slots), "{slots}");
            assert!(first_list_for(slots) <= list + 1, "{slots}: at most one list need be looked through");
        }
        assert!(last < LISTS);
    }

    #[test]
    fn no_row_is_looked_for_where_only_shorter_ones_are() {
        each_length(&Rooms::new());
        each_length(&DirtyRooms::new());
    }
}
