//! A guard for code that allocates while it must not touch the calling thread's arena.
//!
//! Reading the machine through hwloc runs code that is not the allocator's, on a thread that may be anywhere: in its
//! first allocation, in a slow path, or past its exit hook. Under the guard the thread-local word names `ATTACHING`, the
//! arena that never has a block: every allocation misses the fast path and is served by a mapping of its own, without a
//! lock, and every free goes home as another thread's would. Setting the arena's busy flag alone would not do: the fast
//! paths do not look at it.
//!
//! Dropping the guard puts back what the word named, whatever that was: nothing yet, an arena at rest or in a slow path,
//! or the end of the thread. Guards may be nested.

use core::marker::PhantomData;

use super::{Arena, tls};

/// While it lives, the calling thread allocates from mappings of their own, and nothing it does reaches its arena.
#[must_use]
pub(crate) struct Apart {
    before: &'static Arena,
    /// It speaks of the thread that made it, and stays there.
    _of_thread: PhantomData<*const ()>,
}

impl Apart {
    /// Begins.
    pub(crate) fn begin() -> Self {
        let before = tls::get();
        tls::set(&tls::ATTACHING);
        Apart { before, _of_thread: PhantomData }
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        tls::set(self.before);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::arena::{enter, is_attached};
    use crate::config::Config;
    use crate::{heap, os};

    fn take(size: usize) -> *mut u8 {
        let block = heap::allocate(size, 8, &Config::new());
        assert!(!block.is_null());
        block
    }

    fn give(block: *mut u8) {
        // SAFETY: came from `take`, and is not used any more.
        unsafe { heap::free(block, ()) };
    }

    /// Takes and frees blocks of many sizes, each of which must be a mapping of its own.
    fn use_mappings() {
        for size in [1, 24, 500, 5000, 60_000, 100_000, 5 << 20] {
            let block = take(size);
            assert!((block as usize).is_multiple_of(os::page_size()), "{size} bytes came from a slab");
            // SAFETY: the block is the caller's.
            let block =
                unsafe { heap::reallocate(core::ptr::NonNull::new(block).unwrap(), 3 * size, 8, &Config::new(), ()) };
            assert!((block as usize).is_multiple_of(os::page_size()), "{size} bytes grew into a slab");
            give(block);
        }
    }

    fn names(arena: &'static Arena) -> bool {
        core::ptr::eq(tls::get(), arena)
    }

    #[test]
    fn a_thread_without_an_arena_gets_none_under_the_guard_and_one_after_it() {
        thread::spawn(|| {
            assert!(names(&tls::EMPTY));
            let guard = Apart::begin();
            use_mappings();
            assert!(names(&tls::ATTACHING));
            drop(guard);
            assert!(names(&tls::EMPTY));
            give(take(24));
            assert!(is_attached());
        })
        .join()
        .unwrap();
    }

    #[test]
    fn blocks_on_the_arena_s_lists_are_not_handed_out_under_the_guard() {
        // The first is carved with others, which wait on the list.
        let before = take(24);
        let arena = tls::get();
        let guard = Apart::begin();
        use_mappings();
        // A free of the arena's own block comes home later, as if another thread had sent it.
        give(before);
        drop(guard);
        assert!(names(arena) && is_attached());
        let blocks: Vec<_> = (0..2000).map(|_| take(24)).collect();
        assert!(blocks.iter().any(|block| !(*block as usize).is_multiple_of(os::page_size())));
        blocks.into_iter().for_each(give);
    }

    #[test]
    fn a_thread_in_a_slow_path_is_still_in_it_after_the_guard() {
        let held = enter::enter(&Config::new()).ok().unwrap();
        {
            let _guard = Apart::begin();
            use_mappings();
        }
        assert!(held.busy.get() && names(tls::get()));
        assert_eq!(enter::enter(&Config::new()).err(), Some(enter::Refusal::Reentered));
        drop(held);
        assert!(enter::enter(&Config::new()).is_ok());
    }

    #[test]
    fn a_thread_past_its_exit_hook_stays_past_it() {
        thread::spawn(|| {
            let block = take(24);
            enter::on_thread_exit(core::ptr::null_mut());
            {
                let _guard = Apart::begin();
                use_mappings();
                give(block);
            }
            assert!(names(&tls::EXITED));
            give(take(24));
        })
        .join()
        .unwrap();
    }

    #[test]
    fn a_panic_under_nested_guards_ends_both() {
        give(take(24));
        let arena = tls::get();
        let caught = std::panic::catch_unwind(|| {
            let _outer = Apart::begin();
            let _inner = Apart::begin();
            std::panic::resume_unwind(Box::new(take(24) as usize));
        });
        assert!(names(arena));
        give(core::ptr::with_exposed_provenance_mut(*caught.unwrap_err().downcast::<usize>().unwrap()));
    }
}
