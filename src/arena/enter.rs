//! Into the slow paths and out again: first use, re-entrancy, migration, the end of a thread.
//!
//! What the thread-local word names tells how a thread stands:
//!
//! | it names | meaning | a slow path |
//! |---|---|---|
//! | `EMPTY` | never here, or cleaned up | attaches an arena; borrows it where the thread's end cannot be hooked |
//! | `ATTACHING` | in the middle of that, re-entered | emergency |
//! | an arena, not busy | the ordinary case | marks it busy |
//! | an arena, busy | re-entered in a slow path | emergency |
//! | `EXITED` | its exit hook has run | borrows an idle arena for the one operation |

use core::ffi::c_void;
use core::sync::atomic::{Ordering, compiler_fence};

use super::{Arena, idle, tls};
use crate::config::{self, Config, Overflow, Policy};
use crate::message::Line;
use crate::node::{self, Locked, Pool};
use crate::topology::{self, NodeIndex};
use crate::{os, process};

/// The calling thread's arena, held for a slow path. Dropping this ends it.
pub(crate) struct Held {
    arena: &'static Arena,
    /// Whether the thread has no hook for its end, or that has run, and this was borrowed from the idle ones.
    borrowed: bool,
}

/// An arena of a named node: the thread's own, or one borrowed from the idle ones there. It takes memory of that node only
/// for as long as this is held.
pub(crate) struct HeldOn {
    arena: &'static Arena,
    borrowed: bool,
    /// The thread's own, held in any case: whoever comes in meanwhile is re-entered.
    _own: Held,
}

impl core::ops::Deref for HeldOn {
    type Target = Arena;

    fn deref(&self) -> &Arena {
        self.arena
    }
}

impl Drop for HeldOn {
    fn drop(&mut self) {
        self.arena.stays_home.set(false);
        if self.borrowed {
            compiler_fence(Ordering::Release);
            self.arena.busy.set(false);
            retire(self.arena);
        }
    }
}

impl core::ops::Deref for Held {
    type Target = Arena;

    #[inline(always)]
    fn deref(&self) -> &Arena {
        self.arena
    }
}

impl Drop for Held {
    #[inline]
    fn drop(&mut self) {
        compiler_fence(Ordering::Release);
        self.arena.busy.set(false);
        if self.borrowed {
            give_back_borrowed(self.arena);
        }
    }
}

/// Puts what a thread has borrowed for one operation among the idle arenas again.
#[cold]
fn give_back_borrowed(arena: &'static Arena) {
    // Past its end the thread's word never named the arena.
    let after = if is(tls::get(), arena) { &tls::EMPTY } else { &tls::EXITED };
    tls::set(&tls::ATTACHING);
    retire(arena);
    tls::set(after);
}

#[inline(always)]
fn is(arena: &'static Arena, other: &'static Arena) -> bool {
    core::ptr::eq(arena, other)
}

/// While it lives, whoever comes in on top of the calling thread is re-entered, as in a slow path.
#[must_use]
pub(super) struct Inside(Option<&'static Arena>);

impl Inside {
    pub(super) fn begin() -> Self {
        let arena = tls::get();
        // A thread without an arena is not given one while it holds a pool.
        if arena.id.get().is_none() || arena.busy.get() {
            return Inside(None);
        }
        arena.busy.set(true);
        compiler_fence(Ordering::Acquire);
        Inside(Some(arena))
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Some(arena) = self.0 {
            compiler_fence(Ordering::Release);
            arena.busy.set(false);
        }
    }
}

/// A pool that is held outside of slow paths: a signal handler that comes in meanwhile does not wait for it.
pub(crate) struct HeldPool {
    // Dropped in this order.
    pool: Locked,
    _inside: Inside,
}

impl HeldPool {
    /// Holds what `lock` gives, if it gives a pool.
    pub(crate) fn from(lock: impl FnOnce() -> Option<Locked>) -> Option<Self> {
        let inside = Inside::begin();
        Some(HeldPool { pool: lock()?, _inside: inside })
    }

    /// Waits for the pool. The calling thread must not hold it already.
    pub(crate) fn of(pool: &'static Pool) -> Self {
        let inside = Inside::begin();
        HeldPool { pool: pool.lock(), _inside: inside }
    }
}

impl core::ops::Deref for HeldPool {
    type Target = Locked;

    fn deref(&self) -> &Locked {
        &self.pool
    }
}

/// Why a thread has no arena for a slow path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It is in the middle of one: the emergency path serves it.
    Reentered,
    /// There is no memory for an arena.
    NoMemory,
}

/// Holds the calling thread's arena for a slow path, finding one for it first if need be. `base` are the settings that the
/// environment is put on, if this is the process's first use.
#[inline(always)]
pub(crate) fn enter(base: &Config) -> Result<Held, Refusal> {
    let arena = tls::get();
    // The sentinels are never busy, and have no number.
    if arena.id.get().is_none() {
        return enter_without_arena(arena, base);
    }
    if arena.busy.get() {
        return Err(Refusal::Reentered);
    }
    if node::may_have_moved(arena.seen_at.get()) {
        return Ok(hold(follow_thread(arena), false));
    }
    Ok(hold(arena, false))
}

/// Holds an arena of that node for a slow path, whichever the calling thread's is: an idle one, if not that. It takes
/// memory of that node only.
pub(crate) fn enter_on(node: NodeIndex, base: &Config) -> Result<HeldOn, Refusal> {
    // The thread's own first: it sets the process up, and tells whether the thread is inside already.
    let own = enter(base)?;
    if node::any_is_mine() {
        return Err(Refusal::Reentered);
    }
    // Where the pool is full, the blocks that are free may be the thread's own arena's.
    let borrowed = own.node() != node;
    let arena = if borrowed { find_on(node).ok_or(Refusal::NoMemory)? } else { own.arena };
    arena.stays_home.set(true);
    arena.busy.set(true);
    compiler_fence(Ordering::Acquire);
    Ok(HeldOn { arena, borrowed, _own: own })
}

#[inline]
fn hold(arena: &'static Arena, borrowed: bool) -> Held {
    arena.busy.set(true);
    compiler_fence(Ordering::Acquire);
    Held { arena, borrowed }
}

#[cold]
fn enter_without_arena(arena: &'static Arena, base: &Config) -> Result<Held, Refusal> {
    if is(arena, &tls::ATTACHING) {
        return Err(Refusal::Reentered);
    }
    let borrowed = is(arena, &tls::EXITED);
    tls::set(&tls::ATTACHING);
    let found = match find(base) {
        Ok(found) => found,
        Err(refusal) => {
            tls::set(arena);
            return Err(refusal);
        }
    };
    if borrowed {
        // The word stays `ATTACHING`: whatever comes in meanwhile goes by the emergency path.
        return Ok(hold(found, true));
    }
    tls::set(found);
    // May allocate, from the arena just found.
    let is_hooked = os::call_at_thread_exit(on_thread_exit);
    if !process::has_hooks() {
        process::register_hooks();
    }
    // What the hooks allocated may have found the thread on another node, and given it another arena.
    // Where nobody would take the arena when the thread ends, it is lent for this operation, and the next one tries again.
    Ok(hold(tls::get(), !is_hooked))
}

/// An arena of the node that the policy gives the thread, or of the nearest that has memory for one.
fn find(base: &Config) -> Result<&'static Arena, Refusal> {
    if !process::set_up(base) {
        return Err(Refusal::Reentered);
    }
    let (node, _) = node::home();
    if node::any_is_mine() {
        return Err(Refusal::Reentered);
    }
    let found = find_on(node);
    found
        .or_else(|| if others_may_serve() { in_nearest_with_room(node, idle::take) } else { end_if_full() })
        .ok_or(Refusal::NoMemory)
}

/// The node itself, or the first where it is the spread one.
fn in_machine(node: NodeIndex) -> NodeIndex {
    if node == node::spread() { NodeIndex::FIRST } else { node }
}

/// Whether pools of other nodes may serve where one has no room.
pub(super) fn others_may_serve() -> bool {
    let config = config::current();
    let is_confined = config.pool_limit != usize::MAX && config.overflow != Overflow::Spill;
    !is_confined && config.policy != Policy::Bind && topology::machine().count() > 1
}

/// No pool has room: ends the process, where the settings say so.
pub(super) fn end_if_full<R>() -> Option<R> {
    let config = config::current();
    if config.pool_limit != usize::MAX && config.overflow == Overflow::Abort {
        Line::new()
            .text("a pool has reached HOMING_POOL_LIMIT (")
            .size(config.pool_limit)
            .text("), or the kernel refuses more memory; aborting, as HOMING_OVERFLOW=abort says")
            .say();
        os::abort();
    }
    None
}

/// What `serve` gives for the nearest other node whose pool can serve, where [`others_may_serve`].
#[cold]
pub(super) fn in_nearest_with_room<R>(full: NodeIndex, mut serve: impl FnMut(&Locked) -> Option<R>) -> Option<R> {
    // Any node is as good as another for what was to be spread over all.
    let first = (full == node::spread()).then_some(NodeIndex::FIRST);
    let served = first.into_iter().chain(topology::machine().others_by_distance(in_machine(full))).find_map(|node| {
        let pool = node::pool(node);
        if pool.is_mine() { None } else { serve(&pool.lock()) }
    });
    if served.is_some() {
        node::pool(full).lock().count_spill();
    }
    served
}

fn find_on(node: NodeIndex) -> Option<&'static Arena> {
    let pool = node::pool(node);
    if node::any_is_mine() {
        return None;
    }
    idle::take(&pool.lock())
}

/// On a machine with more than one node: the arena that the thread is to use now, which is another once the thread
/// runs on another node. The old one stays behind, for whoever runs there.
#[cold]
#[inline(never)]
fn follow_thread(arena: &'static Arena) -> &'static Arena {
    let (home, whereabouts) = node::home();
    if home == arena.node.get() {
        arena.seen_at.set(whereabouts);
        return arena;
    }
    if node::any_is_mine() {
        return arena;
    }
    tls::set(&tls::ATTACHING);
    let new = find_on(home);
    if new.is_some() {
        retire(arena);
    }
    let arena = new.unwrap_or(arena);
    arena.seen_at.set(if new.is_some() { whereabouts } else { None });
    tls::set(arena);
    arena
}

/// Gives an arena up: what it has gathered for others goes home, and it waits for another thread.
fn retire(arena: &'static Arena) {
    arena.outbox.flush();
    let pool: &'static Pool = node::pool(arena.node.get());
    idle::put(&pool.lock(), arena);
}

/// The end of a thread.
pub(crate) extern "C" fn on_thread_exit(_: *mut c_void) {
    let _end = process::ThreadEnd::begin();
    let arena = tls::get();
    if arena.id.get().is_some() && !arena.busy.get() {
        tls::set(&tls::ATTACHING);
        retire(arena);
    }
    tls::set(&tls::EXITED);
}

/// Gives the calling thread's arena up; its next allocation takes another. Nothing where it has none, or is in the
/// middle of a slow path.
pub(crate) fn clean_up_thread() {
    let arena = tls::get();
    if arena.id.get().is_some() && !arena.busy.get() {
        tls::set(&tls::ATTACHING);
        retire(arena);
        tls::set(&tls::EMPTY);
    }
}
