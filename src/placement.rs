//! Memory on a chosen node, and where memory lies.

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

use crate::config::Config;
use crate::heap::checked::OfLayout;
use crate::message::Bytes;
use crate::topology::{self, NodeId, NodeIndex};
use crate::{heap, node, os, process};

/// Why a request that names a node is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodeError {
    /// The machine has no node of that number.
    NoSuchNode(NodeId),
    /// The node is there, and has no memory.
    WithoutMemory(NodeId),
    /// The node has memory, and this process may not take any of it: its cpuset leaves it out (or did when the process
    /// began).
    NotAllowed(NodeId),
    /// The node has no memory for so many bytes: its pool's limit forbids it, or the kernel does.
    Full {
        /// The node.
        node: NodeId,
        /// Bytes asked for.
        size: usize,
    },
    /// The block lies on another node than the caller says.
    WrongNode {
        /// The node that the caller named.
        said: NodeId,
        /// The node that the block's header names.
        actual: NodeId,
    },
    /// No header names the block's node: it lies where it is first touched, or on all nodes in turn, or is not this
    /// allocator's.
    Unplaced,
    /// The kernel does not tell: the error's number, as in `errno(3)`.
    Unknown(i32),
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |node: &NodeId| node.number();
        match self {
            NodeError::NoSuchNode(node) => {
                write!(f, "this machine has no node {}; `homing topology` lists those it has", number(node))
            }
            NodeError::WithoutMemory(node) => write!(f, "node {} has no memory; ask for one that has", number(node)),
            NodeError::NotAllowed(node) => write!(
                f,
                "this process may not take memory from node {}; its cpuset (cpuset.mems) leaves it out",
                number(node)
            ),
            NodeError::Full { node, size } => {
                let size = Bytes(*size);
                write!(f, "node {} has no memory for {size}; free some there, or ask another node", number(node))
            }
            NodeError::WrongNode { said, actual } => {
                write!(f, "this block lies on node {}, not on node {}; nothing was freed", number(actual), number(said))
            }
            NodeError::Unplaced => {
                f.write_str("no header names this block's node: it is large and placed by first touch, or foreign")
            }
            NodeError::Unknown(error) => {
                write!(f, "the kernel does not tell where memory or threads are (error {error})")
            }
        }
    }
}

impl core::error::Error for NodeError {}

/// The node's place, if this process may take memory from it.
pub(crate) fn usable(id: NodeId) -> Result<NodeIndex, NodeError> {
    process::set_up(&Config::new());
    if let Some(node) = topology::machine().find(id) {
        return Ok(node);
    }
    Err(match topology::look_for(id) {
        Some((true, true)) => NodeError::NotAllowed(id),
        Some((true, false)) => NodeError::WithoutMemory(id),
        Some((false, _)) | None => NodeError::NoSuchNode(id),
    })
}

/// A block of the layout's size and alignment that lies on that node, whichever node the calling thread runs on.
///
/// It is freed by [`dealloc_from_node`], or as any block of this allocator is (by [`Homing`](crate::Homing)'s `dealloc`,
/// or by `free` in a process that has the shared object preloaded), by any thread.
///
/// The address range is the node's, and so are its pages as long as the kernel finds some there when they are first
/// touched. Where the node is full then, the kernel takes pages of the nearest that has some, and the patrol moves them
/// home when there is room again; under [`Policy::Bind`](crate::Policy::Bind) the request fails instead.
///
/// - *Errors*: [`NodeError::NoSuchNode`], [`NodeError::WithoutMemory`], [`NodeError::NotAllowed`] say why the node is no
///   choice; [`NodeError::Full`] that its pool has reached its limit, or the kernel has no memory. No other node's pool
///   serves instead.
/// - *Cost*: on another node than the thread's, two takings of that node's lock beside an ordinary slow path.
/// - *Re-entry* (from a hook of the C library, or a signal handler, in the middle of the allocator): `Full`.
/// - *At thread exit* the block stays: it is its owner's to free.
///
/// ```
/// use core::alloc::Layout;
/// use homing::{alloc_on_node, dealloc_from_node, node_of, Topology};
///
/// let node = Topology::read().nodes()[0].id();
/// let layout = Layout::array::<u64>(1000).unwrap();
/// let block = alloc_on_node(layout, node)?;
/// assert_eq!(unsafe { node_of(block.as_ptr()) }, Some(node));
/// unsafe { dealloc_from_node(block, layout, node)? };
/// # Ok::<(), homing::NodeError>(())
/// ```
pub fn alloc_on_node(layout: Layout, node: NodeId) -> Result<NonNull<u8>, NodeError> {
    let index = usable(node)?;
    heap::allocate_on(index, layout.size(), layout.align(), false).ok_or(NodeError::Full { node, size: layout.size() })
}

/// Frees a block that is said to lie on that node; where it does not, nothing is freed, and the error tells.
///
/// # Errors
/// [`NodeError::WrongNode`] names the node of the block's header; [`NodeError::Unplaced`] says that no header names one.
///
/// # Safety
/// The block is one of this allocator's, of that layout, and not used any more if the answer is `Ok`.
pub unsafe fn dealloc_from_node(block: NonNull<u8>, layout: Layout, node: NodeId) -> Result<(), NodeError> {
    let actual = heap::node_of(block).map(|index| topology::machine().id(index)).ok_or(NodeError::Unplaced)?;
    if actual != node {
        return Err(NodeError::WrongNode { said: node, actual });
    }
    // SAFETY: the caller's promise.
    debug_assert!(unsafe { heap::usable_size(block) } >= layout.size(), "a block of another layout");
    let claim = OfLayout { size: layout.size(), align: layout.align() };
    // SAFETY: the caller gives the block up.
    unsafe { heap::free(block.as_ptr(), claim) };
    Ok(())
}

/// The node that a block's header names: where it lies, or would if its node had not been full when it was touched (see
/// [`resident_node`]). No system call, no lock.
///
/// `None` for null, for large blocks that lie where they are first touched or on all nodes in turn
/// ([`Large`](crate::Large)), for pointers into a block, and for those that are not this allocator's.
///
/// # Safety
/// The pointer is null, that of a live block or into one, or foreign: where it leads to memory of this allocator, no other
/// thread gives that back meanwhile.
pub unsafe fn node_of(block: *const u8) -> Option<NodeId> {
    heap::node_of(NonNull::new(block.cast_mut())?).map(|index| topology::machine().id(index))
}

/// The node that the page at that address lies on, by the kernel's word (move_pages(2)); `None` where it is not in memory,
/// as before its first use, or not mapped at all.
///
/// # Errors
/// [`NodeError::Unknown`] where the kernel refuses to tell, as in some containers.
///
/// ```
/// let numbers = vec![1_u8; 10_000];
/// if let Ok(node) = homing::resident_node(numbers.as_ptr()) {
///     assert!(node.is_some());
/// }
/// ```
pub fn resident_node(address: *const u8) -> Result<Option<NodeId>, NodeError> {
    let mut node = [0_i32];
    os::where_are(&[address.addr()], &mut node).map_err(NodeError::Unknown)?;
    match node[0] {
        number if number >= 0 => Ok(Some(NodeId::new(number as u16))),
        error if error == -os::ENOENT || error == -os::EFAULT => Ok(None),
        error => Err(NodeError::Unknown(-error)),
    }
}

/// The node that the calling thread runs on, by the kernel's word: a moment later it may run on another, unless it is
/// pinned. It may be a node without memory, whose threads are served by the nearest that has some.
///
/// # Errors
/// [`NodeError::Unknown`] where the kernel does not tell (getcpu(2) is refused).
pub fn current_node() -> Result<NodeId, NodeError> {
    let known = os::current_cpu().and_then(os::node_of_cpu);
    let node = known.map_or_else(os::current_node, Ok).map_err(NodeError::Unknown)?;
    Ok(NodeId::new(node as u16))
}

/// The node whose memory the calling thread is given now, by the policy and where it runs; `None` where that is spread
/// over all nodes.
pub fn home_node() -> Option<NodeId> {
    process::set_up(&Config::new());
    let (home, _) = node::home();
    (home != node::spread()).then(|| topology::machine().id(home))
}
