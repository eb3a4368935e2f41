//! Fault injection (feature `fault-injection`): makes the kernel seem to refuse, so that tests can show that a refusal
//! loses nothing; and makes a thread stand still inside a lock, so that they can show that a `fork` waits for it. Without
//! the feature every question is answered `false`, and nobody stands still, at compile time.
//!
//! Every call that can be refused asks here first, but those of which `os` says why not. What becomes of a refusal
//! stands there too.

/// The kinds of call that can be made to fail, as bits of a mask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(dead_code, reason = "the portable twin makes fewer kinds of call")]
pub enum Call {
    /// Obtaining memory (`mmap`).
    Map = 1,
    /// Obtaining more behind it (`mmap` at an address, `mremap`), and its pages before it is handed out
    /// (`MADV_POPULATE_WRITE`).
    Commit = 1 << 1,
    /// Giving pages back (`MADV_DONTNEED`).
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
    /// Asking for figures (`sysinfo`, `prctl`).
    Ask = 1 << 12,
    /// The clock (`clock_gettime`).
    Clock = 1 << 13,
    /// Sleeping for a lock (`FUTEX_WAIT`).
    Wait = 1 << 14,
    /// The hook of a thread's end (`pthread_key_create`, `pthread_setspecific`).
    ThreadHook = 1 << 15,
    /// The hooks of forks and the exit (`pthread_atfork`, `atexit`).
    ProcessHook = 1 << 16,
    /// Mapping memory where it is wished for: it is mapped elsewhere (`mmap` with an address).
    Wish = 1 << 17,
    /// Beginning a thread (`pthread_create`).
    Thread = 1 << 18,
}

/// All kinds of call.
#[cfg(feature = "fault-injection")]
pub const ALL: u32 = (1 << 19) - 1;

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

/// A thread that stands still inside a lock until another one waits for it.
#[cfg(feature = "fault-injection")]
mod standstill {
    use crate::os;
    use crate::sync::{AtomicBool, AtomicUsize, Backoff, Ordering};

    /// The thread that is to stand still, by its token; 0 for none.
    static THREAD: AtomicUsize = AtomicUsize::new(0);
    /// How many locks that thread takes first.
    static LOCKS_BEFORE: AtomicUsize = AtomicUsize::new(0);
    /// The address of the lock that it stands in, and of the one that it stood in last.
    static STANDS_IN: AtomicUsize = AtomicUsize::new(0);
    static STOOD_IN: AtomicUsize = AtomicUsize::new(0);
    /// Whether somebody sleeps on a lock that it holds.
    static AWAITED: AtomicBool = AtomicBool::new(false);
    static RELEASED: AtomicBool = AtomicBool::new(false);

    /// Has the calling thread stand still inside a lock: the next one it takes, or a later one by so many. It goes on
    /// when another thread sleeps on that lock, or on another that it holds, or after [`release`].
    pub fn stand_still_after(locks: usize) {
        AWAITED.store(false, Ordering::Relaxed);
        RELEASED.store(false, Ordering::Relaxed);
        LOCKS_BEFORE.store(locks, Ordering::Relaxed);
        THREAD.store(os::thread_token(), Ordering::Release);
    }

    /// Lets the thread go on, takes back what it was told if it has not come that far, and forgets where it stood.
    pub fn release() {
        THREAD.store(0, Ordering::Relaxed);
        STOOD_IN.store(0, Ordering::Relaxed);
        RELEASED.store(true, Ordering::Release);
    }

    /// The address of the lock inside which a thread stands still now, or goes on from there.
    pub fn stands_in() -> Option<usize> {
        Some(STANDS_IN.load(Ordering::Acquire)).filter(|lock| *lock != 0)
    }

    /// The address of the lock inside which the thread has come to stand still.
    pub fn stood_in() -> Option<usize> {
        Some(STOOD_IN.load(Ordering::Acquire)).filter(|lock| *lock != 0)
    }

    /// Whether another thread came to sleep on a lock of the thread that stood still.
    pub fn was_awaited() -> bool {
        AWAITED.load(Ordering::Acquire)
    }

    /// The calling thread has taken a lock.
    pub(crate) fn took(lock: usize) {
        if THREAD.load(Ordering::Relaxed) != os::thread_token() || LOCKS_BEFORE.fetch_sub(1, Ordering::Relaxed) != 0 {
            return;
        }
        STOOD_IN.store(lock, Ordering::Release);
        STANDS_IN.store(lock, Ordering::Release);
        let backoff = Backoff::new();
        while !AWAITED.load(Ordering::Acquire) && !RELEASED.load(Ordering::Acquire) {
            backoff.wait();
        }
        THREAD.store(0, Ordering::Relaxed);
    }

    /// The calling thread is about to free a lock.
    pub(crate) fn leaves(lock: usize) {
        let _ = STANDS_IN.compare_exchange(lock, 0, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// The calling thread is about to sleep until a lock is free that the thread of that token holds.
    pub(crate) fn sleeps_on(holder: usize) {
        if holder != 0 && holder == THREAD.load(Ordering::Relaxed) && STANDS_IN.load(Ordering::Acquire) != 0 {
            AWAITED.store(true, Ordering::Release);
        }
    }
}
#[cfg(feature = "fault-injection")]
pub(crate) use standstill::{leaves, sleeps_on, took};
#[cfg(feature = "fault-injection")]
pub use standstill::{release, stand_still_after, stands_in, stood_in, was_awaited};

/// A kernel with larger pages than this one's.
#[cfg(feature = "fault-injection")]
mod pages {
    use crate::sync::{AtomicUsize, Ordering};

    static PAGE: AtomicUsize = AtomicUsize::new(0);

    /// Has the kernel's pages be so many bytes long, a multiple of what they are. Before the first allocation.
    pub fn pretend_pages_of(bytes: usize) {
        PAGE.store(bytes, Ordering::Relaxed);
    }

    /// Bytes in a page that is made up, if one is.
    pub(crate) fn pretended_page() -> Option<usize> {
        Some(PAGE.load(Ordering::Relaxed)).filter(|page| *page != 0)
    }
}
#[cfg(feature = "fault-injection")]
pub use pages::pretend_pages_of;
#[cfg(feature = "fault-injection")]
pub(crate) use pages::pretended_page;

/// A machine with less memory than this one.
#[cfg(feature = "fault-injection")]
mod memory {
    use crate::sync::{AtomicUsize, Ordering};

    static MEMORY: AtomicUsize = AtomicUsize::new(usize::MAX);

    /// Has the machine seem to have so many bytes of memory for this process.
    pub fn pretend_memory_of(bytes: usize) {
        MEMORY.store(bytes, Ordering::Relaxed);
    }

    /// Bytes that the machine has for this process, if that is made up.
    pub(crate) fn pretended_memory() -> Option<usize> {
        Some(MEMORY.load(Ordering::Relaxed)).filter(|bytes| *bytes != usize::MAX)
    }
}
#[cfg(feature = "fault-injection")]
pub use memory::pretend_memory_of;
#[cfg(feature = "fault-injection")]
pub(crate) use memory::pretended_memory;

/// Bytes that the machine has for this process, made up: never, in a build without the feature.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(crate) fn pretended_memory() -> Option<usize> {
    None
}

/// Bytes in a page that is made up: never, in a build without the feature.
#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
#[allow(dead_code, reason = "the portable twin has one page size")]
pub(crate) fn pretended_page() -> Option<usize> {
    None
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

#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(crate) fn took(_: usize) {}

#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(crate) fn leaves(_: usize) {}

#[cfg(not(feature = "fault-injection"))]
#[inline(always)]
pub(crate) fn sleeps_on(_: usize) {}
