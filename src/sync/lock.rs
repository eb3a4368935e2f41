//! A lock of one word that neither allocates nor unwinds, and knows its holder.
//!
//! States of the word, after Drepper's "Futexes Are Tricky" (mutex 2), with the holder's token in it:
//!
//! | state | meaning | who leaves it |
//! |---|---|---|
//! | `FREE` | nobody holds it | any thread, by compare-exchange to its token; a waiter to its token and `CONTENDED` |
//! | a token | held, nobody sleeps | the holder to `FREE`; a waiter adds `CONTENDED` |
//! | a token and `CONTENDED` | held, somebody may sleep | the holder to `FREE`, waking one |
//!
//! The token is the whole of it, so no two threads are taken for each other. A thread that is re-entered (a signal handler, a
//! hook) sees that waiting would be for itself, from the very instruction that takes the lock to the one that frees it.
//!
//! A `fork` waits for no lock. The child has one thread, and asks each lock whether another held it
//! ([`is_abandoned`](Lock::is_abandoned)): then what it guards may be half done, and is given up.

use super::{AtomicUsize, Ordering, const_unless_loom};

const FREE: usize = 0;
/// A bit beside the holder's token, which is even and not `FREE`.
const CONTENDED: usize = 1;

/// The lock. See the module's text.
pub(crate) struct Lock {
    word: AtomicUsize,
}

/// Holding this is holding the lock; dropping it frees it.
#[must_use]
pub(crate) struct Guard<'a>(&'a Lock);

impl Lock {
    const_unless_loom! {
        /// A free lock.
        pub(crate) fn new() -> Self {
            Lock { word: AtomicUsize::new(FREE) }
        }
    }

    /// Waits until the lock is this thread's. A thread that holds it already must not come here
    /// ([`is_mine`](Self::is_mine)).
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_> {
        if !self.is_taken_at_once() {
            self.lock_later();
        }
        took(self.address());
        Guard(self)
    }

    /// As [`lock`](Self::lock), for a thread that must not wait where it holds the lock already
    /// ([`is_mine`](Self::is_mine)), or `would_block_others` says that its holder may wait for this thread: `None` then.
    #[inline]
    pub(crate) fn lock_unless(&self, would_block_others: impl FnOnce() -> bool) -> Option<Guard<'_>> {
        if !self.is_taken_at_once() {
            if self.is_mine() || would_block_others() {
                return None;
            }
            self.lock_later();
        }
        took(self.address());
        Some(Guard(self))
    }

    /// The lock if it is free now.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_>> {
        self.is_taken_at_once().then(|| Guard(self))
    }

    /// The lock, which the calling thread holds.
    ///
    /// # Safety
    /// The thread has forgotten the guard by which it holds it; of those that this gives one at most is dropped.
    #[cfg(not(homing_loom))]
    pub(crate) unsafe fn held(&self) -> Guard<'_> {
        Guard(self)
    }

    /// Makes the lock this thread's if it is free now.
    #[inline]
    fn is_taken_at_once(&self) -> bool {
        self.word.compare_exchange(FREE, thread_token(), Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Whether the calling thread holds the lock: what the lock guards may be half done then, and waiting would be for ever.
    #[inline]
    pub(crate) fn is_mine(&self) -> bool {
        self.word.load(Ordering::Relaxed) & !CONTENDED == thread_token()
    }

    /// What tests know the lock by.
    #[inline]
    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    #[cold]
    fn lock_later(&self) {
        let token = thread_token();
        for _ in 0..SPINS {
            if self.word.load(Ordering::Relaxed) == FREE && self.is_taken_at_once() {
                return;
            }
            relax();
        }
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            let wanted = if seen == FREE { token | CONTENDED } else { seen | CONTENDED };
            if seen != wanted && self.word.compare_exchange(seen, wanted, Ordering::Acquire, Ordering::Relaxed).is_err()
            {
                continue;
            }
            if seen == FREE {
                return;
            }
            sleeps_on(seen & !CONTENDED);
            wait(&self.word, wanted);
        }
    }

    fn unlock(&self) {
        leaves(self.address());
        if self.word.swap(FREE, Ordering::Release) & CONTENDED != 0 {
            wake_one(&self.word);
        }
    }

    /// In the child of a `fork`, before it does anything else: whether another thread was inside, which the child does not
    /// have. The lock is free then. Where the forking thread itself is inside, it goes on where it was.
    pub(crate) fn is_abandoned(&self) -> bool {
        let is_others = self.word.load(Ordering::Relaxed) != FREE && !self.is_mine();
        if is_others {
            self.word.store(FREE, Ordering::Relaxed);
        }
        is_others
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        self.0.unlock();
    }
}

#[cfg(not(homing_loom))]
mod platform {
    pub(super) const SPINS: u32 = 100;
    pub(super) use crate::os::fault::{leaves, sleeps_on, took};
    pub(super) use crate::os::{futex_wait as wait, futex_wake_one as wake_one, relax, thread_token};
}

#[cfg(homing_loom)]
pub(super) mod platform {
    use super::{AtomicUsize, Ordering};

    pub(super) const SPINS: u32 = 1;

    loom::lazy_static! {
        static ref NEXT: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(2);
        /// The kernel's queue of those who sleep on a word: all words share it.
        static ref QUEUE: (loom::sync::Mutex<()>, loom::sync::Condvar) =
            (loom::sync::Mutex::new(()), loom::sync::Condvar::new());
    }
    loom::thread_local! {
        static TOKEN: usize = NEXT.fetch_add(2, core::sync::atomic::Ordering::Relaxed);
    }

    pub(in crate::sync) fn thread_token() -> usize {
        TOKEN.with(|token| *token)
    }

    pub(super) fn relax() {
        loom::thread::yield_now();
    }

    /// Sleeps if the word is as expected, until it is woken: a wake-up that is lost is a deadlock, which loom reports.
    pub(super) fn wait(word: &AtomicUsize, expected: usize) {
        let queue = QUEUE.0.lock().unwrap();
        if word.load(Ordering::Relaxed) == expected {
            drop(QUEUE.1.wait(queue).unwrap());
        }
    }

    /// The time is never up.
    pub(in crate::sync) fn wait_for(word: &AtomicUsize, expected: usize, _: u64) -> bool {
        wait(word, expected);
        true
    }

    pub(in crate::sync) fn wake_one(_: &AtomicUsize) {
        let _queue = QUEUE.0.lock().unwrap();
        QUEUE.1.notify_one();
    }

    pub(super) fn took(_: usize) {}
    pub(super) fn leaves(_: usize) {}
    pub(super) fn sleeps_on(_: usize) {}
}
use platform::{SPINS, leaves, relax, sleeps_on, thread_token, took, wait, wake_one};

#[cfg(all(test, homing_loom))]
mod loom_models {
    use super::*;
    use loom::sync::Arc;

    fn add(shared: &(Lock, loom::cell::UnsafeCell<u32>)) {
        let _guard = shared.0.lock_unless(|| false).expect("it is not this thread's yet");
        assert!(shared.0.is_mine() && shared.0.lock_unless(|| false).is_none());
        // SAFETY: the guard excludes the other threads; loom's cell panics where it does not.
        shared.1.with_mut(|count| unsafe { *count += 1 });
    }

    fn add_in_threads(threads: u32) {
        let shared = Arc::new((Lock::new(), loom::cell::UnsafeCell::new(0_u32)));
        let others: Vec<_> = (1..threads)
            .map(|_| {
                let other = shared.clone();
                loom::thread::spawn(move || add(&other))
            })
            .collect();
        add(&shared);
        others.into_iter().for_each(|thread| thread.join().unwrap());
        let _guard = shared.0.lock();
        // SAFETY: as above.
        assert_eq!(shared.1.with(|count| unsafe { *count }), threads);
    }

    #[test]
    fn two_threads_in_the_lock_do_not_see_half_of_each_others_writes() {
        loom::model(|| add_in_threads(2));
    }

    #[test]
    fn no_wake_up_of_three_threads_is_lost() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| add_in_threads(3));
    }
}

#[cfg(all(test, not(homing_loom), target_os = "linux", target_pointer_width = "64", not(feature = "portable")))]
mod tests {
    use super::*;

    #[test]
    fn threads_whose_tokens_agree_in_the_low_bits_are_not_taken_for_each_other() {
        let lock = Lock::new();
        let guard = lock.lock();
        assert!(lock.is_mine());
        for bit in 1..usize::BITS {
            lock.word.store(thread_token() ^ 1 << bit, Ordering::Relaxed);
            assert!(!lock.is_mine(), "bit {bit}");
            lock.word.store(thread_token() ^ 1 << bit | CONTENDED, Ordering::Relaxed);
            assert!(!lock.is_mine(), "bit {bit}");
        }
        lock.word.store(thread_token() | CONTENDED, Ordering::Relaxed);
        assert!(lock.is_mine());
        drop(guard);
        assert!(!lock.is_mine() && lock.try_lock().is_some());
    }
}
