//! mimalloc 2 as a Rust allocator, the twin of the crate `mimalloc` built with its feature `v2`.
//!
//! The C code stands under renamed symbols (see `build/rename.rs`), so that one program can hold both majors.

#![deny(missing_docs)]

use std::alloc::{GlobalAlloc, Layout};
use std::ffi::c_void;

unsafe extern "C" {
    fn v2_mi_malloc_aligned(size: usize, alignment: usize) -> *mut c_void;
    fn v2_mi_zalloc_aligned(size: usize, alignment: usize) -> *mut c_void;
    fn v2_mi_realloc_aligned(block: *mut c_void, size: usize, alignment: usize) -> *mut c_void;
    fn v2_mi_free(block: *mut c_void);
    fn v2_mi_version() -> i32;
}

/// mimalloc 2.
pub struct MiMalloc2;

/// The version of the C code: 2 in front, as in `22x` or `2_02_xx`.
pub fn version() -> i32 {
    // SAFETY: it takes nothing and returns a constant.
    unsafe { v2_mi_version() }
}

// SAFETY: mimalloc's aligned functions keep the contract of `GlobalAlloc`; these are the calls that the crate `mimalloc`
// makes.
unsafe impl GlobalAlloc for MiMalloc2 {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: a layout's alignment is a power of two and its size does not overflow.
        unsafe { v2_mi_malloc_aligned(layout.size(), layout.align()).cast() }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as in `alloc`.
        unsafe { v2_mi_zalloc_aligned(layout.size(), layout.align()).cast() }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller got the block from this allocator and gives it up.
        unsafe { v2_mi_free(block.cast()) }
    }

    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller got the block from this allocator, with this layout.
        unsafe { v2_mi_realloc_aligned(block.cast(), size, layout.align()).cast() }
    }
}
