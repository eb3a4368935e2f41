//! The inbox: where other threads put blocks of an arena's slabs that they have freed, for its holder to take.
//!
//! | who | what |
//! |---|---|
//! | any thread that freed blocks of slabs whose owner words name the arena | `push`: a chain of them, by compare-exchange |
//! | the holder of the arena | `take_all`, by one swap, so there is no ABA; it brings them home in pieces, and what waits for that is the arena's own list |
//!
//! A block belongs to the thread that freed it until it is pushed, and to the holder once it is taken: its link is written
//! before the push releases it, and read after the take acquires it. (Pushes are read-modify-writes, so a take
//! synchronises with every push whose blocks it gets, not only with the last.)
//!
//! An owner word may have changed by the time its arena's inbox is looked at: a slab of an idle arena was handed over to
//! another. The holder that finds such a block sends it on. It cannot change again behind the block's back: only the
//! holder of the arena that it names hands the slab over. Nor can the slab go, since the block counts as out until it is
//! on the slab's own list.

use crate::sync::{AtomicUsize, Ordering, const_unless_loom};

/// The inbox: the address of the block that came last, which links to the others; 0: none.
pub(crate) struct Inbox {
    head: AtomicUsize,
}

impl Inbox {
    const_unless_loom! {
        /// An empty inbox.
        pub(crate) fn new() -> Self {
            Inbox { head: AtomicUsize::new(0) }
        }
    }

    /// Pushes a chain that begins with the block at `first`. `link_last` makes the chain's last block point at what it is
    /// given; it may be called more than once.
    #[inline]
    pub(crate) fn push(&self, first: usize, mut link_last: impl FnMut(usize)) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link_last(head);
            match self.head.compare_exchange_weak(head, first, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Whether nothing has come since it was last taken; what comes at this moment is seen the next time.
    #[inline(always)]
    pub(crate) fn is_empty(&self) -> bool {
        self.head.load(Ordering::Relaxed) == 0
    }

    /// For audits, while nobody pushes or takes: the address of the block that came last, or 0.
    #[allow(dead_code, reason = "the models do without")]
    pub(crate) fn peek(&self) -> usize {
        self.head.load(Ordering::Acquire)
    }

    /// Takes all; gives the address of the block that came last, or 0.
    #[inline]
    pub(crate) fn take_all(&self) -> usize {
        self.head.swap(0, Ordering::Acquire)
    }
}
