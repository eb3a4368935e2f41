//! The guards of objects in a pool: [`PoolBox`], which stays on the pool's thread, and [`RemotePoolBox`], which may go anywhere.

use core::borrow::{Borrow, BorrowMut};
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop};
use core::ops::{Deref, DerefMut};
use core::panic::UnwindSafe;
use core::ptr::{self, NonNull};

use super::Pool;

/// An object in a [`Pool`], which its guard owns: dropping the guard drops the value and gives the object back.
///
/// Where the value's `drop` panics, the object is given back all the same. A guard that is forgotten keeps its object until the
/// pool is dropped, and the value is not dropped then. It is two words: the object and its pool. `Option<PoolBox<T>>` is no larger.
///
/// It stays on the thread that uses the pool. [`into_remote`](Self::into_remote) makes it one that may go to any thread.
///
/// *Cost*: see [`Pool`]; no atomic operation.
///
/// ```
/// use homing::{Pool, PoolBox};
///
/// let pool = Pool::new();
/// let mut word = pool.insert(String::from("home"))?;
/// word.push_str("coming");
/// assert_eq!(*word, "homecoming");
/// assert_eq!(PoolBox::into_inner(word), "homecoming");
/// assert_eq!(pool.stats().objects, 0);
/// # Ok::<(), homing::PoolError>(())
/// ```
///
/// A guard does not outlive its pool:
///
/// ```compile_fail,E0505
/// let pool = homing::Pool::new();
/// let guard = pool.insert(7)?;
/// drop(pool);
/// println!("{guard}");
/// # Ok::<(), homing::PoolError>(())
/// ```
///
/// and goes to no other thread as it is:
///
/// ```compile_fail,E0277
/// let pool = homing::Pool::new();
/// let guard = pool.insert(7)?;
/// std::thread::scope(|threads| threads.spawn(move || drop(guard)).join().unwrap());
/// # Ok::<(), homing::PoolError>(())
/// ```
pub struct PoolBox<'p, T, R: PoolReach = OnPoolThread> {
    object: NonNull<T>,
    pool: &'p Pool<T>,
    reach: PhantomData<R>,
}

/// An object in a [`Pool`], as by [`PoolBox`], whose guard may be sent to any thread and be dropped there, if the value may.
///
/// The object is marked as free there, without a lock, and the pool finds it when it next needs objects, or is asked for its figures.
/// It is made by [`PoolBox::into_remote`]; [`Pool::bring_home`] makes it a [`PoolBox`] again, on the pool's thread.
///
/// *Cost*: dropping it takes three atomic additions, on whichever thread.
///
/// ```
/// use homing::{Pool, PoolBox};
///
/// let pool = Pool::new();
/// let word = PoolBox::into_remote(pool.insert(String::from("home"))?);
/// std::thread::scope(|threads| threads.spawn(move || drop(word)).join().unwrap());
/// assert_eq!(pool.stats().objects, 0);
/// # Ok::<(), homing::PoolError>(())
/// ```
///
/// It does not go where its value may not:
///
/// ```compile_fail,E0277
/// let pool = homing::Pool::new();
/// let guard = homing::PoolBox::into_remote(pool.insert(std::rc::Rc::new(7))?);
/// std::thread::scope(|threads| threads.spawn(move || drop(guard)).join().unwrap());
/// # Ok::<(), homing::PoolError>(())
/// ```
pub type RemotePoolBox<'p, T> = PoolBox<'p, T, OnAnyThread>;

/// Where a guard may be dropped: [`OnPoolThread`] or [`OnAnyThread`].
pub trait PoolReach: sealed::Sealed {}

/// On the thread that uses the pool: a [`PoolBox`].
#[derive(Debug)]
pub enum OnPoolThread {}

/// On any thread: a [`RemotePoolBox`].
#[derive(Debug)]
pub enum OnAnyThread {}

impl PoolReach for OnPoolThread {}
impl PoolReach for OnAnyThread {}

mod sealed {
    pub trait Sealed {
        /// Whether the guard's thread may be another than the one that uses the pool.
        const IS_REMOTE: bool;
    }

    impl Sealed for super::OnPoolThread {
        const IS_REMOTE: bool = false;
    }

    impl Sealed for super::OnAnyThread {
        const IS_REMOTE: bool = true;
    }
}

// SAFETY: the value goes with the guard, and may if it is `Send`. Of the pool such a guard touches only what `remote` shares between
// threads, wherever it is. (One that gave its object back as the pool's thread does could not be `Send`, not even if it looked
// which thread that is: a future that has the pool by `&mut` takes it to another thread while guards are out.)
unsafe impl<T: Send> Send for RemotePoolBox<'_, T> {}
// SAFETY: by reference a guard gives nothing but references to the value.
unsafe impl<T: Sync, R: PoolReach> Sync for PoolBox<'_, T, R> {}

// As a `Box` is.
impl<T: UnwindSafe, R: PoolReach> UnwindSafe for PoolBox<'_, T, R> {}

impl<'p, T> PoolBox<'p, T> {
    /// The guard of an object that holds a value: the other way of [`into_raw`](Self::into_raw), and for objects of
    /// [`Pool::allocate`].
    ///
    /// # Safety
    /// The object is one of that pool's, is out, holds a value, and is used by nobody else; no other guard has it.
    #[inline]
    pub unsafe fn from_raw(pool: &'p Pool<T>, object: NonNull<T>) -> Self {
        PoolBox { object, pool, reach: PhantomData }
    }

    /// A guard of the same object that may go to any thread. *Cost*: none here; the drop is dearer.
    #[inline]
    pub fn into_remote(guard: Self) -> RemotePoolBox<'p, T> {
        PoolBox { pool: guard.pool, object: Self::into_raw(guard), reach: PhantomData }
    }
}

impl<T> Pool<T> {
    /// A guard that was sent somewhere and is back, made one that is dropped as quickly as any on this thread. *Cost*: a comparison.
    ///
    /// # Errors
    /// The guard, where it is another pool's.
    ///
    /// ```
    /// use homing::{Pool, PoolBox};
    ///
    /// let pool = Pool::new();
    /// let mut sums = PoolBox::into_remote(pool.insert([1, 2, 3])?);
    /// let sums = std::thread::scope(|threads| {
    ///     threads.spawn(move || { sums[2] += sums[0] + sums[1]; sums }).join().unwrap()
    /// });
    /// let sums = pool.bring_home(sums).expect("this pool's");
    /// assert_eq!(*sums, [1, 2, 6]);
    /// # Ok::<(), homing::PoolError>(())
    /// ```
    #[inline]
    pub fn bring_home<'p>(&'p self, guard: RemotePoolBox<'p, T>) -> Result<PoolBox<'p, T>, RemotePoolBox<'p, T>> {
        match ptr::eq(self, guard.pool) {
            true => Ok(PoolBox { object: PoolBox::into_raw(guard), pool: self, reach: PhantomData }),
            false => Err(guard),
        }
    }
}

impl<'p, T, R: PoolReach> PoolBox<'p, T, R> {
    /// The object, which is the caller's then: to be given back by [`from_raw`](PoolBox::from_raw), or after dropping the value
    /// by [`Pool::deallocate`]. It goes with its pool at the latest.
    #[inline]
    pub fn into_raw(guard: Self) -> NonNull<T> {
        ManuallyDrop::new(guard).object
    }

    /// The value; the object is given back.
    #[inline]
    pub fn into_inner(guard: Self) -> T {
        let guard = ManuallyDrop::new(guard);
        // SAFETY: the object holds a value, which moves out.
        let value = unsafe { guard.object.read() };
        // SAFETY: the guard's object, which holds nothing any more.
        unsafe { guard.pool.give_back::<R>(guard.object) };
        value
    }

    /// A reference for as long as the pool is borrowed. The object stays out until the pool is dropped, and the value is never
    /// dropped.
    #[inline]
    pub fn leak(guard: Self) -> &'p mut T {
        // SAFETY: the object holds a value and is nobody else's, and its slab stays while the pool is borrowed.
        unsafe { Self::into_raw(guard).as_mut() }
    }
}

impl<T, R: PoolReach> Drop for PoolBox<'_, T, R> {
    #[inline]
    fn drop(&mut self) {
        /// Gives the object back, also where the value's drop unwinds.
        struct Home<'p, T, R: PoolReach>(NonNull<T>, &'p Pool<T>, PhantomData<R>);

        impl<T, R: PoolReach> Drop for Home<'_, T, R> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: the guard's object, whose value is dropped.
                unsafe { self.1.give_back::<R>(self.0) };
            }
        }

        let home = Home(self.object, self.pool, self.reach);
        if mem::needs_drop::<T>() {
            // SAFETY: the object holds a value, which nobody uses after its guard.
            unsafe { home.0.drop_in_place() };
        }
    }
}

impl<T, R: PoolReach> Deref for PoolBox<'_, T, R> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the object holds a value, borrowed as the guard is.
        unsafe { self.object.as_ref() }
    }
}

impl<T, R: PoolReach> DerefMut for PoolBox<'_, T, R> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the object holds a value, borrowed as the guard is.
        unsafe { self.object.as_mut() }
    }
}

impl<T, R: PoolReach> AsRef<T> for PoolBox<'_, T, R> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T, R: PoolReach> AsMut<T> for PoolBox<'_, T, R> {
    fn as_mut(&mut self) -> &mut T {
        self
    }
}

impl<T, R: PoolReach> Borrow<T> for PoolBox<'_, T, R> {
    fn borrow(&self) -> &T {
        self
    }
}

impl<T, R: PoolReach> BorrowMut<T> for PoolBox<'_, T, R> {
    fn borrow_mut(&mut self) -> &mut T {
        self
    }
}

impl<T: fmt::Debug, R: PoolReach> fmt::Debug for PoolBox<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T: fmt::Display, R: PoolReach> fmt::Display for PoolBox<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T, R: PoolReach> fmt::Pointer for PoolBox<'_, T, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Pointer::fmt(&self.object, f)
    }
}

impl<T: PartialEq, R: PoolReach> PartialEq for PoolBox<'_, T, R> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq, R: PoolReach> Eq for PoolBox<'_, T, R> {}

impl<T: PartialOrd, R: PoolReach> PartialOrd for PoolBox<'_, T, R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        T::partial_cmp(self, other)
    }
}

impl<T: Ord, R: PoolReach> Ord for PoolBox<'_, T, R> {
    fn cmp(&self, other: &Self) -> Ordering {
        T::cmp(self, other)
    }
}

impl<T: Hash, R: PoolReach> Hash for PoolBox<'_, T, R> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        T::hash(self, state);
    }
}
