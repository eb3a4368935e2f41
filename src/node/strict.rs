//! Strict binding (`HOMING_POLICY=bind`): a node's own memory or none.
//!
//! Under MPOL_BIND a page that is touched and cannot be had gets the process killed, whatever is free elsewhere
//! (set_mempolicy(2); the kernel's "constrained" out-of-memory). So pages are obtained when memory is handed out, not when
//! it is touched, and only while the node has some: by the kernel's own word, less a reserve. Others may take it between
//! the look and the taking; the reserve is there for that.

use core::cell::Cell;
use core::ptr::NonNull;

use super::{Locked, is_strict, shortfalls};
use crate::os;
use crate::topology;

/// What is left to the node's other users, in bytes: one in so many of what it has, within bounds, beside what the kernel
/// keeps for itself.
const RESERVE_PART: usize = 32;
const RESERVE_LEAST: usize = 1 << 20;
const RESERVE_MOST: usize = 256 << 20;

/// How much may be handed out before the node is looked at again, as a part of the reserve, and for how many milliseconds:
/// so that several processes which look at the same time stay within it.
const CREDIT_PART: usize = 8;
const CREDIT_LASTS: u64 = 20;

/// Bytes that strict binding may hand out without another look, and since when.
pub(super) struct Credit {
    bytes: Cell<usize>,
    since: Cell<u64>,
}

impl Credit {
    pub(super) const fn new() -> Self {
        Credit { bytes: Cell::new(0), since: Cell::new(0) }
    }
}

impl Locked {
    /// Obtains the pages of a range that is about to be handed out. False where the node has not so many; always true
    /// where binding is not strict.
    pub(crate) fn provide(&self, start: NonNull<u8>, size: usize) -> bool {
        if !is_strict() || shortfalls::binding_refused() {
            return true;
        }
        let credit = &self.inner().credit;
        let now = os::now_ms();
        if credit.bytes.get() < size || now.wrapping_sub(credit.since.get()) > CREDIT_LASTS {
            let Some((free, reserve)) = self.node_has() else {
                // SAFETY: as below. Nobody tells what the node has: the kernel decides.
                return unsafe { os::obtain_pages(start, size) };
            };
            credit.bytes.set(if free < size { 0 } else { free.min(size.saturating_add(reserve / CREDIT_PART)) });
            credit.since.set(now);
        }
        if credit.bytes.get() < size {
            return false;
        }
        credit.bytes.set(credit.bytes.get() - size);
        // SAFETY: callers pass a range of this pool's that is committed and not handed out yet.
        unsafe { os::obtain_pages(start, size) }
    }

    /// Bytes that the node can still give, less the reserve; and the reserve. `None` where the kernel does not tell.
    fn node_has(&self) -> Option<(usize, usize)> {
        let memory = topology::memory_of(topology::machine().id(self.node()))?;
        let reserve = (memory.total / RESERVE_PART).clamp(RESERVE_LEAST, RESERVE_MOST);
        // Below its `min` watermark a node gives nothing: the node's share of vm.min_free_kbytes. The kernel begins to
        // look for memory at `high`, half of it further up and more (mm/page_alloc.c, __setup_per_zone_wmarks).
        let share = topology::kernel_keeps() as u128 * memory.total as u128 / os::total_memory().max(1) as u128;
        let kept = (share as usize).saturating_add(share as usize / 2).saturating_add(memory.total / 256);
        Some((memory.free.saturating_sub(reserve.saturating_add(kept)), reserve))
    }
}
