//! A program that is linked with libjemalloc and uses its own functions beside `malloc` and `free`.

mod support;

use std::path::PathBuf;

use support::{command, compiled, preloaded, run};

/// The program, where there is a libjemalloc to link it with; where not, says that it was left out.
fn program() -> Option<PathBuf> {
    const PLACES: [&str; 4] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    let found = PLACES.iter().map(|folder| PathBuf::from(folder).join("libjemalloc.so.2")).find(|file| file.exists());
    if found.is_none() {
        eprintln!("SKIPPED, needs libjemalloc2");
    }
    found.map(|library| compiled("jemalloc.c", &["-Wl,--no-as-needed", &library.display().to_string()]))
}

#[test]
fn a_program_that_uses_jemallocs_own_functions_is_served_by_all_of_them() {
    let Some(program) = program() else { return };
    // It asks for no more than jemalloc itself does.
    run(&mut command(&program)).silent();
    for setting in [("HOMING_STATS", "off"), ("HOMING_DEBUG", "1"), ("HOMING_ZERO", "alloc"), ("HOMING_ZERO", "free")] {
        run(preloaded(&program).envs([setting])).silent();
    }
}
