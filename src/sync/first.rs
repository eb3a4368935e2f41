//! A value that whoever needs it first makes, in memory of its own choosing, and that stays.
//!
//! | state | meaning | who leaves it |
//! |---|---|---|
//! | null | nobody has published one | any thread, by compare-exchange to what it has made (release) |
//! | a pointer | published; what was written before is visible to whoever reads it (acquire) | nobody |
//!
//! Two may make one at once. The later one gets its own back, and goes by the other's; nobody waits for anybody, so that
//! a thread that is re-entered while it makes one is no special case.

use core::ptr::{self, NonNull};

use super::{AtomicPtr, Ordering, const_unless_loom};

/// See the module's text.
pub(crate) struct First<T>(AtomicPtr<T>);

impl<T> First<T> {
    const_unless_loom! {
        /// Nobody has published one.
        pub(crate) fn new() -> Self {
            First(AtomicPtr::new(ptr::null_mut()))
        }
    }

    /// What was published, if anything was.
    #[inline]
    pub(crate) fn get(&self) -> Option<NonNull<T>> {
        NonNull::new(self.0.load(Ordering::Acquire))
    }

    /// Publishes what the caller has made, unless another one was published meanwhile. Gives what counts from now on; where
    /// that is not the caller's, its own is still its own.
    pub(crate) fn publish(&self, made: NonNull<T>) -> NonNull<T> {
        match self.0.compare_exchange(ptr::null_mut(), made.as_ptr(), Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => made,
            // Only null is exchanged, so what was found instead is not null.
            Err(other) => NonNull::new(other).unwrap_or(made),
        }
    }
}

#[cfg(all(test, homing_loom))]
mod loom_models {
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    /// What is published: a word that is written before.
    struct Made(UnsafeCell<u32>);

    /// Makes one, publishes it, and reads what counts: the word, whether it was this thread's own, and its address.
    fn make_and_read(first: &First<Made>) -> (u32, bool, usize) {
        let made = NonNull::from(Box::leak(Box::new(Made(UnsafeCell::new(0)))));
        // SAFETY: nobody else knows it yet; loom's cell panics where somebody does.
        unsafe { made.as_ref() }.0.with_mut(|word| unsafe { *word = 7 });
        let counts = first.publish(made);
        if counts != made {
            // SAFETY: it was not published, so it is still this thread's.
            drop(unsafe { Box::from_raw(made.as_ptr()) });
        }
        // SAFETY: what was published stays until the model ends.
        let word = unsafe { counts.as_ref() }.0.with(|word| unsafe { *word });
        (word, counts == made, counts.as_ptr() as usize)
    }

    #[test]
    fn two_threads_that_make_one_at_once_go_by_the_same_and_see_it_whole() {
        loom::model(|| {
            let first = Arc::new(First::new());
            let other = first.clone();
            let thread = loom::thread::spawn(move || make_and_read(&other));
            let mine = make_and_read(&first);
            let theirs = thread.join().unwrap();
            assert_eq!((mine.0, theirs.0), (7, 7));
            assert_eq!(mine.2, theirs.2, "both go by the same");
            assert!(mine.1 != theirs.1, "one of them was first");
            // SAFETY: nobody uses it any more.
            drop(unsafe { Box::from_raw(first.get().unwrap().as_ptr()) });
        });
    }

    #[test]
    fn who_finds_one_sees_all_that_its_maker_wrote() {
        loom::model(|| {
            let first = Arc::new(First::new());
            let other = first.clone();
            let thread = loom::thread::spawn(move || make_and_read(&other));
            if let Some(made) = first.get() {
                // SAFETY: what was published stays until the model ends.
                assert_eq!(unsafe { made.as_ref() }.0.with(|word| unsafe { *word }), 7);
            }
            thread.join().unwrap();
            // SAFETY: nobody uses it any more.
            drop(unsafe { Box::from_raw(first.get().unwrap().as_ptr()) });
        });
    }
}
