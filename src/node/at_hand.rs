//! Runs that were freed lately, one a place, for whoever takes one of the same length next: neither waits for the pool.
//!
//! A place is a word: 0, or what names a run whole. Whatever a thread finds there and takes is its own, however often the same
//! run has come and gone meanwhile; the words have no other state.
//!
//! | the place says | who changes it | to what |
//! |---|---|---|
//! | nothing | whoever frees a run, by a swap | the run |
//! | a run | whoever frees another, by a swap; the old run is that thread's to give back | the other |
//! | a run | whoever wants just that, by compare-exchange | nothing |
//! | a run | who trims, is short of memory, or finds that it has waited, by a swap | nothing |
//!
//! Places are few and the process's: what waits in them is bounded, however many threads there are, and anybody can have it.

use crate::sync::{AtomicUsize, Ordering, const_unless_loom};

/// Places of a pool for runs that lie among slabs: 2 MiB each at most. Beside them is one for each kind of longer ones. Together
/// they bound what is in none of the pool's counts of free memory.
#[cfg(not(homing_loom))]
pub(super) const PLACES: usize = 8;

/// A place. See the module's text.
#[repr(align(64))]
pub(super) struct Place(AtomicUsize);

impl Place {
    const_unless_loom! {
        /// An empty one.
        pub(super) fn new() -> Self {
            Place(AtomicUsize::new(0))
        }
    }

    /// Takes the run that is there, if `fits` says so of its name.
    #[inline]
    pub(super) fn take_if(&self, fits: impl FnOnce(usize) -> bool) -> Option<usize> {
        let name = self.0.load(Ordering::Relaxed);
        // Acquired: what the thread that put it here did with it comes before.
        let is_taken = || self.0.compare_exchange(name, 0, Ordering::Acquire, Ordering::Relaxed).is_ok();
        (name != 0 && fits(name) && is_taken()).then_some(name)
    }

    /// Forgets what is there.
    #[cfg(not(homing_loom))]
    pub(super) fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    /// Puts a run there, or nothing; gives what was there.
    #[inline]
    pub(super) fn put(&self, name: usize) -> Option<usize> {
        if name == 0 && self.0.load(Ordering::Relaxed) == 0 {
            return None;
        }
        Some(self.0.swap(name, Ordering::AcqRel)).filter(|old| *old != 0)
    }
}
