//! The C library's names.

use core::ffi::{c_int, c_void};

use homing::entry;

/// `malloc(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn malloc(size: usize) -> *mut c_void {
    entry::malloc(size).cast()
}

/// `calloc(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    entry::calloc(count, size).cast()
}

/// `realloc(3)`.
///
/// # Safety
/// Null, or a live block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the caller's promise.
    unsafe { entry::realloc(block.cast(), size) }.cast()
}

/// `free(3)`.
///
/// # Safety
/// Null, or a live block that is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { entry::free(block.cast()) };
}

/// `cfree(3)`, as old programs call it.
///
/// # Safety
/// As [`free`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn cfree(block: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { entry::free(block.cast()) };
}

/// `free_sized` (C23 7.24.3.4).
///
/// # Safety
/// As [`free`]; the size is the one that was asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_sized(block: *mut c_void, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { entry::free_sized(block.cast(), size) };
}

/// `free_aligned_sized` (C23 7.24.3.5).
///
/// # Safety
/// As [`free`]; alignment and size are those that were asked for.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn free_aligned_sized(block: *mut c_void, align: usize, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { entry::free_aligned_sized(block.cast(), align, size) };
}

/// `posix_memalign(3)`.
///
/// # Safety
/// `out` can be written.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
    match entry::posix_memalign(align, size) {
        Ok(block) => {
            // SAFETY: the caller's promise.
            unsafe { out.write(block.as_ptr().cast()) };
            0
        }
        Err(error) => error,
    }
}

/// `aligned_alloc(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn aligned_alloc(align: usize, size: usize) -> *mut c_void {
    entry::aligned_alloc(align, size).cast()
}

/// `memalign(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn memalign(align: usize, size: usize) -> *mut c_void {
    entry::memalign(align, size).cast()
}

/// `valloc(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn valloc(size: usize) -> *mut c_void {
    entry::valloc(size).cast()
}

/// `pvalloc(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn pvalloc(size: usize) -> *mut c_void {
    entry::pvalloc(size).cast()
}

/// `malloc_usable_size(3)`.
///
/// # Safety
/// Null, or a live block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
    // SAFETY: the caller's promise.
    unsafe { entry::usable_size(block.cast()) }
}

/// `malloc_trim(3)`: 1 if and only if memory went back. The pad is not kept.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_trim(_: usize) -> c_int {
    c_int::from(entry::trim())
}

/// `mallopt(3)`: 1, as glibc's, but for what that refuses too.
///
/// | parameter | here |
/// |---|---|
/// | `M_TRIM_THRESHOLD` | so many freed bytes wait in each node's pool at most; -1: all wait, for ever |
/// | `M_MMAP_THRESHOLD` | freed blocks of so many bytes go back to the kernel at once, if they are of more than 64 KiB |
/// | `M_MXFAST` | more than 160 is refused, else ignored: no block waits apart |
/// | all others | ignored: `M_ARENA_MAX` (each thread has an arena), `M_PERTURB` (`HOMING_DEBUG` fills blocks), `M_TOP_PAD`, `M_MMAP_MAX`, `M_CHECK_ACTION` (what is wrong always ends the process) and what nobody knows |
#[unsafe(no_mangle)]
pub extern "C" fn mallopt(parameter: c_int, value: c_int) -> c_int {
    /// glibc's bound on 64-bit systems (`MAX_FAST_SIZE` in its `malloc.c`).
    const MOST_FAST: usize = 160;
    // As glibc has it: a negative value is one that is larger than any.
    let value = value as usize;
    match parameter {
        libc::M_MXFAST => return c_int::from(value <= MOST_FAST),
        libc::M_MMAP_THRESHOLD => entry::set_least_that_goes_at_once(value),
        libc::M_TRIM_THRESHOLD => entry::set_most_that_waits(value),
        _ => {}
    }
    1
}

/// glibc's own names for the same, which some programs call.
mod aliases {
    use super::*;

    #[unsafe(no_mangle)]
    extern "C" fn __libc_malloc(size: usize) -> *mut c_void {
        malloc(size)
    }

    #[unsafe(no_mangle)]
    extern "C" fn __libc_calloc(count: usize, size: usize) -> *mut c_void {
        calloc(count, size)
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: the caller's promise, as for `realloc`.
        unsafe { realloc(block, size) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn __libc_free(block: *mut c_void) {
        // SAFETY: the caller's promise, as for `free`.
        unsafe { free(block) };
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn __libc_cfree(block: *mut c_void) {
        // SAFETY: the caller's promise, as for `free`.
        unsafe { free(block) };
    }

    #[unsafe(no_mangle)]
    extern "C" fn __libc_memalign(align: usize, size: usize) -> *mut c_void {
        memalign(align, size)
    }

    #[unsafe(no_mangle)]
    extern "C" fn __libc_valloc(size: usize) -> *mut c_void {
        valloc(size)
    }

    #[unsafe(no_mangle)]
    extern "C" fn __libc_pvalloc(size: usize) -> *mut c_void {
        pvalloc(size)
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn __posix_memalign(out: *mut *mut c_void, align: usize, size: usize) -> c_int {
        // SAFETY: the caller's promise, as for `posix_memalign`.
        unsafe { posix_memalign(out, align, size) }
    }
}
