//! Node pools: all that the process holds on one node. Segments and their slots; memory that waits to go back to the
//! kernel; large mappings. One lock a pool guards it all.
//!
//! Beside the pools of the nodes there is one for [`Policy::Interleave`], whose memory is spread over all of them.

mod at_hand;
mod patrol;
mod purge;
mod rooms;
pub(crate) mod shortfalls;
mod slots;
mod strict;

use core::cell::{Cell, UnsafeCell};
use core::ptr::NonNull;

use crossbeam_utils::CachePadded;

use crate::address_map::{Part, Range};
use crate::arena::idle::Shelf;
use crate::config::{self, Large, Policy};
use crate::os::{self, Binding, NodeMask};
use crate::segment::list::{ALL, DIRTY, SegmentList};
use crate::segment::{SegmentPtr, Use};
use crate::sync::alarm::Alarm;
use crate::sync::lock::{Guard, Lock};
use crate::sync::{AtomicU32, Ordering};
use crate::timer::Timer;
use crate::topology::{self, INDICES, NodeIndex};
use rooms::{DirtyRooms, Rooms};

pub(crate) use purge::{goes_at_once, set_least_that_goes_at_once, set_most_that_waits};
pub(crate) use slots::{Run, Slots};

pub(crate) use crate::topology::spread;

/// A node's pool. On a page of its own, which lies on the node: see [`place_pools`].
#[repr(C, align(4096))]
pub(crate) struct Pool {
    lock: Lock,
    inner: UnsafeCell<Inner>,
    /// Runs that count as in use, and that anybody may take.
    at_hand: [at_hand::Place; at_hand::PLACES],
    /// Likewise for each use but the first, `Use::Small`.
    long_at_hand: [at_hand::Place; Use::COUNT - 1],
}
const _: () = assert!(size_of::<Pool>() == 4096 || cfg!(not(target_pointer_width = "64")));

// SAFETY: `inner` is touched only by who holds `lock`, through `Locked`.
unsafe impl Sync for Pool {}

/// What a pool keeps; all zero before its first use.
struct Inner {
    started: Cell<bool>,
    /// How often it was given up: segments of an earlier time are not its own any more.
    generation: Cell<u32>,
    segments: SegmentList<ALL>,
    /// Those with a free slot, by what they are for and the longest hole that they may have.
    rooms: [Rooms; Use::COUNT],
    /// Those with free slots that hold old data, likewise by the longest row of such.
    dirty_rooms: [DirtyRooms; Use::COUNT],
    /// These once more, the one first to which none was added for longest.
    dirty: SegmentList<DIRTY>,
    /// Slots of all segments that are mapped, headers included.
    mapped_slots: Cell<usize>,
    /// Slots held by slabs and runs.
    used_slots: Cell<usize>,
    /// Free slots that hold old data.
    dirty_slots: Cell<usize>,
    /// When dirty slots age.
    ageing: Timer,
    /// The longest run that was freed since.
    longest_freed: Cell<usize>,
    regret: purge::Regret,
    leaving: purge::Leaving,
    /// Mappings in use: how many bytes.
    mapped: Cell<usize>,
    patrol: patrol::Patrol,
    credit: strict::Credit,
    shelf: Shelf,
    /// Rounds of looking after this pool, and which of the others was looked after last from here.
    rounds: Cell<u32>,
    other: Cell<usize>,
    counts: Counts,
}

impl Inner {
    /// Begins anew, without anything.
    fn abandon(&self) {
        self.generation.set(self.generation.get() + 1);
        self.segments.abandon();
        self.rooms.iter().for_each(Rooms::abandon);
        self.dirty_rooms.iter().for_each(DirtyRooms::abandon);
        self.dirty.abandon();
        [&self.mapped_slots, &self.used_slots, &self.dirty_slots].iter().for_each(|count| count.set(0));
        self.shelf.abandon();
        self.leaving.abandon();
    }
}

/// For the statistics.
#[derive(Default)]
struct Counts {
    peak: Cell<usize>,
    large_blocks: Cell<u64>,
    large_bytes: Cell<u64>,
    purged: Cell<u64>,
    spilled: Cell<u64>,
}

/// A pool's figures, for people and programs to read.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PoolFigures {
    /// Bytes in slabs, runs and mappings.
    pub(crate) used: usize,
    /// Bytes in mappings alone.
    pub(crate) mapped: usize,
    /// The most there ever were.
    pub(crate) peak: usize,
    /// Free bytes that have not gone back to the kernel.
    pub(crate) dirty: usize,
    /// Bytes that went back to the kernel, in all.
    pub(crate) purged: u64,
    /// Blocks beyond slabs' handed out, in all, and their bytes.
    pub(crate) large_blocks: u64,
    pub(crate) large_bytes: u64,
    /// Requests that found this pool full and went to another.
    pub(crate) spilled: u64,
}

/// Wakes the thread that purges on time, if there is one (`background`).
pub(crate) static ALARM: Alarm = Alarm::new();

static POOLS: [Pool; INDICES] = [const { Pool::new() }; INDICES];

/// Before any pool is used: has each lie on its node. Nothing is lost where the kernel refuses, or has larger pages.
pub(crate) fn place_pools() {
    let machine = topology::machine();
    if let Some(unused) = POOLS.get(pools()..).filter(|_| os::page_size() <= size_of::<Pool>()) {
        // SAFETY: the pages are those of pools that nobody uses.
        unsafe { os::leave_out_of_dumps(NonNull::from(unused).cast(), size_of_val(unused)) };
    }
    if machine.count() == 1 {
        return;
    }
    // From here on threads are followed to other nodes, whatever becomes of the pools.
    EPOCH.store(EPOCH_STEP, Ordering::Release);
    // With one node the clock's own lines are never far.
    os::read_processor_ticks();
    if os::page_size() > size_of::<Pool>() {
        return;
    }
    for index in 0..machine.count() {
        let node = NodeIndex::new(index);
        let page = NonNull::from(pool(node)).cast();
        // SAFETY: the page is the pool's alone.
        let _ = unsafe { os::bind(page, size_of::<Pool>(), Binding::Preferred, &mask_of(node)) };
    }
}

/// The node alone.
fn mask_of(node: NodeIndex) -> NodeMask {
    NodeMask::from_iter([usize::from(topology::machine().id(node).number())])
}

/// How many pools there are: one a node, and the spread one.
pub(crate) fn pools() -> usize {
    topology::machine().count() + 1
}

/// Whether the calling thread must not wait for one of the pools: see [`Pool::is_mine`].
pub(crate) fn any_is_mine() -> bool {
    (0..pools()).any(|index| pool(NodeIndex::new(index)).is_mine())
}

/// The pool of a node.
#[inline]
pub(crate) fn pool(node: NodeIndex) -> &'static Pool {
    &POOLS[node.get()]
}

/// Where a thread runs: while this stays the same, so does its [`home`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Whereabouts(core::num::NonZeroU32);

/// Whether a thread that was seen there may have another home by now.
#[inline(always)]
pub(crate) fn may_have_moved(seen_at: Option<Whereabouts>) -> bool {
    let epoch = EPOCH.load(Ordering::Acquire);
    // Where there is one node, nothing else is looked at.
    epoch != 0 && {
        let whereabouts = os::current_cpu().and_then(|cpu| Whereabouts::new(cpu, epoch));
        whereabouts.is_none() || whereabouts != seen_at
    }
}

/// Whether a thread that was seen there plainly has the same home. Calls nothing.
#[inline(always)]
pub(crate) fn stands_still(seen_at: Option<Whereabouts>) -> bool {
    let epoch = EPOCH.load(Ordering::Acquire);
    let seen_at = seen_at.map_or(0, |seen_at| seen_at.0.get());
    epoch == 0 || os::current_cpu_at_hand().is_some_and(|cpu| word(cpu, epoch) == seen_at && seen_at != 0)
}

/// What tells whereabouts apart; 0 is none.
#[inline(always)]
fn word(cpu: u32, epoch: u32) -> u32 {
    cpu.wrapping_add(1).wrapping_add(epoch)
}

impl Whereabouts {
    #[inline(always)]
    fn new(cpu: u32, epoch: u32) -> Option<Self> {
        core::num::NonZeroU32::new(word(cpu, epoch)).map(Whereabouts)
    }
}

/// What [`home`] depends on beside the CPU: another number each time that the nodes which may be used have changed, in
/// steps of more than there can be CPUs. 0 where there is one node. Apart from what is written often.
static EPOCH: CachePadded<AtomicU32> = CachePadded::new(AtomicU32::new(0));
const EPOCH_STEP: u32 = 1 << 20;

/// Looks whether the nodes that the process may take memory from have changed (its cpuset was written to). Threads find
/// their new home at their next slow path.
fn look_at_allowed_nodes() {
    if topology::look_at_allowed_nodes() {
        // Released, so that who sees the new number sees the new homes.
        let next = |epoch: u32| Some(epoch.wrapping_add(EPOCH_STEP).max(EPOCH_STEP));
        let _ = EPOCH.fetch_update(Ordering::Release, Ordering::Relaxed, next);
    }
}

/// The node whose pool a thread is to allocate from now, by the policy and where it runs; and for what whereabouts that
/// holds, where it is known.
pub(crate) fn home() -> (NodeIndex, Option<Whereabouts>) {
    let machine = topology::machine();
    if machine.count() == 1 {
        return (NodeIndex::FIRST, None);
    }
    let fixed = match config::current().policy {
        Policy::Local | Policy::Bind => None,
        Policy::Interleave => Some(spread()),
        // A node that is not there was said when the process was set up: see `check_policy`.
        Policy::Prefer(id) => machine.find(topology::NodeId::new(id)),
    };
    // The CPU is read once, and the node is that CPU's: the thread may move at any time.
    let cpu = os::current_cpu();
    let epoch = EPOCH.load(Ordering::Acquire);
    let whereabouts = cpu.and_then(|cpu| Whereabouts::new(cpu, epoch));
    match (fixed, cpu.and_then(os::node_of_cpu)) {
        (Some(fixed), _) => (fixed, whereabouts),
        (None, Some(node)) => (machine.nearest(node), whereabouts),
        (None, None) => (here(), None),
    }
}

/// The node that the calling thread runs on, or the nearest with memory; asked of the kernel.
fn here() -> NodeIndex {
    match os::current_node() {
        Ok(node) => topology::machine().nearest(node),
        Err(error) => {
            shortfalls::note_tracking(error);
            NodeIndex::FIRST
        }
    }
}

/// Checks what the policy asks for against the machine, once, while the process is being set up.
pub(crate) fn check_policy() {
    if let Policy::Prefer(id) = config::current().policy
        && topology::machine().find(topology::NodeId::new(id)).is_none()
    {
        shortfalls::note_missing(topology::NodeId::new(id));
    }
}

/// What binds the segments of a pool.
pub(crate) fn part_of(home: NodeIndex) -> Part {
    Part::Node(home)
}

/// What binds a large mapping of that home.
pub(crate) fn part_for_large(home: NodeIndex) -> Part {
    if topology::machine().count() == 1 {
        return Part::FirstTouch(home);
    }
    let config = config::current();
    match (config.large, config.policy) {
        (Some(Large::FirstTouch), _) | (None, Policy::Local) => Part::FirstTouch(home),
        (Some(Large::Interleave), _) => Part::Node(spread()),
        (Some(Large::Local), _) | (None, _) => part_of(home),
    }
}

/// Sees to it that a large mapping which was used before lies where those of its part are to: pages of an unbound one
/// where the calling thread runs, as if it were new. True where its pages went back to the kernel for that, so that all
/// of it is zero.
pub(crate) fn settle(part: Part, start: NonNull<u8>, size: usize) -> bool {
    let machine = topology::machine();
    if machine.count() == 1 {
        return false;
    }
    let wanted = match part {
        Part::Node(node) if node == spread() => return false,
        Part::Node(node) => machine.id(node),
        Part::FirstTouch(_) => machine.id(here()),
    };
    // A policy of the thread's own (numactl) decides otherwise where what is not bound lies.
    patrol::settle(start, size, wanted, || matches!(part, Part::Node(_)) || os::places_by_first_touch())
}

/// Binds memory that was just mapped as its part says.
pub(crate) fn bind_range(range: &Range) {
    if let Part::Node(node) = range.part {
        bind(node, range.start, range.size);
    }
}

/// Binds memory that was just mapped to its node, as the policy says. On a machine with one node there is nothing to bind.
/// A refusal is said once, and the kernel's own placement (first touch) serves from then on.
fn bind(node: NodeIndex, start: NonNull<u8>, size: usize) {
    let machine = topology::machine();
    if machine.count() == 1 || size == 0 || shortfalls::binding_refused() {
        return;
    }
    let (binding, mask) = if node == spread() {
        (Binding::Interleaved, machine.mask())
    } else {
        (if is_strict() { Binding::Strict } else { Binding::Preferred }, mask_of(node))
    };
    // SAFETY: the range was mapped for this pool, and nothing of it was handed out.
    if let Err(error) = unsafe { os::bind(start, size, binding, &mask) } {
        shortfalls::note_binding(error);
    }
}

/// Whether memory of other nodes is no substitute (`HOMING_POLICY=bind`).
pub(crate) fn is_strict() -> bool {
    config::current().policy == Policy::Bind && topology::machine().count() > 1
}

impl Pool {
    const fn new() -> Self {
        Pool {
            lock: Lock::new(),
            inner: UnsafeCell::new(Inner {
                started: Cell::new(false),
                generation: Cell::new(0),
                segments: SegmentList::new(),
                rooms: [const { Rooms::new() }; Use::COUNT],
                dirty_rooms: [const { DirtyRooms::new() }; Use::COUNT],
                dirty: SegmentList::new(),
                mapped_slots: Cell::new(0),
                used_slots: Cell::new(0),
                dirty_slots: Cell::new(0),
                ageing: Timer::new(),
                longest_freed: Cell::new(0),
                regret: purge::Regret::new(),
                leaving: purge::Leaving::new(),
                mapped: Cell::new(0),
                patrol: patrol::Patrol::new(),
                credit: strict::Credit::new(),
                shelf: Shelf::new(),
                rounds: Cell::new(0),
                other: Cell::new(0),
                counts: Counts {
                    peak: Cell::new(0),
                    large_blocks: Cell::new(0),
                    large_bytes: Cell::new(0),
                    purged: Cell::new(0),
                    spilled: Cell::new(0),
                },
            }),
            at_hand: [const { at_hand::Place::new() }; at_hand::PLACES],
            long_at_hand: [const { at_hand::Place::new() }; Use::COUNT - 1],
        }
    }

    /// Waits for the pool and holds it. The calling thread must not hold it already ([`is_mine`](Self::is_mine)).
    pub(crate) fn lock(&'static self) -> Locked {
        let locked = Locked { pool: self, guard: Some(self.lock.lock()) };
        if !locked.inner().started.get() {
            locked.start();
        }
        locked
    }

    /// The pool, which the calling thread holds.
    ///
    /// # Safety
    /// The thread has forgotten the `Locked` by which it holds it; of those that this gives one at most is dropped.
    pub(crate) unsafe fn held(&'static self) -> Locked {
        // SAFETY: the caller's promise.
        Locked { pool: self, guard: Some(unsafe { self.lock.held() }) }
    }

    /// The pool, in use or not, if nobody holds it now.
    pub(crate) fn try_lock(&'static self) -> Option<Locked> {
        Some(Locked { pool: self, guard: Some(self.lock.try_lock()?) })
    }

    /// The pool, if it is in use and nobody holds it now.
    pub(crate) fn try_lock_started(&'static self) -> Option<Locked> {
        self.try_lock().filter(|pool| pool.inner().started.get())
    }

    /// Waits for the pool and holds it, if it is in use.
    pub(crate) fn lock_started(&'static self) -> Option<Locked> {
        Some(Locked { pool: self, guard: Some(self.lock.lock()) }).filter(|pool| pool.inner().started.get())
    }

    /// Whether the calling thread must not wait for the pool, since it comes in on top of itself, as a signal handler, and
    /// holds it.
    pub(crate) fn is_mine(&self) -> bool {
        self.lock.is_mine()
    }

    /// In the child of a `fork`: if another thread held the pool, all that it keeps may be half changed, and is given up.
    /// What lies in its segments stays where it is.
    pub(crate) fn after_fork_in_child(&'static self) {
        // SAFETY: no other thread is there, and the fields are cells.
        let inner = unsafe { &*self.inner.get() };
        if self.lock.is_abandoned() {
            inner.abandon();
            self.at_hand.iter().chain(&self.long_at_hand).for_each(at_hand::Place::forget);
        } else if let Some(pool) = self.try_lock() {
            pool.take_back_what_leaves();
        } else {
            // A signal handler has forked on top of the thread that holds the pool, which goes on when it returns.
            inner.leaving.note_fork();
        }
    }

    /// The node's number among the pools.
    pub(crate) fn node(&'static self) -> NodeIndex {
        // SAFETY: every pool lies in `POOLS`.
        NodeIndex::new(unsafe { core::ptr::from_ref(self).offset_from(POOLS.as_ptr()) } as usize)
    }
}

/// A pool that is held.
#[must_use]
pub(crate) struct Locked {
    pool: &'static Pool,
    /// There, but while pages go back.
    guard: Option<Guard<'static>>,
}

impl Locked {
    #[inline]
    fn inner(&self) -> &Inner {
        // SAFETY: the lock is held for as long as `self` lives, and the fields are cells.
        unsafe { &*self.pool.inner.get() }
    }

    /// The node.
    pub(crate) fn node(&self) -> NodeIndex {
        self.pool.node()
    }

    /// The pool's first use: obtains what it is to hold from the start.
    fn start(&self) {
        self.inner().started.set(true);
        let node = self.node();
        // The spread pool serves large blocks too, and then holds no slots.
        if node != spread() || config::current().policy == Policy::Interleave {
            self.obtain(config::current().pool_size);
        }
    }

    /// The node's idle arenas.
    pub(crate) fn shelf(&self) -> &Shelf {
        &self.inner().shelf
    }

    /// In one round of a few, another pool, each in turn. Not in each: the other pools' memory is far.
    pub(crate) fn next_other(&self) -> Option<&'static Pool> {
        const ROUNDS: u32 = 8;
        let rounds = &self.inner().rounds;
        rounds.set(rounds.get().wrapping_add(1));
        if !rounds.get().is_multiple_of(ROUNDS) || topology::machine().count() == 1 {
            return None;
        }
        let other = &self.inner().other;
        let next = |index: usize| (index + 1) % pools();
        other.set(next(other.get()));
        if other.get() == self.node().get() {
            other.set(next(other.get()));
        }
        Some(pool(NodeIndex::new(other.get())))
    }

    /// The pool's figures.
    pub(crate) fn figures(&self) -> PoolFigures {
        let inner = self.inner();
        PoolFigures {
            used: self.used(),
            mapped: inner.mapped.get(),
            peak: inner.counts.peak.get(),
            dirty: (inner.dirty_slots.get() + inner.leaving.slots()) * crate::segment::SLOT,
            purged: inner.counts.purged.get(),
            large_blocks: inner.counts.large_blocks.get(),
            large_bytes: inner.counts.large_bytes.get(),
            spilled: inner.counts.spilled.get(),
        }
    }

    /// Whether the segment is one of those that the pool knows: not one that it had before it was given up in a child.
    pub(crate) fn has(&self, segment: SegmentPtr) -> bool {
        segment.generation() == self.inner().generation.get()
    }

    /// Whether the pages of slots are going back now.
    pub(crate) fn is_purging(&self) -> bool {
        self.inner().leaving.slots() > 0
    }

    /// The same, by another thread.
    pub(crate) fn is_purged_by_another(&self) -> bool {
        self.is_purging() && self.inner().leaving.is_anothers()
    }

    /// All segments.
    pub(crate) fn segments(&self) -> impl Iterator<Item = SegmentPtr> {
        self.inner().segments.iter()
    }

    /// For audits: slots held by slabs and runs, and free slots that hold old data.
    pub(crate) fn slot_counts(&self) -> (usize, usize) {
        (self.inner().used_slots.get(), self.inner().dirty_slots.get())
    }

    /// Bytes in slabs, runs and mappings.
    fn used(&self) -> usize {
        let inner = self.inner();
        (inner.used_slots.get() * crate::segment::SLOT).saturating_add(inner.mapped.get())
    }

    /// The most bytes in use ever may be those of now.
    pub(crate) fn note_peak(&self) {
        self.inner().counts.peak.update(|peak| peak.max(self.used()));
    }

    /// Counts a block beyond slabs' as handed out.
    pub(crate) fn count_large(&self, bytes: usize) {
        let counts = &self.inner().counts;
        counts.large_blocks.set(counts.large_blocks.get() + 1);
        counts.large_bytes.set(counts.large_bytes.get().wrapping_add(bytes as u64));
    }

    /// Counts bytes as gone back to the kernel.
    pub(crate) fn count_purged(&self, bytes: usize) {
        let counts = &self.inner().counts;
        counts.purged.set(counts.purged.get().wrapping_add(bytes as u64));
    }

    /// Counts a request that this pool could not serve within its limit and another did.
    pub(crate) fn count_spill(&self) {
        self.inner().counts.spilled.update(|spilled| spilled + 1);
    }

    /// Bytes in use, and free ones that have not gone back to the kernel.
    fn held(&self) -> usize {
        let inner = self.inner();
        self.used().saturating_add((inner.dirty_slots.get() + inner.leaving.slots()) * crate::segment::SLOT)
    }

    /// Whether so many more bytes in use stay within the pool's limit; [`heed_limit`](Self::heed_limit) sees to the rest.
    fn has_room_for(&self, bytes: usize) -> bool {
        let fits = || bytes <= config::current().pool_limit.saturating_sub(self.used());
        fits() || self.take_back_at_hand() && fits()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_thread_was_changing_when_the_process_forked_is_given_up_in_the_child() {
        // No thread runs on a node of that number.
        let unused = pool(NodeIndex::new(INDICES - 2));
        let had = |slots: usize| {
            let pool = unused.lock();
            pool.inner().used_slots.set(slots);
            pool
        };
        drop(had(3));
        unused.after_fork_in_child();
        assert_eq!(unused.lock().inner().used_slots.get(), 3, "nobody held it");
        let held = had(4);
        unused.after_fork_in_child();
        assert_eq!(held.inner().used_slots.get(), 4, "the forking thread itself held it, and goes on");
        drop(held);
        std::thread::spawn(move || core::mem::forget(had(5))).join().unwrap();
        unused.after_fork_in_child();
        let pool = unused.lock();
        assert_eq!((pool.inner().used_slots.get(), pool.inner().generation.get()), (0, 1));
    }
}
