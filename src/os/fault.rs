//! Fault injection (feature `fault-injection`): makes the kernel seem to refuse, so that tests can show that a refusal
//! loses nothing. Without the feature every question is answered `false` at compile time.
//!
//! Every call that can be refused asks here first, but those of which `os` says why not. What becomes of a refusal
//! stands there too.

/// The kinds of call that can be made to fail, as bits of a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(dead_code, reason = "the portable twin makes fewer kinds of call")]
pub enum Call {
    /// Reserving addresses (`mmap`).
    Map = 1,
    /// Making reserved memory usable (`mprotect`), obtaining its pages before it is handed out (`MADV_POPULATE_WRITE`).
    Commit = 1 << 1,
    /// Giving memory back (`MADV_DONTNEED`; `mmap` in place of what is there).
    Purge = 1 << 2,
    /// Moving pages (`mremap`), refused before anything was done.
    Move = 1 << 3,
    /// Binding addresses to a node (`mbind`).
    Bind = 1 << 4,
    /// Asking which node a thread runs on (`getcpu`).
    Getcpu = 1 << 5,
    /// Asking where pages lie, or moving them (`move_pages`).
    Place = 1 << 6,
    /// Giving addresses back (`munmap`).
    Unmap = 1 << 7,
    /// Moving pages (`mremap`), refused after the kernel made room at the new place.
    MoveAfterUnmap = 1 << 8,
    /// Advice that only makes things faster or smaller (`MADV_NOHUGEPAGE`, `MADV_POPULATE_WRITE`).
    Advise = 1 << 9,
    /// Asking for memory policies and allowed nodes (`get_mempolicy`).
    Policy = 1 << 10,
    /// Reading the kernel's files (`open`, `read`).
    Read = 1 << 11,
    /// Asking for limits and figures (`getrlimit`, `sysinfo`, `getrusage`, `prctl`).
    Ask = 1 << 12,
    /// The clock (`clock_gettime`).
    Clock = 1 << 13,
    /// Sleeping for a lock (`FUTEX_WAIT`).
    Wait = 1 << 14,
    /// The hook of a thread's end (`pthread_key_create`, `pthread_setspecific`).
    ThreadHook = 1 << 15,
    /// The hooks of forks and the exit (`pthread_atfork`, `atexit`).
    ProcessHook = 1 << 16,
}

/// All kinds of call.
#[cfg(feature = "fault-injection")]
pub const ALL: u32 = (1 << 17) - 1;

/// Which calls fail of those whose kinds are in the mask, counted from 1 since [`inject`].
#[cfg(feature = "fault-injection")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// None; they are counted.
    Never,
    /// That one, and no other.
    Nth(u64),
    /// Every so-manieth (1: each of them).
    Every(u64),
    /// So many of 1000, as the seed decides.
    Random {
        /// The same seed gives the same calls.
        seed: u64,
        /// How many of 1000.
        per_mille: u64,
    },
}

#[cfg(feature = "fault-injection")]
mod switch {
    use super::{Call, When};
    use crate::sync::{AtomicU32, AtomicU64, Ordering};

    static KINDS: AtomicU32 = AtomicU32::new(0);
    static CALLS: AtomicU64 = AtomicU64::new(0);
    static REFUSED: AtomicU64 = AtomicU64::new(0);
    /// [`When`], as its place there and its numbers. Written while `KINDS` is 0.
    static RULE: [AtomicU64; 3] = [const { AtomicU64::new(0) }; 3];

    /// From now on, calls of the kinds in the mask are counted, and fail as `when` says. Threads that are in the middle
    /// of a call may still go by what was said before.
    pub fn inject(kinds: u32, when: When) {
        KINDS.store(0, Ordering::Release);
        let rule = match when {
            When::Never => [0, 0, 0],
            When::Nth(nth) => [1, nth, 0],
            When::Every(every) => [2, every, 0],
            When::Random { seed, per_mille } => [3, seed, per_mille],
        };
        for (place, number) in RULE.iter().zip(rule) {
            place.store(number, Ordering::Relaxed);
        }
        CALLS.store(0, Ordering::Relaxed);
        REFUSED.store(0, Ordering::Relaxed);
        KINDS.store(kinds, Ordering::Release);
    }

    /// Ends it. Gives how many calls were counted, and how many of them failed.
    pub fn stop() -> (u64, u64) {
        KINDS.store(0, Ordering::Release);
        (CALLS.load(Ordering::Relaxed), REFUSED.load(Ordering::Relaxed))
    }

    /// Whether this call is to fail.
    pub(crate) fn fails(call: Call) -> bool {
        if KINDS.load(Ordering::Acquire) & call as u32 == 0 {
            return false;
        }
        let nth = CALLS.fetch_add(1, Ordering::Relaxed) + 1;
        let [rule, first, second] = [0, 1, 2].map(|place: usize| RULE[place].load(Ordering::Relaxed));
        let refused = match rule {
            1 => nth == first,
            2 => nth.is_multiple_of(first.max(1)),
            3 => scatter(nth ^ scatter(first)) % 1000 < second,
            _ => false,
        };
        if refused {
            REFUSED.fetch_add(1, Ordering::Relaxed);
        }
        refused
    }

    /// A number in which every bit of the given one has a say (the finalizer of MurmurHash3).
    fn scatter(mut number: u64) -> u64 {
        for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
            number ^= number >> 33;
            number = number.wrapping_mul(factor);
        }
        number ^ number >> 33
    }
}
#[cfg(feature = "fault-injection")]
pub(crate) use switch::fails;
#[cfg(feature = "fault-injection")]
pub use switch::{inject, stop};

/// Whether this call is to fail: never, in a build without the feature.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(crate) fn fails(_: Call) -> bool {
    false
}
