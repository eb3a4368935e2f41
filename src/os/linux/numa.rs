//! Nodes: `mbind(2)` and `get_mempolicy(2)`, called by number, so that no libnuma is needed.

use core::ffi::c_long;
use core::ptr::{self, NonNull};

use super::keeping_errno;
use crate::os::fault::{self, Call};
use crate::os::{Binding, MAX_NODES, NodeMask};

// linux/mempolicy.h
const MPOL_DEFAULT: i32 = 0;
const MPOL_LOCAL: i32 = 4;
const MPOL_PREFERRED: c_long = 1;
const MPOL_BIND: c_long = 2;
const MPOL_INTERLEAVE: c_long = 3;
const MPOL_F_STATIC_NODES: c_long = 1 << 15;
const MPOL_F_MEMS_ALLOWED: c_long = 1 << 2;
const MPOL_MF_MOVE: c_long = 1 << 1;

/// Bits of the mask, plus one: the kernel takes one off (mbind(2), "maxnode").
const MAX_NODE_ARGUMENT: usize = MAX_NODES + 1;

/// Binds the addresses to nodes; pages that are touched from now on come from there. The error is `errno`'s.
///
/// # Safety
/// The range is whole pages that are mapped, the caller's.
pub(crate) unsafe fn bind(start: NonNull<u8>, size: usize, binding: Binding, nodes: &NodeMask) -> Result<(), i32> {
    if fault::fails(Call::Bind) {
        return Err(libc::EPERM);
    }
    let mode = match binding {
        Binding::Preferred => MPOL_PREFERRED,
        Binding::Strict => MPOL_BIND,
        Binding::Interleaved => MPOL_INTERLEAVE,
    } | MPOL_F_STATIC_NODES;
    keeping_errno(|| {
        // SAFETY: the range is the caller's; the mask is readable for `MAX_NODES` bits.
        let answer = unsafe {
            libc::syscall(libc::SYS_mbind, start.as_ptr(), size, mode, nodes.words().as_ptr(), MAX_NODE_ARGUMENT, 0_u32)
        };
        if answer == 0 { Ok(()) } else { Err(super::errno()) }
    })
}

/// The nodes that the process may take memory from (its cpuset's). The error is `errno`'s.
pub(crate) fn allowed_nodes() -> Result<NodeMask, i32> {
    if fault::fails(Call::Policy) {
        return Err(libc::EPERM);
    }
    let mut mask = NodeMask::default();
    keeping_errno(|| {
        // SAFETY: the mask is writable for `MAX_NODES` bits; the mode and address are not asked for.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_get_mempolicy,
                ptr::null_mut::<i32>(),
                mask.words_mut().as_mut_ptr(),
                MAX_NODE_ARGUMENT,
                ptr::null_mut::<u8>(),
                MPOL_F_MEMS_ALLOWED,
            )
        };
        if answer == 0 { Ok(mask) } else { Err(super::errno()) }
    })
}

/// Asks on which node each of the pages lies that hold those addresses; a negative answer is an error's number, that of a
/// page which is not in memory ENOENT's. The error is `errno`'s (move_pages(2) with no list of nodes).
pub(crate) fn where_are(addresses: &[usize], nodes: &mut [i32]) -> Result<(), i32> {
    debug_assert_eq!(addresses.len(), nodes.len());
    call_move_pages(addresses, None, nodes)
}

/// Moves the pages that hold those addresses to a node, contents and all; where each lies then, or why it was not moved,
/// is put into `nodes`. The error is `errno`'s.
pub(crate) fn move_to_node(addresses: &[usize], node: i32, nodes: &mut [i32]) -> Result<(), i32> {
    const MOST: usize = 16;
    for (addresses, nodes) in addresses.chunks(MOST).zip(nodes.chunks_mut(MOST)) {
        let wanted = [node; MOST];
        call_move_pages(addresses, Some(&wanted[..addresses.len()]), nodes)?;
    }
    Ok(())
}

fn call_move_pages(addresses: &[usize], wanted: Option<&[i32]>, nodes: &mut [i32]) -> Result<(), i32> {
    if fault::fails(Call::Place) {
        return Err(libc::EPERM);
    }
    let wanted = wanted.map_or(ptr::null(), <[i32]>::as_ptr);
    keeping_errno(|| {
        // SAFETY: the lists are as long as is said, and the answers' writable. Moving pages changes no contents.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_move_pages,
                0_i32,
                addresses.len(),
                addresses.as_ptr(),
                wanted,
                nodes.as_mut_ptr(),
                MPOL_MF_MOVE,
            )
        };
        // A positive number of pages could not be moved: their answers say so.
        if answer >= 0 { Ok(()) } else { Err(super::errno()) }
    })
}

/// Whether a page that the calling thread touches first lies on its node, if it is not bound: unless the thread was given
/// a memory policy of its own (set_mempolicy(2), numactl(8)).
pub(crate) fn places_by_first_touch() -> bool {
    if fault::fails(Call::Policy) {
        return true;
    }
    let mut mode = 0_i32;
    let nothing = ptr::null_mut::<u64>();
    let (mask_bits, flags): (usize, c_long) = (0, 0);
    // SAFETY: the mode is writable; no mask and no address are asked for.
    let answer = keeping_errno(|| unsafe {
        libc::syscall(libc::SYS_get_mempolicy, &raw mut mode, nothing, mask_bits, nothing, flags)
    });
    answer != 0 || mode == MPOL_DEFAULT || mode == MPOL_LOCAL
}
