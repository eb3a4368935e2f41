//! Slabs with few blocks in use: their free pages go back to the kernel when somebody asks for it.

use super::enter::HeldPool;
use super::{Arena, idle};
use crate::config;
use crate::node::{self, Pool};
use crate::size_class::ClassId;
use crate::slab::Slab;

impl Arena {
    /// Gives the whole free pages within its slabs back to the kernel; gives how many bytes. Slabs that have such pages are
    /// filled last from then on. The calling thread holds no pool.
    pub(crate) fn purge_slabs(&self) -> usize {
        // Under strict binding pages are obtained when a slab begins, a pool's size is to stay, and the debug mode keeps
        // records in free blocks.
        if node::is_strict() || config::current().pool_size > 0 || config::current().watches_blocks() {
            return 0;
        }
        let bytes = ClassId::all().map(|class| self.purge_slabs_of(class)).sum();
        if bytes > 0 {
            HeldPool::of(node::pool(self.node())).count_purged(bytes);
        }
        bytes
    }

    fn purge_slabs_of(&self, class: ClassId) -> usize {
        if let Some(slab) = self.current[class].get()
            && (self.list(class).get().is_some() || !slab.is_used_up())
        {
            self.put_aside(slab);
        }
        let next_of = |slab: &Slab| slab.links().0.get();
        let (mut slabs, mut last) = (0, None);
        for slab in core::iter::successors(self.partial[class].get(), next_of) {
            (slabs, last) = (slabs + 1, Some(slab));
        }
        let (mut bytes, mut next) = (0, self.partial[class].get());
        for _ in 0..slabs {
            let Some(slab) = next else { break };
            next = next_of(&slab);
            // One without any goes to its pool, whole.
            if slab.out() > 0 {
                bytes += slab.purge();
            }
            if slab.withheld() > 0 && last != Some(slab) {
                self.unlink_partial(slab);
                self.link_behind(last, slab);
                last = Some(slab);
            }
        }
        bytes
    }
}

/// Does that for each idle arena of the pool, which is held as a thread holds its own, so that nobody waits for the pool; gives
/// how many bytes went back.
pub(crate) fn purge_slabs_of_idle(pool: &'static Pool) -> usize {
    let count = HeldPool::from(|| pool.lock_started()).map_or(0, |pool| idle::each(&pool).count());
    let purge_next = |_| {
        let Some(arena) = idle::take_first(&HeldPool::of(pool)) else { return 0 };
        let bytes = arena.purge_slabs();
        idle::put_last(&HeldPool::of(pool), arena);
        bytes
    };
    (0..count).map(purge_next).sum()
}
