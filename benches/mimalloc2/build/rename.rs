//! Compiles mimalloc 2 as `libmimalloc-sys` would with its feature `v2`, then renames every symbol it defines.
//!
//! Two majors of mimalloc define the same symbols, and cargo allows one version of `libmimalloc-sys` with one set of
//! features in a build. Loading one of them with `dlopen` would do, but would measure it through function pointers and
//! another model of thread-local storage than its peers. Renaming leaves the machine code as it is, byte for byte.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// What stands before each symbol afterwards; `src/lib.rs` links to these names.
const PREFIX: &str = "v2_";

fn main() {
    println!("cargo::rerun-if-changed=build/rename.rs");
    println!("cargo::rerun-if-env-changed=NM");
    println!("cargo::rerun-if-env-changed=OBJCOPY");

    let object = compile(&source());
    let renamed = rename(&object);
    cc::Build::new().object(renamed).compile("mimalloc2");
}

/// The folder of the C text: next to the one that `libmimalloc-sys` compiles for mimalloc 3.
fn source() -> PathBuf {
    let include = env::var_os("DEP_MIMALLOC_INCLUDE_DIR").expect("libmimalloc-sys did not tell where its headers are");
    let versions = Path::new(&include).ancestors().nth(2).expect("headers at the root of the file system");
    let source = versions.join("v2");
    assert!(
        source.join("src/static.c").is_file(),
        "libmimalloc-sys no longer comes with mimalloc 2 in {}",
        source.display()
    );
    source
}

/// The same flags as in the build script of `libmimalloc-sys`, for a release build on unix.
fn compile(source: &Path) -> PathBuf {
    let objects = cc::Build::new()
        .include(source.join("include"))
        .include(source.join("src"))
        .file(source.join("src/static.c"))
        .flag("-Wno-error=date-time")
        .flag_if_supported("-ftls-model=initial-exec")
        .define("MI_DEBUG", "0")
        .define("MI_BUILD_RELEASE", None)
        .define("NDEBUG", None)
        .compile_intermediates();
    match <[PathBuf; 1]>::try_from(objects) {
        Ok([object]) => object,
        Err(objects) => panic!("one object expected, got {objects:?}"),
    }
}

/// Puts [`PREFIX`] before each symbol that the object defines for others; those it takes from libc stay.
fn rename(object: &Path) -> PathBuf {
    let listing =
        run(Command::new(tool("NM", "nm")).args(["--extern-only", "--defined-only", "--format=posix"]).arg(object));
    let symbols: BTreeSet<&str> = listing.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert!(symbols.contains("mi_malloc_aligned"), "no mimalloc in {}", object.display());

    let out = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    let table = out.join("symbols");
    let lines: String = symbols.iter().map(|symbol| format!("{symbol} {PREFIX}{symbol}\n")).collect();
    fs::write(&table, lines).expect("the table of symbols cannot be written");

    let renamed = out.join("renamed.o");
    let mut redefine = OsString::from("--redefine-syms=");
    redefine.push(&table);
    run(Command::new(tool("OBJCOPY", "objcopy")).arg(redefine).arg(object).arg(&renamed));
    renamed
}

fn tool(variable: &str, default: &str) -> OsString {
    env::var_os(variable).unwrap_or_else(|| default.into())
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error} (is binutils installed?)"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("symbols are ASCII")
}
