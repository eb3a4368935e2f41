//! The operating system, behind one small interface: every system call of the allocator is made here and nowhere else.
//!
//! Two twins serve it: `linux`, and `portable`, which stands on `std::alloc::System` and serves every other system (or
//! any, with the feature `portable`). Nothing here allocates (the portable twin apart, which asks `System`), blocks
//! longer than the call itself, unwinds, or leaves `errno` changed.
//!
//! # When the kernel refuses
//!
//! Nothing that is live is lost, nothing is handed out as zero that is not, and what could not be done is tried again.
//! `tests/refusals` has every call refused, each in turn, but those of the feature `hardened` and of looking for leaks.
//!
//! | call | when refused | what the user sees |
//! |---|---|---|
//! | `mmap` | less is tried, what waits is given back, what is at hand is given up, another node is asked | null, `ENOMEM` |
//! | `mmap` of a segment's next part | the segment stays as long as it is | nothing |
//! | `munmap` | contents are dropped; asked again at later calls of `mmap` and at trims (for 128 ranges) | addresses held |
//! | `munmap`, a block's end | contents are dropped; if that is refused too, the block keeps it | more is resident |
//! | `mprotect` to close (hardened) | the range stays accessible, as zeros | nothing |
//! | `MADV_DONTNEED`, slots | they stay dirty: cleared where zeros are wanted, purged later | more is resident |
//! | `MADV_POPULATE_WRITE`, strictly bound | all that waits is purged, and it is tried once more | null, `ENOMEM` |
//! | `MADV_POPULATE_WRITE`, ahead of use | pages come one by one | slower first touches |
//! | `MADV_DONTDUMP` | nothing | larger core dumps |
//! | `MADV_NOHUGEPAGE` | nothing | huge pages, if they are given unasked |
//! | `mremap` | the block is copied | slower `realloc` |
//! | `mbind` | first touch decides from then on | said; [`Shortfalls::binding`](crate::Shortfalls) |
//! | `getcpu` | the thread counts as one of the first node | said; [`Shortfalls::tracking`](crate::Shortfalls) |
//! | `move_pages` | pages are not looked for any more | [`Shortfalls::residence`](crate::Shortfalls) |
//! | `get_mempolicy` | all nodes count as allowed, and the thread's policy as first touch | as `mbind` |
//! | `open`, `read` | what the file says is not known: one node, or all as far | [`Shortfalls`](crate::Shortfalls) |
//! | `sysinfo` | it counts as none | nothing |
//! | `mincore`, of what went back | what others have mapped there counts as freed twice | the words of a report |
//! | `mincore` (debug mode) | writes to large freed blocks are noticed at their ends only | nothing |
//! | `prctl(PR_GET_TSC)` | the counter is read: kernels without the call forbid it to nobody | nothing |
//! | `clock_gettime` | it counts as late: what waits is purged early | slower |
//! | `futex`, to wait | the lock is tried again at once | a busy processor |
//! | `pthread_key_create`, `pthread_setspecific` | each operation borrows an arena, and tries again | slower |
//! | the same, for a thread's bump arena | the next use tries again | [`BumpError::NoThreadData`](crate::BumpError) |
//! | `pthread_atfork` | each new thread tries again | until then a child may find locks held for ever |
//! | `atexit` | each new thread tries again | no summary, if none comes |
//! | `pthread_create` (`HOMING_BACKGROUND`) | threads that allocate and free purge, as without the setting | said |
//! | `futex`, of that thread | likewise | nothing |
//! | `getrandom` (hardened) | what the kernel gave at the process's start | nothing |
//! | `process_vm_readv`, `open` of the maps (debug mode) | leaks are not looked for | said |
//! | `write` of a message | nothing: there is nobody to tell | no message |
//!
//! Not in the table, since they cannot be refused: `getauxval`, `getpid`, `sched_getcpu` and `getcpu` through the vDSO;
//! `close`; and `FUTEX_WAKE` alone, see `futex_wake_one`.

#[cfg(all(target_os = "linux", target_pointer_width = "64", not(feature = "portable")))]
mod linux;
#[cfg(all(target_os = "linux", target_pointer_width = "64", not(feature = "portable")))]
pub(crate) use linux::*;

#[cfg(not(all(target_os = "linux", target_pointer_width = "64", not(feature = "portable"))))]
mod portable;
#[cfg(not(all(target_os = "linux", target_pointer_width = "64", not(feature = "portable"))))]
pub(crate) use portable::*;

#[cfg(feature = "fault-injection")]
pub mod fault;
#[cfg(not(feature = "fault-injection"))]
pub(crate) mod fault;

/// A pause in a spin loop.
#[inline]
pub(crate) fn relax() {
    core::hint::spin_loop();
}

/// The most nodes a Linux kernel can be built for (CONFIG_NODES_SHIFT of 10).
pub(crate) const MAX_NODES: usize = 1024;

/// A set of nodes, by the kernel's numbers, as Linux takes it. Numbers from [`MAX_NODES`] on are never in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct NodeMask([u64; MAX_NODES / 64]);

#[allow(dead_code, reason = "the portable twin has no sets of nodes")]
impl NodeMask {
    /// The words, 64 numbers in each.
    pub(crate) fn words(&self) -> &[u64; MAX_NODES / 64] {
        &self.0
    }

    /// The words, for the kernel to write to.
    pub(crate) fn words_mut(&mut self) -> &mut [u64; MAX_NODES / 64] {
        &mut self.0
    }

    pub(crate) fn contains(&self, number: usize) -> bool {
        self.0.get(number / 64).is_some_and(|word| word & 1 << (number % 64) != 0)
    }

    pub(crate) fn insert(&mut self, number: usize) {
        if let Some(word) = self.0.get_mut(number / 64) {
            *word |= 1 << (number % 64);
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// The members of both.
    pub(crate) fn and(mut self, other: &NodeMask) -> Self {
        self.0.iter_mut().zip(&other.0).for_each(|(word, other)| *word &= other);
        self
    }

    /// The members, in order.
    pub(crate) fn members(&self) -> impl Iterator<Item = usize> + '_ {
        (0..MAX_NODES).filter(|number| self.contains(*number))
    }
}

impl FromIterator<usize> for NodeMask {
    fn from_iter<I: IntoIterator<Item = usize>>(numbers: I) -> Self {
        let mut mask = NodeMask::default();
        numbers.into_iter().for_each(|number| mask.insert(number));
        mask
    }
}

/// What a range of addresses is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Binding {
    /// That node if it has room, else the nearest that has.
    Preferred,
    /// That node or nothing.
    Strict,
    /// Page by page over the nodes of the mask.
    Interleaved,
}

/// What came of moving pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the portable twin never moves any")]
pub(crate) enum Moved {
    /// They are at the new place; the old one stays mapped and reads as zero.
    Yes,
    /// They are where they were; the new place is there, and empty.
    No,
    /// They are where they were; the new place is the process's again, reads as zero, and is bound to nothing.
    PlaceEmptied,
    /// They are where they were; the new place is gone, and others may be there by now.
    PlaceLost,
}
