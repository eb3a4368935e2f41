//! Bump arenas: memory that is handed out by moving one pointer, and taken back all at once.
//!
//! - `head`: the arena proper, `chunk`: its memory, `gauge`: its figures, `restores`: what its checkpoints are held against
//! - `alloc`: the ways to put values into it, `text`: formatted text, `allocator`: as an allocator of the crate `allocator-api2`
//! - `checkpoint`, `monitor`, `error`: what its users hold
//! - `local`: the arena of each thread

mod alloc;
#[cfg(feature = "allocator-api2")]
mod allocator;
mod checkpoint;
mod chunk;
mod error;
mod gauge;
mod head;
pub(crate) mod local;
mod monitor;
mod restores;
mod text;

use core::cell::Cell;
use core::fmt;
use core::num::NonZeroUsize;
use core::panic::{RefUnwindSafe, UnwindSafe};
use core::ptr::{self, NonNull};
use core::sync::atomic::compiler_fence;

pub use checkpoint::Checkpoint;
pub use error::{BumpError, CheckpointError};
pub use local::LocalBump;
pub use monitor::{BumpMonitor, BumpStats};

use crate::config::BumpConfig;
use crate::ids::BumpId;
use crate::source::Source;
use crate::sync::Ordering;
use head::{EMPTY, Head};

/// An arena that hands memory out by moving one pointer, and takes it back all at once.
///
/// Values are put into it through a shared reference and live as long as that; [`reset`](Self::reset) takes an exclusive
/// one, so that no reference outlives it. Memory comes from this crate's heap in chunks, whichever allocator the program
/// declares, on the node of the thread that asks or on a chosen one. None is obtained before the first use.
///
/// Values are **not dropped**, neither by a reset nor with the arena; what they own otherwise is leaked then. A
/// `Box`, `Vec` or map of the crate `allocator-api2` that lies in `&Bump` does drop what it holds (feature `allocator-api2`).
///
/// - *Sizes*: any; what cannot be served is a [`BumpError`] of the `try_` methods, and a panic with its text of the others.
/// - *Alignment*: any power of two that the address space has room for; 64 MiB and more are usual.
/// - *Threads*: it can be sent to another thread, and is used by one at a time. Other threads read its figures by
///   [`monitor`](Self::monitor).
/// - *Re-entry*: what is put into it may itself be made in it (`bump.alloc_with(|| Node { next: bump.alloc(..) })`). A signal
///   handler must not use an arena that the thread it interrupts may be using, unless by [`local`](Self::local); one that
///   comes in on top of a slow path is told [`BumpError::Reentered`].
/// - *At thread exit*: an owned arena is not concerned; for the thread's own see [`local`](Self::local).
/// - *Cost*: nine instructions or so for a small value; a chunk now and then. With
///   [`zero_on_reset`](BumpConfig::zero_on_reset), clearing what was used.
///
/// ```
/// use homing::Bump;
///
/// let mut bump = Bump::new();
/// for request in 0..100 {
///     let words: Vec<&mut str> = "kept until the reset".split(' ').map(|word| bump.alloc_str(word)).collect();
///     assert_eq!(words.len(), 4);
///     let number = bump.alloc(request);
///     *number += 1;
///     bump.reset();
/// }
/// assert_eq!(bump.stats().resets, 100);
/// ```
pub struct Bump {
    head: Cell<NonNull<Head>>,
    /// Nothing but the limit is changed.
    config: Cell<BumpConfig>,
    id: Cell<Option<BumpId>>,
    /// Resets before there was a head to count them.
    resets: Cell<usize>,
    /// Whether a slow path is at work: whoever comes in on top of it is told so.
    busy: Cell<bool>,
}

// SAFETY: the head and all that hangs on it is the arena's alone, but for what monitors reach, which is atomic; nothing of
// it belongs to a thread.
unsafe impl Send for Bump {}

// A panic on the way leaves it as whole as an error does; what was put into it until then lies there until the reset.
impl UnwindSafe for Bump {}
impl RefUnwindSafe for Bump {}

/// What cold paths are told by: whoever is in a slow path of the arena.
struct Inside<'a>(&'a Cell<bool>);

impl<'a> Inside<'a> {
    fn enter(busy: &'a Cell<bool>) -> Result<Self, BumpError> {
        if busy.replace(true) {
            return Err(BumpError::Reentered);
        }
        compiler_fence(Ordering::Acquire);
        Ok(Inside(busy))
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        compiler_fence(Ordering::Release);
        self.0.set(false);
    }
}

impl Bump {
    /// An arena with the default settings (see [`BumpConfig::new`]).
    pub const fn new() -> Self {
        Self::with(BumpConfig::new())
    }

    /// An arena with those settings.
    ///
    /// ```
    /// use homing::{Bump, BumpConfig, BumpOverflow};
    ///
    /// let bump = Bump::with(BumpConfig::new().pool_size(1 << 20).overflow(BumpOverflow::Error));
    /// assert!(bump.try_alloc_bytes(2 << 20, 8).is_err());
    /// ```
    pub const fn with(config: BumpConfig) -> Self {
        Bump {
            // SAFETY: a static's address is not null. What is written through it is atomic.
            head: Cell::new(unsafe { NonNull::new_unchecked((&raw const EMPTY).cast_mut()) }),
            config: Cell::new(config),
            id: Cell::new(None),
            resets: Cell::new(0),
            busy: Cell::new(false),
        }
    }

    /// The settings, with the limit that holds now.
    pub fn config(&self) -> BumpConfig {
        self.config.get()
    }

    /// Bytes that the arena may hold at most: see [`BumpConfig::limit`]. `None` where there is no limit.
    pub fn limit(&self) -> Option<usize> {
        self.config.get().limit.map(NonZeroUsize::get)
    }

    /// Bytes that the arena may still obtain, beyond the [`capacity`](BumpStats::capacity) it has. `None` where there is no
    /// limit.
    ///
    /// A growing arena refuses no request of so many bytes for its limit, whatever the alignment. It may serve more: out of
    /// what it has, or by giving back what is free.
    ///
    /// ```
    /// use homing::{Bump, BumpConfig};
    ///
    /// let bump = Bump::with(BumpConfig::new().pool_size(4096).limit(10_000));
    /// assert_eq!(bump.limit_left(), Some(10_000));
    /// bump.alloc(1_u8);
    /// assert_eq!(bump.limit_left(), Some(5904));
    /// ```
    pub fn limit_left(&self) -> Option<usize> {
        self.limit().map(|limit| self.head().room(limit))
    }

    /// Sets another limit from now on, 0 for none: see [`BumpConfig::limit`]. An arena that holds more than that already keeps
    /// it, and does not grow. An arena that does not grow anyway, and has its pool, stays as it is. A thread's arena keeps it
    /// until the thread's end or [`thread_cleanup`](crate::thread_cleanup). *Cost*: a few instructions.
    ///
    /// ```
    /// use homing::{Bump, BumpError};
    ///
    /// let bump = Bump::new();
    /// bump.alloc(1_u8);
    /// bump.set_limit(bump.stats().capacity); // no more than it has
    /// assert!(matches!(bump.try_alloc_bytes(64 << 10, 1), Err(BumpError::Limit { .. })));
    /// bump.set_limit(0);
    /// assert!(bump.try_alloc_bytes(64 << 10, 1).is_ok());
    /// ```
    pub fn set_limit(&self, bytes: usize) {
        self.config.set(self.config.get().limit(bytes));
    }

    #[inline(always)]
    fn zeroes(&self) -> bool {
        self.config.get().zero_on_reset
    }

    /// The arena's number: what its checkpoints know it by.
    pub fn id(&self) -> BumpId {
        match self.id.get() {
            Some(id) => id,
            None => {
                let id = BumpId::next();
                self.id.set(Some(id));
                id
            }
        }
    }

    #[inline(always)]
    fn head(&self) -> &Head {
        // SAFETY: the static one, or one that this arena has a handle to until it is dropped.
        unsafe { self.head.get().as_ref() }
    }

    fn has_head(&self) -> bool {
        !ptr::eq(self.head(), &raw const EMPTY)
    }

    /// The head, made if there is none yet.
    fn begin(&self) -> Result<NonNull<Head>, BumpError> {
        if !self.has_head() {
            let source = match self.config.get().node {
                Some(node) => Source::on(node)?,
                None => Source::Caller,
            };
            let no_memory = BumpError::NoMemory { size: size_of::<Head>(), align: align_of::<Head>() };
            self.head.set(Head::make(source, self.resets.get()).ok_or(no_memory)?);
        }
        Ok(self.head.get())
    }

    /// Memory for an object of `size` bytes aligned to `align`, a power of two.
    #[inline(always)]
    fn obtain(&self, size: usize, align: usize) -> Result<NonNull<u8>, BumpError> {
        match self.head().place(size, align) {
            Some(block) => Ok(block),
            None => self.obtain_slowly(size, align),
        }
    }

    #[cold]
    #[inline(never)]
    fn obtain_slowly(&self, size: usize, align: usize) -> Result<NonNull<u8>, BumpError> {
        if size == 0 {
            return NonNull::new(ptr::without_provenance_mut(align)).ok_or(BumpError::BadAlign { align });
        }
        let _inside = Inside::enter(&self.busy)?;
        self.begin()?;
        self.head().serve(size, align, &self.config.get())
    }

    /// Takes the first bytes of the last block back.
    ///
    /// # Safety
    /// Nobody uses them any more: `size` bytes from the last block's start.
    #[inline]
    unsafe fn give_back(&self, block: NonNull<u8>, size: usize) {
        if self.zeroes() {
            // SAFETY: the caller's promise.
            unsafe { block.write_bytes(0, size) };
        }
        self.head().give_back_to(block.addr().get() + size);
    }

    /// Takes back all that was handed out. The largest chunk is kept for what comes next, others go back to the heap.
    ///
    /// What was put into it is not dropped. With [`zero_on_reset`](BumpConfig::zero_on_reset), as much as was used of the chunk
    /// that is kept is cleared; 8 MiB and more by giving them back to the kernel, which hands out zeros. Every checkpoint is
    /// stale from now on.
    ///
    /// Nothing is done by a signal handler on top of a slow path of the arena. *Cost*: a few dozen instructions, and what
    /// clearing takes.
    ///
    /// ```
    /// let mut bump = homing::Bump::new();
    /// let at = core::ptr::from_mut(bump.alloc(1_u64)).addr();
    /// bump.reset();
    /// assert_eq!(core::ptr::from_mut(bump.alloc(2_u64)).addr(), at);
    /// ```
    pub fn reset(&mut self) {
        if !self.has_head() {
            self.resets.set(self.resets.get() + 1);
            return;
        }
        let Ok(_inside) = Inside::enter(&self.busy) else { return };
        // SAFETY: what was handed out borrows the arena, and this is the only reference to it.
        unsafe { self.head().reset(self.zeroes()) };
    }

    /// The figures of this moment.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// bump.alloc([0_u8; 1000]);
    /// let stats = bump.stats();
    /// assert_eq!((stats.used, stats.capacity, stats.overflows), (1000, 64 << 10, 0));
    /// assert!((stats.utilisation() - 1000.0 / 65536.0).abs() < 1e-12);
    /// ```
    pub fn stats(&self) -> BumpStats {
        match self.has_head() {
            true => BumpStats::of(self.head().figures()),
            false => BumpStats::of(gauge::Figures { resets: self.resets.get(), ..Default::default() }),
        }
    }

    /// A handle for other threads to read the figures by, while this one goes on.
    ///
    /// # Panics
    /// Where there is no memory for the figures of an arena that was never used.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// let monitor = bump.monitor();
    /// bump.alloc(7_u64);
    /// let used = std::thread::spawn(move || monitor.stats().used).join().unwrap();
    /// assert_eq!(used, 8);
    /// ```
    pub fn monitor(&self) -> BumpMonitor {
        alloc::or_panic(self.try_monitor())
    }

    /// As [`monitor`](Self::monitor).
    ///
    /// # Errors
    /// [`BumpError::NoMemory`] where there is no memory for the figures of an arena that was never used,
    /// [`BumpError::Node`] if it was to take it from a node that does not serve, [`BumpError::Reentered`] on top of a slow path.
    pub fn try_monitor(&self) -> Result<BumpMonitor, BumpError> {
        let _inside = Inside::enter(&self.busy)?;
        let head = self.begin()?;
        BumpMonitor::of(head).ok_or(BumpError::NoMemory { size: 0, align: 1 })
    }
}

impl Drop for Bump {
    fn drop(&mut self) {
        if self.has_head() {
            // SAFETY: what was handed out borrows the arena, which nobody does any more.
            unsafe { self.head().end() };
            // SAFETY: the arena's own handle, used no more.
            unsafe { Head::release(self.head.get()) };
        }
    }
}

impl Default for Bump {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Bump {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bump").field("config", &self.config()).field("stats", &self.stats()).finish_non_exhaustive()
    }
}
