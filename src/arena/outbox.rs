//! The outbox: blocks of other arenas' slabs that this thread has freed, gathered by the arena they go home to, so that
//! one compare-exchange sends a whole chain.

use core::cell::Cell;

use super::Arena;
use crate::segment::{ARENA_ALIGN, FULL_WEIGHT};
use crate::slab::{Block, double_free};

const ENTRIES: usize = 8;

/// A chain in the making; without a first block, none.
#[derive(Clone, Copy)]
struct Entry {
    /// The arena that it goes to, by its address.
    owner: usize,
    first: Option<Block>,
    last: Option<Block>,
    /// What its blocks weigh together: see `SegmentPtr::weight`.
    weight: u32,
}

const EMPTY: Entry = Entry { owner: 0, first: None, last: None, weight: 0 };

/// The chains, each at a place that its arena decides.
pub(super) struct Outbox([Cell<Entry>; ENTRIES]);

impl Outbox {
    pub(super) const fn new() -> Self {
        Outbox([const { Cell::new(EMPTY) }; ENTRIES])
    }

    /// Adds a block of that arena's; sends what is full, and what another arena's chain displaces.
    #[inline]
    pub(super) fn add(&self, owner: usize, block: Block, weight: u32) {
        let place = &self.0[owner / ARENA_ALIGN % ENTRIES];
        let mut entry = place.get();
        if entry.owner == owner && entry.first.is_some() {
            if entry.first == Some(block) {
                double_free(block);
            }
            block.set_next(entry.first);
            entry.first = Some(block);
            entry.weight += weight;
        } else {
            entry.send();
            block.set_next(None);
            entry = Entry { owner, first: Some(block), last: Some(block), weight };
        }
        if entry.weight >= FULL_WEIGHT {
            entry.send();
            entry = EMPTY;
        }
        place.set(entry);
    }

    /// Sends all.
    pub(super) fn flush(&self) {
        for place in &self.0 {
            place.replace(EMPTY).send();
        }
    }
}

impl Entry {
    #[inline]
    fn send(self) {
        if let (Some(first), Some(last)) = (self.first, self.last) {
            send_home(self.owner, first, last);
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
