//! Address space and pages: `mmap(2)`, `mprotect(2)`, `madvise(2)`, `mremap(2)`.

use core::ptr::{self, NonNull};

use super::keeping_errno;
use crate::arith::{self, align_up};
use crate::os::Moved;
use crate::os::fault::{self, Call};
use crate::sync::{AtomicU8, AtomicUsize, Ordering};

/// Bytes in a page of this kernel (4 KiB to 64 KiB), asked for once at run time.
#[inline]
pub(crate) fn page_size() -> usize {
    static PAGE: AtomicUsize = AtomicUsize::new(0);
    match PAGE.load(Ordering::Relaxed) {
        0 => {
            // SAFETY: `getauxval` reads the process's auxiliary vector; it has no preconditions.
            let page = unsafe { libc::getauxval(libc::AT_PAGESZ) } as usize;
            let page = fault::pretended_page().unwrap_or(page);
            let page = if page.is_power_of_two() { page } else { 4096 };
            PAGE.store(page, Ordering::Relaxed);
            page
        }
        page => page,
    }
}

/// Whether [`map_near`] maps where it is asked to, if nothing is there.
pub(crate) const MAPS_WHERE_ASKED: bool = true;

/// Maps `size` bytes, whole pages, that can be read and written and are zero: at that address if nothing is there, elsewhere
/// if something is. `None` where the kernel refuses.
pub(crate) fn map_near(address: usize, size: usize) -> Option<NonNull<u8>> {
    let is_ignored = address != 0 && fault::fails(Call::Wish);
    map_by(if is_ignored { 0 } else { address }, size, 0)
}

fn map_by(address: usize, size: usize, flags: i32) -> Option<NonNull<u8>> {
    if fault::fails(Call::Map) {
        return None;
    }
    owed::settle();
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    // SAFETY: without MAP_FIXED, a new mapping touches no existing memory, whatever address is wished for.
    let start =
        keeping_errno(|| unsafe { libc::mmap(ptr::without_provenance_mut(address), size, protection, flags, -1, 0) });
    if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) }
}

/// Maps likewise, `lead` bytes behind any multiple of `align`. All are whole pages, `align` is a power of two.
pub(crate) fn map_aligned(lead: usize, size: usize, align: usize) -> Option<NonNull<u8>> {
    let is_aligned = |start: NonNull<u8>| start.addr().get().wrapping_sub(lead).is_multiple_of(align);
    let take_back = |start: NonNull<u8>, size: usize| keeping_errno(|| unmap_or_owe(start, size));
    let first = map_near(0, size)?;
    if is_aligned(first) {
        return Some(first);
    }
    take_back(first, size);
    // Then just before it, if that is free: where addresses are limited there may be no room for more than that.
    let below = first.addr().get().checked_sub(lead).map(|below| arith::align_down(below, align) + lead);
    if let Some(hinted) = below.and_then(|below| map_near(below, size)) {
        if is_aligned(hinted) {
            return Some(hinted);
        }
        take_back(hinted, size);
    }
    let padded = arith::sum([size, align])?;
    let base = map_near(0, padded)?;
    let wanted = align_up(base.addr().get().checked_sub(lead)?, align)? + lead;
    let head = wanted - base.addr().get();
    // SAFETY: `head < align`, so the pointer stays within the `size + align` bytes just mapped.
    let aligned = unsafe { base.add(head) };
    if head > 0 {
        take_back(base, head);
    }
    // SAFETY: `head + size < padded`, within the mapping.
    take_back(unsafe { aligned.add(size) }, align - head);
    Some(aligned)
}

/// Maps `size` bytes just there. False where something is there, or the kernel refuses.
pub(crate) fn map_at(start: NonNull<u8>, size: usize) -> bool {
    if fault::fails(Call::Commit) || is_within_pretended_page(start) {
        return false;
    }
    match map_by(start.addr().get(), size, libc::MAP_FIXED_NOREPLACE) {
        Some(mapped) if mapped == start => true,
        // Before Linux 4.17 the flag is not known, and the address is a wish.
        Some(elsewhere) => {
            keeping_errno(|| unmap_or_owe(elsewhere, size));
            false
        }
        None => false,
    }
}

/// Makes a mapping longer, from `old` bytes to `new`, where it is. False where what follows it is taken, or the kernel
/// refuses.
///
/// # Safety
/// The range is the caller's.
pub(crate) unsafe fn grow(start: NonNull<u8>, old: usize, new: usize) -> bool {
    let page = page_size();
    // SAFETY: within the range.
    let last = unsafe { start.add(old - page) };
    // By its last page: the kernel takes a range whose pages were moved for several, and would not make those longer.
    // SAFETY: without MREMAP_MAYMOVE the mapping stays where it is, and what is added was nobody's.
    let grow = || unsafe { libc::mremap(last.as_ptr().cast(), page, page + new - old, 0) != libc::MAP_FAILED };
    !fault::fails(Call::Commit) && keeping_errno(grow)
}

/// Gives the end of a mapping back, from `old` bytes to `new`. False where the kernel refuses.
///
/// # Safety
/// The range is the caller's, and nobody uses its end.
pub(crate) unsafe fn shorten(start: NonNull<u8>, old: usize, new: usize) -> bool {
    // SAFETY: within the range.
    keeping_errno(|| try_unmap(unsafe { start.add(new) }, old - new))
}

/// Gives addresses back. Where the kernel refuses (in the middle of a mapping, at its limit of them), it is asked again
/// later, and the contents go back meanwhile.
fn unmap_or_owe(start: NonNull<u8>, size: usize) {
    if !try_unmap(start, size) {
        if !fault::fails(Call::Purge) {
            // SAFETY: as in `try_unmap`. Dropping nobody's contents needs no other mapping.
            unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_DONTNEED) };
        }
        owed::note(start, size);
    }
}

fn try_unmap(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: callers pass parts of mappings this module made and nobody else knows of yet or any more.
    !fault::fails(Call::Unmap) && unsafe { libc::munmap(start.as_ptr().cast(), size) } == 0
}

/// Asks the kernel again to take back what it did not take when it was given back.
pub(crate) fn release_refused() {
    keeping_errno(owed::settle);
}

/// Addresses that the kernel did not take back.
mod owed {
    use core::ptr::{self, NonNull};

    use super::try_unmap;
    use crate::sync::{AtomicUsize, Ordering};

    struct Range {
        /// Where it starts; `NONE`: the place is empty; `BUSY`: somebody is at it.
        start: AtomicUsize,
        size: AtomicUsize,
    }

    const NONE: usize = 0;
    const BUSY: usize = 1;

    /// As many as fit: what does not is lost for as long as the process runs, but nothing is in memory there.
    static RANGES: [Range; 128] = [const { Range { start: AtomicUsize::new(NONE), size: AtomicUsize::new(0) } }; 128];
    /// How many there are.
    static COUNT: AtomicUsize = AtomicUsize::new(0);

    pub(super) fn note(start: NonNull<u8>, size: usize) {
        for range in &RANGES {
            if range.start.compare_exchange(NONE, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok() {
                range.size.store(size, Ordering::Relaxed);
                range.start.store(start.as_ptr().expose_provenance(), Ordering::Release);
                COUNT.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }

    /// Offers all of them to the kernel again, until it refuses one.
    pub(super) fn settle() {
        if COUNT.load(Ordering::Relaxed) == 0 {
            return;
        }
        for range in &RANGES {
            let found = range.start.load(Ordering::Relaxed);
            if found <= BUSY || range.start.compare_exchange(found, BUSY, Ordering::Acquire, Ordering::Relaxed).is_err()
            {
                continue;
            }
            let start = NonNull::new(ptr::with_exposed_provenance_mut(found));
            let taken = start.is_none_or(|start| try_unmap(start, range.size.load(Ordering::Relaxed)));
            range.start.store(if taken { NONE } else { found }, Ordering::Release);
            if !taken {
                return;
            }
            COUNT.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// Gives memory back to the kernel for good, addresses and all.
///
/// # Safety
/// `start..start + size` is whole pages that were mapped here, and nobody uses it any more.
pub(crate) unsafe fn unmap(start: NonNull<u8>, size: usize) {
    keeping_errno(|| unmap_or_owe(start, size));
}

/// Whether a kernel with larger pages, made up by a test, would refuse a range that begins there.
fn is_within_pretended_page(start: NonNull<u8>) -> bool {
    fault::pretended_page().is_some_and(|page| !start.addr().get().is_multiple_of(page))
}

/// Has every access to the range end the process, from now on. Nothing where the kernel refuses.
///
/// # Safety
/// The range is whole pages mapped here, the caller's, and nobody uses it.
pub(crate) unsafe fn forbid(start: NonNull<u8>, size: usize) {
    // SAFETY: nobody uses the range.
    keeping_errno(|| unsafe { libc::mprotect(start.as_ptr().cast(), size, libc::PROT_NONE) });
}

/// Gives the pages that lie wholly in the range back to the kernel. True where all of them read as zero from now on.
///
/// # Safety
/// The range is committed and the caller's, and its contents may be lost.
pub(crate) unsafe fn purge(start: NonNull<u8>, size: usize) -> bool {
    if fault::fails(Call::Purge) || is_within_pretended_page(start) {
        return false;
    }
    // SAFETY: the caller gives the contents up.
    keeping_errno(|| unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_DONTNEED) == 0 })
}

/// Touches the pages of the range in one call, where the kernel can (Linux 5.14); elsewhere does nothing.
///
/// # Safety
/// The range is committed and the caller's.
pub(crate) unsafe fn populate(start: NonNull<u8>, size: usize) {
    static REFUSED: AtomicU8 = AtomicU8::new(0);
    if REFUSED.load(Ordering::Relaxed) != 0 || fault::fails(Call::Advise) {
        return;
    }
    // SAFETY: populating the caller's own committed pages changes no contents.
    let refused = keeping_errno(|| unsafe {
        libc::madvise(start.as_ptr().cast(), size, libc::MADV_POPULATE_WRITE) != 0 && super::errno() == libc::EINVAL
    });
    if refused {
        REFUSED.store(1, Ordering::Relaxed);
    }
}

/// Obtains the pages of the range, all of which reads as zero or may be lost. False where the kernel has not so many.
///
/// # Safety
/// The range is committed and the caller's, and nothing in it is in use.
pub(crate) unsafe fn obtain_pages(start: NonNull<u8>, size: usize) -> bool {
    if fault::fails(Call::Commit) {
        return false;
    }
    keeping_errno(|| {
        // SAFETY: populating the caller's own committed pages changes no contents.
        if unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_POPULATE_WRITE) } == 0 {
            return true;
        }
        // Before Linux 5.14: a byte a page is touched.
        let by_hand = super::errno() == libc::EINVAL;
        for offset in (0..if by_hand { size } else { 0 }).step_by(page_size()) {
            // SAFETY: within the range, of which nothing is in use.
            unsafe { start.add(offset).write_volatile(0) };
        }
        by_hand
    })
}

/// Keeps transparent huge pages away from the range: one touched page is to cost one page.
///
/// # Safety
/// The range is the caller's.
pub(crate) unsafe fn refuse_huge_pages(start: NonNull<u8>, size: usize) {
    if !fault::fails(Call::Advise) {
        // SAFETY: advice about the caller's own range; contents are untouched.
        keeping_errno(|| unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_NOHUGEPAGE) });
    }
}

/// Has core dumps leave the range out (core(5)).
///
/// # Safety
/// The pages are the caller's.
pub(crate) unsafe fn leave_out_of_dumps(start: NonNull<u8>, size: usize) {
    if !fault::fails(Call::Advise) {
        // SAFETY: advice about the caller's own pages; contents are untouched.
        keeping_errno(|| unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_DONTDUMP) });
    }
}

/// Moves the pages of `old..old + size` to `new`, where they replace what is mapped. Not before Linux 5.7. The old place stays
/// mapped, and reads as zero.
///
/// # Safety
/// Both ranges are whole pages of mappings made here, the caller's, apart from each other, and nothing at `new` is in use.
pub(crate) unsafe fn move_pages(old: NonNull<u8>, size: usize, new: NonNull<u8>) -> Moved {
    keeping_errno(|| {
        let mark = Mark::put(new);
        let refused = if fault::fails(Call::Move) {
            libc::ENOMEM
        } else if fault::fails(Call::MoveAfterUnmap) {
            // SAFETY: nothing at `new` is in use. The kernel itself goes no further than this.
            unsafe { libc::munmap(new.as_ptr().cast(), size) };
            libc::ENOMEM
        } else {
            let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
            // SAFETY: both ranges are the caller's. MREMAP_DONTUNMAP leaves the old one mapped, so that nobody else can be
            // given addresses of it before its holder gives them back.
            if unsafe { libc::mremap(old.as_ptr().cast(), size, size, flags, new.as_ptr()) } != libc::MAP_FAILED {
                return Moved::Yes;
            }
            super::errno()
        };
        // Flags that a kernel does not know are refused before anything is done; else it may have made room, or not.
        if refused != libc::EINVAL && map_again(new, size) {
            return Moved::PlaceEmptied;
        }
        if mark.is_there() {
            mark.wipe();
            return Moved::No;
        }
        Moved::PlaceLost
    })
}

/// Maps memory just there again, if nothing at all is there.
fn map_again(start: NonNull<u8>, size: usize) -> bool {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED_NOREPLACE;
    if fault::fails(Call::Map) {
        return false;
    }
    // SAFETY: a new mapping that replaces nothing. (Kernels that can move pages as is done here know the flag.)
    unsafe { libc::mmap(start.as_ptr().cast(), size, protection, flags, -1, 0) == start.as_ptr().cast() }
}

/// A word at a place that is to be moved to, by which the place is known again: whether it is still there is asked of
/// the kernel, since reading what may be gone would end the process.
struct Mark(NonNull<u32>);

impl Mark {
    fn value(place: NonNull<u32>) -> u32 {
        (place.as_ptr().addr() as u32).rotate_left(12) ^ 0x9e37_79b9
    }

    /// Puts it there: the place is committed, and nobody uses it.
    fn put(place: NonNull<u8>) -> Self {
        let place = place.cast();
        // SAFETY: callers pass a place as is said above, of whole pages.
        unsafe { place.write(Self::value(place)) };
        Mark(place)
    }

    /// Whether the word can be read and is what was put there (futex(2): only then does the wait begin, and end at
    /// once).
    fn is_there(&self) -> bool {
        let now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
        loop {
            // SAFETY: the kernel answers EFAULT for what is no memory, and only compares what is.
            let woken = unsafe {
                libc::syscall(libc::SYS_futex, self.0.as_ptr(), operation, Self::value(self.0), &raw const now)
            };
            match super::errno() {
                _ if woken == 0 => return true,
                libc::EINTR => {}
                error => return error == libc::ETIMEDOUT,
            }
        }
    }

    /// Puts zero there instead.
    fn wipe(self) {
        // SAFETY: it is there, committed, and still nobody's.
        unsafe { self.0.write(0) };
    }
}

/// Whether anything is mapped at the address; false where the kernel does not tell.
pub(crate) fn is_mapped(address: usize) -> bool {
    let page = page_size();
    let start = ptr::without_provenance_mut(crate::arith::align_down(address, page));
    let mut resident = 0_u8;
    // SAFETY: there is a byte for the one page; nothing is changed.
    !fault::fails(Call::Ask) && keeping_errno(|| unsafe { libc::mincore(start, page, &raw mut resident) }) == 0
}

/// Calls `visit` with each page of the range that is in memory (mincore(2)); with none where the kernel does not tell.
pub(crate) fn each_resident_page(start: NonNull<u8>, size: usize, mut visit: impl FnMut(NonNull<u8>)) {
    let page = page_size();
    let mut resident = [0_u8; 512];
    let step = (resident.len() * page).max(1);
    for first in (0..size).step_by(step) {
        let bytes = (size - first).min(step);
        // SAFETY: the array has a byte for each page; nothing is changed.
        let told = !fault::fails(Call::Ask)
            && keeping_errno(|| unsafe {
                libc::mincore(start.as_ptr().add(first).cast(), bytes, resident.as_mut_ptr().cast())
            }) == 0;
        let pages = if told { bytes.checked_div(page).unwrap_or(0) } else { 0 };
        for (index, _) in resident.iter().enumerate().take(pages).filter(|(_, state)| **state & 1 != 0) {
            // SAFETY: within the range.
            visit(unsafe { start.add(first + index * page) });
        }
    }
}

/// Bytes of memory that the machine has (sysinfo(2)); 0 where the kernel does not tell.
pub(crate) fn total_memory() -> usize {
    keeping_errno(|| {
        let mut info = core::mem::MaybeUninit::<libc::sysinfo>::zeroed();
        if !fault::fails(Call::Ask) {
            // SAFETY: the buffer has the type the call fills.
            unsafe { libc::sysinfo(info.as_mut_ptr()) };
        }
        // SAFETY: zeroed at least, and every field is an integer.
        let info = unsafe { info.assume_init() };
        (info.totalram as usize).saturating_mul(info.mem_unit as usize)
    })
}

/// Bytes of the process that are in memory now, from `/proc/self/statm`; `None` where there is none to read.
pub(crate) fn resident_bytes() -> Option<usize> {
    let mut buffer = [0_u8; 128];
    let read = super::read_file(c"/proc/self/statm", &mut buffer)?;
    let mut fields = buffer.get(..read)?.split(|byte| *byte == b' ');
    arith::times(fields.nth(1).and_then(arith::decimal)?, page_size())
}

/// The most bytes of the process that were in memory at once since it runs this program, from `/proc/self/status`
/// (`getrusage(2)` tells of what it ran before, too); `None` where there is none to read.
pub(crate) fn peak_resident_bytes() -> Option<usize> {
    let mut buffer = [0_u8; 2048];
    let read = super::read_file(c"/proc/self/status", &mut buffer)?;
    let mut lines = buffer.get(..read)?.split(|byte| *byte == b'\n');
    let value = lines.find_map(|line| line.strip_prefix(b"VmHWM:"))?;
    arith::times(value.trim_ascii().strip_suffix(b" kB").and_then(arith::decimal)?, 1024)
}
