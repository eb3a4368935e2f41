//! Random sequences of the model's steps, made smaller when they fail.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use crate::common::Verbs;
use crate::model::{ACTORS, Step, Team, run};

fn size() -> impl Strategy<Value = usize> {
    let upto = |doublings: u32| (0..doublings).prop_flat_map(|doubling| (1_usize << doubling)..=(2_usize << doubling));
    prop_oneof![
        30 => upto(11),
        30 => upto(17),
        12 => upto(22),
        1 => Just(64 << 20),
    ]
}

fn align() -> impl Strategy<Value = usize> {
    prop_oneof![
        20 => (0_u32..=4).prop_map(|shift| 1_usize << shift),
        6 => (5_u32..=16).prop_map(|shift| 1_usize << shift),
        2 => (17_u32..=22).prop_map(|shift| 1_usize << shift),
        1 => (23_u32..=27).prop_map(|shift| 1_usize << shift),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let who = || 0..ACTORS;
    let which = || 0..1_usize << 16;
    prop_oneof![
        6 => (who(), size(), align(), any::<bool>())
            .prop_map(|(who, size, align, zeroed)| Step::Allocate { who, size, align, zeroed, count: 1 }),
        3 => (who(), size(), align(), any::<bool>(), 2..700_usize).prop_map(|(who, size, align, zeroed, count)| {
            let count = count.min((4 << 20) / size.max(align).min(4 << 20)).max(1);
            Step::Allocate { who, size, align, zeroed, count }
        }),
        2 => (who(), size(), align(), any::<u8>())
            .prop_map(|(who, size, align, node)| Step::AllocateOn { who, size, align, node }),
        4 => (who(), which(), size()).prop_map(|(who, which, size)| Step::Resize { who, which, size }),
        4 => (who(), which()).prop_map(|(who, which)| Step::Free { who, which, count: 1, stride: 1 }),
        4 => (who(), which(), 1..1000_usize, 1..5_usize)
            .prop_map(|(who, which, count, stride)| Step::Free { who, which, count, stride }),
        2 => (who(), which()).prop_map(|(who, which)| Step::FreeFromNode { who, which }),
        2 => (who(), which()).prop_map(|(who, which)| Step::Read { who, which }),
        1 => (1..ACTORS).prop_map(|who| Step::Rebirth { who }),
        1 => who().prop_map(|who| Step::CleanUp { who }),
        1 => who().prop_map(|who| Step::Trim { who }),
        1 => Just(Step::Audit),
    ]
}

/// More than one sequence has ever live, so that no step is cut short.
const MOST: usize = 16 << 30;

/// Runs so many random sequences of steps; panics with the shortest that breaks a rule.
pub fn hold_the_rules<V: Verbs>(cases: u32) {
    let config = Config { cases, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let steps = proptest::collection::vec(step(), 1..150);
    TestRunner::new(config)
        .run(&steps, |steps| {
            run::<V>(&mut Team::new(), MOST, steps);
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
