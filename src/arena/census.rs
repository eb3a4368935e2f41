//! The census: what the program holds, counted when somebody asks, so that blocks that come and go count nothing.
//!
//! A block is in the program's hands that is out of its slab and does not wait: on its arena's list, in an outbox, in an
//! inbox. All that is read while its owner may be at work, so what moves meanwhile is counted where it was, or where it is,
//! or twice, or not at all; what rests is counted right. No memory goes away meanwhile: it is looked at only while its pool
//! is held, for one segment at a time.

use super::Arena;
use super::enter::HeldPool;
use crate::address_map::{self, Part};
use crate::node;
use crate::segment::{Owner, SLOT, SegmentPtr, SlotIndex};
use crate::size_class::ClassId;
use crate::slab::Slab;
use crate::sync::Ordering;
use crate::topology::NodeIndex;

/// Bytes of the node's runs, and of the blocks that are out of its slabs.
pub(crate) fn bytes_out(node: NodeIndex) -> usize {
    let mut bytes = 0;
    for part in [Part::Node(node), Part::FirstTouch(node)] {
        let mut from = 0;
        while let Some((number, address)) = address_map::used_granule(part, from) {
            from = number + 1;
            bytes += while_held(address, bytes_out_of).unwrap_or(0);
        }
    }
    bytes
}

/// Does `work` with the segment that the address lies in, if it lies in one that its pool knows, and the calling thread holds
/// no pool already.
fn while_held<R>(address: usize, work: impl FnOnce(SegmentPtr) -> R) -> Option<R> {
    if !address_map::is_segment(address) {
        return None;
    }
    let node = address_map::pool_of(address).filter(|_| !node::any_is_mine())?;
    let pool = HeldPool::from(|| node::pool(node).lock_started())?;
    // Before, it may have gone, and another node's come.
    if !address_map::is_segment(address) || address_map::pool_of(address) != Some(node) {
        return None;
    }
    // SAFETY: the map says so, and it stays while the pool is held.
    let segment = unsafe { SegmentPtr::of(address) };
    pool.has(segment).then(|| work(segment))
}

fn bytes_out_of(segment: SegmentPtr) -> usize {
    let bytes_in = |slot| match segment.owner(slot).decode() {
        Owner::Run(slots) => slots * SLOT,
        Owner::Arena(_, 0) => {
            let slab = Slab::at(segment, slot);
            slab.out_at_a_glance() as usize * slab.block_size()
        }
        _ => 0,
    };
    SlotIndex::all().map(bytes_in).sum()
}

impl Arena {
    /// Blocks that wait on the class's list.
    pub(crate) fn listed_now(&self, class: ClassId) -> usize {
        let list = self.fast[class].get().or(self.checked[class].get());
        let (Some(first), Some(slab)) = (list, self.current[class].get()) else { return 0 };
        let count = |segment: SegmentPtr| {
            // While it is this arena's, and the pool is held, its slots stay.
            let is_own = segment.owner(slab.slot()).arena_address() == Some(self.address());
            if is_own { slab.list_at_a_glance(first) } else { 0 }
        };
        while_held(slab.address(), count).unwrap_or(0)
    }

    /// Bytes of freed blocks that wait elsewhere: on their way to other arenas and to this one.
    pub(crate) fn bytes_waiting(&self) -> usize {
        self.outbox.bytes_at_a_glance() + self.inbox_bytes.load(Ordering::Relaxed)
    }
}
