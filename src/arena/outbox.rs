//! The outbox: blocks of other arenas' slabs that this thread has freed, gathered by the arena they go home to, so that
//! one compare-exchange sends a whole chain.

use core::cell::Cell;

use super::Arena;
use crate::segment::{ARENA_ALIGN, FULL_WEIGHT};
use crate::slab::{Block, double_free};

const ENTRIES: usize = 16;

/// A chain in the making.
struct Entry {
    /// The arena that it goes to, by its address; 0: none yet. It stays when the chain was sent: the next one begins there.
    owner: Cell<usize>,
    first: Cell<Option<Block>>,
    /// The block that was added first.
    last: Cell<Option<Block>>,
    /// What its blocks weigh together: see `SegmentPtr::weight`.
    weight: Cell<u32>,
}

/// The chains, each at a place that its arena decides.
pub(super) struct Outbox([Entry; ENTRIES]);

/// The place of an arena's chain. Arenas of different nodes differ in high bits of their addresses only, those of one
/// node in low ones: all of them decide (Knuth, "The Art of Computer Programming" 3, 6.4, multiplicative hashing).
#[inline(always)]
fn place_of(owner: usize) -> usize {
    (owner / ARENA_ALIGN).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (usize::BITS - ENTRIES.ilog2())
}

impl Outbox {
    pub(super) const fn new() -> Self {
        Outbox(
            [const { Entry { owner: Cell::new(0), first: Cell::new(None), last: Cell::new(None), weight: Cell::new(0) } };
                ENTRIES],
        )
    }

    /// Whether chains for that arena are gathered.
    #[inline(always)]
    pub(super) fn has_place(&self, owner: usize) -> bool {
        self.0[place_of(owner)].owner.get() == owner
    }

    /// Adds a block of that arena's to its chain.
    #[inline(always)]
    pub(super) fn add(&self, owner: usize, block: Block, weight: u32) -> Added {
        let entry = &self.0[place_of(owner)];
        if entry.owner.get() == owner { entry.add(block, weight) } else { Added::NoPlace }
    }

    /// The same, and gathers for that arena from now on, no longer for the one that had its place; sends what is full.
    pub(super) fn add_anew(&self, owner: usize, block: Block, weight: u32) {
        let entry = &self.0[place_of(owner)];
        if entry.owner.get() != owner {
            entry.send();
            entry.owner.set(owner);
        }
        match entry.add(block, weight) {
            Added::IsFull => entry.send(),
            Added::WasThere => double_free(block),
            Added::Waits | Added::NoPlace => {}
        }
    }

    /// For audits: calls `visit` with each block and the address of the arena that it goes to.
    pub(super) fn each(&self, visit: &mut dyn FnMut(usize, Block)) {
        for entry in &self.0 {
            let chain = core::iter::successors(entry.first.get(), |block| block.next());
            chain.for_each(|block| visit(entry.owner.get(), block));
        }
    }

    /// Sends that arena's chain.
    pub(super) fn send(&self, owner: usize) {
        self.0[place_of(owner)].send();
    }

    /// Sends all.
    pub(super) fn flush(&self) {
        self.0.iter().for_each(Entry::send);
    }
}

/// What came of adding a block.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Added {
    /// It waits with others.
    Waits,
    /// So many wait that they are to be sent.
    IsFull,
    /// Nothing is gathered for its arena: it was not added.
    NoPlace,
    /// It is the one that was added last: it was freed twice.
    WasThere,
}

impl Entry {
    #[inline(always)]
    fn add(&self, block: Block, weight: u32) -> Added {
        let first = self.first.get();
        if first == Some(block) {
            return Added::WasThere;
        }
        if first.is_none() {
            self.last.set(Some(block));
        }
        block.set_next(first);
        self.first.set(Some(block));
        let weight = self.weight.get() + weight;
        self.weight.set(weight);
        if weight >= FULL_WEIGHT { Added::IsFull } else { Added::Waits }
    }

    fn send(&self) {
        self.weight.set(0);
        if let (Some(first), Some(last)) = (self.first.take(), self.last.take()) {
            send_home(self.owner.get(), first, last);
        }
    }
}

/// Puts a chain of blocks into the inbox of the arena with that address.
pub(super) fn send_home(owner: usize, first: Block, last: Block) {
    // SAFETY: callers took the address from the owner word of a slab.
    let arena = unsafe { Arena::at(owner) };
    // SAFETY: what is in an inbox are addresses of blocks.
    arena.inbox.push(first.address(), |next| last.set_next(unsafe { Block::from_address(next) }));
}
