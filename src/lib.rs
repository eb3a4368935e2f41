//! A memory allocator for machines with more than one memory node, and for those with one.
//!
//! A block is carved on the node of the thread that asks for it. When it is freed, by any thread on any node, it goes
//! back home: to the slab on its own node that it was carved from.
//!
//! ```
//! use homing::Homing;
//!
//! #[global_allocator]
//! static GLOBAL: Homing = Homing::new();
//!
//! let words = vec!["home".to_owned(); 100];
//! assert_eq!(words.len(), 100);
//! ```
//!
//! Beside the global allocator, and whichever that is, memory has other shapes:
//!
//! - [`Pool`]: objects of one type, each given back by its guard;
//! - [`NodePools`]: bytes of any size on chosen nodes, shared by threads; what is freed joins its free neighbours;
//! - [`Bump`]: an arena from which nothing is freed singly, and all at once, owned or of the thread ([`Bump::local`]);
//! - [`Budget`]: a limit in bytes around any of them, or around [`Homing`] itself;
//! - `NodeAlloc` (feature `allocator-api2`): collections on a chosen node. With that feature all of them are allocators of
//!   that crate.

#[cfg_attr(homing_loom, allow(dead_code))]
mod sync;

#[cfg(not(homing_loom))]
mod address_map;
#[cfg(all(not(homing_loom), feature = "allocator-api2"))]
mod allocators;
#[cfg(not(homing_loom))]
mod arena;
#[cfg_attr(homing_loom, allow(dead_code))]
mod arith;
#[cfg(not(homing_loom))]
mod audit;
#[cfg(not(homing_loom))]
mod background;
#[cfg(not(homing_loom))]
mod block;
#[cfg(not(homing_loom))]
mod budget;
#[cfg(all(test, homing_loom))]
#[path = "budget/ledger.rs"]
#[allow(dead_code)]
mod budget_ledger;
#[cfg(not(homing_loom))]
mod bump;
#[cfg(not(homing_loom))]
mod config;
#[cfg(not(homing_loom))]
mod debug;
#[cfg(not(homing_loom))]
pub mod entry;
#[cfg(all(test, homing_loom))]
#[path = "bump/gauge.rs"]
#[allow(dead_code)]
mod gauge;
#[cfg(not(homing_loom))]
mod global;
#[cfg(not(homing_loom))]
mod hardened;
#[cfg(not(homing_loom))]
mod heap;
#[cfg(all(not(homing_loom), feature = "hwloc"))]
mod hwloc;
#[cfg(not(homing_loom))]
mod ids;
#[cfg(not(homing_loom))]
mod large;
#[cfg(not(homing_loom))]
mod message;
#[cfg(not(homing_loom))]
mod misuse;
#[cfg(all(test, homing_loom))]
mod models;
#[cfg(not(homing_loom))]
mod node;
#[cfg(all(not(homing_loom), feature = "allocator-api2"))]
mod node_alloc;
#[cfg(not(homing_loom))]
mod node_pools;
#[cfg(all(not(homing_loom), feature = "allocator-api2"))]
mod older_allocators;
#[cfg(not(homing_loom))]
mod os;
#[cfg(not(homing_loom))]
mod place;
#[cfg(not(homing_loom))]
mod placement;
#[cfg(not(homing_loom))]
mod pool;
#[cfg(all(test, homing_loom))]
#[path = "pool/models.rs"]
mod pool_models;
#[cfg(not(homing_loom))]
mod process;
#[cfg(not(homing_loom))]
mod segment;
#[cfg(not(homing_loom))]
mod size_class;
#[cfg(not(homing_loom))]
mod slab;
#[cfg(not(homing_loom))]
mod source;
#[cfg(not(homing_loom))]
mod stats;
#[cfg(not(homing_loom))]
mod timer;
#[cfg(not(homing_loom))]
mod topology;

/// The crate whose `Vec` and `Box` lie in the allocators of this one (0.4). They are allocators of its 0.2 too, for `hashbrown`
/// and `bumpalo`.
#[cfg(all(not(homing_loom), feature = "allocator-api2"))]
pub use allocator_api2;

#[cfg(not(homing_loom))]
pub use crate::arena::ArenaId;
#[cfg(not(homing_loom))]
pub use crate::audit::{Audit, AuditError, audit};
#[cfg(not(homing_loom))]
pub use crate::budget::{Budget, BudgetError, BudgetStats, SoftLimit, last_refusal};
#[cfg(not(homing_loom))]
pub use crate::bump::{Bump, BumpError, BumpMonitor, BumpStats, Checkpoint, CheckpointError, LocalBump};
#[cfg(not(homing_loom))]
pub use crate::config::{BumpConfig, BumpOverflow};
#[cfg(not(homing_loom))]
pub use crate::config::{Config, Debug, Large, Overflow, Policy, Zero, check_setting};
#[cfg(not(homing_loom))]
pub use crate::global::Homing;
#[cfg(not(homing_loom))]
pub use crate::heap::checked::{try_dealloc, try_free};
#[cfg(not(homing_loom))]
pub use crate::ids::{BudgetId, BumpId, NodePoolsId};
#[cfg(not(homing_loom))]
pub use crate::misuse::FreeError;
#[cfg(not(homing_loom))]
pub use crate::node::shortfalls::Shortfalls;
#[cfg(all(not(homing_loom), feature = "allocator-api2"))]
pub use crate::node_alloc::NodeAlloc;
#[cfg(not(homing_loom))]
pub use crate::node_pools::{NodePools, NodePoolsConfig, NodePoolsError, NodePoolsStats, OnNode};
#[cfg(all(not(homing_loom), feature = "fault-injection"))]
pub use crate::os::fault;
#[cfg(not(homing_loom))]
pub use crate::placement::{
    NodeError, alloc_on_node, current_node, dealloc_from_node, home_node, node_of, resident_node,
};
#[cfg(not(homing_loom))]
pub use crate::pool::{OnAnyThread, OnPoolThread, Pool, PoolBox, PoolError, PoolReach, PoolStats, RemotePoolBox};
#[cfg(not(homing_loom))]
pub use crate::stats::Stats;
#[cfg(all(not(homing_loom), feature = "hwloc"))]
pub use crate::topology::TopologyError;
#[cfg(not(homing_loom))]
pub use crate::topology::{Access, CpuId, Memory, Missing, Node, NodeId, Source, Topology};

/// What the allocator has done so far, and holds now.
///
/// ```
/// let before = homing::stats();
/// assert!(before.used <= before.peak);
/// ```
#[cfg(not(homing_loom))]
pub fn stats() -> Stats {
    stats::read()
}

/// Gives the memory that nobody uses back to the kernel now, in all pools, and brings home what had to be placed elsewhere;
/// gives how many bytes went back.
///
/// - *What goes*: free memory of the calling thread's arena, of arenas without a thread, and of the pools, but for what
///   [`Config::pool_size`] keeps. What other threads have at hand stays theirs: 2 MiB of blocks each, and a mapping of up to
///   4 MiB of four of them.
/// - *Sizes*: bytes, in whole slots of 64 KiB and whole mappings; where the program has written to a part of them only, the
///   resident memory falls by less.
/// - *Errors*: none. What the kernel refuses to take does not count, and is offered again next time.
/// - *Re-entry*: a thread that comes in on top of itself, as a signal handler, waits for nobody: pools that are held now are
///   left out.
///
/// ```
/// let blocks = vec![1_u8; 64 << 20];
/// drop(blocks);
/// println!("{} bytes went back", homing::trim());
/// ```
#[cfg(not(homing_loom))]
pub fn trim() -> usize {
    heap::trim()
}

/// Gives the calling thread's arena up, as the end of the thread would; its next allocation begins with another.
/// Nothing where the thread has none.
///
/// So is its bump arena ([`Bump::local`]): at once, or when it is dropped if it is held. The next use begins clean.
///
/// ```
/// homing::Bump::local()?.alloc([1_u8; 1000]);
/// homing::thread_cleanup();
/// assert_eq!(homing::Bump::local()?.stats(), homing::BumpStats::default());
/// # Ok::<(), homing::BumpError>(())
/// ```
#[cfg(not(homing_loom))]
pub fn thread_cleanup() {
    bump::local::clean_up_thread();
    arena::enter::clean_up_thread();
}
