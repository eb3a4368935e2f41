//! `include/homing.h` says what the shared object has, and C programs can use it.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{command, library, run, scratch};

const HERE: &str = env!("CARGO_MANIFEST_DIR");

fn header() -> PathBuf {
    Path::new(HERE).join("include/homing.h")
}

fn made_from_the_source() -> String {
    let config = cbindgen::Config::from_file(Path::new(HERE).join("cbindgen.toml")).expect("the settings can be read");
    let source = Path::new(HERE).join("src/interface.rs");
    let bindings = cbindgen::Builder::new().with_config(config).with_src(source).generate().expect("a header");
    let mut text = Vec::new();
    bindings.write(&mut text);
    String::from_utf8(text).expect("a header is text")
}

#[test]
fn the_header_does_not_fall_behind_its_source() {
    let made = made_from_the_source();
    if std::env::var_os("HEADER_WRITE").is_some() {
        std::fs::write(header(), &made).expect("the header can be written");
    }
    let kept = std::fs::read_to_string(header()).expect("there is a header");
    assert!(kept == made, "include/homing.h is not what src/interface.rs says now: make it anew by HEADER_WRITE=1");
}

/// The names of functions that the header declares.
fn declared() -> BTreeSet<String> {
    let text = std::fs::read_to_string(header()).expect("there is a header");
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != '(');
    let names = words.filter_map(|word| word.split_once('(')).map(|(name, _)| name);
    names.filter(|name| name.starts_with("homing_")).map(str::to_owned).collect()
}

#[test]
fn the_header_declares_nothing_that_is_missing_and_misses_nothing_that_is_there() {
    let output =
        Command::new("nm").args(["--dynamic", "--defined-only"]).arg(library()).output().expect("there is an nm");
    let text = String::from_utf8(output.stdout).expect("names");
    let there: BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.split(' ').next_back())
        .filter(|name| name.starts_with("homing_"))
        .collect();
    let declared = declared();
    assert!(declared.len() > 10, "{declared:?}");
    assert_eq!(declared.iter().map(String::as_str).collect::<BTreeSet<_>>(), there);
}

/// The program made of a source by that compiler, linked with the shared object as the header says.
fn linked(compiler: &str, source: &Path, options: &[&str]) -> PathBuf {
    let library = library();
    let folder = library.parent().expect("the library lies in a folder");
    let name = source.file_stem().expect("a source has a name").to_string_lossy();
    let program = scratch(&format!("header-{name}-{compiler}{}", options.concat().replace('=', ""))).join("program");
    let output = Command::new(compiler)
        .args(["-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-pthread"])
        .args(options)
        .arg(source)
        .arg("-I")
        .arg(Path::new(HERE).join("include"))
        .arg("-L")
        .arg(folder)
        .args(["-lhoming_preload", "-ldl"])
        .arg(format!("-Wl,-rpath,{}", folder.display()))
        .arg("-o")
        .arg(&program)
        .output()
        .unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(output.status.success(), "{}: {}", source.display(), String::from_utf8_lossy(&output.stderr));
    program
}

const CHECKS: [&str; 9] =
    ["nodes", "misuse", "texts", "arenas", "checkpoints", "locals", "cleanups", "watched", "handlers"];

fn every_check_holds(compiler: &str, options: &[&str]) {
    let program = linked(compiler, &Path::new(HERE).join("tests/c/interface.c"), options);
    for check in CHECKS {
        println!("{check}");
        run(command(&program).arg(check)).silent();
    }
}

#[test]
fn a_c_program_gets_what_the_header_promises() {
    every_check_holds("cc", &["-std=gnu11"]);
}

#[test]
fn so_does_a_cplusplus_program() {
    every_check_holds("c++", &["-std=c++17", "-x", "c++"]);
}

#[test]
fn so_it_does_under_the_debug_mode_and_where_blocks_are_cleared() {
    let program = linked("cc", &Path::new(HERE).join("tests/c/interface.c"), &["-std=gnu11", "-DMODES"]);
    for (name, value) in [("HOMING_DEBUG", "1"), ("HOMING_ZERO", "free"), ("HOMING_ZERO", "alloc")] {
        // The debug mode's quarantine grows until it is full, whatever is given back.
        for check in CHECKS.into_iter().filter(|check| (name, *check) != ("HOMING_DEBUG", "cleanups")) {
            println!("{name}={value} {check}");
            run(command(&program).arg(check).env(name, value)).silent();
        }
    }
}

#[test]
fn the_example_prints_what_it_is_there_to_show() {
    let program = linked("cc", &Path::new(HERE).join("examples/requests.c"), &["-std=c11"]);
    let outcome = run(&mut command(program)).silent();
    for part in [
        "read the first line: line first the read (",
        "restored to 0 bytes: it was done",
        "restored after a reset: what came before the checkpoint was given up since; nothing was restored",
        "4 resets, 1 requests too many, at most ",
        "a block on the home node: yes",
        "a block on node 1022: this machine has no node of that number",
    ] {
        assert!(outcome.out.contains(part), "no {part:?} in\n{}", outcome.out);
    }
}
