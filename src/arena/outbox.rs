//! The outbox: blocks of other arenas' slabs that this thread has freed, gathered by slab, so that one compare-exchange
//! sends a whole chain home.

use core::cell::Cell;

use super::Arena;
use crate::segment::Owner;
use crate::slab::remote::{Offset, Pushed};
use crate::slab::{Block, Slab};
use crate::zone::GRANULE;

const ENTRIES: usize = 8;

/// A chain in the making.
#[derive(Clone, Copy)]
struct Entry {
    slab: Slab,
    first: Block,
    last: Block,
    count: u32,
    /// How many are sent together.
    batch: u32,
}

/// The chains, each at a place that its slab decides.
pub(super) struct Outbox([Cell<Option<Entry>>; ENTRIES]);

impl Outbox {
    pub(super) const fn new() -> Self {
        Outbox([const { Cell::new(None) }; ENTRIES])
    }

    /// Adds a block of the slab; sends what is full, and what another slab's chain displaces.
    #[inline]
    pub(super) fn add(&self, slab: Slab, block: Block) {
        let place = &self.0[slab.slot().get() % ENTRIES];
        let mut entry = match place.get() {
            Some(mut entry) if entry.slab == slab => {
                if entry.first == block {
                    crate::slab::double_free(block);
                }
                block.set_next(Some(entry.first));
                entry.first = block;
                entry.count += 1;
                entry
            }
            other => {
                if let Some(displaced) = other {
                    displaced.send();
                }
                block.set_next(None);
                Entry { slab, first: block, last: block, count: 1, batch: slab.remote().batch() }
            }
        };
        if entry.count >= entry.batch {
            entry.send();
            place.set(None);
        } else {
            entry.first = block;
            place.set(Some(entry));
        }
    }

    /// Sends all.
    pub(super) fn flush(&self) {
        for place in &self.0 {
            if let Some(entry) = place.take() {
                entry.send();
            }
        }
    }
}

impl Entry {
    fn send(self) {
        send_home(self.slab, self.first, self.last, self.count);
    }
}

/// Pushes a chain of the slab's blocks on its remote word, and wakes its arena where that is due.
pub(super) fn send_home(slab: Slab, first: Block, last: Block, count: u32) {
    let segment = slab.segment();
    let Some(offset) = Offset::from_bytes(first.address() % GRANULE) else { return };
    let pushed = slab.remote().push(offset, count, |next| last.set_next(next.map(|next| block_at(slab, next))));
    if pushed == Pushed::MustWake
        && let Owner::Arena(arena, _) = segment.owner(slab.slot()).decode()
    {
        // SAFETY: the word of a slab that is about to be woken names its arena.
        let arena = unsafe { Arena::at(arena) };
        arena.woken.push(slab.address(), &slab.remote().woken_next);
    }
}

/// The block of the slab's segment at that offset.
pub(super) fn block_at(slab: Slab, offset: Offset) -> Block {
    let address = core::ptr::with_exposed_provenance_mut(slab.segment().address() + offset.bytes());
    // SAFETY: offsets on remote words are those of blocks that were freed to the slab; never 0.
    unsafe { Block::at(core::ptr::NonNull::new_unchecked(address)) }
}
