//! Models of remote guards, dropped on other threads, for loom: of the user that brings their objects home, hands
//! them out anew, and gives slabs away that are empty. Each is named after the hazard it rules out.

#[path = "remote.rs"]
mod remote;

use loom::cell::UnsafeCell;
use loom::sync::Arc;

use crate::models::{join, spawn};
use crate::sync::AtomicU64;
use remote::{Returned, Returning, has_bit, take_word};

struct Slab {
    returning: Returning,
    returned: AtomicU64,
    /// The values: whoever has an object writes to its own.
    values: Vec<UnsafeCell<usize>>,
    /// The user's: a bit for each free object, and how many are out.
    mine: UnsafeCell<(u64, usize)>,
}

struct World {
    returned: Returned,
    slabs: Vec<Slab>,
    /// The user's: objects known to be home.
    home: UnsafeCell<usize>,
}

impl World {
    /// So many slabs, all of whose objects are out.
    fn new(slabs: usize, objects: usize) -> Arc<Self> {
        let slab = || Slab {
            returning: Returning::new(),
            returned: AtomicU64::new(0),
            values: (0..objects).map(|_| UnsafeCell::new(0)).collect(),
            mine: UnsafeCell::new((0, objects)),
        };
        Arc::new(World {
            returned: Returned::new(),
            slabs: (0..slabs).map(|_| slab()).collect(),
            home: UnsafeCell::new(0),
        })
    }

    /// What a thread does that drops a remote guard.
    fn drop_guard(&self, slab: usize, object: usize) {
        let there = &self.slabs[slab];
        self.write(slab, object);
        self.returned.give(slab + 1, &there.returning, &there.returned, 1 << object);
    }

    /// What the user asks of an object that comes back a second time: whether it waits to be collected.
    fn is_returned(&self, slab: usize, object: usize) -> bool {
        let there = &self.slabs[slab];
        there.returning.any_objects() && has_bit(&there.returned, 1 << object)
    }

    /// What an object's owner does with it.
    fn write(&self, slab: usize, object: usize) {
        // SAFETY: the object is its owner's; loom's cell panics where it is another's too.
        self.slabs[slab].values[object].with_mut(|value| unsafe { *value += 1 });
    }

    fn of_user<T, U>(cell: &UnsafeCell<T>, change: impl FnOnce(&mut T) -> U) -> U {
        // SAFETY: the user's; loom's cell panics where another thread comes here.
        cell.with_mut(|mine| change(unsafe { &mut *mine }))
    }

    /// What the user does from time to time.
    fn collect(&self) {
        if !self.returned.any_slabs() {
            return;
        }
        let mut waiting = self.returned.take_slabs();
        while waiting != 0 {
            let slab = &self.slabs[waiting - 1];
            let (next, count) = slab.returning.take();
            waiting = next;
            let bits = take_word(&slab.returned);
            let out = Self::of_user(&slab.mine, |mine| {
                assert_eq!(mine.0 & bits, 0, "an object came home twice");
                mine.0 |= bits;
                mine.1 -= count;
                mine.1
            });
            if out == 0 {
                slab.returning.goes();
                // SAFETY: that it races with no other access is what loom finds out.
                unsafe { slab.returned.unsync_load() };
            }
        }
    }

    /// What the user does for statistics.
    fn count(&self) -> usize {
        Self::of_user(&self.home, |home| {
            *home += self.returned.take_count();
            *home
        })
    }

    /// Hands out a free object of the slab, if there is one, and takes it back.
    fn use_again(&self, slab: usize) {
        let there = &self.slabs[slab];
        let free = Self::of_user(&there.mine, |mine| {
            let free = mine.0;
            mine.0 &= !(free & free.wrapping_neg());
            (free != 0).then(|| {
                mine.1 += 1;
                free.trailing_zeros() as usize
            })
        });
        if let Some(object) = free {
            self.write(slab, object);
            Self::of_user(&there.mine, |mine| {
                mine.0 |= 1 << object;
                mine.1 -= 1;
            });
        }
    }

    /// At the end nothing may be lost: all is home, and counted once.
    fn all_home(&self) {
        self.collect();
        let objects: usize = self.slabs.iter().map(|slab| slab.values.len()).sum();
        assert_eq!(self.count(), objects);
        for slab in &self.slabs {
            let (free, out) = Self::of_user(&slab.mine, |mine| *mine);
            assert_eq!((free.count_ones() as usize, out), (slab.values.len(), 0), "an object was lost");
            assert!(!has_bit(&slab.returned, u64::MAX));
        }
    }
}

/// Three threads take too many orders to try all: those with so many preemptions at most.
fn check_with_preemptions(most: usize, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(most);
    builder.check(model);
}

#[test]
fn two_threads_drop_guards_of_one_slab_which_is_given_away_when_both_are_through() {
    check_with_preemptions(3, || {
        let world = World::new(1, 2);
        let threads = [
            spawn(&world, |world| world.drop_guard(0, 0)),
            spawn(&world, |world| world.drop_guard(0, 1)),
            spawn(&world, |world| {
                world.collect();
                world.collect();
            }),
        ];
        join(threads);
        world.all_home();
    });
}

#[test]
fn an_object_is_handed_out_anew_while_its_dropper_has_still_to_count_itself() {
    check_with_preemptions(3, || {
        let world = World::new(1, 2);
        let threads = [
            spawn(&world, |world| world.drop_guard(0, 0)),
            spawn(&world, |world| world.drop_guard(0, 1)),
            spawn(&world, |world| {
                world.collect();
                world.use_again(0);
            }),
        ];
        join(threads);
        world.all_home();
    });
}

#[test]
fn slabs_are_pushed_anew_while_the_user_goes_along_the_ones_it_took() {
    check_with_preemptions(2, || {
        let world = World::new(2, 2);
        let threads = [
            spawn(&world, |world| {
                world.drop_guard(0, 0);
                world.drop_guard(1, 0);
            }),
            spawn(&world, |world| {
                world.drop_guard(1, 1);
                world.drop_guard(0, 1);
            }),
            spawn(&world, |world| {
                world.collect();
                world.collect();
            }),
        ];
        join(threads);
        world.all_home();
    });
}

/// A drop of the user's has returned, beside one on another thread that may be anywhere.
fn beside_a_slow_drop(then: fn(&World)) {
    loom::model(move || {
        let world = World::new(1, 2);
        let slow = spawn(&world, |world| world.drop_guard(0, 0));
        let user = spawn(&world, move |world| {
            // As on another thread that the user has heard of since.
            world.drop_guard(0, 1);
            then(world);
        });
        join([slow, user]);
        world.all_home();
    });
}

#[test]
fn a_drop_that_has_returned_is_counted_though_another_has_still_to_push_the_slab() {
    beside_a_slow_drop(|world| assert!(world.count() >= 1));
}

#[test]
fn a_drop_that_has_returned_is_told_from_none_until_it_is_collected() {
    beside_a_slow_drop(|world| {
        assert!(world.is_returned(0, 1));
        world.collect();
        let is_free = World::of_user(&world.slabs[0].mine, |mine| mine.0 & 2 != 0);
        assert!(is_free || world.is_returned(0, 1));
    });
}
