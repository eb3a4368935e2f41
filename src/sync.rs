//! The only door to atomics: `core`'s, or loom's where the lock-free parts are model-checked (`--cfg homing_loom`).

pub(crate) mod alarm;
pub(crate) mod first;
pub(crate) mod lock;
pub(crate) mod once;

#[cfg(not(homing_loom))]
use core::mem::transmute_copy;

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

/// A cell that its owner alone writes to, and that others may look at for figures: nothing is ordered by it.
#[repr(transparent)]
pub(crate) struct Seen<T>(core::cell::UnsafeCell<T>);

// SAFETY: every access is atomic.
unsafe impl<T: Send> Sync for Seen<T> {}

#[cfg(not(homing_loom))]
impl<T: Copy> Seen<T> {
    /// A cell with that in it.
    pub(crate) const fn new(value: T) -> Self {
        const { assert!(size_of::<T>() <= size_of::<usize>() && size_of::<T>() == align_of::<T>()) };
        Seen(core::cell::UnsafeCell::new(value))
    }

    /// What is in it.
    #[inline(always)]
    pub(crate) fn get(&self) -> T {
        let place = self.0.get();
        // SAFETY: the cell is as large and as aligned as the atomic, and what is read was written by `set` or `new`. A word is
        // read as a pointer, so that it is one still if it is.
        unsafe {
            match size_of::<T>() {
                1 => transmute_copy(&AtomicU8::from_ptr(place.cast()).load(Ordering::Relaxed)),
                4 if size_of::<usize>() > 4 => {
                    transmute_copy(&AtomicU32::from_ptr(place.cast()).load(Ordering::Relaxed))
                }
                _ => transmute_copy(&AtomicPtr::<u8>::from_ptr(place.cast()).load(Ordering::Relaxed)),
            }
        }
    }

    /// Puts something else into it. For the owner.
    #[inline(always)]
    pub(crate) fn set(&self, value: T) {
        let place = self.0.get();
        // SAFETY: likewise.
        unsafe {
            match size_of::<T>() {
                1 => AtomicU8::from_ptr(place.cast()).store(transmute_copy(&value), Ordering::Relaxed),
                4 if size_of::<usize>() > 4 => {
                    AtomicU32::from_ptr(place.cast()).store(transmute_copy(&value), Ordering::Relaxed)
                }
                _ => AtomicPtr::<u8>::from_ptr(place.cast()).store(transmute_copy(&value), Ordering::Relaxed),
            }
        }
    }

    /// Puts something else into it, and gives what was there. For the owner.
    #[inline(always)]
    pub(crate) fn replace(&self, value: T) -> T {
        let before = self.get();
        self.set(value);
        before
    }

    /// Takes out what is in it. For the owner.
    #[inline(always)]
    pub(crate) fn take(&self) -> T
    where
        T: Default,
    {
        self.replace(T::default())
    }
}

/// A number that its owner alone changes, by addition modulo 2^64, and that others may look at for figures.
#[cfg(not(homing_loom))]
pub(crate) struct Tally(AtomicU64);

#[cfg(not(homing_loom))]
impl Tally {
    /// None yet.
    pub(crate) const fn new() -> Self {
        Tally(AtomicU64::new(0))
    }

    /// So many.
    #[inline(always)]
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// So many more. For the owner.
    #[inline(always)]
    pub(crate) fn add(&self, more: u64) {
        self.0.store(self.get().wrapping_add(more), Ordering::Relaxed);
    }

    /// So many fewer; the number may have been added elsewhere. For the owner.
    #[inline(always)]
    pub(crate) fn take_off(&self, fewer: u64) {
        self.0.store(self.get().wrapping_sub(fewer), Ordering::Relaxed);
    }
}

/// What a cell holds that another thread may be writing to, or held a moment ago: for the one counter that the fast path of `free`
/// takes from by a single instruction, which no atomic gives. The processor neither reads nor writes a word by halves, and the
/// compiler does not see this read.
#[cfg(not(homing_loom))]
pub(crate) fn glance(cell: &core::cell::Cell<u32>) -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        let value;
        // SAFETY: the cell is there, and is only read.
        unsafe {
            core::arch::asm!("mov {:e}, dword ptr [{}]", out(reg) value, in(reg) cell.as_ptr(), options(nostack, readonly))
        };
        value
    }
    #[cfg(not(target_arch = "x86_64"))]
    // SAFETY: the cell is there.
    unsafe {
        cell.as_ptr().read_volatile()
    }
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
