//! The shared object: where it is, and how the dynamic linker is told of it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use super::Failure;

const NAME: &str = "libhoming_preload.so";

/// Finds the shared object beside the launcher, in `deps` beside it (where Cargo leaves it), or in `../lib`.
pub(crate) fn find() -> Result<PathBuf, Failure> {
    let launcher = std::env::current_exe()
        .map_err(|error| Failure::Library(format!("the launcher cannot find itself, and so not {NAME}: {error}")))?;
    let beside = launcher.parent().unwrap_or(Path::new("/"));
    let places = [beside.to_owned(), beside.join("deps"), beside.join("../lib")];
    let found = places.iter().find_map(|place| place.join(NAME).canonicalize().ok());
    let Some(library) = found else {
        return Err(Failure::Library(format!(
            "{NAME} is not in {}, in deps there, or in ../lib from there; put it beside the launcher",
            beside.display()
        )));
    };
    // ld.so(8): the list is separated by these, with no way to escape them, and `$` begins a token to be replaced.
    if library.as_os_str().as_bytes().iter().any(|byte| b" :$".contains(byte)) {
        return Err(Failure::Library(format!(
            "{} cannot be preloaded: LD_PRELOAD has no way to name a path with a space, a colon or a dollar sign",
            library.display()
        )));
    }
    Ok(library)
}

/// The value of `LD_PRELOAD` that has the library first, then what was there.
pub(crate) fn prepend(library: &Path, others: Option<OsString>) -> OsString {
    let mut list = library.as_os_str().as_bytes().to_owned();
    let others = others.unwrap_or_default();
    let is_other = |entry: &&[u8]| !entry.is_empty() && Path::new(OsStr::from_bytes(entry)) != library;
    for other in others.as_bytes().split(|byte| b" :".contains(byte)).filter(is_other) {
        list.push(b':');
        list.extend_from_slice(other);
    }
    OsString::from_vec(list)
}
