//! Arenas: what threads allocate from.
//!
//! An arena belongs to one node. A thread holds one through its thread-local word; when the thread ends, or is found on
//! another node, the arena goes to the node's idle ones, whole, and another thread takes it up with all its slabs. Who
//! *holds* an arena (its thread, or whoever holds the lock of its node while it is idle) is the owner of its slabs.
//!
//! - `tls`: the thread-local word
//! - `lists`: blocks in and out, the slow paths of slabs
//! - `outbox`, `inbox`: blocks on their way home
//! - `sparse`: free pages of slabs that are in use
//! - `lookout`: what is done from time to time
//! - `idle`: arenas without a thread
//! - `enter`: re-entrancy, first use, migration, the end of a thread
//! - `large`: blocks that are not in slabs
//! - `census`: what the program holds
//! - `emergency`: what serves a thread that is re-entered in the middle of a slow path
//! - `guard`: has a thread served so while it runs code that must not reach its arena

pub(crate) mod census;
pub(crate) mod emergency;
pub(crate) mod enter;
mod frees;
#[cfg(any(test, feature = "hwloc"))]
pub(crate) mod guard;
pub(crate) mod idle;
pub(crate) mod inbox;
pub(crate) mod large;
mod lists;
pub(crate) mod lookout;
mod outbox;
mod sparse;
pub(crate) mod tls;

pub(crate) use frees::{count_ran_out, free_to_arena, gather};
pub(crate) use lists::Handed;
pub(crate) use sparse::purge_slabs_of_idle;

use core::cell::Cell;
use core::mem;
use core::num::NonZeroU32;
use core::ptr::{self, NonNull};
use core::sync::atomic::compiler_fence;

use crossbeam_utils::CachePadded;

use crate::block::{self, Block};
use crate::config::Config;
use crate::node::{self, Locked, Whereabouts};
use crate::os;
use crate::segment::{ARENA_ALIGN, OwnerWord, SegmentPtr, SlotIndex, TWO_WORDS};
use crate::size_class::{ByClass, CLASSES, ClassId};
use crate::slab::Slab;
use crate::sync::{AtomicPtr, AtomicU32, AtomicUsize, Ordering, Seen, Tally};
use crate::topology::NodeIndex;
use enter::HeldPool;
use inbox::Inbox;
use lookout::Lookout;
use outbox::Outbox;

/// An arena's number, for people and reports; never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArenaId(NonZeroU32);

impl ArenaId {
    /// The number.
    pub fn get(self) -> u32 {
        self.0.get()
    }
}

/// Slabs of more than a slot that an arena keeps without a block in use, of those of which no more than so many bytes were carved.
const SPARE: usize = 4;
const SPARE_CARVED: usize = 128 << 10;

/// An arena. But for `inbox`, every field is read and written only by who holds it. Zero bytes are a valid arena that
/// has nothing, and so can be allocated from and freed to only by the slow paths.
#[repr(C, align(4096))]
pub(crate) struct Arena {
    /// By class: blocks to hand out, all of the class's current slab. Always empty in checked mode.
    fast: ByClass<Seen<Option<Block>>>,
    /// By class: in checked mode, what `fast` is otherwise.
    checked: ByClass<Seen<Option<Block>>>,
    /// By class: the slab that blocks are taken from.
    current: ByClass<Seen<Option<Slab>>>,
    /// By class: slabs that have free blocks.
    partial: ByClass<Cell<Option<Slab>>>,
    /// By class: blocks that were put on the lists above, ever.
    listed: ByClass<Tally>,
    outbox: Outbox,
    /// Whether a slow path is at work: whoever comes in on top of it goes elsewhere.
    busy: Cell<bool>,
    /// Whether it takes memory of its own node only, for a request that names the node.
    stays_home: Cell<bool>,
    /// Whether every operation takes the slow path.
    is_checked: Cell<bool>,
    /// Whether partial slabs may be empty.
    has_unused: Cell<bool>,
    node: Cell<NodeIndex>,
    /// Where its thread was when the node was last found to be right: see `node::may_have_moved`.
    seen_at: Cell<Option<Whereabouts>>,
    id: Cell<Option<ArenaId>>,
    /// By class, a bit: a slab of the class was used up once.
    filled: ByClass<Cell<bool>>,
    /// One more than the numbers of classes of more than a slot whose current slabs were found without a block in use lately, and
    /// which goes next.
    spare: [Cell<usize>; SPARE],
    next_spare: Cell<usize>,
    /// Runs that were handed out again from there, ever, and their bytes.
    reused_runs: Tally,
    reused_bytes: Tally,
    /// Refills since it was last looked after, and when that was.
    lookout: Lookout,
    /// Since there was no memory for a slab: how many arenas had been left when parked slabs were last looked through; else 0.
    pressed_at: Cell<u32>,
    /// The kernel's number of its thread, where it was asked for; else 0.
    thread: Cell<u32>,
    next_idle: Cell<Option<&'static Arena>>,
    /// Blocks that were taken from the inbox and are to be brought home yet: a chain.
    received: Cell<Option<Block>>,
    /// The next of all arenas. Written before the arena is published, and constant.
    next_of_all: Cell<Option<&'static Arena>>,
    /// Blocks that others have freed; pushed to by any thread.
    inbox: CachePadded<Inbox>,
    /// Their bytes, and those of `received`: added by who pushes, before that, and taken off by who brings them home.
    inbox_bytes: AtomicUsize,
}
const _: () = assert!(size_of::<Arena>() == ARENA_ALIGN && align_of::<Arena>() == ARENA_ALIGN);

// SAFETY: shared references go to other threads only for `inbox` and `inbox_bytes` (atomic), for `next_of_all` (constant once
// published), and for figures (`sync::Seen`, `sync::Tally`).
unsafe impl Sync for Arena {}

/// Where a free block waits that counts as out of its slab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// On its arena's list, to be handed out.
    Listed,
    /// In an outbox, to be sent to the arena with that address.
    Outbox(usize),
    /// In an inbox, or taken from there and not brought home yet.
    Inbox,
}

/// Those who go along all arenas, by [`Arena::all`].
static READERS: AtomicUsize = AtomicUsize::new(0);

struct Reading(());

impl Reading {
    fn begin() -> Self {
        READERS.fetch_add(1, Ordering::SeqCst);
        Reading(())
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The newest of all arenas.
static ALL: AtomicPtr<Arena> = AtomicPtr::new(ptr::null_mut());
static IDS: AtomicU32 = AtomicU32::new(0);

impl Arena {
    const fn new() -> Self {
        Arena {
            fast: ByClass::new([const { Seen::new(None) }; CLASSES]),
            checked: ByClass::new([const { Seen::new(None) }; CLASSES]),
            current: ByClass::new([const { Seen::new(None) }; CLASSES]),
            partial: ByClass::new([const { Cell::new(None) }; CLASSES]),
            listed: ByClass::new([const { Tally::new() }; CLASSES]),
            outbox: Outbox::new(),
            busy: Cell::new(false),
            stays_home: Cell::new(false),
            is_checked: Cell::new(false),
            has_unused: Cell::new(false),
            node: Cell::new(NodeIndex::FIRST),
            seen_at: Cell::new(None),
            id: Cell::new(None),
            filled: ByClass::new([const { Cell::new(false) }; CLASSES]),
            spare: [const { Cell::new(0) }; SPARE],
            next_spare: Cell::new(0),
            reused_runs: Tally::new(),
            reused_bytes: Tally::new(),
            lookout: Lookout::new(),
            pressed_at: Cell::new(0),
            thread: Cell::new(0),
            next_idle: Cell::new(None),
            received: Cell::new(None),
            next_of_all: Cell::new(None),
            inbox: CachePadded::new(Inbox::new()),
            inbox_bytes: AtomicUsize::new(0),
        }
    }

    /// Makes zeroed memory an arena of the node, and puts it among all arenas.
    fn begin(&'static self, node: NodeIndex, checked: bool) {
        self.node.set(node);
        self.is_checked.set(checked);
        self.id.set(NonZeroU32::new(IDS.fetch_add(1, Ordering::Relaxed).wrapping_add(1)).map(ArenaId));
        let own = ptr::from_ref(self).cast_mut();
        let mut head = ALL.load(Ordering::Acquire);
        loop {
            // SAFETY: null, or an arena, which lives for ever.
            self.next_of_all.set(unsafe { head.as_ref() });
            match ALL.compare_exchange_weak(head, own, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// The arena's address: its name in owner words.
    #[inline(always)]
    pub(crate) fn address(&self) -> usize {
        ptr::from_ref(self).expose_provenance()
    }

    /// The arena that an owner word names.
    ///
    /// # Safety
    /// `address` came from [`address`](Self::address) of an arena made by `begin`.
    unsafe fn at(address: usize) -> &'static Arena {
        // SAFETY: arenas live for ever.
        unsafe { &*core::ptr::with_exposed_provenance(address) }
    }

    /// The node it belongs to.
    pub(crate) fn node(&self) -> NodeIndex {
        self.node.get()
    }

    /// Takes a block of the class from the list, if there is one.
    #[inline(always)]
    pub(crate) fn pop(&self, class: ClassId) -> Option<Block> {
        let list = &self.fast[class];
        let block = list.get()?;
        list.set(block.next());
        block.forget_link();
        Some(block)
    }

    /// Does `work` as a slow path: whoever comes in on top of it goes elsewhere. It must not be busy already.
    #[inline(always)]
    fn inside<R>(&self, work: impl FnOnce() -> R) -> R {
        self.busy.set(true);
        compiler_fence(Ordering::Acquire);
        let result = work();
        compiler_fence(Ordering::Release);
        self.busy.set(false);
        result
    }

    /// Whether a block of one of its slabs is free, but for those on their way home.
    fn has_free(&self, slab: Slab, block: NonNull<u8>) -> bool {
        // SAFETY: nothing is done with it, if it is in use.
        let mut is_free = !slab.is_carved(unsafe { Block::at(block) });
        slab.each_local(&mut |free| is_free |= free.pointer() == block);
        let class = slab.class();
        if self.current[class].get() != Some(slab) {
            return is_free;
        }
        let lists = [self.fast[class].get(), self.checked[class].get()];
        is_free || lists.into_iter().flat_map(block::list_from).any(|free| free.pointer() == block)
    }

    /// For audits, while nobody else is at work: calls `visit` with each free block that counts as out of its slab, and
    /// where it waits.
    pub(crate) fn each_waiting(&self, visit: &mut dyn FnMut(Waiting, Block)) {
        for lists in [&self.fast, &self.checked] {
            for list in lists.iter() {
                block::list_from(list.get()).for_each(|block| visit(Waiting::Listed, block));
            }
        }
        self.outbox.each(&mut |owner, block| visit(Waiting::Outbox(owner), block));
        // SAFETY: what is in an inbox are addresses of blocks.
        let first = unsafe { Block::from_address(self.inbox.peek()) };
        for first in [first, self.received.get()] {
            core::iter::successors(first, |block| block.next_of_chain()).for_each(|block| visit(Waiting::Inbox, block));
        }
    }

    /// All arenas, newest first. None of them goes as long as this lives.
    pub(crate) fn all() -> impl Iterator<Item = &'static Arena> {
        let reading = Reading::begin();
        let mut newest = ALL.load(Ordering::SeqCst).cast_const();
        core::iter::from_fn(move || {
            let _held = &reading;
            // SAFETY: null, or an arena, which lives until nobody reads.
            let arena = unsafe { newest.as_ref() }?;
            newest = arena.next_of_all.get().map_or(ptr::null(), ptr::from_ref);
            Some(arena)
        })
    }

    /// Runs that were handed out again without the node's pool knowing, ever, and their bytes.
    pub(crate) fn reused(&self) -> (u64, u64) {
        (self.reused_runs.get(), self.reused_bytes.get())
    }

    /// Blocks of the class that were put on its list, ever.
    pub(crate) fn listed_ever(&self, class: ClassId) -> u64 {
        self.listed[class].get()
    }
}

/// Whether the calling thread has an arena.
pub(crate) fn is_attached() -> bool {
    tls::get().id.get().is_some()
}

/// The kernel's number of the calling thread, which is asked for once a thread.
pub(crate) fn thread_number() -> u32 {
    let arena = tls::get();
    if arena.id.get().is_none() {
        return os::thread_id();
    }
    if arena.thread.get() == 0 {
        arena.thread.set(os::thread_id());
    }
    arena.thread.get()
}

/// In the child of a `fork`: the thread has another number, and no other is in the middle of anything.
pub(crate) fn after_fork_in_child() {
    READERS.store(0, Ordering::SeqCst);
    if is_attached() {
        tls::get().thread.set(0);
    }
}

/// Whether a block of the slab was freed, as far as it can be known: it waits in the calling thread's arena, in one that no
/// thread has, or in what the calling thread has freed for others.
pub(crate) fn is_known_free(slab: Slab, block: NonNull<u8>) -> bool {
    let is_there = |arena: &Arena, pool: Option<&Locked>| {
        arena.collect_whole_inbox(pool);
        let owner = slab.segment().owner(slab.slot()).arena_address();
        // The slab may just have been given up, if that was its last block.
        owner != Some(arena.address()) || arena.has_free(slab, block)
    };
    let Some(owner) = slab.segment().owner(slab.slot()).arena_address() else { return true };
    if is_attached()
        && let Ok(held) = enter::enter(&Config::new())
    {
        if held.address() == owner {
            return is_there(&held, None);
        }
        let mut waits = false;
        held.outbox.each(&mut |_, waiting| waits |= waiting.pointer() == block);
        if waits {
            return true;
        }
    }
    if node::any_is_mine() {
        return false;
    }
    let pool = HeldPool::of(node::pool(slab.segment().node()));
    idle::each(&pool).find(|arena| arena.address() == owner).is_some_and(|arena| is_there(arena, Some(&pool)))
}

/// Hardened: ends the process if a block that is about to be freed, and looks free already, is among the free ones of the
/// calling thread, which owns its slab, or of those that others have sent it. Else it is looked for again where it comes home
/// to, if another has freed it too and not sent it yet.
#[cold]
#[inline(never)]
pub(crate) fn refuse_free_block(slab: Slab, block: Block) {
    let arena = tls::get();
    if !arena.busy.get() {
        arena.inside(|| arena.collect_whole_inbox(None));
    }
    // The slab may just have been given up, if that was its last block.
    let is_owner = slab.segment().owner(slab.slot()).arena_address() == Some(arena.address());
    if !is_owner || arena.has_free(slab, block.pointer()) {
        crate::misuse::double_free(block);
    }
    if slab.block_size() >= TWO_WORDS {
        block.suspect();
    }
}

/// Hardened: notes in a block that is about to go home from here, if it looks free already, that it is to be looked for there.
#[cold]
#[inline(never)]
pub(crate) fn suspect_free_block(segment: SegmentPtr, slot: SlotIndex, word: OwnerWord, block: NonNull<u8>) {
    let Some(_) = word.arena_address() else { return };
    // SAFETY: the user has given the block up, and the word is a slab's.
    let block = unsafe { Block::at(block) };
    if segment.weight(slot).has_two_words() && block.looks_free() {
        block.suspect();
    }
}

/// Before this code is unloaded: gives back what waits in idle arenas and pools, and all of these too, unless a thread has an
/// arena still, looks at all of them, or holds a pool, or a block is in use. Other threads may be at work: one that comes
/// later finds pools that begin anew.
pub(crate) fn give_everything_back() {
    for index in 0..node::pools() {
        if let Some(pool) = node::pool(NodeIndex::new(index)).try_lock_started() {
            give_up_unused_of_idle(&pool);
            pool.purge_all_apart();
        }
        if let Some(pool) = node::pool(NodeIndex::new(index)).try_lock_started() {
            let _ = pool.drop_all_unused();
        }
    }
    // All of them are held at once, and the guards put aside.
    let all = || (0..node::pools()).map(|index| node::pool(NodeIndex::new(index)));
    let held = all().map_while(node::Pool::try_lock).map(mem::forget).count();
    if held == node::pools() {
        // SAFETY: their guards were put aside, and these stand for them without freeing the locks.
        give_back_if_unused(|| all().map(|pool| unsafe { mem::ManuallyDrop::new(pool.held()) }));
    }
    // SAFETY: their guards were put aside above.
    all().take(held).for_each(|pool| drop(unsafe { pool.held() }));
}

/// Gives the pools back, which are all there are and are held, if nothing of them is used.
fn give_back_if_unused<I: Iterator<Item = mem::ManuallyDrop<Locked>>>(pools: impl Fn() -> I) {
    let idle_arenas: usize = pools().map(|pool| idle::each(&pool).count()).sum();
    if pools().any(|pool| !idle::holds_all(&pool)) || idle_arenas != Arena::all().count() {
        return;
    }
    // No arena is made meanwhile, since all pools are held.
    let newest = ALL.swap(ptr::null_mut(), Ordering::SeqCst);
    if READERS.load(Ordering::SeqCst) == 0 {
        pools().for_each(|pool| pool.give_all_back());
    } else {
        ALL.store(newest, Ordering::SeqCst);
    }
}

/// Gives up the slabs of idle arenas of the pool's node of which every block is there.
pub(crate) fn give_up_unused_of_idle(pool: &Locked) {
    for arena in idle::each(pool) {
        arena.give_up_unused(Some(pool));
    }
}
