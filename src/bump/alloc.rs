//! The ways to put values into a bump arena. Each has a twin that tells errors.
#![allow(clippy::mut_from_ref, reason = "what is handed out is nobody else's")]

use core::alloc::Layout;
use core::convert::Infallible;
use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use super::Bump;
use super::error::BumpError;

/// What the methods do that have no errors.
#[inline(always)]
pub(super) fn or_panic<T>(result: Result<T, BumpError>) -> T {
    match result {
        Ok(value) => value,
        Err(error) => fail(error),
    }
}

#[cold]
#[inline(never)]
fn fail(error: BumpError) -> ! {
    panic!("{error}")
}

/// What serves a request that the fast path does not, or says why none does.
trait Slowly {
    type Error;

    fn obtain(bump: &Bump, size: usize, align: usize) -> Result<NonNull<u8>, Self::Error>;
}

/// Tells errors.
struct Telling;

impl Slowly for Telling {
    type Error = BumpError;

    #[inline(always)]
    fn obtain(bump: &Bump, size: usize, align: usize) -> Result<NonNull<u8>, BumpError> {
        bump.obtain_slowly(size, align)
    }
}

/// Panics with their text: errors cost callers no code.
struct Panicking;

impl Slowly for Panicking {
    type Error = Infallible;

    #[inline(always)]
    fn obtain(bump: &Bump, size: usize, align: usize) -> Result<NonNull<u8>, Infallible> {
        Ok(obtain_or_panic(bump, size, align))
    }
}

#[cold]
#[inline(never)]
fn obtain_or_panic(bump: &Bump, size: usize, align: usize) -> NonNull<u8> {
    or_panic(bump.obtain_slowly(size, align))
}

/// What a panicking way gives.
#[inline(always)]
fn always<T>(result: Result<T, Infallible>) -> T {
    let Ok(value) = result;
    value
}

impl Bump {
    /// Memory for an object of `size` bytes aligned to `align`, a power of two.
    #[inline(always)]
    fn obtain_by<S: Slowly>(&self, size: usize, align: usize) -> Result<NonNull<u8>, S::Error> {
        match self.head().place(size, align) {
            Some(block) => Ok(block),
            None => S::obtain(self, size, align),
        }
    }

    #[inline(always)]
    fn put<T, S: Slowly>(&self, make: impl FnOnce() -> T) -> Result<&mut T, S::Error> {
        let place = match size_of::<T>() {
            0 => NonNull::dangling(),
            size => self.obtain_by::<S>(size, align_of::<T>())?.cast::<T>(),
        };
        // SAFETY: large and aligned enough for a `T`, and nobody else's.
        unsafe { fill(place, make) };
        // SAFETY: initialised now, and nobody else's as long as the arena is borrowed.
        Ok(unsafe { &mut *place.as_ptr() })
    }

    /// Memory for so many values, which are not initialised.
    #[inline(always)]
    fn places<T, S: Slowly>(&self, count: usize) -> Result<&mut [MaybeUninit<T>], S::Error> {
        let first = match size_of::<T>() {
            0 => NonNull::dangling(),
            // More than there are addresses is not served either.
            size => self.obtain_by::<S>(size.saturating_mul(count), align_of::<T>())?.cast::<MaybeUninit<T>>(),
        };
        // SAFETY: large and aligned enough, nobody else's as long as the arena is borrowed; any bytes are valid.
        Ok(unsafe { core::slice::from_raw_parts_mut(first.as_ptr(), count) })
    }

    #[inline(always)]
    fn put_copies<T: Copy, S: Slowly>(&self, values: &[T]) -> Result<&mut [T], S::Error> {
        let first = self.places::<T, S>(values.len())?.as_mut_ptr().cast::<T>();
        // SAFETY: as many places as values, and apart from them.
        unsafe { first.copy_from_nonoverlapping(values.as_ptr(), values.len()) };
        // SAFETY: all of them are initialised now.
        Ok(unsafe { core::slice::from_raw_parts_mut(first, values.len()) })
    }

    #[inline(always)]
    fn put_text<S: Slowly>(&self, text: &str) -> Result<&mut str, S::Error> {
        let copy = self.put_copies::<u8, S>(text.as_bytes())?;
        // SAFETY: the bytes are those of a text.
        Ok(unsafe { core::str::from_utf8_unchecked_mut(copy) })
    }

    #[inline(always)]
    fn put_each<T, S: Slowly>(&self, count: usize, mut make: impl FnMut(usize) -> T) -> Result<&mut [T], S::Error> {
        let places = self.places::<T, S>(count)?;
        for (number, place) in places.iter_mut().enumerate() {
            place.write(make(number));
        }
        // SAFETY: all of them are initialised now.
        Ok(unsafe { &mut *(ptr::from_mut(places) as *mut [T]) })
    }

    #[inline(always)]
    fn put_all<T, S: Slowly>(&self, values: impl ExactSizeIterator<Item = T>) -> Result<&mut [T], S::Error> {
        let places = self.places::<T, S>(values.len())?;
        let mut filled = 0;
        for (place, value) in places.iter_mut().zip(values) {
            place.write(value);
            filled += 1;
        }
        // SAFETY: as many as there are places at most, and initialised.
        Ok(unsafe { core::slice::from_raw_parts_mut(places.as_mut_ptr().cast(), filled) })
    }

    /// Puts a value into the arena.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc`](Self::try_alloc) gives.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// let number = bump.alloc(41);
    /// *number += 1;
    /// assert_eq!(*number, 42);
    /// ```
    #[inline(always)]
    pub fn alloc<T>(&self, value: T) -> &mut T {
        always(self.put::<_, Panicking>(|| value))
    }

    /// Puts a value into the arena, or drops it.
    ///
    /// # Errors
    /// [`BumpError::Full`], [`BumpError::Limit`], [`BumpError::NoMemory`], [`BumpError::Reentered`] or [`BumpError::Node`], by the
    /// settings.
    ///
    /// ```
    /// use homing::{Bump, BumpConfig, BumpError, BumpOverflow};
    ///
    /// let bump = Bump::with(BumpConfig::new().pool_size(16).overflow(BumpOverflow::Error));
    /// assert_eq!(bump.try_alloc(1_u64).as_deref(), Ok(&1));
    /// let refused = bump.try_alloc([0_u64; 2]);
    /// assert_eq!(refused, Err(BumpError::Full { asked: 16, align: 8, left: 8, size: 16 }));
    /// ```
    #[inline(always)]
    pub fn try_alloc<T>(&self, value: T) -> Result<&mut T, BumpError> {
        self.put::<_, Telling>(|| value)
    }

    /// Puts what `make` gives into the arena, written there at once where the compiler can. `make` may use the arena, and is
    /// called after the place was found.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc_with`](Self::try_alloc_with) gives.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// let table = bump.alloc_with(|| [0_u64; 4096]);
    /// assert_eq!(table.len(), 4096);
    /// ```
    #[inline(always)]
    pub fn alloc_with<T>(&self, make: impl FnOnce() -> T) -> &mut T {
        always(self.put::<_, Panicking>(make))
    }

    /// As [`alloc_with`](Self::alloc_with).
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc); `make` is not called then.
    #[inline(always)]
    pub fn try_alloc_with<T>(&self, make: impl FnOnce() -> T) -> Result<&mut T, BumpError> {
        self.put::<_, Telling>(make)
    }

    /// Puts what `make` gives into the arena, or passes its error on: it is called first, so that an error takes nothing of
    /// the arena but what `make` itself has put there.
    ///
    /// # Errors
    /// Those of `make`.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc`](Self::try_alloc) gives.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// assert_eq!(bump.alloc_try_with(|| "17".parse::<u64>()), Ok(&mut 17));
    /// assert!(bump.alloc_try_with(|| "seventeen".parse::<u64>()).is_err());
    /// assert_eq!(bump.stats().used, 8);
    /// ```
    #[inline(always)]
    pub fn alloc_try_with<T, E>(&self, make: impl FnOnce() -> Result<T, E>) -> Result<&mut T, E> {
        make().map(|value| self.alloc(value))
    }

    /// Puts a copy of the text into the arena.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc_str`](Self::try_alloc_str) gives.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// let text = bump.alloc_str("homing");
    /// text.make_ascii_uppercase();
    /// assert_eq!(text, "HOMING");
    /// ```
    #[inline(always)]
    pub fn alloc_str(&self, text: &str) -> &mut str {
        always(self.put_text::<Panicking>(text))
    }

    /// As [`alloc_str`](Self::alloc_str).
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc).
    #[inline(always)]
    pub fn try_alloc_str(&self, text: &str) -> Result<&mut str, BumpError> {
        self.put_text::<Telling>(text)
    }

    /// Puts a copy of the values into the arena.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc_slice_copy`](Self::try_alloc_slice_copy) gives.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// assert_eq!(bump.alloc_slice_copy(&[1, 2, 3]), [1, 2, 3]);
    /// ```
    #[inline(always)]
    pub fn alloc_slice_copy<T: Copy>(&self, values: &[T]) -> &mut [T] {
        always(self.put_copies::<_, Panicking>(values))
    }

    /// As [`alloc_slice_copy`](Self::alloc_slice_copy).
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc).
    #[inline(always)]
    pub fn try_alloc_slice_copy<T: Copy>(&self, values: &[T]) -> Result<&mut [T], BumpError> {
        self.put_copies::<_, Telling>(values)
    }

    /// Puts clones of the values into the arena, in their order. Where one panics, those before it are not dropped.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc_slice_clone`](Self::try_alloc_slice_clone) gives.
    ///
    /// ```
    /// use std::rc::Rc;
    ///
    /// let bump = homing::Bump::new();
    /// let shared = Rc::new(1);
    /// bump.alloc_slice_clone(&[shared.clone(), shared.clone()]);
    /// assert_eq!(Rc::strong_count(&shared), 3, "the two in the arena are not dropped with it");
    /// ```
    #[inline(always)]
    pub fn alloc_slice_clone<T: Clone>(&self, values: &[T]) -> &mut [T] {
        always(self.put_all::<_, Panicking>(values.iter().cloned()))
    }

    /// As [`alloc_slice_clone`](Self::alloc_slice_clone).
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc); nothing is cloned then.
    #[inline(always)]
    pub fn try_alloc_slice_clone<T: Clone>(&self, values: &[T]) -> Result<&mut [T], BumpError> {
        self.put_all::<_, Telling>(values.iter().cloned())
    }

    /// Puts `count` values into the arena, the one at each place made by `make`, which may use the arena.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc_slice_fill_with`](Self::try_alloc_slice_fill_with) gives.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// assert_eq!(bump.alloc_slice_fill_with(4, |place| place * place), [0, 1, 4, 9]);
    /// ```
    #[inline(always)]
    pub fn alloc_slice_fill_with<T>(&self, count: usize, make: impl FnMut(usize) -> T) -> &mut [T] {
        always(self.put_each::<_, Panicking>(count, make))
    }

    /// As [`alloc_slice_fill_with`](Self::alloc_slice_fill_with).
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc); `make` is not called then.
    #[inline(always)]
    pub fn try_alloc_slice_fill_with<T>(
        &self,
        count: usize,
        make: impl FnMut(usize) -> T,
    ) -> Result<&mut [T], BumpError> {
        self.put_each::<_, Telling>(count, make)
    }

    /// Puts `count` copies of a value into the arena.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc_slice_fill_copy`](Self::try_alloc_slice_fill_copy) gives.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// assert_eq!(bump.alloc_slice_fill_copy(3, 7_u16), [7, 7, 7]);
    /// ```
    #[inline(always)]
    pub fn alloc_slice_fill_copy<T: Copy>(&self, count: usize, value: T) -> &mut [T] {
        self.alloc_slice_fill_with(count, |_| value)
    }

    /// As [`alloc_slice_fill_copy`](Self::alloc_slice_fill_copy).
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc).
    #[inline(always)]
    pub fn try_alloc_slice_fill_copy<T: Copy>(&self, count: usize, value: T) -> Result<&mut [T], BumpError> {
        self.try_alloc_slice_fill_with(count, |_| value)
    }

    /// Puts `count` clones of a value into the arena. Where one panics, those before it are not dropped.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc_slice_fill_clone`](Self::try_alloc_slice_fill_clone) gives.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// assert_eq!(bump.alloc_slice_fill_clone(2, &"home".to_owned()), ["home", "home"]);
    /// ```
    #[inline(always)]
    pub fn alloc_slice_fill_clone<T: Clone>(&self, count: usize, value: &T) -> &mut [T] {
        self.alloc_slice_fill_with(count, |_| value.clone())
    }

    /// As [`alloc_slice_fill_clone`](Self::alloc_slice_fill_clone).
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc); nothing is cloned then.
    #[inline(always)]
    pub fn try_alloc_slice_fill_clone<T: Clone>(&self, count: usize, value: &T) -> Result<&mut [T], BumpError> {
        self.try_alloc_slice_fill_with(count, |_| value.clone())
    }

    /// Puts what the iterator gives into the arena: as many values as it says it has, or fewer where it ends before.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc_slice_fill_iter`](Self::try_alloc_slice_fill_iter) gives.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// assert_eq!(bump.alloc_slice_fill_iter([1, 2, 3].into_iter().rev()), [3, 2, 1]);
    /// ```
    #[inline(always)]
    pub fn alloc_slice_fill_iter<T, I>(&self, values: I) -> &mut [T]
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: ExactSizeIterator,
    {
        always(self.put_all::<_, Panicking>(values.into_iter()))
    }

    /// As [`alloc_slice_fill_iter`](Self::alloc_slice_fill_iter).
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc); the iterator is asked for nothing but its length then.
    #[inline(always)]
    pub fn try_alloc_slice_fill_iter<T, I>(&self, values: I) -> Result<&mut [T], BumpError>
    where
        I: IntoIterator<Item = T>,
        I::IntoIter: ExactSizeIterator,
    {
        self.put_all::<_, Telling>(values.into_iter())
    }

    /// Puts `count` default values into the arena.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc_slice_fill_default`](Self::try_alloc_slice_fill_default) gives.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// assert_eq!(bump.alloc_slice_fill_default::<u32>(3), [0, 0, 0]);
    /// ```
    #[inline(always)]
    pub fn alloc_slice_fill_default<T: Default>(&self, count: usize) -> &mut [T] {
        always(self.put_each::<_, Panicking>(count, |_| T::default()))
    }

    /// As [`alloc_slice_fill_default`](Self::alloc_slice_fill_default).
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc).
    #[inline(always)]
    pub fn try_alloc_slice_fill_default<T: Default>(&self, count: usize) -> Result<&mut [T], BumpError> {
        self.put_each::<_, Telling>(count, |_| T::default())
    }

    /// Memory of that layout. It is valid for as long as the arena is neither reset, nor restored to an earlier point, nor
    /// dropped. All zero with [`zero_on_reset`](crate::BumpConfig::zero_on_reset), and not initialised without.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc_layout`](Self::try_alloc_layout) gives.
    #[inline(always)]
    pub fn alloc_layout(&self, layout: Layout) -> NonNull<u8> {
        always(self.obtain_by::<Panicking>(layout.size(), layout.align()))
    }

    /// As [`alloc_layout`](Self::alloc_layout).
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc).
    #[inline(always)]
    pub fn try_alloc_layout(&self, layout: Layout) -> Result<NonNull<u8>, BumpError> {
        self.obtain(layout.size(), layout.align())
    }

    /// As [`alloc_layout`](Self::alloc_layout), for any size and alignment at all, as they come from elsewhere.
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc), and [`BumpError::BadAlign`] where the alignment is no power of two.
    ///
    /// ```
    /// use homing::{Bump, BumpError};
    ///
    /// let bump = Bump::new();
    /// assert!(bump.try_alloc_bytes(100, 64 << 20)?.addr().get().is_multiple_of(64 << 20));
    /// assert_eq!(bump.try_alloc_bytes(usize::MAX, 1), Err(BumpError::NoMemory { size: usize::MAX, align: 1 }));
    /// assert_eq!(bump.try_alloc_bytes(100, 24), Err(BumpError::BadAlign { align: 24 }));
    /// # Ok::<(), BumpError>(())
    /// ```
    #[inline]
    pub fn try_alloc_bytes(&self, size: usize, align: usize) -> Result<NonNull<u8>, BumpError> {
        if !align.is_power_of_two() {
            return Err(BumpError::BadAlign { align });
        }
        self.obtain(size, align)
    }
}

/// Apart, so that the compiler sees that what `make` gives goes nowhere else, and has it made in its place.
///
/// # Safety
/// The place is large and aligned enough for a `T`, and nobody else's.
#[inline(always)]
unsafe fn fill<T>(place: NonNull<T>, make: impl FnOnce() -> T) {
    // SAFETY: the caller's promise.
    unsafe { core::ptr::write(place.as_ptr(), make()) };
}
