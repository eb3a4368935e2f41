//! What a pool refuses, and why.

use core::fmt;

use crate::topology::NodeId;

/// Why a pool does not hand an object out, or does not take one back. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PoolError {
    /// There is no memory for another slab.
    NoMemory {
        /// Bytes of the slab.
        size: usize,
        /// The pool's node, if it has a certain one.
        node: Option<NodeId>,
    },
    /// The object is free already: it was given back before, or never handed out.
    DoubleFree,
    /// The pointer lies within an object of the pool, not at its start.
    Interior {
        /// Bytes from the object's start.
        offset: usize,
        /// Bytes from an object to the next.
        size: usize,
    },
    /// The pointer lies in a slab of the pool, where no object is.
    NoObject {
        /// Bytes from the slab's start.
        offset: usize,
    },
    /// The pointer is not this allocator's at all: another one's, of the stack, of a static, or made up; or its memory is
    /// gone already.
    Foreign,
    /// The memory is this allocator's, but not this pool's: another pool's, or a block of the heap.
    OtherPool,
}

impl fmt::Display for PoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PoolError::NoMemory { size, node: None } => {
                write!(f, "no memory for a slab of {size} bytes; free some, or raise the process's limits")
            }
            PoolError::NoMemory { size, node: Some(node) } => write!(
                f,
                "node {} has no memory for a slab of {size} bytes; free some there, or make the pool on another node",
                node.number()
            ),
            PoolError::DoubleFree => f.write_str(
                "double free: this object was given back already, or never handed out; look for its other owner",
            ),
            PoolError::Interior { offset, size } => write!(
                f,
                "interior pointer: it lies {offset} bytes within an object of {size} bytes; give back the object's start"
            ),
            PoolError::NoObject { offset } => write!(
                f,
                "no object: this pointer lies {offset} bytes within a slab of the pool, where no object is; \
                 give back what `allocate` gave"
            ),
            PoolError::Foreign => f.write_str(
                "foreign pointer: it was not allocated here, or its memory is gone already; \
                 give it back to whom it came from",
            ),
            PoolError::OtherPool => f.write_str(
                "another owner's: this memory is the allocator's, but no object of this pool; \
                 give it back to the pool it came from",
            ),
        }
    }
}

impl core::error::Error for PoolError {}
