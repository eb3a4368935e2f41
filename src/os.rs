//! The operating system, behind one small interface: every system call of the allocator is made here and nowhere else.
//!
//! Two twins serve it: `linux`, and `portable`, which stands on `std::alloc::System` and serves every other system (or
//! any, with the feature `portable`). Nothing here allocates (the portable twin apart, which asks `System`), blocks
//! longer than the call itself, unwinds, or leaves `errno` changed.

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod linux;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
pub(crate) use linux::*;

#[cfg(any(not(target_os = "linux"), feature = "portable"))]
mod portable;
#[cfg(any(not(target_os = "linux"), feature = "portable"))]
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

#[cfg_attr(
    any(not(target_os = "linux"), feature = "portable"),
    allow(dead_code, reason = "the portable twin has no sets of nodes")
)]
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
#[cfg_attr(
    any(not(target_os = "linux"), feature = "portable"),
    allow(dead_code, reason = "the portable twin never moves any")
)]
pub(crate) enum Moved {
    /// They are at the new place; the old one stays reserved and reads as zero.
    Yes,
    /// They are where they were; the new place is committed, and empty.
    No,
    /// They are where they were; the new place may be gone, and others may be there by now.
    PlaceLost,
}
