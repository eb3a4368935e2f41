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
    /// Nodes looked at so far.
    #[cfg(test)]
    pub(super) steps: core::cell::Cell<usize>,
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
            steps: core::cell::Cell::new(0),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.length
    }

    /// The largest number.
    #[inline]
    pub(super) fn largest(&self) -> u32 {
        self.root.map_or(0, |root| self.node(root).largest)
    }

    /// The last value whose address is not above that one.
    #[inline]
    pub(super) fn get(&self, address: usize) -> Option<&T> {
        self.find(address).map(|at| &self.node(at).value)
    }

    /// The same, to be changed.
    #[inline]
    pub(super) fn get_mut(&mut self, address: usize) -> Option<Entry<'_, T>> {
        self.find(address).map(|at| Entry { tree: self, at })
    }

    /// The first value from that address on whose number is `least` (not 0) or more.
    #[inline]
    pub(super) fn first(&mut self, from: usize, least: u32) -> Option<Entry<'_, T>> {
        // The last node whose left side was gone to, of those that are large enough themselves or on their right.
        let (mut at, mut after) = (self.root, None);
        let at = loop {
            if let Some(large) = at.filter(|at| self.node(*at).largest >= least) {
                let node = self.node(large);
                let [left, right] = node.below;
                at = if node.address < from {
                    right
                } else {
                    let is_after = node.number >= least || right.is_some_and(|right| self.node(right).largest >= least);
                    after = if is_after { Some(large) } else { after };
                    left
                };
            } else {
                let first = after.take()?;
                let node = self.node(first);
                if node.number >= least {
                    break first;
                }
                at = node.below[1];
            }
        };
        Some(Entry { tree: self, at })
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

    #[inline]
    fn find(&self, address: usize) -> Link<T> {
        let (mut at, mut found) = (self.root, None);
        while let Some(node) = at {
            let is_found = self.node(node).address <= address;
            found = if is_found { at } else { found };
            at = self.node(node).below[usize::from(is_found)];
        }
        found
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
    fn look(&mut self, at: NonNull<Node<T>>) -> bool {
        let node = self.node(at);
        let below = node.below.into_iter().flatten();
        let largest = below.fold(node.number, |largest, below| largest.max(self.node(below).largest));
        core::mem::replace(&mut self.node_mut(at).largest, largest) != largest
    }

    /// Has a node do so and all above it.
    fn look_up(&mut self, at: Link<T>) {
        let mut at = at;
        while let Some(node) = at.filter(|node| self.look(*node)) {
            at = self.node(node).above;
        }
    }

    #[inline]
    fn node(&self, at: NonNull<Node<T>>) -> &Node<T> {
        #[cfg(test)]
        self.steps.set(self.steps.get() + 1);
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
