//! Models of the lock-free parts at work together, for loom: a slab, its remote word, two arenas with their woken
//! stacks, and a node's lock. Each is named after the hazard it rules out.
//!
//! Run by `RUSTFLAGS="--cfg loom" cargo test --release --package homing --lib`.

#[path = "slab/remote.rs"]
#[allow(dead_code)]
mod remote;
#[path = "arena/woken.rs"]
mod woken;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::sync::lock::Lock;
use crate::sync::{AtomicUsize, Ordering};
use remote::{Chain, Offset, Pushed, Remote};
use woken::Woken;

/// The slab's name on a woken stack.
const NAME: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Current,
    Partial,
    Parked,
}

/// What an arena's holder keeps about the slab.
#[derive(Debug)]
struct Private {
    state: State,
    /// Blocks that came home.
    home: Vec<usize>,
}

/// A slab of a few blocks; arenas 0 and 1 of one node.
struct World {
    remote: Remote,
    links: Vec<UnsafeCell<Option<Offset>>>,
    owner: AtomicUsize,
    woken: [Woken; 2],
    node: Lock,
    private: UnsafeCell<Private>,
}

fn offset(block: usize) -> Offset {
    Offset::from_bytes((block + 1) * 8).unwrap()
}

impl World {
    fn new(blocks: usize, wake_at: u32, state: State) -> Arc<Self> {
        let world = Arc::new(World {
            remote: Remote::for_model(wake_at),
            links: (0..blocks).map(|_| UnsafeCell::new(None)).collect(),
            owner: AtomicUsize::new(0),
            woken: [Woken::new(), Woken::new()],
            node: Lock::new(),
            private: UnsafeCell::new(Private { state, home: Vec::new() }),
        });
        if state == State::Parked {
            assert!(world.remote.park());
        }
        world
    }

    /// What a thread does that frees a block of another's slab.
    fn free_remotely(&self, block: usize) {
        let pushed = self.remote.push(offset(block), 1, |next| {
            // SAFETY: a block that was freed belongs to whoever pushes it; loom's cell panics where it does not.
            self.links[block].with_mut(|link| unsafe { *link = next });
        });
        if pushed == Pushed::MustWake {
            let owner = self.owner.load(Ordering::Relaxed);
            self.woken[owner].push(NAME, &self.remote.woken_next);
        }
    }

    /// For the holder of the arena that owns the slab.
    fn private<R>(&self, f: impl FnOnce(&mut Private) -> R) -> R {
        // SAFETY: the holder is alone; loom's cell panics where it is not.
        self.private.with_mut(|private| f(unsafe { &mut *private }))
    }

    fn bring_home(&self, chain: Option<Chain>) {
        let Some(chain) = chain else { return };
        let mut next = Some(chain.first);
        let mut count = 0;
        while let Some(block) = next {
            let block = block.bytes() / 8 - 1;
            self.private(|private| private.home.push(block));
            // SAFETY: taken from the remote word, the block is the owner's; loom's cell panics where it is not.
            next = self.links[block].with(|link| unsafe { *link });
            count += 1;
        }
        assert_eq!(count, chain.count, "a chain is as long as its word says");
    }

    /// What the holder of an arena does with its woken stack.
    fn collect_woken(&self, arena: usize) {
        let name = self.woken[arena].take_all();
        if name == 0 {
            return;
        }
        assert_eq!(name, NAME);
        assert_eq!(self.remote.woken_next.load(Ordering::Relaxed), 0, "the slab is on the stack once");
        self.private(|private| {
            assert_eq!(private.state, State::Parked, "only a parked slab is woken");
            private.state = State::Partial;
        });
        self.bring_home(self.remote.take());
    }

    /// What the owner does whose own free has brought a parked slab's count to zero.
    fn count_ran_out(&self) {
        if let Some(chain) = self.remote.unpark() {
            self.private(|private| private.state = State::Partial);
            self.bring_home(chain);
        }
    }

    /// At the end nothing may be lost: each block is home once.
    fn all_home(&self, blocks: usize) {
        self.private(|private| {
            private.home.sort_unstable();
            assert_eq!(private.home, (0..blocks).collect::<Vec<_>>());
            assert_ne!(private.state, State::Parked, "a slab with blocks at home is not forgotten");
        });
    }
}

#[test]
fn two_threads_push_while_the_owner_takes_all() {
    loom::model(|| {
        let world = World::new(2, 1, State::Current);
        let pushers: Vec<_> = (0..2)
            .map(|block| {
                let world = world.clone();
                thread::spawn(move || world.free_remotely(block))
            })
            .collect();
        world.bring_home(world.remote.take());
        for pusher in pushers {
            pusher.join().unwrap();
        }
        world.bring_home(world.remote.take());
        world.all_home(2);
    });
}

#[test]
fn a_full_slab_wakes_its_owner_once_however_many_push() {
    loom::model(|| {
        let world = World::new(3, 2, State::Parked);
        let pushers: Vec<_> = [&[0][..], &[1, 2]]
            .into_iter()
            .map(|blocks| {
                let world = world.clone();
                thread::spawn(move || blocks.iter().for_each(|block| world.free_remotely(*block)))
            })
            .collect();
        world.collect_woken(0);
        for pusher in pushers {
            pusher.join().unwrap();
        }
        world.collect_woken(0);
        world.bring_home(world.remote.take());
        world.all_home(3);
    });
}

#[test]
fn a_push_while_the_slab_is_parked_is_seen_by_the_owner_or_wakes_it() {
    loom::model(|| {
        let world = World::new(1, 1, State::Current);
        let other = world.clone();
        let pusher = thread::spawn(move || other.free_remotely(0));
        if world.remote.park() {
            world.private(|private| private.state = State::Parked);
        } else {
            world.bring_home(world.remote.take());
        }
        pusher.join().unwrap();
        world.collect_woken(0);
        world.all_home(1);
    });
}

#[test]
fn the_owners_own_free_and_anothers_push_do_not_both_unpark() {
    loom::model(|| {
        let world = World::new(1, 1, State::Parked);
        let other = world.clone();
        let pusher = thread::spawn(move || other.free_remotely(0));
        world.count_ran_out();
        pusher.join().unwrap();
        world.collect_woken(0);
        world.bring_home(world.remote.take());
        world.all_home(1);
    });
}

#[test]
fn an_owner_that_unparks_sees_what_was_pushed_before() {
    loom::model(|| {
        let world = World::new(1, 2, State::Parked);
        let other = world.clone();
        let pusher = thread::spawn(move || other.free_remotely(0));
        world.count_ran_out();
        pusher.join().unwrap();
        world.bring_home(world.remote.take());
        world.all_home(1);
    });
}

#[test]
fn owner_exits_while_two_threads_push() {
    loom::model(|| {
        let world = World::new(2, 1, State::Parked);
        let pushers: Vec<_> = (0..2)
            .map(|block| {
                let world = world.clone();
                thread::spawn(move || world.free_remotely(block))
            })
            .collect();
        // The owner goes; the arena waits under the node's lock, and the next thread takes it up.
        drop(world.node.lock());
        let heir = world.clone();
        let heir = thread::spawn(move || {
            let _guard = heir.node.lock();
            heir.collect_woken(0);
        });
        heir.join().unwrap();
        for pusher in pushers {
            pusher.join().unwrap();
        }
        world.collect_woken(0);
        world.bring_home(world.remote.take());
        world.all_home(2);
    });
}

#[test]
fn a_slab_is_adopted_by_another_arena_while_a_block_is_pushed() {
    loom::model(|| {
        let world = World::new(2, 1, State::Parked);
        let first = world.clone();
        let pusher = thread::spawn(move || {
            first.free_remotely(0);
            first.free_remotely(1);
        });
        // Arena 0 is idle. Who holds arena 1 and the node's lock takes the slab over once it is woken, uses it up and
        // parks it again.
        {
            let _guard = world.node.lock();
            world.collect_woken(0);
            if world.private(|private| private.state) == State::Partial {
                world.owner.store(1, Ordering::Release);
                world.private(|private| private.state = State::Current);
                if world.remote.park() {
                    world.private(|private| private.state = State::Parked);
                }
            }
        }
        pusher.join().unwrap();
        // Wherever the slab was woken, its arena sees it.
        world.collect_woken(0);
        world.collect_woken(1);
        if world.private(|private| private.state) == State::Parked {
            // Both blocks were home before it was parked.
            assert_eq!(world.private(|private| private.home.len()), 2);
            assert_eq!(world.remote.waiting(), 0);
            world.private(|private| private.state = State::Current);
        }
        world.bring_home(world.remote.take());
        world.all_home(2);
    });
}
