//! Size classes: the sizes that slabs are carved into.
//!
//! Steps of 8 bytes to 128, of 16 to 256, then eight classes a doubling to 2 KiB and four a doubling to 64 KiB. The odd
//! multiples of 8 serve only requests whose alignment is at most 8. Slabs begin at multiples of 64 KiB and have no
//! header within, so a block of a class that is a multiple of a power of two A is aligned to A.

use crate::arith::align_up;

/// How many classes there are.
pub(crate) const CLASSES: usize = 68;

/// The largest block that a slab holds, in bytes.
pub(crate) const MAX_BLOCK: usize = 64 << 10;

/// A size class: an index below [`CLASSES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct ClassId(u8);

/// A table with a place for each class.
#[repr(transparent)]
pub(crate) struct ByClass<T>([T; CLASSES]);

impl<T> ByClass<T> {
    pub(crate) const fn new(places: [T; CLASSES]) -> Self {
        ByClass(places)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

impl<T> core::ops::Index<ClassId> for ByClass<T> {
    type Output = T;

    #[inline(always)]
    fn index(&self, class: ClassId) -> &T {
        // SAFETY: a `ClassId` is made only by the functions here, always below `CLASSES`.
        unsafe { self.0.get_unchecked(class.0 as usize) }
    }
}

static SIZES: ByClass<u32> = ByClass::new(SIZES_IN_ORDER);

const SIZES_IN_ORDER: [u32; CLASSES] = {
    let mut sizes = [0; CLASSES];
    let (mut class, mut size) = (0, 0);
    while class < CLASSES {
        size += match size {
            0..128 => 8,
            128..256 => 16,
            256..512 => 32,
            512..1024 => 64,
            1024..2048 => 128,
            2048..4096 => 512,
            4096..8192 => 1024,
            8192..16384 => 2048,
            16384..32768 => 4096,
            _ => 8192,
        };
        sizes[class] = size;
        class += 1;
    }
    sizes
};
const _: () = assert!(SIZES_IN_ORDER[CLASSES - 1] as usize == MAX_BLOCK);

/// Requests to so many bytes are looked up in units of 8 or 16, larger ones in units of `WIDE`, which all classes beyond
/// are multiples of: so the table is a few lines of the cache.
const NARROW: usize = 2048;
const WIDE: usize = 512;
const _: () = assert!(SIZES_IN_ORDER[47] as usize == NARROW && SIZES_IN_ORDER[48] as usize == NARROW + WIDE);

/// The class of each size to [`MAX_BLOCK`] among the classes that are multiples of `UNIT`: see `place`.
const fn table<const UNIT: usize, const LENGTH: usize>() -> [u8; LENGTH] {
    let mut table = [0; LENGTH];
    let mut at = 0;
    while at < LENGTH {
        let size = if at <= NARROW / UNIT { at * UNIT } else { NARROW + (at - NARROW / UNIT) * WIDE };
        let mut class = 0;
        while (SIZES_IN_ORDER[class] as usize) < size || !(SIZES_IN_ORDER[class] as usize).is_multiple_of(UNIT) {
            class += 1;
        }
        table[at] = class as u8;
        at += 1;
    }
    table
}

const fn length(unit: usize) -> usize {
    NARROW / unit + (MAX_BLOCK - NARROW) / WIDE + 1
}

static BY_8: [u8; length(8)] = table::<8, { length(8) }>();
static BY_16: [u8; length(16)] = table::<16, { length(16) }>();

/// Where a size stands in the table of that unit; `None` beyond [`MAX_BLOCK`].
#[inline(always)]
fn place(size: usize, unit: usize) -> Option<usize> {
    if size <= NARROW {
        return Some(size.wrapping_add(unit - 1) / unit);
    }
    (size <= MAX_BLOCK).then(|| size.div_ceil(WIDE) + NARROW / unit - NARROW / WIDE)
}

impl ClassId {
    /// The class of a request of `size` bytes aligned to at most 8, if it is at most [`MAX_BLOCK`].
    #[inline(always)]
    pub(crate) fn of_8(size: usize) -> Option<Self> {
        // SAFETY: `place` gives places in the table only.
        place(size, 8).map(|place| ClassId(unsafe { *BY_8.get_unchecked(place) }))
    }

    /// The class of a request of `size` bytes aligned to at most 16, if it is at most [`MAX_BLOCK`].
    #[inline(always)]
    pub(crate) fn of_16(size: usize) -> Option<Self> {
        // SAFETY: as in `of_8`.
        place(size, 16).map(|place| ClassId(unsafe { *BY_16.get_unchecked(place) }))
    }

    /// As [`of_8`](Self::of_8), if the size is among those that are looked up in units of 8.
    #[inline(always)]
    pub(crate) fn of_narrow_8(size: usize) -> Option<Self> {
        if size <= NARROW { Self::of_8(size) } else { None }
    }

    /// As [`of_16`](Self::of_16), if the size is among those that are looked up in units of 16.
    #[inline(always)]
    pub(crate) fn of_narrow_16(size: usize) -> Option<Self> {
        if size <= NARROW { Self::of_16(size) } else { None }
    }

    /// The class of any request that a slab can serve: `None` where it is too large, or asks for more than page
    /// alignments that no class gives.
    #[inline]
    pub(crate) fn of(size: usize, align: usize) -> Option<Self> {
        if align <= 8
            && let Some(class) = Self::of_8(size)
        {
            return Some(class);
        }
        let align = if align < 16 { 16 } else { align };
        let rounded = align_up(if size == 0 { 1 } else { size }, align)?;
        let least = Self::of_16(rounded)?;
        Self::all().skip(usize::from(least.0)).find(|class| class.size().is_multiple_of(align))
    }

    /// Bytes in a block of this class.
    #[inline(always)]
    pub(crate) fn size(self) -> usize {
        SIZES[self] as usize
    }

    /// What its blocks are aligned to at least, in bytes: 8 or 16.
    pub(crate) fn align(self) -> usize {
        if self.size().is_multiple_of(16) { 16 } else { 8 }
    }

    /// All of them, smallest first.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..CLASSES).map(|index| ClassId(index as u8))
    }

    /// Its number.
    pub(crate) fn number(self) -> usize {
        usize::from(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_request_gets_the_least_class_that_is_large_and_aligned_enough() {
        for shift in 0..=16 {
            let align = 1_usize << shift;
            for size in (0..=MAX_BLOCK + 100).step_by(if shift == 0 { 1 } else { 7 }) {
                let needed = size.max(1);
                let unit = if align <= 8 && size <= NARROW { 8 } else { align.max(16) };
                let least = SIZES_IN_ORDER
                    .iter()
                    .map(|size| *size as usize)
                    .find(|class| *class >= needed && class.is_multiple_of(unit));
                assert_eq!(ClassId::of(size, align).map(ClassId::size), least, "size {size} align {align}");
            }
        }
    }

    #[test]
    fn sizes_near_the_end_of_the_address_space_have_no_class_and_do_not_wrap() {
        const HALF: usize = 1 << (usize::BITS - 1);
        for size in [usize::MAX, usize::MAX - 15, isize::MAX as usize, HALF] {
            for align in [1, 8, 16, 4096, 1 << 26, HALF] {
                assert_eq!(ClassId::of(size, align), None);
            }
        }
        assert_eq!(ClassId::of(0, HALF), None);
    }

    #[test]
    fn the_average_waste_is_what_the_design_says() {
        let waste = |from: usize, to: usize| {
            let all: f64 = (from..=to).map(|n| ClassId::of(n, 8).unwrap().size() as f64 / n as f64 - 1.0).sum();
            all / (to - from + 1) as f64
        };
        assert!(waste(17, 128) < 0.08, "{}", waste(17, 128));
        assert!(waste(129, 2048) < 0.05, "{}", waste(129, 2048));
        assert!(waste(2049, MAX_BLOCK) < 0.09, "{}", waste(2049, MAX_BLOCK));
    }
}
