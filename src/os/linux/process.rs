//! The process: its environment, its files, its standard error, its forks.

use core::ffi::{CStr, c_char};

use super::keeping_errno;
use crate::os::fault::{self, Call};

/// `errno` of the calling thread.
#[inline]
pub(crate) fn errno() -> i32 {
    // SAFETY: the C library hands out a valid pointer to the calling thread's `errno`.
    unsafe { *libc::__errno_location() }
}

/// Sets `errno` of the calling thread.
#[inline]
pub(crate) fn set_errno(value: i32) {
    // SAFETY: as in `errno`.
    unsafe { *libc::__errno_location() = value };
}

/// "Out of memory", as `errno` says it.
pub(crate) const ENOMEM: i32 = libc::ENOMEM;
/// Not permitted.
pub(crate) const EPERM: i32 = libc::EPERM;
/// No such thing.
pub(crate) const ENOENT: i32 = libc::ENOENT;
/// Not a valid address.
pub(crate) const EFAULT: i32 = libc::EFAULT;
/// No such call.
pub(crate) const ENOSYS: i32 = libc::ENOSYS;
/// "Invalid argument", as `errno` says it.
pub(crate) const EINVAL: i32 = libc::EINVAL;

unsafe extern "C" {
    static environ: *const *const c_char;
}

/// Calls `visit` with every `KEY=VALUE` of the environment, without allocating. False where the C library has not set
/// it up yet, so that it has to be asked again later.
pub(crate) fn for_each_variable(mut visit: impl FnMut(&[u8])) -> bool {
    // SAFETY: `environ` is null or points to a null-terminated array of C strings (environ(7)); nobody changes it while
    // the first allocation of the process is served, and `setenv` afterwards replaces pointers, never strings in place.
    unsafe {
        let mut entry = environ;
        if entry.is_null() {
            return false;
        }
        while !(*entry).is_null() {
            visit(CStr::from_ptr(*entry).to_bytes());
            entry = entry.add(1);
        }
    }
    true
}

/// Whether the process runs with privileges that its caller lacks, so that its environment must not be trusted
/// (`AT_SECURE`, getauxval(3)).
pub(crate) fn is_secure() -> bool {
    // SAFETY: no preconditions.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Numbers that nobody can guess (getrandom(2)); where the kernel has none yet, from what it gave the process at its start
/// (`AT_RANDOM`, getauxval(3)).
pub(crate) fn random_numbers() -> [u64; 3] {
    let mut numbers = [0_u64; 3];
    let size = size_of_val(&numbers);
    // SAFETY: the buffer is writable for its size.
    let got = keeping_errno(|| unsafe {
        libc::syscall(libc::SYS_getrandom, numbers.as_mut_ptr(), size, libc::GRND_NONBLOCK)
    });
    if got as usize != size {
        // SAFETY: no preconditions.
        let given = unsafe { libc::getauxval(libc::AT_RANDOM) } as usize;
        if let Some(given) = core::ptr::NonNull::new(core::ptr::with_exposed_provenance_mut::<[u64; 2]>(given)) {
            // SAFETY: the kernel put sixteen random bytes there.
            let [first, second] = unsafe { given.read_unaligned() };
            numbers = [first, second.rotate_left(17), first ^ second.rotate_left(41)];
        }
    }
    numbers
}

/// The process's id.
pub(crate) fn process_id() -> u32 {
    // SAFETY: no preconditions.
    unsafe { libc::getpid() as u32 }
}

/// System calls that the C library's functions of the same names make cancellation points of (pthreads(7)): nothing of the
/// allocator's is one. Each sets `errno`.
mod call {
    use core::ffi::{CStr, c_long};

    use crate::os::fault::{self, Call};

    pub(super) fn open(path: &CStr) -> Option<c_long> {
        if fault::fails(Call::Read) {
            return None;
        }
        let flags = libc::O_RDONLY | libc::O_CLOEXEC;
        // SAFETY: the path is a C string.
        let file = unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags) };
        (file >= 0).then_some(file)
    }

    pub(super) fn read(file: c_long, buffer: &mut [u8]) -> c_long {
        // SAFETY: the buffer is writable for its length.
        unsafe { libc::syscall(libc::SYS_read, file, buffer.as_mut_ptr(), buffer.len()) }
    }

    pub(super) fn write(descriptor: i32, text: &[u8]) -> c_long {
        // SAFETY: the text is readable for its length.
        unsafe { libc::syscall(libc::SYS_write, descriptor, text.as_ptr(), text.len()) }
    }

    pub(super) fn close(file: c_long) {
        // SAFETY: the file was opened here, and is closed once.
        unsafe { libc::syscall(libc::SYS_close, file) };
    }
}

/// Reads as much of the file as `buffer` holds. `None` where it cannot be opened or read.
pub(crate) fn read_file(path: &CStr, buffer: &mut [u8]) -> Option<usize> {
    keeping_errno(|| {
        let file = call::open(path)?;
        let mut filled = 0;
        let result = loop {
            let rest = buffer.get_mut(filled..).unwrap_or_default();
            if rest.is_empty() {
                break Some(filled);
            }
            if fault::fails(Call::Read) {
                break None;
            }
            match call::read(file, rest) {
                0 => break Some(filled),
                n if n > 0 => filled += n as usize,
                _ if errno() == libc::EINTR => {}
                _ => break None,
            }
        };
        call::close(file);
        result
    })
}

/// Calls `visit` with each byte of the file. False where it cannot be opened.
pub(crate) fn each_byte_of_file(path: &CStr, mut visit: impl FnMut(u8)) -> bool {
    keeping_errno(|| {
        let Some(file) = call::open(path) else { return false };
        let mut buffer = [0_u8; 1024];
        loop {
            match call::read(file, &mut buffer) {
                n if n > 0 => buffer.iter().take(n as usize).for_each(|byte| visit(*byte)),
                n if n < 0 && errno() == libc::EINTR => {}
                _ => break,
            }
        }
        call::close(file);
        true
    })
}

/// Writes the text to a file descriptor, whole where the descriptor takes it. Errors are left alone: there is nobody to
/// tell.
pub(crate) fn write_to(descriptor: i32, text: &[u8]) {
    keeping_errno(|| {
        let mut rest = text;
        while !rest.is_empty() {
            match call::write(descriptor, rest) {
                n if n > 0 => rest = rest.get(n as usize..).unwrap_or_default(),
                _ if errno() == libc::EINTR => {}
                _ => return,
            }
        }
    });
}

/// The descriptor of standard error.
pub(crate) const STDERR: i32 = libc::STDERR_FILENO;

/// Ends the process at once.
pub(crate) fn abort() -> ! {
    // SAFETY: no preconditions.
    unsafe { libc::abort() }
}

/// Has `child` called in the child of every `fork`. May allocate. False where the C library has no room for it.
#[must_use]
pub(crate) fn at_fork(child: extern "C" fn()) -> bool {
    unsafe extern "C" {
        fn pthread_atfork(
            prepare: Option<extern "C" fn()>,
            parent: Option<extern "C" fn()>,
            child: Option<extern "C" fn()>,
        ) -> i32;
    }
    !fault::fails(Call::ProcessHook)
        // SAFETY: a plain function of the program that lives as long as it does.
        && keeping_errno(|| unsafe { pthread_atfork(None, None, Some(child)) }) == 0
}

/// Has `hook` called when the process exits by `exit` or a return from `main`. May allocate. False where the C library
/// has no room for it.
#[must_use]
pub(crate) fn at_exit(hook: extern "C" fn()) -> bool {
    // SAFETY: the hook is a plain function of the program.
    !fault::fails(Call::ProcessHook) && keeping_errno(|| unsafe { libc::atexit(hook) }) == 0
}
