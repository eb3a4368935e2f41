//! A budget as an allocator of the crate `allocator-api2`.

use core::alloc::Layout;
use core::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};

use super::{Budget, BudgetError, SoftLimit};

/// Blocks are given as just as long as asked for, even where the allocator inside gives more: so the layout that a block
/// comes back with is the one that was charged.
fn cut(block: NonNull<[u8]>, size: usize) -> NonNull<[u8]> {
    NonNull::slice_from_raw_parts(block.cast(), size)
}

impl<A: Allocator, F: Fn(&SoftLimit)> Budget<A, F> {
    /// A block of that layout, charged: as `Allocator::allocate`, with an error that tells (feature `allocator-api2`).
    ///
    /// # Errors
    /// [`BudgetError::Exceeded`] where it does not fit within the limit of this budget or one further inside;
    /// [`BudgetError::Inner`] where the allocator inside has no memory.
    ///
    /// ```
    /// use core::alloc::Layout;
    /// use allocator_api2::alloc::Allocator;
    /// use homing::{Budget, BudgetError, Homing};
    ///
    /// let budget = Budget::new("parser", 4096, Homing::new());
    /// let layout = Layout::new::<[u64; 400]>();
    /// let block = budget.try_allocate(layout)?;
    /// assert_eq!((budget.used(), budget.remaining()), (3200, 896));
    /// match budget.try_allocate(layout) {
    ///     Err(BudgetError::Exceeded { budget: "parser", asked: 3200, used: 3200, limit: 4096, .. }) => {}
    ///     other => panic!("{other:?}"),
    /// }
    /// unsafe { budget.deallocate(block.cast(), layout) };
    /// assert_eq!(budget.used(), 0);
    /// # Ok::<(), BudgetError>(())
    /// ```
    pub fn try_allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, BudgetError> {
        self.charge_block(layout, || self.inner.allocate(layout).ok()).map(|block| cut(block, layout.size()))
    }

    /// As [`try_allocate`](Self::try_allocate), all of the block zero.
    ///
    /// # Errors
    /// As there.
    pub fn try_allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, BudgetError> {
        self.charge_block(layout, || self.inner.allocate_zeroed(layout).ok()).map(|block| cut(block, layout.size()))
    }

    /// The block with a larger layout: as `Allocator::grow`, with an error that tells. Charged for what it grows by.
    ///
    /// # Errors
    /// As for [`try_allocate`](Self::try_allocate); the block is as it was then.
    ///
    /// # Safety
    /// As for `Allocator::grow`: a live block of this budget with the layout `old`; `new` is not smaller.
    pub unsafe fn try_grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, BudgetError> {
        // SAFETY: the caller's promise.
        let grow = || unsafe { self.inner.grow(block, old, new) }.ok();
        self.charge(new.size().saturating_sub(old.size()), new.align(), grow).map(|block| cut(block, new.size()))
    }

    /// As [`try_grow`](Self::try_grow), what is new of the block zero.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn try_grow_zeroed(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, BudgetError> {
        // SAFETY: the caller's promise.
        let grow = || unsafe { self.inner.grow_zeroed(block, old, new) }.ok();
        self.charge(new.size().saturating_sub(old.size()), new.align(), grow).map(|block| cut(block, new.size()))
    }

    /// The block with a smaller layout: as `Allocator::shrink`, with an error that tells.
    ///
    /// # Errors
    /// [`BudgetError::Inner`] where the allocator inside cannot; the block is as it was then, and charged as it was.
    ///
    /// # Safety
    /// As for `Allocator::shrink`: a live block of this budget with the layout `old`; `new` is not larger.
    pub unsafe fn try_shrink(
        &self,
        block: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, BudgetError> {
        // SAFETY: the caller's promise.
        let shrink = || unsafe { self.inner.shrink(block, old, new) }.ok();
        self.refund(old.size().saturating_sub(new.size()), new.align(), shrink).map(|block| cut(block, new.size()))
    }
}

// SAFETY: blocks are those of the allocator inside, as long as asked for; they stay valid for as long as that does, which
// is moved with the budget.
unsafe impl<A: Allocator, F: Fn(&SoftLimit)> Allocator for Budget<A, F> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.try_allocate(layout).map_err(|_| AllocError)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.try_allocate_zeroed(layout).map_err(|_| AllocError)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        let withdrawn = self.ledger.withdraw(layout.size());
        // SAFETY: the caller's promise.
        unsafe { self.inner.deallocate(block, layout) };
        drop(withdrawn);
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.try_grow(block, old, new) }.map_err(|_| AllocError)
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.try_grow_zeroed(block, old, new) }.map_err(|_| AllocError)
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.try_shrink(block, old, new) }.map_err(|_| AllocError)
    }
}
