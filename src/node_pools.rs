//! Bytes of any size on chosen nodes, with lifetimes of their own: [`NodePools`].
//!
//! - `node_pool`: the pool of one node: its regions by address, behind a lock of its own
//! - `region`: a range of memory from the heap, cut into blocks, or one block
//! - `tree`: the regions by address, and the first of them that has room
//! - `blocks`: how a region is cut, kept apart from the blocks; `bits`, `maxima` and `late` are what it is made of
//! - `gone`: what went back lately, to tell what was freed already
//!
//! Which node's pool a pointer is to be looked for in is told by the address map, where it is bound to a node. Nothing is ever read behind a pointer that no region is known for, but by `place`, to tell foreign ones.

#[cfg(feature = "allocator-api2")]
mod allocator;
mod array;
mod bits;
mod blocks;
mod config;
mod error;
mod gone;
mod late;
mod maxima;
mod node_pool;
mod on_node;
mod region;
mod stats;
#[cfg(test)]
mod tests;
mod tree;

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

use crate::config::Config;
use crate::ids::NodePoolsId;
use crate::misuse::FreeError;
use crate::placement::{self, NodeError};
use crate::source::Source;
use crate::sync::first::First;
use crate::topology::{self, NodeId, NodeIndex};
use crate::{address_map, node, place, process};
use array::Array;
use node_pool::{Freed, Held, Known, NodePool, Request};
use region::{Misled, block_size};

pub use config::NodePoolsConfig;
pub use error::NodePoolsError;
pub use on_node::OnNode;
pub use stats::NodePoolsStats;

/// A pool of bytes on each node: blocks of any size and alignment, allocated on the caller's node or on a named one, freed
/// by any thread without saying which, and back in the pool of their own node then.
///
/// A pool obtains regions (1 MiB if [`NodePoolsConfig::pool_size`] says nothing else) from this allocator's own heap,
/// whichever allocator the program declares as its global one, and cuts blocks from them: always from the lowest address of
/// the first region where there is room. Neighbours that are free are joined at once, whatever the order in which they are
/// freed, so that adjacent blocks serve one request of their joint size again. What is larger than a region has one of its
/// own. Of regions without a live block each node keeps one; others go back to the heap at once, and all do when the value
/// is dropped. Nothing is obtained before the first block, so that a `static` costs nothing until then.
///
/// Sizes are rounded up to a multiple of 16 bytes, and 0 to 16; alignments of 16 and less are the same. What is known of
/// blocks (2 to 4 % of a region) is kept apart from them: a program that writes past a block's end, or to a block it has freed,
/// spoils its own data and nothing of the pools.
///
/// - *Errors*: [`NodePoolsError`]. Pointers are looked up, never trusted, in release builds too: a double free, a pointer
///   into a block, a foreign one, one of other pools or of the heap is an error, and nothing has changed then. (What cannot
///   be told: a pointer that was freed, and whose block was handed out anew since at the same address.)
/// - *Threads*: any may use the value at once. Each node's pool has one lock, held for one operation; threads of different
///   nodes, each on its own, do not meet.
/// - *Cost*: an allocation and a deallocation of 100 bytes take 360 to 480 instructions together where blocks are freed and
///   replaced (x86-64, one node, regions of 1 MiB, 100 and 1100 live blocks), 560 to 590 with as many holes as live blocks,
///   760 to 800 with sizes of 16 to 515 bytes at random; more by the logarithm of the size of a region and of
///   the number of regions; blocks aligned to more than 16 bytes may have free blocks looked through that have room, but not
///   so aligned. A block with a region of its own costs what the heap's large blocks cost. Where a thread wants many small blocks of one size, the heap itself is twenty times quicker.
/// - *Re-entry* (a signal handler on top of an operation of the same thread): [`NodePoolsError::Reentered`]; nothing waits.
///   A handler on top of the heap's own operations is served as long as no region must be obtained, and gets `Full` then;
///   and as long as no other thread is using that node's pool, which may be waiting for the heap: it gets `Reentered` then.
/// - *At thread exit* nothing happens: pools belong to no thread.
/// - *In the child of a `fork`* the pools are as they were. A pool that another thread was using at that moment stays
///   locked there for ever, as a `Mutex` does.
///
/// ```
/// use core::alloc::Layout;
/// use homing::{NodePools, NodePoolsError, Topology};
///
/// static POOLS: NodePools = NodePools::new();
///
/// let node = Topology::read().nodes()[0].id();
/// let layout = Layout::from_size_align(1000, 64).unwrap();
/// let block = POOLS.allocate_on(layout, node)?;
/// assert_eq!(POOLS.node_of(block), Ok(node));
/// // Any thread may free it, and need not say where it lies.
/// unsafe { POOLS.deallocate(block)? };
/// assert_eq!(unsafe { POOLS.deallocate(block) }, Err(NodePoolsError::DoubleFree));
///
/// let stats = POOLS.stats();
/// assert_eq!((stats.allocations, stats.deallocations, stats.bytes, stats.peak_bytes), (1, 1, 0, 1008));
/// # Ok::<(), NodePoolsError>(())
/// ```
pub struct NodePools {
    config: NodePoolsConfig,
    /// Made by whoever needs it first, on that thread's node; read-mostly from then on.
    table: First<Table>,
}

/// The pools by node, each made by whoever needs it first, on its node.
struct Table {
    id: NodePoolsId,
    pools: Array<First<NodePool>>,
}

// SAFETY: the table and the pools belong to this value, which gives them out by reference only; both are `Sync`, and any
// thread may drop them.
unsafe impl Send for NodePools {}
// SAFETY: as above.
unsafe impl Sync for NodePools {}
const _: () = {
    const fn any_thread_may_use<T: Sync>() {}
    any_thread_may_use::<NodePool>();
};

/// A live block that was looked up, and the pool that it is of.
struct Owned<'a> {
    node: NodeIndex,
    pool: Held<'a>,
    size: usize,
}

impl NodePools {
    /// Pools with regions of 1 MiB, and no limit.
    pub const fn new() -> Self {
        Self::with(NodePoolsConfig::new())
    }

    /// Pools with those settings.
    pub const fn with(config: NodePoolsConfig) -> Self {
        NodePools { config, table: First::new() }
    }

    /// The number of these pools, for reports; `None` before the first block.
    pub fn id(&self) -> Option<NodePoolsId> {
        self.table().map(|table| table.id)
    }

    /// A block of the layout's size and alignment on the node that the calling thread runs on, or the nearest with memory;
    /// on the one that it prefers under [`Policy::Prefer`](crate::Policy::Prefer). Its contents are anything.
    ///
    /// # Errors
    /// [`NodePoolsError::Full`] where that node has no room: no other node serves instead, which the caller may ask by
    /// [`allocate_on`](Self::allocate_on). [`NodePoolsError::Reentered`] from a signal handler on top of an operation on
    /// that node's pool.
    pub fn allocate(&self, layout: Layout) -> Result<NonNull<u8>, NodePoolsError> {
        self.serve(here()?, layout, false)
    }

    /// As [`allocate`](Self::allocate), all bytes of the block zero.
    ///
    /// # Errors
    /// As there.
    pub fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<u8>, NodePoolsError> {
        self.serve(here()?, layout, true)
    }

    /// As [`allocate`](Self::allocate), on that node, whichever the calling thread runs on.
    ///
    /// # Errors
    /// As there, and [`NodePoolsError::Node`] where the node is no choice.
    pub fn allocate_on(&self, layout: Layout, node: NodeId) -> Result<NonNull<u8>, NodePoolsError> {
        self.serve(placement::usable(node)?, layout, false)
    }

    /// As [`allocate_on`](Self::allocate_on), all bytes of the block zero.
    ///
    /// # Errors
    /// As there.
    pub fn allocate_zeroed_on(&self, layout: Layout, node: NodeId) -> Result<NonNull<u8>, NodePoolsError> {
        self.serve(placement::usable(node)?, layout, true)
    }

    /// Takes a block back to the pool of the node it is of, whichever the calling thread runs on.
    ///
    /// # Errors
    /// [`NodePoolsError::DoubleFree`], [`NodePoolsError::Interior`], [`NodePoolsError::NotHere`] or
    /// [`NodePoolsError::Foreign`] where no live block of these pools begins there; [`NodePoolsError::Reentered`] from a
    /// signal handler on top of an operation on that pool.
    ///
    /// # Safety
    /// If it is a live block of these pools, nobody uses it any more. If it is none, no other thread gives the memory back
    /// meanwhile that the pointer leads to: the heap's headers are read there, to tell what is wrong.
    pub unsafe fn deallocate(&self, block: NonNull<u8>) -> Result<(), NodePoolsError> {
        // SAFETY: the caller's promise.
        unsafe { self.take_back(block, |_, _| Ok(())) }
    }

    /// As [`deallocate`](Self::deallocate), for callers who know the layout that was asked for: it is held against the
    /// block.
    ///
    /// # Errors
    /// As there, and [`NodePoolsError::WrongSize`] where the block serves no request of that size.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn deallocate_with(&self, block: NonNull<u8>, layout: Layout) -> Result<(), NodePoolsError> {
        let fits = |_, size| match block_size(layout.size()) == Some(size) {
            true => Ok(()),
            false => Err(NodePoolsError::WrongSize { said: layout.size(), actual: size }),
        };
        // SAFETY: the caller's promise.
        unsafe { self.take_back(block, fits) }
    }

    /// As [`deallocate`](Self::deallocate), for callers who know which node the block is on: it is held against the block.
    ///
    /// # Errors
    /// As there, and [`NodePoolsError::WrongNode`] where the block is on another node.
    ///
    /// # Safety
    /// As there.
    pub unsafe fn deallocate_from_node(&self, block: NonNull<u8>, node: NodeId) -> Result<(), NodePoolsError> {
        let is_there = |of, _| match id_of(of) {
            actual if actual == node => Ok(()),
            actual => Err(NodePoolsError::WrongNode { said: node, actual }),
        };
        // SAFETY: the caller's promise.
        unsafe { self.take_back(block, is_there) }
    }

    /// Makes a live block as long as a request of `size` bytes needs, where it lies: shorter, or longer into free memory
    /// that follows it. `false` where it cannot be longer there, and where it has a region of its own and that size is not
    /// its own; nothing has changed then.
    ///
    /// # Errors
    /// As for [`node_of`](Self::node_of).
    ///
    /// # Safety
    /// If it is a live block of these pools, it is the caller's, and what it has beyond the new size is not used any more.
    pub unsafe fn resize_in_place(&self, block: NonNull<u8>, size: usize) -> Result<bool, NodePoolsError> {
        let mut owned = self.look_up(block)?;
        let Some(new) = block_size(size) else { return Ok(false) };
        Ok(owned.pool.resize(block.as_ptr().addr(), owned.size, new))
    }

    /// The node whose pool a live block is of.
    ///
    /// # Errors
    /// As for [`deallocate`](Self::deallocate), but that nothing is read where the pointer leads, as others may be giving
    /// that memory back at the same moment: what is in use by this allocator's heap is [`NodePoolsError::NotHere`], whole
    /// ranges of 32 MiB at a time.
    pub fn node_of(&self, block: NonNull<u8>) -> Result<NodeId, NodePoolsError> {
        self.look_up(block).map(|owned| id_of(owned.node))
    }

    /// Bytes of a live block that may be used: what was asked for, rounded up.
    ///
    /// # Errors
    /// As for [`node_of`](Self::node_of).
    pub fn usable_size(&self, block: NonNull<u8>) -> Result<usize, NodePoolsError> {
        self.look_up(block).map(|owned| owned.size)
    }

    /// These pools as an allocator on one node.
    ///
    /// # Errors
    /// [`NodeError::NoSuchNode`], [`NodeError::WithoutMemory`] or [`NodeError::NotAllowed`].
    pub fn on(&self, node: NodeId) -> Result<OnNode<'_>, NodeError> {
        placement::usable(node).map(|node| OnNode::new(self, node))
    }

    /// The figures of all nodes together. Each node's are exact, those of one moment between two operations; where other
    /// threads are at work, it is not the same moment for all nodes. From a signal handler on top of an operation they say
    /// how far that has come.
    pub fn stats(&self) -> NodePoolsStats {
        self.pools().map(|(_, pool)| pool.stats()).fold(NodePoolsStats::default(), NodePoolsStats::and)
    }

    /// The figures of one node's pool, as by [`stats`](Self::stats).
    ///
    /// # Errors
    /// [`NodeError::NoSuchNode`], [`NodeError::WithoutMemory`] or [`NodeError::NotAllowed`].
    pub fn stats_on(&self, node: NodeId) -> Result<NodePoolsStats, NodeError> {
        // A node that is forbidden since may have a pool still.
        let made = self.pools().find(|(index, _)| id_of(*index) == node);
        match made {
            Some((_, pool)) => Ok(pool.stats()),
            None => placement::usable(node).map(|_| NodePoolsStats::default()),
        }
    }

    /// The share of the free memory of all nodes that the largest request could not use, from 0 to 1: see
    /// [`NodePoolsStats::fragmentation`].
    pub fn fragmentation(&self) -> f64 {
        self.stats().fragmentation()
    }

    /// The share of the free memory of one node's pool that the largest request could not use, from 0 to 1.
    ///
    /// # Errors
    /// As for [`stats_on`](Self::stats_on).
    pub fn fragmentation_on(&self, node: NodeId) -> Result<f64, NodeError> {
        self.stats_on(node).map(|stats| stats.fragmentation())
    }

    /// Gives the regions back to the heap that are kept without a live block: their bytes. A pool that the calling thread is
    /// in the middle of using is left out.
    pub fn trim(&self) -> usize {
        let take = |pool: &NodePool| pool.hold().and_then(|mut pool| pool.take_empty());
        // Each is dropped when the pool is free again.
        self.pools().filter_map(|(_, pool)| take(pool)).map(|region| region.size()).sum()
    }

    fn table(&self) -> Option<&Table> {
        // SAFETY: a table that was published stays until this value is dropped.
        self.table.get().map(|table| unsafe { table.as_ref() })
    }

    /// The pools that were made, by node.
    fn pools(&self) -> impl Iterator<Item = (NodeIndex, &NodePool)> {
        let pools = self.table().map_or(&[][..], |table| &table.pools);
        let made = |(index, pool): (usize, &First<NodePool>)| Some((NodeIndex::new(index), pool.get()?));
        // SAFETY: a pool that was published stays until this value is dropped.
        pools.iter().enumerate().filter_map(made).map(|(node, pool)| (node, unsafe { pool.as_ref() }))
    }

    /// The pool of a node, if it was made.
    #[inline]
    fn made_pool(&self, node: NodeIndex) -> Option<&NodePool> {
        let pool = self.table()?.pools.get(node.get())?.get()?;
        // SAFETY: a pool that was published stays until this value is dropped.
        Some(unsafe { pool.as_ref() })
    }

    /// The pool of a node; made, where it was not. `None` where there is no memory for it.
    #[inline]
    fn pool(&self, node: NodeIndex) -> Option<&NodePool> {
        self.made_pool(node).or_else(|| self.make_pool(node))
    }

    #[cold]
    fn make_pool(&self, node: NodeIndex) -> Option<&NodePool> {
        let table = self.table().or_else(|| {
            let source = Source::Caller;
            let pools = Array::of(source, topology::machine().count(), First::new)?;
            // SAFETY: a table's place in memory is this value's from here on.
            Some(unsafe { publish(&self.table, source, Table { id: NodePoolsId::next(), pools })? })
        })?;
        let place = table.pools.get(node.get())?;
        // SAFETY: a pool's place in memory is the table's, and so this value's, from here on.
        unsafe { publish(place, Source::Node(node), NodePool::new(node, self.config)) }
    }

    /// A block on that node.
    #[inline]
    fn serve(&self, node: NodeIndex, layout: Layout, zero: bool) -> Result<NonNull<u8>, NodePoolsError> {
        let full = || NodePoolsError::Full { node: id_of(node), size: layout.size() };
        let size = block_size(layout.size()).ok_or_else(full)?;
        let pool = self.pool(node).ok_or_else(full)?;
        let mut held = pool.hold().ok_or_else(|| NodePoolsError::Reentered { node: id_of(node) })?;
        let handed = held.allocate(Request { size, align: layout.align(), zero }).ok_or_else(full)?;
        drop(held);
        if zero && !handed.is_zero {
            // SAFETY: the block is `size` bytes long, and the caller's.
            unsafe { handed.block.write_bytes(0, size) };
        }
        Ok(handed.block)
    }

    /// Takes a live block back with whose node and size `check` finds nothing wrong.
    ///
    /// # Safety
    /// If it is a live block of these pools, nobody uses it any more.
    #[inline]
    unsafe fn take_back(
        &self,
        block: NonNull<u8>,
        check: impl Fn(NodeIndex, usize) -> Result<(), NodePoolsError>,
    ) -> Result<(), NodePoolsError> {
        let address = block.as_ptr().addr();
        let likely = node_by_address(address).and_then(|node| Some((node, self.made_pool(node)?.hold()?)));
        if let Some((node, pool)) = likely
            && free_in(pool, address, |size| check(node, size))?
        {
            return Ok(());
        }
        let Owned { node, pool, .. } = self.look_closer(block, Look::Behind)?;
        free_in(pool, address, |size| check(node, size)).map(|_| ())
    }

    /// The live block that begins there, and its pool, held.
    #[inline(always)]
    fn look_up(&self, block: NonNull<u8>) -> Result<Owned<'_>, NodePoolsError> {
        match self.find(block.as_ptr().addr()) {
            Some(owned) => Ok(owned),
            // Safe calls come here, with pointers to what another thread may be giving back.
            None => self.look_closer(block, Look::AtMap),
        }
    }

    /// The same, where it is found at once.
    #[inline(always)]
    fn find(&self, address: usize) -> Option<Owned<'_>> {
        let node = node_by_address(address)?;
        let mut pool = self.made_pool(node)?.hold()?;
        let size = pool.find(address)?;
        Some(Owned { node, pool, size })
    }

    /// Looks for it wherever it may be; says what that look finds wrong with a pointer to none.
    #[cold]
    fn look_closer(&self, block: NonNull<u8>, look: Look) -> Result<Owned<'_>, NodePoolsError> {
        let address = block.as_ptr().addr();
        let node = node_by_address(address);
        let (known, owned) = match node.and_then(|node| Some((node, self.made_pool(node)?))) {
            Some((node, pool)) => look_in(node, pool, address)?,
            None => (Known::No, None),
        };
        match owned {
            Some(owned) => Ok(owned),
            None => self.look_elsewhere(block, node, known, look),
        }
    }

    /// Looks in the pools of all nodes but one, where it was not found; says what that look finds wrong with a pointer that
    /// leads to none.
    #[cold]
    fn look_elsewhere(
        &self,
        block: NonNull<u8>,
        but: Option<NodeIndex>,
        known: Known,
        look: Look,
    ) -> Result<Owned<'_>, NodePoolsError> {
        let mut is_gone = known == Known::Gone;
        for (node, pool) in self.pools().filter(|(node, _)| Some(*node) != but) {
            let (known, owned) = look_in(node, pool, block.as_ptr().addr())?;
            if let Some(owned) = owned {
                return Ok(owned);
            }
            is_gone |= known == Known::Gone;
        }
        Err(if is_gone { NodePoolsError::DoubleFree } else { look.misled(block) })
    }
}

impl Default for NodePools {
    fn default() -> Self {
        NodePools::new()
    }
}

impl fmt::Debug for NodePools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodePools").field("id", &self.id()).field("config", &self.config).finish_non_exhaustive()
    }
}

impl Drop for NodePools {
    fn drop(&mut self) {
        let Some(table) = self.table.get() else { return };
        // SAFETY: published by `make_pool`, and nobody uses it any more, since nobody else has this value.
        let table = unsafe { array::take(table) };
        for pool in table.pools.iter().filter_map(First::get) {
            // SAFETY: as above.
            drop(unsafe { array::take(pool) });
        }
    }
}

/// Puts a value into memory of the source and publishes it, unless another was published meanwhile; gives the one that
/// counts. `None` where there is no memory for it.
///
/// # Safety
/// What is published there stays for as long as `first` is borrowed.
unsafe fn publish<T>(first: &First<T>, source: Source, value: T) -> Option<&T> {
    let made = array::put(source, value).ok()?;
    let counts = first.publish(made);
    if counts != made {
        // SAFETY: it was put there just now, and not published.
        drop(unsafe { array::take(made) });
    }
    // SAFETY: the caller's promise.
    Some(unsafe { counts.as_ref() })
}

/// What the pool of that node knows of an address; with the pool, held, where a live block begins there.
fn look_in(node: NodeIndex, pool: &NodePool, address: usize) -> Result<(Known, Option<Owned<'_>>), NodePoolsError> {
    let mut pool = pool.hold().ok_or_else(|| NodePoolsError::Reentered { node: id_of(node) })?;
    match pool.look_up(address) {
        known @ Known::Live(size) => Ok((known, Some(Owned { node, pool, size }))),
        Known::Misled(Misled::Freed) => Err(NodePoolsError::DoubleFree),
        Known::Misled(Misled::Within { offset, size }) => Err(NodePoolsError::Interior { offset, size }),
        known => Ok((known, None)),
    }
}

/// Takes the live block of a pool back that begins there, if one does and `check` finds nothing wrong with its size.
#[inline(always)]
fn free_in(
    mut pool: Held<'_>,
    address: usize,
    check: impl FnOnce(usize) -> Result<(), NodePoolsError>,
) -> Result<bool, NodePoolsError> {
    match pool.free(address, check)? {
        Freed::Nothing => return Ok(false),
        Freed::Block => {}
        Freed::LastOf(region) => give_back(pool, region),
    }
    Ok(true)
}

/// Gives a region back that has no live block any more, when the pool is free again.
#[cold]
fn give_back(mut pool: Held<'_>, region: usize) {
    let gone = pool.take_out(region);
    drop(pool);
    drop(gone);
}

/// How closely a pointer is looked at that leads to none of the pools' regions.
#[derive(Clone, Copy)]
enum Look {
    /// As well as can be: by calls that are to free the block.
    Behind,
    /// Without reading anything behind it: by calls that may be made for memory that others are giving back.
    AtMap,
}

impl Look {
    /// What is wrong with it.
    #[cold]
    fn misled(self, block: NonNull<u8>) -> NodePoolsError {
        let wrong = match self {
            Look::Behind => place::look(block).err(),
            Look::AtMap => place::look_at_map(block.as_ptr().addr()).err(),
        };
        told(wrong)
    }
}

/// What is told of a pointer that the heap finds this wrong with, or nothing.
fn told(wrong: Option<FreeError>) -> NodePoolsError {
    match wrong {
        // Free memory of the heap's: a region that went back long ago, if it was one.
        Some(FreeError::DoubleFree) => NodePoolsError::DoubleFree,
        Some(FreeError::Foreign) => NodePoolsError::Foreign,
        Some(_) | None => NodePoolsError::NotHere,
    }
}

/// The node whose pool an address is most likely to be found in; `None` where that is not told by the address.
#[inline]
fn node_by_address(address: usize) -> Option<NodeIndex> {
    match topology::machine().count() {
        1 => Some(NodeIndex::FIRST),
        nodes => address_map::node_of(address).filter(|node| node.get() < nodes),
    }
}

/// The node that the calling thread's memory is to lie on.
#[inline]
fn here() -> Result<NodeIndex, NodePoolsError> {
    const CONFIG: &Config = &Config::new();
    if !process::set_up(CONFIG) {
        // A handler on top of the very first use of the allocator: the nodes are not known yet.
        return Err(NodePoolsError::Reentered { node: id_of(NodeIndex::FIRST) });
    }
    if topology::machine().count() == 1 {
        return Ok(NodeIndex::FIRST);
    }
    let (home, _) = node::home();
    if home != node::spread() {
        return Ok(home);
    }
    let number = placement::current_node().map_or(0, |node| u32::from(node.number()));
    Ok(topology::machine().nearest(number))
}

fn id_of(node: NodeIndex) -> NodeId {
    topology::machine().id(node)
}
