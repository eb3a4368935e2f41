//! Node pools as an allocator on one node.

use core::alloc::Layout;
use core::ptr::NonNull;

use super::{NodePools, NodePoolsError};
use crate::topology::{self, NodeId, NodeIndex};

/// [`NodePools`] on one of their nodes: given by [`NodePools::on`]. Small, and freely copied.
///
/// With the feature `allocator-api2` it is an allocator of that crate, so that collections lie in the pools, on that node.
///
/// ```
/// # #[cfg(feature = "allocator-api2")] {
/// use allocator_api2::vec::Vec;
/// use homing::{NodePools, Topology};
///
/// let pools = NodePools::new();
/// let node = Topology::read().nodes()[0].id();
/// let mut numbers = Vec::new_in(pools.on(node)?);
/// numbers.extend(0..1000_u64);
/// assert_eq!(pools.stats_on(node)?.blocks, 1);
/// # }
/// # Ok::<(), homing::NodeError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct OnNode<'a> {
    pools: &'a NodePools,
    node: NodeIndex,
}

impl<'a> OnNode<'a> {
    pub(super) const fn new(pools: &'a NodePools, node: NodeIndex) -> Self {
        OnNode { pools, node }
    }

    /// The pools.
    pub fn pools(&self) -> &'a NodePools {
        self.pools
    }

    /// The node.
    pub fn node(&self) -> NodeId {
        topology::machine().id(self.node)
    }

    /// A block of the layout's size and alignment on the node: as [`NodePools::allocate_on`].
    ///
    /// # Errors
    /// As there.
    pub fn try_allocate(&self, layout: Layout) -> Result<NonNull<u8>, NodePoolsError> {
        self.serve(layout, false)
    }

    pub(super) fn serve(&self, layout: Layout, zero: bool) -> Result<NonNull<u8>, NodePoolsError> {
        self.pools.serve(self.node, layout, zero)
    }
}
