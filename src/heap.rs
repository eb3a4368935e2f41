//! Blocks out and blocks home: the fast paths, and where a pointer's masked address sends it when they do not serve.

pub(crate) mod checked;

use core::ptr::{self, NonNull};

use crate::address_map::{self, GRANULE, Kind, Part};
use crate::arena::enter::{self, Held, HeldPool, Refusal};
use crate::arena::{self, emergency, tls};
use crate::arith::{MAX_SIZE, align_up};
use crate::block::Block;
use crate::config::Config;
use crate::hardened;
use crate::large::Mapping;
use crate::misuse::{self, FreeError};
use crate::node;
use crate::os;
use crate::place::{self, Place, find};
use crate::segment::{Owner, SLOT, SegmentPtr, SlotIndex};
use crate::size_class::ClassId;
use crate::slab::Slab;
use crate::topology::{self, NodeIndex};
use checked::Claim;

/// A block of at least `size` bytes aligned to `align`; null where there is no memory for it, or where the request can
/// never be served (`align` no power of two, more than `isize::MAX` bytes). A size of 0 gives the least block.
#[inline(always)]
pub(crate) fn allocate(size: usize, align: usize, base: &Config) -> *mut u8 {
    // One path without a jump for what most requests are.
    if align <= 8
        && let Some(class) = ClassId::of_narrow_8(size)
    {
        return pop_or_refill(class, size, align, base);
    }
    allocate_wide(size, align, base)
}

#[inline(always)]
fn pop_or_refill(class: ClassId, size: usize, align: usize, base: &Config) -> *mut u8 {
    match tls::get().pop(class) {
        Some(block) => block.pointer().as_ptr(),
        None => allocate_listed::<false>(size, align, base, class),
    }
}

/// What [`allocate`] does for larger sizes and alignments.
#[inline(never)]
extern "C" fn allocate_wide(size: usize, align: usize, base: &Config) -> *mut u8 {
    if align <= 16
        && let Some(class) = if align <= 8 { ClassId::of_8(size) } else { ClassId::of_16(size) }
    {
        return pop_or_refill(class, size, align, base);
    }
    allocate_slow(size, align, base)
}

/// What [`allocate`] does when its list is empty. Where there is no memory, `FOR_C` says so in `errno` too.
#[cold]
#[inline(never)]
pub(crate) extern "C" fn allocate_listed<const FOR_C: bool>(
    size: usize,
    align: usize,
    base: &Config,
    class: ClassId,
) -> *mut u8 {
    match tls::get().pop_freed(class) {
        Some(block) => block.pointer().as_ptr(),
        None => allocate_held::<FOR_C>(size, align, base, class),
    }
}

/// What [`allocate_listed`] does when nothing has come back to the class's slab, or it is time to look after the arena.
#[cold]
#[inline(never)]
extern "C" fn allocate_held<const FOR_C: bool>(size: usize, align: usize, base: &Config, class: ClassId) -> *mut u8 {
    let handed = match enter::enter(base) {
        Ok(held) if held.is_checked() => checked::allocate(&held, size, align, false),
        Ok(held) => held.allocate_block(class, false),
        Err(Refusal::NoMemory) => None,
        Err(Refusal::Reentered) => {
            let block = NonNull::new(emergency::allocate(class.size(), class.align()));
            block.map(|block| arena::Handed { block, is_zero: true })
        }
    };
    match handed {
        Some(handed) => handed.block.as_ptr(),
        None => {
            if FOR_C {
                os::set_errno(os::ENOMEM);
            }
            ptr::null_mut()
        }
    }
}

/// What [`allocate`] does for sizes and alignments that are not looked up.
#[cold]
#[inline(never)]
pub(crate) extern "C" fn allocate_slow(size: usize, align: usize, base: &Config) -> *mut u8 {
    allocate_any(size, align, false, base).map_or(ptr::null_mut(), |handed| handed.block.as_ptr())
}

/// As [`allocate`], all of the `size` bytes zero.
#[inline]
pub(crate) fn allocate_zeroed(size: usize, align: usize, base: &Config) -> *mut u8 {
    let class = if align <= 16 { ClassId::of_narrow_16(size) } else { None };
    if let Some(block) = class.and_then(|class| tls::get().pop(class)) {
        // SAFETY: the class's blocks are at least `size` bytes long.
        unsafe { block.pointer().write_bytes(0, size) };
        return block.pointer().as_ptr();
    }
    let Some(handed) = allocate_any(size, align, true, base) else { return ptr::null_mut() };
    if !handed.is_zero {
        // SAFETY: the block is at least `size` bytes long.
        unsafe { handed.block.write_bytes(0, size) };
    }
    handed.block.as_ptr()
}

fn allocate_any(size: usize, align: usize, want_zero: bool, base: &Config) -> Option<arena::Handed> {
    if size > MAX_SIZE || !align.is_power_of_two() {
        return None;
    }
    let class = ClassId::of(size, align);
    if let Some(block) = class.and_then(|class| tls::get().pop(class)) {
        return Some(arena::Handed { block: block.pointer(), is_zero: false });
    }
    let held = match enter::enter(base) {
        Ok(held) => held,
        Err(Refusal::NoMemory) => return None,
        Err(Refusal::Reentered) => {
            let block = NonNull::new(emergency::allocate(size, align))?;
            return Some(arena::Handed { block, is_zero: true });
        }
    };
    if held.is_checked() {
        return checked::allocate(&held, size, align, want_zero);
    }
    match class {
        Some(class) => held.allocate_block(class, want_zero),
        None => held.allocate_large(size, align, want_zero),
    }
}

/// A block that lies on that node, whichever the calling thread runs on; `None` where the node has no memory for it.
pub(crate) fn allocate_on(node: NodeIndex, size: usize, align: usize, want_zero: bool) -> Option<NonNull<u8>> {
    if size > MAX_SIZE || !align.is_power_of_two() {
        return None;
    }
    let held = enter::enter_on(node, &Config::new()).ok()?;
    let handed = match held.is_checked() {
        true => checked::allocate(&held, size, align, want_zero)?,
        false => held.allocate_at_home(size, align, want_zero)?,
    };
    let block = handed.block;
    debug_assert_eq!(node_of(block), Some(node));
    if want_zero && !handed.is_zero {
        // SAFETY: the block is at least `size` bytes long.
        unsafe { block.write_bytes(0, size) };
    }
    Some(block)
}

/// The node that a live block's header names; `None` for one that lies where it is first touched or is spread over all
/// nodes, for one served in an emergency, and for pointers that are not the allocator's.
pub(crate) fn node_of(block: NonNull<u8>) -> Option<NodeIndex> {
    let node = match place::look(block).ok()? {
        Place::Slab(slab) => slab.node(),
        Place::Run(segment, _) => node_of_part(segment.binding_part())?,
        Place::Mapping(mapping) => node_of_part(mapping.part())?,
        Place::Watched(watched) => match watched.mapping() {
            Some(mapping) => node_of_part(mapping.part())?,
            None => watched.segment_node(),
        },
    };
    (node != node::spread()).then_some(node)
}

fn node_of_part(part: Part) -> Option<NodeIndex> {
    match part {
        Part::Node(node) => Some(node),
        // One node holds all there is.
        Part::FirstTouch(_) if topology::machine().count() == 1 => Some(NodeIndex::FIRST),
        Part::FirstTouch(_) => None,
    }
}

/// Makes a live block at least `new_size` bytes long without moving it, or shorter. False where that cannot be.
///
/// # Safety
/// The block is the caller's.
pub(crate) unsafe fn resize_in_place(block: NonNull<u8>, new_size: usize) -> bool {
    if new_size > MAX_SIZE {
        return false;
    }
    match find(block, "resize") {
        Place::Slab(slab) => stays_in_slab(slab.block_size(), new_size),
        Place::Run(segment, slots) => {
            new_size > 0 && arena::large::resize_run(segment, block, slots, new_size) || new_size <= slots * SLOT
        }
        Place::Mapping(mapping) => arena::large::resize_mapping(mapping, new_size.max(1)),
        Place::Watched(_) => false,
    }
}

/// Takes a block back, of which its user says `claim`. Null is nothing; a pointer that is not the allocator's ends the
/// process with one line.
///
/// # Safety
/// The block is the caller's, and not used any more.
#[inline(always)]
pub(crate) unsafe fn free<C: Claim>(block: *mut u8, claim: C) {
    let address = block.expose_provenance();
    if !address_map::has_aligned_headers(address, C::LOG_ALIGN) {
        return free_without_headers(block, claim);
    }
    // SAFETY: nothing of the allocator's lies at null.
    let block = unsafe { NonNull::new_unchecked(block) };
    // SAFETY: headers stand where masking leads.
    let segment = unsafe { SegmentPtr::of(address) };
    let slot = SlotIndex::of_once(address);
    let word = segment.owner(slot);
    if !word.is(tls::get().address()) {
        return free_elsewhere(block, segment, slot, claim);
    }
    // A plain word is that of the slab's first slot.
    let slab = Slab::at(segment, slot);
    // SAFETY: the caller of `free` has given the block up.
    let block = unsafe { Block::at(block) };
    if hardened::ON && (block.looks_free() || slab.is_withheld(block)) {
        arena::refuse_free_block(slab, block);
    }
    if slab.free_local(block) {
        arena::count_ran_out(slab);
    }
}

#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "a claim of nothing is no argument")]
extern "C" fn free_without_headers<C: Claim>(block: *mut u8, _: C) {
    let Some(block) = NonNull::new(block) else { return };
    let address = block.as_ptr() as usize;
    match address_map::kind(address) {
        Kind::FarAligned if address.is_multiple_of(GRANULE) => {
            // SAFETY: the map says that a far-aligned block begins there.
            arena::large::free_mapping(unsafe { Mapping::of_far_aligned(address) });
        }
        _ => checked::free_foreign(block),
    }
}

/// Takes back a block that is not plainly one of this thread's arena.
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "a claim of nothing is no argument")]
extern "C" fn free_elsewhere<C: Claim>(block: NonNull<u8>, segment: SegmentPtr, slot: SlotIndex, claim: C) {
    if hardened::ON {
        suspect_unchecked(segment, slot, block);
    }
    if !arena::gather(segment, slot, segment.owner(slot), block) {
        free_by_owner(block, segment, slot, claim);
    }
}

/// Hardened: has a block looked for where it comes home to, if it looks free already; `checked` sees to those of arenas in
/// checked mode.
fn suspect_unchecked(segment: SegmentPtr, slot: SlotIndex, block: NonNull<u8>) {
    let word = segment.owner_if_any(slot);
    if word.unchecked_arena_address().is_some() {
        arena::suspect_free_block(segment, slot, word, block);
    }
}

/// Takes back a block by what its owner word says.
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "a claim of nothing is no argument")]
extern "C" fn free_by_owner<C: Claim>(block: NonNull<u8>, segment: SegmentPtr, slot: SlotIndex, claim: C) {
    let word = segment.owner_if_any(slot);
    match word.unchecked_arena_address() {
        Some(owner) => arena::free_to_arena(segment, slot, word, owner, block),
        None => free_specially(block, segment, slot, claim),
    }
}

/// Takes back a block that is in no slab, or whose arena is in checked mode; or ends the process, if there is none.
#[cold]
#[inline(never)]
#[allow(improper_ctypes_definitions, reason = "a claim of nothing is no argument")]
extern "C" fn free_specially<C: Claim>(block: NonNull<u8>, segment: SegmentPtr, slot: SlotIndex, claim: C) {
    let address = block.as_ptr() as usize;
    let fail = |error| misuse::fatal("free", address, error);
    let word = segment.owner_if_any(slot);
    match word.decode() {
        Owner::Run(slots) => {
            if !address.is_multiple_of(SLOT)
                && let Err(error) = place::look(block)
            {
                fail(error);
            }
            if !segment.free_owner(slot, word) {
                fail(FreeError::DoubleFree);
            }
            arena::large::free_run(segment, block, slots);
        }
        Owner::Mapping => {
            if let Err(error) = place::look(block) {
                fail(error);
            }
            if !segment.free_owner(slot, word) {
                fail(FreeError::DoubleFree);
            }
            // SAFETY: the owner word said so, and nobody else has freed it.
            arena::large::free_mapping(unsafe { Mapping::of(address) });
        }
        Owner::WatchedMapping | Owner::Arena(..) => checked::free(block, segment, slot, word, claim),
        Owner::RunInterior | Owner::Free => checked::free_foreign(block),
    }
}

/// Takes back a block that was deferred.
pub(crate) fn free_deferred(block: NonNull<u8>) {
    // SAFETY: deferred blocks were given up by their users.
    unsafe { free(block.as_ptr(), ()) };
}

/// Whether a slab's block of that size goes on to serve so many bytes: never for less than half, the block that is given back
/// must be worth a copy.
#[inline]
fn stays_in_slab(block_size: usize, new_size: usize) -> bool {
    new_size <= block_size && (new_size > block_size / 2 || block_size <= 32)
}

/// Bytes of a live block that its user may write: at least what was asked for, the same for the block's life.
///
/// # Safety
/// The block is the caller's.
pub(crate) unsafe fn usable_size(block: NonNull<u8>) -> usize {
    match find(block, "malloc_usable_size") {
        Place::Slab(slab) => slab.block_size(),
        Place::Run(_, slots) => slots * SLOT,
        Place::Mapping(mapping) => mapping.length(),
        Place::Watched(watched) => watched.size(),
    }
}

/// The least that [`usable_size`] gives for a new block of `size` bytes aligned to `align`; `None` where there can be none.
pub(crate) fn usable_size_of_new(size: usize, align: usize) -> Option<usize> {
    if size > MAX_SIZE || !align.is_power_of_two() {
        return None;
    }
    if crate::debug::is_on() && crate::debug::can_watch(align) {
        return Some(size);
    }
    match ClassId::of(size, align) {
        Some(class) => Some(class.size()),
        None if arena::large::is_run(size, align) => align_up(size.max(1), SLOT),
        None => align_up(size, os::page_size()),
    }
}

/// A block of `new_size` bytes aligned to `align` with the contents of the given one, as far as they go; null where
/// there is no memory for it, and then the given block is as it was.
///
/// In place where the block is large enough and not more than twice too large, or where what follows it is free; by
/// moving pages for mappings; else by copying.
///
/// # Safety
/// The block is the caller's, aligned to `align` as it was asked for.
pub(crate) unsafe fn reallocate<C: Claim>(
    block: NonNull<u8>,
    new_size: usize,
    align: usize,
    base: &Config,
    claim: C,
) -> *mut u8 {
    if new_size > MAX_SIZE {
        return ptr::null_mut();
    }
    let old_size = match find(block, "realloc") {
        Place::Slab(slab) => {
            let size = slab.block_size();
            if stays_in_slab(size, new_size) {
                return block.as_ptr();
            }
            size
        }
        Place::Run(segment, slots) => {
            let stays_large = new_size > slots * SLOT / 4;
            if stays_large && arena::large::resize_run(segment, block, slots, new_size) {
                return block.as_ptr();
            }
            // SAFETY: the caller's run.
            let moved = || unsafe { arena::large::move_block(block, slots * SLOT, new_size, align) };
            if stays_large && let Some(moved) = moved() {
                return moved.as_ptr();
            }
            slots * SLOT
        }
        Place::Mapping(mapping) => {
            let old = mapping.length();
            let stays_large = new_size > old / 4;
            if stays_large && arena::large::resize_mapping(mapping, new_size) {
                return block.as_ptr();
            }
            // SAFETY: the caller's mapping.
            let moved = || unsafe { arena::large::move_block(block, old, new_size, align) };
            if stays_large
                && !mapping.is_far_aligned()
                && let Some(moved) = moved()
            {
                return moved.as_ptr();
            }
            old
        }
        Place::Watched(watched) => return checked::reallocate(watched, new_size, align, base, claim),
    };
    // What has grown this far by and by may well grow on, which a run can do in place.
    let grows = new_size > GROWS_IN_RUNS && new_size > old_size && old_size > new_size / 4;
    let new = if grows { allocate_growing(new_size, align, base) } else { allocate(new_size, align, base) };
    if let Some(new) = NonNull::new(new) {
        // SAFETY: both blocks are at least that long, and apart.
        unsafe { new.copy_from_nonoverlapping(block, old_size.min(new_size)) };
        // SAFETY: the caller gave the old block up by this call's success.
        unsafe { free(block.as_ptr(), claim) };
    }
    new
}

/// A block that grows beyond so many bytes becomes a run, even if a slab could serve it.
const GROWS_IN_RUNS: usize = 16 << 10;

#[cold]
fn allocate_growing(size: usize, align: usize, base: &Config) -> *mut u8 {
    let handed = match enter::enter(base) {
        Ok(held) if held.is_checked() => checked::allocate(&held, size, align, false),
        Ok(held) => held.allocate_growing(size, align),
        Err(Refusal::NoMemory) => None,
        Err(Refusal::Reentered) => return emergency::allocate(size, align),
    };
    handed.map_or(ptr::null_mut(), |handed| handed.block.as_ptr())
}

/// Gives back to the kernel all that nobody uses, and brings home what had to be placed elsewhere. Gives how many bytes went
/// back.
pub(crate) fn trim() -> usize {
    // Whoever holds a pool must not wait for another.
    let may_wait = !crate::node::any_is_mine();
    let own = if may_wait { held_if_attached() } else { None };
    // The thread's own first: its arena gives back what it has of others' too.
    let first = own.as_ref().map(|own| own.node().get());
    let others = (0..crate::node::pools()).filter(|index| Some(*index) != first);
    let mut bytes = 0;
    for index in first.into_iter().chain(others) {
        let pool = crate::node::pool(crate::topology::NodeIndex::new(index));
        let hold = || HeldPool::from(|| if may_wait { pool.lock_started() } else { pool.try_lock_started() });
        let Some(held) = hold() else { continue };
        let before = held.figures().purged;
        // With its pool held, so that what goes back for it is counted.
        if let Some(own) = own.as_ref().filter(|own| own.node() == held.node()) {
            own.give_up_unused(Some(&held));
        }
        arena::give_up_unused_of_idle(&held);
        held.purge_all_apart();
        drop(held);
        if may_wait {
            pool.wait_for_purge();
        }
        if let Some(held) = hold() {
            bytes += held.figures().purged.wrapping_sub(before) as usize + held.drop_all_unused();
            held.patrol_all();
        }
    }
    // With no pool held, since nothing is taken from one: whole free pages of slabs that hold blocks.
    if may_wait {
        bytes += own.map_or(0, |own| own.purge_slabs());
        let all = (0..crate::node::pools()).map(|index| crate::node::pool(crate::topology::NodeIndex::new(index)));
        bytes += all.map(arena::purge_slabs_of_idle).sum::<usize>();
    }
    bytes
}

/// The calling thread's arena, if it has one already.
fn held_if_attached() -> Option<Held> {
    if arena::is_attached() { enter::enter(&Config::new()).ok() } else { None }
}
