//! The guard of an object in a pool: [`PoolBox`].

use core::borrow::{Borrow, BorrowMut};
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};
use core::mem::{self, ManuallyDrop};
use core::ops::{Deref, DerefMut};
use core::panic::UnwindSafe;
use core::ptr::NonNull;

use super::Pool;

/// An object in a [`Pool`], which its guard owns: dropping the guard drops the value and gives the object back.
///
/// It may be sent to and dropped on another thread: the object is marked there, without a lock, and the pool's user
/// finds it when it next needs objects. Where the value's `drop` panics, the object is given back all the same.
/// A guard that is forgotten keeps its object until the pool is dropped, and the value is not dropped then.
///
/// It is two words: the object and its pool. `Option<PoolBox<T>>` is no larger.
///
/// *Cost*: where the pool's user drops it, some 12 instructions beside the value's own `drop`; elsewhere three atomic
/// additions.
///
/// ```
/// use homing::Pool;
///
/// let pool = Pool::new();
/// let mut word = pool.insert(String::from("home"))?;
/// word.push_str("coming");
/// assert_eq!(*word, "homecoming");
/// std::thread::scope(|threads| threads.spawn(move || drop(word)).join().unwrap());
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
/// nor goes where its value may not:
///
/// ```compile_fail,E0277
/// let pool = homing::Pool::new();
/// let guard = pool.insert(std::rc::Rc::new(7))?;
/// std::thread::scope(|threads| threads.spawn(move || drop(guard)).join().unwrap());
/// # Ok::<(), homing::PoolError>(())
/// ```
pub struct PoolBox<'p, T> {
    object: NonNull<T>,
    pool: &'p Pool<T>,
}

// SAFETY: the value goes with the guard, and may if it is `Send`. Of the pool a guard touches, on a thread that is not the
// pool's user, only what `remote` shares between threads; who is the user does not change while a guard is out.
unsafe impl<T: Send> Send for PoolBox<'_, T> {}
// SAFETY: by reference a guard gives nothing but references to the value.
unsafe impl<T: Sync> Sync for PoolBox<'_, T> {}

// As a `Box` is.
impl<T: UnwindSafe> UnwindSafe for PoolBox<'_, T> {}

impl<'p, T> PoolBox<'p, T> {
    /// The guard of an object that holds a value: the other way of [`into_raw`](Self::into_raw), and for objects of
    /// [`Pool::allocate`].
    ///
    /// # Safety
    /// The object is one of that pool's, is out, holds a value, and is used by nobody else; no other guard has it.
    #[inline]
    pub unsafe fn from_raw(pool: &'p Pool<T>, object: NonNull<T>) -> Self {
        pool.slabs.claim();
        PoolBox { object, pool }
    }

    /// The object, which is the caller's then: to be given back by [`from_raw`](Self::from_raw), or after dropping the value
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
        unsafe { guard.pool.give_back(guard.object) };
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

impl<T> Drop for PoolBox<'_, T> {
    #[inline]
    fn drop(&mut self) {
        /// Gives the object back, also where the value's drop unwinds.
        struct Home<'p, T>(NonNull<T>, &'p Pool<T>);

        impl<T> Drop for Home<'_, T> {
            #[inline]
            fn drop(&mut self) {
                // SAFETY: the guard's object, whose value is dropped.
                unsafe { self.1.give_back(self.0) };
            }
        }

        let home = Home(self.object, self.pool);
        if mem::needs_drop::<T>() {
            // SAFETY: the object holds a value, which nobody uses after its guard.
            unsafe { home.0.drop_in_place() };
        }
    }
}

impl<T> Deref for PoolBox<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the object holds a value, borrowed as the guard is.
        unsafe { self.object.as_ref() }
    }
}

impl<T> DerefMut for PoolBox<'_, T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: the object holds a value, borrowed as the guard is.
        unsafe { self.object.as_mut() }
    }
}

impl<T> AsRef<T> for PoolBox<'_, T> {
    fn as_ref(&self) -> &T {
        self
    }
}

impl<T> AsMut<T> for PoolBox<'_, T> {
    fn as_mut(&mut self) -> &mut T {
        self
    }
}

impl<T> Borrow<T> for PoolBox<'_, T> {
    fn borrow(&self) -> &T {
        self
    }
}

impl<T> BorrowMut<T> for PoolBox<'_, T> {
    fn borrow_mut(&mut self) -> &mut T {
        self
    }
}

impl<T: fmt::Debug> fmt::Debug for PoolBox<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T: fmt::Display> fmt::Display for PoolBox<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        T::fmt(self, f)
    }
}

impl<T> fmt::Pointer for PoolBox<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Pointer::fmt(&self.object, f)
    }
}

impl<T: PartialEq> PartialEq for PoolBox<'_, T> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl<T: Eq> Eq for PoolBox<'_, T> {}

impl<T: PartialOrd> PartialOrd for PoolBox<'_, T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        T::partial_cmp(self, other)
    }
}

impl<T: Ord> Ord for PoolBox<'_, T> {
    fn cmp(&self, other: &Self) -> Ordering {
        T::cmp(self, other)
    }
}

impl<T: Hash> Hash for PoolBox<'_, T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        T::hash(self, state);
    }
}
