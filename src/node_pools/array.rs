//! Arrays in memory of a chosen node, in which pools keep what they know of their regions.

use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use crate::arith;
use crate::source::Source;

/// An array whose length stays.
pub(super) struct Array<T> {
    /// The memory of `length` elements.
    start: NonNull<T>,
    length: usize,
}

// SAFETY: the array owns its memory and its elements alone.
unsafe impl<T: Send> Send for Array<T> {}

/// Types of which all bytes zero are a value.
///
/// # Safety
/// They are.
pub(super) unsafe trait Zero: Copy {}

// SAFETY: integers.
unsafe impl Zero for u32 {}
// SAFETY: integers.
unsafe impl Zero for u64 {}

impl<T> Array<T> {
    /// So many zeros. Their pages are touched only where something is written.
    pub(super) fn zeros(source: Source, length: usize) -> Option<Self>
    where
        T: Zero,
    {
        Some(Array { start: Self::obtain(source, length, true)?, length })
    }

    /// So many elements, each made by `make`.
    pub(super) fn of(source: Source, length: usize, make: impl Fn() -> T) -> Option<Self> {
        let start = Self::obtain(source, length, false)?;
        // SAFETY: within the memory, whose elements are nobody's yet.
        (0..length).for_each(|at| unsafe { start.add(at).write(make()) });
        Some(Array { start, length })
    }

    fn obtain(source: Source, length: usize, zero: bool) -> Option<NonNull<T>> {
        source.allocate(arith::array(size_of::<T>(), length)?, align_of::<T>(), zero).map(NonNull::cast)
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: all `length` are elements.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for Array<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: all `length` are elements, and the array is borrowed alone.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        // SAFETY: all `length` are elements, and nobody uses them any more.
        unsafe { core::ptr::drop_in_place(core::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.length)) };
        // SAFETY: memory of a source, of that layout, whose elements were dropped.
        unsafe { Source::free(self.start.cast(), size_of::<T>() * self.length, align_of::<T>()) };
    }
}

/// One value in memory of a node, as a pointer that others may hold.
pub(super) fn put<T>(source: Source, value: T) -> Result<NonNull<T>, T> {
    let Some(place) = source.allocate(size_of::<T>().max(1), align_of::<T>(), false) else { return Err(value) };
    let place = place.cast::<T>();
    // SAFETY: memory for one such value, which is nobody's yet.
    unsafe { place.write(value) };
    Ok(place)
}

/// Takes a value back that [`put`] has put there.
///
/// # Safety
/// It comes from there, and nobody uses it any more.
pub(super) unsafe fn take<T>(place: NonNull<T>) -> T {
    // SAFETY: the caller's promise.
    let value = ManuallyDrop::new(unsafe { place.read() });
    // SAFETY: as above; the value has moved.
    unsafe { Source::free(place.cast(), size_of::<T>().max(1), align_of::<T>()) };
    ManuallyDrop::into_inner(value)
}
