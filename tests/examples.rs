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
fn basic_usage_shows_each_shape_at_work() {
    prints("basic_usage", &["pool: 1 object in it, 2 at the peak", "bump: 0 bytes in use after it", "budget: "]);
}
