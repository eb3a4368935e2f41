//! What the test binaries share: blocks that know their contents, and a few facts about the process.
#![allow(dead_code, unused_imports, unused_macros, reason = "each test binary uses a part of it")]

pub mod c_verbs;
#[cfg(not(feature = "portable"))]
pub mod nodes;
pub mod pattern;

use std::alloc::Layout;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError};

use homing::{NodeError, NodeId};

/// An allocator as the tests see it.
pub trait Verbs: Send + 'static {
    /// Whether others than the test's own steps may use it meanwhile.
    const SHARED: bool = false;
    /// What its blocks are aligned to at least.
    const LEAST_ALIGN: usize = 1;
    /// A block, or null.
    fn allocate(layout: Layout, zeroed: bool) -> *mut u8;
    /// The block with another size, or null, and then the block is as it was.
    ///
    /// # Safety
    /// The block is the caller's, with that layout; `new_size` is not 0.
    unsafe fn reallocate(block: *mut u8, layout: Layout, new_size: usize) -> *mut u8;
    /// Takes the block back.
    ///
    /// # Safety
    /// The block is the caller's, with that layout, and not used any more.
    unsafe fn free(block: *mut u8, layout: Layout);
    /// Bytes of the block that may be written.
    ///
    /// # Safety
    /// The block is the caller's.
    unsafe fn usable(block: *mut u8) -> usize {
        // SAFETY: the caller's promise.
        unsafe { homing::entry::usable_size(block) }
    }
    /// What a block of that alignment is aligned to after `reallocate`.
    fn align_after_reallocate(align: usize) -> usize {
        align
    }
}

/// The program's global allocator.
pub struct Global;

impl Verbs for Global {
    const SHARED: bool = true;

    fn allocate(layout: Layout, zeroed: bool) -> *mut u8 {
        assert_ne!(layout.size(), 0);
        if zeroed {
            // SAFETY: the size is not 0.
            unsafe { std::alloc::alloc_zeroed(layout) }
        } else {
            // SAFETY: the size is not 0.
            unsafe { std::alloc::alloc(layout) }
        }
    }

    unsafe fn reallocate(block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { std::alloc::realloc(block, layout, new_size) }
    }

    unsafe fn free(block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { std::alloc::dealloc(block, layout) };
    }
}

/// Names a type by which the tests reach a `static` allocator that is not the program's global one, so that nothing but
/// the test allocates from it.
macro_rules! verbs_of {
    ($name:ident, $allocator:ident) => {
        /// The allocator under test, called directly.
        pub struct $name;

        impl $crate::common::Verbs for $name {
            fn allocate(layout: ::std::alloc::Layout, zeroed: bool) -> *mut u8 {
                use ::std::alloc::GlobalAlloc;
                assert_ne!(layout.size(), 0);
                // SAFETY: the size is not 0.
                unsafe { if zeroed { $allocator.alloc_zeroed(layout) } else { $allocator.alloc(layout) } }
            }

            unsafe fn reallocate(block: *mut u8, layout: ::std::alloc::Layout, new_size: usize) -> *mut u8 {
                // SAFETY: the caller's promise.
                unsafe { ::std::alloc::GlobalAlloc::realloc(&$allocator, block, layout, new_size) }
            }

            unsafe fn free(block: *mut u8, layout: ::std::alloc::Layout) {
                // SAFETY: the caller's promise.
                unsafe { ::std::alloc::GlobalAlloc::dealloc(&$allocator, block, layout) };
            }
        }
    };
}
pub(crate) use verbs_of;

/// A live block that is full of a pattern of its own, to the last byte that may be written. Dropping it checks the
/// pattern and frees the block.
pub struct Held<V: Verbs> {
    start: NonNull<u8>,
    layout: Layout,
    usable: usize,
    seed: u64,
    verbs: PhantomData<V>,
}

// SAFETY: the block is this value's alone, and any thread may free it.
unsafe impl<V: Verbs> Send for Held<V> {}

impl<V: Verbs> Held<V> {
    /// A block of that size and alignment; `None` where the allocator refuses.
    pub fn take(size: usize, align: usize, seed: u64) -> Option<Self> {
        Self::take_as(size, align, seed, false)
    }

    /// As [`take`](Self::take), and checked to be zero before the pattern is written.
    pub fn take_zeroed(size: usize, align: usize, seed: u64) -> Option<Self> {
        Self::take_as(size, align, seed, true)
    }

    fn take_as(size: usize, align: usize, seed: u64, zeroed: bool) -> Option<Self> {
        let layout = Layout::from_size_align(size, align).expect("tests ask for sizes that a layout can have");
        NonNull::new(V::allocate(layout, zeroed)).map(|start| Self::new(start, layout, seed, zeroed))
    }

    /// As [`take`](Self::take), on that node.
    pub fn take_on(node: NodeId, size: usize, align: usize, seed: u64) -> Option<Self> {
        let align = align.max(V::LEAST_ALIGN);
        let layout = Layout::from_size_align(size, align).expect("tests ask for sizes that a layout can have");
        let start = homing::alloc_on_node(layout, node).ok()?;
        // SAFETY: a live block.
        let named = unsafe { homing::node_of(start.as_ptr()) };
        assert_eq!(named, Some(node), "a block of {layout:?} was asked for on another node than its header names");
        Some(Self::new(start, layout, seed, false))
    }

    fn new(start: NonNull<u8>, layout: Layout, seed: u64, zeroed: bool) -> Self {
        let (size, align) = (layout.size(), layout.align());
        assert!(start.addr().get().is_multiple_of(align), "{start:p} is not aligned to {align} (size {size})");
        if zeroed {
            // SAFETY: the block is `size` bytes long.
            let first = unsafe { pattern::first_not_zero(start, 0, size) };
            assert_eq!(first, None, "a zeroed block of {size} bytes aligned to {align} has a byte that is not zero");
        }
        let mut held = Held { start, layout, usable: size, seed, verbs: PhantomData };
        held.fill();
        held
    }

    /// Writes the pattern to all that may be written.
    fn fill(&mut self) {
        self.usable = self.usable_now();
        assert!(self.usable >= self.layout.size(), "{} bytes usable of {}", self.usable, self.layout.size());
        // SAFETY: the usable bytes are the block's.
        unsafe { pattern::fill(self.start, self.usable, self.seed) };
    }

    fn usable_now(&self) -> usize {
        // SAFETY: the block is live.
        unsafe { V::usable(self.start.as_ptr()) }
    }

    /// Panics where the contents are not what was written, or the block is not as long as it was.
    pub fn check(&self) {
        assert_eq!(self.usable_now(), self.usable, "the usable size of a live block of {:?} has changed", self.layout);
        self.check_to(self.usable);
    }

    fn check_to(&self, end: usize) {
        // SAFETY: the usable bytes are the block's, and were filled.
        let wrong = unsafe { pattern::first_difference(self.start, self.usable, end, self.seed) };
        assert_eq!(wrong, None, "a byte of a live block of {:?} at {:p} has changed", self.layout, self.start);
    }

    /// Gives the block another size, and checks that what both sizes have in common is still there. False where the
    /// allocator refuses; the block is as it was then.
    pub fn resize(&mut self, size: usize) -> bool {
        self.check();
        // SAFETY: the block is this value's.
        let new = unsafe { V::reallocate(self.start.as_ptr(), self.layout, size) };
        let Some(new) = NonNull::new(new) else {
            self.check();
            return false;
        };
        let common = size.min(self.layout.size());
        let align = V::align_after_reallocate(self.layout.align());
        assert!(new.addr().get().is_multiple_of(align), "{new:p} is not aligned to {align} any more");
        self.start = new;
        self.layout = Layout::from_size_align(size, align).expect("tests ask for sizes that a layout can have");
        self.check_to(common);
        self.fill();
        true
    }

    /// Frees the block by way of its node; where none is named, or a wrong one, it stays as it is.
    pub fn free_from_its_node(self) {
        let (start, layout) = (self.start, self.layout);
        // SAFETY: a live block.
        let actual = unsafe { homing::node_of(start.as_ptr()) };
        let said = NodeId::new(actual.map_or(0, |node| node.number() + 1));
        let refusal = actual.map_or(NodeError::Unplaced, |actual| NodeError::WrongNode { said, actual });
        // SAFETY: a block of that layout, which is used on if nothing was freed.
        assert_eq!(unsafe { homing::dealloc_from_node(start, layout, said) }, Err(refusal));
        self.check();
        if let Some(actual) = actual {
            std::mem::forget(self);
            // SAFETY: the block was this value's, which has ended.
            assert_eq!(unsafe { homing::dealloc_from_node(start, layout, actual) }, Ok(()));
        }
    }

    /// The block's addresses.
    pub fn range(&self) -> (usize, usize) {
        (self.start.addr().get(), self.start.addr().get() + self.usable)
    }

    /// Bytes asked for.
    pub fn size(&self) -> usize {
        self.layout.size()
    }
}

impl<V: Verbs> Drop for Held<V> {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.check();
        }
        // SAFETY: the block is this value's, which ends here.
        unsafe { V::free(self.start.as_ptr(), self.layout) };
    }
}

/// A size of each kind of block: of slabs of one slot and of eight, runs, and mappings, with the sizes at their bounds.
pub const SIZES: [usize; 27] = [
    1,
    8,
    9,
    24,
    100,
    128,
    1000,
    2048,
    2049,
    5000,
    8 << 10,
    (8 << 10) + 1,
    20_000,
    64 << 10,
    (64 << 10) + 1,
    100_000,
    128 << 10,
    (1 << 20) - 1,
    1 << 20,
    2 << 20,
    (2 << 20) + 1,
    3 << 20,
    5_000_000,
    8 << 20,
    31 << 20,
    33 << 20,
    40 << 20,
];

/// A fixed sequence of numbers that look random (xorshift64*).
pub struct Numbers(u64);

impl Numbers {
    /// The sequence of that seed.
    pub fn new(seed: u64) -> Self {
        Numbers(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next one.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// The next one, below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// A size from 1 to `most`, each power of two as likely as any other.
    pub fn size(&mut self, most: usize) -> usize {
        let doublings = self.below(most.ilog2() as usize + 1);
        ((1 << doublings) + self.below(1 << doublings)).min(most)
    }
}

/// Keeps the tests of a binary that look at the whole process's figures, or change its state, apart from each other.
pub fn alone() -> MutexGuard<'static, ()> {
    static LOCK: Mutex<()> = Mutex::new(());
    LOCK.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Bytes of the process that are in memory now.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has a /proc/self/statm");
    let pages = statm.split_whitespace().nth(1).and_then(|field| field.parse::<usize>().ok());
    // SAFETY: no preconditions.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
    pages.expect("the second field is the number of resident pages") * page
}
