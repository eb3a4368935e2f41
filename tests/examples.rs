//! The examples run, and print what they are there to show.
#![cfg(feature = "allocator-api2")]

use std::process::Command;

/// What an example prints. It is built by the cargo that runs this test, with the same features.
#[track_caller]
fn printed(example: &str) -> String {
    let mut features = vec!["allocator-api2"];
    features.extend(cfg!(feature = "hardened").then_some("hardened"));
    features.extend(cfg!(feature = "portable").then_some("portable"));
    features.extend(cfg!(feature = "fault-injection").then_some("fault-injection"));
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["run", "--quiet", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    cargo.args(["--package", "homing", "--features", &features.join(","), "--example", example]);
    for (key, _) in std::env::vars_os().filter(|(key, _)| key.to_string_lossy().starts_with("HOMING_")) {
        cargo.env_remove(key);
    }
    let output = cargo.output().expect("cargo can be run");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{example}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[track_caller]
fn prints(example: &str, parts: &[&str]) {
    let text = printed(example);
    for part in parts {
        assert!(text.contains(part), "{example} does not print {part:?}:\n{text}");
    }
}

#[test]
fn basic_usage_has_each_shape_at_work() {
    prints(
        "basic_usage",
        &[
            "pool: 1 object in it, 2 at the peak; it holds [2, 2, 2, 2]",
            "bump: 8 words, the longest is \"arena\"",
            "bump: 0 bytes in use after it",
            "node pools: another thread added up 499500 and freed the numbers; 0 bytes left in use",
            "budget `numbers` refuses 8000 bytes",
        ],
    );
}

#[test]
fn global_allocator_counts_words_and_blocks() {
    prints("global_allocator", &["4 x the", "3 x block", " blocks handed out, "]);
}

#[test]
fn bump_arena_answers_requests_and_gives_up_wrong_readings() {
    prints(
        "bump_arena",
        &[
            "2 * 3 * 4 + 5 * 6 = 54",
            "7 *: not an expression",
            "4 resets; at most ",
            "restored to 4 bytes: true",
            "after a reset: stale checkpoint",
        ],
    );
}

#[test]
fn pool_for_structs_uses_places_again_and_notices_a_double_free() {
    prints(
        "pool_for_structs",
        &[
            "    60       4          4000  1625        64",
            "given back twice: double free",
            "4001 objects made, 4001 given back, 0 left",
        ],
    );
}

#[test]
fn budget_workflow_refuses_warns_and_ends_at_nothing() {
    prints(
        "budget_workflow",
        &[
            "small request: 32 KiB of its 64 in use",
            "budget `large request` refuses 8192 bytes",
            "warning: busy server uses 200 KiB of 256",
            "budget `busy server` refuses 8192 bytes (aligned to 1) asked of budget `late request`",
            "at the end: 0 bytes in use",
        ],
    );
}

#[test]
fn node_vec_has_a_vector_on_each_node() {
    prints("node_vec", &["1,000,000 numbers with the sum 499999500000"]);
}
