//! The addresses of a pool's slabs, so that a pointer is known for the pool's before anything behind it is read: a table with
//! open addressing, at most half full.

use core::cell::Cell;
use core::ptr::NonNull;

use crate::arith;
use crate::source::Source;

/// The table. Its memory is given back by [`clear`](Self::clear).
pub(super) struct Registry {
    /// As many addresses as `mask` and one; 0: none.
    table: Cell<Option<NonNull<Cell<usize>>>>,
    mask: Cell<usize>,
    count: Cell<usize>,
}

/// Places in the first table.
const LEAST: usize = 16;

impl Registry {
    pub(super) const fn new() -> Self {
        Registry { table: Cell::new(None), mask: Cell::new(0), count: Cell::new(0) }
    }

    /// How many slabs there are.
    pub(super) fn count(&self) -> usize {
        self.count.get()
    }

    fn places(&self) -> &[Cell<usize>] {
        match self.table.get() {
            // SAFETY: the table has so many places, and stays until `grow` or `clear` replaces it, which no caller does
            // while it looks at them.
            Some(table) => unsafe { NonNull::slice_from_raw_parts(table, self.mask.get() + 1).as_ref() },
            None => &[],
        }
    }

    /// Where the search for an address begins. Addresses are multiples of 4 KiB; the multiplication spreads what is left over all
    /// high bits (Knuth, "The Art of Computer Programming", 6.4).
    fn home(&self, address: usize) -> usize {
        ((address >> 12) as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32) as usize & self.mask.get()
    }

    /// The place of an address, or the empty one where it would stand.
    fn find(&self, address: usize) -> Option<(usize, &Cell<usize>)> {
        let mut at = self.home(address);
        loop {
            // No place: there is no table.
            let place = self.places().get(at)?;
            if place.get() == address || place.get() == 0 {
                return Some((at, place));
            }
            at = (at + 1) & self.mask.get();
        }
    }

    /// Whether a slab lies at that address, which is not 0.
    pub(super) fn contains(&self, address: usize) -> bool {
        self.find(address).is_some_and(|(_, place)| place.get() == address)
    }

    /// The addresses of all slabs, in no order.
    pub(super) fn addresses(&self) -> impl Iterator<Item = usize> + '_ {
        self.places().iter().map(Cell::get).filter(|address| *address != 0)
    }

    /// Adds the address of a slab. False where there is no memory for it.
    pub(super) fn insert(&self, address: usize, source: Source) -> bool {
        if (self.count.get() + 1) * 2 > self.places().len() && !self.grow(source) {
            return false;
        }
        let Some((_, place)) = self.find(address) else { return false };
        place.set(address);
        self.count.set(self.count.get() + 1);
        true
    }

    /// Takes out an address that is there.
    pub(super) fn remove(&self, address: usize) {
        let Some((mut hole, place)) = self.find(address) else { return };
        debug_assert_eq!(place.get(), address);
        self.count.set(self.count.get() - 1);
        // What stands behind the hole, up to the next empty place, moves up if its search would end at the hole.
        let (places, mask) = (self.places(), self.mask.get());
        let mut at = hole;
        loop {
            at = (at + 1) & mask;
            let (Some(place), Some(empty)) = (places.get(at), places.get(hole)) else { return };
            let moving = place.get();
            if moving == 0 {
                return empty.set(0);
            }
            let past_home = at.wrapping_sub(self.home(moving)) & mask;
            if past_home >= (at.wrapping_sub(hole) & mask) {
                empty.set(moving);
                hole = at;
            }
        }
    }

    /// Makes room for twice as many.
    fn grow(&self, source: Source) -> bool {
        let places = (self.places().len() * 2).max(LEAST);
        let Some(bytes) = arith::array(size_of::<usize>(), places) else { return false };
        let Some(table) = source.allocate(bytes, align_of::<usize>(), true) else { return false };
        let old = (self.table.replace(Some(table.cast())), self.mask.replace(places - 1));
        let each = |address: usize| {
            if let Some((_, place)) = self.find(address) {
                place.set(address);
            }
        };
        Self::consume(old, each);
        true
    }

    /// Empties the table, gives its memory back, and calls `each` with every address that was there.
    pub(super) fn clear(&self, each: impl FnMut(usize)) {
        self.count.set(0);
        Self::consume((self.table.replace(None), self.mask.replace(0)), each);
    }

    /// Calls `each` with every address of a table, whose memory it gives back.
    fn consume((table, mask): (Option<NonNull<Cell<usize>>>, usize), each: impl FnMut(usize)) {
        let Some(table) = table else { return };
        // SAFETY: the table has so many places, and nobody else has it any more.
        let places = unsafe { NonNull::slice_from_raw_parts(table, mask + 1).as_ref() };
        places.iter().map(Cell::get).filter(|address| *address != 0).for_each(each);
        // SAFETY: `grow` took it for this size.
        unsafe { Source::free(table.cast(), size_of_val(places), align_of::<usize>()) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_whose_searches_meet_are_found_after_others_have_gone() {
        let registry = Registry::new();
        let mut there = std::collections::BTreeSet::new();
        let mut random = 1_u64;
        assert!(!registry.contains(0x1000));
        for step in 0..20_000_usize {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let address = ((random >> 33) as usize % 200 + 1) << 12;
            // It fills up, and then empties again.
            let adds = (random >> 60) < if step < 10_000 { 10 } else { 6 };
            if adds && there.insert(address) {
                assert!(registry.insert(address, Source::Caller));
            } else if !adds && there.remove(&address) {
                registry.remove(address);
            }
            assert_eq!(registry.count(), there.len());
            if step % 50 == 0 {
                for address in (1..=201).map(|page| page << 12) {
                    assert_eq!(registry.contains(address), there.contains(&address));
                }
            }
        }
        let mut cleared = Vec::new();
        registry.clear(|address| cleared.push(address));
        cleared.sort_unstable();
        assert_eq!(cleared, there.into_iter().collect::<Vec<_>>());
        assert!(!registry.contains(0x1000) && registry.count() == 0);
    }
}
