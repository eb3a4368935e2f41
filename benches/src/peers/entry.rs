//! The twins of `__rust_alloc` and its siblings, one set for each allocator.

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;

use super::{Peer, Visitor};

/// Allocates.
///
/// # Safety
/// As [`GlobalAlloc::alloc`].
#[inline(never)]
pub unsafe fn alloc<P: Peer>(layout: Layout) -> *mut u8 {
    // SAFETY: the caller's promise is the one asked for.
    unsafe { P::allocator().alloc(layout) }
}

/// Allocates zeroes.
///
/// # Safety
/// As [`GlobalAlloc::alloc_zeroed`].
#[inline(never)]
pub unsafe fn alloc_zeroed<P: Peer>(layout: Layout) -> *mut u8 {
    // SAFETY: the caller's promise is the one asked for.
    unsafe { P::allocator().alloc_zeroed(layout) }
}

/// Frees.
///
/// # Safety
/// As [`GlobalAlloc::dealloc`].
#[inline(never)]
pub unsafe fn dealloc<P: Peer>(block: *mut u8, layout: Layout) {
    // SAFETY: the caller's promise is the one asked for.
    unsafe { P::allocator().dealloc(block, layout) }
}

/// Changes a size.
///
/// # Safety
/// As [`GlobalAlloc::realloc`].
#[inline(never)]
pub unsafe fn realloc<P: Peer>(block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
    // SAFETY: the caller's promise is the one asked for.
    unsafe { P::allocator().realloc(block, layout, size) }
}

/// Lets the addresses of an allocator's functions escape. With link-time optimisation the optimiser sees every direct
/// call of them, and would otherwise carry constants (an alignment that never varies) into their bodies.
pub(super) struct Escape;

impl Visitor for Escape {
    type Output = ();

    fn visit<P: Peer>(self) {
        black_box(alloc::<P> as unsafe fn(Layout) -> *mut u8);
        black_box(alloc_zeroed::<P> as unsafe fn(Layout) -> *mut u8);
        black_box(dealloc::<P> as unsafe fn(*mut u8, Layout));
        black_box(realloc::<P> as unsafe fn(*mut u8, Layout, usize) -> *mut u8);
    }
}
