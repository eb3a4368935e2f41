//! Free blocks of slabs: each links to the next, and may hint at one farther on.

use core::ptr::NonNull;

use crate::address_map::granule_start;
use crate::hardened;
use crate::misuse::{corrupted_link, double_free};
use crate::segment::SLOT;

/// A free block, owned by whoever holds this: its first word links it to the next.
#[must_use = "a block dropped on the floor is lost"]
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Block(NonNull<u8>);

impl Block {
    /// The block at that address.
    ///
    /// # Safety
    /// `start` is the start of a block of a slab, at least 8 bytes aligned to 8, that nobody uses.
    #[inline(always)]
    pub(crate) const unsafe fn at(start: NonNull<u8>) -> Self {
        Block(start)
    }

    /// The block at that address; none at 0.
    ///
    /// # Safety
    /// 0, or as for [`at`](Self::at).
    #[inline(always)]
    pub(crate) unsafe fn from_address(address: usize) -> Option<Self> {
        NonNull::new(core::ptr::with_exposed_provenance_mut(address)).map(Block)
    }

    #[inline(always)]
    pub(crate) const fn pointer(self) -> NonNull<u8> {
        self.0
    }

    #[inline(always)]
    pub(crate) fn address(self) -> usize {
        self.0.as_ptr().expose_provenance()
    }

    /// The next on a list of one slab's blocks.
    #[inline(always)]
    pub(crate) fn next(self) -> Option<Block> {
        let next = self.next_of_chain();
        if hardened::ON && !next.is_none_or(|next| self.is_near(next)) {
            corrupted_link(self);
        }
        next
    }

    /// The next in a chain of blocks on their way home, which are of many slabs.
    #[inline(always)]
    pub(crate) fn next_of_chain(self) -> Option<Block> {
        // SAFETY: a free block's first word is a link, written by `set_next` (invariant of `Block`).
        let word = unsafe { self.0.cast::<usize>().read() };
        // SAFETY: likewise.
        unsafe { Block::from_address(hardened::encoded(word, self.address())) }
    }

    /// What the first word says as a link, for a thread that may not hold the block.
    pub(crate) fn next_at_a_glance(self) -> Option<Block> {
        // SAFETY: callers pass a block in memory that stays. Volatile: whoever holds it may be writing to it.
        let word = unsafe { self.0.cast::<usize>().read_volatile() };
        // SAFETY: callers look whether it is the address of a block before anything else.
        unsafe { Block::from_address(hardened::encoded(word, self.address())) }
    }

    #[inline(always)]
    pub(crate) fn set_next(self, next: Option<Block>) {
        let word = hardened::encoded(next.map_or(0, Block::address), self.address());
        // SAFETY: whoever holds the block may write to it (invariant of `Block`).
        unsafe { self.0.cast::<usize>().write(word) }
    }

    #[inline(always)]
    fn is_near(self, other: Block) -> bool {
        granule_start(self.address()) == granule_start(other.address())
    }

    /// Hardened: leaves no link in a block that is handed out, which would look free still when it is freed.
    #[inline(always)]
    pub(crate) fn forget_link(self) {
        if hardened::ON {
            // SAFETY: whoever holds the block may write to it (invariant of `Block`).
            unsafe { self.0.cast::<usize>().write(0) };
        }
    }

    /// Has whoever brings the block home look for it among the free ones. For one of two words or more.
    pub(crate) fn suspect(self) {
        // SAFETY: its user has given the block up, and it is two words long at least.
        unsafe { self.0.cast::<usize>().add(1).write(hardened::suspicion(self.address())) }
    }

    /// Whether that was asked for.
    #[inline(always)]
    pub(crate) fn is_suspect(self) -> bool {
        // SAFETY: whoever holds the block may read it, and callers pass one of two words or more.
        unsafe { self.0.cast::<usize>().add(1).read() == hardened::suspicion(self.address()) }
    }

    /// Whether a block that is about to be freed looks as if it was already.
    #[inline(always)]
    pub(crate) fn looks_free(self) -> bool {
        // SAFETY: its user has given the block up, and it is a word long at least.
        hardened::looks_like_link(unsafe { self.0.cast::<usize>().read() }, self.address())
    }
}

impl Block {
    /// Sees to it that the link of the first of so many free blocks leads to another one of its segment, or to none if it is
    /// the last; and that it was not freed, then another one, then it again.
    #[inline(always)]
    pub(crate) fn check_link(self, blocks: u32) {
        let next = self.next_of_chain();
        if next.is_some() != (blocks > 1) || !next.is_none_or(|next| self.is_near(next)) {
            corrupted_link(self);
        }
        if blocks > 2 && next.is_some_and(|next| next.next_of_chain() == Some(self)) {
            double_free(self);
        }
    }
}

impl Block {
    /// The list that begins with this block, in another order: each block goes to one of two piles, and the piles are put
    /// together.
    #[cold]
    pub(crate) fn shuffled(self) -> Block {
        let (mut piles, mut lowest) = ([None, None], None);
        let (mut next, mut draws, mut drawn) = (Some(self), 0_usize, 0);
        while let Some(block) = next {
            next = block.next();
            if drawn == 0 {
                (draws, drawn) = (hardened::random(usize::MAX), 32);
            }
            let [first, second] = &mut piles;
            let pile = if draws & 1 == 0 { first } else { second };
            if draws & 1 == 0 && pile.is_none() {
                lowest = Some(block);
            }
            (draws, drawn) = (draws >> 1, drawn - 1);
            block.set_next(pile.replace(block));
        }
        let [first, second] = piles;
        if let Some(lowest) = lowest {
            lowest.set_next(second);
        }
        first.or(second).unwrap_or(self)
    }
}

/// Free blocks of two words and more may carry a hint on their way home: another block that follows some places behind in
/// the chain. Who takes the chain apart has that fetched while it waits for the next one.
/// What the owner does with a slab.
impl Block {
    /// Writes the hint.
    #[inline(always)]
    pub(crate) fn set_hint(self, hint: Option<Block>) {
        if hardened::ON {
            return;
        }
        // SAFETY: whoever holds the block may write to it, and callers pass one of two words or more.
        unsafe { self.0.cast::<Option<Block>>().add(1).write(hint) }
    }

    /// Has the processor fetch what the hint names, if there is one; whatever stands there, nothing is read of it.
    #[inline(always)]
    pub(crate) fn prefetch_hint(self) {
        #[cfg(all(target_arch = "x86_64", not(feature = "hardened")))]
        {
            // SAFETY: whoever holds the block may read it, and callers pass one of two words or more.
            let hint = unsafe { self.0.cast::<*const i8>().add(1).read() };
            // SAFETY: a prefetch of any address does nothing that can be seen.
            unsafe { core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(hint) };
        }
    }
}

/// The blocks of a list of one slab's, from that one on. Not for ever: one that was freed twice unnoticed makes a list endless,
/// of which one block more is given than any slab has.
pub(crate) fn list_from(first: Option<Block>) -> impl Iterator<Item = Block> {
    const LEAST_BLOCK: usize = size_of::<Block>();
    core::iter::successors(first, |block| block.next()).take(SLOT / LEAST_BLOCK + 1)
}
