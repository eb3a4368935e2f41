//! A pool's regions by address, each with a number: that one is found which an address leads to, and the first, from any
//! address on, whose number is large enough.
//!
//! A treap (R. Seidel, C. Aragon, "Randomized Search Trees", 1996), each node of which knows the largest number below it:
//! what lies lower in memory is on the left, and a node's rank is no higher than that of the one above it. A rank is the
//! address with its bits mixed, so that the tree is as deep as if they had come in random order, in whichever they come.

use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::array;
use crate::source::Source;

type Link<T> = Option<NonNull<Node<T>>>;

/// The tree. It owns its nodes, and all links lead to nodes of their own tree.
pub(super) struct Tree<T> {
    root: Link<T>,
    length: usize,
    /// Looks at nodes so far.
    #[cfg(test)]
    pub(super) looks: core::cell::Cell<usize>,
}

// SAFETY: the tree owns its nodes and their values alone.
unsafe impl<T: Send> Send for Tree<T> {}

struct Node<T> {
    address: usize,
    number: u32,
    /// The largest number of this node and those below it.
    largest: u32,
    above: Link<T>,
    /// On the left and on the right.
    below: [Link<T>; 2],
    value: T,
}

/// A value in a tree, and the tree.
pub(super) struct Entry<'a, T> {
    tree: &'a mut Tree<T>,
    at: NonNull<Node<T>>,
}

/// Mixed so that no row of addresses becomes a row of ranks; different for each address.
fn rank(address: usize) -> u64 {
    let mixed = (address as u64 ^ address as u64 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

impl<T> Tree<T> {
    /// An empty one, which holds no memory.
    pub(super) const fn new() -> Self {
        Tree {
            root: None,
            length: 0,
            #[cfg(test)]
            looks: core::cell::Cell::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The largest number.
    #[inline]
    pub(super) fn largest(&self) -> u32 {
        self.largest_in(self.root)
    }

    #[inline]
    fn largest_in(&self, top: Link<T>) -> u32 {
        top.map_or(0, |top| self.node(top).largest)
    }

    /// The last value whose address is not above that one.
    #[inline]
    pub(super) fn find(&mut self, address: usize) -> Option<Entry<'_, T>> {
        let (mut at, mut found) = (self.root, None);
        while let Some(node) = at {
            let is_found = self.node(node).address <= address;
            found = if is_found { at } else { found };
            at = self.node(node).below[usize::from(is_found)];
        }
        found.map(|at| Entry { tree: self, at })
    }

    /// The first value whose number is `least` (not 0) or more.
    #[inline]
    pub(super) fn first(&mut self, least: u32) -> Option<Entry<'_, T>> {
        self.first_below(self.root, least).map(|at| Entry { tree: self, at })
    }

    /// The same, from that address on.
    pub(super) fn first_from(&mut self, from: usize, least: u32) -> Option<Entry<'_, T>> {
        // The last node whose left side was gone to, of those that are large enough or have one on their right.
        let (mut at, mut after) = (self.root, None);
        while let Some(here) = at {
            let node = self.node(here);
            let [left, right] = node.below;
            if node.address < from {
                at = right;
            } else {
                after = if node.number >= least || self.largest_in(right) >= least { at } else { after };
                at = left;
            }
        }
        let node = self.node(after?);
        let at = if node.number >= least { after } else { self.first_below(node.below[1], least) };
        at.map(|at| Entry { tree: self, at })
    }

    /// The first node of a subtree whose number is so large.
    #[inline]
    fn first_below(&self, top: Link<T>, least: u32) -> Link<T> {
        if self.largest_in(top) < least {
            return None;
        }
        let mut at = top;
        while let Some(here) = at {
            let node = self.node(here);
            let [left, right] = node.below;
            if self.largest_in(left) >= least {
                at = left;
            } else if node.number >= least {
                break;
            } else {
                at = right;
            }
        }
        at
    }

    /// Puts a value at an address that has none. Gives it back where there is no memory for its node.
    pub(super) fn insert(&mut self, source: Source, address: usize, number: u32, value: T) -> Result<(), T> {
        let node = Node { address, number, largest: number, above: None, below: [None; 2], value };
        let new = array::put(source, node).map_err(|node| node.value)?;
        let (mut above, mut at) = (None, self.root);
        while let Some(node) = at {
            above = at;
            at = self.node(node).below[usize::from(self.node(node).address < address)];
        }
        self.hang(above, address, Some(new));
        self.length += 1;
        self.look_up(above);
        while let Some(above) = self.node(new).above
            && rank(self.node(above).address) < rank(address)
        {
            self.rise(new, above);
        }
        Ok(())
    }

    /// Takes a value out.
    fn remove(&mut self, at: NonNull<Node<T>>) -> T {
        let rank = |tree: &Self, at: &NonNull<Node<T>>| rank(tree.node(*at).address);
        while let Some(below) = self.node(at).below.into_iter().flatten().max_by_key(|below| rank(self, below)) {
            self.rise(below, at);
        }
        let (above, address) = (self.node(at).above, self.node(at).address);
        self.hang(above, address, None);
        self.length -= 1;
        self.look_up(above);
        // SAFETY: `insert` has put it there, and no link leads to it any more.
        unsafe { array::take(at) }.value
    }

    /// Has a node change places with the one above it.
    fn rise(&mut self, at: NonNull<Node<T>>, above: NonNull<Node<T>>) {
        let (low, high) = (self.node(at).address, self.node(above).address);
        let between = self.node(at).below[usize::from(low < high)];
        let top = self.node(above).above;
        self.hang(Some(above), low, between);
        self.hang(Some(at), high, Some(above));
        self.hang(top, low, Some(at));
        self.look(above);
        self.look(at);
    }

    /// Links what is to be below a node (at the top, where that is none) on the side that an address is on.
    fn hang(&mut self, above: Link<T>, address: usize, below: Link<T>) {
        match above {
            Some(above) => {
                let node = self.node_mut(above);
                node.below[usize::from(node.address < address)] = below;
            }
            None => self.root = below,
        }
        if let Some(below) = below {
            self.node_mut(below).above = above;
        }
    }

    /// Has a node say what the largest number is; whether it said something else.
    #[inline]
    fn look(&mut self, at: NonNull<Node<T>>) -> bool {
        let node = self.node(at);
        let [left, right] = node.below;
        let largest = node.number.max(self.largest_in(left)).max(self.largest_in(right));
        core::mem::replace(&mut self.node_mut(at).largest, largest) != largest
    }

    /// Has a node do so and all above it.
    #[inline]
    fn look_up(&mut self, at: Link<T>) {
        let mut at = at;
        while let Some(node) = at
            && self.look(node)
        {
            at = self.node(node).above;
        }
    }

    #[inline]
    fn node(&self, at: NonNull<Node<T>>) -> &Node<T> {
        #[cfg(test)]
        self.looks.set(self.looks.get() + 1);
        // SAFETY: a node of this tree, as callers see to, which is borrowed with it.
        unsafe { at.as_ref() }
    }

    #[inline]
    fn node_mut(&mut self, at: NonNull<Node<T>>) -> &mut Node<T> {
        let mut at = at;
        // SAFETY: as above.
        unsafe { at.as_mut() }
    }
}

impl<T> Drop for Tree<T> {
    fn drop(&mut self) {
        while let Some(root) = self.root {
            drop(self.remove(root));
        }
    }
}

impl<T> Entry<'_, T> {
    /// Gives it that number.
    #[inline]
    pub(super) fn set(&mut self, number: u32) {
        if self.tree.node(self.at).number != number {
            self.tree.node_mut(self.at).number = number;
            self.tree.look_up(Some(self.at));
        }
    }

    /// Takes it out of the tree.
    pub(super) fn take(self) -> T {
        self.tree.remove(self.at)
    }
}

impl<T> Deref for Entry<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.tree.node(self.at).value
    }
}

impl<T> DerefMut for Entry<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.tree.node_mut(self.at).value
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        /// Puts one there, unless there is one.
        Insert(usize, u32),
        /// Takes one of them out.
        Take(usize),
        /// Gives one of them that number.
        Set(usize, u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            4 => (1..100_usize, 0..10_u32).prop_map(|(address, number)| Step::Insert(address, number)),
            2 => any::<usize>().prop_map(Step::Take),
            3 => (any::<usize>(), 0..10_u32).prop_map(|(which, number)| Step::Set(which, number)),
        ];
        prop::collection::vec(step, 1..200)
    }

    /// Whether each node has those below it on their sides, no rank above its own, and says the largest number.
    fn is_in_order<T>(tree: &Tree<T>, top: Link<T>, above: Link<T>, from: usize, to: usize) -> bool {
        let Some(at) = top else { return true };
        let node = tree.node(at);
        let [left, right] = node.below;
        (from..to).contains(&node.address)
            && node.above == above
            && above.is_none_or(|above| rank(tree.node(above).address) > rank(node.address))
            && node.largest == node.number.max(tree.largest_in(left)).max(tree.largest_in(right))
            && is_in_order(tree, left, top, from, node.address)
            && is_in_order(tree, right, top, node.address + 1, to)
    }

    fn run(steps: Vec<Step>) {
        let value = std::rc::Rc::new(());
        let mut tree = Tree::new();
        // By address: the address and the number.
        let mut model: Vec<(usize, u32)> = Vec::new();
        for step in steps {
            match step {
                Step::Insert(address, number) => {
                    if let Err(place) = model.binary_search_by_key(&address, |(address, _)| *address) {
                        model.insert(place, (address, number));
                        assert!(tree.insert(Source::Caller, address, number, (address, value.clone())).is_ok());
                    }
                }
                Step::Take(which) if !model.is_empty() => {
                    let (address, _) = model.remove(which % model.len());
                    assert_eq!(tree.find(address).unwrap().take().0, address);
                }
                Step::Set(which, number) if !model.is_empty() => {
                    let which = which % model.len();
                    model[which].1 = number;
                    tree.find(model[which].0).unwrap().set(number);
                }
                Step::Take(_) | Step::Set(..) => {}
            }
            assert!(is_in_order(&tree, tree.root, None, 0, usize::MAX), "{model:?}");
            assert_eq!(tree.len(), model.len());
            assert_eq!(tree.largest(), model.iter().map(|(_, number)| *number).max().unwrap_or(0));
            for from in 0..=100 {
                let right = model.iter().rev().map(|(address, _)| *address).find(|address| *address <= from);
                assert_eq!(tree.find(from).map(|found| found.0), right, "{model:?} to {from}");
                for least in [1, 5, 9, 10] {
                    let right = model.iter().find(|(address, number)| *address >= from && *number >= least);
                    let right = right.map(|(address, _)| *address);
                    let found = tree.first_from(from, least).map(|found| found.0);
                    assert_eq!(found, right, "{model:?} from {from}, {least} or more");
                    if from == 0 {
                        assert_eq!(tree.first(least).map(|found| found.0), right, "{model:?}, {least} or more");
                    }
                }
            }
        }
        assert_eq!(std::rc::Rc::strong_count(&value), 1 + model.len());
        drop(tree);
        assert_eq!(std::rc::Rc::strong_count(&value), 1, "a value is left");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_comes_and_goes_the_first_that_is_large_enough_is_found_as_in_a_sorted_row(steps in steps()) {
            run(steps);
        }
    }

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn no_order_of_addresses_makes_the_tree_deep() {
        const COUNT: usize = 20_000;
        let scattered = |number: usize| number * 7_919 % COUNT;
        let orders: [&dyn Fn(usize) -> usize; 3] = [&|number| number, &|number| COUNT - 1 - number, &scattered];
        for step in [16, 4096, 64 << 10, (1 << 20) + 16, 32 << 20] {
            for order in orders {
                let mut tree = Tree::new();
                (0..COUNT).for_each(|number| {
                    let address = (1 << 40) + order(number) * step;
                    assert!(tree.insert(Source::Caller, address, 1, ()).is_ok());
                });
                tree.looks.set(0);
                (0..COUNT).for_each(|number| assert!(tree.find((1 << 40) + number * step).is_some()));
                // Two looks at each node on the way: 40 of them where the tree is a random one, 28 in a perfect one.
                assert!(tree.looks.get() < 80 * COUNT, "{} looks, {step} bytes apart", tree.looks.get() / COUNT);
            }
        }
    }
}
