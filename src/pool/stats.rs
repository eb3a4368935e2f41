//! Figures of a pool, exact after each call, though a pair of calls keeps one number only: how many more objects may be
//! taken before there are more out than ever.

use core::cell::Cell;

use super::remote::Returned;

/// What a pool has done so far, and holds now: exact after each call of its user and after each drop of a guard, by
/// whichever thread, that happened before.
///
/// An object counts as `size_of::<T>()` bytes. Blocks that the pool as an allocator took from the heap, since they do not fit
/// in a `T`, are in all figures but the last two, each as one object, with the bytes that were asked for; one that grows or
/// shrinks counts as returned and handed out anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PoolStats {
    /// Objects handed out, ever.
    pub allocations: u64,
    /// Objects that have come back, ever.
    pub deallocations: u64,
    /// Bytes handed out, ever.
    pub bytes_out: u64,
    /// Bytes that have come back, ever.
    pub bytes_in: u64,
    /// Objects that are out.
    pub objects: usize,
    /// Their bytes.
    pub bytes: usize,
    /// The most objects that were out at a time.
    pub peak_objects: usize,
    /// The most bytes that were out at a time.
    pub peak_bytes: usize,
    /// Slabs that the pool has, empty ones among them.
    pub slabs: usize,
    /// Bytes of the slabs, headers and free objects among them. Pages of them that were never used take no memory.
    pub reserved: usize,
}

/// What is counted.
pub(super) struct Tally {
    /// Objects that may be taken until more are out than `mark`, and one.
    room: Cell<usize>,
    /// The most objects of slabs that were out at a time since blocks of the heap last came or went.
    mark: Cell<usize>,
    /// Objects that were taken from slabs to be handed out, ever.
    taken: Cell<u64>,
    /// Blocks of the heap.
    heap: Cell<Heap>,
    /// The most before blocks of the heap last came or went: objects, and bytes.
    peak: Cell<(usize, usize)>,
}

/// Blocks of the heap: how many, and their bytes.
#[derive(Clone, Copy)]
struct Heap {
    out: (u64, u64),
    home: (u64, u64),
}

impl Heap {
    fn objects(self) -> usize {
        (self.out.0 - self.home.0) as usize
    }

    fn bytes(self) -> usize {
        (self.out.1.wrapping_sub(self.home.1)) as usize
    }
}

impl Tally {
    pub(super) const fn new() -> Self {
        Tally {
            room: Cell::new(1),
            mark: Cell::new(0),
            taken: Cell::new(0),
            heap: Cell::new(Heap { out: (0, 0), home: (0, 0) }),
            peak: Cell::new((0, 0)),
        }
    }

    /// An object goes out.
    #[inline(always)]
    pub(super) fn goes_out(&self, returned: &Returned) {
        let room = self.room.get() - 1;
        self.room.set(room);
        if room == 0 {
            // More are out than ever, unless some have come back from other threads.
            let count = returned.take_count();
            if count == 0 {
                self.mark.set(self.mark.get() + 1);
                self.room.set(1);
            } else {
                self.room.set(count);
            }
        }
    }

    /// An object comes home, on the user's thread.
    #[inline(always)]
    pub(super) fn comes_home(&self) {
        self.room.set(self.room.get() + 1);
    }

    /// So many objects were taken from a slab, to be handed out one by one.
    pub(super) fn takes(&self, count: u32) {
        self.taken.set(self.taken.get() + u64::from(count));
    }

    /// So many that were taken go back to their slab unused.
    pub(super) fn takes_back(&self, count: u32) {
        self.taken.set(self.taken.get() - u64::from(count));
    }

    /// Objects of slabs that are out.
    fn out(&self, returned: &Returned) -> usize {
        self.room.set(self.room.get() + returned.take_count());
        self.mark.get() + 1 - self.room.get()
    }

    /// The most objects and bytes so far.
    fn peak(&self, size: usize) -> (usize, usize) {
        let (heap, (objects, bytes)) = (self.heap.get(), self.peak.get());
        let now = self.mark.get() + heap.objects();
        (objects.max(now), bytes.max(self.mark.get().wrapping_mul(size).wrapping_add(heap.bytes())))
    }

    /// A block of the heap of so many bytes goes out, one comes home, or both.
    #[cfg_attr(not(feature = "allocator-api2"), allow(dead_code))]
    pub(super) fn heap_changes(&self, out: Option<usize>, home: Option<usize>, size: usize, returned: &Returned) {
        let objects = self.out(returned);
        self.peak.set(self.peak(size));
        let add = |(count, bytes): (u64, u64), change: Option<usize>| match change {
            Some(more) => (count + 1, bytes.wrapping_add(more as u64)),
            None => (count, bytes),
        };
        let heap = self.heap.get();
        self.heap.set(Heap { out: add(heap.out, out), home: add(heap.home, home) });
        self.mark.set(objects);
        self.room.set(1);
    }

    /// The figures, of a pool whose objects have that size and that has taken `unused` objects and not handed them out yet.
    pub(super) fn read(&self, size: usize, unused: u32, returned: &Returned) -> PoolStats {
        let objects = self.out(returned);
        let allocations = self.taken.get() - u64::from(unused);
        let deallocations = allocations - objects as u64;
        let (heap, (peak_objects, peak_bytes)) = (self.heap.get(), self.peak(size));
        let bytes = |count: u64| count.wrapping_mul(size as u64);
        PoolStats {
            allocations: allocations + heap.out.0,
            deallocations: deallocations + heap.home.0,
            bytes_out: bytes(allocations).wrapping_add(heap.out.1),
            bytes_in: bytes(deallocations).wrapping_add(heap.home.1),
            objects: objects + heap.objects(),
            bytes: objects.wrapping_mul(size).wrapping_add(heap.bytes()),
            peak_objects,
            peak_bytes,
            slabs: 0,
            reserved: 0,
        }
    }
}
