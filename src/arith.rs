//! Overflow-safe arithmetic on sizes and addresses. Every size that reaches the allocator is computed here, so that no
//! request, however large or oddly aligned, wraps; what cannot be is `None`.

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

/// The sum of sizes, or of an address and sizes; `None` where it would wrap.
#[inline(always)]
pub(crate) const fn sum<const N: usize>(parts: [usize; N]) -> Option<usize> {
    let mut sum = 0_usize;
    let mut part = 0;
    while part < N {
        match sum.checked_add(parts[part]) {
            Some(more) => sum = more,
            None => return None,
        }
        part += 1;
    }
    Some(sum)
}

/// A number so many times; `None` where it would wrap.
#[inline(always)]
pub(crate) const fn times(number: usize, factor: usize) -> Option<usize> {
    number.checked_mul(factor)
}

/// The number that decimal digits make; `None` where there are none, or something else, or it would wrap.
pub(crate) fn decimal(digits: &[u8]) -> Option<usize> {
    let add = |number: usize, digit: &u8| match digit {
        b'0'..=b'9' => sum([times(number, 10)?, usize::from(*digit - b'0')]),
        _ => None,
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, add) }
}

/// The bytes of `count` objects of `size` bytes each; `None` for more than one object may have.
#[inline(always)]
pub(crate) const fn array(size: usize, count: usize) -> Option<usize> {
    match times(size, count) {
        Some(bytes) if bytes <= MAX_SIZE => Some(bytes),
        _ => None,
    }
}

/// Where an object of `size` bytes aligned to `align` (a power of two) begins that is placed upwards from `from`, and ends
/// not beyond `end`: its first address, and the one after its last.
#[inline(always)]
pub(crate) const fn place_up(from: usize, end: usize, size: usize, align: usize) -> Option<(usize, usize)> {
    match align_up(from, align) {
        Some(start) if start <= end && size <= end - start => Some((start, start + size)),
        _ => None,
    }
}

/// Where an object of `size` bytes aligned to `align` (a power of two) begins that is placed downwards from `top`, and
/// begins not before `floor`.
#[inline(always)]
pub(crate) const fn place_down(top: usize, floor: usize, size: usize, align: usize) -> Option<usize> {
    match top.checked_sub(size) {
        Some(highest) if align_down(highest, align) >= floor => Some(align_down(highest, align)),
        _ => None,
    }
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
        const HALF: usize = 1 << (usize::BITS - 1);
        assert_eq!(align_up(0, HALF), Some(0));
        assert_eq!(align_up(1, HALF), Some(HALF));
        assert_eq!(align_up(HALF + 1, HALF), None);
    }

    #[test]
    fn rounding_keeps_what_is_aligned_already() {
        for shift in 0..usize::BITS - 3 {
            let align = 1_usize << shift;
            assert_eq!(align_up(align * 3, align), Some(align * 3));
            assert_eq!(align_down(align * 3 + align - 1, align), align * 3);
        }
    }

    #[test]
    fn arrays_beyond_one_object_do_not_wrap() {
        assert_eq!(array(0, usize::MAX), Some(0));
        assert_eq!(array(8, usize::MAX / 8 + 1), None);
        assert_eq!(array(1, MAX_SIZE), Some(MAX_SIZE));
        assert_eq!(array(1, MAX_SIZE + 1), None);
    }

    #[test]
    fn sums_and_products_agree_with_numbers_that_cannot_wrap() {
        let fits = |number: u128| usize::try_from(number).ok();
        for (one, other) in awkward().into_iter().flat_map(|one| awkward().into_iter().map(move |other| (one, other))) {
            assert_eq!(times(one, other), fits(one as u128 * other as u128), "{one:#x} {other:#x}");
            for third in [0, 1, usize::MAX / 2, usize::MAX] {
                let right = fits(one as u128 + other as u128 + third as u128);
                assert_eq!(sum([one, other, third]), right, "{one:#x} {other:#x} {third:#x}");
            }
        }
        assert_eq!((sum([]), sum([7])), (Some(0), Some(7)));
    }

    #[test]
    fn decimal_numbers_that_do_not_fit_or_are_none_are_refused() {
        let (most, beyond) = (usize::MAX.to_string(), (usize::MAX as u128 + 1).to_string());
        for (text, number) in [("0", 0), ("007", 7), (most.as_str(), usize::MAX)] {
            assert_eq!(decimal(text.as_bytes()), Some(number), "{text}");
        }
        for text in ["", " 1", "1 ", "-1", "1a", "/", ":", beyond.as_str(), "99999999999999999999999"] {
            assert_eq!(decimal(text.as_bytes()), None, "{text}");
        }
    }

    /// Addresses and sizes about everything that could be wrong: both ends of the address space, and powers of two.
    fn awkward() -> Vec<usize> {
        let mut numbers: Vec<usize> = (0..usize::BITS).flat_map(|shift| [(1_usize << shift) - 1, 1 << shift]).collect();
        numbers.extend([3, 100, 4097, MAX_SIZE + 2, usize::MAX - 64, usize::MAX - 1, usize::MAX]);
        numbers
    }

    #[test]
    fn placing_upwards_agrees_with_numbers_that_cannot_wrap() {
        for shift in 0..usize::BITS {
            for (from, size) in
                awkward().into_iter().flat_map(|from| awkward().into_iter().map(move |size| (from, size)))
            {
                for end in [from, from.saturating_add(size), usize::MAX / 3, usize::MAX - 1, usize::MAX] {
                    let start = (from as u128).next_multiple_of(1 << shift);
                    let right = (start + size as u128 <= end as u128).then(|| (start as usize, start as usize + size));
                    assert_eq!(place_up(from, end, size, 1 << shift), right, "{from:#x} {end:#x} {size:#x} {shift}");
                }
            }
        }
    }

    #[test]
    fn placing_downwards_agrees_with_numbers_that_cannot_wrap() {
        for shift in 0..usize::BITS {
            for (top, size) in awkward().into_iter().flat_map(|top| awkward().into_iter().map(move |size| (top, size)))
            {
                for floor in [0, 1, top.saturating_sub(size), top / 2, top] {
                    let start = (top as i128 - size as i128) & -(1_i128 << shift);
                    let right = (top >= size && start >= floor as i128).then_some(start as usize);
                    assert_eq!(
                        place_down(top, floor, size, 1 << shift),
                        right,
                        "{top:#x} {floor:#x} {size:#x} {shift}"
                    );
                }
            }
        }
    }
}
