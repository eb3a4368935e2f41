//! The woken stack: slabs that were parked and whose blocks came back from other threads.
//!
//! | who | what |
//! |---|---|
//! | any thread whose push was answered `MustWake` | `push`, once for that parking |
//! | the holder of the arena | `take_all`, by one swap, so there is no ABA |
//!
//! A slab's link is written by the one pusher that woke it, and read by the holder after the swap; the slab is on no
//! other list and cannot be parked again before the holder has taken it from here.

use crate::sync::{AtomicUsize, Ordering, const_unless_loom};

/// The stack. 0 is its end; every other word names a slab.
pub(crate) struct Woken {
    head: AtomicUsize,
}

impl Woken {
    const_unless_loom! {
        /// An empty stack.
        pub(crate) fn new() -> Self {
            Woken { head: AtomicUsize::new(0) }
        }
    }

    /// Pushes the slab of that name, whose link is given.
    #[inline]
    pub(crate) fn push(&self, name: usize, link: &AtomicUsize) {
        let mut head = self.head.load(Ordering::Relaxed);
        loop {
            link.store(head, Ordering::Relaxed);
            match self.head.compare_exchange_weak(head, name, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Takes all; gives the name of the newest, which links to the others.
    #[inline]
    pub(crate) fn take_all(&self) -> usize {
        if self.head.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        self.head.swap(0, Ordering::AcqRel)
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use loom::sync::Arc;

    struct World {
        stack: Woken,
        links: [AtomicUsize; 2],
        /// Written before the push, as the link is; loom's cell panics where the holder is not bound to see it.
        written: [loom::cell::UnsafeCell<u32>; 2],
    }

    #[test]
    fn two_slabs_are_woken_while_the_holder_takes_all_and_neither_is_lost() {
        loom::model(|| {
            let world = Arc::new(World {
                stack: Woken::new(),
                // Links begin with what they never should be read as.
                links: [AtomicUsize::new(9), AtomicUsize::new(9)],
                written: [loom::cell::UnsafeCell::new(0), loom::cell::UnsafeCell::new(0)],
            });
            let wakers: Vec<_> = (0..2)
                .map(|slab| {
                    let world = world.clone();
                    loom::thread::spawn(move || {
                        // SAFETY: the slab is its waker's until it is pushed.
                        world.written[slab].with_mut(|written| unsafe { *written = 7 });
                        world.stack.push(slab + 1, &world.links[slab]);
                    })
                })
                .collect();
            let taken = |world: &World, seen: &mut [u32; 2]| {
                let mut name = world.stack.take_all();
                while name != 0 {
                    seen[name - 1] += 1;
                    // SAFETY: the slab was taken from the stack.
                    assert_eq!(world.written[name - 1].with(|written| unsafe { *written }), 7);
                    name = world.links[name - 1].load(Ordering::Relaxed);
                }
            };
            // A thread of its own: loom lets the one that spawns run first.
            let holder = world.clone();
            let holder = loom::thread::spawn(move || {
                let mut seen = [0, 0];
                taken(&holder, &mut seen);
                seen
            });
            for waker in wakers {
                waker.join().unwrap();
            }
            let mut seen = holder.join().unwrap();
            taken(&world, &mut seen);
            assert_eq!(seen, [1, 1]);
        });
    }
}
