//! A bump arena's figures, for its owner and for others.

use core::fmt;
use core::panic::{RefUnwindSafe, UnwindSafe};
use core::ptr::NonNull;

use super::gauge::Figures;
use super::head::Head;

/// The figures of a bump arena at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BumpStats {
    /// Bytes handed out, with what alignment leaves out between them.
    pub used: usize,
    /// Bytes held to hand out: those in use, those that are free, and what is left over at the end of chunks.
    pub capacity: usize,
    /// The most bytes that were ever used at once, over all resets.
    pub high_water_mark: usize,
    /// Chunks held: none before the first use, one with an overflow strategy other than growing.
    pub chunks: usize,
    /// Requests that the memory held had no room for, whether they were refused or it grew for them. A first request beyond
    /// `pool_size` is one.
    pub overflows: u64,
    /// Resets.
    pub resets: u64,
}

impl BumpStats {
    pub(super) fn of(figures: Figures) -> Self {
        BumpStats {
            used: figures.used,
            capacity: figures.capacity,
            high_water_mark: figures.peak,
            chunks: figures.chunks,
            overflows: figures.overflows as u64,
            resets: figures.resets as u64,
        }
    }

    /// Which part of the memory held is used: 0.0 to 1.0, and 0.0 where none is held.
    pub fn utilisation(&self) -> f64 {
        match self.capacity {
            0 => 0.0,
            capacity => self.used as f64 / capacity as f64,
        }
    }
}

/// A handle to a bump arena's figures, for any thread: see [`Bump::monitor`](crate::Bump::monitor).
///
/// Reading takes no lock and waits for nobody, also where the arena's thread stands still in the middle of an operation;
/// each reading is of one moment (the high-water mark may be of a later one). It costs some twenty instructions, and the
/// line of the cache that the arena works on has to come over. Once the arena is gone its last figures remain: nothing
/// used, nothing held.
#[derive(Debug)]
pub struct BumpMonitor {
    head: NonNull<Head>,
}

// SAFETY: a monitor reaches the head's gauge and count of handles only, which are atomic.
unsafe impl Send for BumpMonitor {}
// SAFETY: likewise.
unsafe impl Sync for BumpMonitor {}

// It changes nothing.
impl UnwindSafe for BumpMonitor {}
impl RefUnwindSafe for BumpMonitor {}

impl BumpMonitor {
    /// Another handle to a head that has one. `None` where there are as many as can be counted.
    pub(super) fn of(head: NonNull<Head>) -> Option<Self> {
        // SAFETY: the caller's handle keeps it.
        unsafe { head.as_ref() }.share().then_some(BumpMonitor { head })
    }

    fn head(&self) -> &Head {
        // SAFETY: this handle keeps it.
        unsafe { self.head.as_ref() }
    }

    /// The figures of one moment.
    pub fn stats(&self) -> BumpStats {
        BumpStats::of(self.head().figures())
    }

    /// See [`BumpStats::used`].
    pub fn used(&self) -> usize {
        self.stats().used
    }

    /// See [`BumpStats::capacity`].
    pub fn capacity(&self) -> usize {
        self.stats().capacity
    }

    /// See [`BumpStats::high_water_mark`].
    pub fn high_water_mark(&self) -> usize {
        self.stats().high_water_mark
    }

    /// See [`BumpStats::overflows`].
    pub fn overflows(&self) -> u64 {
        self.stats().overflows
    }

    /// See [`BumpStats::resets`].
    pub fn resets(&self) -> u64 {
        self.stats().resets
    }

    /// See [`BumpStats::utilisation`].
    pub fn utilisation(&self) -> f64 {
        self.stats().utilisation()
    }
}

impl Clone for BumpMonitor {
    /// Another handle.
    ///
    /// # Panics
    /// Where there are `isize::MAX` handles.
    fn clone(&self) -> Self {
        match Self::of(self.head) {
            Some(handle) => handle,
            None => panic!("a bump arena has no more than {} monitors", isize::MAX),
        }
    }
}

impl Drop for BumpMonitor {
    fn drop(&mut self) {
        // SAFETY: this handle's, used no more. It never is the static head's.
        unsafe { Head::release(self.head) };
    }
}

impl fmt::Display for BumpStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} bytes used ({:.1} %), at most {}; {} overflows, {} resets",
            self.used,
            self.capacity,
            self.utilisation() * 100.0,
            self.high_water_mark,
            self.overflows,
            self.resets
        )
    }
}
