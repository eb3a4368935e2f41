//! A set of small numbers as bits, with levels of summaries above them, so that the nearest member on either side of any
//! number is found in a few steps, however long the set is.

use super::array::Array;
use crate::source::Source;

/// Bits of a word.
const WORD: usize = u64::BITS as usize;
/// Levels at most, the members' own included.
const LEVELS: usize = 5;
/// The most numbers that a set can be over.
pub(super) const MOST: usize = WORD.pow(LEVELS as u32);

/// A set of numbers below its length.
pub(super) struct Bits {
    /// All levels, the members' own first. A bit of a level says that the word of that number, of the level before it, has
    /// a bit.
    words: Array<u64>,
    /// By level: its first word.
    first: [usize; LEVELS],
    /// By level: how many words.
    count: [usize; LEVELS],
    levels: usize,
}

impl Bits {
    /// The empty set over the numbers below `length`, which is not 0 and at most [`MOST`].
    pub(super) fn new(source: Source, length: usize) -> Option<Self> {
        debug_assert!(0 < length && length <= MOST);
        let (mut first, mut count) = ([0; LEVELS], [0; LEVELS]);
        let (mut levels, mut total, mut left) = (0, 0, length);
        while levels < LEVELS && (levels == 0 || left > 1) {
            left = left.div_ceil(WORD);
            (first[levels], count[levels]) = (total, left);
            total += left;
            levels += 1;
        }
        Some(Bits { words: Array::zeros(source, total)?, first, count, levels })
    }

    /// The word with that number, all levels counted.
    #[inline]
    fn word(&self, word: usize) -> u64 {
        self.words.get(word).copied().unwrap_or(0)
    }

    /// Where the words of a level begin.
    #[inline]
    fn first(&self, level: usize) -> usize {
        self.first.get(level).copied().unwrap_or(0)
    }

    #[inline(never)]
    pub(super) fn insert(&mut self, number: usize) {
        let mut number = number;
        for level in 0..self.levels {
            let first = self.first(level);
            let Some(word) = self.words.get_mut(first + number / WORD) else { return };
            let old = *word;
            *word |= 1 << (number % WORD);
            if old != 0 {
                return;
            }
            number /= WORD;
        }
    }

    #[inline(never)]
    pub(super) fn remove(&mut self, number: usize) {
        let mut number = number;
        for level in 0..self.levels {
            let first = self.first(level);
            let Some(word) = self.words.get_mut(first + number / WORD) else { return };
            *word &= !(1 << (number % WORD));
            if *word != 0 {
                return;
            }
            number /= WORD;
        }
    }

    /// The least member that is not below `number`.
    #[inline(never)]
    pub(super) fn next(&self, number: usize) -> Option<usize> {
        let mut at = number;
        for level in 0..self.levels {
            let word = at / WORD;
            if word >= self.count.get(level).copied()? {
                return None;
            }
            let found = self.word(self.first(level) + word) & u64::MAX << (at % WORD);
            if found != 0 {
                let mut at = word * WORD + found.trailing_zeros() as usize;
                for below in (0..level).rev() {
                    at = at * WORD + self.word(self.first(below) + at).trailing_zeros() as usize;
                }
                return Some(at);
            }
            at = word + 1;
        }
        None
    }

    /// The greatest member that is not above `number`, which is below the set's length.
    #[inline(never)]
    pub(super) fn previous(&self, number: usize) -> Option<usize> {
        let mut at = number;
        for level in 0..self.levels {
            let word = at / WORD;
            let found = self.word(self.first(level) + word) & u64::MAX >> (WORD - 1 - at % WORD);
            if found != 0 {
                let mut at = word * WORD + last(found);
                for below in (0..level).rev() {
                    at = at * WORD + last(self.word(self.first(below) + at));
                }
                return Some(at);
            }
            at = word.checked_sub(1)?;
        }
        None
    }
}

/// The number of a word's last bit, of which there is one.
#[inline]
fn last(word: u64) -> usize {
    // Of no bit at all this makes 63, so that nothing can go beyond a word.
    WORD - 1 - (word.leading_zeros() as usize) % WORD
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_nearest_member_on_either_side_is_found_across_all_levels() {
        for length in [1, 2, 63, 64, 65, 4096, 4097, 300_000] {
            let mut bits = Bits::new(Source::Caller, length).unwrap();
            let mut model = BTreeSet::new();
            let mut number = 12_345_u64;
            for step in 0..2000 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let member = (number >> 33) as usize % length;
                if step % 3 == 2 {
                    let gone = model.iter().copied().nth(member % model.len().max(1));
                    if let Some(gone) = gone {
                        bits.remove(gone);
                        model.remove(&gone);
                    }
                } else {
                    bits.insert(member);
                    model.insert(member);
                }
                for near in [0, member.saturating_sub(1), member, (member + 1).min(length - 1), length - 1] {
                    assert_eq!(bits.next(near), model.range(near..).next().copied(), "{length} {near}");
                    assert_eq!(bits.previous(near), model.range(..=near).next_back().copied(), "{length} {near}");
                }
                assert_eq!(bits.next(length), None);
            }
        }
    }
}
