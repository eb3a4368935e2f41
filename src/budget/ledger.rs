//! The figures of a budget, and the two steps in which they change.
//!
//! | figure | what it counts | changed by |
//! |---|---|---|
//! | `reserved` | bytes that may be in use: those that are, and those that the allocator inside is asked for now or takes back now | any thread: up by compare-exchange, never past `limit`; down by subtraction |
//! | `used` | bytes that are in use | any thread: up after the allocator inside has given, down before it takes back |
//! | `peak` | the most that `used` ever was | who raised `used` |
//!
//! So `used <= reserved`, and `reserved` is only ever raised within the limit, at every moment. What was reserved and is
//! refused further inside was never in use, and leaves no trace in `peak`. As a child raises its `used` after its parent's
//! and lowers it before, it never has more in use than its parent.
//!
//! **The alarm.** Who raises `used` over the soft limit is one thread, since `used` changes in one order for all; it adds 1
//! to `due`, and if that was 0 it calls, as often as `due` says when it is done; else somebody is calling, and goes on for
//! it. `caller` is who calls, for as long as it does: what its own call raises over the limit is not told to it.

use crate::sync::{AtomicUsize, Ordering, const_unless_loom};

/// The figures.
pub(crate) struct Ledger {
    limit: AtomicUsize,
    reserved: AtomicUsize,
    used: AtomicUsize,
    peak: AtomicUsize,
    /// Calls of the soft limit's callback that are still to be made.
    due: AtomicUsize,
    /// The token of the thread that makes them; 0: nobody does. Written by that thread.
    caller: AtomicUsize,
}

/// What a budget had when it refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) used: usize,
    pub(crate) limit: usize,
}

/// Bytes that are reserved for a request; free again when this is dropped.
#[must_use]
pub(crate) struct Reserved<'a> {
    ledger: &'a Ledger,
    bytes: usize,
}

impl Ledger {
    const_unless_loom! {
        /// Nothing in use, of so many bytes.
        pub(crate) fn new(limit: usize) -> Self {
            Ledger {
                limit: AtomicUsize::new(limit),
                reserved: AtomicUsize::new(0),
                used: AtomicUsize::new(0),
                peak: AtomicUsize::new(0),
                due: AtomicUsize::new(0),
                caller: AtomicUsize::new(0),
            }
        }
    }

    /// Reserves so many bytes, if the limit has room for them.
    #[inline]
    pub(crate) fn reserve(&self, bytes: usize) -> Result<Reserved<'_>, Full> {
        let mut reserved = self.reserved.load(Ordering::Relaxed);
        loop {
            let limit = self.limit.load(Ordering::Relaxed);
            // More than the limit may be reserved already, if it was lowered. Nothing always fits.
            if bytes > limit.saturating_sub(reserved) {
                return Err(Full { used: reserved, limit });
            }
            // Acquired, so that what was given up to the allocator inside for these bytes has come about before it is asked.
            match self.reserved.compare_exchange_weak(reserved, reserved + bytes, Ordering::Acquire, Ordering::Relaxed)
            {
                Ok(_) => return Ok(Reserved { ledger: self, bytes }),
                Err(now) => reserved = now,
            }
        }
    }

    /// What was reserved is in use from now on. True where that raises the use over `soft`.
    #[inline]
    pub(crate) fn grant(&self, reserved: Reserved<'_>, soft: usize) -> bool {
        let bytes = reserved.bytes;
        core::mem::forget(reserved);
        self.raise(bytes, soft)
    }

    /// So many bytes that were in use are about to be given back: they are not in use any more, and still reserved.
    #[inline]
    pub(crate) fn withdraw(&self, bytes: usize) -> Reserved<'_> {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        Reserved { ledger: self, bytes }
    }

    #[inline]
    fn raise(&self, bytes: usize, soft: usize) -> bool {
        let before = self.used.fetch_add(bytes, Ordering::Relaxed);
        let after = before.wrapping_add(bytes);
        if after > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(after, Ordering::Relaxed);
        }
        before <= soft && soft < after
    }

    /// Makes the calls that are due now that the use has gone over the soft limit, or leaves that to who makes some
    /// already. `me` is the calling thread's token.
    #[cold]
    pub(crate) fn alarm(&self, me: usize, mut call: impl FnMut()) {
        // Another's token may be seen here late or early, one's own only if it is true.
        if self.caller.load(Ordering::Relaxed) == me {
            return;
        }
        if self.due.fetch_add(1, Ordering::AcqRel) > 0 {
            return;
        }
        loop {
            self.caller.store(me, Ordering::Relaxed);
            call();
            self.caller.store(0, Ordering::Relaxed);
            if self.due.fetch_sub(1, Ordering::AcqRel) == 1 {
                return;
            }
        }
    }

    /// Bytes in use.
    pub(crate) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes that may be in use.
    pub(crate) fn reserved(&self) -> usize {
        self.reserved.load(Ordering::Relaxed)
    }

    /// The most bytes ever in use.
    pub(crate) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// The limit.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// Has another limit from now on.
    pub(crate) fn set_limit(&self, limit: usize) {
        self.limit.store(limit, Ordering::Relaxed);
    }
}

impl Drop for Reserved<'_> {
    #[inline]
    fn drop(&mut self) {
        // Released: see `reserve`.
        self.ledger.reserved.fetch_sub(self.bytes, Ordering::Release);
    }
}

#[cfg(all(test, homing_loom))]
mod loom_models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    /// The allocator inside: so many bytes at one place, which loom watches.
    struct Inside {
        ledger: Ledger,
        out: UnsafeCell<usize>,
        spare: AtomicUsize,
        calls: AtomicUsize,
        callers: AtomicUsize,
        crossings: AtomicUsize,
    }

    impl Inside {
        fn new(limit: usize) -> Arc<Self> {
            Arc::new(Inside {
                ledger: Ledger::new(limit),
                out: UnsafeCell::new(0),
                spare: AtomicUsize::new(0),
                calls: AtomicUsize::new(0),
                callers: AtomicUsize::new(0),
                crossings: AtomicUsize::new(0),
            })
        }

        fn change(&self, bytes: isize) {
            // SAFETY: in these models the limit lets one thread at a time have anything; loom's cell panics where it does not.
            self.out.with_mut(|out| unsafe { *out = (*out).wrapping_add_signed(bytes) });
        }

        /// A block of so many bytes, for a moment; false where it is refused.
        fn take_and_give(&self, bytes: usize) -> bool {
            let Ok(reserved) = self.ledger.reserve(bytes) else { return false };
            self.change(bytes as isize);
            self.ledger.grant(reserved, usize::MAX);
            let back = self.ledger.withdraw(bytes);
            self.change(-(bytes as isize));
            drop(back);
            true
        }

        /// The same where all have room beside each other: over a soft limit of 5, whose callback gives up `spare`.
        fn cross(&self, me: usize, bytes: usize) {
            let reserved = self.ledger.reserve(bytes).expect("there is room for all");
            if self.ledger.grant(reserved, 5) {
                self.crossings.fetch_add(1, Ordering::Relaxed);
                self.ledger.alarm(me, || {
                    assert_eq!(self.callers.fetch_add(1, Ordering::Relaxed), 0, "two threads call at once");
                    drop(self.ledger.withdraw(self.spare.swap(0, Ordering::Relaxed)));
                    self.calls.fetch_add(1, Ordering::Relaxed);
                    self.callers.fetch_sub(1, Ordering::Relaxed);
                });
            }
            drop(self.ledger.withdraw(bytes));
        }
    }

    fn both(inside: &Arc<Inside>, work: impl Fn(&Inside, usize) + Copy + 'static) {
        let other = inside.clone();
        let thread = thread::spawn(move || work(&other, 2));
        work(inside, 1);
        thread.join().unwrap();
    }

    #[test]
    fn two_threads_whose_requests_fit_only_one_by_one_never_have_both() {
        loom::model(|| {
            let inside = Inside::new(10);
            both(&inside, |inside, _| {
                inside.take_and_give(6);
                assert!(inside.ledger.peak() <= 10);
            });
            assert_eq!((inside.ledger.used(), inside.ledger.reserved(), inside.ledger.peak()), (0, 0, 6));
        });
    }

    #[test]
    fn what_was_reserved_in_vain_is_free_again_and_never_was_in_use() {
        loom::model(|| {
            let inside = Inside::new(10);
            both(&inside, |inside, me| {
                if me == 1 {
                    drop(inside.ledger.reserve(6));
                } else {
                    inside.take_and_give(6);
                }
            });
            assert_eq!((inside.ledger.used(), inside.ledger.reserved()), (0, 0));
            assert!(inside.ledger.peak() == 0 || inside.ledger.peak() == 6);
            assert!(inside.take_and_give(10));
        });
    }

    #[test]
    fn each_crossing_is_told_once_and_by_one_thread_at_a_time() {
        // Several crossings take too many orders to try all: those with up to three preemptions.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let inside = Inside::new(100);
            let reserved = inside.ledger.reserve(3).expect("there is room");
            inside.ledger.grant(reserved, 5);
            inside.spare.store(3, Ordering::Relaxed);
            both(&inside, |inside, me| inside.cross(me, 3 * me));
            let calls = inside.calls.load(Ordering::Relaxed);
            assert_eq!(calls, inside.crossings.load(Ordering::Relaxed));
            assert!(calls >= 1);
            assert_eq!((inside.ledger.used(), inside.ledger.reserved()), (0, 0));
        });
    }
}
