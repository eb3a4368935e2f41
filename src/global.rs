//! The type to declare as a program's global allocator.

#[cfg(feature = "allocator-api2")]
mod allocator;

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;

use crate::config::{BumpConfig, Config, Debug, Large, Overflow, Policy, Zero};
use crate::heap;
use crate::heap::checked::OfLayout;

/// The allocator, as a program declares it.
///
/// All values of the type are the same allocator: the settings of the one that serves the process's first allocation
/// hold, and the environment's `HOMING_...` variables win over them (see [`Config`] for each).
///
/// - *Errors*: a null pointer where there is no memory, or where the pool's limit forbids more; requests over
///   `isize::MAX` bytes are refused in the same way. A block that was freed just before, or that is not the allocator's,
///   ends the process with one line on standard error.
/// - *Alignment*: every power of two that the address space has room for.
/// - *Re-entry*: a thread that comes back in while it is inside (a hook of the C library) is served from a mapping of
///   its own.
/// - *At thread exit* the thread's arena waits for another thread; what the thread frees after that still goes home.
/// - *Collections*: it is an allocator of the crate `allocator-api2` too (feature `allocator-api2`), whichever allocator the
///   program declares as its global one.
///
/// ```
/// use homing::Homing;
///
/// #[global_allocator]
/// static GLOBAL: Homing = Homing::new();
///
/// let numbers: Vec<u32> = (0..1000).collect();
/// assert_eq!(numbers[999], 999);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Homing {
    config: Config,
}

macro_rules! settings {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {
        $($(#[$doc])*
        pub const fn $name(self, $name: $type) -> Self {
            Homing { config: self.config.$name($name) }
        })*
    };
}

impl Homing {
    /// The allocator with the default settings.
    pub const fn new() -> Self {
        Homing { config: Config::new() }
    }

    /// The allocator with those settings.
    ///
    /// ```
    /// use homing::{Config, Homing, Zero};
    ///
    /// #[global_allocator]
    /// static GLOBAL: Homing = Homing::with(Config::new().pool_size(16 << 20).zero(Zero::Alloc));
    /// # fn main() {}
    /// ```
    pub const fn with(config: Config) -> Self {
        Homing { config }
    }

    settings! {
        /// See [`Config::pool_size`]: bytes.
        pool_size: usize;
        /// See [`Config::pool_limit`]: bytes.
        pool_limit: usize;
        /// See [`Config::overflow`].
        overflow: Overflow;
        /// See [`Config::zero`].
        zero: Zero;
        /// See [`Config::policy`].
        policy: Policy;
        /// See [`Config::large`].
        large: Large;
        /// See [`Config::purge_delay_ms`]: milliseconds.
        purge_delay_ms: Option<u64>;
        /// See [`Config::background`].
        background: bool;
        /// See [`Config::verbose`].
        verbose: bool;
        /// See [`Config::debug`].
        debug: Debug;
        /// See [`Config::bump`].
        bump: BumpConfig;
    }
}

// SAFETY: blocks are at least as long and as aligned as their layouts ask for (`size_class`, `large`), belong to nobody
// else while they are handed out, and nothing here unwinds.
unsafe impl GlobalAlloc for Homing {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        heap::allocate(layout.size(), layout.align(), &self.config)
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let claim = OfLayout { size: layout.size(), align: layout.align() };
        // SAFETY: the caller gives the block up.
        unsafe { heap::free(block, claim) };
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        heap::allocate_zeroed(layout.size(), layout.align(), &self.config)
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some(block) = NonNull::new(block) else { return core::ptr::null_mut() };
        let claim = OfLayout { size: layout.size(), align: layout.align() };
        // SAFETY: the block is the caller's, with that layout.
        unsafe { heap::reallocate(block, new_size, layout.align(), &self.config, claim) }
    }
}
