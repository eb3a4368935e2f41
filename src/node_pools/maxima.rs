//! A row of numbers, with a tree of maxima above it: the first of them, from any place on, that is large enough is found
//! in a few steps.

use super::array::Array;
use crate::source::Source;

/// Children of a node.
const CHILDREN: usize = 4;

/// A row of numbers that are 0 at first.
pub(super) struct Maxima {
    /// The root first, the children of `n` from `4 n + 1` on, the row itself from `first_leaf` on.
    nodes: Array<u32>,
    first_leaf: usize,
    /// As the root, at hand.
    largest: u32,
}

impl Maxima {
    /// A row of `length` zeros, or more.
    pub(super) fn new(source: Source, length: usize) -> Option<Self> {
        let (mut leaves, mut first_leaf) = (1_usize, 0);
        while leaves < length {
            first_leaf += leaves;
            leaves = leaves.checked_mul(CHILDREN)?;
        }
        let nodes = Array::zeros(source, first_leaf.checked_add(leaves)?)?;
        Some(Maxima { nodes, first_leaf, largest: 0 })
    }

    /// The largest of all.
    #[inline]
    pub(super) fn largest(&self) -> u32 {
        self.largest
    }

    /// The number at a place.
    #[inline]
    pub(super) fn at(&self, place: usize) -> u32 {
        self.nodes.get(self.first_leaf + place).copied().unwrap_or(0)
    }

    /// Where several numbers change, those that grow are best set before those that shrink: what a large one is in place of
    /// is then found in few steps.
    #[inline]
    pub(super) fn set(&mut self, place: usize, number: u32) {
        let leaf = self.first_leaf + place;
        let Some(node) = self.nodes.get_mut(leaf).filter(|node| **node != number) else { return };
        *node = number;
        match leaf {
            0 => self.largest = number,
            _ => self.look_above(leaf),
        }
    }

    /// Has all nodes above one that has changed say what they are to say.
    #[inline(never)]
    fn look_above(&mut self, node: usize) {
        let mut at = node;
        while let Some(before) = at.checked_sub(1) {
            at = before / CHILDREN;
            let children = self.nodes.get(CHILDREN * at + 1..).and_then(|rest| rest.first_chunk::<CHILDREN>());
            let Some([a, b, c, d]) = children else { return };
            let number = (*a).max(*b).max((*c).max(*d));
            let Some(node) = self.nodes.get_mut(at).filter(|node| **node != number) else { return };
            *node = number;
        }
        self.largest = self.nodes.first().copied().unwrap_or(0);
    }

    /// Sets the number at a place, unless it is as large already.
    #[inline(never)]
    pub(super) fn raise(&mut self, place: usize, number: u32) {
        let mut at = self.first_leaf + place;
        while let Some(node) = self.nodes.get_mut(at).filter(|node| **node < number) {
            *node = number;
            let Some(before) = at.checked_sub(1) else { break };
            at = before / CHILDREN;
        }
        self.largest = self.largest.max(number);
    }

    /// The first place that is not before `from` where the number is `least` (not 0) or more.
    #[inline]
    pub(super) fn first(&self, from: usize, least: u32) -> Option<usize> {
        let nodes = &self.nodes[..];
        let mut at = if from == 0 { 0 } else { self.first_leaf + from };
        while *nodes.get(at)? < least {
            // Up from last children, then to the subtree that follows.
            while at % CHILDREN == 0 {
                at = at.checked_sub(1)? / CHILDREN;
            }
            at += 1;
        }
        while at < self.first_leaf {
            at = CHILDREN * at + 1;
            while *nodes.get(at)? < least {
                at += 1;
            }
        }
        Some(at - self.first_leaf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_is_large_enough_is_found_from_every_place_on() {
        for length in [1, 2, 3, 8, 50] {
            let mut maxima = Maxima::new(Source::Caller, length).unwrap();
            let mut model = vec![0; length];
            let mut number = 99_u64;
            for _ in 0..500 {
                number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let (place, value) = ((number >> 40) as usize % length, (number >> 33) as u32 % 10);
                if number & 1 << 60 == 0 {
                    maxima.set(place, value);
                    model[place] = value;
                } else {
                    maxima.raise(place, value);
                    model[place] = value.max(model[place]);
                }
                assert_eq!(maxima.at(place), model[place]);
                assert_eq!(Some(&maxima.largest()), model.iter().max());
                for (from, least) in (0..=length).flat_map(|from| [1, 3, 9, 10].map(|least| (from, least))) {
                    let right = (from..model.len()).find(|place| model[*place] >= least);
                    assert_eq!(maxima.first(from, least), right, "{model:?} from {from}, {least} or more");
                }
            }
        }
    }
}
