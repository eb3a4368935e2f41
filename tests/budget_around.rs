//! Budgets around pools, bump arenas and node pools: exact in what they charge, whatever these do with it, and nothing of
//! either left behind.

use std::alloc::Layout;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::hash::RandomState;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::thread;

use allocator_api2::alloc::{AllocError, Allocator};
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use homing::{
    Budget, BudgetError, Bump, BumpConfig, BumpOverflow, Homing, NodePools, NodePoolsConfig, Pool, SoftLimit, Topology,
};

/// Passes on to the allocator inside, and keeps a book of its own on what is out.
struct Watched<A> {
    inner: A,
    out: Cell<usize>,
    most: Cell<usize>,
}

impl<A> Watched<A> {
    fn new(inner: A) -> Self {
        Watched { inner, out: Cell::new(0), most: Cell::new(0) }
    }

    fn change(&self, old: usize, new: usize) {
        self.out.set(self.out.get() + new - old);
        self.most.set(self.most.get().max(self.out.get()));
    }
}

// SAFETY: blocks are those of the allocator inside.
unsafe impl<A: Allocator> Allocator for Watched<A> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.inner.allocate(layout).inspect(|_| self.change(0, layout.size()))
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.inner.allocate_zeroed(layout).inspect(|_| self.change(0, layout.size()))
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        self.change(layout.size(), 0);
        // SAFETY: the caller's promise.
        unsafe { self.inner.deallocate(block, layout) };
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.inner.grow(block, old, new) }.inspect(|_| self.change(old.size(), new.size()))
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.inner.grow_zeroed(block, old, new) }.inspect(|_| self.change(old.size(), new.size()))
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.inner.shrink(block, old, new) }.inspect(|_| self.change(old.size(), new.size()))
    }
}

fn numbers(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize % below
    }
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).unwrap()
}

/// Blocks of all sizes and alignments, which come, grow, shrink and go in any order, in a budget around that allocator: what
/// it charges is the sum of the layouts after each step, what is refused is not charged and leaves the block as it was, and
/// blocks keep what was written.
fn churn<A: Allocator>(inner: A, largest: usize, limit: usize) {
    let budget = Budget::new("churn", limit, Watched::new(inner));
    let mut blocks: std::vec::Vec<(NonNull<u8>, Layout, u8)> = std::vec::Vec::new();
    let mut number = numbers(limit as u64);
    let (mut used, mut peak, mut handed_out, mut refused) = (0, 0, 0, 0);
    let holds = |block: NonNull<u8>, length: usize, mark: u8| {
        // SAFETY: the block is at least that long, and was written to.
        unsafe { std::slice::from_raw_parts(block.as_ptr(), length) }.iter().all(|byte| *byte == mark)
    };
    for step in 0..3000_usize {
        let mark = (step % 251) as u8 + 1;
        let wanted = layout(number(largest), 1 << number(8));
        match number(4) {
            0 | 1 => {
                let is_zeroed = number(2) == 0;
                let asked = if is_zeroed { budget.try_allocate_zeroed(wanted) } else { budget.try_allocate(wanted) };
                let fits = used + wanted.size() <= limit;
                assert_eq!(asked.is_ok(), fits, "{asked:?} with {used} of {limit}");
                match asked {
                    Ok(block) => {
                        let start = block.cast::<u8>();
                        assert_eq!(block.len(), wanted.size());
                        assert!(start.addr().get().is_multiple_of(wanted.align()));
                        assert!(!is_zeroed || holds(start, wanted.size(), 0));
                        // SAFETY: the block is that long.
                        unsafe { start.write_bytes(mark, wanted.size()) };
                        blocks.push((start, wanted, mark));
                        (used, handed_out) = (used + wanted.size(), handed_out + 1);
                    }
                    Err(BudgetError::Exceeded { asked, used: then, .. }) => {
                        assert_eq!((asked, then), (wanted.size(), used));
                        refused += 1;
                    }
                    Err(other) => panic!("{other}"),
                }
            }
            2 if !blocks.is_empty() => {
                let at = number(blocks.len());
                let (block, old, written) = blocks[at];
                // SAFETY: a live block of the budget with that layout.
                let changed = unsafe {
                    match wanted.size() >= old.size() {
                        true if number(2) == 0 => budget.try_grow_zeroed(block, old, wanted),
                        true => budget.try_grow(block, old, wanted),
                        false => budget.try_shrink(block, old, wanted),
                    }
                };
                let kept = old.size().min(wanted.size());
                let fits = (used - old.size()) + wanted.size() <= limit || wanted.size() <= old.size();
                assert_eq!(changed.is_ok(), fits, "{old:?} to {wanted:?} with {used} of {limit}: {changed:?}");
                if let Ok(block) = changed {
                    let start = block.cast::<u8>();
                    assert_eq!(block.len(), wanted.size());
                    assert!(start.addr().get().is_multiple_of(wanted.align()));
                    assert!(holds(start, kept, written));
                    // SAFETY: the block is that long.
                    unsafe { start.write_bytes(mark, wanted.size()) };
                    blocks[at] = (start, wanted, mark);
                    used = used - old.size() + wanted.size();
                } else {
                    assert!(holds(block, old.size(), written));
                    refused += 1;
                }
            }
            _ if !blocks.is_empty() => {
                let (block, old, written) = blocks.swap_remove(number(blocks.len()));
                assert!(holds(block, old.size(), written), "{old:?}");
                // SAFETY: a live block of the budget with that layout.
                unsafe { budget.deallocate(block, old) };
                used -= old.size();
            }
            _ => {}
        }
        peak = peak.max(used);
        let stats = budget.stats();
        assert_eq!((stats.used, stats.peak, stats.remaining), (used, peak, limit - used));
        assert_eq!((stats.allocations, stats.refusals, stats.failures), (handed_out, refused, 0));
        assert_eq!((budget.inner().out.get(), budget.inner().most.get()), (used, peak));
    }
    assert!(refused > 20 && peak > limit / 2, "{refused} refused, at most {peak}");
    for (block, old, _) in blocks {
        // SAFETY: a live block of the budget with that layout.
        unsafe { budget.deallocate(block, old) };
    }
    assert_eq!((budget.used(), budget.inner().out.get()), (0, 0));
}

#[test]
fn a_budget_around_a_pool_charges_what_lies_in_its_objects_and_what_does_not_to_the_byte() {
    let pool = Pool::<[u64; 16]>::new();
    churn(&pool, 400, 6000);
    let stats = pool.stats();
    assert_eq!((stats.objects, stats.bytes, stats.allocations), (0, 0, stats.deallocations));
}

#[test]
fn a_budget_around_a_bump_arena_charges_what_lives_and_not_what_the_arena_has_used_up() {
    let mut bump = Bump::new();
    churn(&bump, 400, 6000);
    // What the arena cannot take back before it is reset is no charge of the budget's.
    assert!(bump.stats().used > 6000);
    bump.reset();
    churn(&bump, 400, 6000);
}

#[test]
fn a_budget_around_node_pools_charges_layouts_and_not_what_blocks_are_rounded_up_to() {
    let pools = NodePools::with(NodePoolsConfig::new().pool_size(64 << 10));
    churn(&pools, 400, 6000);
    churn(&pools, 200_000, 2_000_000);
    let node = Topology::read().nodes().iter().find_map(|node| pools.on(node.id()).ok()).expect("a node with memory");
    churn(node, 400, 6000);
    let stats = pools.stats();
    assert_eq!((stats.blocks, stats.bytes, stats.allocations), (0, 0, stats.deallocations));
}

/// A vector, a box and a map in a budget: charged for what they have, refused what is too much, nothing left of them.
fn use_collections<A: Allocator>(inner: A) {
    let budget = Budget::new("collections", 40_000, inner);
    {
        let one = Box::try_new_in([7_u8; 100], &budget).expect("there is room");
        assert_eq!(budget.used(), 100);
        let mut list = Vec::<u64, _>::new_in(&budget);
        list.extend(0..1000);
        assert_eq!(budget.used(), 100 + 8 * list.capacity());
        assert!(list.iter().copied().eq(0..1000));
        list.truncate(10);
        list.shrink_to_fit();
        assert_eq!((list.capacity(), budget.used()), (10, 180));
        let mut map = hashbrown::HashMap::with_hasher_in(RandomState::new(), &budget);
        let mut model = BTreeMap::new();
        for number in 0..500_u32 {
            map.insert(number, number * 3);
            model.insert(number, number * 3);
        }
        assert!(map.iter().all(|(key, value)| model.get(key) == Some(value)) && map.len() == model.len());
        assert!(budget.used() >= 180 + 500 * 8 && budget.used() <= 40_000);
        let before = budget.stats();
        assert!(list.try_reserve_exact(40_000 / 8).is_err() && map.try_reserve(100_000).is_err());
        assert!(Box::try_new_in([0_u64; 5000], &budget).is_err());
        let after = budget.stats();
        assert_eq!((after.used, after.peak, after.allocations), (before.used, before.peak, before.allocations));
        assert_eq!((after.refusals, after.failures), (before.refusals + 3, before.failures));
        assert!(one.iter().all(|byte| *byte == 7) && list.iter().copied().eq(0..10) && map[&499] == 1497);
    }
    assert_eq!((budget.used(), budget.remaining()), (0, 40_000));
}

#[test]
fn collections_in_budgets_around_pools_arenas_and_node_pools_leave_nothing() {
    let pool = Pool::<[u64; 4]>::new();
    use_collections(&pool);
    assert_eq!((pool.stats().objects, pool.stats().bytes), (0, 0));
    // Moved into the budget, too, and dropped with it.
    use_collections(Pool::<u64>::new());

    let mut bump = Bump::new();
    use_collections(&bump);
    bump.reset();
    use_collections(&bump);
    use_collections(Bump::new());

    let pools = NodePools::new();
    use_collections(&pools);
    let node = pools.node_of(pools.allocate(layout(1, 1)).unwrap()).unwrap();
    use_collections(pools.on(node).unwrap());
    assert_eq!((pools.stats().blocks, pools.stats().bytes), (1, 16));
    use_collections(NodePools::new());
}

#[test]
fn what_the_allocator_inside_has_no_room_for_is_told_as_its_refusal_and_is_not_charged() {
    let bump = Bump::with(BumpConfig::new().pool_size(4096).overflow(BumpOverflow::Error));
    let budget = Budget::new("arena", 1 << 20, &bump);
    let error = budget.try_allocate(layout(100_000, 8)).unwrap_err();
    assert!(
        matches!(error, BudgetError::Inner { budget: "arena", asked: 100_000, align: 8, used: 0, .. }),
        "{error:?}"
    );

    let pools = NodePools::with(NodePoolsConfig::new().pool_size(4096).limit(8192));
    let budget = Budget::new("pools", 1 << 20, &pools);
    let kept = budget.try_allocate(layout(4096, 16)).unwrap();
    let error = budget.try_allocate(layout(8192, 16)).unwrap_err();
    assert!(matches!(error, BudgetError::Inner { budget: "pools", asked: 8192, used: 4096, .. }), "{error:?}");
    // SAFETY: a live block of the budget with that layout.
    let error = unsafe { budget.try_grow(kept.cast(), layout(4096, 16), layout(8192, 16)) }.unwrap_err();
    assert!(matches!(error, BudgetError::Inner { budget: "pools", asked: 4096, used: 4096, .. }), "{error:?}");
    assert_eq!((budget.used(), budget.peak(), budget.stats().failures, budget.stats().refusals), (4096, 4096, 2, 0));
    // SAFETY: as above.
    unsafe { budget.deallocate(kept.cast(), layout(4096, 16)) };
    assert_eq!((budget.used(), pools.stats().blocks), (0, 0));
}

#[test]
fn threads_that_share_a_budget_around_node_pools_stay_within_it_and_within_its_parent() {
    let pools = NodePools::with(NodePoolsConfig::new().pool_size(64 << 10));
    let parent = Budget::new("parent", 40_000, &pools);
    let children = [Budget::new("first", 30_000, &parent), Budget::new("second", 30_000, &parent)];
    let refused = AtomicUsize::new(0);
    thread::scope(|scope| {
        for (seed, child) in children.iter().chain(&children).enumerate() {
            let (parent, refused) = (&parent, &refused);
            scope.spawn(move || {
                let mut number = numbers(seed as u64 + 1);
                let mut mine = std::vec::Vec::new();
                for _ in 0..2000 {
                    let mut list = Vec::<u8, _>::new_in(child);
                    match list.try_reserve_exact(number(5000) + 1) {
                        Ok(()) if mine.len() < 10 => mine.push(list),
                        Ok(()) => {
                            mine.swap_remove(number(10));
                        }
                        Err(_) => {
                            refused.fetch_add(1, SeqCst);
                            mine.clear();
                        }
                    }
                    assert!(child.used() <= 30_000 && parent.used() <= 40_000);
                }
            });
        }
    });
    assert!(refused.load(SeqCst) > 0);
    assert!(parent.peak() <= 40_000 && children.iter().all(|child| child.peak() <= 30_000 && child.used() == 0));
    assert_eq!((parent.used(), pools.stats().blocks, pools.stats().bytes), (0, 0, 0));
}

/// Refuses to make blocks smaller, as an allocator may that would have to move them.
struct Stubborn;

// SAFETY: blocks are those of `Homing`.
unsafe impl Allocator for Stubborn {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Homing::new().allocate(layout)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { Homing::new().deallocate(block, layout) };
    }

    unsafe fn shrink(&self, _: NonNull<u8>, _: Layout, _: Layout) -> Result<NonNull<[u8]>, AllocError> {
        Err(AllocError)
    }
}

#[test]
fn a_block_that_could_not_shrink_is_no_crossing_of_the_soft_limit() {
    let calls = AtomicUsize::new(0);
    let budget = Budget::new("soft", 1000, Stubborn).with_soft_limit(500, |_: &SoftLimit| {
        calls.fetch_add(1, SeqCst);
    });
    let (long, short) = (layout(600, 1), layout(100, 1));
    let block = budget.try_allocate(long).unwrap().cast();
    assert_eq!(calls.load(SeqCst), 1);
    // SAFETY: a live block of the budget with that layout, which stays as it is where it cannot shrink.
    let error = unsafe { budget.try_shrink(block, long, short) }.unwrap_err();
    assert!(matches!(error, BudgetError::Inner { asked: 0, used: 600, .. }), "{error:?}");
    assert_eq!((budget.used(), calls.load(SeqCst)), (600, 1), "the use was never below the soft limit");
    // SAFETY: as above.
    unsafe { budget.deallocate(block, long) };
    let block = budget.try_allocate(long).unwrap().cast();
    assert_eq!((budget.used(), calls.load(SeqCst)), (600, 2));
    // SAFETY: as above.
    unsafe { budget.deallocate(block, long) };
}
