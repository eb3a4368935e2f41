//! A row of numbers with a tree of maxima above it that may be one number behind.
//!
//! A block that is freed is often the next to be handed out. The number that has grown last is therefore kept beside the
//! tree, and written into it when another one grows: where it shrinks again before, the tree is never touched.

use super::maxima::Maxima;
use crate::source::Source;

/// A row of numbers that are 0 at first.
pub(super) struct LateMaxima {
    /// All numbers, but for the late one what it was before it grew.
    tree: Maxima,
    late: Late,
}

/// The number that has grown last; 0 where there is none. Where the tree says more, that counts.
struct Late {
    place: usize,
    number: u32,
}

impl LateMaxima {
    /// A row of `length` zeros, or more.
    pub(super) fn new(source: Source, length: usize) -> Option<Self> {
        Some(LateMaxima { tree: Maxima::new(source, length)?, late: Late { place: 0, number: 0 } })
    }

    /// The largest of all.
    #[inline]
    pub(super) fn largest(&self) -> u32 {
        self.tree.largest().max(self.late.number)
    }

    /// The number at a place.
    #[inline]
    pub(super) fn at(&self, place: usize) -> u32 {
        let written = self.tree.at(place);
        if self.late.place == place { written.max(self.late.number) } else { written }
    }

    /// As [`Maxima::set`].
    #[inline]
    pub(super) fn set(&mut self, place: usize, number: u32) {
        if self.late.place == place {
            if number > self.tree.at(place) {
                self.late.number = number;
                return;
            }
            self.late.number = 0;
        }
        self.tree.set(place, number);
    }

    /// Sets the number at a place, unless it is as large already.
    #[inline]
    pub(super) fn raise(&mut self, place: usize, number: u32) {
        if self.late.place == place {
            self.late.number = self.late.number.max(number);
            return;
        }
        if self.late.number > 0 {
            self.tree.raise(self.late.place, self.late.number);
        }
        self.late = Late { place, number };
    }

    /// The first place that is not before `from` where the number is `least` (not 0) or more.
    #[inline(always)]
    pub(super) fn first(&self, from: usize, least: u32) -> Option<usize> {
        let late = (self.late.number >= least && self.late.place >= from).then_some(self.late.place);
        if self.tree.largest() < least {
            return late;
        }
        match (self.tree.first(from, least), late) {
            (Some(found), Some(late)) => Some(found.min(late)),
            (found, late) => found.or(late),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_that_is_not_in_the_tree_yet_counts_all_the_same() {
        for length in [1, 3, 50] {
            let mut maxima = LateMaxima::new(Source::Caller, length).unwrap();
            let mut model = vec![0; length];
            let mut number = 99_u64;
            for _ in 0..2000 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (place, value) = ((number >> 40) as usize % length, (number >> 33) as u32 % 10);
                match number >> 60 & 3 {
                    // The one that has grown last shrinks again.
                    0 => {
                        maxima.raise(place, 10);
                        model[place] = value;
                        maxima.set(place, value);
                    }
                    1 => {
                        maxima.set(place, value);
                        model[place] = value;
                    }
                    _ => {
                        maxima.raise(place, value);
                        model[place] = value.max(model[place]);
                    }
                }
                assert_eq!(maxima.at(place), model[place]);
                assert_eq!(Some(&maxima.largest()), model.iter().max());
                for (from, least) in (0..length).flat_map(|from| [1, 3, 9, 10].map(|least| (from, least))) {
                    let right = (from..length).find(|place| model[*place] >= least);
                    assert_eq!(maxima.first(from, least), right, "{model:?} from {from}, {least} or more");
                }
            }
        }
    }
}
