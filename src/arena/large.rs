//! Blocks that are not in slabs: runs of slots (to 2 MiB, aligned to at most 1 MiB), and mappings of their own.

use core::ptr::NonNull;

use super::enter::{self, Held};
use super::{Arena, Handed, emergency};
use crate::arith::align_up;
use crate::config::{self, Config, Zero};
use crate::large::Mapping;
use crate::node::{self, Locked, Slots};
use crate::os;
use crate::segment::{OwnerWord, SLOT, SegmentPtr, SlotIndex};
use crate::topology;
use crate::zone::Part;

/// The largest run, and the farthest alignment of one, in bytes.
const MAX_RUN: usize = 2 << 20;
const MAX_RUN_ALIGN: usize = 1 << 20;

impl Arena {
    /// A block of `size` bytes that no slab can serve, aligned to `align`. `None` where there is no memory for it.
    pub(crate) fn allocate_large(&self, size: usize, align: usize, want_zero: bool) -> Option<Handed> {
        free_deferred();
        let node = self.node();
        if node::pool(node).is_mine() {
            let block = NonNull::new(emergency::allocate(size, align))?;
            return Some(Handed { block, is_zero: true });
        }
        let want_zero = want_zero || config::current().zero != Zero::Off;
        if size <= MAX_RUN && align <= MAX_RUN_ALIGN {
            let slots = size.max(1).div_ceil(SLOT);
            let align = align.div_ceil(SLOT);
            let take = |pool: &Locked| {
                let taken = pool.take_slots(slots, align)?;
                pool.count_large(slots * SLOT);
                Some(taken)
            };
            let taken = take(&node::pool(node).lock());
            let taken = taken.or_else(|| enter::in_nearest_with_room(node, take))?;
            return Some(hand_out_run(taken, slots, size, want_zero));
        }
        self.allocate_mapping(size, align, want_zero)
    }

    fn allocate_mapping(&self, size: usize, align: usize, want_zero: bool) -> Option<Handed> {
        let length = align_up(size.max(1), os::page_size())?;
        let home = self.node();
        let begin = |pool: &Locked| {
            if let Some(kept) = pool.reuse_mapping(length, align) {
                pool.count_large(kept.length());
                return Some((pool.node(), Some(kept)));
            }
            pool.begin_mapping(length).then(|| {
                pool.count_large(length);
                (pool.node(), None)
            })
        };
        let begun = begin(&node::pool(home).lock());
        let (node, kept) = begun.or_else(|| enter::in_nearest_with_room(home, begin))?;
        if let Some(kept) = kept {
            kept.use_again();
            if want_zero {
                clear_pages(kept.block(), size);
            }
            return Some(Handed { block: kept.block(), is_zero: want_zero });
        }
        let nodes = topology::machine().count();
        // By default the threads that fill a large object decide where its parts lie (first touch).
        let Some(mapping) = Mapping::map(length, align, Some(Part::Unbound), nodes, Some(node)) else {
            node::pool(node).lock().end_mapping(length);
            return None;
        };
        Some(Handed { block: mapping.block(), is_zero: true })
    }
}

/// Clears the block's first `size` bytes.
fn clear_pages(block: NonNull<u8>, size: usize) {
    // SAFETY: callers pass a block of at least `size` bytes that nobody uses yet.
    unsafe { block.write_bytes(0, size) };
}

fn hand_out_run(taken: Slots, slots: usize, size: usize, want_zero: bool) -> Handed {
    let is_zero = taken.used_before == 0;
    own_run(taken.segment, taken.first, slots);
    if want_zero && !is_zero {
        clear_pages(taken.start(), if config::current().zero == Zero::Off { size } else { slots * SLOT });
    }
    Handed { block: taken.start(), is_zero: is_zero || want_zero }
}

fn own_run(segment: SegmentPtr, first: SlotIndex, slots: usize) {
    for slot in 1..slots {
        segment.set_owner(first.plus(slot), OwnerWord::RUN_INTERIOR);
    }
    segment.set_owner(first, OwnerWord::run(slots));
}

/// Takes back a run of so many slots. Its owner word says `FREE` already.
pub(crate) fn free_run(segment: SegmentPtr, block: NonNull<u8>, slots: usize) {
    let pool = node::pool(segment.node());
    if pool.is_mine() {
        return emergency::defer(block, OwnerWord::run(slots));
    }
    if config::current().zero == Zero::Free {
        clear_pages(block, slots * SLOT);
    }
    let first = SlotIndex::of(block.as_ptr() as usize);
    for slot in 1..slots {
        segment.set_owner(first.plus(slot), OwnerWord::FREE);
    }
    pool.lock().give_slots(segment, first, slots);
}

/// Takes back a mapping. Its owner word, if it has one, says `FREE` already.
pub(crate) fn free_mapping(mapping: Mapping) {
    let length = mapping.length();
    let kept = match mapping.node() {
        None => false,
        Some(node) if node::pool(node).is_mine() => {
            return emergency::defer(mapping.block(), OwnerWord::MAPPING);
        }
        Some(node) => {
            let pool = node::pool(node);
            if mapping.is_far_aligned() {
                pool.lock().end_mapping(length);
                false
            } else {
                if config::current().zero == Zero::Free {
                    clear_pages(mapping.block(), length);
                }
                pool.lock().keep_mapping(mapping)
            }
        }
    };
    if !kept {
        // SAFETY: its user has freed it, and it is on no list.
        unsafe { mapping.unmap() };
    }
}

/// Frees what could not be freed when it was.
fn free_deferred() {
    emergency::take_deferred(crate::heap::free_deferred);
}

/// Makes a run longer or shorter without moving it. False where the slots after it are taken.
pub(crate) fn resize_run(segment: SegmentPtr, block: NonNull<u8>, old: usize, new_size: usize) -> bool {
    let first = SlotIndex::of(block.as_ptr() as usize);
    let new = new_size.div_ceil(SLOT);
    let pool = node::pool(segment.node());
    if new == old {
        return true;
    }
    if new_size > MAX_RUN || pool.is_mine() || new == 0 {
        return false;
    }
    let pool = pool.lock();
    if new < old {
        for slot in new..old {
            segment.set_owner(first.plus(slot), OwnerWord::FREE);
        }
        segment.set_owner(first, OwnerWord::run(new));
        pool.give_slots(segment, first.plus(new), old - new);
        return true;
    }
    if first.get() + new > crate::segment::SLOTS {
        return false;
    }
    let Some(added) = pool.extend_run(segment, first.plus(old), new - old) else { return false };
    if added.used_before > 0 && config::current().zero != Zero::Off {
        clear_pages(added.start(), (new - old) * SLOT);
    }
    own_run(segment, first, new);
    true
}

/// Makes a mapping longer or shorter without moving it. False where that cannot be.
pub(crate) fn resize_mapping(mapping: Mapping, new_size: usize) -> bool {
    let Some(node) = mapping.node() else { return new_size <= mapping.length() };
    let pool = node::pool(node);
    if pool.is_mine() {
        return new_size <= mapping.length();
    }
    let old = mapping.length();
    if new_size <= old {
        mapping.shrink(new_size);
        pool.lock().end_mapping(old - mapping.length());
        return true;
    }
    let Some(length) = align_up(new_size, os::page_size()) else { return false };
    if !pool.lock().begin_mapping(length - old) {
        return false;
    }
    if !mapping.grow(new_size) {
        pool.lock().end_mapping(length - old);
        return false;
    }
    true
}

/// Moves a mapping's pages to a new one of `new_size` bytes. `None` where that cannot be; the old one is intact then.
pub(crate) fn move_mapping(mapping: &Mapping, new_size: usize, align: usize) -> Option<NonNull<u8>> {
    let held: Held = enter::enter(&Config::new())?;
    let handed = held.allocate_mapping(new_size, align, false)?;
    // SAFETY: a mapping that was just made, not aligned to a granule or more.
    let new = unsafe { Mapping::of(handed.block.as_ptr() as usize) };
    if !new.move_from(mapping, mapping.length()) {
        // SAFETY: both are at least as long as the old one, and apart.
        unsafe { handed.block.copy_from_nonoverlapping(mapping.block(), mapping.length().min(new_size)) };
    }
    Some(handed.block)
}
