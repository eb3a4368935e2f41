//! Owner words.

use core::num::NonZeroUsize;

use crate::arith::align_down;

/// Who a slot belongs to, in one word.
///
/// | low bits | meaning |
/// |---|---|
/// | all 0 | free |
/// | bits 0 to 2 are 0 | an arena's: its address, a multiple of 4,096 |
/// | bit 0 | the arena works in checked mode: its word never equals a plain address |
/// | bits 3 to 5, bit 2 being 0 | how many slots before this one the slab begins: likewise if not 0 |
/// | bit 2 | not an arena's: the kind in bits 3 to 5, a number from bit 8 on |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct OwnerWord(pub(super) usize);

/// What an owner word says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Nothing was handed out there, or it was freed.
    Free,
    /// The arena with that address; the slab begins so many slots before.
    Arena(usize, usize),
    /// The start of a run of so many slots.
    Run(usize),
    /// Within a run.
    RunInterior,
    /// The block of a mapping of its own.
    Mapping,
    /// The same, watched by the debug mode: the user's block lies within the mapping's.
    WatchedMapping,
}

/// Where freed blocks go that wait in an outbox: the same for all plain owner words of an arena, and for no other word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Destination(NonZeroUsize);

impl Destination {
    const ALL_BACK: NonZeroUsize = NonZeroUsize::new(BACK).expect("some bits are set");

    /// To the arena with that address.
    #[inline]
    pub(crate) fn arena(address: usize) -> Self {
        Destination(Self::ALL_BACK | address)
    }

    #[inline(always)]
    pub(crate) fn get(self) -> usize {
        self.0.get()
    }

    /// The arena's address, where it is one's.
    #[inline(always)]
    pub(crate) fn arena_address(self) -> usize {
        align_down(self.0.get(), ARENA_ALIGN)
    }
}

impl OwnerWord {
    pub(crate) const FREE: Self = OwnerWord(0);
    pub(crate) const RUN_INTERIOR: Self = OwnerWord(SPECIAL | 1 << 3);
    /// What stands in the first of a mapping's words, whether it is live or kept; a segment's is `FREE`.
    pub(crate) const OF_MAPPING: Self = Self::RUN_INTERIOR;
    pub(crate) const MAPPING: Self = OwnerWord(SPECIAL | 2 << 3);
    pub(crate) const WATCHED_MAPPING: Self = OwnerWord(SPECIAL | 3 << 3);

    #[inline(always)]
    pub(crate) const fn arena(address: usize, checked: bool, back: usize) -> Self {
        OwnerWord(address | if checked { CHECKED } else { 0 } | back << 3)
    }

    pub(crate) const fn run(slots: usize) -> Self {
        OwnerWord(SPECIAL | slots << 8)
    }

    /// Whether this is the plain word of the arena at that address.
    #[inline(always)]
    pub(crate) fn is(self, arena: usize) -> bool {
        self.0 == arena
    }

    /// Where a block goes whose slab has this word; no arena's destination, if the word is not an arena's plain one.
    #[inline(always)]
    pub(crate) fn destination(self) -> Destination {
        Destination(Destination::ALL_BACK | self.0)
    }

    /// The arena it names, if it names one.
    #[inline(always)]
    pub(crate) fn arena_address(self) -> Option<usize> {
        (self.0 & SPECIAL == 0 && self.0 != 0).then_some(align_down(self.0, ARENA_ALIGN))
    }

    /// The arena it names, if it names one that is not in checked mode.
    #[inline(always)]
    pub(crate) fn unchecked_arena_address(self) -> Option<usize> {
        if self.0 & (SPECIAL | CHECKED) != 0 {
            return None;
        }
        (self.0 != 0).then_some(align_down(self.0, ARENA_ALIGN))
    }

    /// Whether it names an arena in checked mode.
    #[inline]
    pub(crate) fn is_checked(self) -> bool {
        self.0 & (SPECIAL | CHECKED) == CHECKED
    }

    /// How many slots before this one the slab begins. For the word of an arena.
    #[inline(always)]
    pub(crate) fn back(self) -> usize {
        self.0 >> 3 & 7
    }

    #[inline]
    pub(crate) fn decode(self) -> Owner {
        if self.0 & SPECIAL == 0 {
            return match self.0 {
                0 => Owner::Free,
                word => Owner::Arena(align_down(word, ARENA_ALIGN), word >> 3 & 7),
            };
        }
        match self.0 >> 3 & 7 {
            0 => Owner::Run(self.0 >> 8),
            1 => Owner::RunInterior,
            2 => Owner::Mapping,
            _ => Owner::WatchedMapping,
        }
    }
}

const CHECKED: usize = 1;
const SPECIAL: usize = 4;
/// The bits that say how many slots before this one the slab begins.
const BACK: usize = 7 << 3;
/// What an arena's address is a multiple of.
pub(crate) const ARENA_ALIGN: usize = 4096;
