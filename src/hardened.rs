//! The feature `hardened`: makes mistakes in a program harder to exploit. Without it everything here is nothing.
//!
//! # Threat model
//! An attacker can make the program write where it should not: past the end of a block, or to a block after it was freed,
//! with contents of their choice; and can make it allocate and free in an order of their choice. They want to have a block
//! handed out that lies where they choose, or over one that is in use, so that the next write goes through it. They cannot
//! read the process's memory at will, and do not know the process's random numbers.
//!
//! | they try | what stands against it |
//! |---|---|
//! | to write a link into a free block, so that a later allocation lands where it leads | links are encoded with two random numbers and the place they stand at; what does not decode to a block of the same segment ends the process (as in snmalloc and mimalloc's secure mode) |
//! | to free a block twice, so that it is handed out twice | a block whose first word decodes to a link is looked for among the free ones before it is freed, those that other threads have sent home among them (not one of 8 bytes that another thread frees, nor one that another thread has freed and not sent yet) |
//! | to have a block of their choice lie behind the one they overflow | blocks are carved in random order, and come back in random order, not last in first out |
//! | to overflow far, from one object into many | every sixteenth slot of 64 KiB is a guard that cannot be touched, at a random phase; a mapping of its own ends before one; so do the headers at a segment's front |
//! | to learn addresses from freed blocks | no plain pointer is left in a free block |
//!
//! Not stood against: writes within a slab to a neighbour that is in use (a page's blocks lie side by side); an attacker who
//! reads memory and so learns the random numbers; writes to headers by way of a pointer that is made up; misuse of what
//! the C library keeps in the open. Which misuse is noticed in every build stands in `misuse`.
//!
//! What it costs stands in `docs/benchmarks.md`.

use crate::address_map::GRANULE;
use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// Whether the feature is on.
pub(crate) const ON: bool = cfg!(feature = "hardened");

/// Slots from one guard of a segment to the next.
pub(crate) const GUARD_EVERY: usize = 16;

/// The random numbers that links are encoded with. Written once, before there is any link.
static KEYS: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];
/// What [`random`] goes on from.
static STATE: AtomicU64 = AtomicU64::new(0x9e37_79b9_7f4a_7c15);

/// Takes the process's random numbers. To be called while the process is set up, before any block is free.
pub(crate) fn begin() {
    if ON {
        let [first, second, state] = crate::os::random_numbers();
        KEYS[0].store(first as usize, Ordering::Relaxed);
        KEYS[1].store(second as usize | 1, Ordering::Relaxed);
        STATE.fetch_xor(state, Ordering::Relaxed);
    }
}

/// What a link that stands at `place` is disguised with.
#[inline(always)]
fn disguise(place: usize) -> usize {
    let mixed = (place ^ KEYS[0].load(Ordering::Relaxed)).wrapping_mul(KEYS[1].load(Ordering::Relaxed));
    mixed ^ mixed >> (usize::BITS / 2)
}

/// A link (an address, or 0), as it stands in the block at `place`; and back.
#[inline(always)]
pub(crate) fn encoded(link: usize, place: usize) -> usize {
    if ON { link ^ disguise(place) } else { link }
}

/// What the second word of a block at `place` says where it may be free already.
#[inline(always)]
pub(crate) fn suspicion(place: usize) -> usize {
    !disguise(place)
}

/// Whether a word that stands at `place` decodes to what a link to another block of the segment may be.
#[inline(always)]
pub(crate) fn looks_like_link(word: usize, place: usize) -> bool {
    let link = encoded(word, place);
    link == 0 || (link ^ place) < GRANULE && link.is_multiple_of(align_of::<usize>())
}

/// A random number below `bound`. Marsaglia, "Xorshift RNGs", 2003; threads that draw at once may draw the same.
pub(crate) fn random(bound: usize) -> usize {
    let mut state = STATE.load(Ordering::Relaxed);
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    STATE.store(state, Ordering::Relaxed);
    // The high half of the product is below the bound (Lemire, "Fast Random Integer Generation in an Interval", 2019).
    ((u128::from(state) * bound as u128) >> 64) as usize
}
