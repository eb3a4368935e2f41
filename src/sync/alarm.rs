//! What the one thread of the allocator's own sleeps on, and how it is woken.
//!
//! | state | meaning | who leaves it |
//! |---|---|---|
//! | `NONE` | there is no thread yet | any thread that needs it, by compare-exchange to `BEGINNING` |
//! | `BEGINNING` | somebody makes it | the maker, to `NONE` or `NEVER`; the new thread, to `AWAKE` |
//! | `AWAKE` | it looks soon again by itself | the thread, to `ASLEEP`; who ends it, to `ENDING` |
//! | `ASLEEP` | it sleeps for long, or is about to | who has something for it, or itself, to `AWAKE`; who ends it, to `ENDING` |
//! | `ENDING` | it is to end, and was woken for that | the thread, to `NEVER` |
//! | `NEVER` | there is none, and will be none | nobody |
//!
//! In the child of a `fork`, all but `NEVER` are `NONE`.
//!
//! The thread says `ASLEEP` before it looks whether there is anything to do, and who has something for it rings after that can
//! be seen. Both look and change under one lock, or have a fence between what they write and what they look at: so either the
//! thread sees it, or who rings sees `ASLEEP`.

use super::{AtomicUsize, Ordering, const_unless_loom, fence};

const NONE: usize = 0;
const BEGINNING: usize = 1;
const AWAKE: usize = 2;
const ASLEEP: usize = 3;
const ENDING: usize = 4;
const NEVER: usize = 5;

/// The alarm. See the module's text.
pub(crate) struct Alarm {
    state: AtomicUsize,
    /// The thread's token, once it has begun: what it does itself does not wake it.
    sleeper: AtomicUsize,
}

/// How a sleep ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slept {
    /// The time was up.
    Out,
    /// Somebody rang, or the thread is to end.
    Woken,
    /// The kernel has threads of this process not sleep.
    Refused,
}

impl Alarm {
    const_unless_loom! {
        /// There is no thread.
        pub(crate) fn new() -> Self {
            Alarm { state: AtomicUsize::new(NONE), sleeper: AtomicUsize::new(0) }
        }
    }

    fn is(&self, state: usize) -> bool {
        self.state.load(Ordering::Acquire) == state
    }

    fn change(&self, from: usize, to: usize) -> bool {
        self.state.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Whether nobody has looked yet whether a thread is wanted.
    #[inline]
    pub(crate) fn is_undecided(&self) -> bool {
        self.state.load(Ordering::Relaxed) == NONE
    }

    /// Whether the calling thread is the one that makes the thread now.
    pub(crate) fn begin(&self) -> bool {
        self.change(NONE, BEGINNING)
    }

    /// There will be no thread: by who was to make it, or by the thread, at its end.
    pub(crate) fn never(&self) {
        self.state.store(NEVER, Ordering::Release);
    }

    /// The thread, of that token, has begun.
    pub(crate) fn has_begun(&self, token: usize) {
        self.sleeper.store(token, Ordering::Relaxed);
        self.change(BEGINNING, AWAKE);
    }

    /// Whether the thread has not begun yet that is being made.
    pub(crate) fn is_beginning(&self) -> bool {
        self.is(BEGINNING)
    }

    /// Something waits for the thread that it should look at soon. To be called under the lock under which it looks.
    #[inline]
    pub(crate) fn ring(&self) {
        if self.state.load(Ordering::Relaxed) == ASLEEP {
            self.wake();
        }
    }

    /// Likewise, where it looks without a lock.
    #[inline]
    pub(crate) fn ring_without_lock(&self) {
        if !matches!(self.state.load(Ordering::Relaxed), NONE | NEVER) {
            fence(Ordering::SeqCst);
            self.ring();
        }
    }

    #[cold]
    #[inline(never)]
    fn wake(&self) {
        if self.sleeper.load(Ordering::Relaxed) != thread_token() && self.change(ASLEEP, AWAKE) {
            wake_one(&self.state);
        }
    }

    /// For the thread: it is about to sleep for long, unless it finds something when it looks next.
    pub(crate) fn fall_asleep(&self) {
        self.change(AWAKE, ASLEEP);
        fence(Ordering::SeqCst);
    }

    /// For the thread, after it fell asleep: sleeps so many milliseconds at most, unless somebody has rung since.
    pub(crate) fn sleep(&self, milliseconds: u64) -> Slept {
        match wait_for(&self.state, ASLEEP, milliseconds) {
            false => Slept::Refused,
            true if self.change(ASLEEP, AWAKE) => Slept::Out,
            true => Slept::Woken,
        }
    }

    /// For the thread: sleeps so many milliseconds, and is awake then, whoever rings; less, if it is to end.
    pub(crate) fn nap(&self, milliseconds: u64) -> Slept {
        self.change(ASLEEP, AWAKE);
        match wait_for(&self.state, AWAKE, milliseconds) {
            false => Slept::Refused,
            true if self.is(AWAKE) => Slept::Out,
            true => Slept::Woken,
        }
    }

    /// For the thread: whether it is to end.
    pub(crate) fn is_ending(&self) -> bool {
        self.is(ENDING)
    }

    /// Has the thread end that has begun, and none begin.
    pub(crate) fn end(&self) {
        loop {
            let state = self.state.load(Ordering::Acquire);
            let next = match state {
                NONE => NEVER,
                AWAKE | ASLEEP => ENDING,
                _ => return,
            };
            if self.change(state, next) {
                wake_one(&self.state);
                return;
            }
        }
    }

    /// Whether the thread is at its end, or never began.
    pub(crate) fn is_over(&self) -> bool {
        self.is(NEVER)
    }

    /// In the child of a `fork`, which does not have the thread.
    pub(crate) fn after_fork_in_child(&self) {
        if self.state.load(Ordering::Relaxed) != NEVER {
            self.state.store(NONE, Ordering::Relaxed);
        }
    }
}

#[cfg(not(homing_loom))]
use crate::os::{futex_wait_for as wait_for, futex_wake_one as wake_one, thread_token};

#[cfg(homing_loom)]
use super::lock::platform::{thread_token, wait_for, wake_one};

#[cfg(all(test, homing_loom))]
mod loom_models {
    use super::super::lock::Lock;
    use super::*;
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;

    struct Shared {
        alarm: Alarm,
        lock: Lock,
        waits: UnsafeCell<bool>,
    }

    fn shared() -> Arc<Shared> {
        Arc::new(Shared { alarm: Alarm::new(), lock: Lock::new(), waits: UnsafeCell::new(false) })
    }

    /// What the thread does: it sleeps for ever, unless it is woken, where nothing waits.
    fn look_until_something_waits(shared: &Shared) {
        shared.alarm.has_begun(thread_token());
        loop {
            shared.alarm.fall_asleep();
            let guard = shared.lock.lock();
            // SAFETY: the lock is held.
            if shared.waits.with(|waits| unsafe { *waits }) {
                return;
            }
            drop(guard);
            if shared.alarm.is_ending() || shared.alarm.sleep(u64::MAX) == Slept::Woken && shared.alarm.is_ending() {
                return shared.alarm.never();
            }
        }
    }

    #[test]
    fn what_comes_while_the_thread_falls_asleep_wakes_it() {
        loom::model(|| {
            let shared = shared();
            assert!(shared.alarm.begin() && !shared.alarm.begin());
            let other = shared.clone();
            let thread = loom::thread::spawn(move || look_until_something_waits(&other));
            let guard = shared.lock.lock();
            // SAFETY: the lock is held.
            shared.waits.with_mut(|waits| unsafe { *waits = true });
            shared.alarm.ring();
            drop(guard);
            thread.join().unwrap();
        });
    }

    #[test]
    fn a_thread_that_falls_asleep_while_it_is_ended_ends() {
        loom::model(|| {
            let shared = shared();
            assert!(shared.alarm.begin());
            let other = shared.clone();
            let thread = loom::thread::spawn(move || look_until_something_waits(&other));
            while shared.alarm.is_beginning() {
                loom::thread::yield_now();
            }
            shared.alarm.end();
            thread.join().unwrap();
            assert!(shared.alarm.is_over() && !shared.alarm.begin());
        });
    }
}
