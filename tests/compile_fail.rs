//! Programs that must not compile: each file of `tests/compile_fail`, by the compiler itself.
//!
//! A file's first line names the error that it is to be refused with, as `// error: E0502`, or as it is put where it has no
//! number. Its offending lines stand behind `#[cfg(not(allowed))]`: with `--cfg allowed` the rest must compile, so that it is
//! those that are refused, and not something else that changed.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Where Cargo has put what this test is linked with.
fn built() -> PathBuf {
    let this = std::env::current_exe().expect("this program has a file");
    this.parent().expect("it lies in a directory").to_path_buf()
}

/// The libraries of a crate that are there, newest first: one for each set of features that it was built with.
fn libraries(name: &str) -> Vec<PathBuf> {
    let prefix = format!("lib{name}-");
    let entries = std::fs::read_dir(built()).expect("the directory is there").flatten().map(|entry| entry.path());
    let is_it = |path: &PathBuf| {
        let file = path.file_name().unwrap_or_default().to_string_lossy();
        file.starts_with(&prefix) && file.ends_with(".rlib")
    };
    let mut libraries: Vec<PathBuf> = entries.filter(is_it).collect();
    libraries.sort_by_key(|path| std::cmp::Reverse(path.metadata().and_then(|data| data.modified()).ok()));
    libraries
}

/// What programs are linked with, and how.
struct Compiler {
    libraries: Vec<(&'static str, PathBuf)>,
}

impl Compiler {
    /// With the newest libraries of this test's features.
    fn new() -> Self {
        let probe = Path::new(env!("CARGO_TARGET_TMPDIR")).join("probe.rs");
        let uses = match cfg!(feature = "allocator-api2") {
            true => "allocator_api2::vec::Vec::<u8, _>::new_in(&homing::Bump::new());",
            false => "homing::Bump::new();",
        };
        std::fs::write(&probe, format!("fn main() {{ {uses} }}")).expect("it can be written");
        let others = match cfg!(feature = "allocator-api2") {
            true => libraries("allocator_api2").into_iter().map(|other| vec![("allocator_api2", other)]).collect(),
            false => vec![Vec::new()],
        };
        let pairs = libraries("homing").into_iter().flat_map(|homing| {
            others
                .iter()
                .map(move |other| Compiler { libraries: [vec![("homing", homing.clone())], other.clone()].concat() })
        });
        pairs
            .into_iter()
            .find(|compiler| compiler.compile(&probe, true).status.success())
            .expect("some libraries serve")
    }

    fn compile(&self, file: &Path, allowed: bool) -> Output {
        let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
        let mut command = Command::new(rustc);
        command.args(["--edition", "2024", "--crate-type", "bin", "--emit", "metadata", "-A", "warnings", "-o"]);
        let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file.file_stem().expect("a name"));
        command.arg(out.with_extension(if allowed { "allowed" } else { "refused" }));
        command.arg("-L").arg(format!("dependency={}", built().display()));
        for (name, library) in &self.libraries {
            command.arg("--extern").arg(format!("{name}={}", library.display()));
        }
        if cfg!(feature = "allocator-api2") {
            command.args(["--cfg", "feature=\"allocator-api2\""]);
        }
        command.args(allowed.then_some(["--cfg", "allowed"]).into_iter().flatten());
        command.arg(file).output().expect("the compiler runs")
    }
}

#[test]
fn every_program_that_misuses_a_lifetime_or_a_thread_is_refused_for_that_reason() {
    let files =
        std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail")).expect("it is there");
    let mut files: Vec<_> = files.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    assert!(files.len() >= 8, "{files:?}");
    let compiler = Compiler::new();
    for file in files {
        let text = std::fs::read_to_string(&file).expect("it is a text");
        let code = text.lines().next().and_then(|line| line.strip_prefix("// error: ")).expect("it names its error");
        let name = file.display();
        assert!(text.contains("#[cfg(not(allowed))]"), "{name} has no offending line");
        let allowed = compiler.compile(&file, true);
        let said = String::from_utf8_lossy(&allowed.stderr).into_owned();
        assert!(allowed.status.success(), "{name} does not compile without its offending lines:\n{said}");
        let refused = compiler.compile(&file, false);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success(), "{name} compiles");
        let wanted = if code.starts_with("E0") { format!("error[{code}]") } else { format!("error: {code}") };
        let mut errors = said.lines().filter(|line| line.starts_with("error") && !line.starts_with("error: aborting"));
        let is_refused_at_all = errors.clone().next().is_some();
        assert!(
            is_refused_at_all && errors.all(|line| line.starts_with(&wanted)),
            "{name} is refused, but not with {code} alone:\n{said}"
        );
    }
}
