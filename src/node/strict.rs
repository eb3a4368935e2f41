//! Strict binding (`HOMING_POLICY=bind`): a node's own memory or none.
//!
//! Under MPOL_BIND a page that is touched and cannot be had gets the process killed, whatever is free elsewhere
//! (set_mempolicy(2); the kernel's "constrained" out-of-memory). So pages are obtained when memory is handed out, not when
//! it is touched, and only while the node has some: by the kernel's own word, less a reserve. Others may take it between
//! the look and the taking; the reserve is there for that.

use core::ptr::NonNull;

use super::{Locked, is_strict, shortfalls};
use crate::os;
use crate::topology;

/// What is left to the node's other users, in bytes: one in so many of what it has, within bounds.
const RESERVE_PART: usize = 32;
const RESERVE_LEAST: usize = 4 << 20;
const RESERVE_MOST: usize = 256 << 20;

/// Of what the node was found to have, one in so many may be handed out before it is looked at again.
const CREDIT_PART: usize = 4;

impl Locked {
    /// Obtains the pages of a range that is about to be handed out. False where the node has not so many; always true
    /// where binding is not strict.
    pub(crate) fn provide(&self, start: NonNull<u8>, size: usize) -> bool {
        if !is_strict() || shortfalls::binding_refused() {
            return true;
        }
        let credit = &self.inner().credit;
        if credit.get() < size {
            credit.set(
                self.node_has().map_or(usize::MAX, |free| if free < size { 0 } else { size.max(free / CREDIT_PART) }),
            );
        }
        if credit.get() < size {
            return false;
        }
        credit.set(credit.get() - size);
        // SAFETY: callers pass a range of this pool's that is committed and not handed out yet.
        unsafe { os::obtain_pages(start, size) }
    }

    /// Bytes that the node can still give, less the reserve. `None` where the kernel does not tell.
    fn node_has(&self) -> Option<usize> {
        let memory = topology::memory_of(topology::machine().id(self.node()))?;
        let reserve = (memory.total / RESERVE_PART).clamp(RESERVE_LEAST, RESERVE_MOST);
        Some(memory.free.saturating_sub(reserve))
    }
}
