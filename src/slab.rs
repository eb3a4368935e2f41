//! Slabs: one slot (blocks to 8 KiB) or eight (blocks to 64 KiB) of a segment, carved into blocks of one size class.
//!
//! A slab's metadata stands apart from its blocks, in its segment: the hot header here, written by its owner alone, and
//! the owner word, which other threads read.
//!
//! # Counting
//! A block that is *withheld* (see `units`) counts as if it was not carved yet. *Out* are the blocks that are carved and not on the slab's local list: in users' hands, on the arena's list, in an
//! outbox or an inbox. The header does not keep `out` but `needed = out - target`, which each free of the owner
//! takes one from; at zero something is to be done. Which, tells the state:
//!
//! | state | where it is | target | at zero |
//! |---|---|---|---|
//! | `Current` | the arena allocates from it | 0 | all its blocks are on the local list: they become the arena's list |
//! | `Partial` | on the arena's list of the class | 0 | it is empty: its slots go back to the node |
//! | `Parked` | nowhere: all its blocks are out | carved - `wake_at` | it has room again: it becomes partial |

mod units;

use core::cell::Cell;
use core::ptr::NonNull;

use crate::block::{Block, list_from};
use crate::hardened;
use crate::misuse::double_free;
use crate::segment::{SLOT, SegmentPtr, SlotIndex, Weight};
use crate::size_class::{ClassId, MAX_BLOCK};
use crate::sync::{Seen, glance};
use crate::topology::NodeIndex;

/// Blocks that are carved at a time, at most.
const MOST_CARVED: usize = if hardened::ON { 512 } else { 0 };

/// The order in which `count` blocks are carved: as they lie, or, hardened, any other (Knuth, "The Art of Computer
/// Programming" 2, 3.4.2, algorithm P). Uses `places` for it.
fn shuffled_order(places: &mut [u16; MOST_CARVED], count: u32) -> impl Fn(u32) -> u32 {
    for last in 0..places.len().min(count as usize) {
        let other = hardened::random(last + 1);
        places[last] = places[other];
        places[other] = last as u16;
    }
    |index| places.get(index as usize).map_or(index, |place| u32::from(*place))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    /// The arena allocates from it.
    Current,
    /// It has free blocks and waits on the arena's list.
    Partial,
    /// All its blocks are out; nobody looks at it until enough come back.
    Parked,
}

/// A slab's hot header. Every field is read and written only by the thread that holds the owning arena:
/// the thread whose arena it is, or, while the arena is idle, whoever holds the node's lock.
#[repr(C, align(128))]
pub(crate) struct SlabHeader {
    /// Blocks freed by the owner and not taken since.
    local: Cell<Option<Block>>,
    /// `out - target`: see the module's text.
    needed: Cell<u32>,
    /// Blocks carved so far, but for those withheld; what follows on all of these was never touched by this class.
    carved: Seen<u32>,
    /// Blocks the slab has room for.
    capacity: Cell<u32>,
    /// Bytes in a block.
    block_size: Seen<u32>,
    class: Cell<ClassId>,
    state: Seen<State>,
    slots: Cell<u8>,
    /// The node whose memory it is.
    node: Cell<NodeIndex>,
    /// Whether what is not carved yet is known to be zero.
    fresh: Cell<bool>,
    /// Blocks that come back before a parked slab is looked at again.
    wake_at: Seen<u32>,
    /// Blocks that are free and on no list, since they touch purged units.
    withheld: Seen<u32>,
    /// The neighbours on the arena's list of partial slabs.
    next: Cell<Option<Slab>>,
    previous: Cell<Option<Slab>>,
    /// A bit for each unit whose pages went back to the kernel.
    purged: Cell<u64>,
}
const _: () = assert!(size_of::<SlabHeader>() == 128);

/// A slab: a pointer to its header, in slot 0 of its segment.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Slab(NonNull<SlabHeader>);

/// What a slab is made of.
pub(crate) struct Shape {
    pub(crate) class: ClassId,
    pub(crate) slots: usize,
    pub(crate) capacity: usize,
}

impl Shape {
    /// One slot for blocks to 8 KiB, eight beyond.
    #[inline]
    pub(crate) fn of(class: ClassId) -> Self {
        let slots = if class.size() <= 8 << 10 { 1 } else { MAX_BLOCK / (8 << 10) };
        Shape { class, slots, capacity: slots * SLOT / class.size() }
    }
}

/// A list of blocks that were carved together.
pub(crate) struct Carved {
    pub(crate) list: Block,
    pub(crate) count: u32,
}

impl Slab {
    /// The slab whose first slot is that one.
    #[inline(always)]
    pub(crate) fn at(segment: SegmentPtr, slot: SlotIndex) -> Self {
        Slab(segment.slab_header(slot))
    }

    /// The slab that the block belongs to, where the block lies in the slab's first slot (always, for slabs of one).
    #[inline(always)]
    pub(crate) fn of_first_slot(segment: SegmentPtr, address: usize) -> Self {
        Slab(segment.slab_header(SlotIndex::of(address)))
    }

    #[inline(always)]
    fn header(&self) -> &SlabHeader {
        // SAFETY: headers stand in the committed slot 0 of a segment, which is never unmapped; zero bytes are valid for
        // every field.
        unsafe { self.0.as_ref() }
    }

    /// The header's address, a multiple of 128 that is never 0: the slab's name in words of other modules.
    #[inline(always)]
    pub(crate) fn address(self) -> usize {
        self.0.as_ptr().expose_provenance()
    }

    #[inline(always)]
    pub(crate) fn segment(self) -> SegmentPtr {
        // SAFETY: the header lies in slot 0 of its segment.
        unsafe { SegmentPtr::of(self.address()) }
    }

    #[inline(always)]
    pub(crate) fn slot(self) -> SlotIndex {
        SlotIndex::of_header(self.address())
    }

    /// The address of the first block.
    #[inline(always)]
    pub(crate) fn start(self) -> NonNull<u8> {
        self.segment().slot_start(self.slot())
    }

    /// The block that an address of the slab's slots lies in; `None` behind the last one.
    pub(crate) fn block_around(self, address: usize) -> Option<NonNull<u8>> {
        // Never 0 in a slab.
        let size = self.block_size().max(1);
        let index = address.checked_sub(self.start().as_ptr() as usize)? / size;
        // SAFETY: as many blocks as that lie within the slab's slots.
        (index < self.slots() * SLOT / size).then(|| unsafe { self.start().add(index * size) })
    }

    /// Makes the slots a slab of that shape: no block carved, nothing out, nobody's yet.
    ///
    /// The caller holds the node's lock and has just taken the slots out of the segment's free ones.
    pub(crate) fn begin(self, shape: &Shape, fresh: bool, node: NodeIndex) {
        let header = self.header();
        header.local.set(None);
        header.needed.set(0);
        header.carved.set(0);
        header.capacity.set(shape.capacity as u32);
        header.block_size.set(shape.class.size() as u32);
        header.class.set(shape.class);
        header.state.set(State::Current);
        header.slots.set(shape.slots as u8);
        header.fresh.set(fresh);
        header.node.set(node);
        header.next.set(None);
        header.previous.set(None);
        header.withheld.set(0);
        header.purged.set(0);
    }

    /// The node whose memory it is.
    pub(crate) fn node(self) -> NodeIndex {
        self.header().node.get()
    }

    #[inline(always)]
    pub(crate) fn class(self) -> ClassId {
        self.header().class.get()
    }

    #[inline(always)]
    pub(crate) fn block_size(self) -> usize {
        self.header().block_size.get() as usize
    }

    /// What a block of it weighs in an outbox.
    pub(crate) fn weight(self) -> Weight {
        self.segment().weight(self.slot())
    }

    #[inline(always)]
    pub(crate) fn slots(self) -> usize {
        usize::from(self.header().slots.get())
    }

    #[inline(always)]
    pub(crate) fn state(self) -> State {
        self.header().state.get()
    }

    #[inline(always)]
    pub(crate) fn set_state(self, state: State) {
        self.header().state.set(state);
    }

    /// Whether every block was carved, and none is withheld.
    #[inline]
    fn is_carved_up(self) -> bool {
        self.header().carved.get() == self.header().capacity.get()
    }

    /// The number of the block that is carved next, where none is withheld that was.
    #[inline]
    fn next_to_carve(self) -> u32 {
        self.header().carved.get() + self.header().withheld.get()
    }

    /// Blocks that are out, in a state whose target is 0 (all but `Parked`).
    #[inline]
    pub(crate) fn out(self) -> u32 {
        debug_assert!(self.state() != State::Parked);
        self.header().needed.get()
    }

    /// Takes a block back from its user, on the owner's side. True where something is to be done: see the module's text.
    #[inline(always)]
    pub(crate) fn free_local(self, block: Block) -> bool {
        let header = self.header();
        let first = header.local.get();
        if first == Some(block) {
            double_free(block);
        }
        block.set_next(first);
        header.local.set(Some(block));
        // At 0 already, no block was out: see `count_is_wrong`.
        let needed = header.needed.get();
        header.needed.set(needed.wrapping_sub(1));
        needed <= 1
    }

    /// Whether a block was freed while none was out, so that one was freed twice.
    pub(crate) fn count_is_wrong(self) -> bool {
        self.header().needed.get() == u32::MAX
    }

    /// The block that was freed last.
    pub(crate) fn last_freed(self) -> Option<Block> {
        self.header().local.get()
    }

    /// Takes all local blocks, which are out from then on; says how many. The slab is not parked.
    #[inline]
    pub(crate) fn take_local(self) -> Option<(Block, u32)> {
        let header = self.header();
        let list = header.local.take()?;
        let taken = header.carved.get() - header.needed.get();
        header.needed.set(header.carved.get());
        list.check_link(taken);
        Some((if hardened::ON { list.shuffled() } else { list }, taken))
    }

    /// Takes all local blocks but the one freed last (all, if that is the only one); they are out from then on. None was
    /// out before.
    pub(crate) fn take_local_but_last_freed(self) -> Option<(Block, u32)> {
        let header = self.header();
        let last_freed = header.local.get()?;
        let carved = header.carved.get();
        let Some(rest) = last_freed.next() else {
            return self.take_local();
        };
        last_freed.check_link(carved);
        last_freed.set_next(None);
        header.needed.set(carved - 1);
        Some((rest, carved - 1))
    }

    /// Puts a chain of `count` blocks that were out on the local list. True where none is out any more. The slab is not
    /// parked.
    pub(crate) fn give_back(self, first: Block, count: u32) -> bool {
        let header = self.header();
        if let Some(local) = header.local.replace(Some(first)) {
            let mut last = first;
            while let Some(next) = last.next() {
                last = next;
            }
            last.set_next(Some(local));
        }
        let needed = header.needed.get().wrapping_sub(count);
        header.needed.set(needed);
        needed == 0
    }

    /// Whether there is nothing to be had from it: no local block, none to carve, none withheld.
    pub(crate) fn is_used_up(self) -> bool {
        self.header().local.get().is_none() && self.is_carved_up()
    }

    /// Carves the next `wanted` blocks, or as many as are left; they are out from then on. `None` where none is left.
    pub(crate) fn carve(self, wanted: u32) -> Option<Carved> {
        let header = self.header();
        let next = self.next_to_carve();
        let count = wanted.min(header.capacity.get() - next);
        if count == 0 {
            return None;
        }
        let size = self.block_size();
        // SAFETY: blocks `next..next + count` lie within the slab's slots, and nobody was given them yet.
        let block = |index: u32| unsafe { Block::at(self.start().add((next + index) as usize * size)) };
        let mut order = [0; MOST_CARVED];
        let order = shuffled_order(&mut order, count);
        let list = block(order(0));
        let mut last = list;
        for index in 1..count {
            let next = block(order(index));
            last.set_next(Some(next));
            last = next;
        }
        last.set_next(None);
        header.carved.set(header.carved.get() + count);
        header.needed.set(header.needed.get() + count);
        Some(Carved { list, count })
    }

    /// Carves one block that is known to be zero and leaves it so; `None` where there is none.
    pub(crate) fn carve_zeroed(self) -> Option<NonNull<u8>> {
        let header = self.header();
        let next = self.next_to_carve();
        // Hardened, no block follows on the one before it.
        if !header.fresh.get() || next == header.capacity.get() || hardened::ON {
            return None;
        }
        header.carved.set(header.carved.get() + 1);
        header.needed.set(header.needed.get() + 1);
        // SAFETY: block `next` lies within the slab's slots.
        Some(unsafe { self.start().add(next as usize * self.block_size()) })
    }

    /// Current, used up: from now on `needed` counts towards its waking, which is early where memory is short.
    pub(crate) fn park(self, early: bool) {
        let header = self.header();
        debug_assert!(header.local.get().is_none() && header.needed.get() == header.carved.get());
        debug_assert!(self.is_carved_up());
        header.wake_at.set(if early { 1 } else { (header.capacity.get() / WAKE_FRACTION).max(1) });
        header.state.set(State::Parked);
        header.needed.set(header.wake_at.get());
    }

    /// Parked: has it wake by the next block that is back. If one is already, it is partial now, and true is given.
    pub(crate) fn wake_early(self) -> bool {
        let header = self.header();
        if header.local.get().is_some() {
            self.unpark();
            return true;
        }
        header.wake_at.set(1);
        header.needed.set(1);
        false
    }

    /// Parked, and has blocks again: from now on `needed` counts to empty.
    pub(crate) fn unpark(self) {
        let header = self.header();
        debug_assert!(header.state.get() == State::Parked);
        let target = header.carved.get() - header.wake_at.get();
        header.needed.set(header.needed.get() + target);
        header.state.set(State::Partial);
    }

    /// Undoes the last [`free_local`](Self::free_local): the block is out again.
    pub(crate) fn undo_free(self) -> Option<Block> {
        let header = self.header();
        let block = header.local.get()?;
        header.local.set(block.next());
        header.needed.set(header.needed.get().wrapping_add(1));
        Some(block)
    }

    /// Blocks that are out, for a thread that may not be the owner.
    pub(crate) fn out_at_a_glance(self) -> u32 {
        let header = self.header();
        let carved = header.carved.get();
        let target = match header.state.get() {
            State::Parked => carved.saturating_sub(header.wake_at.get()),
            State::Current | State::Partial => 0,
        };
        glance(&header.needed).wrapping_add(target).min(carved)
    }

    /// Blocks on a list of the slab's, for a thread that may not be the owner: as far as the links lead to blocks of it. The
    /// slab's slots stay meanwhile.
    pub(crate) fn list_at_a_glance(self, first: Block) -> usize {
        let (size, carved) = (self.block_size().max(1), self.next_to_carve() as usize);
        let is_block = |block: &Block| {
            let offset = block.address().wrapping_sub(self.start().as_ptr().addr());
            offset < carved * size && offset.is_multiple_of(size)
        };
        let next = |block: &Block| block.next_at_a_glance().filter(is_block);
        core::iter::successors(Some(first).filter(is_block), next).take(carved).count()
    }

    /// For audits: blocks that are out, and those on the local list, which is walked; `None` where that does not end.
    pub(crate) fn count_blocks(self) -> Option<(u32, u32)> {
        let header = self.header();
        let target = if self.state() == State::Parked { header.carved.get() - header.wake_at.get() } else { 0 };
        let (mut local, mut next) = (0, header.local.get());
        while let Some(block) = next {
            local += 1;
            if local > header.capacity.get() {
                return None;
            }
            next = block.next();
        }
        Some((header.needed.get().wrapping_add(target), local))
    }

    /// Blocks that were carved, but for those withheld.
    pub(crate) fn carved(self) -> u32 {
        self.header().carved.get()
    }

    /// Whether the block at that address was carved, and is not withheld.
    pub(crate) fn is_carved(self, block: Block) -> bool {
        let offset = block.address() - self.start().as_ptr() as usize;
        offset < self.next_to_carve() as usize * self.block_size() && !self.is_withheld(block)
    }

    /// For the debug mode: calls `visit` with every block that was carved.
    pub(crate) fn each_carved(self, mut visit: impl FnMut(Block)) {
        for index in 0..self.next_to_carve() as usize {
            // SAFETY: blocks that were carved lie within the slab's slots.
            visit(unsafe { Block::at(self.start().add(index * self.block_size())) });
        }
    }

    /// Calls `visit` with the blocks of the local list; not for ever, if one was freed twice unnoticed.
    pub(crate) fn each_local(self, visit: &mut dyn FnMut(Block)) {
        list_from(self.last_freed()).take(self.carved() as usize).for_each(visit);
    }

    #[inline]
    pub(crate) fn links(&self) -> (&Cell<Option<Slab>>, &Cell<Option<Slab>>) {
        (&self.header().next, &self.header().previous)
    }
}

/// A parked slab is looked at again when one in so many of its blocks is back.
const WAKE_FRACTION: u32 = 16;
