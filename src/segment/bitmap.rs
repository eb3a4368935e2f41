//! A bit a slot.

use core::cell::Cell;

use super::SLOTS;
use crate::arith::align_up;

const WORDS: usize = SLOTS / 64;

/// The bits. Not shared: guarded by the node's lock.
pub(super) struct Bitmap([Cell<u64>; WORDS]);

/// Calls `each` with the number of every word that the range touches, and the range's bits in it.
fn words(first: usize, count: usize, mut each: impl FnMut(usize, u64)) {
    let end = (first + count).min(SLOTS);
    let mut at = first;
    while at < end {
        let word = at / 64;
        let from = at % 64;
        let to = (end - word * 64).min(64);
        let mask = (u64::MAX >> (64 - (to - from))) << from;
        each(word % WORDS, mask);
        at = (word + 1) * 64;
    }
}

impl Bitmap {
    #[cfg(test)]
    fn new() -> Self {
        Bitmap([const { Cell::new(0) }; WORDS])
    }

    /// The bits that are set in either.
    pub(super) fn with(&self, other: &Bitmap) -> Bitmap {
        Bitmap(core::array::from_fn(|word| Cell::new(self.0[word].get() | other.0[word].get())))
    }

    pub(super) fn set_range(&self, first: usize, count: usize) {
        words(first, count, |word, mask| self.0[word].set(self.0[word].get() | mask));
    }

    pub(super) fn clear_range(&self, first: usize, count: usize) {
        words(first, count, |word, mask| self.0[word].set(self.0[word].get() & !mask));
    }

    /// Clears the range; says how many of its bits were set.
    pub(super) fn take_range(&self, first: usize, count: usize) -> usize {
        let mut taken = 0;
        words(first, count, |word, mask| {
            let bits = self.0[word].get() & mask;
            if bits != 0 {
                self.0[word].set(self.0[word].get() & !bits);
                taken += bits.count_ones() as usize;
            }
        });
        taken
    }

    pub(super) fn count(&self, first: usize, count: usize) -> usize {
        let mut sum = 0;
        words(first, count, |word, mask| sum += (self.0[word].get() & mask).count_ones() as usize);
        sum
    }

    pub(super) fn any_set(&self, first: usize, count: usize) -> bool {
        self.count(first, count) > 0
    }

    pub(super) fn all_set(&self, first: usize, count: usize) -> bool {
        self.count(first, count) == count
    }

    /// The lowest `count` adjacent set bits whose first is a multiple of `align`, a power of two.
    pub(super) fn lowest_run(&self, count: usize, align: usize) -> Option<usize> {
        let mut from = 0;
        while let Some((first, length)) = self.next_run(from) {
            let aligned = align_up(first, align)?;
            if aligned + count <= first + length {
                return Some(aligned);
            }
            from = first + length;
        }
        None
    }

    /// How long the longest run of set bits is.
    pub(super) fn longest_run(&self) -> usize {
        let (mut longest, mut from) = (0, 0);
        while let Some((first, length)) = self.next_run(from) {
            longest = longest.max(length);
            from = first + length;
        }
        longest
    }

    /// How long the run of set bits is that one lies in which is set.
    pub(super) fn run_around(&self, bit: usize) -> usize {
        let end = self.find(bit, false).unwrap_or(SLOTS);
        let (mut word, mut mask) = (bit / 64, !(u64::MAX << (bit % 64)));
        let first = loop {
            let clear = !self.0[word % WORDS].get() & mask;
            if clear != 0 {
                break word * 64 + 64 - clear.leading_zeros() as usize;
            }
            if word == 0 {
                break 0;
            }
            (word, mask) = (word - 1, u64::MAX);
        };
        end - first
    }

    /// The first run of set bits that begins at `from` or later (or that `from` lies in): its start and length.
    pub(super) fn next_run(&self, from: usize) -> Option<(usize, usize)> {
        let first = self.find(from, true)?;
        let end = self.find(first, false).unwrap_or(SLOTS);
        Some((first, end - first))
    }

    /// The first bit from `from` on that is `set`.
    fn find(&self, from: usize, set: bool) -> Option<usize> {
        let mut word = from / 64;
        let mut mask = u64::MAX << (from % 64);
        while word < WORDS {
            let bits = if set { self.0[word].get() } else { !self.0[word].get() } & mask;
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            mask = u64::MAX;
        }
        None
    }

    /// Takes over the other's bits, which it loses.
    pub(super) fn take_from(&self, other: &Bitmap) {
        for (own, other) in self.0.iter().zip(&other.0) {
            own.set(own.get() | other.take());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_across_words_are_set_counted_and_cleared_exactly() {
        for first in [0, 1, 62, 63, 64, 65, 127, 500] {
            for count in [1, 2, 12, 64, 65, 128, 200] {
                if first + count > SLOTS {
                    continue;
                }
                let map = Bitmap::new();
                map.set_range(first, count);
                assert_eq!(map.count(0, SLOTS), count);
                assert!(map.all_set(first, count));
                assert_eq!(map.next_run(0), Some((first, count)));
                map.clear_range(first, count);
                assert!(!map.any_set(0, SLOTS));
            }
        }
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn a_run_is_found_lowest_first_and_aligned() {
        let map = Bitmap::new();
        map.set_range(3, 4);
        map.set_range(60, 40);
        map.set_range(511, 1);
        assert_eq!(map.lowest_run(1, 1), Some(3));
        assert_eq!(map.lowest_run(4, 1), Some(3));
        assert_eq!(map.lowest_run(5, 1), Some(60));
        assert_eq!(map.lowest_run(4, 4), Some(60));
        assert_eq!(map.lowest_run(8, 32), Some(64));
        assert_eq!(map.lowest_run(41, 1), None);
        assert_eq!(map.lowest_run(37, 64), None);
        assert_eq!(map.next_run(500), Some((511, 1)));
    }

    #[test]
    fn the_length_of_a_run_is_told_from_any_of_its_bits_and_the_longest_of_all() {
        for (first, count) in [(0, 1), (0, 64), (3, 61), (63, 2), (64, 64), (60, 200), (1, SLOTS - 2), (SLOTS - 1, 1)] {
            if first + count > SLOTS {
                continue;
            }
            let map = Bitmap::new();
            map.set_range(first, count);
            for bit in first..first + count {
                assert_eq!(map.run_around(bit), count, "{first} {count} {bit}");
            }
            assert_eq!(map.longest_run(), count);
            map.set_range(0, first.saturating_sub(1));
            assert_eq!(map.run_around(first), count);
            assert_eq!(map.longest_run(), count.max(first.saturating_sub(1)));
        }
        assert_eq!(Bitmap::new().longest_run(), 0);
    }
}
