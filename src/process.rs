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

/// Registers what is called at forks. Handlers that are to run before a fork do so in the reverse order of their
/// registration: the earlier this comes, the less of other people's code runs while the locks are held. False where that
/// could not be done, and is to be tried again.
pub(crate) fn register_fork_handlers() -> bool {
    let register = || os::at_fork(before_fork, after_fork_in_parent, after_fork_in_child);
    FORK_HANDLERS.enter(os::thread_token(), register) == Entry::Done
}

/// Whether [`register_hooks`] has been called.
#[inline]
pub(crate) fn has_hooks() -> bool {
    HOOKS.is_done()
}

/// Takes every lock, in the order in which they are taken elsewhere: the quarantine's, pools by their index. What they
/// guard is whole when the child gets its copy.
extern "C" fn before_fork() {
    debug::lock_for_fork().lock_for_fork();
    for index in 0..node::pools() {
        node::pool(topology::NodeIndex::new(index)).lock_for_fork().lock_for_fork();
    }
}

extern "C" fn after_fork_in_parent() {
    for index in (0..node::pools()).rev() {
        node::pool(topology::NodeIndex::new(index)).lock_for_fork().unlock_after_fork();
    }
    debug::lock_for_fork().unlock_after_fork();
}

/// The child has the forking thread only. Its arena is as it was. Those of the other threads are lost to it: they may
/// have been in the middle of an operation, so what is on their slabs can be freed, but is not handed out again.
extern "C" fn after_fork_in_child() {
    for index in 0..node::pools() {
        node::pool(topology::NodeIndex::new(index)).lock_for_fork().reset_in_child();
    }
    debug::lock_for_fork().reset_in_child();
    SET_UP.reset_in_child();
    HOOKS.reset_in_child();
    REPORT.reset_in_child();
    FORK_HANDLERS.reset_in_child();
}
