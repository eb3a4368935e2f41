//! The allocators that are compared.

mod affinity;
pub mod entry;
mod list;
#[cfg(feature = "rpmalloc")]
mod thread_hook;
pub mod turn;

use std::alloc::GlobalAlloc;

pub use list::PeerId;
pub use list::types;

/// An allocator, as a type: workloads are compiled once for each.
pub trait Peer: 'static {
    /// What a program would put under `#[global_allocator]`.
    type Allocator: GlobalAlloc;

    /// The one instance, as a program would have one.
    fn allocator() -> &'static Self::Allocator;
}

/// Something to do with an allocator that is known only at run time, see [`PeerId::visit`].
pub trait Visitor {
    /// What comes of it.
    type Output;

    /// Does it.
    fn visit<P: Peer>(self) -> Self::Output;
}
