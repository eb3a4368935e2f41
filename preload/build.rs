//! How the shared object is linked, and how it comes to stand beside the launcher.
//!
//! `cargo run` builds the launcher only, and Cargo has no stable way to say that a program needs a shared object. So this
//! script has Cargo build it, with the same profile and features, and puts it beside the launcher.

use std::env;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

/// Set while this script's own Cargo runs it once more.
const INNER: &str = "HOMING_BUILDING_SHARED_OBJECT";

fn main() {
    for path in ["build.rs", "Cargo.toml", "src", "../src", "../Cargo.toml", "../Cargo.lock"] {
        println!("cargo::rerun-if-changed={path}");
    }
    println!("cargo::rerun-if-env-changed={INNER}");
    if env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // Threads' exit hooks lead into the object, so it must never be unloaded.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    // Its handlers for forks are to be registered before all others.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,initfirst");
    println!("cargo::rustc-cdylib-link-arg=-Wl,-soname,libhoming_preload.so");
    // Functions in the order of their names: the allocator's stand together, and a small program has few pages of the
    // standard library's in memory for them. That is GNU ld's to do.
    println!("cargo::rustc-cdylib-link-arg=-fuse-ld=bfd");
    println!("cargo::rustc-cdylib-link-arg=-Wl,--sort-section=name");
    if env::var_os(INNER).is_none() {
        build_beside_launcher();
    }
}

fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|_| panic!("Cargo sets {name} for build scripts"))
}

fn build_beside_launcher() {
    let begun = SystemTime::now();
    let out = PathBuf::from(variable("OUT_DIR"));
    let inner = out.join("shared-object");
    let release = variable("PROFILE") == "release";
    let target = variable("TARGET");
    let mut cargo = Command::new(variable("CARGO"));
    cargo.args(["build", "--lib", "--package", "homing-preload", "--target", &target]);
    cargo.arg("--manifest-path").arg(Path::new(&variable("CARGO_MANIFEST_DIR")).join("Cargo.toml"));
    cargo.arg("--target-dir").arg(&inner);
    cargo.args(release.then_some("--release"));
    for feature in ["fault-injection", "hardened", "portable"] {
        let name = format!("CARGO_FEATURE_{}", feature.to_uppercase().replace('-', "_"));
        if env::var_os(name).is_some() {
            cargo.args(["--features", feature]);
        }
    }
    // What the outer Cargo set for this script, or for the compiler it was told to use, is not meant for the inner one.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_CFG_") || name.starts_with("CARGO_FEATURE_") || name == "CARGO_MAKEFLAGS" {
            cargo.env_remove(&*name);
        }
    }
    cargo.env_remove("RUSTC_WORKSPACE_WRAPPER").env_remove("RUSTC_WRAPPER").env(INNER, "1");
    let status = cargo.status().expect("Cargo runs");
    assert!(status.success(), "the shared object could not be built: {status}");
    let built = inner.join(target).join(if release { "release" } else { "debug" }).join("libhoming_preload.so");
    // OUT_DIR is `<profile>/build/<package>/out`.
    let profile = out.ancestors().nth(3).expect("OUT_DIR lies three folders below the profile's");
    let beside = profile.join("libhoming_preload.so");
    let new = profile.join("libhoming_preload.so.new");
    // By renaming: a program may be running with the old one. Where a build with other features puts another one there, it
    // is newer than this script's last run, and Cargo runs the script again; this one must not be.
    println!("cargo::rerun-if-changed={}", beside.display());
    let put = || {
        std::fs::copy(&built, &new)?;
        File::options().write(true).open(&new)?.set_modified(begun - Duration::from_secs(2))?;
        std::fs::rename(&new, &beside)
    };
    put().expect("the shared object can be copied");
}
