//! Why node pools refuse what they are asked for.

use core::fmt;

use crate::placement::NodeError;
use crate::topology::NodeId;

/// Why [`NodePools`](crate::NodePools) cannot hand a block out, or take one back. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NodePoolsError {
    /// The block lies on another node than the caller says.
    WrongNode {
        /// The node that the caller named.
        said: NodeId,
        /// The node whose pool the block is of.
        actual: NodeId,
    },
    /// The block has another size than the caller says.
    WrongSize {
        /// The size that the caller named, in bytes.
        said: usize,
        /// Bytes in the block.
        actual: usize,
    },
    /// The block was freed already, or never handed out.
    DoubleFree,
    /// The pointer lies within a live block, not at its start.
    Interior {
        /// Bytes from the block's start.
        offset: usize,
        /// Bytes in the block.
        size: usize,
    },
    /// The pointer is not this allocator's: another one's, of the stack, of a static, made up, or to memory that went back
    /// to the system.
    Foreign,
    /// The memory is this allocator's, but not of these pools: of others, or of the heap itself.
    NotHere,
    /// The node has no room for so many bytes: the limit of these pools forbids it, or that of the heap, or the kernel does.
    Full {
        /// The node.
        node: NodeId,
        /// Bytes asked for.
        size: usize,
    },
    /// The node is no choice.
    Node(NodeError),
    /// The calling thread was interrupted by a signal whose handler calls this: in the middle of an operation on the pool of
    /// that node, or of one of the heap's own while another thread is using that pool.
    Reentered {
        /// The node.
        node: NodeId,
    },
}

impl fmt::Display for NodePoolsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = |node: &NodeId| node.number();
        match self {
            NodePoolsError::WrongNode { said, actual } => write!(
                f,
                "this block is of the pool of node {}, not of node {}; nothing was freed: name that node, or none",
                number(actual),
                number(said)
            ),
            NodePoolsError::WrongSize { said, actual } => write!(
                f,
                "said to be {said} bytes long, but this block has {actual}; nothing was freed: pass the layout that was \
                 asked for"
            ),
            NodePoolsError::DoubleFree => {
                f.write_str("this block was freed already, or never handed out; look for who else frees it")
            }
            NodePoolsError::Interior { offset, size } => write!(
                f,
                "this pointer lies {offset} bytes within a block of {size} bytes; nothing was freed: pass the block's start"
            ),
            NodePoolsError::Foreign => {
                f.write_str("this pointer was not allocated by homing, or its memory is gone already; give it back to where it came from")
            }
            NodePoolsError::NotHere => {
                f.write_str("this pointer leads to memory of homing, but not of these pools; give it back to its owner")
            }
            NodePoolsError::Full { node, size } => write!(
                f,
                "the pool of node {} has no room for {size} bytes, by its limit or for want of memory; free some there, raise \
                 the limit, or ask another node",
                number(node)
            ),
            NodePoolsError::Node(error) => error.fmt(f),
            NodePoolsError::Reentered { node } => write!(
                f,
                "this thread is in the middle of an operation on the pool of node {}; do not use it from a signal handler",
                number(node)
            ),
        }
    }
}

impl core::error::Error for NodePoolsError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            NodePoolsError::Node(error) => Some(error),
            _ => None,
        }
    }
}

impl From<NodeError> for NodePoolsError {
    fn from(error: NodeError) -> Self {
        NodePoolsError::Node(error)
    }
}
