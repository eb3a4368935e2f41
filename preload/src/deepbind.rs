//! `dlopen` without RTLD_DEEPBIND (dlopen(3)).
//!
//! A library that is opened with that flag looks for `malloc` and `free` in the C library before it does in what was preloaded,
//! while what calls it is bound to these. It then frees with glibc's `free` what came from here, and glibc ends in SIGSEGV. So
//! the flag is taken out, and the rest is left to the C library's function. That goes by its caller's return address (for
//! `RUNPATH`, `$ORIGIN` and namespaces), so it is jumped to, not called.
//!
//! Nothing else is needed for libraries in a namespace of their own (`dlmopen(LM_ID_NEWLM)`), which have a C library of their
//! own too; nor for those that were there before, which were loaded without the flag.

use core::ffi::{CStr, c_char, c_int, c_long, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};

/// The body of a function that takes the flag out of an argument, and goes on in the C library's of the same name, which `find`
/// looks for where `next` does not have it yet.
macro_rules! go_on {
    ($next:path, $find:path, $x86_64:literal or $aarch64:literal) => {
        core::arch::naked_asm!(
            by_processor!($x86_64 or $aarch64),
            by_processor!(
                "mov rax, qword ptr [rip + {next}]; test rax, rax; jne 2f; \
                 push rdi; push rsi; push rdx; call {find}; pop rdx; pop rsi; pop rdi; 2: jmp rax"
                or "adrp x16, {next}; ldr x16, [x16, :lo12:{next}]; cbnz x16, 2f; \
                 stp x0, x1, [sp, #-32]!; stp x2, x30, [sp, #16]; bl {find}; mov x16, x0; \
                 ldp x2, x30, [sp, #16]; ldp x0, x1, [sp], #32; 2: br x16"
            ),
            next = sym $next,
            find = sym $find,
        )
    };
}

/// The C library's functions; null as long as nobody looked.
static OPEN: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());
static OPEN_IN: AtomicPtr<c_void> = AtomicPtr::new(core::ptr::null_mut());

extern "C" fn find_open() -> *mut c_void {
    find(&OPEN, c"dlopen")
}

extern "C" fn find_open_in() -> *mut c_void {
    find(&OPEN_IN, c"dlmopen")
}

/// `dlopen(3)`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void {
    go_on!(OPEN, find_open, "endbr64; and esi, 0xfffffff7" or "and w1, w1, #0xfffffff7")
}

/// `dlmopen(3)`.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn dlmopen(namespace: c_long, file: *const c_char, flags: c_int) -> *mut c_void {
    go_on!(OPEN_IN, find_open_in, "endbr64; and edx, 0xfffffff7" or "and w2, w2, #0xfffffff7")
}

const _: () = assert!(libc::RTLD_DEEPBIND == !0xffff_fff7_u32 as i32);

/// The next function of that name behind this object's.
fn find(next: &AtomicPtr<c_void>, name: &CStr) -> *mut c_void {
    // SAFETY: the name is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    next.store(found, Ordering::Relaxed);
    found
}
