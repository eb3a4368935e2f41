//! The launcher: what it hands to the program, what it refuses, and what is left of the program's own.

mod support;

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use support::{command, compiled, copied, homing_run, launcher, library, run, scratch};

/// The program that shows what it was given.
fn shows() -> PathBuf {
    compiled("shows.c", &[])
}

fn script(folder: &Path, name: &str, text: &str) -> PathBuf {
    let draft = folder.join(format!("{name}.draft"));
    std::fs::write(&draft, text).unwrap();
    let file = copied(draft, folder.join(name));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    file
}

#[test]
fn no_arguments_are_answered_with_the_usage_and_2() {
    let outcome = run(&mut command(launcher()));
    assert_eq!(outcome.status, Some(2));
    assert!(outcome.err.starts_with("Usage: homing run "), "{outcome:?}");
    assert_eq!(outcome.out, "");
}

#[test]
fn help_lists_every_setting_and_version_is_the_package_s() {
    for arguments in [&["--help"][..], &["-h"], &["run", "--help"], &["run", "-h"], &["help"]] {
        let help = run(command(launcher()).args(arguments)).silent();
        for key in [
            "pool_size",
            "pool_limit",
            "overflow",
            "zero",
            "policy",
            "large=",
            "purge_delay",
            "background",
            "bump_size",
            "bump_zero",
            "bump_overflow",
            "bump_limit",
            "stats",
            "verbose",
            "--report",
            "--set",
        ] {
            assert!(help.out.contains(key), "{arguments:?}: {key}");
        }
        assert!(help.out.lines().all(|line| line.len() <= 100), "{arguments:?}: lines fit a terminal");
    }
    let version = run(command(launcher()).arg("--version")).silent();
    assert_eq!(version.out, format!("homing {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_one_reason_and_2() {
    for (arguments, part) in [
        (&["walk"][..], "walk"),
        (&["--fast"], "--fast"),
        (&["run"], "which program"),
        (&["run", "--report"], "which program"),
        (&["run", "--fast", "true"], "--fast"),
        (&["run", "--set"], "--set"),
        (&["run", "--set", "pool_size", "true"], "KEY=VALUE"),
        (&["run", "--set", "pool_sizes=64M", "true"], "no such setting"),
        (&["run", "--set", "pool_size=lots", "true"], "wants a size"),
        (&["run", "--set", "HOMING_OVERFLOW=explode", "true"], "spill, fail or abort"),
        (&["run", "--set", "=1", "true"], "no such setting"),
        (&["run", "--set", "report=1:2", "true"], "--report"),
        (&["run", "--report=yes", "true"], "--report"),
    ] {
        let outcome = run(command(launcher()).args(arguments));
        assert_eq!(outcome.status, Some(2), "{arguments:?}: {outcome:?}");
        assert!(outcome.err.starts_with("homing: ") && outcome.lines()[0].contains(part), "{arguments:?}: {outcome:?}");
        assert_eq!(outcome.out, "", "the program must not run");
    }
}

#[test]
fn a_setting_that_is_no_text_is_refused() {
    let value = std::ffi::OsStr::from_bytes(b"pool_size=\xff");
    let outcome = run(homing_run(["--set"]).arg(value).arg("true"));
    assert_eq!(outcome.status, Some(2), "{outcome:?}");
}

#[test]
fn keys_are_taken_in_either_case_with_and_without_prefix_and_the_last_wins() {
    let shows = shows();
    for (key, name) in [
        ("pool_size", "HOMING_POOL_SIZE"),
        ("POOL_SIZE", "HOMING_POOL_SIZE"),
        ("HOMING_POOL_SIZE", "HOMING_POOL_SIZE"),
        ("homing_Pool_Size", "HOMING_POOL_SIZE"),
    ] {
        let outcome = run(homing_run(["--set", &format!("{key}=3M"), "-s", "zero=alloc"]).arg(&shows)).silent();
        assert!(outcome.out.lines().any(|line| line == format!("{name}=3M")), "{key}: {outcome:?}");
        assert!(outcome.out.lines().any(|line| line == "HOMING_ZERO=alloc"), "{key}: {outcome:?}");
    }
    let outcome = run(homing_run(["--set=zero=alloc", "--set=zero=free"]).arg(&shows)).silent();
    assert!(outcome.out.lines().any(|line| line == "HOMING_ZERO=free"), "{outcome:?}");
}

#[test]
fn a_setting_without_a_value_takes_the_environments_away() {
    let mut command = homing_run(["--set", "zero=", "--set", "debug="]);
    let outcome = run(command.arg(shows()).env("HOMING_ZERO", "free").env("HOMING_DEBUG", "1")).silent();
    assert!(
        ["HOMING_ZERO=", "HOMING_DEBUG="].iter().all(|line| outcome.out.lines().any(|other| other == *line)),
        "{outcome:?}"
    );
}

#[test]
fn the_program_runs_on_the_allocator() {
    let plain = run(command(shows()).arg("x")).silent();
    assert!(!plain.out.contains("libhoming_preload.so"), "{plain:?}");
    let outcome = run(homing_run([shows()]).arg("x")).silent();
    let file = format!("malloc: {}", library().canonicalize().unwrap().display());
    assert!(outcome.out.lines().any(|line| line == file), "{outcome:?}");
}

#[test]
fn arguments_reach_the_program_byte_for_byte() {
    let words = [
        "--set", "zero=bad", "--report", "-h", "--help", "--", "-", "", "a b", "it's", "\"q\"", "$HOME", "*", "a\nb",
        "\\",
    ];
    for lead in [&[][..], &["--"]] {
        let outcome = run(homing_run(lead).arg(shows()).args(words)).silent();
        let wanted: Vec<String> = words.iter().map(|word| format!("argument: [{word}]")).collect();
        assert!(outcome.out.contains(&format!("{}\n", wanted.join("\n"))), "{outcome:?}");
    }
    let raw = run(homing_run([shows()]).arg(std::ffi::OsStr::from_bytes(b"\xff\xfe")));
    assert_eq!(raw.number("length"), 2, "what is no text is passed, too");
}

#[test]
fn a_program_whose_name_begins_with_a_dash_is_run_after_two_dashes() {
    let folder = scratch("dashes");
    copied(shows(), folder.join("--report"));
    let outcome = run(homing_run(["--", "--report"]).env("PATH", &folder)).silent();
    assert!(outcome.out.contains("name: [--report]\n"), "argv[0] is what was typed: {outcome:?}");
}

#[test]
fn the_exit_status_is_the_program_s() {
    for status in ["0", "1", "42", "255"] {
        let outcome = run(homing_run([shows()]).args(["exit", status]));
        assert_eq!(outcome.status, status.parse().ok());
    }
}

#[test]
fn a_signal_ends_the_program_and_is_seen_from_outside() {
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGABRT, libc::SIGPIPE] {
        let outcome = run(homing_run([shows()]).args(["signal", &signal.to_string()]));
        assert_eq!(outcome.signal, Some(signal), "{outcome:?}");
    }
}

#[test]
fn the_program_has_the_launcher_s_process_id() {
    let mut child = homing_run([shows()]).arg("x").stdout(std::process::Stdio::piped()).spawn().unwrap();
    let id = child.id();
    let mut out = String::new();
    std::io::Read::read_to_string(child.stdout.as_mut().unwrap(), &mut out).unwrap();
    assert!(child.wait().unwrap().success());
    assert!(out.contains(&format!("process={id}\n")), "{out}");
}

#[test]
fn other_preloaded_objects_stay_behind_ours() {
    let ours = library().canonicalize().unwrap().display().to_string();
    let other = "libm.so.6";
    for before in [other.to_owned(), format!("{other}:"), format!("{ours}:{other}"), format!("{other} {ours}")] {
        let outcome = run(homing_run([shows()]).env("LD_PRELOAD", &before)).silent();
        let wanted = format!("LD_PRELOAD={ours}:{other}");
        assert!(outcome.out.lines().any(|line| line == wanted), "{before}: {outcome:?}");
    }
    let outcome = run(&mut homing_run([shows()])).silent();
    assert!(outcome.out.lines().any(|line| line == format!("LD_PRELOAD={ours}")), "{outcome:?}");
}

#[test]
fn a_launcher_within_a_launcher_preloads_once() {
    let outcome = run(homing_run([launcher()]).arg("run").arg(shows())).silent();
    assert_eq!(outcome.out.matches("libhoming_preload.so").count(), 2, "once listed, once found: {outcome:?}");
}

#[test]
fn programs_are_found_as_execvp_finds_them() {
    let folder = scratch("path");
    let (first, second) = (folder.join("first"), folder.join("second"));
    for part in [&first, &second] {
        std::fs::create_dir(part).unwrap();
    }
    std::fs::write(first.join("tool"), "not executable").unwrap();
    std::fs::create_dir(first.join("folder")).unwrap();
    copied(shows(), second.join("tool"));
    let path = format!("{}:{}", first.display(), second.display());
    // What cannot be executed is passed over.
    let outcome = run(homing_run(["tool"]).env("PATH", &path)).silent();
    assert!(outcome.out.contains("name: [tool]\n"), "{outcome:?}");
    // An empty element is the working directory.
    run(homing_run(["tool"]).env("PATH", "/nowhere::").current_dir(&second)).silent();
    run(homing_run(["./tool"]).env("PATH", "/nowhere").current_dir(&second)).silent();
    let statuses = [
        ("tool", 126),
        ("folder", 126),
        ("none", 127),
        ("", 127),
        ("./none", 127),
        ("./tool/x", 127),
        ("./tool", 126),
        (".", 126),
    ];
    for (program, status) in statuses {
        let outcome = run(homing_run(["--", program]).env("PATH", &first).current_dir(&first));
        assert_eq!(outcome.status, Some(status), "{program}: {outcome:?}");
        assert!(outcome.only_line().starts_with("homing: "), "{outcome:?}");
    }
}

#[test]
fn a_static_program_is_refused_with_the_reason() {
    for options in [&["-static"][..], &["-static-pie"]] {
        let program = compiled("static.c", options);
        assert_eq!(run(&mut command(&program)).status, Some(0));
        let outcome = run(&mut homing_run([&program]));
        assert_eq!(outcome.status, Some(126), "{outcome:?}");
        assert!(outcome.only_line().contains("statically linked"), "{outcome:?}");
    }
}

#[test]
fn scripts_are_run_and_their_interpreter_is_looked_at() {
    let folder = scratch("scripts");
    let run_script = |name: &str, text: &str| run(&mut homing_run([script(&folder, name, text)]));
    let tool = shows().display().to_string();
    let plain = run_script("plain", &format!("#!/bin/sh\nexec {tool} a\n")).silent();
    assert!(plain.out.contains("libhoming_preload.so"), "{plain:?}");
    let spaced = run_script("spaced", &format!("#! \t{tool} -x y\n")).silent();
    assert!(spaced.out.contains("argument: [-x y]\n") && spaced.out.contains("libhoming_preload.so"), "{spaced:?}");
    // The shell runs what begins with nothing known, as with `execvp`.
    let bare = run_script("bare", &format!("exec {tool} a\n")).silent();
    assert!(bare.out.contains("argument: [a]\n"), "{bare:?}");
    let fixed = compiled("static.c", &["-static"]).display().to_string();
    let refused = run_script("fixed", &format!("#!{fixed}\n"));
    assert_eq!(refused.status, Some(126), "{refused:?}");
    assert!(refused.only_line().contains("fixed") && refused.only_line().contains("statically linked"), "{refused:?}");
    let nested = script(&folder, "nested", &format!("#!{}\n", folder.join("fixed").display()));
    let refused = run(&mut homing_run([nested]));
    assert_eq!(refused.status, Some(126), "{refused:?}");
    let lost = run_script("lost", "#!/nowhere/at/all\n");
    assert_eq!(lost.status, Some(126), "{lost:?}");
    assert!(lost.only_line().contains("lost"), "{lost:?}");
    let endless = folder.join("endless");
    script(&folder, "endless", &format!("#!{}\n", endless.display()));
    assert_eq!(run(&mut homing_run([endless])).status, Some(126));
}

#[test]
fn a_program_with_privileges_of_its_own_is_refused_with_the_reason() {
    const NOBODY: u32 = 65534;
    let folder = scratch("set-user-id");
    for (mode, user, group) in [(0o4755, Some(NOBODY), None), (0o2755, None, Some(NOBODY))] {
        let program = folder.join(format!("program-{mode:o}"));
        copied(shows(), &program);
        if std::os::unix::fs::chown(&program, user, group).is_err() {
            eprintln!("left out: only the super-user can give files away");
            return;
        }
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(mode)).unwrap();
        let outcome = run(&mut homing_run([&program]));
        assert_eq!(outcome.status, Some(126), "{outcome:?}");
        assert!(outcome.only_line().contains("set-user-ID"), "{outcome:?}");
    }
    // With the caller's own identity nothing is gained, and the dynamic linker preloads.
    let own = folder.join("own");
    copied(shows(), &own);
    std::fs::set_permissions(&own, std::fs::Permissions::from_mode(0o4755)).unwrap();
    assert!(run(&mut homing_run([&own])).silent().out.contains("malloc: /"));
}

/// A copy of the launcher in a folder, with the shared object at that place from it.
fn installed(folder: &Path, place: Option<&str>) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let copy = copied(launcher(), folder.join("homing"));
    if let Some(place) = place {
        let place = folder.join(place);
        std::fs::create_dir_all(&place).unwrap();
        copied(library(), place.join("libhoming_preload.so"));
    }
    copy
}

#[test]
fn the_shared_object_is_found_beside_the_launcher_in_deps_and_in_lib() {
    let folder = scratch("places");
    for (number, place) in [".", "deps", "../lib"].into_iter().enumerate() {
        let bin = folder.join(number.to_string()).join("bin");
        let copy = installed(&bin, Some(place));
        let found = bin.join(place).join("libhoming_preload.so").canonicalize().unwrap();
        let outcome = run(command(&copy).arg("run").arg(shows())).silent();
        assert!(outcome.out.contains(&format!("malloc: {}\n", found.display())), "{place}: {outcome:?}");
        // Through a link from elsewhere, too.
        let link = folder.join(format!("link-{number}"));
        symlink(&copy, &link).unwrap();
        let outcome = run(command(&link).arg("run").arg(shows())).silent();
        assert!(outcome.out.contains(&format!("malloc: {}\n", found.display())), "{place}: {outcome:?}");
    }
}

#[test]
fn a_shared_object_that_cannot_be_used_is_said_and_the_program_does_not_run() {
    let folder = scratch("unusable");
    let missing = run(command(installed(&folder.join("missing"), None)).arg("run").arg(shows()));
    assert_eq!(missing.status, Some(125), "{missing:?}");
    assert!(missing.only_line().contains("libhoming_preload.so is not in"), "{missing:?}");
    for name in ["with space", "with:colon", "with$ORIGIN"] {
        let outcome = run(command(installed(&folder.join(name), Some("."))).arg("run").arg(shows()));
        assert_eq!(outcome.status, Some(125), "{outcome:?}");
        assert!(outcome.only_line().contains("LD_PRELOAD"), "{outcome:?}");
        assert_eq!(outcome.out, "");
    }
}

#[test]
fn settings_around_the_launcher_do_not_confuse_it() {
    let mut command = homing_run([shows()]);
    command.envs([("HOMING_NONSENSE", "1"), ("HOMING_REPORT", "not a report"), ("HOMING_POOL_SIZE", "lots")]);
    let outcome = run(&mut command).succeeded();
    assert_eq!(outcome.lines().len(), 3, "the program's allocator says one line each, the launcher none: {outcome:?}");
    let version = run(support::command(launcher()).arg("--version").env("HOMING_NONSENSE", "1")).silent();
    assert!(version.out.starts_with("homing "));
}

const REPORT: [&str; 4] = ["blocks handed out", "bytes handed out", "node ", "resident memory"];

fn count(text: &str, part: &str) -> usize {
    text.lines().filter(|line| line.contains(part)).count()
}

#[test]
fn a_report_is_written_once_at_the_exit() {
    let outcome = run(homing_run(["--report"]).arg(shows()).args(["exit", "3"]));
    assert_eq!(outcome.status, Some(3));
    for part in REPORT {
        assert_eq!(count(&outcome.err, part), 1, "{part}: {outcome:?}");
    }
    run(homing_run([shows()]).args(["exit", "0"])).silent();
}

#[test]
fn a_program_that_closes_its_standard_error_still_reports() {
    let outcome = run(homing_run(["--report"]).arg(shows()).arg("close-stderr"));
    assert_eq!(outcome.status, Some(0));
    for part in REPORT {
        assert_eq!(count(&outcome.err, part), 1, "{part}: {outcome:?}");
    }
}

#[test]
fn children_of_a_reporting_program_are_silent() {
    for how in ["fork", "system"] {
        let outcome = run(homing_run(["--report"]).arg(shows()).arg(how));
        assert_eq!(outcome.status, Some(0), "{outcome:?}");
        for part in REPORT {
            assert_eq!(count(&outcome.err, part), 1, "{how}: {part}: {outcome:?}");
        }
    }
}

#[test]
fn a_report_is_possible_under_a_low_limit_of_open_files() {
    let text = format!("ulimit -n 32; exec {} run --report {} exit 0", launcher().display(), shows().display());
    let outcome = run(command("/bin/sh").args(["-c", &text])).succeeded();
    assert_eq!(count(&outcome.err, "blocks handed out"), 1, "{outcome:?}");
}
