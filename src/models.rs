//! Models of the lock-free parts at work together, for loom: blocks of a slab on their way home through the inboxes of
//! two arenas of one node, while the arenas and the slab change hands under the node's lock. Each is named after the
//! hazard it rules out.
//!
//! Run by `RUSTFLAGS="--cfg homing_loom" cargo test --release --package homing --lib`.

#[path = "node/at_hand.rs"]
mod at_hand;
#[path = "arena/inbox.rs"]
mod inbox;

use loom::cell::UnsafeCell;
use loom::sync::Arc;
use loom::thread;

use crate::sync::alarm::Alarm;
use crate::sync::lock::Lock;
use crate::sync::{AtomicUsize, Ordering};
use inbox::Inbox;

/// What the holder of an arena keeps about the slab while the arena owns it: blocks that came home.
type Home = UnsafeCell<Vec<usize>>;

/// A slab of a few blocks; arenas 0 and 1 of one node.
struct World {
    /// By block: what a freed one's first word says. Names of blocks begin with 1.
    links: Vec<UnsafeCell<usize>>,
    /// The slab's owner word: the arena.
    owner: AtomicUsize,
    inboxes: [Inbox; 2],
    /// By arena: the chain that its holder took and has not brought home yet.
    received: [UnsafeCell<usize>; 2],
    node: Lock,
    homes: [Home; 2],
}

impl World {
    fn new(blocks: usize) -> Arc<Self> {
        Arc::new(World {
            links: (0..blocks).map(|_| UnsafeCell::new(usize::MAX)).collect(),
            owner: AtomicUsize::new(0),
            inboxes: [Inbox::new(), Inbox::new()],
            received: [UnsafeCell::new(0), UnsafeCell::new(0)],
            node: Lock::new(),
            homes: [UnsafeCell::new(Vec::new()), UnsafeCell::new(Vec::new())],
        })
    }

    /// What a thread does that frees blocks of another's slab: it reads the owner word for the first of them, and sends
    /// them as one chain.
    fn free_remotely(&self, blocks: &[usize]) {
        let owner = self.owner.load(Ordering::Relaxed);
        for pair in blocks.windows(2) {
            self.link(pair[0], pair[1] + 1);
        }
        self.send(owner, blocks[0], blocks[blocks.len() - 1]);
    }

    fn send(&self, owner: usize, first: usize, last: usize) {
        self.inboxes[owner].push(first + 1, |next| self.link(last, next));
    }

    fn link(&self, block: usize, next: usize) {
        // SAFETY: a block that was freed belongs to whoever pushes it; loom's cell panics where it does not.
        self.links[block].with_mut(|link| unsafe { *link = next });
    }

    /// What the holder of an arena does with its inbox when it is to be empty.
    fn collect_inbox(&self, arena: usize) {
        self.collect_some(arena, usize::MAX);
        self.collect_some(arena, usize::MAX);
    }

    /// What the holder of an arena does with so many blocks of its inbox.
    fn collect_some(&self, arena: usize, most: usize) {
        // SAFETY: the holder of an arena is alone; loom's cell panics where it is not.
        let mut next = self.received[arena].with_mut(|received| std::mem::take(unsafe { &mut *received }));
        if next == 0 && !self.inboxes[arena].is_empty() {
            next = self.inboxes[arena].take_all();
        }
        let mut done = 0;
        while next != 0 && done < most {
            done += 1;
            let block = next - 1;
            // SAFETY: taken from the inbox, the block is the holder's; loom's cell panics where it is not.
            next = self.links[block].with(|link| unsafe { *link });
            let owner = self.owner.load(Ordering::Relaxed);
            if owner == arena {
                self.keep(arena, |home| home.push(block));
            } else {
                self.send(owner, block, block);
            }
        }
        // SAFETY: likewise.
        self.received[arena].with_mut(|received| unsafe { *received = next });
    }

    /// What the holder of an arena does with the blocks that came home.
    fn keep<T>(&self, arena: usize, change: impl FnOnce(&mut Vec<usize>) -> T) -> T {
        // SAFETY: the holder of an arena is alone; loom's cell panics where it is not.
        self.homes[arena].with_mut(|home| change(unsafe { &mut *home }))
    }

    /// What the holder of arena 1 does that takes the slab over from arena 0, which is idle, under the node's lock.
    fn adopt(&self) {
        let _guard = self.node.lock();
        self.collect_inbox(0);
        let mut there = self.keep(0, std::mem::take);
        self.keep(1, |home| home.append(&mut there));
        self.owner.store(1, Ordering::Release);
    }

    /// At the end nothing may be lost, wherever it was sent: each block is home once, with the arena that owns the slab.
    fn all_home(&self) {
        for _ in 0..2 {
            self.collect_inbox(0);
            self.collect_inbox(1);
        }
        let owner = self.owner.load(Ordering::Relaxed);
        let mut home = self.keep(owner, std::mem::take);
        home.sort_unstable();
        assert_eq!(home, (0..self.links.len()).collect::<Vec<_>>());
        assert_eq!(self.keep(1 - owner, std::mem::take), []);
    }
}

/// A thread that works on what the model's threads share.
pub(crate) fn spawn<W: 'static>(world: &Arc<W>, work: impl FnOnce(&W) + 'static) -> thread::JoinHandle<()> {
    let world = world.clone();
    thread::spawn(move || work(&world))
}

/// Waits for all of them.
pub(crate) fn join(threads: impl IntoIterator<Item = thread::JoinHandle<()>>) {
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn two_threads_send_while_the_holder_takes_all() {
    loom::model(|| {
        let world = World::new(3);
        let threads = [
            spawn(&world, |world| world.free_remotely(&[0, 1])),
            spawn(&world, |world| world.free_remotely(&[2])),
            // A thread of its own: loom lets the one that spawns run first.
            spawn(&world, |world| world.collect_inbox(0)),
        ];
        join(threads);
        world.all_home();
    });
}

#[test]
fn a_sender_is_overtaken_by_a_holder_that_takes_all_and_a_sender_of_the_same_block_later() {
    // The same block comes home, is handed out and is sent again while another sender has read the inbox's head: the
    // head's value comes back, and no block may be lost or doubled for it (ABA).
    loom::model(|| {
        let world = World::new(2);
        let slow = spawn(&world, |world| world.free_remotely(&[1]));
        let again = spawn(&world, |world| {
            world.free_remotely(&[0]);
            world.collect_inbox(0);
            let handed_out = world.keep(0, |home| {
                let before = home.len();
                home.retain(|block| *block != 0);
                before > home.len()
            });
            assert!(handed_out);
            world.free_remotely(&[0]);
        });
        join([slow, again]);
        world.all_home();
    });
}

#[test]
fn a_slab_is_adopted_by_another_arena_while_blocks_are_sent_to_the_old_one() {
    loom::model(|| {
        let world = World::new(2);
        let threads = [
            spawn(&world, |world| world.free_remotely(&[0])),
            spawn(&world, |world| world.free_remotely(&[1])),
            spawn(&world, World::adopt),
        ];
        join(threads);
        world.all_home();
    });
}

#[test]
fn a_thread_leaves_its_arena_behind_on_a_node_and_another_takes_it_up_while_a_block_is_sent() {
    loom::model(|| {
        let world = World::new(2);
        let migrant = spawn(&world, |world| {
            // Holds arena 0, looks at its inbox, and is found on another node: the arena goes among the idle ones.
            world.collect_inbox(0);
            drop(world.node.lock());
        });
        let sender = spawn(&world, |world| world.free_remotely(&[0, 1]));
        join([migrant]);
        let heir = spawn(&world, |world| {
            drop(world.node.lock());
            world.collect_inbox(0);
        });
        join([sender, heir]);
        world.all_home();
    });
}

#[test]
fn an_idle_arena_is_looked_after_while_another_thread_takes_its_slab_over() {
    // Two threads at a lock and a third beside it take too many orders to try all: those with up to three preemptions.
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let world = World::new(1);
        let sender = spawn(&world, |world| world.free_remotely(&[0]));
        let adopter = spawn(&world, |world| {
            world.adopt();
            // Its own inbox, without the lock, while the block may be sent on to it.
            world.collect_inbox(1);
        });
        let keeper = spawn(&world, |world| {
            // Idle arenas are anybody's who holds the node's lock.
            let _guard = world.node.lock();
            world.collect_inbox(0);
        });
        join([sender, adopter, keeper]);
        world.all_home();
    });
}

#[test]
fn a_run_at_hand_goes_to_one_of_those_who_want_it_and_comes_with_what_was_done_to_it() {
    // One thread frees run 1 and then run 2 to the same place; another wants run 1, a third takes whatever is there.
    loom::model(|| {
        struct Runs {
            place: at_hand::Place,
            /// By run: who has it, to loom; and how often it was had.
            had: [UnsafeCell<usize>; 3],
        }
        impl Runs {
            fn have(&self, run: Option<usize>) {
                // SAFETY: the run was taken, and is this thread's; loom's cell panics where it is not.
                run.into_iter().for_each(|run| self.had[run].with_mut(|had| unsafe { *had += 1 }));
            }
        }
        let runs = Arc::new(Runs { place: at_hand::Place::new(), had: std::array::from_fn(|_| UnsafeCell::new(0)) });
        let frees = spawn(&runs, |runs| {
            for run in [1, 2] {
                runs.have(Some(run));
                runs.have(runs.place.put(run));
            }
        });
        let wants = spawn(&runs, |runs| runs.have(runs.place.take_if(|run| run == 1)));
        let trims = spawn(&runs, |runs| runs.have(runs.place.put(0)));
        join([frees, wants, trims]);
        runs.have(runs.place.put(0));
        // SAFETY: no other thread is left.
        let had = |run: usize| runs.had[run].with(|had| unsafe { *had });
        assert_eq!((had(1), had(2)), (2, 2), "each is had by one thread, beside who freed it");
    });
}

#[test]
fn a_slab_is_adopted_while_the_rest_of_what_its_old_holder_took_is_to_be_brought_home() {
    loom::model(|| {
        let world = World::new(3);
        world.free_remotely(&[0, 1]);
        world.collect_some(0, 1);
        let threads = [
            spawn(&world, |world| world.free_remotely(&[2])),
            spawn(&world, |world| {
                let _guard = world.node.lock();
                // The slab goes, and what arena 0 has taken for it stays: it is to be sent on.
                let mut there = world.keep(0, std::mem::take);
                world.keep(1, |home| home.append(&mut there));
                world.owner.store(1, Ordering::Release);
            }),
        ];
        join(threads);
        world.all_home();
    });
}

#[test]
fn a_run_at_hand_wakes_the_thread_that_falls_asleep_meanwhile_or_is_seen_by_it() {
    loom::model(|| {
        struct Shared {
            place: at_hand::Place,
            alarm: Alarm,
        }
        let shared = Arc::new(Shared { place: at_hand::Place::new(), alarm: Alarm::new() });
        assert!(shared.alarm.begin());
        let looks = spawn(&shared, |shared| {
            shared.alarm.has_begun(1);
            loop {
                shared.alarm.fall_asleep();
                if shared.place.put(0).is_some() {
                    return;
                }
                // For ever, unless it is woken.
                let _ = shared.alarm.sleep(u64::MAX);
            }
        });
        assert_eq!(shared.place.put(1), None);
        shared.alarm.ring_without_lock();
        join([looks]);
    });
}
