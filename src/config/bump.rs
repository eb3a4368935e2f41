//! What may be chosen for a bump arena.

use core::num::NonZeroUsize;

use crate::topology::NodeId;

/// What a bump arena does with a request that its memory has no room for (`HOMING_BUMP_OVERFLOW` for those of threads).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum BumpOverflow {
    /// The request fails with [`BumpError::Full`](crate::BumpError::Full): the arena never has more than its
    /// [`pool_size`](BumpConfig::pool_size).
    Error,
    /// One line on standard error, and the process is aborted.
    Abort,
    /// The arena obtains another chunk, at least twice as large as its newest, or as large as the request; less where its
    /// [`limit`](BumpConfig::limit) leaves no room for as much.
    #[default]
    Grow,
}

/// The settings of a bump arena, each documented at the method that sets it.
///
/// ```
/// use homing::{Bump, BumpConfig, BumpError, BumpOverflow};
///
/// const ONE_PAGE: BumpConfig = BumpConfig::new().pool_size(4096).overflow(BumpOverflow::Error);
///
/// let bump = Bump::with(ONE_PAGE);
/// assert!(bump.try_alloc([0_u8; 4000]).is_ok());
/// assert!(matches!(bump.try_alloc([0_u8; 4000]), Err(BumpError::Full { left: 96, .. })));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BumpConfig {
    pub(crate) pool_size: usize,
    pub(crate) zero_on_reset: bool,
    pub(crate) overflow: BumpOverflow,
    pub(crate) limit: Option<NonZeroUsize>,
    pub(crate) node: Option<NodeId>,
}

impl BumpConfig {
    /// The bytes that an arena obtains at its first use if it is not told otherwise.
    pub const POOL_SIZE: usize = 64 << 10;

    /// The defaults: 64 KiB to begin with, zeroed, growing without a limit, on the node of the thread that uses it.
    pub const fn new() -> Self {
        BumpConfig {
            pool_size: Self::POOL_SIZE,
            zero_on_reset: true,
            overflow: BumpOverflow::Grow,
            limit: None,
            node: None,
        }
    }

    /// Bytes that the arena obtains at its first use (`HOMING_BUMP_SIZE` for those of threads). 64 KiB if this is not set:
    /// what one block of the heap has at most without being whole slots of a segment; pages of it that are never used
    /// are not in memory. All of them can be handed out.
    pub const fn pool_size(mut self, bytes: usize) -> Self {
        self.pool_size = bytes;
        self
    }

    /// Whether all memory that the arena hands out reads as zero (`HOMING_BUMP_ZERO=0|1` for those of threads); it does if
    /// this is not set. What was used is cleared when it comes back: at a reset, a restore, a deallocation.
    /// Otherwise, what was there before is still there when the memory is handed out again.
    pub const fn zero_on_reset(mut self, zero: bool) -> Self {
        self.zero_on_reset = zero;
        self
    }

    /// What is done with a request that the arena has no room for.
    pub const fn overflow(mut self, overflow: BumpOverflow) -> Self {
        self.overflow = overflow;
        self
    }

    /// Bytes that the arena's chunks may have at most, taken together (`HOMING_BUMP_LIMIT` for those of threads); 0: no limit,
    /// as if this is not set. To the byte it is [`BumpStats::capacity`](crate::BumpStats::capacity) that never exceeds it:
    /// what is in use, what is free, and what is left over at the end of chunks. Not counted is what the arena keeps beside
    /// its chunks: some 300 bytes, 56 for each chunk, and what it remembers of restores.
    ///
    /// A request that the arena would have to grow beyond it for fails with [`BumpError::Limit`](crate::BumpError::Limit), and
    /// counts as an overflow; the arena serves on. Where twice the newest chunk is too much, a smaller one serves that has
    /// room for the request. A [`pool_size`](Self::pool_size) beyond the limit is cut to it, whatever the overflow strategy.
    ///
    /// ```
    /// use homing::{Bump, BumpConfig, BumpError};
    ///
    /// let mut bump = Bump::with(BumpConfig::new().pool_size(4096).limit(10_000));
    /// bump.alloc([0_u8; 4096]);
    /// bump.alloc([0_u8; 5904]);
    /// let refused = BumpError::Limit { asked: 1, align: 1, held: 10_000, limit: 10_000 };
    /// assert_eq!(bump.try_alloc(0_u8), Err(refused));
    /// bump.reset();
    /// assert!(bump.try_alloc([0_u8; 10_000]).is_ok());
    /// ```
    pub const fn limit(mut self, bytes: usize) -> Self {
        self.limit = NonZeroUsize::new(bytes);
        self
    }

    /// The limit in bytes; all there are if there is none.
    pub(crate) fn most(&self) -> usize {
        self.limit.map_or(usize::MAX, NonZeroUsize::get)
    }

    /// The node whose memory the arena takes, and no other's. If this is not set: that of the thread that asks, at each
    /// chunk.
    pub const fn node(mut self, node: NodeId) -> Self {
        self.node = Some(node);
        self
    }
}

impl Default for BumpConfig {
    fn default() -> Self {
        Self::new()
    }
}
