//! An allocator around each allocator, which watches what it does.

use std::alloc::{GlobalAlloc, Layout};
use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::slice;
use std::sync::{Mutex, MutexGuard, PoisonError};

use homing_benches::peers::Peer;

/// What the watched allocator has done since the last [`reset`].
#[derive(Default)]
pub struct Record {
    /// Calls of `alloc` and `alloc_zeroed`.
    pub allocated: u64,
    /// Calls of `alloc_zeroed` alone.
    pub zeroed: u64,
    /// Calls of `realloc`.
    pub resized: u64,
    /// Calls of `dealloc`.
    pub freed: u64,
    /// Live blocks, by address.
    pub live: BTreeMap<usize, Layout>,
}

static RECORD: Mutex<Record> =
    Mutex::new(Record { allocated: 0, zeroed: 0, resized: 0, freed: 0, live: BTreeMap::new() });

/// The record. It is one for all: a test that uses it has the process for itself.
pub fn record() -> MutexGuard<'static, Record> {
    RECORD.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Begins a new record.
pub fn reset() {
    *record() = Record::default();
}

impl Record {
    /// Blocks that were asked for, also those asked for as another size of a block.
    pub fn taken(&self) -> u64 {
        self.allocated + self.resized
    }

    /// Checks that a block lies where it may, and notes it.
    fn enter(&mut self, start: *mut u8, layout: Layout) {
        let address = start.addr();
        assert!(address.is_multiple_of(layout.align()), "{layout:?} at {address:#x}");
        let end = address + layout.size();
        if let Some((&other, at)) = self.live.range(..end).next_back() {
            assert!(other + at.size() <= address, "{layout:?} at {address:#x} lies in {at:?} at {other:#x}");
        }
        self.live.insert(address, layout);
    }

    fn leave(&mut self, start: *mut u8, layout: Layout) {
        assert_eq!(self.live.remove(&start.addr()), Some(layout), "freed or resized: what was never allocated");
    }
}

/// The allocator `P`, watched.
pub struct Checked<P>(PhantomData<fn() -> P>);

impl<P: Peer> Peer for Checked<P> {
    type Allocator = Self;

    fn allocator() -> &'static Self {
        &Self(PhantomData)
    }
}

// SAFETY: each call goes to an allocator that keeps the contract.
unsafe impl<P: Peer> GlobalAlloc for Checked<P> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the one asked for.
        let start = unsafe { P::allocator().alloc(layout) };
        if !start.is_null() {
            let mut record = record();
            record.allocated += 1;
            record.enter(start, layout);
            // SAFETY: the block is new and this large. Whoever counts on zeroes, or on bytes never written, finds out.
            unsafe { start.write_bytes(0xa5, layout.size()) };
        }
        start
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is the one asked for.
        let start = unsafe { P::allocator().alloc_zeroed(layout) };
        if !start.is_null() {
            let mut record = record();
            record.allocated += 1;
            record.zeroed += 1;
            record.enter(start, layout);
            // SAFETY: the block is this large, and its bytes are set.
            let bytes = unsafe { slice::from_raw_parts(start, layout.size()) };
            assert!(bytes.iter().all(|&byte| byte == 0), "{layout:?} is not zero");
        }
        start
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let kept = layout.size().min(size);
        // SAFETY: the block is this large, and the workloads write all of a block before they resize it.
        let before = unsafe { slice::from_raw_parts(start, kept) }.to_vec();
        // Off the record before the call: another thread may get the place at once.
        record().leave(start, layout);
        // SAFETY: the caller's promise is the one asked for.
        let moved = unsafe { P::allocator().realloc(start, layout, size) };
        assert!(!moved.is_null(), "no memory to resize {layout:?} to {size}");
        let mut record = record();
        record.resized += 1;
        record.enter(moved, Layout::from_size_align(size, layout.align()).expect("the caller checked it"));
        // SAFETY: the block is at least this large, and these bytes came with it.
        let after = unsafe { slice::from_raw_parts(moved, kept) };
        assert!(before == after, "{layout:?} lost bytes when it was resized to {size}");
        moved
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        let mut record = record();
        record.freed += 1;
        record.leave(start, layout);
        drop(record);
        // SAFETY: the caller's promise is the one asked for.
        unsafe { P::allocator().dealloc(start, layout) }
    }
}
