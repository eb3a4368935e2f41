//! Budgets: what they charge, what they refuse, and whom they tell (`soft_limit`).

mod soft_limit;

use std::alloc::{GlobalAlloc, Layout};
use std::hash::RandomState;
use std::ptr::NonNull;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::thread;

use allocator_api2::alloc::{AllocError, Allocator};
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use homing::{Budget, BudgetError, Homing, NodeAlloc, SoftLimit, last_refusal};

/// Passes on to `Homing`, counts by itself what is out, and refuses when it is told to.
#[derive(Default)]
struct Watching {
    out: AtomicUsize,
    most: AtomicUsize,
    refuses: AtomicBool,
    /// How many bytes more than asked for its blocks say they have.
    generous: usize,
}

impl Watching {
    fn add(&self, bytes: usize) {
        let now = self.out.fetch_add(bytes, SeqCst) + bytes;
        self.most.fetch_max(now, SeqCst);
    }

    fn check(&self) -> Result<(), AllocError> {
        if self.refuses.load(SeqCst) { Err(AllocError) } else { Ok(()) }
    }

    fn padded(&self, layout: Layout) -> Layout {
        Layout::from_size_align(layout.size() + self.generous, layout.align()).unwrap()
    }
}

// SAFETY: blocks are those of `Homing`, with `generous` bytes more.
unsafe impl Allocator for Watching {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.check()?;
        let block = Homing::new().allocate(self.padded(layout))?;
        self.add(layout.size());
        Ok(block)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { Homing::new().deallocate(block, self.padded(layout)) };
        self.out.fetch_sub(layout.size(), SeqCst);
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.check()?;
        // SAFETY: the caller's promise.
        let block = unsafe { Homing::new().grow(block, self.padded(old), self.padded(new)) }?;
        self.add(new.size() - old.size());
        Ok(block)
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        let block = unsafe { self.grow(block, old, new) }?;
        // SAFETY: the block is that long.
        unsafe { block.cast::<u8>().add(old.size()).write_bytes(0, new.size() - old.size()) };
        Ok(block)
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.check()?;
        // SAFETY: the caller's promise.
        let block = unsafe { Homing::new().shrink(block, self.padded(old), self.padded(new)) }?;
        self.out.fetch_sub(old.size() - new.size(), SeqCst);
        Ok(block)
    }
}

fn bytes(size: usize) -> Layout {
    Layout::from_size_align(size, 8).unwrap()
}

fn free<A: Allocator>(budget: &A, block: NonNull<[u8]>, layout: Layout) {
    // SAFETY: the tests' own blocks, each freed once.
    unsafe { budget.deallocate(block.cast(), layout) };
}

/// A sequence of numbers that looks random (xorshift).
fn numbers(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |below| {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        (seed % below as u64) as usize
    }
}

#[test]
fn many_threads_that_hammer_on_a_budget_never_have_more_than_its_limit_and_leave_nothing() {
    const LIMIT: usize = 20_000;
    let budget = Budget::new("hammered", LIMIT, Watching::default());
    let child = Budget::new("child", LIMIT / 2, &budget);
    let (served, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let hammer = |seed: u64, budget: &dyn Allocator| {
        let mut next = numbers(seed);
        let mut held = std::vec::Vec::new();
        for _ in 0..3000 {
            let size = 1 + next(3000);
            match (next(4), held.pop()) {
                (0, Some((block, old))) => free(&budget, block, old),
                (1, Some((block, old))) => {
                    let new = bytes(old.size() + next(2000));
                    // SAFETY: the test's own block, with that layout.
                    match unsafe { budget.grow(block.cast(), old, new) } {
                        Ok(block) => held.push((block, new)),
                        Err(_) => held.push((block, old)),
                    }
                }
                (2, Some((block, old))) => {
                    let new = bytes(next(old.size() + 1));
                    // SAFETY: the test's own block, with that layout.
                    held.push((unsafe { budget.shrink(block.cast(), old, new) }.unwrap(), new));
                }
                (_, last) => {
                    held.extend(last);
                    match budget.allocate(bytes(size)) {
                        Ok(block) => {
                            served.fetch_add(1, SeqCst);
                            held.push((block, bytes(size)));
                        }
                        Err(_) => {
                            refused.fetch_add(1, SeqCst);
                            let last = last_refusal().unwrap();
                            assert!(matches!(last, BudgetError::Exceeded { asked, .. } if asked == size), "{last}");
                            // Makes room for the others.
                            held.drain(..).for_each(|(block, layout)| free(&budget, block, layout));
                        }
                    }
                }
            }
        }
        held.drain(..).for_each(|(block, layout)| free(&budget, block, layout));
    };
    thread::scope(|scope| {
        let (hammer, budget, child) = (&hammer, &budget, &child);
        for seed in 1..=4 {
            scope.spawn(move || hammer(seed, budget));
            scope.spawn(move || hammer(seed + 100, child));
        }
        scope.spawn(|| {
            for _ in 0..10_000 {
                assert!(budget.used() <= LIMIT && budget.peak() <= LIMIT && child.used() <= LIMIT / 2);
            }
        });
    });
    let stats = budget.stats();
    assert_eq!((stats.used, stats.remaining, stats.limit), (0, LIMIT, LIMIT));
    assert_eq!((child.used(), child.remaining()), (0, LIMIT / 2));
    assert_eq!(stats.allocations, served.load(SeqCst) as u64);
    let most = budget.inner().most.load(SeqCst);
    assert!(most <= LIMIT, "{most} bytes were out");
    assert!(stats.peak <= LIMIT && child.peak() <= LIMIT / 2 && child.peak() <= stats.peak);
    assert_eq!(budget.inner().out.load(SeqCst), 0);
    assert!(stats.refusals > 0 && refused.load(SeqCst) > 0, "the limit was never in the way");
}

#[test]
fn of_three_budgets_within_each_other_the_one_that_has_no_room_refuses_and_is_named() {
    let outer = Budget::new("machine", 1000, Watching::default());
    let middle = Budget::new("program", 600, &outer);
    let inner = Budget::new("tenant", 5000, &middle);
    let other = Budget::new("other", 900, &outer);
    let first = inner.try_allocate(bytes(500)).unwrap();
    assert_eq!([inner.used(), middle.used(), outer.used()], [500, 500, 500]);

    let error = inner.try_allocate(bytes(101)).unwrap_err();
    assert!(
        matches!(error, BudgetError::Exceeded { budget: "program", asker: Some("tenant"), asked: 101, align: 8, used: 500,
            limit: 600, id, .. } if id == middle.id()),
        "{error:?}"
    );
    // What the parent refused was never in use, nor is it charged.
    assert_eq!([inner.used(), inner.peak(), inner.remaining()], [500, 500, 4500]);

    let second = other.try_allocate(bytes(450)).unwrap();
    let error = inner.try_allocate(bytes(60)).unwrap_err();
    assert!(
        matches!(error, BudgetError::Exceeded { budget: "machine", asker: Some("tenant"), asked: 60, used: 950, limit: 1000,
            id, .. } if id == outer.id()),
        "{error:?}"
    );
    assert_eq!(last_refusal(), Some(error));
    let error = middle.try_allocate(bytes(60)).unwrap_err();
    assert!(matches!(error, BudgetError::Exceeded { budget: "machine", asker: Some("program"), .. }), "{error:?}");
    let error = outer.try_allocate(bytes(60)).unwrap_err();
    assert!(matches!(error, BudgetError::Exceeded { budget: "machine", asker: None, .. }), "{error:?}");

    let error = inner.try_allocate(bytes(4501)).unwrap_err();
    assert!(
        matches!(error, BudgetError::Exceeded { budget: "tenant", asker: None, limit: 5000, .. }),
        "its own limit is the first that is looked at: {error:?}"
    );
    assert_eq!([inner.stats().refusals, middle.stats().refusals, outer.stats().refusals], [1, 1, 3]);
    assert_eq!([inner.stats().failures, middle.stats().failures, outer.stats().failures], [2, 2, 0]);
    free(&inner, first, bytes(500));
    free(&other, second, bytes(450));
    assert_eq!([inner.used(), other.used(), middle.used(), outer.used()], [0; 4]);
    assert_eq!([inner.peak(), middle.peak(), outer.peak()], [500, 500, 950]);
}

#[test]
fn what_the_allocator_inside_refuses_is_not_charged_and_told_as_its_own() {
    let outer = Budget::new("outer", 1000, Watching::default());
    let budget = Budget::new("budget", 1000, &outer);
    let block = budget.try_allocate(bytes(100)).unwrap();
    // A refusal of another budget before must not be taken for one of this request.
    assert!(Budget::new("another", 10, Homing::new()).try_allocate(bytes(11)).is_err());
    outer.inner().refuses.store(true, SeqCst);
    let own = |error: BudgetError, size: usize| {
        assert!(
            matches!(error, BudgetError::Inner { budget: "outer", asker: Some("budget"), asked, used: 100, limit: 1000, .. }
                if asked == size),
            "{error:?}"
        );
        assert_eq!(last_refusal(), Some(error));
        let figures = [budget.used(), outer.used(), budget.remaining(), outer.remaining(), budget.peak()];
        assert_eq!(figures, [100, 100, 900, 900, 100]);
    };
    own(budget.try_allocate(bytes(200)).unwrap_err(), 200);
    own(budget.try_allocate_zeroed(bytes(300)).unwrap_err(), 300);
    // SAFETY: the test's own block, with that layout.
    unsafe {
        own(budget.try_grow(block.cast(), bytes(100), bytes(150)).unwrap_err(), 50);
        own(budget.try_grow_zeroed(block.cast(), bytes(100), bytes(151)).unwrap_err(), 51);
        own(budget.try_shrink(block.cast(), bytes(100), bytes(50)).unwrap_err(), 0);
    }
    assert_eq!((budget.stats().failures, budget.stats().refusals, budget.stats().allocations), (5, 0, 1));
    outer.inner().refuses.store(false, SeqCst);
    free(&budget, block, bytes(100));
    assert_eq!((budget.used(), outer.used(), outer.inner().out.load(SeqCst)), (0, 0, 0));
}

#[test]
fn growing_and_shrinking_charge_the_difference_to_the_byte_and_keep_the_contents() {
    let budget = Budget::new("resized", 1000, Homing::new());
    let pattern = |block: NonNull<[u8]>, from: usize, to: usize| {
        // SAFETY: the block is at least `to` bytes long.
        (from..to).for_each(|at| unsafe { block.cast::<u8>().add(at).write(at as u8 | 1) });
    };
    let check = |block: NonNull<[u8]>, upto: usize, zero_upto: usize| {
        // SAFETY: the block is `zero_upto` bytes long, and all of them were written.
        let byte = |at: usize| unsafe { block.cast::<u8>().add(at).read() };
        assert!((0..upto).all(|at| byte(at) == at as u8 | 1));
        assert!((upto..zero_upto).all(|at| byte(at) == 0));
    };
    let block = budget.try_allocate(bytes(10)).unwrap();
    pattern(block, 0, 10);
    // SAFETY: the test's own block, with the layouts that it had last.
    unsafe {
        let block = budget.try_grow(block.cast(), bytes(10), bytes(700)).unwrap();
        assert_eq!((budget.used(), budget.peak(), block.len()), (700, 700, 700));
        check(block, 10, 0);
        pattern(block, 0, 700);
        let block = budget.try_shrink(block.cast(), bytes(700), bytes(30)).unwrap();
        assert_eq!((budget.used(), budget.peak(), block.len()), (30, 700, 30));
        let block = budget.try_grow_zeroed(block.cast(), bytes(30), bytes(1000)).unwrap();
        assert_eq!((budget.used(), budget.remaining(), block.len()), (1000, 0, 1000));
        check(block, 30, 1000);
        let error = budget.try_grow(block.cast(), bytes(1000), bytes(1001)).unwrap_err();
        assert!(matches!(error, BudgetError::Exceeded { asked: 1, used: 1000, .. }), "{error:?}");
        check(block, 30, 1000);
        // To a size that is the same, an alignment that is another, and nothing at all.
        let far = Layout::from_size_align(1000, 4096).unwrap();
        let block = budget.try_grow(block.cast(), bytes(1000), far).unwrap();
        assert!(block.cast::<u8>().addr().get().is_multiple_of(4096));
        check(block, 30, 1000);
        assert_eq!(budget.used(), 1000);
        let none = Layout::from_size_align(0, 64).unwrap();
        let block = budget.try_shrink(block.cast(), far, none).unwrap();
        assert_eq!(budget.used(), 0);
        let block = budget.try_grow_zeroed(block.cast(), none, bytes(77)).unwrap();
        check(block, 0, 77);
        assert_eq!(budget.used(), 77);
        budget.deallocate(block.cast(), bytes(77));
    }
    assert_eq!((budget.used(), budget.peak(), budget.stats().allocations), (0, 1000, 1));
}

#[test]
fn a_block_is_as_long_as_was_charged_even_if_the_allocator_inside_is_generous() {
    // Its user might give it back with any size that it was told, and that would be refunded.
    let budget = Budget::new("exact", 10_000, Watching { generous: 100, ..Watching::default() });
    let block = budget.try_allocate(bytes(50)).unwrap();
    assert_eq!(block.len(), 50);
    // SAFETY: the test's own block, with the layouts that it had last.
    unsafe {
        let block = budget.try_grow(block.cast(), bytes(50), bytes(500)).unwrap();
        assert_eq!(block.len(), 500);
        let block = budget.try_shrink(block.cast(), bytes(500), bytes(20)).unwrap();
        assert_eq!((block.len(), budget.used()), (20, 20));
        budget.deallocate(block.cast(), bytes(20));
    }
    let block = budget.try_allocate_zeroed(bytes(60)).unwrap();
    assert_eq!(block.len(), 60);
    free(&budget, block, bytes(60));
    assert_eq!(budget.used(), 0);
}

#[test]
fn realloc_of_the_global_face_charges_the_difference_and_leaves_a_block_it_may_not_grow() {
    let outer = Budget::new("outer", 5000, Homing::new());
    let budget = Budget::new("c", 1000, &outer);
    // SAFETY: sizes are not 0, and the block is given back with the layout that it had last.
    unsafe {
        let block = budget.alloc(bytes(100));
        block.write_bytes(7, 100);
        let block = budget.realloc(block, bytes(100), 900);
        assert!(!block.is_null());
        assert_eq!((budget.used(), outer.used()), (900, 900));
        assert!(budget.realloc(block, bytes(900), 1001).is_null());
        assert!(matches!(last_refusal(), Some(BudgetError::Exceeded { budget: "c", asked: 101, used: 900, .. })));
        outer.set_limit(901);
        assert!(budget.realloc(block, bytes(900), 902).is_null());
        assert!(
            matches!(last_refusal(), Some(BudgetError::Exceeded { budget: "outer", asker: Some("c"), asked: 2, .. })),
            "{:?}",
            last_refusal()
        );
        assert_eq!((budget.used(), outer.used()), (900, 900));
        assert!(budget.realloc(block, bytes(900), usize::MAX / 4).is_null());
        assert!((0..100).all(|at| block.add(at).read() == 7));
        let block = budget.realloc(block, bytes(900), 40);
        assert_eq!((budget.used(), outer.used(), budget.peak()), (40, 40, 900));
        assert!(budget.alloc(bytes(961)).is_null());
        let zero = budget.alloc_zeroed(bytes(861));
        assert!((0..861).all(|at| zero.add(at).read() == 0));
        assert_eq!(outer.remaining(), 0);
        budget.dealloc(block, bytes(40));
        budget.dealloc(zero, bytes(861));
    }
    assert_eq!((budget.used(), outer.used()), (0, 0));
}

#[test]
fn sizes_at_the_end_of_the_numbers_are_refused_and_do_not_wrap() {
    let all = Budget::new("all", usize::MAX, Homing::new());
    let block = all.try_allocate(bytes(64)).unwrap();
    let largest = Layout::from_size_align(isize::MAX as usize - 7, 8).unwrap();
    assert!(matches!(all.try_allocate(largest), Err(BudgetError::Inner { .. })));
    assert_eq!((all.used(), all.remaining()), (64, usize::MAX - 64));
    let tight = Budget::new("tight", isize::MAX as usize, &all);
    let held = tight.try_allocate(bytes(100)).unwrap();
    assert!(matches!(tight.try_allocate(largest), Err(BudgetError::Exceeded { budget: "tight", .. })));
    free(&tight, held, bytes(100));
    free(&all, block, bytes(64));
    assert_eq!((all.used(), tight.used()), (0, 0));
}

#[test]
fn a_limit_that_is_lowered_below_the_use_refuses_until_enough_was_freed() {
    let budget = Budget::new("lowered", 1000, Homing::new());
    let blocks = [300, 300, 300].map(|size| budget.try_allocate(bytes(size)).unwrap());
    budget.set_limit(500);
    assert_eq!((budget.limit(), budget.used(), budget.remaining(), budget.stats().limit), (500, 900, 0, 500));
    assert!(budget.try_allocate(bytes(1)).is_err());
    // Nothing is asked for; that is not too much.
    free(&budget, budget.try_allocate(bytes(0)).unwrap(), bytes(0));
    free(&budget, blocks[0], bytes(300));
    let error = budget.try_allocate(bytes(1)).unwrap_err();
    assert!(matches!(error, BudgetError::Exceeded { used: 600, limit: 500, .. }), "{error:?}");
    free(&budget, blocks[1], bytes(300));
    let last = budget.try_allocate(bytes(200)).unwrap();
    assert!(budget.try_allocate(bytes(1)).is_err());
    budget.set_limit(501);
    free(&budget, budget.try_allocate(bytes(1)).unwrap(), bytes(1));
    free(&budget, last, bytes(200));
    free(&budget, blocks[2], bytes(300));
}

#[test]
fn bytes_are_left_again_only_once_the_allocator_inside_has_them_back() {
    static SEEN: Mutex<Option<(usize, usize)>> = Mutex::new(None);
    static BUDGET: Budget<Looks> = Budget::new("looked at", 1000, Looks);
    struct Looks;

    // SAFETY: passes on to `Homing`.
    unsafe impl Allocator for Looks {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            Homing::new().allocate(layout)
        }

        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            *SEEN.lock().unwrap() = Some((BUDGET.used(), BUDGET.remaining()));
            // SAFETY: the caller's promise.
            unsafe { Homing::new().deallocate(block, layout) };
        }
    }

    // SAFETY: passes on to `Homing`.
    unsafe impl GlobalAlloc for Looks {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            // SAFETY: the caller's promise.
            unsafe { Homing::new().alloc(layout) }
        }

        unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
            *SEEN.lock().unwrap() = Some((BUDGET.used(), BUDGET.remaining()));
            // SAFETY: the caller's promise.
            unsafe { Homing::new().dealloc(block, layout) };
        }
    }

    free(&&BUDGET, BUDGET.try_allocate(bytes(300)).unwrap(), bytes(300));
    assert_eq!(SEEN.lock().unwrap().take(), Some((0, 700)));
    // SAFETY: the size is not 0, and the block is given back once.
    unsafe { BUDGET.dealloc(BUDGET.alloc(bytes(400)), bytes(400)) };
    assert_eq!(SEEN.lock().unwrap().take(), Some((0, 600)));
    assert_eq!(BUDGET.remaining(), 1000);
}

#[test]
fn an_allocator_inside_is_dropped_once_however_the_budget_was_made() {
    struct Counted<'a>(&'a AtomicUsize, Homing);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    // SAFETY: passes on to `Homing`.
    unsafe impl Allocator for Counted<'_> {
        fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
            self.1.allocate(layout)
        }

        unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
            // SAFETY: the caller's promise.
            unsafe { self.1.deallocate(block, layout) };
        }
    }
    let drops = AtomicUsize::new(0);
    let told = std::sync::Arc::new(AtomicUsize::new(0));
    let teller = told.clone();
    let budget = Budget::new("dropped", 100, Counted(&drops, Homing::new()));
    let id = budget.id();
    let budget = budget.with_soft_limit(10, move |_: &SoftLimit| {
        teller.fetch_add(1, SeqCst);
    });
    assert_eq!((drops.load(SeqCst), budget.id(), budget.name(), budget.limit()), (0, id, "dropped", 100));
    let numbers: Vec<u8, _> = Vec::with_capacity_in(50, budget);
    assert_eq!((told.load(SeqCst), std::sync::Arc::strong_count(&told)), (1, 2));
    drop(numbers);
    assert_eq!((drops.load(SeqCst), std::sync::Arc::strong_count(&told)), (1, 1));
}

/// Fills a vector, boxes and a map from it, and gives the bytes that it had in use with all of them there.
fn use_collections<A: Allocator>(budget: &Budget<A>) -> usize {
    let mut numbers = Vec::new_in(budget);
    numbers.extend(0..1000_u64);
    assert_eq!(budget.used(), numbers.capacity() * 8);
    let boxed = Box::new_in([1_u8; 333], budget);
    assert_eq!(budget.used(), numbers.capacity() * 8 + 333);
    let empty = Box::new_in((), budget);
    let mut map = hashbrown::HashMap::with_hasher_in(RandomState::new(), budget);
    for number in numbers.iter().copied() {
        map.insert(number, Box::new_in(number, budget));
    }
    assert!((0..1000).all(|number| *map[&number] == number));
    let used = budget.used();
    assert_eq!(used, numbers.capacity() * 8 + 333 + 8000 + map.allocation_size());
    for number in 0..500 {
        map.remove(&number);
    }
    assert_eq!(used - budget.used(), 4000);
    map.shrink_to_fit();
    drop((numbers, boxed, empty, map));
    used
}

#[test]
fn collections_in_a_budget_are_charged_for_what_they_have_and_refused_what_is_too_much() {
    let homing = Budget::new("homing", 1 << 20, Homing::new());
    let node = Budget::new("node", 1 << 20, NodeAlloc::here().unwrap());
    let nested = Budget::new("nested", 1 << 20, &homing);
    let uses = [use_collections(&homing), use_collections(&node), use_collections(&nested)];
    assert!(uses.iter().all(|used| (16_000..200_000).contains(used)), "{uses:?}");
    assert_eq!([homing.used(), node.used(), nested.used()], [0; 3]);

    let small = Budget::new("small", 1000, NodeAlloc::here().unwrap());
    let mut map = hashbrown::HashMap::<u64, u64, _, _>::with_hasher_in(RandomState::new(), &small);
    assert!(map.try_reserve(10_000).is_err());
    assert!(matches!(last_refusal(), Some(BudgetError::Exceeded { budget: "small", used: 0, limit: 1000, .. })));
    let mut numbers = Vec::<u8, _>::new_in(&small);
    numbers.try_reserve_exact(1000).unwrap();
    assert!(numbers.try_reserve_exact(1001).is_err());
    assert!(Box::try_new_in(1_u8, &small).is_err());
    assert_eq!(small.stats().refusals, 3);
}

#[test]
fn blocks_of_a_budget_on_a_node_lie_there() {
    let node = NodeAlloc::here().unwrap();
    let budget = Budget::new("node", 1 << 20, node);
    let numbers: Vec<u8, _> = Vec::with_capacity_in(100_000, &budget);
    // SAFETY: a live block.
    assert_eq!(unsafe { homing::node_of(numbers.as_ptr()) }, Some(node.node()));
}

#[test]
fn what_one_thread_is_refused_another_is_not_told() {
    let budget = Budget::new("own", 10, Homing::new());
    assert!(budget.try_allocate(bytes(11)).is_err());
    let mine = last_refusal();
    thread::scope(|scope| {
        scope.spawn(|| {
            assert_eq!(last_refusal(), None);
            assert!(budget.try_allocate(bytes(12)).is_err());
        });
    });
    assert_eq!(last_refusal(), mine);
    assert!(matches!(mine, Some(BudgetError::Exceeded { asked: 11, .. })));
}

#[test]
fn errors_say_who_asked_for_how_much_of_what_and_what_to_do() {
    let outer = Budget::new("outer", 1, Watching::default());
    let inner = Budget::new("inner", 1, &outer);
    let held = inner.try_allocate(Layout::new::<u8>()).unwrap();
    assert_eq!(
        outer.try_allocate(Layout::new::<u8>()).unwrap_err().to_string(),
        "budget `outer` refuses 1 byte (aligned to 1), with 1 of 1 byte in use; free some, or raise its limit"
    );
    inner.set_limit(100);
    outer.inner().refuses.store(true, SeqCst);
    outer.set_limit(50);
    assert_eq!(
        inner.try_allocate(bytes(2)).unwrap_err().to_string(),
        "budget `outer` has room for 2 bytes (aligned to 8) asked of budget `inner`, with 1 of 50 bytes in use, but its \
         allocator has no memory for them; free some, or ask for less"
    );
    let text = format!("{inner:?}");
    assert!(text.contains("\"inner\"") && text.contains("used: 1"), "{text}");
    free(&inner, held, Layout::new::<u8>());
}
