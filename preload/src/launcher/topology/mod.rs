//! `homing topology`: which machine it is, read and described.

mod drawing;
mod json;

use std::ffi::{CStr, OsStr};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use homing::{Source, Topology};

use super::command_line;

/// Where a description comes from, as it is said to people.
const FILES: &str = "the kernel's files";
#[cfg(feature = "hwloc")]
const HWLOC: &str = "hwloc";

/// The description that is asked for.
pub(crate) fn describe(asked: &command_line::Topology) -> String {
    let (machine, source) = match &asked.root {
        Some(root) => (Topology::from_source(&Root(root.clone())), FILES),
        None => read(),
    };
    if asked.json { json::describe(&machine, source) } else { drawing::draw(&machine, source) }
}

#[cfg(feature = "hwloc")]
fn read() -> (Topology, &'static str) {
    match Topology::from_hwloc() {
        Ok(machine) => (machine, HWLOC),
        Err(error) => {
            eprintln!("homing: {error}; this is from {FILES}");
            (Topology::read(), FILES)
        }
    }
}

#[cfg(not(feature = "hwloc"))]
fn read() -> (Topology, &'static str) {
    (Topology::read(), FILES)
}

/// A folder that holds another machine's files, as if it were the root.
struct Root(PathBuf);

impl Source for Root {
    fn read(&self, path: &CStr, buffer: &mut [u8]) -> Option<usize> {
        let path = Path::new(OsStr::from_bytes(path.to_bytes()));
        let mut file = File::open(self.0.join(path.strip_prefix("/").ok()?)).ok()?;
        let mut filled = 0;
        loop {
            match file.read(&mut buffer[filled..]) {
                Ok(0) => return Some(filled),
                Ok(read) => filled += read,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => return None,
            }
        }
    }
}
