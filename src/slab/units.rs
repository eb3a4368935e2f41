//! Whole free pages within a slab, given back to the kernel while other blocks of it are in use.
//!
//! A slab is 64 *units*, or fewer of a page each. A unit whose blocks are all on the local list can be purged. The blocks that
//! touch it leave the list and are *withheld*: they count as if they were not carved yet. Once the slab has nothing else to
//! give, its lowest purged unit is taken back, and the blocks that touch no other are carved anew.

use core::ops::Range;

use super::{Carved, Slab};
use crate::block::{Block, list_from};
use crate::hardened;
use crate::misuse::{corrupted_link, double_free};
use crate::os;
use crate::segment::SLOT;

/// The most units of a slab.
const MOST: usize = u64::BITS as usize;

/// The bits from the first to the last.
fn bits(first: usize, last: usize) -> u64 {
    (u64::MAX >> (MOST - 1 - (last.wrapping_sub(first) & (MOST - 1)))) << (first & (MOST - 1))
}

impl Slab {
    /// Bytes in a unit, as a power of two.
    fn log_unit(self) -> u32 {
        (self.slots() * SLOT / MOST).max(os::page_size()).trailing_zeros()
    }

    fn offset_of(self, block: Block) -> usize {
        block.address().wrapping_sub(self.start().as_ptr().addr())
    }

    /// The first and the last of the units that the block touches which begins so far from the slab's start.
    fn units_at(self, offset: usize, log_unit: u32) -> (usize, usize) {
        (offset >> log_unit, (offset + self.block_size() - 1) >> log_unit)
    }

    /// The numbers of the blocks that touch a unit.
    fn blocks_in(self, unit: usize, log_unit: u32) -> Range<usize> {
        // Never 0 in a slab.
        let size = self.block_size().max(1);
        let (start, end) = (unit << log_unit, (unit + 1) << log_unit);
        start / size..end.div_ceil(size).min(self.header().capacity.get() as usize)
    }

    /// Whether a block of that number is withheld.
    fn withholds(self, number: usize, log_unit: u32) -> bool {
        let (first, last) = self.units_at(number * self.block_size(), log_unit);
        self.header().purged.get() & bits(first, last) != 0
    }

    /// Whether pages of it went back to the kernel.
    #[inline(always)]
    pub(crate) fn has_purged(self) -> bool {
        self.header().purged.get() != 0
    }

    /// Whether the block is free and withheld, since it touches pages that went back to the kernel.
    #[inline(always)]
    pub(crate) fn is_withheld(self, block: Block) -> bool {
        self.has_purged() && self.touches_purged(block)
    }

    #[cold]
    #[inline(never)]
    fn touches_purged(self, block: Block) -> bool {
        let offset = self.offset_of(block);
        let (first, last) = self.units_at(offset.min(self.slots() * SLOT), self.log_unit());
        self.header().purged.get() & bits(first, last) != 0
    }

    /// Blocks that are withheld.
    pub(crate) fn withheld(self) -> u32 {
        self.header().withheld.get()
    }

    /// For audits: whether as many blocks are withheld as touch purged units.
    pub(crate) fn withholds_as_counted(self) -> bool {
        let log_unit = self.log_unit();
        let capacity = self.header().capacity.get() as usize;
        (0..capacity).filter(|number| self.withholds(*number, log_unit)).count() == self.withheld() as usize
    }

    /// Gives those whole pages back to the kernel of which every block is on the local list; gives how many bytes. The slab is
    /// partial, and blocks of it are out.
    pub(crate) fn purge(self) -> usize {
        let Some((list, count)) = self.take_local() else { return 0 };
        let units = self.free_units(list, count);
        if units == 0 {
            let _ = self.give_back(list, count);
            return 0;
        }
        self.withhold(list, units);
        let log_unit = self.log_unit();
        let (mut bytes, mut left) = (0, units);
        while left != 0 {
            let first = left.trailing_zeros() as usize;
            let count = (left >> first).trailing_ones() as usize;
            left &= !bits(first, first + count - 1);
            // SAFETY: units lie within the slab.
            let start = unsafe { self.start().add(first << log_unit) };
            // SAFETY: all blocks that touch these units are withheld.
            if unsafe { os::purge(start, count << log_unit) } {
                bytes += count << log_unit;
                continue;
            }
            for unit in first..first + count {
                if let Some(carved) = self.take_unit_back(unit) {
                    let _ = self.give_back(carved.list, carved.count);
                }
            }
        }
        bytes
    }

    /// The units whose blocks are all on that list of so many blocks, or withheld for the sake of their other units.
    fn free_units(self, list: Block, count: u32) -> u64 {
        let log_unit = self.log_unit();
        let purged = self.header().purged.get();
        let (mut free, mut seen, mut before) = ([0_u16; MOST], 0, list);
        for block in list_from(Some(list)) {
            let offset = self.offset_of(block);
            if offset >= self.slots() * SLOT {
                corrupted_link(before);
            }
            before = block;
            seen += 1;
            let (first, last) = self.units_at(offset, log_unit);
            // The list has come back to a block, or one was freed that is withheld.
            if seen > count || purged & bits(first, last) != 0 {
                double_free(block);
            }
            free.iter_mut().take(last + 1).skip(first).for_each(|blocks| *blocks += 1);
        }
        let mut units = 0;
        for (unit, free) in free.iter().enumerate().take((self.slots() * SLOT) >> log_unit) {
            let blocks = self.blocks_in(unit, log_unit);
            if purged & bits(unit, unit) != 0 || blocks.is_empty() {
                continue;
            }
            // Of the blocks of a unit that is not purged, only those at its ends touch others.
            let (first, last) = (blocks.start, blocks.end - 1);
            let mut withheld = usize::from(self.withholds(first, log_unit));
            if first != last {
                withheld += usize::from(self.withholds(last, log_unit));
            }
            if usize::from(*free) + withheld == blocks.len() {
                units |= bits(unit, unit);
            }
        }
        units
    }

    /// Withholds the blocks of the list that touch those units; the others become local again. All of them are out.
    fn withhold(self, list: Block, units: u64) {
        let header = self.header();
        let log_unit = self.log_unit();
        let (mut first, mut last, mut kept, mut gone) = (None, None::<Block>, 0, 0);
        for block in list_from(Some(list)) {
            let (from, to) = self.units_at(self.offset_of(block), log_unit);
            if units & bits(from, to) != 0 {
                gone += 1;
                continue;
            }
            kept += 1;
            match last {
                Some(last) => last.set_next(Some(block)),
                None => first = Some(block),
            }
            last = Some(block);
        }
        header.carved.set(header.carved.get() - gone);
        header.needed.set(header.needed.get() - gone);
        header.withheld.set(header.withheld.get() + gone);
        header.purged.set(header.purged.get() | units);
        if let (Some(first), Some(last)) = (first, last) {
            last.set_next(None);
            let _ = self.give_back(first, kept);
        }
    }

    /// Carves blocks anew that are withheld: those of the lowest purged unit, or of as many as are wanted for one. They are
    /// out from then on. `None` where none is withheld.
    #[cold]
    #[inline(never)]
    pub(crate) fn take_back(self) -> Option<Carved> {
        loop {
            let purged = self.header().purged.get();
            if purged == 0 {
                return None;
            }
            let carved = self.take_unit_back(purged.trailing_zeros() as usize);
            if carved.is_some() {
                return carved;
            }
        }
    }

    fn take_unit_back(self, unit: usize) -> Option<Carved> {
        let header = self.header();
        header.purged.set(header.purged.get() & !bits(unit, unit));
        let log_unit = self.log_unit();
        let (mut list, mut count) = (None, 0);
        for number in self.blocks_in(unit, log_unit).rev() {
            if self.withholds(number, log_unit) {
                continue;
            }
            // SAFETY: a block of the slab, withheld until now, so that nobody has it.
            let block = unsafe { Block::at(self.start().add(number * self.block_size())) };
            block.set_next(list.replace(block));
            count += 1;
        }
        header.carved.set(header.carved.get() + count);
        header.needed.set(header.needed.get() + count);
        header.withheld.set(header.withheld.get() - count);
        list.map(|list| Carved { list: if hardened::ON { list.shuffled() } else { list }, count })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Shape, State};
    use super::*;
    use crate::config::Config;
    use crate::size_class::ClassId;
    use crate::topology::NodeIndex;
    use crate::{node, process};

    /// A slab, what its arena would have of it, and the blocks in use, each with the byte that fills it.
    struct World {
        slab: Slab,
        list: Vec<Block>,
        live: BTreeMap<usize, u8>,
        seed: u64,
    }

    impl World {
        fn below(&mut self, end: usize) -> usize {
            self.seed ^= self.seed << 13;
            self.seed ^= self.seed >> 7;
            self.seed ^= self.seed << 17;
            (self.seed % end as u64) as usize
        }

        fn block(&self, offset: usize) -> Block {
            // SAFETY: the test knows which blocks are its own.
            unsafe { Block::at(self.slab.start().add(offset)) }
        }

        fn fill(&self, offset: usize, byte: u8) {
            // SAFETY: the block is in use here.
            unsafe { self.slab.start().add(offset).write_bytes(byte, self.slab.block_size()) };
        }

        fn check_contents(&self, offset: usize, byte: u8) {
            // SAFETY: the block is in use here.
            let start = unsafe { self.slab.start().add(offset) };
            // SAFETY: likewise, and the block was filled.
            let block = unsafe { std::slice::from_raw_parts(start.as_ptr(), self.slab.block_size()) };
            assert!(block.iter().all(|now| *now == byte), "a block in use has changed");
        }

        /// As `Arena::refill_from_current` does it.
        fn refill(&mut self) {
            let list = self.slab.take_local().map(|(list, _)| list);
            let carve = || self.slab.carve((4096 / self.slab.block_size()).max(1) as u32);
            let list = list.or_else(|| carve().or_else(|| self.slab.take_back()).map(|carved| carved.list));
            self.list = list_from(list).collect();
            if self.list.is_empty() {
                assert_eq!(self.live.len(), Shape::of(self.slab.class()).capacity, "blocks are lost");
                self.slab.park(false);
            }
        }

        fn allocate(&mut self) {
            if self.slab.state() == State::Parked {
                return;
            }
            if self.list.is_empty() {
                self.refill();
            }
            let Some(block) = self.list.pop() else { return };
            let offset = self.slab.offset_of(block);
            assert!(offset.is_multiple_of(self.slab.block_size()), "no block begins there");
            let byte = self.below(256) as u8;
            assert_eq!(self.live.insert(offset, byte), None, "a block is handed out twice");
            self.fill(offset, byte);
        }

        fn free(&mut self) {
            if self.live.is_empty() {
                return;
            }
            let at = self.below(self.live.len());
            let (&offset, &byte) = self.live.iter().nth(at).unwrap();
            self.live.remove(&offset);
            self.check_contents(offset, byte);
            let ran_out = self.slab.free_local(self.block(offset));
            let is_parked = self.slab.state() == State::Parked;
            let none_is_out = self.live.is_empty() && self.list.is_empty();
            assert!(is_parked || ran_out == none_is_out, "the count is wrong");
            if is_parked && ran_out {
                self.slab.unpark();
            }
        }

        /// As `Arena::purge_slabs` does it.
        fn purge(&mut self) -> usize {
            if self.slab.state() == State::Parked || self.live.is_empty() {
                return 0;
            }
            let list: Vec<Block> = std::mem::take(&mut self.list);
            for pair in list.windows(2) {
                pair[0].set_next(Some(pair[1]));
            }
            if let (Some(first), Some(last)) = (list.first(), list.last()) {
                last.set_next(None);
                let _ = self.slab.give_back(*first, list.len() as u32);
            }
            self.slab.set_state(State::Partial);
            let bytes = self.slab.purge();
            self.live.iter().for_each(|(offset, byte)| self.check_contents(*offset, *byte));
            self.check();
            assert_eq!(self.slab.purge(), 0, "what has gone goes once");
            self.slab.set_state(State::Current);
            bytes
        }

        fn check(&self) {
            let (out, local) = self.slab.count_blocks().expect("the list ends");
            assert_eq!(out as usize, self.live.len() + self.list.len(), "the count of blocks that are out");
            assert_eq!(out + local, self.slab.carved(), "the count of blocks that were carved");
            assert!(self.slab.withholds_as_counted(), "the count of blocks that are withheld");
            self.slab.each_local(&mut |block| assert!(self.slab.is_carved(block), "a local block is withheld"));
        }
    }

    /// Each class with a slab of its own; gives how many bytes it gave back.
    fn run(class: ClassId, steps: usize) -> usize {
        assert!(process::set_up(&Config::new()));
        let shape = Shape::of(class);
        let slots = node::pool(NodeIndex::FIRST)
            .lock()
            .take_slots(crate::segment::Use::Small, shape.slots, 1)
            .expect("there is memory for it");
        let slab = Slab::at(slots.segment, slots.first);
        slab.begin(&shape, false, NodeIndex::FIRST);
        let (list, live) = (Vec::new(), BTreeMap::new());
        let mut world = World { slab, list, live, seed: class.size() as u64 | 1 << 40 };
        let mut bytes = 0;
        let most = shape.capacity;
        for _ in 0..steps {
            let many = world.below(most) + 1;
            match world.below(5) {
                0 => (0..many).for_each(|_| world.allocate()),
                1 => (0..many).for_each(|_| world.free()),
                2 => {
                    let few = 1 + world.below(most.min(30));
                    while world.live.len() > few {
                        world.free();
                    }
                }
                _ => bytes += world.purge(),
            }
            world.check();
        }
        // Every block is there still.
        while slab.state() != State::Parked {
            world.allocate();
        }
        while !world.live.is_empty() {
            world.free();
        }
        world.check();
        node::pool(NodeIndex::FIRST).lock().give_slots(slots.segment, slots.first, shape.slots);
        bytes
    }

    #[test]
    fn blocks_of_pages_that_went_back_are_neither_lost_nor_handed_out_twice() {
        for class in ClassId::all() {
            let steps = if cfg!(miri) {
                8
            } else if class.size() < 128 {
                60
            } else {
                200
            };
            assert!(run(class, steps) > 0 || cfg!(miri), "nothing of a slab of {} bytes goes back", class.size());
        }
    }
}
