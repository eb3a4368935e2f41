//! Each setting, under an unmodified C program: in the environment, and given to the launcher.

mod support;

use support::settings::{CHECKS, Check, ENVIRONMENT_CHECKS};
use support::{Outcome, compiled, homing_run, preloaded, run};

fn by_environment(operation: &str, settings: &[(&str, &str)]) -> Outcome {
    run(preloaded(compiled("probe.c", &[])).arg(operation).envs(settings.iter().copied()))
}

fn by_launcher(operation: &str, settings: &[(&str, &str)]) -> Outcome {
    let set = settings.iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]);
    run(homing_run(set).arg("--").arg(compiled("probe.c", &[])).arg(operation))
}

fn by_environment_of_launcher(operation: &str, settings: &[(&str, &str)]) -> Outcome {
    run(homing_run([compiled("probe.c", &[])]).arg(operation).envs(settings.iter().copied()))
}

macro_rules! checks {
    ($($name:ident)*) => {
        $(mod $name {
            #[test]
            fn in_the_environment() {
                super::check(super::CHECKS, stringify!($name), &super::by_environment);
            }

            #[test]
            fn given_to_the_launcher() {
                super::check(super::CHECKS, stringify!($name), &super::by_launcher);
            }
        })*

        #[test]
        fn every_check_is_listed_here() {
            assert_eq!(CHECKS.iter().map(|(name, _)| *name).collect::<Vec<_>>(), [$(stringify!($name)),*]);
        }
    };
}

fn check(among: &[Check], name: &str, probe: support::settings::Probe) {
    let (_, check) = among.iter().find(|(other, _)| *other == name).expect("the check exists");
    check(probe);
}

checks! {
    pool_size_is_resident_from_the_start
    pool_limit_fails_requests_and_frees_make_room
    pool_limit_0_is_no_limit
    pool_limit_holds_what_the_pool_keeps_and_mappings_together
    an_empty_value_is_as_good_as_none
    overflow_abort_ends_the_process_with_one_line
    overflow_spill_with_one_node_fails_but_does_not_abort
    zero_off_hands_out_old_bytes
    zero_alloc_clears_what_is_handed_out
    zero_free_clears_what_is_freed
    purge_delay_0_gives_back_at_once
    purge_delay_never_keeps_all
    verbose_says_one_line_with_every_setting
    stats_exit_writes_a_summary
    policy_of_a_missing_node_is_one_line
}

#[test]
fn an_unknown_key_is_one_line() {
    check(ENVIRONMENT_CHECKS, "an_unknown_key_is_one_line", &by_environment);
    check(ENVIRONMENT_CHECKS, "an_unknown_key_is_one_line", &by_environment_of_launcher);
}

#[test]
fn a_bad_value_is_one_line_and_the_default_holds() {
    check(ENVIRONMENT_CHECKS, "a_bad_value_is_one_line_and_the_default_holds", &by_environment);
    check(ENVIRONMENT_CHECKS, "a_bad_value_is_one_line_and_the_default_holds", &by_environment_of_launcher);
}

#[test]
fn the_launcher_wins_over_the_environment() {
    let mut command = homing_run(["--set", "verbose=1", "--set", "zero=free", "--"]);
    command.arg(compiled("probe.c", &[])).arg("nothing").env("HOMING_ZERO", "alloc");
    let said = run(&mut command).succeeded();
    assert!(said.only_line().contains("zero free"), "{said:?}");
}

#[test]
fn a_pool_size_beyond_the_limit_is_one_line_and_the_limit_holds() {
    let settings = [("HOMING_POOL_SIZE", "128M"), ("HOMING_POOL_LIMIT", "16M")];
    let outcome = by_environment("resident", &settings).succeeded();
    assert!(outcome.only_line().contains("HOMING_POOL_LIMIT 16.0 MiB"), "{outcome:?}");
    assert!(outcome.number("resident") < 64 << 20, "{outcome:?}");
}
