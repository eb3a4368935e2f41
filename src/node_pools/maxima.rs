//! A row of numbers, with a tree of maxima above it: the first of them, from any place on, that is large enough is found
//! in a few steps.

use super::array::Array;
use crate::source::Source;

/// A row of numbers that are 0 at first.
pub(super) struct Maxima {
    /// A binary heap's layout: the root at 1, the children of `n` at `2 n` and `2 n + 1`, the row itself from `leaves` on.
    nodes: Array<u32>,
    /// A power of two.
    leaves: usize,
}

impl Maxima {
    /// A row of `length` zeros.
    pub(super) fn new(source: Source, length: usize) -> Option<Self> {
        let leaves = length.checked_next_power_of_two()?;
        Some(Maxima { nodes: Array::zeros(source, leaves.checked_mul(2)?)?, leaves })
    }

    /// How many numbers the row has room for.
    pub(super) fn length(&self) -> usize {
        self.leaves
    }

    /// The largest of all.
    #[inline]
    pub(super) fn largest(&self) -> u32 {
        self.nodes[1]
    }

    #[inline]
    pub(super) fn set(&mut self, place: usize, number: u32) {
        let mut at = self.leaves + place;
        let mut number = number;
        loop {
            if self.nodes[at] == number {
                return;
            }
            self.nodes[at] = number;
            if at == 1 {
                return;
            }
            number = number.max(self.nodes[at ^ 1]);
            at /= 2;
        }
    }

    /// The first place that is not before `from` where the number is `least` (not 0) or more.
    pub(super) fn first(&self, from: usize, least: u32) -> Option<usize> {
        if from >= self.leaves {
            return None;
        }
        let mut at = if from == 0 { 1 } else { self.leaves + from };
        while self.nodes[at] < least {
            // Up from right children, then to the subtree that follows. All before the root's are right children at the end.
            while at % 2 == 1 {
                at /= 2;
            }
            if at == 0 {
                return None;
            }
            at += 1;
        }
        while at < self.leaves {
            at *= 2;
            if self.nodes[at] < least {
                at += 1;
            }
        }
        Some(at - self.leaves)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_large_enough_is_found_from_every_place_on() {
        for length in [1, 2, 3, 8, 50] {
            let mut maxima = Maxima::new(Source::Caller, length).unwrap();
            let mut model = vec![0; maxima.length()];
            let mut number = 99_u64;
            for _ in 0..500 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (place, value) = ((number >> 40) as usize % length, (number >> 33) as u32 % 10);
                maxima.set(place, value);
                model[place] = value;
                assert_eq!(Some(&maxima.largest()), model.iter().max());
                for (from, least) in (0..=length).flat_map(|from| [1, 3, 9, 10].map(|least| (from, least))) {
                    let right = (from..model.len()).find(|place| model[*place] >= least);
                    assert_eq!(maxima.first(from, least), right, "{model:?} from {from}, {least} or more");
                }
            }
        }
    }
}
