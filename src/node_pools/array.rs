//! Arrays in memory of a chosen node, in which pools keep what they know of their regions.

use core::mem::ManuallyDrop;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use crate::arith;
use crate::source::Source;

/// Elements that the first of an array has room for when it grows from nothing.
const FIRST_ROOM: usize = 8;

/// A growing array.
pub(super) struct Array<T> {
    /// `room` elements' memory, of which the first `length` are elements; dangling where `room` is 0.
    start: NonNull<T>,
    length: usize,
    room: usize,
    source: Source,
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
    /// An empty one, which holds no memory yet.
    pub(super) const fn new(source: Source) -> Self {
        const { assert!(size_of::<T>() > 0) };
        Array { start: NonNull::dangling(), length: 0, room: 0, source }
    }

    /// So many zeros. Their pages are touched only where something is written.
    pub(super) fn zeros(source: Source, length: usize) -> Option<Self>
    where
        T: Zero,
    {
        let bytes = arith::array(size_of::<T>(), length)?;
        let start = source.allocate(bytes, align_of::<T>(), true)?.cast();
        Some(Array { start, length, room: length, source })
    }

    /// Sees to it that there is room for one more. `None` where there is no memory for it; nothing has changed then.
    pub(super) fn make_room(&mut self) -> Option<()> {
        if self.length < self.room {
            return Some(());
        }
        self.move_to(self.room.checked_mul(2)?.max(FIRST_ROOM))
    }

    /// Gives room back where there is four times as much as there are elements, if they can be moved.
    pub(super) fn give_room_back(&mut self) {
        let room = self.room / 2;
        if room >= FIRST_ROOM && self.length <= room / 2 {
            let _ = self.move_to(room);
        }
    }

    /// Moves the elements to where there is room for so many, no fewer than there are. `None` where there is no memory for
    /// them; nothing has changed then.
    fn move_to(&mut self, room: usize) -> Option<()> {
        debug_assert!(self.length <= room);
        let start = self.source.allocate(arith::array(size_of::<T>(), room)?, align_of::<T>(), false)?.cast();
        // SAFETY: there is room for as many elements as these, which are not used at the old place any more.
        unsafe { start.copy_from_nonoverlapping(self.start, self.length) };
        self.give_memory_back();
        (self.start, self.room) = (start, room);
        Some(())
    }

    /// Puts an element before the one at `at`, or at the end. Gives it back where there is no memory for it.
    pub(super) fn insert(&mut self, at: usize, element: T) -> Result<(), T> {
        debug_assert!(at <= self.length);
        if self.make_room().is_none() {
            return Err(element);
        }
        let at = at.min(self.length);
        // SAFETY: `at` is not beyond the elements, behind which there is room for one.
        let place = unsafe { self.start.add(at) };
        // SAFETY: the elements from there on move by one, into that room.
        unsafe { place.add(1).copy_from(place, self.length - at) };
        // SAFETY: what was there has moved.
        unsafe { place.write(element) };
        self.length += 1;
        Ok(())
    }

    /// Takes the element at `at` out, if there is one.
    pub(super) fn remove(&mut self, at: usize) -> Option<T> {
        if at >= self.length {
            return None;
        }
        // SAFETY: there is such an element.
        let place = unsafe { self.start.add(at) };
        // SAFETY: as above; its place is written over, or left out, below.
        let element = unsafe { place.read() };
        self.length -= 1;
        // SAFETY: the elements behind it move by one.
        unsafe { place.copy_from(place.add(1), self.length - at) };
        Some(element)
    }

    fn give_memory_back(&mut self) {
        if self.room > 0 {
            // SAFETY: memory of the source, of that layout, whose elements have moved or were dropped.
            unsafe { Source::free(self.start.cast(), size_of::<T>() * self.room, align_of::<T>()) };
        }
    }

    /// All elements, one after the other.
    pub(super) fn drain(self) -> impl Iterator<Item = T> {
        let mut array = self;
        core::iter::from_fn(move || array.remove(array.length.checked_sub(1)?))
    }
}

impl<T> Deref for Array<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        // SAFETY: the first `length` are elements.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.length) }
    }
}

impl<T> DerefMut for Array<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        // SAFETY: the first `length` are elements, and the array is borrowed alone.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.length) }
    }
}

impl<T> Drop for Array<T> {
    fn drop(&mut self) {
        // SAFETY: the first `length` are elements, and nobody uses them any more.
        unsafe { core::ptr::drop_in_place(core::ptr::slice_from_raw_parts_mut(self.start.as_ptr(), self.length)) };
        self.give_memory_back();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_that_was_long_gives_its_room_back_and_keeps_what_is_left() {
        let mut array = Array::new(Source::Caller);
        for number in 0..10_000_u64 {
            array.insert(array.len(), number).unwrap();
        }
        let mut most = array.room;
        while array.len() > 3 {
            let middle = array.len() / 2;
            assert!(array.remove(middle).is_some());
            array.give_room_back();
            assert!(
                array.room <= most && array.room <= (4 * array.len()).max(FIRST_ROOM),
                "{} for {}",
                array.room,
                array.len()
            );
            assert!(array.is_sorted() && array[0] == 0);
            most = array.room;
        }
        assert_eq!((array.remove(3), array.room), (None, FIRST_ROOM));
        for number in 10_000..10_100 {
            array.insert(array.len(), number).unwrap();
        }
        assert!(array.is_sorted() && array.len() == 103);
    }
}
