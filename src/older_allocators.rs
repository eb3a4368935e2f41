//! The crate's allocators of `allocator-api2` 0.4 are allocators of its 0.2 too, the version that `hashbrown` and `bumpalo` go by:
//! the trait is the same.

use core::alloc::Layout;
use core::ptr::NonNull;

use allocator_api2::alloc::Allocator;
use allocator_api2_02::alloc as older;

use crate::bump::Bump;
use crate::node_alloc::NodeAlloc;
use crate::node_pools::{NodePools, OnNode};
use crate::{Budget, Homing, Pool, SoftLimit};

macro_rules! serve_older {
    ($([$($generics:tt)*] $type:ty;)*) => {
        $(
        // SAFETY: as the newer trait promises, which promises the same.
        unsafe impl $($generics)* older::Allocator for $type {
            #[inline]
            fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, older::AllocError> {
                Allocator::allocate(self, layout).map_err(|_| older::AllocError)
            }

            #[inline]
            fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, older::AllocError> {
                Allocator::allocate_zeroed(self, layout).map_err(|_| older::AllocError)
            }

            #[inline]
            unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
                // SAFETY: the caller's promise.
                unsafe { Allocator::deallocate(self, block, layout) };
            }

            #[inline]
            unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, older::AllocError> {
                // SAFETY: the caller's promise.
                unsafe { Allocator::grow(self, block, old, new) }.map_err(|_| older::AllocError)
            }

            #[inline]
            unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, older::AllocError> {
                // SAFETY: the caller's promise.
                unsafe { Allocator::grow_zeroed(self, block, old, new) }.map_err(|_| older::AllocError)
            }

            #[inline]
            unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, older::AllocError> {
                // SAFETY: the caller's promise.
                unsafe { Allocator::shrink(self, block, old, new) }.map_err(|_| older::AllocError)
            }
        })*
    };
}

serve_older! {
    [] Homing;
    [] NodeAlloc;
    [] NodePools;
    [<'a>] OnNode<'a>;
    [] Bump;
    [<T>] Pool<T>;
    [<A: Allocator, F: Fn(&SoftLimit)>] Budget<A, F>;
}
