//! jemalloc's own functions (jemalloc(3)), for programs that are linked with it and use them beside `malloc` and `free`: they
//! would have blocks of jemalloc's otherwise, which `free` does not know.
//!
//! What the flags say of arenas and caches of threads means nothing here. [`mallctl`] knows what programs ask most; of
//! everything else it says that there is no such name, as jemalloc does of what was left out when it was built. So whoever asks
//! by it whether jemalloc is there learns that it is not.

use core::ffi::{CStr, c_char, c_int, c_uint, c_void};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering};

use homing::entry;

/// The alignment is 2 to the power of these bits of the flags; 0: none is asked for.
const LG_ALIGN: c_int = 0x3f;
/// What is new is to be zero.
const ZERO: c_int = 0x40;

fn align_of(flags: c_int) -> usize {
    1_usize.checked_shl((flags & LG_ALIGN) as u32).unwrap_or(usize::MAX)
}

/// `mallocx`: null where there is no memory.
#[unsafe(no_mangle)]
pub extern "C" fn mallocx(size: usize, flags: c_int) -> *mut c_void {
    let usable = nallocx(size, flags);
    if usable == 0 {
        return ptr::null_mut();
    }
    let block = entry::allocate(usable, align_of(flags), flags & ZERO != 0);
    if let Some(block) = NonNull::new(block).filter(|_| flags & ZERO != 0) {
        // Of one that is used again more may be had than of a new one.
        // SAFETY: the block is nobody's yet.
        unsafe { clear_behind(block, usable) };
    }
    block.cast()
}

/// Clears what a block has beyond so many bytes.
///
/// # Safety
/// A live block, of whose bytes from there on nobody uses any.
unsafe fn clear_behind(block: NonNull<u8>, bytes: usize) {
    // SAFETY: the caller's promise.
    let usable = unsafe { entry::usable_size(block.as_ptr()) };
    if let Some(more) = usable.checked_sub(bytes) {
        // SAFETY: within the block.
        unsafe { block.add(bytes).write_bytes(0, more) };
    }
}

/// `rallocx`: null where there is no memory, and then the block is as it was.
///
/// # Safety
/// A live block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rallocx(block: *mut c_void, size: usize, flags: c_int) -> *mut c_void {
    let Some(block) = NonNull::new(block.cast::<u8>()) else { return mallocx(size, flags) };
    // All of it may be used, so all of it comes along.
    let usable = nallocx(size, flags);
    if usable == 0 {
        return ptr::null_mut();
    }
    // SAFETY: the caller's promise.
    let before = unsafe { entry::usable_size(block.as_ptr()) };
    // SAFETY: likewise.
    let Some(moved) = NonNull::new(unsafe { entry::reallocate(block, usable, align_of(flags)) }) else {
        return ptr::null_mut();
    };
    if flags & ZERO != 0 {
        let old = if moved == block { before } else { before.min(usable) };
        // SAFETY: the block is the caller's from here on.
        unsafe { clear_behind(moved, old) };
    }
    moved.as_ptr().cast()
}

/// `xallocx`: makes the block `size` bytes long where it is, or up to `extra` more; how many it has then.
///
/// # Safety
/// A live block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn xallocx(block: *mut c_void, size: usize, extra: usize, flags: c_int) -> usize {
    let Some(block) = NonNull::new(block.cast::<u8>()) else { return 0 };
    // SAFETY: the caller's promise.
    let before = unsafe { entry::usable_size(block.as_ptr()) };
    // SAFETY: likewise.
    let resize = |size| unsafe { entry::resize_in_place(block, size) };
    let is_resized = size.checked_add(extra).is_some_and(resize) || extra > 0 && resize(size);
    if is_resized && flags & ZERO != 0 {
        // SAFETY: the block is the caller's; what it has grown by is nobody's yet.
        unsafe { clear_behind(block, before) };
    }
    // SAFETY: as above.
    unsafe { entry::usable_size(block.as_ptr()) }
}

/// `sallocx`: bytes of the block that may be used.
///
/// # Safety
/// A live block.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sallocx(block: *const c_void, _: c_int) -> usize {
    // SAFETY: the caller's promise.
    unsafe { entry::usable_size(block.cast_mut().cast()) }
}

/// `dallocx`.
///
/// # Safety
/// A live block that is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn dallocx(block: *mut c_void, _: c_int) {
    // SAFETY: the caller's promise.
    unsafe { entry::free(block.cast()) };
}

/// `sdallocx`.
///
/// # Safety
/// As [`dallocx`]; the size is between the one that was asked for and what may be used.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn sdallocx(block: *mut c_void, _: usize, _: c_int) {
    // SAFETY: the caller's promise.
    unsafe { entry::free(block.cast()) };
}

/// `nallocx`: bytes that a block would have; 0 where there can be none.
#[unsafe(no_mangle)]
pub extern "C" fn nallocx(size: usize, flags: c_int) -> usize {
    entry::usable_size_of_new(size, align_of(flags)).unwrap_or(0)
}

/// What can be asked for by name.
#[derive(Clone, Copy)]
enum Answer {
    /// Text.
    Version,
    /// A number that goes up each time that it is written to; figures are always of now.
    Epoch,
    /// Bytes that the program holds.
    Allocated,
    /// Bytes of what it lies in.
    Active,
    /// Likewise, with what waits to be used again.
    Resident,
    /// How many arenas there are.
    Arenas,
    /// Gives back what nobody uses.
    Purge,
}

/// Names, of which a number in one may be any.
const NAMES: [(&CStr, Answer); 11] = [
    (c"version", Answer::Version),
    (c"epoch", Answer::Epoch),
    (c"stats.allocated", Answer::Allocated),
    (c"stats.active", Answer::Active),
    (c"stats.resident", Answer::Resident),
    (c"stats.mapped", Answer::Resident),
    (c"arenas.narenas", Answer::Arenas),
    (c"opt.narenas", Answer::Arenas),
    (c"arena.0.purge", Answer::Purge),
    (c"arena.0.decay", Answer::Purge),
    (c"thread.tcache.flush", Answer::Purge),
];

fn parts(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.split(|byte| *byte == b'.')
}

fn is_number(part: &[u8]) -> bool {
    !part.is_empty() && part.iter().all(u8::is_ascii_digit)
}

/// The number that a part of a name is; one that no arena has where it is too large; else 0.
fn number_of(part: &[u8]) -> usize {
    let digits = part.iter().filter(|_| is_number(part));
    digits.fold(0, |number: usize, digit| number.saturating_mul(10).saturating_add(usize::from(digit - b'0')))
}

/// The number that stands in a name.
fn number_in(name: &CStr) -> usize {
    parts(name.to_bytes()).map(number_of).max().unwrap_or(0)
}

/// The place of a name among those that are known.
fn place_of(name: &CStr) -> Option<usize> {
    let alike = |known: &CStr| {
        let mut theirs = parts(name.to_bytes());
        let same = parts(known.to_bytes())
            .all(|part| theirs.next().is_some_and(|their| their == part || is_number(part) && is_number(their)));
        same && theirs.next().is_none()
    };
    NAMES.iter().position(|(known, _)| alike(known))
}

static EPOCH: AtomicU64 = AtomicU64::new(1);

/// Where an answer is wanted, if it is.
struct Reply {
    place: *mut c_void,
    length: *mut usize,
}

impl Reply {
    /// # Safety
    /// Both are null or can be written to: so many bytes as the length says.
    unsafe fn new(place: *mut c_void, length: *mut usize) -> Self {
        Reply { place, length }
    }

    /// Writes the answer; where what is wanted has another length, as much of it as there is room for, and then it is `EINVAL`.
    fn write<T>(self, value: T) -> c_int {
        // SAFETY: as `new` was promised.
        let length = unsafe { self.length.as_mut() };
        let Some(length) = length.filter(|_| !self.place.is_null()) else { return 0 };
        let is_right = *length == size_of::<T>();
        *length = (*length).min(size_of::<T>());
        // SAFETY: as `new` was promised.
        unsafe { self.place.cast::<u8>().copy_from_nonoverlapping((&raw const value).cast(), *length) };
        if is_right { 0 } else { libc::EINVAL }
    }
}

/// All arenas (`MALLCTL_ARENAS_ALL` of jemalloc's header).
const ALL_ARENAS: usize = 4096;

/// What `mallctl` gives for the name at that place, in which that number stands; what is written, if anything is, has so many
/// bytes.
fn control(place: usize, number: usize, reply: Reply, written: Option<usize>) -> c_int {
    let Some((_, wanted)) = NAMES.get(place) else { return libc::ENOENT };
    match (wanted, written) {
        (_, None) => {}
        (Answer::Epoch, Some(length)) if length == size_of::<u64>() => {}
        (Answer::Epoch, Some(_)) => return libc::EINVAL,
        _ => return libc::EPERM,
    }
    let is_written = written.is_some();
    match wanted {
        Answer::Version => reply.write(c"homing".as_ptr()),
        Answer::Epoch => {
            let more = u64::from(is_written);
            reply.write(EPOCH.fetch_add(more, Ordering::Relaxed) + more)
        }
        Answer::Allocated => reply.write(homing::stats().live),
        Answer::Active => reply.write(homing::stats().used),
        Answer::Resident => {
            let stats = homing::stats();
            reply.write(stats.used + stats.dirty)
        }
        Answer::Arenas => reply.write(homing::stats().arenas as c_uint),
        Answer::Purge if number != ALL_ARENAS && number >= homing::stats().arenas.max(1) => libc::ENOENT,
        Answer::Purge => {
            entry::trim();
            0
        }
    }
}

/// `mallctl`: 0, or the error: `ENOENT` for a name that is not known or an arena that is not there, `EINVAL` for another length
/// than the answer has, `EPERM` for what cannot be written.
///
/// # Safety
/// The name is a C string. `old` and `length` are null or can be written to, so many bytes; `new` is null or can be read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mallctl(
    name: *const c_char,
    old: *mut c_void,
    length: *mut usize,
    new: *mut c_void,
    new_length: usize,
) -> c_int {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    // SAFETY: likewise.
    let reply = unsafe { Reply::new(old, length) };
    let written = (!new.is_null()).then_some(new_length);
    place_of(name).map_or(libc::ENOENT, |place| control(place, number_in(name), reply, written))
}

/// `mallctlnametomib`: as many words as the name has parts: its place, and the number where one stands in it.
///
/// # Safety
/// The name is a C string; so many words of `mib` can be written as `length` says, which can be written too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mallctlnametomib(name: *const c_char, mib: *mut usize, length: *mut usize) -> c_int {
    // SAFETY: the caller's promise.
    let name = unsafe { CStr::from_ptr(name) };
    let Some(place) = place_of(name) else { return libc::ENOENT };
    // SAFETY: likewise.
    let room = unsafe { *length };
    let mut words = 0;
    for (index, part) in parts(name.to_bytes()).enumerate().take(room) {
        // SAFETY: likewise.
        unsafe { mib.add(index).write(if index == 0 { place } else { number_of(part) }) };
        words = index + 1;
    }
    // SAFETY: likewise.
    unsafe { length.write(words) };
    0
}

/// `mallctlbymib`.
///
/// # Safety
/// As for [`mallctl`]; `mib` has so many words, which [`mallctlnametomib`] wrote.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mallctlbymib(
    mib: *const usize,
    words: usize,
    old: *mut c_void,
    length: *mut usize,
    new: *mut c_void,
    new_length: usize,
) -> c_int {
    if words == 0 {
        return libc::ENOENT;
    }
    // SAFETY: the caller's promise.
    let (place, reply) = unsafe { (*mib, Reply::new(old, length)) };
    if NAMES.get(place).is_none_or(|(name, _)| parts(name.to_bytes()).count() != words) {
        return libc::ENOENT;
    }
    // SAFETY: likewise; a number, if there is one, is the second word.
    let number = if words > 1 { unsafe { mib.add(1).read() } } else { 0 };
    control(place, number, reply, (!new.is_null()).then_some(new_length))
}

/// `malloc_stats_print`: a few lines to the function, or to standard error.
///
/// # Safety
/// The function is null, or may be called with what stands for it and a C string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_stats_print(
    write: Option<unsafe extern "C" fn(*mut c_void, *const c_char)>,
    stands_for_it: *mut c_void,
    _: *const c_char,
) {
    match write {
        None => entry::write_stats(),
        // SAFETY: the caller's promise.
        Some(write) => entry::each_line_of_stats(&mut |line| unsafe { write(stands_for_it, line.as_ptr()) }),
    }
}
