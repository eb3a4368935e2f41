//! The thread that gives memory back on time, for a process that asks for one (`HOMING_BACKGROUND`): without it nobody looks at
//! the clock while no thread allocates or frees.
//!
//! It begins when a thread takes memory from a pool for a block, and neither before nor in a free: the C library frees under
//! a lock of its own that it takes for a new thread too (glibc's, of its stacks). It has no arena, allocates nothing, waits for
//! no pool that is held, and every signal is blocked in it, so that nothing comes in on top of it.
//!
//! It looks after all pools every half purge delay. After a few looks that found nothing to give back it sleeps longer each
//! time, a minute at most, and is woken as soon as something waits again.

use core::ffi::c_void;

use crate::message::Line;
use crate::node::ALARM;
use crate::sync::alarm::Slept;
use crate::sync::{AtomicUsize, Backoff, Ordering};
use crate::{arena, config, node, os};

/// Looks that follow each other closely after something waited or went back: what was freed just before the first one goes at
/// the third at the latest.
const CLOSE_LOOKS: u32 = 3;
/// Milliseconds of its longest sleep.
const LONGEST_SLEEP: u64 = 60_000;
/// Milliseconds that it sleeps longer than half the purge delay: the clock goes in steps, of 10 ms at most.
const CLOCK_STEP: u64 = 10;
/// Milliseconds that others wait for the thread's beginning or end at most.
const PATIENCE: u64 = 1000;

/// What the thread is joined by; 0 where there is none.
static THREAD: AtomicUsize = AtomicUsize::new(0);

/// Has the thread begin if the settings ask for it and there is none. For a slow path that is about to take memory, and holds
/// no pool.
#[inline]
pub(crate) fn begin_if_wanted() {
    if ALARM.is_undecided() {
        begin();
    }
}

#[cold]
#[inline(never)]
fn begin() {
    // On top of what a pool's lock guards (a signal handler): another time.
    if node::any_is_mine() || !ALARM.begin() {
        return;
    }
    let config = config::current();
    if !config.background || config.purge_delay_ms == u64::MAX {
        return ALARM.never();
    }
    // Allocates: the calling thread is in a slow path, so the emergency path serves it.
    match os::begin_thread(run) {
        // From then on it makes calls for memory only: a process may forbid itself all others.
        Ok(()) => wait_while(|| ALARM.is_beginning()),
        Err(error) => {
            ALARM.never();
            Line::new()
                .text("HOMING_BACKGROUND is not met: there is no room for a thread (pthread_create: error ")
                .number(error as usize)
                .text("); memory goes back while threads allocate and free")
                .say();
        }
    }
}

/// Waits for another thread, but not for ever: it may stand still.
fn wait_while(goes_on: impl Fn() -> bool) {
    let begun_at = os::now_ms();
    let backoff = Backoff::new();
    while goes_on() && os::now_ms().saturating_sub(begun_at) < PATIENCE {
        backoff.wait();
    }
}

/// The thread.
extern "C" fn run(_: *mut c_void) -> *mut c_void {
    os::name_thread(c"homing");
    // Where the system's way of making threads allocates in them.
    arena::enter::clean_up_thread();
    THREAD.store(os::this_thread(), Ordering::Relaxed);
    ALARM.has_begun(os::thread_token());
    look_again_and_again();
    ALARM.never();
    core::ptr::null_mut()
}

fn look_again_and_again() {
    let nap = arena::lookout::period() + CLOCK_STEP;
    let mut went_back = 0;
    let mut in_vain = 0_u32;
    while !ALARM.is_ending() {
        let is_long = in_vain >= CLOSE_LOOKS;
        if is_long {
            ALARM.fall_asleep();
        }
        // Another sum too where a pool was held, and could not be looked after.
        let before = core::mem::replace(&mut went_back, arena::lookout::look_after_all());
        in_vain = if went_back == before { in_vain.saturating_add(1) } else { 0 };
        let longer = in_vain.saturating_sub(CLOSE_LOOKS).min(16);
        let slept = match is_long && in_vain > 0 {
            true => ALARM.sleep((nap << longer).min(LONGEST_SLEEP)),
            false => ALARM.nap(nap),
        };
        match slept {
            Slept::Out => {}
            Slept::Woken => in_vain = 0,
            Slept::Refused => return,
        }
    }
}

/// Before this code is unloaded: has the thread end, and no other begin.
pub(crate) fn end() {
    wait_while(|| ALARM.is_beginning());
    ALARM.end();
    let thread = THREAD.swap(0, Ordering::Relaxed);
    if thread != 0 {
        wait_while(|| !ALARM.is_over());
        if ALARM.is_over() {
            os::join_thread(thread);
        }
    }
}

/// In the child of a `fork`, which has the forking thread only: another begins when it is needed.
pub(crate) fn after_fork_in_child() {
    THREAD.store(0, Ordering::Relaxed);
    ALARM.after_fork_in_child();
}
