//! Blocks of slabs, in and out: the slow paths behind the arena's lists.

use core::cell::Cell;
use core::ptr::{self, NonNull};

use super::outbox::{block_at, send_home};
use super::{Arena, enter, idle, tls};
use crate::config::{self, Zero};
use crate::node::{self, Locked};
use crate::os;
use crate::segment::{OwnerWord, SLOT, SegmentPtr};
use crate::size_class::{CLASSES, ClassId};
use crate::slab::remote::Chain;
use crate::slab::{Block, Shape, Slab, State, double_free};

/// How many bytes of blocks are carved at a time: about a page.
const CARVE: usize = 4096;
/// Idle arenas that are looked at for a slab.
const IDLE_LOOKED_AT: usize = 8;
/// Refills between two looks at the clock.
const REFILLS: u32 = 64;

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

impl Arena {
    /// A block of the class. `None` where there is no memory for it.
    pub(crate) fn allocate_block(&self, class: ClassId, want_zero: bool) -> Option<Handed> {
        let list = self.list(class);
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
        let pointer = block.pointer();
        let is_zero = self.is_checked.get() && {
            match config::current().zero {
                Zero::Off => false,
                // SAFETY: the block is `size` bytes long and nobody's yet.
                Zero::Alloc => unsafe {
                    ptr::write_bytes(pointer.as_ptr(), 0, class.size());
                    true
                },
                // Cleared when it was freed, or never used: but for the link.
                Zero::Free => {
                    block.set_next(None);
                    true
                }
            }
        };
        Some(Handed { block: pointer, is_zero })
    }

    #[inline]
    fn list(&self, class: ClassId) -> &Cell<Option<Block>> {
        let lists = if self.is_checked.get() { &self.checked } else { &self.fast };
        &lists[class.index()]
    }

    fn count_listed(&self, class: ClassId, count: u32) {
        let listed = &self.listed[class.index()];
        listed.set(listed.get().wrapping_add(u64::from(count)));
    }

    /// Blocks for the class's list, which is empty. In this order: from the current slab, slabs that others' frees have
    /// woken, the arena's partial slabs, those of idle arenas of the node, fresh slots, other nodes.
    fn refill(&self, class: ClassId, want_zero: bool) -> Option<Refill> {
        self.look_after();
        let mut tried_woken = false;
        loop {
            if let Some(refill) = self.refill_from_current(class, want_zero) {
                return Some(refill);
            }
            if !tried_woken {
                tried_woken = true;
                self.collect_woken(None);
            }
            if let Some(slab) = self.partial[class.index()].get() {
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
        self.current[slab.class().index()].set(Some(slab));
    }

    /// From the current slab: what its owner freed, what others freed, what was never used. Parks the slab when there is
    /// none of it.
    fn refill_from_current(&self, class: ClassId, want_zero: bool) -> Option<Refill> {
        let current = &self.current[class.index()];
        let slab = current.get()?;
        if let Some((first, count)) = slab.take_local() {
            return Some(Refill::List(first, count));
        }
        loop {
            // What others pushed was out and is out again: the count stays.
            if let Some(chain) = slab.remote().take() {
                return Some(Refill::List(block_at(slab, chain.first), chain.count));
            }
            if want_zero && let Some(block) = slab.carve_zeroed() {
                return Some(Refill::Zeroed(block));
            }
            let wanted = (CARVE / class.size()).max(1) as u32;
            if let Some(carved) = slab.carve(wanted) {
                return Some(Refill::List(carved.list, carved.count));
            }
            if slab.remote().park() {
                slab.park();
                current.set(None);
                self.filled[class.index()].set(true);
                return None;
            }
        }
    }

    /// A slab for the class from the node: one of an idle arena, or fresh slots. It is the current one then, and where a
    /// list came with it, that is given. `None` where there is no memory.
    #[allow(clippy::option_option, reason = "the inner one says whether a list came along")]
    fn adopt_or_begin_slab(&self, class: ClassId) -> Option<Option<Refill>> {
        let node = self.node.get();
        if node::pool(node).is_mine() {
            return None;
        }
        if let Some(refill) = self.adopt(class, &node::pool(node).lock()) {
            return Some(refill);
        }
        self.in_pool_or_nearest(|pool| self.begin_slab(class, pool)).map(|()| None)
    }

    fn begin_slab(&self, class: ClassId, pool: &Locked) -> Option<()> {
        let shape = Shape::of(class);
        let slots = pool.take_slots(shape.slots, 1)?;
        let slab = Slab::at(slots.segment, slots.first);
        slab.begin(&shape, slots.used_before == 0);
        self.own(slab);
        self.make_current(slab);
        if config::current().zero == Zero::Free && slots.used_before > 0 {
            // Runs and slabs clear what they free, but for links, and blocks that others never gave back whole.
            // SAFETY: the slots were just taken and are committed.
            unsafe { slots.start().write_bytes(0, shape.slots * SLOT) };
        } else if self.filled[class.index()].get() && slots.used_before == 0 && shape.slots == 1 {
            // The class fills slabs: have the kernel provide this one's pages in one go.
            // SAFETY: the slots were just taken and are committed.
            unsafe { os::populate(slots.start(), SLOT) };
        }
        Some(())
    }

    /// Writes this arena's word to all of the slab's slots.
    fn own(&self, slab: Slab) {
        let segment = slab.segment();
        for back in 0..slab.slots() {
            let word = OwnerWord::arena(self.address(), self.is_checked.get(), back);
            segment.set_owner(slab.slot().plus(back), word);
        }
    }

    /// Takes a slab with free blocks over from an idle arena of the pool's node; with it comes the list of its blocks
    /// that the idle arena had, if there is one.
    #[allow(clippy::option_option, reason = "the inner one says whether a list came along")]
    fn adopt(&self, class: ClassId, pool: &Locked) -> Option<Option<Refill>> {
        let index = class.index();
        for other in idle::some(pool, IDLE_LOOKED_AT) {
            other.collect_woken(Some(pool));
            if let Some(slab) = other.partial[index].get() {
                other.unlink_partial(slab);
                self.own(slab);
                self.make_current(slab);
                return Some(None);
            }
            let Some(slab) = other.current[index].get() else { continue };
            let list = other.list(class).take();
            if list.is_some() || !slab.is_used_up() {
                other.current[index].set(None);
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
        let head = &self.partial[slab.class().index()];
        let (next, previous) = slab.links();
        let old = head.replace(Some(slab));
        next.set(old);
        previous.set(None);
        if let Some(old) = old {
            old.links().1.set(Some(slab));
        }
    }

    fn unlink_partial(&self, slab: Slab) {
        let (next, previous) = slab.links();
        let (next, previous) = (next.take(), previous.take());
        match previous {
            Some(previous) => previous.links().0.set(next),
            None => self.partial[slab.class().index()].set(next),
        }
        if let Some(next) = next {
            next.links().1.set(previous);
        }
    }

    /// Puts the slabs that others' frees have woken among the partial ones; gives up those that are empty.
    pub(super) fn collect_woken(&self, pool: Option<&Locked>) {
        let mut name = self.woken.take_all();
        while name != 0 {
            // SAFETY: names on the stack are addresses of slabs' headers.
            let slab = unsafe { Slab::from_address(name) };
            name = slab.remote().woken_next.load(crate::sync::Ordering::Relaxed);
            slab.unpark();
            self.link_partial(slab);
            if let Some(chain) = slab.remote().take() {
                self.take_home(slab, chain, pool);
            }
        }
    }

    /// Puts a chain that others pushed on a partial slab's local list; gives the slab up where it is empty then.
    fn take_home(&self, slab: Slab, chain: Chain, pool: Option<&Locked>) {
        let first = block_at(slab, chain.first);
        if slab.give_back(first, chain.count) {
            self.give_up(slab, pool);
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
            // Another node's lock must not be taken on top of this one: it stays, empty.
            Some(_) => {}
            None if node::pool(node).is_mine() => {}
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
    fn count_ran_out(&self, slab: Slab) {
        match slab.state() {
            State::Current => self.all_came_back(slab),
            State::Partial => self.give_up(slab, None),
            State::Parked => match slab.remote().unpark() {
                Some(chain) => {
                    slab.unpark();
                    self.link_partial(slab);
                    if let Some(chain) = chain {
                        self.take_home(slab, chain, None);
                    }
                }
                // Another thread was faster: the slab comes by the woken stack.
                None => slab.has_waker(),
            },
        }
    }

    /// Every block of the current slab is on its local list, so none is on the arena's: they become the arena's list. The
    /// one freed last stays behind, first on the local list, so that a second free of it is noticed; where it is the
    /// only one, a second free ends here, with a block on the arena's list.
    fn all_came_back(&self, slab: Slab) {
        let list = self.list(slab.class());
        if let Some(block) = slab.last_freed().filter(|_| list.get().is_some()) {
            double_free(block);
        }
        if let Some((first, count)) = slab.take_local_but_last_freed() {
            list.set(Some(first));
            self.count_listed(slab.class(), count);
        }
    }

    /// From time to time, in refills: sends home what waits in the outbox, looks through partial slabs for what others
    /// have freed, and has the pool purge what is due.
    fn look_after(&self) {
        self.refills.set(self.refills.get() + 1);
        if self.refills.get() < REFILLS {
            return;
        }
        self.refills.set(0);
        let delay = config::current().purge_delay_ms;
        let now = os::now_ms();
        if delay == u64::MAX || now.wrapping_sub(self.looked_after_at.get()) < (delay / 2).max(1) {
            return;
        }
        self.looked_after_at.set(now);
        self.tidy(None);
        if let Some(pool) = node::pool(self.node.get()).try_lock_started() {
            for idle in idle::some(&pool, IDLE_LOOKED_AT) {
                idle.give_up_unused(Some(&pool));
            }
            pool.purge_if_due();
        }
    }

    /// Sends home what waits in the outbox, and gives up partial slabs that are empty now that what others freed is
    /// counted.
    pub(crate) fn tidy(&self, pool: Option<&Locked>) {
        self.outbox.flush();
        self.give_back_kept(pool);
        self.collect_woken(pool);
        for index in 0..CLASSES {
            let mut next = self.partial[index].get();
            while let Some(slab) = next {
                next = slab.links().0.get();
                match slab.remote().take() {
                    Some(chain) => self.take_home(slab, chain, pool),
                    None if slab.out() == 0 => self.give_up(slab, pool),
                    None => {}
                }
            }
        }
    }

    /// Gives up current slabs of which every block is here. For an arena that may be at rest for long.
    pub(crate) fn give_up_unused(&self, pool: Option<&Locked>) {
        self.tidy(pool);
        for index in 0..CLASSES {
            let Some(slab) = self.current[index].get() else { continue };
            let Some(class) = ClassId::at(index) else { continue };
            if let Some(chain) = slab.remote().take() {
                let _ = slab.give_back(block_at(slab, chain.first), chain.count);
            }
            let (mut waiting, mut next) = (0, self.list(class).get());
            while let Some(block) = next {
                waiting += 1;
                next = block.next();
            }
            if waiting == slab.out() {
                self.current[index].set(None);
                let listed = &self.listed[index];
                // Wrapping: the list may have been counted by the arena it came from.
                listed.set(listed.get().wrapping_sub(u64::from(waiting)));
                if let Some(first) = self.list(class).take() {
                    let _ = slab.give_back(first, waiting);
                }
                self.link_partial(slab);
                self.give_up(slab, pool);
            }
        }
    }
}

/// Takes back a block whose owner word names an arena, but not plainly the calling thread's own.
pub(crate) fn free_to_arena(slab: Slab, address: NonNull<u8>, arena: usize) {
    if config::current().zero == Zero::Free {
        // SAFETY: the block is the slab's, `block_size` bytes long, and its user has given it up.
        unsafe { address.write_bytes(0, slab.block_size()) };
    }
    // SAFETY: the user has given the block up.
    let block = unsafe { Block::at(address) };
    if tls::get().address() == arena {
        if slab.free_local(block) {
            count_ran_out(slab);
        }
        return;
    }
    free_remote(slab, block);
}

/// Takes back a block of another arena's slab. A thread that has no arena gets one, for its outbox.
fn free_remote(slab: Slab, block: Block) {
    // After its end a thread sends each block by itself, as does one that is re-entered.
    let exited = ptr::eq(tls::get(), &raw const tls::EXITED);
    match (!exited).then(|| enter::enter(&config::Config::new()).ok()).flatten() {
        // Entering may have given this thread the very arena that owns the slab.
        Some(held) => held.outbox.add(slab, block),
        None => {
            block.set_next(None);
            send_home(slab, block, block, 1);
        }
    }
}

/// A free by its owner has brought the slab's count to zero: see `slab`.
#[cold]
#[inline(never)]
pub(crate) extern "C" fn count_ran_out(slab: Slab) {
    let arena = tls::get();
    if slab.count_is_wrong()
        && let Some(block) = slab.last_freed()
    {
        double_free(block);
    }
    if !arena.busy.get() {
        arena.busy.set(true);
        arena.count_ran_out(slab);
        arena.busy.set(false);
        return;
    }
    // Re-entered: current and partial slabs are looked at again when blocks are next wanted of them. A parked one goes
    // the way it would if another thread had woken it.
    if slab.state() == State::Parked {
        match slab.remote().unpark() {
            Some(chain) => {
                if let Some(chain) = chain {
                    let first = block_at(slab, chain.first);
                    let last = core::iter::successors(Some(first), |block| block.next()).last().unwrap_or(first);
                    send_home(slab, first, last, chain.count);
                }
                slab.has_waker();
                arena.woken.push(slab.address(), &slab.remote().woken_next);
            }
            None => slab.has_waker(),
        }
    }
}
