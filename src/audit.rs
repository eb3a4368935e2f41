//! The audit: walks all pools, slabs and free blocks, and holds what they say of each other, and of the nodes they lie
//! on, against the kernel's word.

use core::fmt;

use crate::address_map;
use crate::arena::{Arena, Waiting};
use crate::block::Block;
use crate::node::{self, Locked};
use crate::os;
use crate::segment::{FIRST_SLOT, Owner, SLOTS, SegmentPtr, SlotIndex};
use crate::slab::Slab;
use crate::topology::{self, NodeIndex};

/// What an audit counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Audit {
    /// Pools in use: one a node with memory in use, and one where memory is spread over all.
    pub pools: usize,
    /// Segments of 32 MiB.
    pub segments: usize,
    /// Granules of 32 MiB, of the addresses set aside for all, that are in use: segments and large mappings lie there.
    pub granules: usize,
    /// Slabs.
    pub slabs: usize,
    /// Blocks of slabs that their users hold.
    pub live_blocks: usize,
    /// Free blocks of slabs: on slabs' and arenas' lists, on their way home, or in pages that went back to the kernel.
    pub free_blocks: usize,
    /// Those of them that are on their way home.
    pub on_the_way: usize,
    /// Free blocks whose page is in memory and was asked for.
    pub asked: usize,
    /// Those of them whose page lies on another node than their headers name: the node had none to give when it was
    /// touched, or pages are not bound.
    pub away: usize,
}

/// A contradiction that an audit found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditError {
    /// What is wrong.
    pub what: &'static str,
    /// The address of the segment, slab or block of which it is wrong.
    pub address: usize,
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the allocator's own data contradict each other at {:#x}: {}; memory was overwritten",
            self.address, self.what
        )
    }
}

impl core::error::Error for AuditError {}

fn check(holds: bool, what: &'static str, address: usize) -> Result<(), AuditError> {
    if holds { Ok(()) } else { Err(AuditError { what, address }) }
}

/// Walks all pools and checks that every count is right, that every free block is in a slab whose header, segment and
/// arena agree on who owns it and on which node it lies, and asks the kernel where it does lie. For tests and for hunting
/// down what has gone wrong; takes the time that walking all free memory takes.
///
/// # Errors
/// The first contradiction. A page on another node than its header says is none, since kernels without room put pages
/// where they can: see [`Audit::away`].
///
/// # Safety
/// No other thread allocates or frees meanwhile, nor ends.
///
/// ```
/// let audit = unsafe { homing::audit() }.unwrap();
/// assert!(audit.live_blocks + audit.free_blocks >= audit.slabs || audit.slabs == 0);
/// ```
pub unsafe fn audit() -> Result<Audit, AuditError> {
    let mut audit = Audit { granules: address_map::used_granules(), ..Audit::default() };
    let mut asker = Asker::default();
    let mut out = 0;
    for index in (0..node::pools()).map(NodeIndex::new) {
        if node::pool(index).is_mine() {
            continue;
        }
        let Some(pool) = node::pool(index).lock_started() else { continue };
        audit.pools += 1;
        out += audit_pool(&pool, &mut audit, &mut asker)?;
    }
    let mut waiting = 0;
    let mut wrong = None;
    for arena in Arena::all() {
        arena.each_waiting(&mut |place, block| {
            if wrong.is_some() || waiting > out {
                return;
            }
            // In the child of a `fork`: what other threads had.
            if !is_known(slab_of(block)) {
                return;
            }
            waiting += 1;
            audit.on_the_way += usize::from(place != Waiting::Listed);
            let verdict = audit_waiting(arena, place, block, &mut asker);
            wrong = wrong.or(verdict.err());
        });
    }
    if let Some(error) = wrong {
        return Err(error);
    }
    check(waiting <= out, "more free blocks wait on lists than are out of their slabs", 0)?;
    audit.live_blocks = out - waiting;
    audit.free_blocks += waiting;
    asker.ask();
    (audit.asked, audit.away) = (asker.asked, asker.away);
    Ok(audit)
}

/// Checks a pool's segments and slabs; gives how many blocks are out of the slabs.
fn audit_pool(pool: &Locked, audit: &mut Audit, asker: &mut Asker) -> Result<usize, AuditError> {
    let (mut used, mut dirty, mut out) = (0, 0, 0);
    for segment in pool.segments() {
        audit.segments += 1;
        check(segment.node() == pool.node(), "a segment of another node's pool", segment.address())?;
        let mut free = 0;
        for slot in (FIRST_SLOT..SLOTS).map(|slot| SlotIndex::of(slot * crate::segment::SLOT)) {
            let (is_free, is_dirty) = segment.slot_is_free(slot);
            free += usize::from(is_free);
            dirty += usize::from(is_dirty);
            check(is_free || !is_dirty, "a slot that is taken counts as waiting to be purged", segment.address())?;
            match segment.owner(slot).decode() {
                Owner::Arena(arena, back) => {
                    check(!is_free, "a free slot names an arena", segment.address())?;
                    check(
                        Arena::all().any(|known| known.address() == arena),
                        "an owner that is no arena",
                        segment.address(),
                    )?;
                    if back == 0 {
                        out += audit_slab(Slab::at(segment, slot), pool.node(), audit, asker)?;
                    }
                }
                Owner::Run(_) | Owner::RunInterior => {
                    check(!is_free, "a free slot is part of a run", segment.address())?
                }
                Owner::Mapping | Owner::WatchedMapping => {
                    check(false, "a segment's slot is said to be a mapping", segment.address())?
                }
                Owner::Free => {}
            }
        }
        check(free == segment.free_slots(), "the count of free slots is wrong", segment.address())?;
        used += segment.taken_slots();
    }
    let (counted_used, counted_dirty) = pool.slot_counts();
    check(used == counted_used, "the pool's count of used slots has drifted", pool.node().get())?;
    check(dirty == counted_dirty, "the pool's count of dirty slots has drifted", pool.node().get())?;
    Ok(out)
}

fn audit_slab(slab: Slab, node: NodeIndex, audit: &mut Audit, asker: &mut Asker) -> Result<usize, AuditError> {
    audit.slabs += 1;
    check(slab.node() == node, "a slab's header names another node than its segment's", slab.address())?;
    let Some((out, local)) = slab.count_blocks() else {
        return Err(AuditError { what: "a slab's list of free blocks has a loop", address: slab.address() });
    };
    check(out + local == slab.carved(), "a slab's blocks do not add up", slab.address())?;
    check(slab.withholds_as_counted(), "the count of a slab's withheld blocks is wrong", slab.address())?;
    audit.free_blocks += local as usize + slab.withheld() as usize;
    let mut wrong = false;
    slab.each_local(&mut |block| {
        wrong |= slab_of(block) != slab || slab.is_withheld(block);
        asker.add(block, node);
    });
    check(!wrong, "a block is on another slab's list, or on its own and withheld", slab.address())?;
    Ok(out as usize)
}

/// Whether the slab's segment is one that its pool knows.
fn is_known(slab: Slab) -> bool {
    let pool = node::pool(slab.node());
    !pool.is_mine() && pool.lock().has(slab.segment())
}

/// The slab whose slot the block lies in.
fn slab_of(block: Block) -> Slab {
    // SAFETY: blocks of slabs lie in segments.
    let segment = unsafe { SegmentPtr::of(block.address()) };
    let slot = SlotIndex::of(block.address());
    Slab::at(segment, slot.minus(segment.owner(slot).back()))
}

fn audit_waiting(arena: &Arena, place: Waiting, block: Block, asker: &mut Asker) -> Result<(), AuditError> {
    let slab = slab_of(block);
    let owner = slab.segment().owner(slab.slot()).arena_address();
    let offset = block.address() - slab.start().as_ptr() as usize;
    check(offset.is_multiple_of(slab.block_size()), "a free block does not begin where one can", block.address())?;
    match place {
        Waiting::Listed => check(owner == Some(arena.address()), "a listed block is another arena's", block.address())?,
        // The slab may have been handed over since.
        Waiting::Outbox(_) | Waiting::Inbox => {
            check(owner.is_some(), "a block on its way has no home", block.address())?
        }
    }
    check(slab.node() == slab.segment().node(), "a block's headers name two nodes", block.address())?;
    asker.add(block, slab.node());
    Ok(())
}

/// Asks the kernel for many blocks at a time.
struct Asker {
    pages: [usize; 64],
    homes: [i32; 64],
    count: usize,
    asked: usize,
    away: usize,
}

impl Default for Asker {
    fn default() -> Self {
        Asker { pages: [0; 64], homes: [0; 64], count: 0, asked: 0, away: 0 }
    }
}

impl Asker {
    fn add(&mut self, block: Block, node: NodeIndex) {
        if node == node::spread() {
            return;
        }
        self.pages[self.count] = block.address();
        self.homes[self.count] = i32::from(topology::machine().id(node).number());
        self.count += 1;
        if self.count == self.pages.len() {
            self.ask();
        }
    }

    fn ask(&mut self) {
        let mut nodes = [-1_i32; 64];
        // Where the kernel refuses, nothing was asked.
        if os::where_are(&self.pages[..self.count], &mut nodes[..self.count]).is_ok() {
            for (node, home) in nodes[..self.count].iter().zip(&self.homes) {
                self.asked += usize::from(*node >= 0);
                self.away += usize::from(*node >= 0 && node != home);
            }
        }
        self.count = 0;
    }
}
