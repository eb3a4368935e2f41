//! Decides for each new thread whether rpmalloc may take hold of it.
//!
//! The linker sends all calls of `pthread_create` here (see `build/link.rs`).

use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::{mem, ptr};

type Start = extern "C" fn(*mut c_void) -> *mut c_void;
type Create = unsafe extern "C" fn(*mut libc::pthread_t, *const libc::pthread_attr_t, Start, *mut c_void) -> c_int;

unsafe extern "C" {
    /// The `pthread_create` that the crate `rpmalloc` brings.
    fn __real_pthread_create(
        thread: *mut libc::pthread_t,
        attributes: *const libc::pthread_attr_t,
        start: Start,
        argument: *mut c_void,
    ) -> c_int;
}

/// Whether it is rpmalloc's turn.
static ON: AtomicBool = AtomicBool::new(false);

/// Begins or ends rpmalloc's hold on new threads.
pub(super) fn set(on: bool) {
    ON.store(on, Ordering::Relaxed);
}

/// Stands in for `pthread_create` in the whole program.
///
/// # Safety
/// As `pthread_create`.
#[unsafe(no_mangle)]
unsafe extern "C" fn __wrap_pthread_create(
    thread: *mut libc::pthread_t,
    attributes: *const libc::pthread_attr_t,
    start: Start,
    argument: *mut c_void,
) -> c_int {
    let create = if ON.load(Ordering::Relaxed) { __real_pthread_create } else { libc_create() };
    // SAFETY: both are `pthread_create`, and the caller keeps its contract.
    unsafe { create(thread, attributes, start, argument) }
}

/// The C library's own. It is looked up once: rpmalloc's looks it up at each thread, which is part of its price.
fn libc_create() -> Create {
    static FOUND: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());
    let mut found = FOUND.load(Ordering::Relaxed);
    if found.is_null() {
        // SAFETY: the name ends in a zero byte.
        found = unsafe { libc::dlsym(libc::RTLD_NEXT, c"pthread_create".as_ptr()) };
        assert!(!found.is_null(), "the C library has no pthread_create");
        FOUND.store(found, Ordering::Relaxed);
    }
    // SAFETY: the C library's `pthread_create` has this type.
    unsafe { mem::transmute::<*mut c_void, Create>(found) }
}
