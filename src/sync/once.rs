//! Something that is done once, by whoever comes first, without blocking on anything that allocates.
//!
//! | state | meaning | who leaves it |
//! |---|---|---|
//! | `UNSET` | nobody has begun | any thread, by compare-exchange to its token (acquire) |
//! | a token | the thread with that token is at it | that thread alone, by a store of `SET` (release), or `UNSET` if it could not |
//! | `SET` | done; what was written before is visible to whoever reads `SET` (acquire) | nobody |
//!
//! The setter coming back in (a hook, a signal handler) is told so, and must go on without; everybody else waits with
//! back-off.

use super::{AtomicUsize, Backoff, Ordering, const_unless_loom};

const UNSET: usize = 0;
/// No thread's token: those are even.
const SET: usize = 1;

/// The three-state flag. See the module's text.
pub(crate) struct Once {
    state: AtomicUsize,
}

/// What [`Once::enter`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// It is done, and its results may be read.
    Done,
    /// The calling thread is in the middle of doing it: go on without.
    Reentered,
}

impl Once {
    const_unless_loom! {
        /// Nobody has begun.
        pub(crate) fn new() -> Self {
            Once { state: AtomicUsize::new(UNSET) }
        }
    }

    /// Whether it is done, in one load.
    #[inline]
    pub(crate) fn is_done(&self) -> bool {
        self.state.load(Ordering::Acquire) == SET
    }

    /// Sees to it that `set` has been run to a `true` by somebody, unless this very thread is in the middle of it.
    /// `token` is the calling thread's. Where `set` says `false`, the next caller tries again, and
    /// this one goes on as if re-entered.
    pub(crate) fn enter(&self, token: usize, set: impl FnOnce() -> bool) -> Entry {
        debug_assert!(token != UNSET && token != SET);
        let backoff = Backoff::new();
        loop {
            match self.state.compare_exchange(UNSET, token, Ordering::Acquire, Ordering::Acquire) {
                Ok(_) => {
                    let done = set();
                    self.state.store(if done { SET } else { UNSET }, Ordering::Release);
                    return if done { Entry::Done } else { Entry::Reentered };
                }
                Err(SET) => return Entry::Done,
                Err(setter) if setter == token => return Entry::Reentered,
                Err(_) => backoff.wait(),
            }
        }
    }

    /// In the child of a `fork`, by the forking thread of that token: if another one was setting when the process forked,
    /// nobody will end it; begin anew.
    pub(crate) fn reset_in_child(&self, token: usize) {
        if ![UNSET, SET, token].contains(&self.state.load(Ordering::Relaxed)) {
            self.state.store(UNSET, Ordering::Release);
        }
    }
}

#[cfg(all(test, homing_loom))]
mod loom_models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    struct Shared {
        once: Once,
        value: UnsafeCell<u32>,
    }

    fn use_it(shared: &Shared, token: usize) {
        let entry = shared.once.enter(token, || {
            // SAFETY: the setter is alone; loom's cell panics where it is not.
            shared.value.with_mut(|value| unsafe { *value += 7 });
            true
        });
        assert_eq!(entry, Entry::Done);
        // SAFETY: `Done` is read with acquire after the setter's release; loom's cell panics where it is not.
        assert_eq!(shared.value.with(|value| unsafe { *value }), 7);
    }

    #[test]
    fn two_first_users_set_once_and_both_see_what_was_set() {
        loom::model(|| {
            let shared = Arc::new(Shared { once: Once::new(), value: UnsafeCell::new(0) });
            let other = shared.clone();
            let thread = loom::thread::spawn(move || use_it(&other, 4));
            use_it(&shared, 2);
            thread.join().unwrap();
        });
    }

    #[test]
    fn the_setter_coming_back_in_neither_spins_nor_sets_again() {
        loom::model(|| {
            let shared = Arc::new(Shared { once: Once::new(), value: UnsafeCell::new(0) });
            let other = shared.clone();
            let thread = loom::thread::spawn(move || use_it(&other, 4));
            let entry = shared.once.enter(2, || {
                assert_eq!(shared.once.enter(2, || panic!("set twice")), Entry::Reentered);
                // SAFETY: the setter is alone; loom's cell panics where it is not.
                shared.value.with_mut(|value| unsafe { *value += 7 });
                true
            });
            assert_eq!(entry, Entry::Done);
            thread.join().unwrap();
        });
    }
}
