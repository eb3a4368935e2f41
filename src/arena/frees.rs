//! Blocks of slabs, coming back: from the calling thread to other arenas, and from others to this one.

use core::ptr::{self, NonNull};

use super::outbox::{Added, Chain, send_alone};
use super::{Arena, enter, refuse_free_block, tls};
use crate::address_map;
use crate::block::Block;
use crate::config;
use crate::hardened;
use crate::misuse::{corrupted_link, double_free};
use crate::node::Locked;
use crate::segment::{Destination, OwnerWord, SegmentPtr, SlotIndex, TWO_WORDS, Weight};
use crate::slab::Slab;
use crate::sync::Ordering;

/// Blocks that are brought home by one call: a tenth of a millisecond or two. More than a call hands out of what others
/// free, so that what waits becomes less.
pub(super) const AT_A_TIME: u32 = 4096;

impl Arena {
    /// Brings blocks home that others have freed, [`AT_A_TIME`] at most. `pool` is the arena's node's, where it is held.
    #[inline(always)]
    pub(super) fn collect_inbox(&self, pool: Option<&Locked>) {
        if self.has_received() {
            self.collect_some(pool, AT_A_TIME);
        }
    }

    /// Brings all of them home that have come so far.
    pub(super) fn collect_whole_inbox(&self, pool: Option<&Locked>) {
        // What was taken before, then what has come since.
        for _ in 0..2 {
            if self.has_received() {
                self.collect_some(pool, u32::MAX);
            }
        }
    }

    /// Whether blocks wait that others have freed.
    #[inline(always)]
    pub(super) fn has_received(&self) -> bool {
        self.received.get().is_some() || !self.inbox.is_empty()
    }

    /// Brings so many blocks home at most, of those that were taken from the inbox before, or else of all that are there;
    /// gives how many it brought.
    #[inline(never)]
    pub(super) fn collect_some(&self, pool: Option<&Locked>, most: u32) -> u32 {
        // SAFETY: what is in an inbox are addresses of blocks, which were freed and are the holder's once taken.
        let come = || unsafe { Block::from_address(self.inbox.take_all()) };
        // Not left there meanwhile: the child of a `fork` that another thread makes must find a list, or none.
        let mut next = self.received.take().or_else(come);
        let (mut bytes, mut done) = (0, 0);
        while let Some(block) = next.filter(|_| done < most) {
            done += 1;
            next = block.next_of_chain();
            if let Some(next) = next
                && !address_map::has_headers(next.address())
            {
                corrupted_link(block);
            }
            bytes += self.bring_home(block, pool);
        }
        self.received.set(next);
        if next.is_some() {
            self.lookout.look_next();
        }
        self.inbox_bytes.fetch_sub(bytes, Ordering::Relaxed);
        done
    }

    /// Gives how many bytes the block has.
    #[inline(always)]
    fn bring_home(&self, block: Block, pool: Option<&Locked>) -> usize {
        let address = block.address();
        // SAFETY: blocks of slabs lie in segments.
        let segment = unsafe { SegmentPtr::of(address) };
        let slot = SlotIndex::of(address);
        let word = segment.owner(slot);
        let slab = if word.is(self.address()) {
            Slab::of_first_slot(segment, address)
        } else if word.arena_address() == Some(self.address()) {
            Slab::at(segment, slot.minus(word.back()))
        } else {
            return Self::send_on(block, segment, slot);
        };
        debug_assert_eq!(slab.node(), segment.node(), "a block comes home to its own node");
        let size = slab.block_size();
        if size >= TWO_WORDS {
            block.prefetch_hint();
        }
        let is_suspect = hardened::ON && size >= TWO_WORDS && block.is_suspect();
        if hardened::ON && slab.is_withheld(block) || is_suspect && self.has_free(slab, block.pointer()) {
            double_free(block);
        }
        if slab.free_local(block) {
            self.count_ran_out(slab, pool);
        }
        size
    }

    /// Sends a block on whose slab was handed over to another arena in the meantime.
    #[cold]
    fn send_on(block: Block, segment: SegmentPtr, slot: SlotIndex) -> usize {
        // What a link that was written over leads to may be in the middle of a mapping.
        if !address_map::has_headers(block.address()) {
            corrupted_link(block);
        }
        let Some(owner) = segment.owner_if_any(slot).arena_address() else { double_free(block) };
        let weight = segment.weight(slot);
        send_alone(Destination::arena(owner), block, weight);
        weight.bytes()
    }
}

/// Takes back a block with that owner word, if it goes where others that the thread has freed go. False where it does
/// not; then nothing was done.
#[inline(always)]
pub(crate) fn gather(segment: SegmentPtr, slot: SlotIndex, word: OwnerWord, block: NonNull<u8>) -> bool {
    let arena = tls::get();
    let destination = word.destination();
    // The arenas of threads that have none never have a chain; they are not written to.
    let Some(chain) = arena.outbox.find(destination).filter(|_| !arena.busy.get()) else { return false };
    // SAFETY: the user has given the block up, and the word is a slab's.
    let block = unsafe { Block::at(block) };
    match arena.inside(|| chain.add(block, segment.weight(slot), true)) {
        Added::Waits => {}
        Added::IsFull => send_full(chain),
        Added::WasThere => freed_twice(block),
    }
    true
}

/// Takes back a block whose owner word names an arena, but not plainly the calling thread's own.
#[inline]
pub(crate) fn free_to_arena(segment: SegmentPtr, slot: SlotIndex, word: OwnerWord, owner: usize, block: NonNull<u8>) {
    // SAFETY: the user has given the block up.
    let block = unsafe { Block::at(block) };
    if tls::get().address() == owner {
        free_to_own(Slab::at(segment, slot.minus(word.back())), block);
    } else {
        free_anew(Destination::arena(owner), block, segment.weight(slot));
    }
}

/// [`double_free`] as a function that could return: it is jumped to, and its callers need no frame.
#[cold]
#[inline(never)]
extern "C" fn freed_twice(block: Block) {
    double_free(block);
}

/// Takes back a block of the calling thread's own arena that lies beyond its slab's first slot, or in checked mode. Unlike
/// the fast path it is a slow path to whoever interrupts it.
#[inline(never)]
extern "C" fn free_to_own(slab: Slab, block: Block) {
    let arena = tls::get();
    if arena.busy.get() {
        // Re-entered in the middle of a slow path: the block comes home by the arena's own inbox.
        return send_alone(Destination::arena(arena.address()), block, slab.weight());
    }
    if hardened::ON && (block.looks_free() || slab.is_withheld(block)) {
        refuse_free_block(slab, block);
    }
    arena.inside(|| {
        if slab.free_local(block) {
            arena.settle_count(slab);
        }
    });
}

/// Sends the chain that was just filled.
#[cold]
#[inline(never)]
extern "C" fn send_full(chain: &'static Chain) {
    let arena = tls::get();
    arena.inside(|| {
        chain.send();
        // A thread that only frees comes to no other slow path.
        arena.look_after();
    });
}

/// Sends a block home for whose arena nothing is gathered yet; of a thread that has no arena yet, and gets one for its
/// outbox; that has one no more; or that is re-entered.
#[cold]
#[inline(never)]
extern "C" fn free_anew(destination: Destination, block: Block, weight: Weight) {
    let arena = tls::get();
    if arena.id.get().is_some() && !arena.busy.get() {
        return arena.inside(|| {
            arena.outbox.add_anew(destination, block, weight);
            arena.look_after();
        });
    }
    let exited = ptr::eq(arena, &raw const tls::EXITED);
    match (!exited).then(|| enter::enter(&config::Config::new()).ok()).flatten() {
        Some(held) if held.address() != destination.arena_address() => held.outbox.add_anew(destination, block, weight),
        // Entering may have given this thread the very arena that owns the slab; then it comes by its own inbox. An outbox
        // never gathers for its own arena.
        _ => send_alone(destination, block, weight),
    }
}

/// A free by its owner has brought the slab's count to zero: see `slab`.
#[cold]
#[inline(never)]
pub(crate) extern "C" fn count_ran_out(slab: Slab) {
    let arena = tls::get();
    if !arena.busy.get() {
        return arena.inside(|| arena.settle_count(slab));
    }
    // Re-entered in the middle of a slow path: the block comes home by the arena's own inbox.
    if let Some(block) = slab.undo_free() {
        send_alone(Destination::arena(arena.address()), block, slab.weight());
    }
}
