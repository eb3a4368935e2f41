//! The C library's verbs, for the shared object that puts the allocator under other programs.
//!
//! These are Rust functions: nothing is exported under the C library's names by linking this crate. Each behaves as its
//! namesake is required to (C17 7.22.3, POSIX.1-2024, the glibc manual's "Replacing malloc"): blocks are aligned to 16
//! bytes at least; where there is no memory the answer is null and `errno` is `ENOMEM`; a success leaves `errno` alone,
//! and [`free`] always does. They may be called by any thread at any time, also in the middle of its end.

use core::ffi::CStr;
use core::ptr::{self, NonNull};

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
use crate::arena::tls;
use crate::arith::{MAX_SIZE, align_up, array};
use crate::config::Config;
use crate::heap::checked::{OfAlign, OfC, OfLayout, OfSize};
use crate::size_class::ClassId;
use crate::{heap, node, os};

/// What every size is aligned to at least: `alignof(max_align_t)` on 64-bit systems.
const ALIGN: usize = 16;

/// The settings where no Rust program has chosen any; the environment is put on them.
static DEFAULTS: Config = Config::new();

/// `malloc(3)`.
#[inline(always)]
pub fn malloc(size: usize) -> *mut u8 {
    match ClassId::of_narrow_16(size) {
        Some(class) => pop_or_refill(size, class),
        None => malloc_wide(size),
    }
}

#[inline(always)]
fn pop_or_refill(size: usize, class: ClassId) -> *mut u8 {
    match crate::arena::tls::get().pop(class) {
        Some(block) => block.pointer().as_ptr(),
        None => heap::allocate_listed::<true>(size, ALIGN, &DEFAULTS, class),
    }
}

/// Apart, so that the smaller sizes do not jump over it.
#[inline(never)]
extern "C" fn malloc_wide(size: usize) -> *mut u8 {
    match ClassId::of_16(size) {
        Some(class) => pop_or_refill(size, class),
        None => malloc_slow(size),
    }
}

// `extern "C"` here and in `heap`: such a function cannot unwind, so the fast paths end in a jump to it and need no frame.
#[cold]
#[inline(never)]
extern "C" fn malloc_slow(size: usize) -> *mut u8 {
    or_enomem(heap::allocate_slow(size, ALIGN, &DEFAULTS))
}

/// `free(3)`.
///
/// # Safety
/// Null, or a block of this allocator that is aligned to 16 bytes, as all are that C asks for, and not used any more. One of a
/// Rust layout of 8 bytes need not be; where it is not, its free is reported.
#[inline(always)]
pub unsafe fn free(block: *mut u8) {
    // SAFETY: the caller's promise.
    unsafe { heap::free(block, OfC(())) };
}

/// `free_sized` (C23 7.24.3.4), and C++'s `operator delete` that is told the size: in debug mode a wrong size is reported.
///
/// # Safety
/// As [`free`]; the size is the one that was asked for.
#[inline(always)]
pub unsafe fn free_sized(block: *mut u8, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { heap::free(block, OfC(OfSize(size))) };
}

/// C++'s `operator delete` that is told the alignment: in debug mode a wrong one is reported.
///
/// # Safety
/// As [`free`]; the alignment is the one that was asked for.
#[inline(always)]
pub unsafe fn free_aligned(block: *mut u8, align: usize) {
    // SAFETY: the caller's promise.
    unsafe { heap::free(block, OfC(OfAlign(align.max(ALIGN)))) };
}

/// `free_aligned_sized` (C23 7.24.3.5), and C++'s `operator delete` that is told both: in debug mode a wrong one is reported.
///
/// # Safety
/// As [`free`]; alignment and size are those that were asked for.
#[inline(always)]
pub unsafe fn free_aligned_sized(block: *mut u8, align: usize, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { heap::free(block, OfC(OfLayout { size, align: align.max(ALIGN) })) };
}

/// `calloc(3)`.
#[inline]
pub fn calloc(count: usize, size: usize) -> *mut u8 {
    match array(size, count) {
        Some(bytes) => or_enomem(heap::allocate_zeroed(bytes, ALIGN, &DEFAULTS)),
        None => or_enomem(ptr::null_mut()),
    }
}

/// `realloc(3)`, as glibc has it: a size of 0 frees the block and gives null.
///
/// # Safety
/// Null, or a block of this allocator; not used any more unless null is given back for a size that is not 0.
#[inline]
pub unsafe fn realloc(block: *mut u8, size: usize) -> *mut u8 {
    let Some(block) = NonNull::new(block) else { return malloc(size) };
    if size == 0 {
        // SAFETY: the caller's promise.
        unsafe { free(block.as_ptr()) };
        return ptr::null_mut();
    }
    // SAFETY: the caller's promise.
    or_enomem(unsafe { heap::reallocate(block, size, ALIGN, &DEFAULTS, ()) })
}

/// `memalign(3)`: an alignment that is no power of two is rounded up to one, as in glibc.
pub fn memalign(align: usize, size: usize) -> *mut u8 {
    match align.checked_next_power_of_two() {
        Some(align) => or_enomem(heap::allocate(size, align.max(ALIGN), &DEFAULTS)),
        None => {
            os::set_errno(os::EINVAL);
            ptr::null_mut()
        }
    }
}

/// `aligned_alloc(3)`: any size is accepted; an alignment that is no power of two is `EINVAL`.
pub fn aligned_alloc(align: usize, size: usize) -> *mut u8 {
    if !align.is_power_of_two() {
        os::set_errno(os::EINVAL);
        return ptr::null_mut();
    }
    memalign(align, size)
}

/// `posix_memalign(3)`: the block, or the error's number; `errno` is left alone.
pub fn posix_memalign(align: usize, size: usize) -> Result<NonNull<u8>, i32> {
    if !align.is_power_of_two() || !align.is_multiple_of(size_of::<usize>()) {
        return Err(os::EINVAL);
    }
    NonNull::new(heap::allocate(size, align.max(ALIGN), &DEFAULTS)).ok_or(os::ENOMEM)
}

/// `valloc(3)`: aligned to a page.
pub fn valloc(size: usize) -> *mut u8 {
    memalign(os::page_size(), size)
}

/// `pvalloc(3)`: aligned to a page, and whole pages long.
pub fn pvalloc(size: usize) -> *mut u8 {
    let page = os::page_size();
    match align_up(size.max(1), page).filter(|size| *size <= MAX_SIZE) {
        Some(size) => memalign(page, size),
        None => or_enomem(ptr::null_mut()),
    }
}

/// `malloc_usable_size(3)`: bytes of the block that may be written; 0 for null.
///
/// # Safety
/// Null, or a live block of this allocator.
pub unsafe fn usable_size(block: *mut u8) -> usize {
    // SAFETY: the caller's promise.
    NonNull::new(block).map_or(0, |block| unsafe { heap::usable_size(block) })
}

/// A block of `size` bytes aligned to `align`, all zero if `zero` says so; null where there is no memory for it, or `align` is
/// no power of two. `errno` is left alone.
pub fn allocate(size: usize, align: usize, zero: bool) -> *mut u8 {
    let align = align.max(ALIGN);
    // Not a choice of functions: what is called by a pointer could unwind, as far as the compiler knows.
    if zero { heap::allocate_zeroed(size, align, &DEFAULTS) } else { heap::allocate(size, align, &DEFAULTS) }
}

/// The block made `size` bytes long and aligned to `align`, at another place if need be; null where there is no memory for it,
/// and then the block is as it was. `errno` is left alone. What is aligned to less than `align` is moved.
///
/// # Safety
/// A live block of this allocator; not used any more unless null is given back.
pub unsafe fn reallocate(block: NonNull<u8>, size: usize, align: usize) -> *mut u8 {
    let align = align.max(ALIGN);
    if align.is_power_of_two() && !block.as_ptr().addr().is_multiple_of(align) {
        let moved = heap::allocate(size, align, &DEFAULTS);
        if let Some(moved) = NonNull::new(moved) {
            // SAFETY: both are live, and apart.
            unsafe { moved.copy_from_nonoverlapping(block, heap::usable_size(block).min(size)) };
            // SAFETY: the caller's promise.
            unsafe { free(block.as_ptr()) };
        }
        return moved;
    }
    // SAFETY: the caller's promise.
    unsafe { heap::reallocate(block, size, align, &DEFAULTS, ()) }
}

/// Makes the block at least `size` bytes long where it is, or shorter; false where that cannot be.
///
/// # Safety
/// A live block of this allocator.
pub unsafe fn resize_in_place(block: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { heap::resize_in_place(block, size) }
}

/// The least that [`usable_size`] gives for a new block of that size and alignment, in bytes; `None` where there can be none.
pub fn usable_size_of_new(size: usize, align: usize) -> Option<usize> {
    heap::usable_size_of_new(size, align.max(ALIGN))
}

/// `malloc_trim(3)`: as [`trim`](crate::trim); whether anything went back.
pub fn trim() -> bool {
    heap::trim() > 0
}

/// Has no more than so many freed bytes wait to be used again in each node's pool; `usize::MAX`: as many as there are, for ever.
/// Beside it, each thread keeps what it has at hand: 2 MiB of blocks that are in no slab, four of the threads one of up to 4 MiB
/// more. It stands for what the settings say of time and amount.
pub fn set_most_that_waits(bytes: usize) {
    node::set_most_that_waits(bytes);
}

/// Has freed blocks of so many bytes and more go back to the kernel at once, if they are of more than 64 KiB.
pub fn set_least_that_goes_at_once(bytes: usize) {
    node::set_least_that_goes_at_once(bytes);
}

/// `malloc_stats(3)`: a few lines on standard error.
pub fn write_stats() {
    crate::stats::each_line_for_c(|line| line.say());
}

/// The same lines, each with its end, for whoever writes them elsewhere.
pub fn each_line_of_stats(visit: &mut dyn FnMut(&CStr)) {
    crate::stats::each_line_for_c(|line| line.with_text(&mut *visit));
}

/// Tells that [`process_begins`] and [`process_ends`] will be called, in a process whose `malloc` this is. To be called before
/// anything is allocated, if that can be. Allocates nothing.
pub fn process_will_begin() {
    crate::process::will_be_told();
}

/// To be called as early as possible in a process whose `malloc` this is: reads the machine, which opens files, and registers
/// what is called at forks. Allocates nothing by itself.
pub fn process_begins() {
    crate::process::begin();
}

/// To be called when a process ends for which [`process_begins`] was called: writes the summary and looks at watched blocks, if the settings say
/// so. Allocating and freeing go on as before.
pub fn process_ends() {
    crate::process::end();
}

/// For a loader that runs code of programs before it has filled the thread-local storage of the thread that it runs on:
/// until then, [`storage_is_filled`] at the latest, this thread's requests are served by mappings of their own. Allocates
/// nothing.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn storage_is_not_filled_yet() {
    tls::set(&tls::ATTACHING);
}

/// Ends what [`storage_is_not_filled_yet`] began, unless the loader has done so by filling the storage. Not to be called
/// from within the allocator.
#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub fn storage_is_filled() {
    if ptr::eq(tls::get(), &raw const tls::ATTACHING) {
        tls::set(&tls::EMPTY);
    }
}

#[inline]
fn or_enomem(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        os::set_errno(os::ENOMEM);
    }
    block
}
