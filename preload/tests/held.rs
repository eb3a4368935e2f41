//! `mallinfo2(3)` against a program's own count of what it holds: see `c/held.c`.

mod support;

use support::{Outcome, compiled, preloaded, run};

/// In debug mode, more bytes than that are no block's record and what its size is rounded up by.
const RECORD: &str = "70000";

fn held(slack_of_block: &str, settings: &[(&str, &str)]) -> Outcome {
    run(preloaded(compiled("held.c", &["-pthread"])).arg(slack_of_block).envs(settings.iter().copied()))
}

#[test]
fn what_is_free_or_waits_to_be_used_again_does_not_count_as_in_use() {
    for settings in
        [&[][..], &[("HOMING_PURGE_DELAY", "0")], &[("HOMING_PURGE_DELAY", "never")], &[("HOMING_ZERO", "free")]]
    {
        held("0", settings).succeeded();
    }
}

#[test]
fn what_waits_in_quarantine_does_not_count_as_in_use() {
    held(RECORD, &[("HOMING_DEBUG", "1")]).succeeded();
}
