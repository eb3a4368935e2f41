//! The outbox: blocks of other arenas' slabs that this thread has freed, gathered by the arena they go home to, so that
//! one compare-exchange sends a whole chain.

use core::cell::Cell;

use super::Arena;
use crate::block::Block;
use crate::misuse::double_free;
use crate::segment::{Destination, Weight};
use crate::sync::{Ordering, Seen};

const CHAINS: usize = 16;

/// A chain in the making.
pub(super) struct Chain {
    /// The arena that it goes to. It stays when the chain was sent: the next one goes there too.
    destination: Cell<Option<Destination>>,
    first: Cell<Option<Block>>,
    /// The block that was added first.
    last: Cell<Option<Block>>,
    /// The two that were added before `first`.
    earlier: [Cell<Option<Block>>; 2],
    /// What its blocks weigh together.
    weight: Seen<Weight>,
}

/// The chains, each at a place that its arena decides.
pub(crate) struct Outbox([Chain; CHAINS]);

/// The place of an arena's chain. Arenas of different nodes differ in high bits of their addresses only, those of one
/// node in low ones: all of them decide (Knuth, "The Art of Computer Programming" 3, 6.4, multiplicative hashing).
#[inline(always)]
fn place_of(destination: Destination) -> usize {
    ((destination.get() as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (u64::BITS - CHAINS.ilog2())) as usize
}

impl Outbox {
    pub(super) const fn new() -> Self {
        Outbox([const { Chain::new() }; CHAINS])
    }

    /// The chain of blocks that go there, if some are gathered.
    #[inline(always)]
    pub(super) fn find(&self, destination: Destination) -> Option<&Chain> {
        let chain = &self.0[place_of(destination)];
        (chain.destination.get() == Some(destination)).then_some(chain)
    }

    /// Adds a block, and gathers for that arena from now on, no longer for the one that had its place; sends what is full.
    pub(super) fn add_anew(&self, destination: Destination, block: Block, weight: Weight) {
        let chain = &self.0[place_of(destination)];
        if chain.destination.get() != Some(destination) {
            chain.send();
            chain.destination.set(Some(destination));
        }
        match chain.add(block, weight, false) {
            Added::IsFull => chain.send(),
            Added::WasThere => double_free(block),
            Added::Waits => {}
        }
    }

    /// Bytes that wait, for a thread that may not hold the arena.
    pub(crate) fn bytes_at_a_glance(&self) -> usize {
        self.0.iter().map(|chain| chain.weight.get().bytes()).sum()
    }

    /// For audits: calls `visit` with each block and the address of the arena that it goes to.
    pub(super) fn each(&self, visit: &mut dyn FnMut(usize, Block)) {
        for chain in &self.0 {
            let Some(destination) = chain.destination.get() else { continue };
            let blocks = core::iter::successors(chain.first.get(), |block| block.next_of_chain());
            blocks.for_each(|block| visit(destination.arena_address(), block));
        }
    }

    /// Sends all.
    pub(super) fn flush(&self) {
        self.0.iter().for_each(Chain::send);
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
    /// It is the one that was added last: it was freed twice.
    WasThere,
}

impl Chain {
    const fn new() -> Self {
        Chain {
            destination: Cell::new(None),
            first: Cell::new(None),
            last: Cell::new(None),
            earlier: [const { Cell::new(None) }; 2],
            weight: Seen::new(Weight::NONE),
        }
    }

    /// Adds a block; with `hints` (see [`Block::set_hint`]), if it may.
    #[inline(always)]
    pub(super) fn add(&self, block: Block, weight: Weight, hints: bool) -> Added {
        let first = self.first.get();
        if first == Some(block) {
            return Added::WasThere;
        }
        if first.is_none() {
            self.last.set(Some(block));
        }
        block.set_next(first);
        if hints && weight.has_two_words() {
            block.set_hint(self.earlier[1].get());
        }
        self.earlier[1].set(self.earlier[0].get());
        self.earlier[0].set(first);
        self.first.set(Some(block));
        let weight = self.weight.get().plus(weight);
        self.weight.set(weight);
        if weight.is_full() { Added::IsFull } else { Added::Waits }
    }

    /// Sends its blocks.
    pub(super) fn send(&self) {
        let bytes = self.weight.replace(Weight::NONE).bytes();
        self.earlier.iter().for_each(|earlier| earlier.set(None));
        if let (Some(destination), Some(first), Some(last)) =
            (self.destination.get(), self.first.take(), self.last.take())
        {
            send_home(destination, first, last, bytes);
        }
    }
}

/// Puts a block by itself into an arena's inbox.
pub(super) fn send_alone(destination: Destination, block: Block, weight: Weight) {
    block.set_next(None);
    send_home(destination, block, block, weight.bytes());
}

/// Puts a chain of blocks into an arena's inbox, so many bytes together.
fn send_home(destination: Destination, first: Block, last: Block, bytes: usize) {
    // SAFETY: callers took the address from the owner word of a slab.
    let arena = unsafe { Arena::at(destination.arena_address()) };
    // First, so that never more is taken out than was put in.
    arena.inbox_bytes.fetch_add(bytes, Ordering::Relaxed);
    // SAFETY: what is in an inbox are addresses of blocks.
    arena.inbox.push(first.address(), |next| last.set_next(unsafe { Block::from_address(next) }));
}
