//! What an arena does from time to time, since there need be no thread of the allocator's own for it: takes what others have freed,
//! sends home what waits in its outbox, and has its node's pool purge and patrol what is due; and seldom another node's,
//! where no thread may run any more. The time is looked at in one of 64 slow paths.

use core::cell::Cell;

use super::frees::AT_A_TIME;
use super::lists::IDLE_LOOKED_AT;
use super::{Arena, idle};
use crate::node::{Locked, Pool};
use crate::timer::Timer;
use crate::topology::NodeIndex;
use crate::{config, node, os};

/// Slow paths between two looks.
const CALLS: u32 = 64;
/// Milliseconds between two rounds of looking after an arena, at most twice.
const LONGEST_DELAY: u64 = 10_000;

/// When an arena is to be looked after. All zero: a new one.
pub(super) struct Lookout {
    /// Slow paths since the last look.
    calls: Cell<u32>,
    timer: Timer,
    /// One more than the index of the node where an idle arena has received more than was brought home at the last look.
    more_at: Cell<usize>,
}

impl Lookout {
    /// One that has never looked.
    pub(super) const fn new() -> Self {
        Lookout { calls: Cell::new(0), timer: Timer::new(), more_at: Cell::new(0) }
    }

    /// Whether the next slow path is to look.
    #[inline(always)]
    pub(super) fn is_next(&self) -> bool {
        self.calls.get() >= CALLS - 1
    }

    /// Has the next slow path look.
    pub(super) fn look_next(&self) {
        self.calls.set(CALLS - 1);
    }

    /// Counts a slow path that does not look.
    #[inline(always)]
    pub(super) fn count(&self) {
        self.calls.set(self.calls.get() + 1);
    }
}

impl Arena {
    /// Done with an idle arena: brings blocks home that others have freed, so many at most, and gives up what it does not use once
    /// there are no more. Gives how many it brought.
    pub(super) fn rest(&self, pool: &Locked, most: u32) -> u32 {
        let done = if self.has_received() { self.collect_some(Some(pool), most) } else { 0 };
        if !self.has_received() {
            self.give_up_unused(Some(pool));
        }
        done
    }

    /// Called in slow paths: one in a few does something.
    #[inline(always)]
    pub(super) fn look_after(&self) {
        let calls = &self.lookout.calls;
        calls.set(calls.get() + 1);
        if calls.get() >= CALLS {
            self.look_at_time();
        }
    }

    #[cold]
    #[inline(never)]
    fn look_at_time(&self) {
        self.lookout.calls.set(0);
        self.collect_inbox(None);
        if let Some(now) = self.lookout.timer.is_time(period()) {
            self.do_what_is_due(now);
        } else if let Some(index) = self.lookout.more_at.get().checked_sub(1).filter(|_| !node::any_is_mine())
            && let Some(pool) = node::pool(NodeIndex::new(index)).try_lock_started()
            && !look_after_idle(&pool, IDLE_LOOKED_AT)
        {
            self.lookout.more_at.set(0);
        }
    }

    #[cold]
    fn do_what_is_due(&self, now: u64) {
        let pool = node::pool(self.node());
        // Re-entered (by a signal handler) in the middle of what the pool's lock guards.
        if node::any_is_mine() {
            return;
        }
        self.tidy(None);
        let look = |pool: &Locked| {
            if look_after_pool(pool, now, IDLE_LOOKED_AT) {
                self.lookout.more_at.set(pool.node().get() + 1);
            }
        };
        let other = pool.try_lock_started().and_then(|pool| {
            look(&pool);
            pool.next_other()
        });
        // Where no thread runs any more, nobody else takes what idle arenas there are sent, nor purges.
        if let Some(other) = other.and_then(Pool::try_lock_started) {
            look(&other);
        }
    }
}

/// Milliseconds between two rounds of looking after something.
pub(crate) fn period() -> u64 {
    (config::current().purge_delay_ms.min(LONGEST_DELAY) / 2).max(1)
}

/// For the thread that does nothing else: looks after each pool that nobody holds now, and all its idle arenas, a few at a
/// time so that others wait for none of it long. Gives how many bytes these pools have given back, ever.
pub(crate) fn look_after_all() -> u64 {
    let now = os::now_ms();
    let mut went_back = 0_u64;
    for index in 0..node::pools() {
        let pool = node::pool(NodeIndex::new(index));
        let mut left = pool.try_lock_started().map_or(0, |pool| idle::each(&pool).count()).max(1);
        while left > 0
            && let Some(pool) = pool.try_lock_started()
        {
            let some = left.min(IDLE_LOOKED_AT);
            left -= some;
            look_after_pool(&pool, now, some);
            if left == 0 {
                went_back = went_back.wrapping_add(pool.figures().purged);
            }
        }
    }
    went_back
}

/// Looks after the pool, and so many of its idle arenas. True where more is to be brought home than one look may.
fn look_after_pool(pool: &Locked, now: u64, idle_arenas: usize) -> bool {
    let more = look_after_idle(pool, idle_arenas);
    // What waits at hand begins to age, if nobody took it meanwhile.
    let _ = pool.take_back_at_hand();
    pool.purge_if_due();
    pool.patrol_if_due(now);
    more
}

/// Brings home what some idle arenas have received, so much of it together as one call may, and gives up what they do not
/// use. True where more waits.
fn look_after_idle(pool: &Locked, idle_arenas: usize) -> bool {
    let mut left = AT_A_TIME;
    let mut more = false;
    for idle in idle::some(pool, idle_arenas) {
        left -= idle.rest(pool, left);
        more |= idle.has_received();
    }
    more
}
