//! A lock of one word that neither allocates nor unwinds, knows its holder, and can be taken across a `fork`.
//!
//! States of the word, after Drepper's "Futexes Are Tricky" (mutex 2), with the holder's name in it:
//!
//! | state | meaning | who leaves it |
//! |---|---|---|
//! | `FREE` | nobody holds it | any thread, by compare-exchange to its name; a waiter to its name and `CONTENDED` |
//! | a name | held, nobody sleeps | the holder to `FREE`; a waiter adds `CONTENDED` |
//! | a name and `CONTENDED` | held, somebody may sleep | the holder to `FREE`, waking one |
//!
//! A thread that is re-entered (a signal handler, a hook) sees by its name that waiting would be for itself, from the very
//! instruction that takes the lock to the one that frees it. Two threads may have the same name, if rarely: `holder`, the
//! holder's full token, tells them apart but for the moments in which it is 0. Who is taken for the holder and is not goes
//! by where nothing is locked, which loses nothing.

use super::{AtomicU32, AtomicUsize, Ordering, const_unless_loom};

const FREE: u32 = 0;
/// A bit beside the holder's name.
const CONTENDED: u32 = 1;
/// A bit of every name, so that none is `FREE`.
const HELD: u32 = 2;

/// The calling thread's name, as it stands in the word of a lock that it holds.
#[inline]
fn name() -> u32 {
    name_of(thread_token())
}

/// The name of the thread with that token.
#[inline]
fn name_of(token: usize) -> u32 {
    bits_of_name(token) & !(HELD | CONTENDED) | HELD
}

/// The lock. See the module's text.
pub(crate) struct Lock {
    word: AtomicU32,
    holder: AtomicUsize,
    /// 1 while it is held across a `fork`. Written by the holder.
    forking: AtomicU32,
}

/// Holding this is holding the lock; dropping it frees it.
#[must_use]
pub(crate) struct Guard<'a>(&'a Lock);

impl Lock {
    const_unless_loom! {
        /// A free lock.
        pub(crate) fn new() -> Self {
            Lock { word: AtomicU32::new(FREE), holder: AtomicUsize::new(0), forking: AtomicU32::new(0) }
        }
    }

    /// Waits until the lock is this thread's. A thread that holds it already must not come here
    /// ([`is_mine`](Self::is_mine)).
    #[inline]
    pub(crate) fn lock(&self) -> Guard<'_> {
        if self.is_taken_at_once() {
            took(self.address());
        } else {
            self.lock_later();
        }
        Guard(self)
    }

    /// As [`lock`](Self::lock), for a thread that must not wait where it holds the lock already
    /// ([`is_mine`](Self::is_mine)), or `would_block_others` says that its holder may wait for this thread: `None` then.
    #[inline]
    pub(crate) fn lock_unless(&self, would_block_others: impl FnOnce() -> bool) -> Option<Guard<'_>> {
        if self.is_taken_at_once() {
            took(self.address());
            return Some(Guard(self));
        }
        self.lock_later_unless(would_block_others)
    }

    /// The lock if it is free now.
    #[inline]
    pub(crate) fn try_lock(&self) -> Option<Guard<'_>> {
        self.is_taken_at_once().then(|| Guard(self))
    }

    /// Makes the lock this thread's if it is free now.
    #[inline]
    fn is_taken_at_once(&self) -> bool {
        let token = thread_token();
        let was_free = self.word.compare_exchange(FREE, name_of(token), Ordering::Acquire, Ordering::Relaxed).is_ok();
        if was_free {
            self.holder.store(token, Ordering::Relaxed);
        }
        was_free
    }

    /// Whether the calling thread holds the lock, but for a `fork`: what the lock guards may be half done then, and
    /// waiting would be for ever.
    #[inline]
    pub(crate) fn is_mine(&self) -> bool {
        self.is_held_by_me() && self.forking.load(Ordering::Relaxed) == 0
    }

    /// What tests know the lock by.
    #[inline]
    fn address(&self) -> usize {
        core::ptr::from_ref(self).addr()
    }

    #[inline]
    fn is_held_by_me(&self) -> bool {
        if self.word.load(Ordering::Relaxed) & !CONTENDED != name() {
            return false;
        }
        let holder = self.holder.load(Ordering::Relaxed);
        holder == thread_token() || holder == 0
    }

    /// Whether the calling thread holds the lock across a `fork`. What it guards is whole, so the thread may go in: the
    /// handlers that others have registered for the `fork` allocate.
    #[inline]
    fn is_forking_here(&self) -> bool {
        self.holder.load(Ordering::Relaxed) == thread_token() && self.forking.load(Ordering::Relaxed) == 1
    }

    /// Makes the lock this thread's when it is free, unless it is held across a `fork` here.
    #[cold]
    fn lock_later(&self) {
        if !self.is_forking_here() {
            self.lock_contended();
            self.holder.store(thread_token(), Ordering::Relaxed);
            took(self.address());
        }
    }

    #[cold]
    fn lock_later_unless(&self, would_block_others: impl FnOnce() -> bool) -> Option<Guard<'_>> {
        if self.is_mine() || would_block_others() {
            return None;
        }
        self.lock_later();
        Some(Guard(self))
    }

    #[cold]
    fn lock_contended(&self) {
        for _ in 0..SPINS {
            if self.word.load(Ordering::Relaxed) == FREE
                && self.word.compare_exchange(FREE, name(), Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                return;
            }
            relax();
        }
        loop {
            let seen = self.word.load(Ordering::Relaxed);
            let wanted = if seen == FREE { name() | CONTENDED } else { seen | CONTENDED };
            if seen != wanted && self.word.compare_exchange(seen, wanted, Ordering::Acquire, Ordering::Relaxed).is_err()
            {
                continue;
            }
            if seen == FREE {
                return;
            }
            sleeps_on(self.holder.load(Ordering::Relaxed));
            wait(&self.word, wanted);
        }
    }

    fn unlock(&self) {
        leaves(self.address());
        self.holder.store(0, Ordering::Relaxed);
        if self.word.swap(FREE, Ordering::Release) & CONTENDED != 0 {
            wake_one(&self.word);
        }
    }

    /// Takes the lock to hold it across a `fork`, without a guard. Nothing where this thread holds it already: a signal
    /// handler that forks in the middle of what the lock guards.
    #[cfg_attr(loom, allow(dead_code))]
    pub(crate) fn lock_for_fork(&self) {
        if !self.is_held_by_me() {
            core::mem::forget(self.lock());
            self.forking.store(1, Ordering::Relaxed);
        }
    }

    /// In the parent, after the `fork`: frees what [`lock_for_fork`](Self::lock_for_fork) took.
    #[cfg_attr(loom, allow(dead_code))]
    pub(crate) fn unlock_after_fork(&self) {
        if self.forking.swap(0, Ordering::Relaxed) == 1 {
            self.unlock();
        }
    }

    /// In the child, which has one thread only: nobody sleeps on the lock, and unless that thread was inside before the
    /// `fork`, it is free.
    #[cfg_attr(loom, allow(dead_code))]
    pub(crate) fn reset_in_child(&self) {
        if self.forking.swap(0, Ordering::Relaxed) == 1 {
            self.holder.store(0, Ordering::Relaxed);
            self.word.store(FREE, Ordering::Release);
        }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        // Only the holder drops guards, so the word it reads here is its own.
        if self.0.forking.load(Ordering::Relaxed) == 0 {
            self.0.unlock();
        }
    }
}

#[cfg(not(loom))]
mod platform {
    use super::AtomicU32;

    pub(super) const SPINS: u32 = 100;
    pub(super) use crate::os::fault::{leaves, sleeps_on, took};
    pub(super) use crate::os::{relax, thread_token};

    /// What of a thread's token goes into its name: tokens are addresses that differ in these bits, as good as always.
    pub(super) fn bits_of_name(token: usize) -> u32 {
        (token >> 4) as u32
    }

    pub(super) fn wait(word: &AtomicU32, expected: u32) {
        crate::os::futex_wait(word, expected);
    }

    pub(super) fn wake_one(word: &AtomicU32) {
        crate::os::futex_wake_one(word);
    }
}

#[cfg(loom)]
mod platform {
    use super::AtomicU32;

    pub(super) const SPINS: u32 = 1;

    loom::lazy_static! {
        static ref NEXT: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(1);
    }
    loom::thread_local! {
        static TOKEN: usize = NEXT.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
    }

    pub(super) fn thread_token() -> usize {
        TOKEN.with(|token| *token)
    }

    pub(super) fn bits_of_name(token: usize) -> u32 {
        (token << 2) as u32
    }

    pub(super) fn relax() {
        loom::thread::yield_now();
    }

    pub(super) fn wait(_: &AtomicU32, _: u32) {
        loom::thread::yield_now();
    }

    pub(super) fn wake_one(_: &AtomicU32) {}

    pub(super) fn took(_: usize) {}
    pub(super) fn leaves(_: usize) {}
    pub(super) fn sleeps_on(_: usize) {}
}
use platform::{SPINS, bits_of_name, leaves, relax, sleeps_on, thread_token, took, wait, wake_one};

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::sync::Arc;

    #[test]
    fn two_threads_in_the_lock_do_not_see_half_of_each_others_writes() {
        loom::model(|| {
            let shared = Arc::new((Lock::new(), loom::cell::UnsafeCell::new(0_u32)));
            let other = shared.clone();
            let add = |shared: &(Lock, loom::cell::UnsafeCell<u32>)| {
                let _guard = shared.0.lock_unless(|| false).expect("it is not this thread's yet");
                assert!(shared.0.is_mine() && shared.0.lock_unless(|| false).is_none());
                // SAFETY: the guard excludes the other thread; loom's cell panics where it does not.
                shared.1.with_mut(|count| unsafe { *count += 1 });
            };
            let thread = loom::thread::spawn(move || add(&other));
            add(&shared);
            thread.join().unwrap();
            let _guard = shared.0.lock();
            // SAFETY: as above.
            assert_eq!(shared.1.with(|count| unsafe { *count }), 2);
        });
    }

    #[test]
    fn fork_takes_the_lock_only_when_no_other_thread_is_inside() {
        loom::model(|| {
            let shared = Arc::new((Lock::new(), loom::cell::UnsafeCell::new((0_u32, 0_u32))));
            let other = shared.clone();
            let thread = loom::thread::spawn(move || {
                let _guard = other.0.lock();
                other.1.with_mut(|pair| {
                    // SAFETY: the guard excludes the forking thread; loom's cell panics where it does not.
                    let pair = unsafe { &mut *pair };
                    pair.0 += 1;
                    pair.1 += 1;
                });
            });
            shared.0.lock_for_fork();
            // A handler of the fork that allocates goes in and comes out, and the lock is still held.
            drop(shared.0.lock());
            assert!(!shared.0.is_mine());
            // What the child would see is what stands here at this moment: never half of the other thread's step.
            // SAFETY: the lock is held across the "fork".
            let (first, second) = shared.1.with(|pair| unsafe { *pair });
            assert_eq!(first, second);
            shared.0.unlock_after_fork();
            thread.join().unwrap();
        });
    }
}
