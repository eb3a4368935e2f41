//! The library's functions that a Rust program calls to allocate and to free, each under a name that the linker keeps.
//! What they reach is linked in, and nothing else: see `ci/panics`.

// A function that is not exported is not looked into.
#![deny(dead_code)]

use std::alloc::{GlobalAlloc, Layout};
use std::ptr::{self, NonNull};

use allocator_api2::alloc::Allocator;
use homing::{
    Budget, Bump, BumpConfig, BumpOverflow, BumpStats, Checkpoint, Homing, NodeAlloc, NodeId, NodePools,
    NodePoolsConfig, Pool, PoolBox, RemotePoolBox, SoftLimit,
};

static HOMING: Homing = Homing::new();
static POOLS: NodePools = NodePools::new();

fn layout(size: usize, align: usize) -> Option<Layout> {
    Layout::from_size_align(size, align).ok()
}

#[unsafe(no_mangle)]
extern "C" fn probe_alloc(size: usize, align: usize) -> *mut u8 {
    // SAFETY: the allocator serves layouts of any size.
    layout(size, align).map_or(ptr::null_mut(), |layout| unsafe { HOMING.alloc(layout) })
}

#[unsafe(no_mangle)]
extern "C" fn probe_alloc_zeroed(size: usize, align: usize) -> *mut u8 {
    // SAFETY: as above.
    layout(size, align).map_or(ptr::null_mut(), |layout| unsafe { HOMING.alloc_zeroed(layout) })
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_dealloc(block: *mut u8, size: usize, align: usize) {
    if let Some(layout) = layout(size, align) {
        // SAFETY: the caller gives a block of that layout up.
        unsafe { HOMING.dealloc(block, layout) };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_realloc(block: *mut u8, size: usize, align: usize, new_size: usize) -> *mut u8 {
    // SAFETY: the block is the caller's, of that layout.
    layout(size, align).map_or(ptr::null_mut(), |layout| unsafe { HOMING.realloc(block, layout, new_size) })
}

#[unsafe(no_mangle)]
extern "C" fn probe_thread_cleanup() {
    homing::thread_cleanup();
}

#[unsafe(no_mangle)]
extern "C" fn probe_stats() -> usize {
    homing::stats().used
}

#[unsafe(no_mangle)]
extern "C" fn probe_alloc_on_node(size: usize, align: usize, node: u16) -> Option<NonNull<u8>> {
    homing::alloc_on_node(layout(size, align)?, NodeId::new(node)).ok()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_dealloc_from_node(block: NonNull<u8>, size: usize, align: usize, node: u16) -> bool {
    // SAFETY: the caller gives a block of that layout up.
    layout(size, align)
        .is_some_and(|layout| unsafe { homing::dealloc_from_node(block, layout, NodeId::new(node)) }.is_ok())
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_try_free(block: *mut u8, size: usize, align: usize) -> bool {
    match layout(size, align) {
        // SAFETY: the caller gives a block of that layout up, if it is one.
        Some(layout) => unsafe { homing::try_dealloc(block, layout) }.is_ok(),
        // SAFETY: likewise.
        None => unsafe { homing::try_free(block) }.is_ok(),
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_where(block: *const u8) -> bool {
    // SAFETY: the caller's block.
    let named = unsafe { homing::node_of(block) };
    homing::resident_node(block).ok().flatten() == named && homing::home_node().or(homing::current_node().ok()) == named
}

#[unsafe(no_mangle)]
extern "C" fn probe_node_alloc(node: u16, size: usize, align: usize) -> Option<NonNull<u8>> {
    let on_node = NodeAlloc::new(NodeId::new(node)).or_else(|_| NodeAlloc::here()).ok()?;
    on_node.allocate_zeroed(layout(size, align)?).ok().map(NonNull::cast)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_node_resize(
    block: NonNull<u8>,
    old: usize,
    new: usize,
    align: usize,
) -> Option<NonNull<u8>> {
    let here = NodeAlloc::here().ok()?;
    let (old, new) = (layout(old, align)?, layout(new, align)?);
    // SAFETY: the block is the caller's, of the old layout.
    let resized =
        unsafe { if new.size() < old.size() { here.shrink(block, old, new) } else { here.grow(block, old, new) } };
    resized.ok().map(NonNull::cast)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_node_dealloc(block: NonNull<u8>, size: usize, align: usize) {
    if let (Ok(here), Some(layout)) = (NodeAlloc::here(), layout(size, align)) {
        // SAFETY: the caller gives a block of that layout up.
        unsafe { here.deallocate(block, layout) };
    }
}

#[unsafe(no_mangle)]
extern "C" fn probe_pools_alloc(size: usize, align: usize, node: u16, zero: bool) -> Option<NonNull<u8>> {
    let layout = layout(size, align)?;
    let here = if zero { POOLS.allocate_zeroed(layout) } else { POOLS.allocate(layout) };
    here.or_else(|_| POOLS.allocate_on(layout, NodeId::new(node)))
        .or_else(|_| POOLS.allocate_zeroed_on(layout, NodeId::new(node)))
        .ok()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_pools_dealloc(block: NonNull<u8>, size: usize, align: usize, node: u16) -> bool {
    let node = NodeId::new(node);
    let known = POOLS.node_of(block).is_ok_and(|actual| actual == node) && POOLS.usable_size(block).is_ok();
    // SAFETY: the caller gives the block up, if it is one: none of these frees it where one before it has.
    unsafe {
        known && POOLS.deallocate_from_node(block, node).is_ok()
            || layout(size, align).is_some_and(|layout| POOLS.deallocate_with(block, layout).is_ok())
            || POOLS.deallocate(block).is_ok()
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_pools_resize(block: NonNull<u8>, size: usize) -> bool {
    // SAFETY: the block is the caller's.
    let resized = unsafe { POOLS.resize_in_place(block, size) };
    resized == Ok(true)
}

#[unsafe(no_mangle)]
extern "C" fn probe_pools_figures(node: u16) -> u64 {
    let node = NodeId::new(node);
    let of_node = POOLS.stats_on(node).map_or(0, |stats| stats.allocations);
    let fragmentation = POOLS.fragmentation() + POOLS.fragmentation_on(node).unwrap_or(0.0);
    POOLS.stats().deallocations + of_node + fragmentation as u64 + POOLS.trim() as u64 + homing::trim() as u64
}

#[unsafe(no_mangle)]
extern "C" fn probe_pools_life(pool_size: usize, limit: usize, size: usize) -> bool {
    let pools = NodePools::with(NodePoolsConfig::new().pool_size(pool_size).limit(limit));
    layout(size, 1).is_some_and(|layout| pools.allocate(layout).is_ok())
}

/// A budget whose callback cannot panic: what one can is its own.
#[unsafe(no_mangle)]
unsafe extern "C" fn probe_budget(old: usize, new: usize, align: usize, limit: usize) -> usize {
    let budget = Budget::new("probe", limit, &POOLS).with_soft_limit(limit / 2, |_: &SoftLimit| {});
    let child = Budget::new("child", usize::MAX, &budget).with_soft_limit(limit / 2, |_: &SoftLimit| {});
    let (Some(old), Some(new)) = (layout(old, align), layout(new, align)) else { return 0 };
    let Ok(block) = child.try_allocate(old).or_else(|_| child.try_allocate_zeroed(old)) else { return 0 };
    // SAFETY: a live block of the budget, of the old layout; and of the new one, if it has that.
    unsafe {
        let resized = if new.size() < old.size() {
            child.try_shrink(block.cast(), old, new)
        } else {
            child.try_grow_zeroed(block.cast(), old, new)
        };
        match resized {
            Ok(block) => child.deallocate(block.cast(), new),
            Err(_) => child.deallocate(block.cast(), old),
        }
    }
    child.stats().peak
}

#[unsafe(no_mangle)]
extern "C" fn probe_bump(pool_size: usize, zero: bool, grows: bool, node: u16) -> Option<NonNull<Bump>> {
    let overflow = if grows { BumpOverflow::Grow } else { BumpOverflow::Error };
    let config = BumpConfig::new().pool_size(pool_size).zero_on_reset(zero).overflow(overflow);
    let config = if node == u16::MAX { config } else { config.node(NodeId::new(node)) };
    // SAFETY: the layout is of some size.
    let place = NonNull::new(unsafe { HOMING.alloc(Layout::new::<Bump>()) })?.cast::<Bump>();
    // SAFETY: as large and aligned as that, and nobody else's.
    unsafe { place.write(Bump::with(config)) };
    Some(place)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_bump_end(bump: NonNull<Bump>) {
    // SAFETY: the caller gives up what `probe_bump` made.
    unsafe { bump.drop_in_place() };
    // SAFETY: likewise.
    unsafe { HOMING.dealloc(bump.as_ptr().cast(), Layout::new::<Bump>()) };
}

#[unsafe(no_mangle)]
extern "C" fn probe_bump_alloc(bump: &Bump, size: usize, align: usize) -> Option<NonNull<u8>> {
    bump.try_alloc_bytes(size, align).ok()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_bump_values(bump: &Bump, letters: *const u8, count: usize) -> Option<&mut usize> {
    // SAFETY: the caller's, so many.
    let letters = unsafe { std::slice::from_raw_parts(letters, count) };
    let copies = bump.try_alloc_slice_copy(letters).ok()?;
    let clones = bump.try_alloc_slice_clone(letters).ok()?;
    let filled = bump.try_alloc_slice_fill_with(count, |place| place).ok()?;
    // SAFETY: they are those of a text.
    let text = bump.try_alloc_str(unsafe { std::str::from_utf8_unchecked(letters) }).ok()?;
    bump.try_alloc_with(|| copies.len() + clones.len() + filled.len() + text.len()).ok()
}

#[unsafe(no_mangle)]
extern "C" fn probe_bump_reset(bump: &mut Bump) {
    bump.reset();
}

#[unsafe(no_mangle)]
extern "C" fn probe_bump_checkpoint(bump: &Bump, words: &mut [u64; 4]) {
    *words = bump.checkpoint().to_words();
}

#[unsafe(no_mangle)]
extern "C" fn probe_bump_restore(bump: &mut Bump, words: &[u64; 4]) -> bool {
    Checkpoint::from_words(*words).is_some_and(|checkpoint| bump.restore(checkpoint).is_ok())
}

fn sum(stats: BumpStats) -> f64 {
    stats.utilisation() + stats.used as f64
}

#[unsafe(no_mangle)]
extern "C" fn probe_bump_stats(bump: &Bump) -> f64 {
    sum(bump.stats()) + bump.try_monitor().map_or(0.0, |monitor| sum(monitor.stats()))
}

#[unsafe(no_mangle)]
extern "C" fn probe_bump_local(size: usize, align: usize) -> Option<NonNull<u8>> {
    let mut bump = Bump::local().ok()?;
    let point = bump.checkpoint();
    let block = bump.try_alloc_bytes(size, align).ok()?;
    bump.restore(point).ok()?;
    bump.reset();
    Some(block)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_bump_resize(
    bump: &Bump,
    block: NonNull<u8>,
    old: usize,
    new: usize,
    align: usize,
) -> Option<NonNull<u8>> {
    let (old, new) = (layout(old, align)?, layout(new, align)?);
    // SAFETY: the block is the caller's, of the old layout.
    let resized = unsafe {
        if new.size() < old.size() { bump.shrink(block, old, new) } else { bump.grow_zeroed(block, old, new) }
    };
    resized.or_else(|_| bump.allocate_zeroed(new)).ok().map(NonNull::cast)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_bump_dealloc(bump: &Bump, block: NonNull<u8>, size: usize, align: usize) {
    if let Some(layout) = layout(size, align) {
        // SAFETY: the caller gives a block of that layout up.
        unsafe { bump.deallocate(block, layout) };
    }
}

/// An object of a pool.
type Object = [u64; 5];

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_pool(pool: *mut Pool<Object>, node: u16) {
    // SAFETY: the caller has room for one there.
    unsafe { pool.write(Pool::on_node(NodeId::new(node)).unwrap_or_default()) };
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_pool_drop(pool: *mut Pool<Object>) {
    // SAFETY: the caller gives the pool up.
    unsafe { pool.drop_in_place() };
}

#[unsafe(no_mangle)]
extern "C" fn probe_pool_insert(pool: &Pool<Object>, value: u64) -> Option<NonNull<Object>> {
    pool.insert([value; 5]).ok().map(PoolBox::into_raw)
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_pool_guard_drop(pool: &Pool<Object>, object: NonNull<Object>) {
    // SAFETY: the caller's guard, taken apart.
    drop(unsafe { PoolBox::from_raw(pool, object) });
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_pool_remote_guard_drop(guard: *mut RemotePoolBox<'_, Object>) {
    // SAFETY: the caller gives the guard up.
    unsafe { guard.drop_in_place() };
}

#[unsafe(no_mangle)]
extern "C" fn probe_pool_allocate(pool: &Pool<Object>) -> Option<NonNull<Object>> {
    pool.allocate().ok()
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_pool_deallocate(pool: &Pool<Object>, object: NonNull<Object>) -> bool {
    // SAFETY: the pool looks at what it is given; the caller gives it up, if it is an object.
    unsafe { pool.deallocate(object) }.is_ok()
}

#[unsafe(no_mangle)]
extern "C" fn probe_pool_stats(pool: &Pool<Object>) -> u64 {
    pool.trim();
    pool.stats().bytes_out
}

#[unsafe(no_mangle)]
unsafe extern "C" fn probe_pool_resize(
    pool: &Pool<Object>,
    block: NonNull<u8>,
    old: usize,
    new: usize,
    align: usize,
) -> Option<NonNull<u8>> {
    let (old, new) = (layout(old, align)?, layout(new, align)?);
    // SAFETY: the block is the caller's, of the old layout.
    let resized = unsafe {
        if new.size() < old.size() { pool.shrink(block, old, new) } else { pool.grow_zeroed(block, old, new) }
    };
    resized.ok().map(NonNull::cast)
}

/// The panic that is to be found.
#[cfg(feature = "control")]
#[unsafe(no_mangle)]
extern "C" fn probe_control(index: usize) -> u8 {
    b"what stands beyond is a panic"[index]
}
