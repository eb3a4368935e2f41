//! Fault injection (feature `fault-injection`): makes the kernel seem to refuse, so that tests can show that a refusal
//! loses nothing. Without the feature every question is answered `false` at compile time.

/// The kinds of call that can be made to fail, as bits of a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(dead_code, reason = "the portable twin makes fewer kinds of call")]
pub enum Call {
    /// Reserving addresses or mapping memory (`mmap`).
    Map = 1,
    /// Making reserved memory usable (`mprotect`).
    Commit = 2,
    /// Giving memory back (`madvise`).
    Purge = 4,
    /// Moving pages (`mremap`).
    Move = 8,
    /// Binding addresses to a node (`mbind`).
    Bind = 16,
    /// Asking which node a thread runs on (`getcpu`).
    Getcpu = 32,
    /// Asking where pages lie, or moving them (`move_pages`).
    Place = 64,
}

#[cfg(feature = "fault-injection")]
mod switch {
    use super::Call;
    use crate::sync::{AtomicU8, AtomicU64, Ordering};

    static KINDS: AtomicU8 = AtomicU8::new(0);
    static EVERY: AtomicU64 = AtomicU64::new(0);
    static COUNT: AtomicU64 = AtomicU64::new(0);

    /// From now on, every `every`-th call of the kinds in the mask fails (1: each of them; 0: none).
    pub fn inject(kinds: u8, every: u64) {
        KINDS.store(kinds, Ordering::Relaxed);
        COUNT.store(0, Ordering::Relaxed);
        EVERY.store(every, Ordering::Relaxed);
    }

    /// Whether this call is to fail.
    pub(crate) fn fails(call: Call) -> bool {
        let every = EVERY.load(Ordering::Relaxed);
        every != 0
            && KINDS.load(Ordering::Relaxed) & call as u8 != 0
            && (COUNT.fetch_add(1, Ordering::Relaxed) + 1).is_multiple_of(every)
    }
}
#[cfg(feature = "fault-injection")]
pub(crate) use switch::fails;
#[cfg(feature = "fault-injection")]
pub use switch::inject;

/// Whether this call is to fail: never, in a build without the feature.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(crate) fn fails(_: Call) -> bool {
    false
}
