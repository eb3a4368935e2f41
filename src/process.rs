//! What is done once a process: reading the machine and the settings, and the hooks of threads, forks and the end.

use core::ptr::NonNull;

use crate::config::{self, Config};
use crate::sync::first::First;
use crate::sync::once::{Entry, Once};
use crate::sync::{AtomicBool, AtomicU32, AtomicUsize, Backoff, Ordering};
use crate::{address_map, arena, background, debug, hardened, node, os, stats, topology};

static MACHINE: Once = Once::new();
static SET_UP: Once = Once::new();
static HOOKS: Once = Once::new();
static END: Once = Once::new();
static FORK_HANDLERS: Once = Once::new();
/// See [`clean_up_by`].
static CLEAN_UP: First<extern "C" fn()> = First::new();

/// First uses that found no environment; after so many, the process has none (clearenv(3)).
static EARLY: AtomicU32 = AtomicU32::new(0);
const EARLY_CALLS: u32 = 64;

/// Sees to it that the process is set up. False where the calling thread is in the middle of it.
#[inline]
pub(crate) fn set_up(base: &Config) -> bool {
    if SET_UP.is_done() {
        return true;
    }
    first_use(base)
}

/// Does once, and as early as it is called, whatever opens files or asks the kernel for more than memory: a process may
/// forbid itself such calls later. The settings are not needed for it, which a program may still make. False where the
/// calling thread is in the middle of it.
pub(crate) fn look_at_machine() -> bool {
    let look = || {
        hardened::begin();
        // SAFETY: the one that sets up is alone until it is done.
        unsafe { topology::install() };
        node::place_pools();
        address_map::leave_out_of_dumps();
        true
    };
    MACHINE.enter(os::thread_token(), look) == Entry::Done
}

#[cold]
fn first_use(base: &Config) -> bool {
    let entry = SET_UP.enter(os::thread_token(), || {
        let mut config = *base;
        let has_environment = config.read_environment();
        if !has_environment && EARLY.fetch_add(1, Ordering::Relaxed) < EARLY_CALLS || !look_at_machine() {
            // The C library is not there yet: whoever comes in this early is served by the emergency path.
            return false;
        }
        config.settle();
        // SAFETY: the one that sets up is alone until it is done.
        unsafe { config::install(config) };
        node::check_policy();
        true
    });
    entry == Entry::Done
}

/// Registers what is called at forks and at the end; these allocate, so that they come after the first arena.
#[cold]
pub(crate) fn register_hooks() {
    HOOKS.enter(os::thread_token(), || {
        // Where the C library has no room now, the next thread tries again.
        if !(IS_TOLD.load(Ordering::Relaxed) || register_fork_handlers() && register_end()) {
            return false;
        }
        debug::begin();
        if config::current().verbose {
            stats::say_settings();
        }
        true
    });
}

/// Set where the library that this code is part of is the process's `malloc`, and tells when the process begins and ends. The C
/// library allocates under the locks of what it is to call at forks and at the end, so nothing is registered from within an
/// allocation then.
static IS_TOLD: AtomicBool = AtomicBool::new(false);
/// Set once the process has ended.
static HAS_ENDED: AtomicBool = AtomicBool::new(false);

/// [`begin`] and [`end`] will be called. To be called before anything is allocated, if that can be.
pub(crate) fn will_be_told() {
    IS_TOLD.store(true, Ordering::Relaxed);
}

/// The process begins.
pub(crate) fn begin() {
    will_be_told();
    look_at_machine();
    register_fork_handlers();
}

/// Has the end noticed, once, however often the other hooks are tried. False where that could not be done.
fn register_end() -> bool {
    END.enter(os::thread_token(), || os::at_exit(on_end)) == Entry::Done
}

extern "C" fn on_end() {
    end();
    leave();
}

/// The process exits, or the library is unloaded that this code is part of.
pub(crate) fn end() {
    if SET_UP.is_done() && !HAS_ENDED.swap(true, Ordering::Relaxed) {
        stats::at_exit();
        debug::at_exit();
    }
}

/// If this code is part of a library, which may be unloaded next: leaves nothing behind that leads back to it, and gives
/// back what nobody uses. What is still used stays where it is. Other threads may be at work, if the process exits.
fn leave() {
    if os::own_shared_object().is_some() {
        background::end();
        // SAFETY: a static, by `clean_up_by`.
        if let Some(clean_up) = CLEAN_UP.get().map(|clean_up| unsafe { clean_up.read() }) {
            clean_up();
        }
        arena::enter::clean_up_thread();
        os::remove_thread_hooks();
        ThreadEnd::wait_for_all();
        arena::give_everything_back();
    }
}

/// Has what others than arenas keep for the calling thread given up before this code is unloaded. It is the same at every call.
pub(crate) fn clean_up_by(clean_up: &'static extern "C" fn()) {
    CLEAN_UP.publish(NonNull::from(clean_up));
}

/// Threads that are in the middle of a hook for their end.
static ENDING: AtomicUsize = AtomicUsize::new(0);

/// While it lives, the code of a thread's hook is not unloaded.
pub(crate) struct ThreadEnd(());

impl ThreadEnd {
    pub(crate) fn begin() -> Self {
        ENDING.fetch_add(1, Ordering::SeqCst);
        ThreadEnd(())
    }

    /// Waits until no hook runs, a second at most: a thread may come here from within one, by a signal handler. What lies
    /// before the hook's first step, when the C library has read that it is to be called, and behind its last one, cannot
    /// be seen.
    fn wait_for_all() {
        let begun_at = os::now_ms();
        let backoff = Backoff::new();
        while ENDING.load(Ordering::SeqCst) != 0 && os::now_ms().saturating_sub(begun_at) < 1000 {
            backoff.wait();
        }
    }
}

impl Drop for ThreadEnd {
    fn drop(&mut self) {
        ENDING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Registers what is called in the child of a fork. Such handlers are called in the order of their registration: the earlier
/// this comes, the less of other people's code allocates in the child before. False where that could not be done, and is to
/// be tried again.
pub(crate) fn register_fork_handlers() -> bool {
    FORK_HANDLERS.enter(os::thread_token(), || os::at_fork(after_fork_in_child)) == Entry::Done
}

/// Whether [`register_hooks`] has been called.
#[inline]
pub(crate) fn has_hooks() -> bool {
    HOOKS.is_done()
}

/// The child has the forking thread only, and what other threads were in the middle of will never be ended. A fork waits for
/// none of them: whoever it waited for could wait for a lock that the C library takes for the fork. So what a lock guards
/// that another thread held is given up, and begins anew; what lies there can be freed, and is not handed out again. The
/// arenas of the other threads are lost in the same way, whose fast paths take no lock.
extern "C" fn after_fork_in_child() {
    for index in 0..node::pools() {
        node::pool(topology::NodeIndex::new(index)).after_fork_in_child();
    }
    ENDING.store(0, Ordering::SeqCst);
    arena::after_fork_in_child();
    background::after_fork_in_child();
    debug::after_fork_in_child();
    topology::after_fork_in_child();
    let token = os::thread_token();
    [&MACHINE, &SET_UP, &HOOKS, &END, &FORK_HANDLERS].iter().for_each(|once| once.reset_in_child(token));
}
