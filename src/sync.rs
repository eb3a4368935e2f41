//! The only door to atomics: `core`'s, or loom's where the lock-free parts are model-checked (`--cfg homing_loom`).

pub(crate) mod first;
pub(crate) mod lock;
pub(crate) mod once;

#[cfg(not(homing_loom))]
#[allow(unused_imports, reason = "some serve only one of the system twins, or fault injection")]
pub(crate) use core::sync::atomic::{
    AtomicBool, AtomicPtr, AtomicU8, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
#[cfg(homing_loom)]
#[allow(unused_imports, reason = "only tests use them")]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

/// Declares a constructor that is `const` outside loom, whose atomics cannot be made at compile time.
macro_rules! const_unless_loom {
    ($(#[$attribute:meta])* $visibility:vis fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $body:block) => {
        $(#[$attribute])*
        #[cfg(not(homing_loom))]
        $visibility const fn $name($($argument: $type),*) -> $result $body
        $(#[$attribute])*
        #[cfg(homing_loom)]
        $visibility fn $name($($argument: $type),*) -> $result $body
    };
}
pub(crate) use const_unless_loom;

/// What another thread's cell holds, or held a moment ago. Only for figures: nothing is ordered by it, and the thread may be
/// writing to it. A word or less is never seen half written; what is more may be, and must be valid then.
#[inline]
pub(crate) fn glance<T: Copy>(cell: &core::cell::Cell<T>) -> T {
    // SAFETY: the cell is there. Volatile, so that it is read once, by one instruction.
    unsafe { cell.as_ptr().read_volatile() }
}

/// Waits a moment for another thread to get on: a pause at first, the rest of the time slice once that was not enough.
pub(crate) struct Backoff {
    #[cfg(not(homing_loom))]
    inner: crossbeam_utils::Backoff,
}

impl Backoff {
    /// A back-off that has not waited yet.
    pub(crate) fn new() -> Self {
        Backoff {
            #[cfg(not(homing_loom))]
            inner: crossbeam_utils::Backoff::new(),
        }
    }

    /// Waits, longer each time.
    pub(crate) fn wait(&self) {
        // Spins at first, then yields; it never parks the thread and never allocates.
        #[cfg(not(homing_loom))]
        self.inner.snooze();
        #[cfg(homing_loom)]
        loom::thread::yield_now();
    }
}
