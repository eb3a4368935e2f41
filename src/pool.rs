//! Objects of one type in slabs of their own: [`Pool`].
//!
//! `geometry` says where in a slab what stands; `slab` is one slab, `slabs` a pool's slabs at work, `registry` knows where they
//! lie. Objects that come back on other threads go the way of `remote`. `stats` counts, `guard` is what users hold.

mod error;
mod geometry;
mod guard;
mod registry;
mod remote;
mod slab;
mod slabs;
mod stats;

#[cfg(feature = "allocator-api2")]
mod allocator;

use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::panic::{RefUnwindSafe, UnwindSafe};
use core::ptr::NonNull;

pub use error::PoolError;
use geometry::Geometry;
pub use guard::{OnAnyThread, OnPoolThread, PoolBox, PoolReach, RemotePoolBox};
use slabs::Slabs;
pub use stats::PoolStats;

use crate::placement::NodeError;
use crate::source::Source;
use crate::topology::NodeId;

/// A pool of objects of one type, in slabs of this allocator on a chosen node, or on that of the thread that asks.
///
/// Objects are obtained as guards by [`insert`](Self::insert), which give them back when they are dropped; or by the raw pair
/// [`allocate`](Self::allocate) and [`deallocate`](Self::deallocate), which checks what it is given. With the feature `allocator-api2`
/// the pool is an allocator too: what fits in a `T` lies in its slabs, what is larger in the heap, on the same node.
///
/// - *Sizes*: a slab is 64 KiB for types of 16 bytes to some 8 KiB, smaller below (4 KiB for a byte) and larger above, and holds up
///   to 4096 objects, never less than three. Its header takes nine bits an object and 128 bytes. A pool has no
///   memory before its first object, and keeps one empty slab beside the one that it takes from; others go back to the heap at
///   once. Where there is no memory for another slab, every object that is free serves.
/// - *Alignment*: that of `T`, whatever it is. Objects of no size have addresses of their own all the same.
/// - *Errors*: [`PoolError`] says what is wrong, and nothing has changed then. Which objects are free is told by flags apart
///   from the objects: a double free is known for one in every build, and what is written to an object after its
///   time damages no more than the object.
/// - *Threads*: one thread uses a pool at a time, any one: it is `Send`, not `Sync`. Guards are dropped where the pool is used, or
///   made remote ones ([`PoolBox::into_remote`]), which may be dropped anywhere.
/// - *Re-entry*: values may use the pool in their `drop`, and so may the function that [`insert_with`](Self::insert_with) calls. Signal
///   handlers may not.
/// - *At thread exit* nothing happens: the pool is its owner's. Dropping it gives all memory back; what is in objects whose guards were
///   forgotten, or that were allocated raw, is not dropped.
/// - *Cost*: a guard made and dropped takes some 20 instructions, exact statistics included; the raw pair, which checks, some
///   38.
///
/// ```
/// use homing::Pool;
///
/// struct Particle { place: [f32; 3], speed: [f32; 3] }
///
/// let pool = Pool::new();
/// let mut particle = pool.insert(Particle { place: [0.0; 3], speed: [1.0, 0.0, 0.5] })?;
/// for axis in 0..3 {
///     particle.place[axis] += particle.speed[axis];
/// }
/// assert_eq!(pool.stats().objects, 1);
/// drop(particle);
/// assert_eq!((pool.stats().objects, pool.stats().peak_objects), (0, 1));
/// # Ok::<(), homing::PoolError>(())
/// ```
///
/// Two threads cannot use one at a time:
///
/// ```compile_fail,E0277
/// let pool = homing::Pool::<u64>::new();
/// std::thread::scope(|threads| threads.spawn(|| pool.insert(7).is_ok()).join().unwrap());
/// ```
pub struct Pool<T> {
    // Dropped by itself: a `Drop` of `Pool<T>` could reach what `T` borrows, for all that the compiler knows, and so forbid
    // values that hold guards of their own pool.
    slabs: Slabs,
    objects: PhantomData<NonNull<T>>,
}

// SAFETY: all that a pool has is reached by the thread that has a reference to it, and by droppers of remote guards in the way of `remote`.
// It owns no values: guards do.
unsafe impl<T> Send for Pool<T> {}

// A panic on the way, in a value's drop or where one is made, leaves it whole, and it shows no values by itself.
impl<T> UnwindSafe for Pool<T> {}
impl<T> RefUnwindSafe for Pool<T> {}

impl<T> Pool<T> {
    const GEOMETRY: Geometry = Geometry::of(size_of::<T>(), align_of::<T>());

    /// A pool whose slabs lie where the thread is, each, that asks for the first object in it; or as the policy says
    /// ([`Policy`](crate::Policy)). It has no memory yet.
    pub const fn new() -> Self {
        Self::of(Source::Caller)
    }

    /// A pool whose slabs all lie on that node. It has no memory yet.
    ///
    /// # Errors
    /// [`NodeError::NoSuchNode`], [`NodeError::WithoutMemory`] or [`NodeError::NotAllowed`].
    ///
    /// ```
    /// use homing::{Pool, Topology};
    ///
    /// let node = Topology::read().nodes()[0].id();
    /// let pool = Pool::on_node(node)?;
    /// let number = pool.insert(7_u64)?;
    /// assert_eq!((*number, pool.node()), (7, Some(node)));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn on_node(node: NodeId) -> Result<Self, NodeError> {
        Source::on(node).map(Self::of)
    }

    const fn of(source: Source) -> Self {
        Pool { slabs: Slabs::new(source, &Self::GEOMETRY), objects: PhantomData }
    }

    /// The node, if the pool was made for a certain one.
    pub fn node(&self) -> Option<NodeId> {
        self.slabs.source().node()
    }

    /// Puts a value in an object. Where there is none, the value is dropped; use [`insert_with`](Self::insert_with) to make it
    /// only where there is one.
    ///
    /// # Errors
    /// [`PoolError::NoMemory`].
    #[inline]
    pub fn insert(&self, value: T) -> Result<PoolBox<'_, T>, PoolError> {
        let object = self.allocate()?;
        // SAFETY: the object is as long and aligned as a `T`, and nobody else's.
        unsafe { object.write(value) };
        // SAFETY: it holds a value now.
        Ok(unsafe { PoolBox::from_raw(self, object) })
    }

    /// Puts a value in an object that `make` is called for once there is one, so that a large value need not be moved there. Where
    /// `make` panics, the object is given back. It may use the pool.
    ///
    /// # Errors
    /// [`PoolError::NoMemory`]; then `make` is not called.
    ///
    /// ```
    /// # use homing::Pool;
    /// let pool = Pool::new();
    /// let page = pool.insert_with(|| [0_u8; 4096])?;
    /// assert_eq!(page.len(), 4096);
    /// # Ok::<(), homing::PoolError>(())
    /// ```
    #[inline]
    pub fn insert_with(&self, make: impl FnOnce() -> T) -> Result<PoolBox<'_, T>, PoolError> {
        let empty = self.allocate()?.cast::<MaybeUninit<T>>();
        /// Gives the object back, unless it is forgotten.
        struct Home<'p, T>(NonNull<T>, &'p Pool<T>);
        impl<T> Drop for Home<'_, T> {
            fn drop(&mut self) {
                // SAFETY: an object without a value, which `make` has not filled. Its thread has not changed.
                unsafe { self.1.slabs.give(self.0.cast(), &Pool::<T>::GEOMETRY) };
            }
        }
        let home = Home(empty.cast::<T>(), self);
        // SAFETY: the object is as long and aligned as a `T`, and nobody else's.
        unsafe { empty.write(MaybeUninit::new(make())) };
        core::mem::forget(home);
        // SAFETY: it holds a value now.
        Ok(unsafe { PoolBox::from_raw(self, empty.cast()) })
    }

    /// An object without a value, whose contents are not defined. It is given back by [`deallocate`](Self::deallocate), or by
    /// [`PoolBox::from_raw`] once it has a value; or goes with the pool.
    ///
    /// # Errors
    /// [`PoolError::NoMemory`].
    ///
    /// ```
    /// # use homing::{Pool, PoolError};
    /// let pool = Pool::<u64>::new();
    /// let object = pool.allocate()?;
    /// unsafe { object.write(7) };
    /// assert_eq!(unsafe { pool.deallocate(object) }, Ok(()));
    /// assert_eq!(unsafe { pool.deallocate(object) }, Err(PoolError::DoubleFree));
    /// # Ok::<(), PoolError>(())
    /// ```
    #[inline]
    pub fn allocate(&self) -> Result<NonNull<T>, PoolError> {
        match self.slabs.take(&Self::GEOMETRY) {
            Some(object) => Ok(object.cast()),
            None => Err(self.no_memory()),
        }
    }

    #[cold]
    #[inline(never)]
    fn no_memory(&self) -> PoolError {
        PoolError::NoMemory { size: Self::GEOMETRY.slab, node: self.node() }
    }

    /// Takes an object back. A value in it is not dropped. The pointer may be any: it is checked before anything behind it is
    /// read, and nothing is done where it is no object of this pool that is out.
    ///
    /// What cannot be known: that an object has been handed out anew since the caller gave it back.
    ///
    /// # Errors
    /// [`PoolError::DoubleFree`], [`PoolError::Interior`], [`PoolError::NoObject`], [`PoolError::OtherPool`] or
    /// [`PoolError::Foreign`]. Once an empty slab has gone back to the heap, pointers into it are told as `DoubleFree` or
    /// `OtherPool`, as the memory is used by then, or `Foreign`.
    ///
    /// # Safety
    /// Where the pointer is an object of this pool that is out, the caller owns it (no guard does), and nobody uses it any more.
    /// Where it leads to no slab of this pool, no other thread gives the memory back meanwhile that it leads to: the heap's
    /// headers are read there, to tell what is wrong.
    #[inline]
    pub unsafe fn deallocate(&self, object: NonNull<T>) -> Result<(), PoolError> {
        self.slabs.give_checked(object.cast(), &Self::GEOMETRY)
    }

    /// The figures. *Cost*: some tens of instructions; no lock, no system call.
    pub fn stats(&self) -> PoolStats {
        self.slabs.stats(&Self::GEOMETRY)
    }

    /// Gives empty slabs back to the heap that the pool keeps for the next objects.
    pub fn trim(&self) {
        self.slabs.trim(&Self::GEOMETRY);
    }

    /// Takes back the object of a guard of that reach.
    ///
    /// # Safety
    /// The caller is the guard's last, and the value is dropped or moved out.
    #[inline(always)]
    unsafe fn give_back<R: PoolReach>(&self, object: NonNull<T>) {
        if R::IS_REMOTE {
            // SAFETY: a guard's object.
            unsafe { self.slabs.give_from_elsewhere(object.cast(), &Self::GEOMETRY) };
        } else {
            // SAFETY: a guard's object; such guards are on the thread that has a reference to the pool.
            unsafe { self.slabs.give(object.cast(), &Self::GEOMETRY) };
        }
    }
}

impl<T> Default for Pool<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> core::fmt::Debug for Pool<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Pool").field("node", &self.node()).field("stats", &self.stats()).finish()
    }
}
