//! A budget as a program's global allocator.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use super::{Budget, SoftLimit};

// SAFETY: blocks are those of the allocator inside, with the layouts that were asked for; nothing here unwinds.
unsafe impl<A: GlobalAlloc, F: Fn(&SoftLimit)> GlobalAlloc for Budget<A, F> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = self.charge_block(layout, || NonNull::new(unsafe { self.inner.alloc(layout) }));
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = self.charge_block(layout, || NonNull::new(unsafe { self.inner.alloc_zeroed(layout) }));
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        let withdrawn = self.ledger.withdraw(layout.size());
        // SAFETY: the caller's promise.
        unsafe { self.inner.dealloc(block, layout) };
        drop(withdrawn);
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        let change = || NonNull::new(unsafe { self.inner.realloc(block, layout, new_size) });
        let block = match new_size.checked_sub(layout.size()) {
            Some(more) => self.charge(more, layout.align(), change),
            None => self.refund(layout.size() - new_size, layout.align(), change),
        };
        block.map_or(ptr::null_mut(), NonNull::as_ptr)
    }
}

// SAFETY: as above, of the budget that it refers to.
unsafe impl<A: GlobalAlloc, F: Fn(&SoftLimit)> GlobalAlloc for &Budget<A, F> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { (**self).alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { (**self).alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { (**self).dealloc(block, layout) };
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { (**self).realloc(block, layout, new_size) }
    }
}
