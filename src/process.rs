//! What is done once a process: reading the settings and the machine, and the hooks of threads,
//! forks and the exit.

use crate::config::{self, Config};
use crate::sync::once::{Entry, Once};
use crate::sync::{AtomicU32, Ordering};
use crate::{arena, debug, hardened, node, os, stats, topology};

static SET_UP: Once = Once::new();
static HOOKS: Once = Once::new();

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

#[cold]
fn first_use(base: &Config) -> bool {
    let entry = SET_UP.enter(os::thread_token(), || {
        let mut config = *base;
        let has_environment = config.read_environment();
        if !has_environment && EARLY.fetch_add(1, Ordering::Relaxed) < EARLY_CALLS {
            // The C library is not there yet: whoever comes in this early is served by the emergency path.
            return false;
        }
        config.settle();
        hardened::begin();
        // SAFETY: the one that sets up is alone until it is done.
        unsafe {
            config::install(config);
            topology::install();
        }
        node::place_pools();
        node::check_policy();
        os::set_thread_exit_hook(arena::enter::on_thread_exit);
        true
    });
    entry == Entry::Done
}

/// Registers what is called at forks and at the exit; these allocate, so that they come after the first arena.
#[cold]
pub(crate) fn register_hooks() {
    HOOKS.enter(os::thread_token(), || {
        let config = config::current();
        // Where the C library has no room now, the next thread tries again.
        if !register_fork_handlers() || !register_report(config) || !debug::begin() {
            return false;
        }
        if config.verbose {
            stats::say_settings();
        }
        true
    });
}

static REPORT: Once = Once::new();

/// Has the summary written at the exit, if it is wanted: once, however often the other hooks are tried. False where that
/// could not be done.
fn register_report(config: &Config) -> bool {
    let is_wanted = config.summary || config.report.is_some();
    !is_wanted || REPORT.enter(os::thread_token(), || os::at_exit(stats::at_exit)) == Entry::Done
}

static FORK_HANDLERS: Once = Once::new();

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
    debug::after_fork_in_child();
    topology::after_fork_in_child();
    let token = os::thread_token();
    [&SET_UP, &HOOKS, &REPORT, &FORK_HANDLERS].iter().for_each(|once| once.reset_in_child(token));
}
