//! What can go wrong with a bump arena.

use core::fmt;

use crate::ids::BumpId;
use crate::placement::NodeError;

/// Why a bump arena does not serve a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BumpError {
    /// The arena has no room for it, and may not grow ([`BumpOverflow::Error`](crate::BumpOverflow::Error)).
    Full {
        /// Bytes asked for; `usize::MAX` where they were more than that.
        asked: usize,
        /// Their alignment.
        align: usize,
        /// Bytes that the arena has left, before any are lost to alignment.
        left: usize,
        /// Bytes of the whole arena.
        size: usize,
    },
    /// The arena has no room for it, and may not obtain as much more ([`BumpConfig::limit`](crate::BumpConfig::limit)).
    Limit {
        /// Bytes asked for; `usize::MAX` where they were more than that.
        asked: usize,
        /// Their alignment.
        align: usize,
        /// Bytes that the arena holds: [`BumpStats::capacity`](crate::BumpStats::capacity).
        held: usize,
        /// Bytes that it may hold.
        limit: usize,
    },
    /// The heap has no memory for it: the node is full, a pool's limit forbids it, or no address space has room for as much.
    NoMemory {
        /// Bytes asked for; `usize::MAX` where they were more than that.
        size: usize,
        /// Their alignment.
        align: usize,
    },
    /// An alignment that is no power of two.
    BadAlign {
        /// That alignment.
        align: usize,
    },
    /// The arena is in use further up on this very thread: a second [`Bump::local`](crate::Bump::local) while the first is
    /// held (in a callback, a `Drop`, a signal handler), or a signal handler on top of the arena at work.
    Reentered,
    /// The node that the arena was set to take memory from does not serve.
    Node(NodeError),
    /// The C library has no thread-specific data left for a thread's arena (pthread_key_create(3)), or the thread is at its
    /// end.
    NoThreadData,
    /// A value says that it cannot be formatted: its `Display`, or whichever was asked for, gave `fmt::Error`
    /// ([`Bump::try_alloc_fmt`](crate::Bump::try_alloc_fmt)).
    Format,
}

impl fmt::Display for BumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BumpError::Full { asked, align, left, size } => write!(
                f,
                "a bump arena of {size} bytes has {left} left, no room for {asked} aligned to {align}; reset it, give it a \
                 larger pool_size, or let it grow"
            ),
            BumpError::Limit { asked, align, held, limit } => write!(
                f,
                "a bump arena that may hold {limit} bytes holds {held}, no room for {asked} more aligned to {align}; reset \
                 it, or give it a larger limit"
            ),
            BumpError::NoMemory { size, align } => write!(
                f,
                "no memory for {size} bytes aligned to {align} in a bump arena; reset it, or free some elsewhere"
            ),
            BumpError::BadAlign { align } => {
                write!(f, "an alignment of {align} was asked of a bump arena; alignments are powers of two")
            }
            BumpError::Reentered => f.write_str(
                "this thread's bump arena is in use further up (a callback, a Drop or a signal handler asks for it while it \
                 is held); lend it to the one that asks, end that use first, or own another arena",
            ),
            BumpError::Node(error) => write!(f, "a bump arena has no node to take memory from: {error}"),
            BumpError::NoThreadData => f.write_str(
                "the C library has no thread-specific data left for this thread's bump arena (pthread_key_create); own one \
                 instead",
            ),
            BumpError::Format => f.write_str(
                "a value that was to be written into a bump arena says that it cannot be formatted; look into its Display",
            ),
        }
    }
}

impl core::error::Error for BumpError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            BumpError::Node(error) => Some(error),
            _ => None,
        }
    }
}

impl From<NodeError> for BumpError {
    fn from(error: NodeError) -> Self {
        BumpError::Node(error)
    }
}

/// Why a bump arena is not taken back to a checkpoint. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The checkpoint is another arena's.
    Foreign {
        /// The arena that was to be restored.
        bump: BumpId,
        /// The arena that the checkpoint was taken of.
        checkpoint: BumpId,
    },
    /// What lay below the checkpoint is there no more.
    Stale {
        /// How often the arena was reset since; 0 where it was restored to an earlier point, and what lay between was
        /// handed out anew.
        resets: u64,
    },
    /// The checkpoint lies ahead of where the arena is now, since it was restored to an earlier point.
    Future {
        /// Bytes from here to there.
        ahead: usize,
    },
    /// A signal handler on top of the arena at work asks for it.
    Reentered,
}

impl fmt::Display for CheckpointError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CheckpointError::Foreign { bump, checkpoint } => write!(
                f,
                "foreign checkpoint: it was taken of bump arena {checkpoint}, and this is {bump}; restore the arena it was \
                 taken of"
            ),
            CheckpointError::Stale { resets: 0 } => f.write_str(
                "stale checkpoint: the arena was restored to an earlier one since, and what lay between was handed out \
                 anew; take another checkpoint",
            ),
            CheckpointError::Stale { resets: 1 } => {
                f.write_str("stale checkpoint: the arena was reset since it was taken; take another checkpoint")
            }
            CheckpointError::Stale { resets } => write!(
                f,
                "stale checkpoint: the arena was reset {resets} times since it was taken; take another checkpoint"
            ),
            CheckpointError::Future { ahead } => write!(
                f,
                "future checkpoint: it lies {ahead} bytes ahead, since the arena was restored to an earlier one; take \
                 another checkpoint"
            ),
            CheckpointError::Reentered => {
                f.write_str("the arena is at work further up on this thread; do not restore it in a signal handler")
            }
        }
    }
}

impl core::error::Error for CheckpointError {}
