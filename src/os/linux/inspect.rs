//! The process looks at itself: stacks, code, memory. For the debug mode.

use core::ffi::{CStr, c_int, c_void};

use super::keeping_errno;

/// The calling thread's number, as the kernel and debuggers have it (gettid(2)).
pub(crate) fn thread_id() -> u32 {
    // SAFETY: no preconditions.
    keeping_errno(|| unsafe { libc::syscall(libc::SYS_gettid) }) as u32
}

/// Fills in the return addresses of the calls that led here, the innermost first, as far as they can be told; the rest is
/// left alone. The first call may load what it needs, and allocate.
#[inline(never)]
pub(crate) fn read_stack(calls: &mut [usize]) {
    #[cfg(target_env = "gnu")]
    {
        unsafe extern "C" {
            fn backtrace(buffer: *mut *mut c_void, size: c_int) -> c_int;
        }
        // SAFETY: the buffer holds as many pointers as are said; they are of a number's size (backtrace(3)).
        keeping_errno(|| unsafe { backtrace(calls.as_mut_ptr().cast(), calls.len() as c_int) });
    }
    #[cfg(not(target_env = "gnu"))]
    let _ = calls;
}

/// Where a piece of code comes from.
pub(crate) struct CodePlace {
    /// The program or shared object.
    pub(crate) file: &'static CStr,
    /// Bytes from where that was loaded to.
    pub(crate) offset: usize,
    /// The function, if it is one of those that can be linked to.
    pub(crate) function: Option<&'static CStr>,
}

/// Where the code at that address comes from.
pub(crate) fn whereabouts_of_code(address: usize) -> Option<CodePlace> {
    let mut info = core::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: the buffer has the type the call fills; any address may be asked for (dladdr(3)).
    if unsafe { libc::dladdr(core::ptr::without_provenance(address), info.as_mut_ptr()) } == 0 {
        return None;
    }
    // SAFETY: zeroed at least, and every field is a pointer.
    let info = unsafe { info.assume_init() };
    if info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: names are C strings that stay as long as the object is loaded.
    let file = unsafe { CStr::from_ptr(info.dli_fname) };
    // SAFETY: likewise.
    let function = (!info.dli_sname.is_null()).then(|| unsafe { CStr::from_ptr(info.dli_sname) });
    Some(CodePlace { file, offset: address - info.dli_fbase as usize, function })
}

/// The addresses of the shared object that this code is in, its start and its end; `None` where it is part of the program
/// itself.
pub(crate) fn own_shared_object() -> Option<(usize, usize)> {
    struct Search {
        wanted: usize,
        found: Option<(usize, usize)>,
    }
    unsafe extern "C" fn look(object: *mut libc::dl_phdr_info, _: usize, search: *mut c_void) -> c_int {
        // SAFETY: the caller passes what it was given, and the search below.
        let (object, search) = unsafe { (&*object, &mut *search.cast::<Search>()) };
        // SAFETY: so many headers stand there (dl_iterate_phdr(3)).
        let headers = unsafe { core::slice::from_raw_parts(object.dlpi_phdr, usize::from(object.dlpi_phnum)) };
        let loaded = headers.iter().filter(|header| header.p_type == libc::PT_LOAD);
        let base = object.dlpi_addr as usize;
        let end = loaded.map(|header| base + (header.p_vaddr + header.p_memsz) as usize).max().unwrap_or(base);
        // SAFETY: names are C strings; the program's own is empty.
        let is_program = object.dlpi_name.is_null() || unsafe { *object.dlpi_name } == 0;
        if (base..end).contains(&search.wanted) && !is_program {
            search.found = Some((base, end));
        }
        0
    }
    let mut search = Search { wanted: own_shared_object as *const () as usize, found: None };
    // SAFETY: the function fits, and the search lives until the call returns.
    unsafe { libc::dl_iterate_phdr(Some(look), (&raw mut search).cast()) };
    search.found
}

/// Reads other memory of the process, which may be gone by now: so many words as were read. `None` where there is none at
/// that address, or the kernel refuses (process_vm_readv(2)).
pub(crate) fn read_memory(address: usize, words: &mut [usize]) -> Option<usize> {
    let local = libc::iovec { iov_base: words.as_mut_ptr().cast(), iov_len: size_of_val(words) };
    let remote = libc::iovec { iov_base: core::ptr::without_provenance_mut(address), iov_len: size_of_val(words) };
    // SAFETY: `local` names memory that may be written to; what `remote` names is only read, and need not be there.
    let read = keeping_errno(|| unsafe {
        libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0)
    });
    usize::try_from(read).ok().map(|bytes| bytes / size_of::<usize>()).filter(|words| *words > 0)
}

/// Whether [`read_memory`] works at all here.
pub(crate) fn can_read_memory() -> bool {
    let known = [1_usize];
    let mut copy = [0];
    read_memory(known.as_ptr() as usize, &mut copy) == Some(1) && copy == known
}

/// Calls `visit` with the start and the end of each of the process's mappings that can be read and written. False where
/// the kernel does not tell (proc(5), `/proc/self/maps`).
pub(crate) fn each_writable_mapping(mut visit: impl FnMut(usize, usize)) -> bool {
    let mut line = MapsLine::default();
    super::each_byte_of_file(c"/proc/self/maps", |byte| {
        if let Some((start, end)) = line.add(byte) {
            visit(start, end);
        }
    })
}

/// A line of `/proc/self/maps`, byte by byte: `start-end rwxp ...`.
#[derive(Default)]
struct MapsLine {
    start: usize,
    end: usize,
    /// Which field is being read: the start, the end, the permissions, the rest.
    field: u8,
    permissions: [u8; 2],
    at: usize,
}

impl MapsLine {
    /// Takes one byte; gives the range once it is known to be readable and writable.
    fn add(&mut self, byte: u8) -> Option<(usize, usize)> {
        match (self.field, byte) {
            (_, b'\n') => *self = Self::default(),
            (0, b'-') | (1, b' ') => self.field += 1,
            (0, _) => self.start = self.start << 4 | hexadecimal(byte),
            (1, _) => self.end = self.end << 4 | hexadecimal(byte),
            (2, _) => {
                let permission = self.permissions.get_mut(self.at)?;
                *permission = byte;
                self.at += 1;
                if self.at == 2 {
                    self.field = 3;
                    return (self.permissions == *b"rw").then_some((self.start, self.end));
                }
            }
            _ => {}
        }
        None
    }
}

fn hexadecimal(digit: u8) -> usize {
    usize::from(match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => 0,
    })
}
