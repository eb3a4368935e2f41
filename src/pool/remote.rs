//! Objects that come back on other threads: how they are marked, and found again by the thread that uses the pool.
//!
//! A pool is used by one thread at a time, its *user*: the one that holds references to it. Guards that stay on that thread give
//! their objects back there. Remote guards borrow the pool and may be dropped by any thread, the user among them; who the user is may
//! change meanwhile. Whoever drops a remote guard, the *dropper*, does this, in this order:
//!
//! 1. it sets the object's bit in the slab's bitmap of returned objects (release),
//! 2. it adds one to the slab's count of those who are through (acquire and release); whoever makes 1 of 0
//!    pushes the slab to the pool's stack of slabs to look at (release),
//! 3. it adds one to the pool's count of returned objects (release).
//!
//! | what | who writes it | who reads it |
//! |---|---|---|
//! | bitmap of returned objects | droppers set bits; the user takes words by a swap | |
//! | slab's count | droppers add; the user takes it by a swap, having taken the slab from the stack | |
//! | slab's link in the stack | who made 1 of 0 in the count, before the push | the user, before it takes the count |
//! | head of the stack | droppers, by compare-exchange; the user takes it whole by a swap, so there is no ABA | |
//! | pool's count | droppers add; the user takes it by a swap | |
//!
//! - *A slab is on the stack at most once, and its link stands while it is there*: only who makes 1 of 0 pushes it, and it
//!   is 0 again only when the user has taken the slab from the stack and has read its link.
//! - *A slab does not go while a dropper is about to touch it*: the user counts an object as home in its slab when it takes the
//!   slab's count, not when it finds the bit. An object's bit may be found (and the object be handed out anew) while its
//!   dropper has still to count itself; but then the slab counts one object more out than there are. The
//!   dropper's last touch is its addition, or its push if it has to push; and the user takes a count only after that push.
//! - *Nothing is lost*: a bit is set before its dropper counts itself, so whoever takes the count finds the bit, or
//!   has found it before.
//! - *A drop that has returned is known for one*: until the user takes the slab's count, which it does before it takes the bits,
//!   that is not 0. So where it is 0 no bit needs to be looked at, but those of droppers that are not through yet.
//! - *Statistics are exact*: a drop that has returned has been counted by step 3, whether its slab is on the stack yet or not
//!   (another dropper may be between its count and its push).

use crate::sync::{AtomicU64, AtomicUsize, Ordering};

/// A pool's part: what came back to it from other threads.
pub(crate) struct Returned {
    /// The address of the slab pushed last, which links to the others; 0: none.
    head: AtomicUsize,
    /// Objects returned, until the user takes the count.
    count: AtomicUsize,
}

/// A slab's part.
pub(crate) struct Returning {
    /// Droppers that have set their bits, until the user takes the count.
    count: AtomicUsize,
    /// The next slab on the pool's stack.
    link: AtomicUsize,
}

impl Returned {
    crate::sync::const_unless_loom! {
        /// Nothing.
        pub(crate) fn new() -> Self {
            Returned { head: AtomicUsize::new(0), count: AtomicUsize::new(0) }
        }
    }

    /// By a dropper: the object of that bit in that word of the bitmap is home. `slab` is the slab's address, `returning` its part.
    /// The slab is not touched after that, and the object belongs to the user.
    pub(crate) fn give(&self, slab: usize, returning: &Returning, word: &AtomicU64, bit: u64) {
        word.fetch_or(bit, Ordering::Release);
        if returning.count.fetch_add(1, Ordering::AcqRel) == 0 {
            let mut head = self.head.load(Ordering::Relaxed);
            loop {
                returning.link.store(head, Ordering::Relaxed);
                match self.head.compare_exchange_weak(head, slab, Ordering::Release, Ordering::Relaxed) {
                    Ok(_) => break,
                    Err(now) => head = now,
                }
            }
        }
        self.count.fetch_add(1, Ordering::Release);
    }

    /// By the user: whether slabs wait to be looked at. What comes at this moment is seen the next time.
    #[inline(always)]
    pub(crate) fn any_slabs(&self) -> bool {
        self.head.load(Ordering::Relaxed) != 0
    }

    /// By the user: takes all slabs that wait; gives the address of the first, or 0.
    pub(crate) fn take_slabs(&self) -> usize {
        self.head.swap(0, Ordering::Acquire)
    }

    /// By the user: takes the number of objects that have come back since it was taken last.
    #[inline(always)]
    pub(crate) fn take_count(&self) -> usize {
        if self.count.load(Ordering::Relaxed) == 0 { 0 } else { self.count.swap(0, Ordering::Acquire) }
    }
}

impl Returning {
    crate::sync::const_unless_loom! {
        /// Nothing.
        pub(crate) fn new() -> Self {
            Returning { count: AtomicUsize::new(0), link: AtomicUsize::new(0) }
        }
    }

    /// By the user: whether objects of the slab have come back that it has not taken.
    #[inline(always)]
    pub(crate) fn any_objects(&self) -> bool {
        self.count.load(Ordering::Relaxed) != 0
    }

    /// By the user, of a slab it has taken from the stack: the next one, or 0; and how many droppers are through with this one.
    /// To be asked once.
    pub(crate) fn take(&self) -> (usize, usize) {
        // The link first: the next dropper may push the slab anew as soon as the count is 0.
        let next = self.link.load(Ordering::Relaxed);
        (next, self.count.swap(0, Ordering::AcqRel))
    }
}

#[cfg(homing_loom)]
impl Returning {
    /// In models, by who gives the slab's memory away: loom panics where an access of another thread's is not over, or
    /// comes later.
    pub(crate) fn goes(&self) {
        // SAFETY: that it races with no other access is what loom finds out.
        unsafe { (self.count.unsync_load(), self.link.unsync_load()) };
    }
}

/// By the user: takes a word of the bitmap.
#[inline]
pub(crate) fn take_word(word: &AtomicU64) -> u64 {
    if word.load(Ordering::Relaxed) == 0 { 0 } else { word.swap(0, Ordering::Acquire) }
}

/// By the user: whether a bit of that word is set.
#[inline]
pub(crate) fn has_bit(word: &AtomicU64, bit: u64) -> bool {
    word.load(Ordering::Relaxed) & bit != 0
}
