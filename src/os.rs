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
