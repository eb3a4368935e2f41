//! The quarantine: freed blocks wait here, first in first out, before their memory can be handed out again.

use core::cell::Cell;

use super::{Watched, report};
use crate::sync::lock::Lock;
use crate::sync::{AtomicBool, AtomicUsize, Ordering, Seen};
use crate::{node, os};

/// Bytes of the heap that wait at most, all together.
const MOST: usize = 32 << 20;
/// Blocks that wait at most.
const MOST_BLOCKS: usize = 1 << 16;

struct Queue {
    oldest: Cell<Option<Watched>>,
    newest: Cell<Option<Watched>>,
    bytes: Seen<usize>,
    blocks: Cell<usize>,
}

/// The queue, and the lock that guards it.
struct Quarantine {
    lock: Lock,
    queue: Queue,
}

// SAFETY: `queue` is touched only by who holds `lock`.
unsafe impl Sync for Quarantine {}

static QUARANTINE: Quarantine = Quarantine {
    lock: Lock::new(),
    queue: Queue { oldest: Cell::new(None), newest: Cell::new(None), bytes: Seen::new(0), blocks: Cell::new(0) },
};

/// Set once the process exits: nothing leaves the quarantine then, so that what is looked at stays where it is.
static IS_FROZEN: AtomicBool = AtomicBool::new(false);
/// Threads that are giving blocks back to the heap.
static RELEASING: AtomicUsize = AtomicUsize::new(0);
/// How often those are looked for before the exit goes on without them.
const LOOKS: usize = 1 << 20;

/// From now on no block leaves the quarantine.
pub(super) fn freeze() {
    IS_FROZEN.store(true, Ordering::SeqCst);
    (0..LOOKS).take_while(|_| RELEASING.load(Ordering::SeqCst) > 0).for_each(|_| os::relax());
}

/// Whether the calling thread must not wait for the quarantine: it holds it, or a lock that others wait for while they hold
/// it, as who forks does.
fn is_inside() -> bool {
    is_mine() || node::any_is_mine()
}

/// Puts a freed block in; those that have to leave for it go back to the heap.
pub(super) fn put(watched: Watched) {
    if is_inside() {
        // A signal handler on top of this very function, or of others that hold locks.
        watched.set_next(None);
        return release_all(Some(watched));
    }
    let leaving = {
        let _guard = QUARANTINE.lock.lock();
        QUARANTINE.queue.push(watched);
        QUARANTINE.queue.pop_excess()
    };
    release_all(leaving);
}

/// Gives all that waits back to the heap; false where nothing does.
pub(super) fn empty() -> bool {
    if is_inside() || IS_FROZEN.load(Ordering::SeqCst) {
        return false;
    }
    let leaving = {
        let _guard = QUARANTINE.lock.lock();
        QUARANTINE.queue.take_all()
    };
    release_all(leaving);
    leaving.is_some()
}

/// Gives blocks that have left the queue, linked to each other, back to the heap.
fn release_all(mut leaving: Option<Watched>) {
    while let Some(oldest) = leaving {
        leaving = after(oldest);
        RELEASING.fetch_add(1, Ordering::SeqCst);
        // What has left the queue just before stays as it is, too.
        if !IS_FROZEN.load(Ordering::SeqCst) {
            super::release(oldest);
        }
        RELEASING.fetch_sub(1, Ordering::SeqCst);
    }
}

fn after(watched: Watched) -> Option<Watched> {
    watched.next().unwrap_or_else(|finding| report::fatal(finding, watched))
}

impl Queue {
    fn push(&self, watched: Watched) {
        watched.set_next(None);
        match self.newest.replace(Some(watched)) {
            Some(before) => before.set_next(Some(watched)),
            None => self.oldest.set(Some(watched)),
        }
        self.bytes.set(self.bytes.get() + watched.raw_size());
        self.blocks.set(self.blocks.get() + 1);
    }

    /// Takes out the oldest ones, as many as are too many; they are linked to each other. The newest stays in any case.
    fn pop_excess(&self) -> Option<Watched> {
        let first = self.oldest.get()?;
        let mut last = None;
        while let Some(oldest) = self.oldest.get() {
            let is_too_much =
                !IS_FROZEN.load(Ordering::SeqCst) && (self.bytes.get() > MOST || self.blocks.get() > MOST_BLOCKS);
            if !is_too_much || self.newest.get() == Some(oldest) {
                break;
            }
            self.bytes.set(self.bytes.get() - oldest.raw_size());
            self.blocks.set(self.blocks.get() - 1);
            self.oldest.set(after(oldest));
            last = Some(oldest);
        }
        last?.set_next(None);
        Some(first)
    }

    /// Takes out all, linked to each other.
    fn take_all(&self) -> Option<Watched> {
        self.newest.set(None);
        self.bytes.set(0);
        self.blocks.set(0);
        self.oldest.take()
    }
}

/// Bytes of the heap that wait, for a thread that may not hold the quarantine.
pub(crate) fn quarantined_bytes() -> usize {
    QUARANTINE.queue.bytes.get()
}

/// Whether the calling thread holds the quarantine.
pub(crate) fn is_mine() -> bool {
    QUARANTINE.lock.is_mine()
}

/// In the child of a `fork`: what waits is given up, if another thread was in the middle of changing it.
pub(crate) fn after_fork_in_child() {
    if QUARANTINE.lock.is_abandoned() {
        let _ = QUARANTINE.queue.take_all();
    }
    RELEASING.store(0, Ordering::SeqCst);
}
