//! The C library's figures about the heap: `mallinfo(3)`, `malloc_stats(3)`, `malloc_info(3)`.

use core::ffi::{c_char, c_int, c_void};
use core::fmt::Write;

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

/// `mallinfo2(3)`: what is obtained (`arena`), in use by slabs, runs and mappings (`uordblks`), free (`fordblks`), and
/// free to go back (`keepcost`), in bytes.
#[unsafe(no_mangle)]
pub extern "C" fn mallinfo2() -> Mallinfo2 {
    let stats = homing::stats();
    Mallinfo2 {
        arena: stats.used + stats.dirty,
        ordblks: 1,
        usmblks: stats.peak,
        uordblks: stats.used,
        fordblks: stats.dirty,
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

/// Text made on the stack; what does not fit is cut off.
struct Text {
    bytes: [u8; 512],
    length: usize,
}

impl Text {
    fn new() -> Self {
        Text { bytes: [0; 512], length: 0 }
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let taken = text.len().min(self.bytes.len() - self.length);
        self.bytes[self.length..self.length + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        Ok(())
    }
}

/// `malloc_stats(3)`: a few lines on standard error.
#[unsafe(no_mangle)]
pub extern "C" fn malloc_stats() {
    let stats = homing::stats();
    let mut text = Text::new();
    let _ = write!(
        text,
        "homing: {} arenas\nin use bytes     = {:>10}\nfree bytes       = {:>10}\npeak bytes       = {:>10}\nblocks handed out = {:>9}\n",
        stats.arenas, stats.used, stats.dirty, stats.peak, stats.blocks
    );
    // SAFETY: the text is readable for its length. An error has nobody to be told to.
    unsafe { libc::write(libc::STDERR_FILENO, text.as_bytes().as_ptr().cast::<c_void>(), text.as_bytes().len()) };
}

/// `malloc_info(3)`: XML on a stream. Options other than 0 are `EINVAL`.
///
/// # Safety
/// `stream` is an open stream of the C library.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_info(options: c_int, stream: *mut libc::FILE) -> c_int {
    if options != 0 {
        // SAFETY: the calling thread's `errno`.
        unsafe { *libc::__errno_location() = libc::EINVAL };
        return -1;
    }
    let stats = homing::stats();
    let mut text = Text::new();
    let _ = write!(
        text,
        "<malloc version=\"homing-1\">\n<arenas count=\"{}\"/>\n<blocks handed-out=\"{}\" bytes=\"{}\"/>\n<system type=\"current\" size=\"{}\"/>\n<system type=\"max\" size=\"{}\"/>\n<free size=\"{}\"/>\n<purged size=\"{}\"/>\n</malloc>\n\0",
        stats.arenas,
        stats.blocks,
        stats.bytes,
        stats.used + stats.dirty,
        stats.peak,
        stats.dirty,
        stats.purged
    );
    // SAFETY: the text ends with a zero byte (it is shorter than the buffer), and the stream is open.
    if unsafe { libc::fputs(text.as_bytes().as_ptr().cast::<c_char>(), stream) } < 0 { -1 } else { 0 }
}
