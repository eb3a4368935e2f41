//! The C library's figures about the heap: `mallinfo(3)`, `malloc_stats(3)`, `malloc_info(3)`.

use core::ffi::{CStr, c_int, c_ulonglong};

/// `struct mallinfo2` of glibc's `malloc.h`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Mallinfo2 {
    pub arena: usize,
    pub ordblks: usize,
    pub smblks: usize,
    pub hblks: usize,
    pub hblkhd: usize,
    pub usmblks: usize,
    pub fsmblks: usize,
    pub uordblks: usize,
    pub fordblks: usize,
    pub keepcost: usize,
}

/// `struct mallinfo` of glibc's `malloc.h`: the same in `int`s, which large heaps wrap, as glibc's do.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(missing_docs)]
pub struct Mallinfo {
    pub arena: c_int,
    pub ordblks: c_int,
    pub smblks: c_int,
    pub hblks: c_int,
    pub hblkhd: c_int,
    pub usmblks: c_int,
    pub fsmblks: c_int,
    pub uordblks: c_int,
    pub fordblks: c_int,
    pub keepcost: c_int,
}

/// `mallinfo2(3)`, in bytes: what is obtained and has not gone back (`arena`); of that, blocks that the program holds
/// (`uordblks`) and what is free (`fordblks`); and what is free to go back at once (`keepcost`).
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo2() -> Mallinfo2 {
    let stats = homing::stats();
    Mallinfo2 {
        arena: stats.used + stats.dirty,
        ordblks: 1,
        usmblks: stats.peak,
        uordblks: stats.live,
        fordblks: (stats.used + stats.dirty).saturating_sub(stats.live),
        keepcost: stats.dirty,
        ..Mallinfo2::default()
    }
}

/// `mallinfo(3)`.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo() -> Mallinfo {
    let full = mallinfo2();
    Mallinfo {
        arena: full.arena as c_int,
        ordblks: full.ordblks as c_int,
        usmblks: full.usmblks as c_int,
        uordblks: full.uordblks as c_int,
        fordblks: full.fordblks as c_int,
        keepcost: full.keepcost as c_int,
        ..Mallinfo::default()
    }
}

unsafe extern "C" {
    // The crate `libc` does not have it for Linux.
    fn pthread_setcancelstate(state: c_int, old: *mut c_int) -> c_int;
}
/// Of `pthread.h`.
const PTHREAD_CANCEL_DISABLE: c_int = 1;

/// Does what the C library has cancellation points in, without being cancelled.
fn without_cancellation<R>(work: impl FnOnce() -> R) -> R {
    let mut state = PTHREAD_CANCEL_DISABLE;
    // SAFETY: the old state can be written (pthread_setcancelstate(3)).
    unsafe { pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &raw mut state) };
    let result = work();
    // SAFETY: the state that was there before.
    unsafe { pthread_setcancelstate(state, core::ptr::null_mut()) };
    result
}

/// `malloc_stats(3)`: a few lines on standard error.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_stats() {
    homing::entry::write_stats();
}

/// `malloc_info(3)`: XML on a stream. Options other than 0 are `EINVAL`.
///
/// # Safety
/// `stream` is an open stream of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_info(options: c_int, stream: *mut libc::FILE) -> c_int {
    const FORMAT: &CStr = c"<malloc version=\"homing-1\">\n\
        <arenas count=\"%zu\"/>\n\
        <blocks handed-out=\"%llu\" bytes=\"%llu\"/>\n\
        <system type=\"current\" size=\"%zu\"/>\n\
        <system type=\"max\" size=\"%zu\"/>\n\
        <free size=\"%zu\"/>\n\
        <purged size=\"%llu\"/>\n\
        </malloc>\n";
    if options != 0 {
        // SAFETY: the calling thread's `errno`.
        unsafe { *libc::__errno_location() = libc::EINVAL };
        return -1;
    }
    let stats = homing::stats();
    // SAFETY: the arguments are what the format asks for, and the stream is open.
    let written = without_cancellation(|| unsafe {
        libc::fprintf(
            stream,
            FORMAT.as_ptr(),
            stats.arenas,
            c_ulonglong::from(stats.blocks),
            c_ulonglong::from(stats.bytes),
            stats.used + stats.dirty,
            stats.peak,
            stats.dirty,
            c_ulonglong::from(stats.purged),
        )
    });
    if written < 0 { -1 } else { 0 }
}
