//! A budget as the program's global allocator: the test harness, its threads and all they allocate are in it.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use homing::{Budget, BudgetError, Homing, SoftLimit, last_refusal};

const LIMIT: usize = 256 << 20;
const SOFT: usize = 64 << 20;

#[global_allocator]
static GLOBAL: Budget<Homing> = Budget::new("program", LIMIT, Homing::new()).with_soft_limit(SOFT, note);

static CALLS: AtomicUsize = AtomicUsize::new(0);

/// Allocates, which in a program's global allocator is easily done without meaning to.
fn note(news: &SoftLimit) {
    let text = format!("{} bytes of {} are in use", news.used, news.limit);
    assert!(text.len() > 20);
    CALLS.fetch_add(1, SeqCst);
}

/// Figures are the whole process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

#[test]
fn a_programs_requests_over_its_budget_fail_and_it_goes_on() {
    let _alone = alone();
    let before = GLOBAL.used();
    assert!(before > 0, "the harness has allocated");
    let mut vec: Vec<u8> = Vec::new();
    assert!(vec.try_reserve_exact(LIMIT).is_err());
    assert!(matches!(
        last_refusal(),
        Some(BudgetError::Exceeded { budget: "program", asker: None, asked: LIMIT, limit: LIMIT, .. })
    ));
    vec.try_reserve_exact(10 << 20).unwrap();
    // The harness may have given some back meanwhile.
    assert!(GLOBAL.used() >= 10 << 20);
    vec.resize(10 << 20, 7);
    assert!(vec.try_reserve_exact(LIMIT).is_err());
    assert!(vec.iter().all(|byte| *byte == 7));
    drop(vec);
    assert!(GLOBAL.used() < before + (1 << 20), "{} bytes are left of {before}", GLOBAL.used());
    assert!(GLOBAL.peak() <= LIMIT);
}

#[test]
fn the_soft_limit_of_a_program_is_told_to_code_that_allocates() {
    let _alone = alone();
    let before = CALLS.load(SeqCst);
    for round in 1..=3 {
        drop(vec![1_u8; SOFT]);
        assert_eq!(CALLS.load(SeqCst), before + round);
    }
}

#[test]
fn threads_that_come_and_go_leave_a_programs_budget_as_it_was() {
    let _alone = alone();
    let work = || {
        for size in (1..20_000).step_by(97) {
            let mut text = vec![0_u8; size];
            text.resize(size * 2, 1);
            text.truncate(size / 2);
            text.shrink_to_fit();
        }
    };
    let round = || (0..8).map(|_| thread::spawn(work)).for_each(|thread| thread.join().unwrap());
    round();
    let before = GLOBAL.used();
    for _ in 0..20 {
        round();
    }
    // The runtime's own: a handful of bytes a thread may come and go with the harness's messages.
    assert!(GLOBAL.used().abs_diff(before) < 64 << 10, "{} bytes now, {before} before", GLOBAL.used());
}

#[test]
fn a_child_of_the_programs_budget_is_held_to_both() {
    let _alone = alone();
    static CHILD: Budget<&Budget<Homing>> = Budget::new("part", 1 << 20, &GLOBAL);
    let layout = Layout::from_size_align(1 << 19, 16).unwrap();
    let before = GLOBAL.used();
    // SAFETY: sizes are not 0, and the block is given back with the layout that it had last.
    unsafe {
        let block = CHILD.alloc_zeroed(layout);
        assert!(!block.is_null());
        // The harness may have freed a little meanwhile.
        assert!(GLOBAL.used() >= before + (1 << 18));
        assert!(CHILD.alloc(Layout::from_size_align((1 << 19) + 1, 1).unwrap()).is_null());
        assert!(matches!(last_refusal(), Some(BudgetError::Exceeded { budget: "part", .. })));
        CHILD.set_limit(usize::MAX);
        assert!(CHILD.realloc(block, layout, LIMIT).is_null());
        assert!(matches!(last_refusal(), Some(BudgetError::Exceeded { budget: "program", asker: Some("part"), .. })));
        CHILD.dealloc(block, layout);
    }
    assert_eq!(CHILD.used(), 0);
}
