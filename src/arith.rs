//! Overflow-safe arithmetic on sizes and addresses. Every size that reaches the allocator is computed here, so that no
//! request, however large or oddly aligned, wraps.

/// The least multiple of `align` (a power of two) that is not below `n`; `None` where it would wrap.
#[inline(always)]
pub(crate) const fn align_up(n: usize, align: usize) -> Option<usize> {
    debug_assert!(align.is_power_of_two());
    match n.checked_add(align - 1) {
        Some(sum) => Some(sum & !(align - 1)),
        None => None,
    }
}

/// The greatest multiple of `align` (a power of two) that is not above `n`.
#[inline(always)]
pub(crate) const fn align_down(n: usize, align: usize) -> usize {
    debug_assert!(align.is_power_of_two());
    n & !(align - 1)
}

/// The largest size of one object: `PTRDIFF_MAX`, beyond which the difference of two pointers into it is undefined
/// (C17 6.5.6) and Rust's `isize::MAX` rule is broken.
pub(crate) const MAX_SIZE: usize = isize::MAX as usize;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_up_at_the_end_of_the_address_space_does_not_wrap() {
        assert_eq!(align_up(usize::MAX, 16), None);
        assert_eq!(align_up(usize::MAX - 15, 16), Some(usize::MAX - 15));
        assert_eq!(align_up(0, 1 << 63), Some(0));
        assert_eq!(align_up(1, 1 << 63), Some(1 << 63));
        assert_eq!(align_up((1 << 63) + 1, 1 << 63), None);
    }

    #[test]
    fn rounding_keeps_what_is_aligned_already() {
        for shift in 0..40 {
            let align = 1_usize << shift;
            assert_eq!(align_up(align * 3, align), Some(align * 3));
            assert_eq!(align_down(align * 3 + align - 1, align), align * 3);
        }
    }
}
