//! Address space and pages: `mmap(2)`, `mprotect(2)`, `madvise(2)`, `mremap(2)`.

use core::ptr::{self, NonNull};

use super::keeping_errno;
use crate::arith::align_up;
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
            let page = if page.is_power_of_two() { page } else { 4096 };
            PAGE.store(page, Ordering::Relaxed);
            page
        }
        page => page,
    }
}

/// Whether the process may have so much address space and no more (`RLIMIT_AS`, setrlimit(2)).
pub(crate) fn addresses_are_limited() -> bool {
    let mut limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the buffer has the type the call fills.
    keeping_errno(|| unsafe { libc::getrlimit(libc::RLIMIT_AS, &raw mut limit) });
    limit.rlim_cur != libc::RLIM_INFINITY
}

/// Reserves `size` bytes of address space aligned to `align` (both multiples of the page size, `align` a power of two).
/// Nothing can be read or written there until [`commit`]. `None` where the kernel refuses.
pub(crate) fn reserve(size: usize, align: usize) -> Option<NonNull<u8>> {
    if fault::fails(Call::Map) {
        return None;
    }
    keeping_errno(|| {
        // Often the kernel's first answer is aligned already; ask for more only where it is not.
        let first = map_inaccessible(size)?;
        if (first.as_ptr() as usize).is_multiple_of(align) {
            return Some(first);
        }
        unmap(first, size);
        // Then just before it, if that is free: where addresses are limited there may be no room for more than that.
        let below = (first.as_ptr() as usize).checked_sub(align).and_then(|below| align_up(below, align));
        if let Some(hinted) = below.and_then(|below| map_near(below, size)) {
            if (hinted.as_ptr() as usize).is_multiple_of(align) {
                return Some(hinted);
            }
            unmap(hinted, size);
        }
        let padded = size.checked_add(align)?;
        let base = map_inaccessible(padded)?;
        let start = base.as_ptr() as usize;
        let head = align_up(start, align)? - start;
        // SAFETY: `head <= align`, so the pointer stays within the `size + align` bytes just mapped.
        let aligned = unsafe { base.add(head) };
        if head > 0 {
            unmap(base, head);
        }
        if head < align {
            // SAFETY: `head + size < padded`, within the mapping.
            unmap(unsafe { aligned.add(size) }, align - head);
        }
        Some(aligned)
    })
}

fn map_inaccessible(size: usize) -> Option<NonNull<u8>> {
    map_near(0, size)
}

/// Maps at that address if nothing is there, elsewhere if something is.
fn map_near(address: usize, size: usize) -> Option<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: without MAP_FIXED, a new mapping touches no existing memory, whatever address is wished for.
    let start = unsafe { libc::mmap(ptr::without_provenance_mut(address), size, libc::PROT_NONE, flags, -1, 0) };
    if start == libc::MAP_FAILED { None } else { NonNull::new(start.cast()) }
}

fn unmap(start: NonNull<u8>, size: usize) {
    // SAFETY: callers pass parts of mappings this module made and nobody else knows of yet or any more.
    unsafe { libc::munmap(start.as_ptr().cast(), size) };
}

/// Gives reserved address space back to the kernel for good.
///
/// # Safety
/// `start..start + size` is whole pages out of [`reserve`], and nobody uses it any more.
pub(crate) unsafe fn release(start: NonNull<u8>, size: usize) {
    keeping_errno(|| unmap(start, size));
}

/// Makes reserved memory readable and writable; what was never touched reads as zero. False where the kernel refuses.
///
/// # Safety
/// `start..start + size` is whole pages out of [`reserve`] that belong to the caller.
pub(crate) unsafe fn commit(start: NonNull<u8>, size: usize) -> bool {
    if fault::fails(Call::Commit) {
        return false;
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: the caller owns the range; making it accessible invalidates nothing.
    keeping_errno(|| unsafe { libc::mprotect(start.as_ptr().cast(), size, protection) == 0 })
}

/// Has every access to the range end the process, from now on. Nothing where the kernel refuses.
///
/// # Safety
/// The range is whole pages out of [`reserve`], the caller's, and nobody uses it.
pub(crate) unsafe fn forbid(start: NonNull<u8>, size: usize) {
    // SAFETY: nobody uses the range.
    keeping_errno(|| unsafe { libc::mprotect(start.as_ptr().cast(), size, libc::PROT_NONE) });
}

/// Drops the contents and makes the range inaccessible again; it stays reserved. False where the kernel refuses to drop
/// them: they would be there when the range is committed again.
///
/// # Safety
/// As [`commit`]; nobody uses the contents any more.
#[must_use]
pub(crate) unsafe fn decommit(start: NonNull<u8>, size: usize) -> bool {
    keeping_errno(|| {
        // SAFETY: the caller gives the contents up.
        let dropped = !fault::fails(Call::Purge)
            && unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_DONTNEED) } == 0;
        if dropped {
            // SAFETY: nobody uses the range any more, so making it inaccessible hurts nobody.
            unsafe { libc::mprotect(start.as_ptr().cast(), size, libc::PROT_NONE) };
            return true;
        }
        // Locked memory (mlock(2)) is not dropped by advice, but by a new mapping in its place. It loses its node.
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
        // SAFETY: the range is the caller's, reserved by this module, and its contents are given up.
        unsafe { libc::mmap(start.as_ptr().cast(), size, libc::PROT_NONE, flags, -1, 0) != libc::MAP_FAILED }
    })
}

/// Gives the pages that lie wholly in the range back to the kernel. True where all of them read as zero from now on.
///
/// # Safety
/// The range is committed and the caller's, and its contents may be lost.
pub(crate) unsafe fn purge(start: NonNull<u8>, size: usize) -> bool {
    if fault::fails(Call::Purge) {
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
    if REFUSED.load(Ordering::Relaxed) != 0 {
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
    // SAFETY: advice about the caller's own range; contents are untouched.
    keeping_errno(|| unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_NOHUGEPAGE) });
}

/// Moves the pages of `old..old + size` to `new`, where they replace what is reserved. Not before Linux 5.7, nor where
/// addresses are limited, since the old place stays.
///
/// # Safety
/// Both ranges are whole pages out of [`reserve`], the caller's, committed, apart from each other, and nothing at `new`
/// is in use.
pub(crate) unsafe fn move_pages(old: NonNull<u8>, size: usize, new: NonNull<u8>) -> Moved {
    // A limit on addresses is found exceeded only after room was made at the new place.
    if fault::fails(Call::Move) || addresses_are_limited() {
        return Moved::No;
    }
    keeping_errno(|| {
        let flags = libc::MREMAP_MAYMOVE | libc::MREMAP_FIXED | libc::MREMAP_DONTUNMAP;
        // SAFETY: both ranges are the caller's. MREMAP_DONTUNMAP leaves the old one mapped, so that no other mapping of
        // the process can come to lie in the reserved zone.
        if unsafe { libc::mremap(old.as_ptr().cast(), size, size, flags, new.as_ptr()) } != libc::MAP_FAILED {
            return Moved::Yes;
        }
        // Flags that a kernel does not know are refused before anything is done.
        if super::errno() == libc::EINVAL { Moved::No } else { Moved::PlaceLost }
    })
}

/// Bytes of memory that the machine has (sysinfo(2)); 0 where the kernel does not tell.
pub(crate) fn total_memory() -> usize {
    keeping_errno(|| {
        let mut info = core::mem::MaybeUninit::<libc::sysinfo>::zeroed();
        // SAFETY: the buffer has the type the call fills.
        unsafe { libc::sysinfo(info.as_mut_ptr()) };
        // SAFETY: zeroed at least, and every field is an integer.
        let info = unsafe { info.assume_init() };
        (info.totalram as usize).saturating_mul(info.mem_unit as usize)
    })
}

/// Bytes of the process that are in memory now, from `/proc/self/statm`; 0 where there is none to read.
pub(crate) fn resident_bytes() -> usize {
    let mut buffer = [0_u8; 128];
    let read = super::read_file(c"/proc/self/statm", &mut buffer).unwrap_or(0);
    let mut fields = buffer.get(..read).unwrap_or_default().split(|byte| *byte == b' ');
    let pages = fields.nth(1).map_or(0, |field| {
        field
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .fold(0_usize, |sum, byte| sum.wrapping_mul(10).wrapping_add(usize::from(byte - b'0')))
    });
    pages * page_size()
}

/// The most bytes of the process that were in memory at once (`getrusage(2)`).
pub(crate) fn peak_resident_bytes() -> usize {
    keeping_errno(|| {
        let mut usage = core::mem::MaybeUninit::<libc::rusage>::zeroed();
        // SAFETY: the buffer has the type the call fills.
        unsafe { libc::getrusage(libc::RUSAGE_SELF, usage.as_mut_ptr()) };
        // SAFETY: zeroed at least, and every field is an integer.
        let usage = unsafe { usage.assume_init() };
        usize::try_from(usage.ru_maxrss).unwrap_or(0) * 1024
    })
}
