//! Blocks of slabs, handed out: the slow paths behind the arena's lists, and what becomes of slabs that have free blocks.

use core::ptr::{self, NonNull};

use super::frees::AT_A_TIME;
use super::{Arena, SPARE, SPARE_CARVED, emergency, idle};
use crate::block::{self, Block};
use crate::config::{self, Zero};
use crate::misuse::double_free;
use crate::node::{self, Locked};
use crate::os;
use crate::segment::{Owner, OwnerWord, SLOT, SegmentPtr, SlotIndex, Use};
use crate::size_class::ClassId;
use crate::slab::{Shape, Slab, State};
use crate::sync::Seen;
use crate::topology::NodeIndex;

/// How many bytes of blocks are carved at a time: about a page.
const CARVE: usize = 4096;
/// Idle arenas that are looked at for a slab.
pub(super) const IDLE_LOOKED_AT: usize = 8;

/// A block that is handed out, and whether it is known to be zero.
pub(crate) struct Handed {
    pub(crate) block: NonNull<u8>,
    pub(crate) is_zero: bool,
}

/// Blocks for a list.
enum Refill {
    List(Block, u32),
    /// One block, still zero, that is on no list.
    Zeroed(NonNull<u8>),
}

/// What a class goes on with, whose slabs are used up.
enum Found {
    /// A slab of its own, current or partial; and the list that came with it, if one did.
    Slab(Option<Refill>),
    /// Slots, which are the current slab now; so many of them hold old data.
    Slots { used_before: usize },
}

impl Arena {
    /// A block of the class, whose list is empty, from what was freed to its current slab; the rest becomes the list. A
    /// slow path that calls nothing: `None` where there is anything else to do.
    #[inline(always)]
    pub(crate) fn pop_freed(&self, class: ClassId) -> Option<Block> {
        if self.busy.get() || self.is_checked.get() || !node::stands_still(self.seen_at.get()) {
            return None;
        }
        let current = &self.current[class];
        // The arenas of threads that have none never have a slab; they are not written to.
        let slab = current.get().filter(|slab| slab.last_freed().is_some() && !self.lookout.is_next())?;
        // Then what was freed may have been withheld, and was freed twice.
        if slab.has_purged() {
            return None;
        }
        self.inside(|| {
            let (first, count) = slab.take_local()?;
            self.lookout.count();
            self.fast[class].set(first.next());
            first.forget_link();
            self.count_listed(class, count);
            Some(first)
        })
    }

    /// A block of the class. `None` where there is no memory for it.
    #[inline(always)]
    pub(crate) fn allocate_block(&self, class: ClassId, want_zero: bool) -> Option<Handed> {
        self.allocate_from(self.list(class), class, want_zero)
    }

    #[inline(always)]
    fn allocate_from(&self, list: &Seen<Option<Block>>, class: ClassId, want_zero: bool) -> Option<Handed> {
        if list.get().is_none() {
            self.look_after();
            self.collect_inbox(None);
        }
        if list.get().is_none() {
            match self.refill(class, want_zero)? {
                Refill::List(first, count) => {
                    list.set(Some(first));
                    self.count_listed(class, count);
                }
                Refill::Zeroed(block) => {
                    self.count_listed(class, 1);
                    return Some(Handed { block, is_zero: true });
                }
            }
        }
        let block = list.get()?;
        list.set(block.next());
        block.forget_link();
        Some(Handed { block: block.pointer(), is_zero: false })
    }

    /// Whether every operation takes the slow path.
    pub(crate) fn is_checked(&self) -> bool {
        self.is_checked.get()
    }

    /// As [`allocate_block`](Self::allocate_block), by an arena in checked mode; zeroed as the settings say.
    #[cold]
    #[inline(never)]
    pub(crate) fn allocate_checked(&self, class: ClassId, want_zero: bool) -> Option<Handed> {
        debug_assert!(self.is_checked.get());
        if self.stays_home.get() {
            self.leave_other_nodes(class);
        }
        let handed = self.allocate_block(class, want_zero)?;
        let pointer = handed.block;
        let config = config::current();
        let is_zero = handed.is_zero
            || match config.zero {
                Zero::Off => false,
                // It looks for writes first, and clears what it hands out by itself.
                _ if config.watches_blocks() => false,
                // SAFETY: the block is `size` bytes long and nobody's yet.
                Zero::Alloc => unsafe {
                    ptr::write_bytes(pointer.as_ptr(), 0, class.size());
                    true
                },
                // Cleared when it was freed, or never used: but for the link.
                Zero::Free => {
                    // SAFETY: likewise; a block is a word long at least.
                    unsafe { pointer.write_bytes(0, size_of::<usize>()) };
                    true
                }
            };
        Some(Handed { block: pointer, is_zero })
    }

    #[inline]
    pub(super) fn list(&self, class: ClassId) -> &Seen<Option<Block>> {
        let lists = if self.is_checked.get() { &self.checked } else { &self.fast };
        &lists[class]
    }

    fn count_listed(&self, class: ClassId, count: u32) {
        self.listed[class].add(u64::from(count));
    }

    /// Blocks for the class's list, which is empty. In this order: from the current slab, the arena's partial slabs, those
    /// of idle arenas of the node, fresh slots, other nodes.
    #[inline(always)]
    fn refill(&self, class: ClassId, want_zero: bool) -> Option<Refill> {
        loop {
            if let Some(refill) = self.refill_from_current(class, want_zero) {
                return Some(refill);
            }
            if let Some(slab) = self.find_partial(class, self.only_node()) {
                self.unlink_partial(slab);
                self.make_current(slab);
                continue;
            }
            if let Some(refill) = self.adopt_or_begin_slab(class)? {
                return Some(refill);
            }
        }
    }

    fn make_current(&self, slab: Slab) {
        slab.set_state(State::Current);
        self.current[slab.class()].set(Some(slab));
    }

    /// From the current slab: what was freed, what was never used. Parks the slab when there is none of it.
    #[inline(always)]
    fn refill_from_current(&self, class: ClassId, want_zero: bool) -> Option<Refill> {
        let current = &self.current[class];
        let slab = current.get()?;
        if slab.has_purged() {
            refuse_second_free(slab);
        }
        if let Some((first, count)) = slab.take_local() {
            return Some(Refill::List(first, count));
        }
        if want_zero && let Some(block) = slab.carve_zeroed() {
            return Some(Refill::Zeroed(block));
        }
        // Not the class's, which is in a table that all threads share.
        let wanted = (CARVE / slab.block_size().max(1)).max(1) as u32;
        if let Some(carved) = slab.carve(wanted) {
            return Some(Refill::List(carved.list, carved.count));
        }
        if slab.withheld() > 0
            && let Some(carved) = slab.take_back()
        {
            return Some(Refill::List(carved.list, carved.count));
        }
        slab.park(self.pressed_at.get() != 0);
        current.set(None);
        self.filled[class].set(true);
        None
    }

    /// A slab for the class from the node: one of an idle arena, or fresh slots. It is the current one then, and where a
    /// list came with it, that is given. `None` where there is no memory.
    #[allow(clippy::option_option, reason = "the inner one says whether a list came along")]
    #[cold]
    #[inline(never)]
    fn adopt_or_begin_slab(&self, class: ClassId) -> Option<Option<Refill>> {
        let node = self.node.get();
        if node::any_is_mine() {
            // On top of a thread that holds a pool.
            let served = || NonNull::new(emergency::allocate(class.size(), class.align()));
            return if self.stays_home.get() { None } else { Some(Some(Refill::Zeroed(served()?))) };
        }
        if let Some(refill) = self.adopt(class, &node::pool(node).lock(), IDLE_LOOKED_AT) {
            return Some(refill);
        }
        let begin = |pool: &Locked| self.begin_slab(class, pool);
        match self.in_pool_or_nearest(begin, |pool| self.scrape_together(class, pool))? {
            Found::Slots { used_before } => {
                self.furnish(class, used_before);
                Some(None)
            }
            Found::Slab(list) => Some(list),
        }
    }

    /// Sees to the pages of the class's current slab, of which no block was handed out yet. No lock is held.
    fn furnish(&self, class: ClassId, used_before: usize) {
        let Some(slab) = self.current[class].get() else { return };
        let config = config::current();
        if (config.zero == Zero::Free || config.watches_blocks()) && used_before > 0 {
            // Runs and slabs clear what they free, but for links, and blocks that others never gave back whole. The debug
            // mode takes what is not zero for a record of its own.
            // SAFETY: the slots were just taken and are committed.
            unsafe { slab.start().write_bytes(0, slab.slots() * SLOT) };
        } else if !self.filled[class].get() && used_before > 0 && !config.keeps_pages() {
            // The class has not filled a slab yet, and may use little of this one: but for its first blocks it is not kept in
            // memory.
            let first = os::page_size().min(SLOT);
            // SAFETY: likewise. Where the kernel refuses, nothing has changed.
            let _ = unsafe { os::purge(slab.start().add(first), slab.slots() * SLOT - first) };
        } else if self.filled[class].get() && used_before == 0 && slab.slots() == 1 {
            // The class fills slabs: have the kernel provide this one's pages in one go.
            // SAFETY: likewise.
            unsafe { os::populate(slab.start(), SLOT) };
        }
    }

    /// Where no slots are to be had: what came back and was not worth a look before, to this arena and to the pool's idle ones,
    /// to parked slabs too.
    #[cold]
    #[inline(never)]
    fn scrape_together(&self, class: ClassId, pool: &Locked) -> Option<Found> {
        self.collect_whole_inbox(Some(pool));
        self.wake_all(pool);
        if self.find_partial(class, self.only_node()).is_some() {
            return Some(Found::Slab(None));
        }
        self.adopt(class, pool, usize::MAX).map(Found::Slab).or_else(|| self.begin_slab(class, pool))
    }

    /// Has parked slabs, this arena's and those of idle ones, wake by the first block that is back; likewise those that this
    /// arena parks from now on, as long as memory is short. Done once, and anew when a thread has left its arena since.
    fn wake_all(&self, pool: &Locked) {
        let now = pool.shelf().times_put();
        if self.pressed_at.replace(now) == now {
            return;
        }
        for (segment, slot) in pool.segments().flat_map(|segment| SlotIndex::all().map(move |slot| (segment, slot))) {
            let Owner::Arena(owner, 0) = segment.owner(slot).decode() else { continue };
            let slab = Slab::at(segment, slot);
            // Its owner may be a thread that is at work; what is looked at may be looked at by others.
            if slab.state() != State::Parked {
                continue;
            }
            let owner = if owner == self.address() {
                Some(self)
            } else {
                idle::each(pool).find(|idle| idle.address() == owner)
            };
            if let Some(owner) = owner.filter(|_| slab.wake_early()) {
                owner.link_partial(slab);
            }
        }
    }

    /// A block by an arena that stays home.
    pub(crate) fn allocate_at_home(&self, size: usize, align: usize, want_zero: bool) -> Option<Handed> {
        match ClassId::of(size, align) {
            Some(class) => {
                self.leave_other_nodes(class);
                self.allocate_block(class, want_zero)
            }
            None => self.allocate_large(size, align, want_zero),
        }
    }

    /// Before it allocates a block of the class, by an arena that stays home.
    pub(crate) fn leave_other_nodes(&self, class: ClassId) {
        debug_assert!(self.stays_home.get());
        // From when the node's pool was full, the arena may have a slab of another node.
        if let Some(slab) = self.current[class].get().filter(|slab| slab.node() != self.node()) {
            self.put_aside(slab);
        }
    }

    /// Makes the current slab a partial one: the arena's list, all of which is its blocks, becomes its own.
    pub(super) fn put_aside(&self, slab: Slab) {
        let class = slab.class();
        self.current[class].set(None);
        if let Some(first) = self.list(class).take() {
            let waiting = block::list_from(Some(first)).count();
            self.listed[class].take_off(waiting as u64);
            let _ = slab.give_back(first, waiting as u32);
        }
        self.link_partial(slab);
    }

    /// The first of the class's partial slabs; where only those of a node will do, the first of these.
    #[inline]
    fn find_partial(&self, class: ClassId, only: Option<NodeIndex>) -> Option<Slab> {
        let mut next = self.partial[class].get();
        while let Some(slab) = next.filter(|slab| only.is_some_and(|node| slab.node() != node)) {
            next = slab.links().0.get();
        }
        next
    }

    /// The node whose slabs alone will do, if there is one.
    #[inline]
    fn only_node(&self) -> Option<NodeIndex> {
        self.stays_home.get().then(|| self.node())
    }

    fn begin_slab(&self, class: ClassId, pool: &Locked) -> Option<Found> {
        let shape = Shape::of(class);
        let slots = pool.take_slots(Use::Small, shape.slots, 1)?;
        let slab = Slab::at(slots.segment, slots.first);
        slab.begin(&shape, slots.used_before == 0, pool.node());
        for slot in 0..shape.slots {
            slots.segment.set_weight(slots.first.plus(slot), class.size());
        }
        self.own(slab);
        self.make_current(slab);
        self.pressed_at.set(0);
        Some(Found::Slots { used_before: slots.used_before })
    }

    /// Writes this arena's word to all of the slab's slots.
    fn own(&self, slab: Slab) {
        let segment = slab.segment();
        debug_assert_eq!(slab.node(), segment.node(), "a slab's header and its segment's name the same node");
        for back in 0..slab.slots() {
            let word = OwnerWord::arena(self.address(), self.is_checked.get(), back);
            segment.set_owner(slab.slot().plus(back), word);
        }
    }

    /// Takes a slab with free blocks over from an idle arena of the pool's node, of which so many are looked at; with it comes
    /// the list of its blocks that the idle arena had, if there is one.
    #[allow(clippy::option_option, reason = "the inner one says whether a list came along")]
    fn adopt(&self, class: ClassId, pool: &Locked, looked_at: usize) -> Option<Option<Refill>> {
        let mut left = AT_A_TIME;
        for other in idle::some(pool, looked_at) {
            if other.has_received() {
                left -= other.collect_some(Some(pool), left);
            }
            if let Some(slab) = other.find_partial(class, self.only_node()) {
                other.unlink_partial(slab);
                self.own(slab);
                self.make_current(slab);
                return Some(None);
            }
            let fits = |slab: &Slab| self.only_node().is_none_or(|node| slab.node() == node);
            let Some(slab) = other.current[class].get().filter(fits) else { continue };
            let list = other.list(class).take();
            if list.is_some() || !slab.is_used_up() {
                other.current[class].set(None);
                self.own(slab);
                self.make_current(slab);
                // The list was counted where it was made.
                return Some(list.map(|first| Refill::List(first, 0)));
            }
        }
        None
    }

    fn link_partial(&self, slab: Slab) {
        slab.set_state(State::Partial);
        if slab.out() == 0 {
            self.has_unused.set(true);
        }
        let head = &self.partial[slab.class()];
        let (next, previous) = slab.links();
        let old = head.replace(Some(slab));
        next.set(old);
        previous.set(None);
        if let Some(old) = old {
            old.links().1.set(Some(slab));
        }
    }

    /// Puts a slab behind the last of its class's partial slabs, or among none.
    pub(super) fn link_behind(&self, last: Option<Slab>, slab: Slab) {
        match last {
            Some(last) => last.links().0.set(Some(slab)),
            None => self.partial[slab.class()].set(Some(slab)),
        }
        slab.links().1.set(last);
    }

    pub(super) fn unlink_partial(&self, slab: Slab) {
        let (next, previous) = slab.links();
        let (next, previous) = (next.take(), previous.take());
        match previous {
            Some(previous) => previous.links().0.set(next),
            None => self.partial[slab.class()].set(next),
        }
        if let Some(next) = next {
            next.links().1.set(previous);
        }
    }

    /// Gives an empty partial slab's slots back to their node.
    fn give_up(&self, slab: Slab, pool: Option<&Locked>) {
        let segment = slab.segment();
        let node = segment.node();
        match pool {
            Some(pool) if pool.node() == node => {
                self.unlink_partial(slab);
                Self::give_slots(slab, segment, pool);
            }
            // Another node's lock must not be waited for on top of this one.
            Some(_) => {
                if let Some(pool) = node::pool(node).try_lock_started() {
                    self.unlink_partial(slab);
                    Self::give_slots(slab, segment, &pool);
                } else {
                    self.has_unused.set(true);
                }
            }
            None if node::any_is_mine() => self.has_unused.set(true),
            None => {
                self.unlink_partial(slab);
                Self::give_slots(slab, segment, &node::pool(node).lock());
            }
        }
    }

    fn give_slots(slab: Slab, segment: SegmentPtr, pool: &Locked) {
        let (first, slots) = (slab.slot(), slab.slots());
        for back in 0..slots {
            segment.set_owner(first.plus(back), OwnerWord::FREE);
        }
        pool.give_slots(segment, first, slots);
    }

    /// A free has brought the slab's count to zero: see `slab`.
    pub(super) fn count_ran_out(&self, slab: Slab, pool: Option<&Locked>) {
        if slab.count_is_wrong() || slab.has_purged() {
            refuse_second_free(slab);
        }
        match slab.state() {
            State::Current => self.all_came_back(slab, pool),
            // The last one of its class stays until the arena is tidied: blocks that come and go in turn would begin and
            // give up a slab each time.
            State::Partial if slab.links().0.get().is_none() && slab.links().1.get().is_none() => {
                self.has_unused.set(true);
            }
            State::Partial => self.give_up(slab, pool),
            State::Parked => {
                slab.unpark();
                self.link_partial(slab);
            }
        }
    }

    /// The same for a free outside of other slow paths. A thread that frees as much as it allocates may come to none of these:
    /// so the arena is looked after, after the slab, which tidying could have given up before.
    pub(super) fn settle_count(&self, slab: Slab) {
        self.count_ran_out(slab, None);
        self.look_after();
    }

    /// Every block of the current slab is on its local list, so none is on the arena's: they become the arena's list. The
    /// one freed last stays behind, first on the local list, so that a second free of it is noticed; where it is the
    /// only one, a second free ends here, with a block on the arena's list.
    ///
    /// Large slabs are not kept so if they are too many, or much of them was used.
    fn all_came_back(&self, slab: Slab, pool: Option<&Locked>) {
        let list = self.list(slab.class());
        if let Some(block) = slab.last_freed().filter(|_| list.get().is_some()) {
            double_free(block);
        }
        if slab.slots() > 1 && !self.spares(slab, pool) {
            return;
        }
        if let Some((first, count)) = slab.take_local_but_last_freed() {
            list.set(Some(first));
            self.count_listed(slab.class(), count);
        }
    }

    /// Whether a current slab of more than a slot, of which no block is in use, stays; if not, it is given up.
    #[inline(never)]
    fn spares(&self, slab: Slab, pool: Option<&Locked>) -> bool {
        let class = slab.class();
        if slab.carved() as usize * slab.block_size() > SPARE_CARVED {
            if let Some(last_freed) = slab.last_freed() {
                last_freed.check_link(slab.carved());
            }
            self.give_up_current(class, pool);
            return false;
        }
        if !self.spare.iter().any(|place| place.get() == class.number() + 1) {
            let next = self.next_spare.get() % SPARE;
            self.next_spare.set(next + 1);
            let old = self.spare[next].replace(class.number() + 1).checked_sub(1);
            if let Some(old) = old.and_then(|old| ClassId::all().nth(old)) {
                self.give_up_current(old, pool);
            }
        }
        true
    }

    /// Sends home what waits in the outbox, takes what others have freed, and gives up partial slabs that are empty.
    pub(crate) fn tidy(&self, pool: Option<&Locked>) {
        self.outbox.flush();
        self.collect_inbox(pool);
        if !self.has_unused.replace(false) {
            return;
        }
        for class in ClassId::all() {
            let mut next = self.partial[class].get();
            while let Some(slab) = next {
                next = slab.links().0.get();
                if slab.out() == 0 {
                    self.give_up(slab, pool);
                }
            }
        }
    }

    /// Gives up current slabs of which every block is here. For an arena that may be at rest for long.
    pub(crate) fn give_up_unused(&self, pool: Option<&Locked>) {
        self.collect_whole_inbox(pool);
        self.tidy(pool);
        ClassId::all().for_each(|class| self.give_up_current(class, pool));
    }

    /// Gives up the class's current slab, if every block of it is here.
    fn give_up_current(&self, class: ClassId, pool: Option<&Locked>) {
        let Some(slab) = self.current[class].get() else { return };
        let mut blocks = block::list_from(self.list(class).get());
        let waiting = blocks.by_ref().take(slab.carved() as usize).count() as u32;
        if let Some(block) = blocks.next() {
            // A block that was freed twice unnoticed: the list has come back to it.
            double_free(block);
        }
        if waiting == slab.out() {
            self.current[class].set(None);
            self.listed[class].take_off(u64::from(waiting));
            if let Some(first) = self.list(class).take() {
                let _ = slab.give_back(first, waiting);
            }
            self.link_partial(slab);
            self.give_up(slab, pool);
        }
    }
}

/// Ends the process if what was freed last was free already, as far as the slab knows.
#[cold]
#[inline(never)]
extern "C" fn refuse_second_free(slab: Slab) {
    if let Some(block) = slab.last_freed()
        && (slab.count_is_wrong() || slab.is_withheld(block))
    {
        double_free(block);
    }
}
