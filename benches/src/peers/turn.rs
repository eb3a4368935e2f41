//! Turns: while one allocator is measured, what the others did to the process does not touch it.
//!
//! Two of them reach beyond their own memory. The crate `rpmalloc` takes hold of every new thread (see
//! `build/link.rs`), and numalloc binds each thread that allocates to the processors of one node, for good. In a
//! program of their own both is their right, so in their own turn they keep it.

use std::cell::RefCell;
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::PeerId;
use super::affinity::Affinity;
use super::entry::Escape;

thread_local! {
    /// What each allocator, by its place in the list, last left as the affinity of this thread.
    static LEFT: RefCell<Vec<Option<Affinity>>> = const { RefCell::new(Vec::new()) };
}

/// Held during a turn: what it changes, it changes for the whole process.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// An allocator's turn on this thread; turns on other threads wait. Threads started during a turn stay in it.
pub struct Turn {
    peer: PeerId,
    before: Option<Affinity>,
    _alone: MutexGuard<'static, ()>,
}

impl Turn {
    /// Begins the turn of `peer`. A thread that is in a turn must end it first.
    pub fn of(peer: PeerId) -> Self {
        prepare_process();
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        let before = Affinity::current();
        LEFT.with_borrow(|left| {
            if let Some(Some(affinity)) = left.get(peer as usize) {
                affinity.apply();
            }
        });
        hook_threads(peer, true);
        Self { peer, before, _alone: alone }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        hook_threads(self.peer, false);
        let after = Affinity::current();
        if after == self.before {
            return;
        }
        LEFT.with_borrow_mut(|left| {
            left.resize(PeerId::all().len(), None);
            left[self.peer as usize] = after;
        });
        if let Some(before) = &self.before {
            before.apply();
        }
    }
}

/// Makes all measurements start from the same state of the process.
fn prepare_process() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        for peer in PeerId::all() {
            peer.visit(Escape);
        }
        // malloc of the C library goes without atomic operations until a process starts its first thread. Most Rust
        // programs have threads; and without this the order of the benchmarks would decide.
        std::thread::spawn(|| ()).join().expect("an empty thread does not panic");
    });
}

#[cfg(feature = "rpmalloc")]
fn hook_threads(peer: PeerId, on: bool) {
    if peer == PeerId::Rpmalloc {
        super::thread_hook::set(on);
    }
}

#[cfg(not(feature = "rpmalloc"))]
fn hook_threads(_peer: PeerId, _on: bool) {}
