//! The processors a thread may run on.

use std::mem;

/// A set of processors.
#[derive(Clone, Copy)]
pub(super) struct Affinity(libc::cpu_set_t);

impl Affinity {
    /// That of the calling thread; `None` where the kernel's set is larger than the C library's type.
    pub(super) fn current() -> Option<Self> {
        // SAFETY: a `cpu_set_t` is an array of integers, for which zero is a value.
        let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
        // SAFETY: the kernel writes at most the size that is given.
        let result = unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) };
        (result == 0).then_some(Self(set))
    }

    /// Gives it to the calling thread. Refusal (processors taken away meanwhile) leaves the thread as it was.
    pub(super) fn apply(&self) {
        // SAFETY: the set is whole and its size is the one given.
        unsafe { libc::sched_setaffinity(0, mem::size_of_val(&self.0), &self.0) };
    }
}

impl PartialEq for Affinity {
    fn eq(&self, other: &Self) -> bool {
        // SAFETY: both sets are whole; the function only reads them.
        unsafe { libc::CPU_EQUAL(&self.0, &other.0) }
    }
}
