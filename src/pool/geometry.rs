//! Where in a slab what stands: computed from a type's size and alignment, when the program is compiled.
//!
//! Objects are numbered from the slab's start in strides of their size, as if they began there; those numbers that the
//! header covers are nobody's. An object's index counts from the first that is one. So an object's number is its offset divided by a constant, its address its number times
//! one, and no start has to be subtracted or added.

use crate::arith;

/// The layout of all slabs of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Geometry {
    /// Bytes from an object to the next.
    pub(super) stride: usize,
    /// Bytes of the object's type.
    pub(super) size: usize,
    /// Bytes of a slab, which is aligned to as much: a power of two.
    pub(super) slab: usize,
    /// The number of the first object.
    pub(super) first: usize,
    /// Objects in a slab.
    pub(super) objects: usize,
    /// Bytes from the slab's start to what other threads write to.
    pub(super) shared_at: usize,
    /// What the stride's odd part has to be multiplied by to give 1, higher bits left out.
    inverse: usize,
}

/// Bytes of a cache line: what the user writes and what others write to stand in lines of their own. Also flags in a word.
pub(super) const LINE: usize = 64;
/// Within slabs of so many bytes offsets are numbers of 32 bits, which are faster to divide.
const NARROW: u64 = 1 << 32;
/// Bytes of the slab of most types.
const USUAL: usize = 64 << 10;
/// The slabs of small types have room for so many, header included.
const MANY: usize = 4096;

/// The least number of objects in a slab: fewer, the larger they are, since what one pool keeps ready is kept from others.
const fn least_objects(stride: usize) -> usize {
    match stride {
        0..=0x8000 => 8,
        0x8001..=0x4_0000 => 4,
        _ => 3,
    }
}

impl Geometry {
    /// The layout for objects of that size and alignment, as a type has them. Of objects too large to have any three in the
    /// address space a slab is so large that no memory is ever found for one.
    pub(super) const fn of(size: usize, align: usize) -> Self {
        // An object of no size has an address of its own all the same, which tells whether it is out.
        let stride = if size == 0 { align } else { size };
        let mut slab = if stride < USUAL / MANY { MANY * stride.next_power_of_two() } else { USUAL };
        loop {
            let mut objects = slab / stride;
            // One too many now and then: a smaller number has a smaller header.
            while objects > 0 && header(objects).div_ceil(stride) > slab / stride - objects {
                objects -= 1;
            }
            if objects >= least_objects(stride) || slab > arith::MAX_SIZE {
                let first = header(objects).div_ceil(stride);
                let inverse = inverse(stride >> stride.trailing_zeros());
                return Geometry { stride, size, slab, first, objects, shared_at: shared_at(objects), inverse };
            }
            slab *= 2;
        }
    }

    /// How many objects of a slab must be free before objects are taken from it again: one in 16, so that looking through
    /// its flags is worth it.
    pub(super) const fn worthwhile(&self) -> usize {
        let sixteenth = self.objects / 16;
        if sixteenth == 0 { 1 } else { sixteenth }
    }

    /// The number of the object at so many bytes from the slab's start. A division by a constant where the layout is one.
    #[inline(always)]
    pub(super) const fn number_at(&self, offset: usize) -> usize {
        if self.slab as u64 <= NARROW { (offset as u32 / self.stride as u32) as usize } else { offset / self.stride }
    }

    /// The number of the object that starts so many bytes from the slab's start. Where none can start, a number that is no object's:
    /// to multiply by the inverse and to rotate gives each offset a result of its own, and multiples of the stride have all the
    /// small ones, their quotients (Granlund and Montgomery, "Division by Invariant Integers using Multiplication", 9).
    #[inline(always)]
    pub(super) const fn number_starting_at(&self, offset: usize) -> usize {
        let zeros = self.stride.trailing_zeros();
        if self.slab as u64 <= NARROW {
            (offset as u32).wrapping_mul(self.inverse as u32).rotate_right(zeros) as usize
        } else {
            offset.wrapping_mul(self.inverse).rotate_right(zeros)
        }
    }

    /// Words of 64 objects in a slab.
    pub(super) const fn words(&self) -> usize {
        self.objects.div_ceil(64)
    }

    /// The largest alignment that every object has.
    #[cfg(any(test, feature = "allocator-api2"))]
    pub(super) const fn align(&self) -> usize {
        1 << self.stride.trailing_zeros()
    }
}

/// What an odd number has to be multiplied by to give 1, higher bits left out.
const fn inverse(odd: usize) -> usize {
    // Three bits are right in the number itself, and twice as many after each step of Newton's.
    let mut inverse = odd;
    while inverse.wrapping_mul(odd) != 1 {
        inverse = inverse.wrapping_mul(2_usize.wrapping_sub(odd.wrapping_mul(inverse)));
    }
    inverse
}

/// Bytes to the part of the header that others write to: after the user's counts, and a byte an object.
const fn shared_at(objects: usize) -> usize {
    LINE + objects.next_multiple_of(LINE)
}

/// Bytes of the header: after a line of counts that others write to, a bit an object.
const fn header(objects: usize) -> usize {
    shared_at(objects) + LINE + objects.div_ceil(64) * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes and alignments of types: multiples of their alignments, to the ends of what types can have.
    fn kinds() -> Vec<(usize, usize)> {
        let mut kinds = Vec::new();
        for shift in 0..30 {
            let align = 1_usize << shift;
            for count in [0, 1, 2, 3, 5, 7, 8, 9, 100, 1023, 4097, 1 << 20] {
                kinds
                    .extend(align.checked_mul(count).filter(|size| *size <= arith::MAX_SIZE).map(|size| (size, align)));
            }
        }
        kinds.extend([(1 << (usize::BITS - 2), 1), (isize::MAX as usize, 1), (1 << (usize::BITS - 3), 1 << 29)]);
        kinds
    }

    #[test]
    fn no_object_overlaps_the_header_or_ends_beyond_its_slab() {
        for (size, align) in kinds() {
            let geometry = Geometry::of(size, align);
            let Geometry { stride, slab, first, objects, shared_at, .. } = geometry;
            let words = geometry.words();
            if slab > arith::MAX_SIZE {
                continue;
            }
            assert!(slab.is_power_of_two() && slab >= align, "{geometry:?}");
            assert!(stride >= size.max(1) && stride.is_multiple_of(align), "{geometry:?}");
            assert!(first * stride >= shared_at + LINE + words * 8, "{geometry:?}");
            assert!(shared_at >= LINE + words * 64 && shared_at.is_multiple_of(LINE), "{geometry:?}");
            assert!((first + objects) * stride <= slab && objects <= words * 64, "{geometry:?}");
            assert!(objects >= 3, "{geometry:?}");
            assert!(geometry.worthwhile() <= objects, "{geometry:?}");
            assert!(geometry.align() >= align, "{geometry:?}");
            // Nothing lies idle but what the last object leaves.
            assert!(stride > 4096 || slab - (first + objects) * stride < stride + LINE + 8, "{geometry:?}");
        }
    }

    #[test]
    fn every_offset_into_an_object_divides_to_its_number_and_no_other() {
        for (size, align) in kinds() {
            let geometry = Geometry::of(size, align);
            if geometry.slab as u64 > 1 << 40 || geometry.slab > arith::MAX_SIZE {
                continue;
            }
            for number in geometry.first..geometry.first + geometry.objects {
                let start = number * geometry.stride;
                for offset in [start, start + geometry.stride / 2, start + geometry.stride - 1] {
                    assert_eq!(geometry.number_at(offset), number, "{geometry:?}");
                }
            }
        }
    }

    #[test]
    fn no_offset_but_that_of_an_objects_start_gives_the_number_of_an_object() {
        for (size, align) in kinds() {
            let geometry = Geometry::of(size, align);
            let Geometry { stride, slab, first, objects, .. } = geometry;
            if slab as u64 > 1 << 40 || slab > arith::MAX_SIZE {
                continue;
            }
            let check = |offset: usize| {
                let number = geometry.number_starting_at(offset);
                let starts = offset.is_multiple_of(stride) && (first..first + objects).contains(&(offset / stride));
                assert_eq!((first..first + objects).contains(&number), starts, "{offset}: {geometry:?}");
                assert!(!starts || number == offset / stride, "{offset}: {geometry:?}");
            };
            if slab <= 1 << 16 {
                (0..slab).for_each(check);
            } else {
                for start in (0..=slab / stride).map(|number| number * stride) {
                    let around = [start.wrapping_sub(1), start, start + 1, start + stride / 2, start + stride / 3];
                    around.into_iter().filter(|offset| *offset < slab).for_each(check);
                }
                (0..slab.trailing_zeros()).flat_map(|shift| [1 << shift, slab - (1 << shift)]).for_each(check);
            }
        }
    }

    #[test]
    fn types_too_large_for_any_slab_are_left_to_the_heap_to_refuse() {
        assert!(Geometry::of(1 << (usize::BITS - 2), 1).slab > arith::MAX_SIZE);
        assert!(Geometry::of(isize::MAX as usize, 1).slab > arith::MAX_SIZE);
    }
}
