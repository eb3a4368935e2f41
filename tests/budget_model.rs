//! Random sequences of requests to a nest of budgets, against a model that knows what each must say.

use std::alloc::Layout;
use std::cell::Cell;
use std::ptr::NonNull;

use allocator_api2::alloc::{AllocError, Allocator};
use homing::{Budget, BudgetError, BudgetStats, Homing, SoftLimit};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

/// One step. A block is chosen by a number, of those that are live.
#[derive(Clone, Debug)]
enum Step {
    Allocate {
        by: usize,
        size: usize,
        shift: u32,
        zeroed: bool,
    },
    Free {
        which: usize,
    },
    Grow {
        which: usize,
        more: usize,
        shift: u32,
        zeroed: bool,
    },
    Shrink {
        which: usize,
        less: usize,
    },
    SetLimit {
        of: usize,
        limit: usize,
    },
    /// The allocator inside refuses the next request that reaches it.
    Refuse,
}

/// The budgets: 0 is the outermost to the user's eye, the root; 1 is within it, 2 and 3 within that.
const BUDGETS: usize = 4;
const NAMES: [&str; BUDGETS] = ["root", "middle", "left", "right"];
const SOFT: [usize; BUDGETS] = [6000, 4000, 2000, 1];

/// From a budget to the root.
fn path(from: usize) -> &'static [usize] {
    [&[0][..], &[1, 0], &[2, 1, 0], &[3, 1, 0]][from]
}

/// What a budget ought to say of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Figures {
    used: usize,
    peak: usize,
    limit: usize,
    allocations: u64,
    refusals: u64,
    failures: u64,
    told: usize,
}

/// Who refuses: a budget, or the allocator inside.
#[derive(Debug, PartialEq)]
enum Refused {
    By(usize),
    Inside,
}

struct Model {
    figures: [Figures; BUDGETS],
    refuses: bool,
}

impl Model {
    /// What becomes of a request by way of that budget for so many bytes more.
    fn charge(&mut self, by: usize, bytes: usize, is_block: bool) -> Result<(), Refused> {
        let full = |of: &&usize| bytes > self.figures[**of].limit.saturating_sub(self.figures[**of].used);
        let refuser = path(by).iter().find(full).copied();
        let answer = match refuser {
            Some(of) => Err(Refused::By(of)),
            None if std::mem::take(&mut self.refuses) => Err(Refused::Inside),
            None => Ok(()),
        };
        for of in path(by) {
            let figures = &mut self.figures[*of];
            match answer {
                Ok(()) => {
                    let before = figures.used;
                    figures.used += bytes;
                    figures.peak = figures.peak.max(figures.used);
                    figures.allocations += u64::from(is_block);
                    figures.told += usize::from(before <= SOFT[*of] && SOFT[*of] < figures.used);
                }
                Err(Refused::By(refuser)) if refuser == *of => {
                    figures.refusals += 1;
                    break;
                }
                Err(_) => figures.failures += 1,
            }
        }
        answer
    }

    fn refund(&mut self, by: usize, bytes: usize) {
        path(by).iter().for_each(|of| self.figures[*of].used -= bytes);
    }

    /// A shrinking that fails inside: nothing has changed, and nobody is told.
    fn fail_refund(&mut self, by: usize) {
        path(by).iter().for_each(|of| self.figures[*of].failures += 1);
    }
}

/// `Homing`, but for requests that it is told to refuse.
struct Moody<'a>(&'a Cell<bool>);

impl Moody<'_> {
    fn check(&self) -> Result<Homing, AllocError> {
        if self.0.take() { Err(AllocError) } else { Ok(Homing::new()) }
    }
}

// SAFETY: passes on to `Homing`, or refuses.
unsafe impl Allocator for Moody<'_> {
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.check()?.allocate(layout)
    }

    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        self.check()?.allocate_zeroed(layout)
    }

    unsafe fn deallocate(&self, block: NonNull<u8>, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { Homing::new().deallocate(block, layout) };
    }

    unsafe fn grow(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.check()?.grow(block, old, new) }
    }

    unsafe fn grow_zeroed(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.check()?.grow_zeroed(block, old, new) }
    }

    unsafe fn shrink(&self, block: NonNull<u8>, old: Layout, new: Layout) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller's promise.
        unsafe { self.check()?.shrink(block, old, new) }
    }
}

/// A block that is live: by whom, its layout, and the byte that all of it has.
struct Live {
    by: usize,
    block: NonNull<u8>,
    layout: Layout,
    byte: u8,
}

impl Live {
    fn check(&self, upto: usize) {
        // SAFETY: the block is at least that long, and was written to.
        let is_whole = (0..upto).all(|at| unsafe { self.block.add(at).read() } == self.byte);
        assert!(is_whole, "a block of {:?} lost its contents", self.layout);
    }

    fn check_zero(&self, from: usize) {
        // SAFETY: the block is that long, and zeroed.
        let is_zero = (from..self.layout.size()).all(|at| unsafe { self.block.add(at).read() } == 0);
        assert!(is_zero, "a block of {:?} is not zero from {from} on", self.layout);
    }

    fn fill(&mut self, byte: u8) {
        self.byte = byte;
        // SAFETY: the block is that long.
        unsafe { self.block.write_bytes(byte, self.layout.size()) };
    }
}

/// Whether the error is the one that the model expects of a request by way of `by`.
fn check_error(error: BudgetError, by: usize, refused: &Refused, bytes: usize, figures: &[Figures; BUDGETS]) {
    let of = match refused {
        Refused::By(of) => *of,
        Refused::Inside => 0,
    };
    let wanted = (NAMES[of], (of != by).then_some(NAMES[by]), bytes, figures[of].used, figures[of].limit);
    match (error, refused) {
        (BudgetError::Exceeded { budget, asker, asked, used, limit, .. }, Refused::By(_))
        | (BudgetError::Inner { budget, asker, asked, used, limit, .. }, Refused::Inside) => {
            assert_eq!((budget, asker, asked, used, limit), wanted);
        }
        _ => panic!("{error:?}, where {refused:?} was to refuse"),
    }
}

fn run(limits: [usize; BUDGETS], steps: &[Step]) {
    let refuses = Cell::new(false);
    let told = [const { Cell::new(0) }; BUDGETS];
    let tell = |of: usize| {
        let told = &told[of];
        move |_: &SoftLimit| told.set(told.get() + 1)
    };
    let root = Budget::new(NAMES[0], limits[0], Moody(&refuses)).with_soft_limit(SOFT[0], tell(0));
    let middle = Budget::new(NAMES[1], limits[1], &root).with_soft_limit(SOFT[1], tell(1));
    let left = Budget::new(NAMES[2], limits[2], &middle).with_soft_limit(SOFT[2], tell(2));
    let right = Budget::new(NAMES[3], limits[3], &middle).with_soft_limit(SOFT[3], tell(3));
    let mut model = Model { figures: limits.map(|limit| Figures { limit, ..Figures::default() }), refuses: false };
    let mut live: Vec<Live> = Vec::new();

    macro_rules! by {
        ($by:expr, $budget:ident => $result:expr) => {
            match $by {
                0 => {
                    let $budget = &root;
                    $result
                }
                1 => {
                    let $budget = &middle;
                    $result
                }
                2 => {
                    let $budget = &left;
                    $result
                }
                _ => {
                    let $budget = &right;
                    $result
                }
            }
        };
    }

    for (number, step) in steps.iter().enumerate() {
        let byte = number as u8 | 1;
        match *step {
            Step::Allocate { by, size, shift, zeroed } => {
                let layout = Layout::from_size_align(size, 1 << shift).unwrap();
                let figures = model.figures;
                let wanted = model.charge(by, size, true);
                let got = by!(by, budget => if zeroed { budget.try_allocate_zeroed(layout) } else { budget.try_allocate(layout) });
                match (got, wanted) {
                    (Ok(block), Ok(())) => {
                        assert_eq!(block.len(), size);
                        let mut new = Live { by, block: block.cast(), layout, byte };
                        if zeroed {
                            new.check_zero(0);
                        }
                        new.fill(byte);
                        live.push(new);
                    }
                    (Err(error), Err(refused)) => check_error(error, by, &refused, size, &figures),
                    (got, wanted) => panic!("{step:?}: {got:?}, where {wanted:?} was to be"),
                }
            }
            Step::Free { which } if !live.is_empty() => {
                let old = live.swap_remove(which % live.len());
                old.check(old.layout.size());
                model.refund(old.by, old.layout.size());
                // SAFETY: a live block of that budget, with that layout.
                by!(old.by, budget => unsafe { budget.deallocate(old.block, old.layout) });
            }
            Step::Grow { which, more, shift, zeroed } if !live.is_empty() => {
                let index = which % live.len();
                let old = &mut live[index];
                let (by, before) = (old.by, old.layout);
                let new = Layout::from_size_align(before.size() + more, 1 << shift).unwrap();
                let figures = model.figures;
                let wanted = model.charge(by, more, false);
                // SAFETY: a live block of that budget, with that layout, which is not larger.
                let got = by!(by, budget => unsafe {
                    if zeroed {
                        budget.try_grow_zeroed(old.block, before, new)
                    } else {
                        budget.try_grow(old.block, before, new)
                    }
                });
                match (got, wanted) {
                    (Ok(block), Ok(())) => {
                        (old.block, old.layout) = (block.cast(), new);
                        assert!(old.block.addr().get().is_multiple_of(new.align()));
                        old.check(before.size());
                        if zeroed {
                            old.check_zero(before.size());
                        }
                        old.fill(byte);
                    }
                    (Err(error), Err(refused)) => {
                        check_error(error, by, &refused, more, &figures);
                        old.check(before.size());
                    }
                    (got, wanted) => panic!("{step:?}: {got:?}, where {wanted:?} was to be"),
                }
            }
            Step::Shrink { which, less } if !live.is_empty() => {
                let index = which % live.len();
                let old = &mut live[index];
                let (by, before) = (old.by, old.layout);
                let less = less % (before.size() + 1);
                let new = Layout::from_size_align(before.size() - less, before.align()).unwrap();
                let is_refused = std::mem::take(&mut model.refuses);
                // SAFETY: a live block of that budget, with that layout, which is not smaller.
                let got = by!(by, budget => unsafe { budget.try_shrink(old.block, before, new) });
                match got {
                    Ok(block) => {
                        assert!(!is_refused);
                        model.refund(by, less);
                        (old.block, old.layout) = (block.cast(), new);
                    }
                    Err(BudgetError::Inner { budget, .. }) => {
                        assert!(is_refused);
                        assert_eq!(budget, NAMES[0]);
                        model.fail_refund(by);
                    }
                    Err(error) => panic!("{step:?}: {error}"),
                }
                live[index].check(live[index].layout.size());
            }
            Step::SetLimit { of, limit } => {
                by!(of, budget => budget.set_limit(limit));
                model.figures[of].limit = limit;
            }
            Step::Refuse => {
                refuses.set(true);
                model.refuses = true;
            }
            Step::Free { .. } | Step::Grow { .. } | Step::Shrink { .. } => {}
        }
        for (of, wanted) in model.figures.iter().enumerate() {
            let BudgetStats { used, peak, limit, remaining, allocations, refusals, failures, .. } =
                by!(of, budget => budget.stats());
            let told = told[of].get();
            let got = Figures { used, peak, limit, allocations, refusals, failures, told };
            assert_eq!(got, *wanted, "{} after {step:?}", NAMES[of]);
            assert_eq!(remaining, limit.saturating_sub(used));
        }
    }
    for old in live {
        old.check(old.layout.size());
        // SAFETY: a live block of that budget, with that layout.
        by!(old.by, budget => unsafe { budget.deallocate(old.block, old.layout) });
    }
    assert_eq!([root.used(), middle.used(), left.used(), right.used()], [0; BUDGETS]);
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![4 => 0..100_usize, 4 => 0..2000_usize, 1 => 0..10_000_usize, 1 => (1_usize << 20)..(3 << 20)]
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0..1_usize << 16;
    prop_oneof![
        8 => (0..BUDGETS, size(), 0..8_u32, any::<bool>())
            .prop_map(|(by, size, shift, zeroed)| Step::Allocate { by, size, shift, zeroed }),
        5 => which().prop_map(|which| Step::Free { which }),
        4 => (which(), size(), 0..13_u32, any::<bool>())
            .prop_map(|(which, more, shift, zeroed)| Step::Grow { which, more, shift, zeroed }),
        3 => (which(), which()).prop_map(|(which, less)| Step::Shrink { which, less }),
        1 => (0..BUDGETS, 0..12_000_usize).prop_map(|(of, limit)| Step::SetLimit { of, limit }),
        1 => Just(Step::Refuse),
    ]
}

#[test]
fn no_sequence_of_requests_makes_a_nest_of_budgets_say_or_charge_anything_else_than_the_model() {
    let config = Config { cases: 400, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let limits = [0..20_000_usize, 0..10_000, 0..8000, 0..8000];
    let sequence = (limits, proptest::collection::vec(step(), 1..120));
    TestRunner::new(config)
        .run(&sequence, |(limits, steps)| {
            run(limits, &steps);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
