//! What a user may choose about node pools.

use super::blocks::{GRANULE, Granules, LARGEST};
use crate::arith;

/// The least region, in bytes.
const LEAST: usize = 4 << 10;
/// What regions are aligned to at most, in bytes: blocks that are aligned further have a region of their own.
const ALIGN: usize = 64 << 10;
const _: () = assert!(LEAST.is_multiple_of(GRANULE) && ALIGN <= 1 << 20);

/// The settings of [`NodePools`](crate::NodePools): a `const` builder.
///
/// ```
/// use homing::{NodePools, NodePoolsConfig};
///
/// static POOLS: NodePools = NodePools::with(NodePoolsConfig::new().pool_size(4 << 20).limit(256 << 20));
/// assert_eq!(POOLS.stats().regions, 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePoolsConfig {
    pool_size: usize,
    limit: usize,
}

impl NodePoolsConfig {
    /// The defaults: regions of 1 MiB, no limit.
    pub const fn new() -> Self {
        NodePoolsConfig { pool_size: 1 << 20, limit: usize::MAX }
    }

    /// Bytes of a region: what a node's pool obtains from the heap at a time, 1 MiB if nothing else is said. Rounded up to
    /// a multiple of 4 KiB; at least 4 KiB, at most 1 GiB.
    ///
    /// Blocks of up to that size are cut from regions; a larger one has a region of its own, just as long as it is, and so
    /// has one that is aligned to more than 64 KiB, or to more than the largest power of two that is not above the size of a
    /// region.
    pub const fn pool_size(mut self, bytes: usize) -> Self {
        let bytes = if bytes < LARGEST { bytes } else { LARGEST };
        self.pool_size = match arith::align_up(bytes, LEAST) {
            Some(0) | None => LEAST,
            Some(size) => size,
        };
        self
    }

    /// Bytes that the regions of one node may have together, at most; what is kept about them (2 to 4 % of their size) is not
    /// counted. No limit if nothing is said. A region that is kept though it is empty is given back before a request is
    /// refused.
    pub const fn limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Bytes of a region.
    pub(super) const fn region_size(&self) -> usize {
        self.pool_size
    }

    /// The same in granules.
    #[inline]
    pub(super) const fn region_granules(&self) -> Granules {
        (self.pool_size / GRANULE) as Granules
    }

    /// What a region is aligned to, in bytes.
    pub(super) const fn region_align(&self) -> usize {
        // The largest power of two in it, which is not 0.
        let align = (1 << (usize::BITS - 1)) >> (self.pool_size.leading_zeros() % usize::BITS);
        if align < ALIGN { align } else { ALIGN }
    }

    /// Whether a block of that size and alignment is cut from a region, an empty one of which has room for it for sure.
    #[inline]
    pub(super) const fn is_cut(&self, size: usize, align: usize) -> bool {
        size <= self.pool_size && align <= self.region_align()
    }

    /// Bytes that one node's regions may have.
    pub(super) const fn most(&self) -> usize {
        self.limit
    }
}

impl Default for NodePoolsConfig {
    fn default() -> Self {
        NodePoolsConfig::new()
    }
}
