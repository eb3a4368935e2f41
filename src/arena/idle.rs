//! Arenas without a thread, by node; and new ones.

use core::cell::Cell;

use super::Arena;
use super::frees::AT_A_TIME;
use crate::config;
use crate::node::Locked;
use crate::segment::{OwnerWord, SLOT, Use};

/// A node's idle arenas, and the slot that new ones are carved from. A part of the node's pool.
pub(crate) struct Shelf {
    idle: Cell<Option<&'static Arena>>,
    /// The idle arena that was looked at last.
    looked_at: Cell<Option<&'static Arena>>,
    next_new: Cell<*mut Arena>,
    left: Cell<usize>,
    /// Slots that arenas lie in.
    slots: Cell<usize>,
    /// How often an arena was put among the idle ones.
    puts: Cell<u32>,
}

impl Shelf {
    /// An empty one.
    pub(crate) const fn new() -> Self {
        Shelf {
            idle: Cell::new(None),
            looked_at: Cell::new(None),
            next_new: Cell::new(core::ptr::null_mut()),
            left: Cell::new(0),
            slots: Cell::new(0),
            puts: Cell::new(0),
        }
    }

    /// How often an arena was put among the idle ones: a number that changes then, and is not 0.
    pub(super) fn times_put(&self) -> u32 {
        self.puts.get() | 1 << 31
    }

    /// Forgets all.
    pub(crate) fn abandon(&self) {
        [&self.idle, &self.looked_at].iter().for_each(|place| place.set(None));
        [&self.left, &self.slots].iter().for_each(|count| count.set(0));
    }
}

/// Whether arenas are all that the pool's slots hold.
pub(super) fn holds_all(pool: &Locked) -> bool {
    pool.slot_counts().0 == pool.shelf().slots.get() && !pool.is_purging()
}

/// An arena of the pool's node: an idle one, or a new one. `None` where there is no memory for one.
pub(super) fn take(pool: &Locked) -> Option<&'static Arena> {
    if let Some(arena) = take_first(pool) {
        return Some(arena);
    }
    let shelf = pool.shelf();
    if shelf.left.get() == 0 {
        let slots = pool.take_slots(Use::Small, 1, 1)?;
        // Whoever frees an address in there is told that no block begins at it.
        slots.segment.set_owner(slots.first, OwnerWord::RUN_INTERIOR);
        if slots.used_before > 0 {
            // SAFETY: the slot was just taken, and is committed.
            unsafe { slots.start().write_bytes(0, SLOT) };
        }
        shelf.next_new.set(slots.start().as_ptr().cast());
        shelf.left.set(SLOT / size_of::<Arena>());
        shelf.slots.set(shelf.slots.get() + 1);
    }
    let new = shelf.next_new.get();
    // SAFETY: one arena further on is the next new one, or the slot's end.
    shelf.next_new.set(unsafe { new.add(1) });
    shelf.left.set(shelf.left.get() - 1);
    // SAFETY: zeroed memory of the slot that nobody else was given; zero bytes are a valid arena; slots that hold arenas
    // are never given back.
    let arena: &'static Arena = unsafe { &*new };
    arena.begin(pool.node(), config::current().is_checked());
    Some(arena)
}

/// The first idle arena, which is the caller's from then on.
pub(super) fn take_first(pool: &Locked) -> Option<&'static Arena> {
    let shelf = pool.shelf();
    let arena = shelf.idle.get()?;
    shelf.idle.set(arena.next_idle.take());
    Some(arena)
}

/// Puts an arena that was taken behind the other idle ones.
pub(super) fn put_last(pool: &Locked, arena: &'static Arena) {
    let last = each(pool).last().map_or(&pool.shelf().idle, |last| &last.next_idle);
    last.set(Some(arena));
}

/// Idle arenas that keep their slabs as they were, for the next threads.
const WARM: usize = 4;

/// Puts an arena whose thread has gone among the idle ones. All but the last few have given up what no block is used of.
pub(super) fn put(pool: &Locked, arena: &'static Arena) {
    let shelf = pool.shelf();
    arena.next_idle.set(shelf.idle.replace(Some(arena)));
    shelf.puts.set(shelf.puts.get().wrapping_add(1));
    if let Some(cold) = each(pool).nth(WARM) {
        let _ = cold.rest(pool, AT_A_TIME);
    }
}

/// The idle arenas.
pub(super) fn each(pool: &Locked) -> impl Iterator<Item = &'static Arena> {
    core::iter::successors(pool.shelf().idle.get(), |arena| arena.next_idle.get())
}

/// So many of the idle arenas at most, in turn, each once: each call goes on where the last one ended.
pub(super) fn some(pool: &Locked, count: usize) -> impl Iterator<Item = &'static Arena> {
    let shelf = pool.shelf();
    let mut begun_at: Option<&'static Arena> = None;
    core::iter::from_fn(move || {
        // An arena that was taken up since has no next one; then it begins anew.
        let next = shelf.looked_at.get().and_then(|arena| arena.next_idle.get()).or(shelf.idle.get())?;
        if begun_at.is_some_and(|first| core::ptr::eq(first, next)) {
            return None;
        }
        begun_at.get_or_insert(next);
        shelf.looked_at.set(Some(next));
        Some(next)
    })
    .take(count)
}
