//! The remote word: where other threads put a slab's blocks, for its owner to take.
//!
//! One atomic word holds the head of a chain of blocks, how many they are, and whether the slab is parked:
//!
//! | bits | meaning |
//! |---|---|
//! | 0..24 | the first block's offset in its segment, in units of 8 bytes; 0: none (slots 0 and 1 hold no blocks) |
//! | 24..48 | how many blocks |
//! | 63 | parked: the owner looks at the slab no more, and wants to be woken |
//!
//! Who may do what:
//! - Any thread pushes a chain, by compare-exchange. If the slab is parked and the count reaches `wake_at`, the same
//!   exchange clears the parked bit; exactly one pusher does that for a parking, and it then pushes the slab on its
//!   arena's woken stack.
//! - The owner takes the whole chain by one swap, so there is no ABA; parks by compare-exchange from an empty word;
//!   unparks by compare-exchange, which fails where a pusher was faster. In that case the slab comes by the woken stack,
//!   and until then belongs to no list.
//!
//! A push releases the links it wrote and a take acquires them. Parking releases, and the exchange that wakes acquires,
//! so that the waker reads the owner word as it was when the slab was parked or later.

use crate::sync::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// A block's offset in its segment in units of 8 bytes; never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Offset(core::num::NonZeroU32);

impl Offset {
    /// The offset of that number of bytes.
    #[inline(always)]
    pub(crate) fn from_bytes(bytes: usize) -> Option<Self> {
        core::num::NonZeroU32::new((bytes >> 3) as u32).map(Offset)
    }

    /// In bytes.
    #[inline(always)]
    pub(crate) fn bytes(self) -> usize {
        (self.0.get() as usize) << 3
    }
}

const OFFSET_BITS: u32 = 24;
const COUNT_BITS: u32 = 24;
const PARKED: u64 = 1 << 63;
// Every block of a segment has an offset, and the count of a slab's blocks fits.
#[cfg(not(loom))]
const _: () = assert!(crate::zone::GRANULE >> 3 <= 1 << OFFSET_BITS);
#[cfg(not(loom))]
const _: () = assert!(8 * crate::segment::SLOT / 8 < 1 << COUNT_BITS);

#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    const fn head(self) -> u32 {
        self.0 as u32 & ((1 << OFFSET_BITS) - 1)
    }

    fn first(self) -> Option<Offset> {
        core::num::NonZeroU32::new(self.head()).map(Offset)
    }

    const fn count(self) -> u32 {
        (self.0 >> OFFSET_BITS) as u32 & ((1 << COUNT_BITS) - 1)
    }

    const fn is_parked(self) -> bool {
        self.0 & PARKED != 0
    }

    fn chain(first: Offset, count: u32) -> u64 {
        u64::from(first.0.get()) | u64::from(count) << OFFSET_BITS
    }
}

/// The part of a slab's metadata that other threads write. See the module's text.
#[repr(C, align(64))]
pub(crate) struct Remote {
    word: AtomicU64,
    /// The link of the woken stack; written by the one thread that pushes the slab there.
    pub(crate) woken_next: AtomicUsize,
    /// How many blocks come back before a parked slab wakes its owner. Constant while the slab has a block out.
    wake_at: AtomicU32,
    /// How many blocks an outbox gathers for the slab. Constant while the slab has a block out.
    batch: AtomicU32,
}

/// A chain of blocks that was pushed by others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chain {
    pub(crate) first: Offset,
    pub(crate) count: u32,
}

/// What a push asks of the pusher.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Nothing.
    Quiet,
    /// To push the slab on the woken stack of its arena.
    MustWake,
}

impl Remote {
    /// A word of its own, for models.
    #[cfg(all(test, loom))]
    pub(crate) fn for_model(wake_at: u32) -> Self {
        Remote {
            word: AtomicU64::new(0),
            woken_next: AtomicUsize::new(0),
            wake_at: AtomicU32::new(wake_at),
            batch: AtomicU32::new(1),
        }
    }

    /// Empty, for a slab that begins.
    pub(crate) fn begin(&self, wake_at: u32, batch: u32) {
        self.word.store(0, Ordering::Relaxed);
        self.wake_at.store(wake_at, Ordering::Relaxed);
        self.batch.store(batch, Ordering::Relaxed);
    }

    /// How many blocks an outbox gathers for the slab.
    #[inline]
    pub(crate) fn batch(&self) -> u32 {
        self.batch.load(Ordering::Relaxed)
    }

    /// Pushes a chain of `count` blocks that begins with `first`. `link_last` makes the chain's last block point at what
    /// it is given; it may be called more than once.
    #[inline]
    pub(crate) fn push(&self, first: Offset, count: u32, mut link_last: impl FnMut(Option<Offset>)) -> Pushed {
        let mut old = Word(self.word.load(Ordering::Relaxed));
        loop {
            link_last(old.first());
            let total = old.count() + count;
            let wakes = old.is_parked() && total >= self.wake_at.load(Ordering::Relaxed);
            let stays_parked = if old.is_parked() && !wakes { PARKED } else { 0 };
            let new = Word::chain(first, total) | stays_parked;
            match self.word.compare_exchange_weak(old.0, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) if wakes => return Pushed::MustWake,
                Ok(_) => return Pushed::Quiet,
                Err(now) => old = Word(now),
            }
        }
    }

    /// Takes all that others pushed. For the owner, while the slab is not parked.
    #[inline]
    pub(crate) fn take(&self) -> Option<Chain> {
        if self.word.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let word = Word(self.word.swap(0, Ordering::AcqRel));
        word.first().map(|first| Chain { first, count: word.count() })
    }

    /// Parks the slab. False where blocks have come in the meantime. For the owner.
    pub(crate) fn park(&self) -> bool {
        self.word.compare_exchange(0, PARKED, Ordering::Release, Ordering::Relaxed).is_ok()
    }

    /// Unparks the slab and takes what is there: `Some(None)` where that is nothing. `None` where a pusher was faster,
    /// and is about to put the slab on the woken stack. For the owner.
    pub(crate) fn unpark(&self) -> Option<Option<Chain>> {
        let mut old = Word(self.word.load(Ordering::Relaxed));
        loop {
            if !old.is_parked() {
                return None;
            }
            match self.word.compare_exchange_weak(old.0, 0, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return Some(old.first().map(|first| Chain { first, count: old.count() })),
                Err(now) => old = Word(now),
            }
        }
    }

    /// How many blocks wait.
    pub(crate) fn waiting(&self) -> u32 {
        Word(self.word.load(Ordering::Relaxed)).count()
    }
}
