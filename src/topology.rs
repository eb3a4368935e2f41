//! Nodes, and what is known of the machine that has them.
//!
//! - `sysfs`: the kernel's files about nodes, and how they are read
//! - `machine`: what the allocator goes by: few facts, in tables, found without allocating
//! - `description`, `discover`: what people and programs may want to know, public, from the kernel's files
//! - `available`: what memory there is to be had now
//! - `hwloc`: the same from hwloc (feature `hwloc`)

mod available;
mod description;
mod discover;
#[cfg(feature = "hwloc")]
pub(crate) mod hwloc;
mod machine;
mod sysfs;

pub(crate) use available::available;
pub use description::{Access, CpuId, Memory, Missing, Node, Topology};
#[cfg(feature = "hwloc")]
pub use hwloc::TopologyError;
pub(crate) use machine::{after_fork_in_child, install, look_at_allowed_nodes, look_for, machine};
pub use sysfs::Source;

use crate::os::MAX_NODES;
pub(crate) use sysfs::{kernel_keeps, memory_of};

/// The kernel's number of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct NodeId(u16);

impl NodeId {
    /// The node with that number; whether the machine has it is another question.
    pub const fn new(number: u16) -> Self {
        NodeId(number)
    }

    /// The kernel's number.
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// A node's place among the nodes this process may take memory from: 0, 1, ... without gaps; or the one after them, which
/// stands for what is spread over all of them. Below [`INDICES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct NodeIndex(u16);

/// How long a table of all that has a [`NodeIndex`] is.
pub(crate) const INDICES: usize = MAX_NODES;
const _: () = assert!(INDICES.is_power_of_two());
/// Nodes that memory is taken from at most.
const MOST_NODES: usize = INDICES - 1;

impl NodeIndex {
    pub(crate) const FIRST: NodeIndex = NodeIndex(0);

    pub(crate) const fn new(index: usize) -> Self {
        debug_assert!(index < INDICES);
        NodeIndex(index as u16)
    }

    /// Masked, so that the compiler knows that it is a place in any table of so many.
    #[inline(always)]
    pub(crate) const fn get(self) -> usize {
        self.0 as usize % INDICES
    }
}

/// The "node" of the memory that is spread over all nodes.
pub(crate) fn spread() -> NodeIndex {
    NodeIndex::new(machine().count())
}
