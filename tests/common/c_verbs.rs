//! The allocator as C calls it.

use std::alloc::Layout;

use homing::entry;

use super::Verbs;

/// The C library's verbs.
pub struct C;

impl Verbs for C {
    const LEAST_ALIGN: usize = 16;

    fn allocate(layout: Layout, zeroed: bool) -> *mut u8 {
        let (size, align) = (layout.size(), layout.align());
        match (align <= 16, zeroed, size % 3) {
            (true, true, _) => entry::calloc(1, size),
            (true, false, _) => entry::malloc(size),
            // Nothing but `calloc` gives zeroed memory: clear it as a user would.
            (false, _, way) => {
                let block = match way {
                    0 => entry::memalign(align, size),
                    1 => entry::aligned_alloc(align, size),
                    _ => entry::posix_memalign(align, size).map_or(std::ptr::null_mut(), |block| block.as_ptr()),
                };
                if zeroed && !block.is_null() {
                    // SAFETY: the block is `size` bytes long.
                    unsafe { block.write_bytes(0, size) };
                }
                block
            }
        }
    }

    unsafe fn reallocate(block: *mut u8, _: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { entry::realloc(block, new_size) }
    }

    unsafe fn free(block: *mut u8, _: Layout) {
        // SAFETY: the caller's promise.
        unsafe { entry::free(block) };
    }

    fn align_after_reallocate(align: usize) -> usize {
        align.min(16)
    }
}
