//! Reading the machine by way of hwloc, under the guard.
//!
//! hwloc's own memory is the C library's. What its Rust bindings allocate while they look goes by mappings of their own
//! (`arena::guard`), so that a discovery never works on the arena of the thread it runs on; the result is copied out of
//! them.

use std::path::Path;

use crate::arena::guard::Apart;
use crate::topology::{Topology, TopologyError, hwloc};

impl Topology {
    /// Reads the machine this process runs on by way of hwloc.
    ///
    /// What hwloc does not know (free memory; on some versions tiers) is taken from [`read`](Self::read), if hwloc
    /// describes this very system: its environment variables can make it describe another (`HWLOC_FSROOT`,
    /// `HWLOC_XMLFILE`, `HWLOC_SYNTHETIC`). The thread's affinity is left alone. Takes some milliseconds.
    ///
    /// - *Errors*: where hwloc fails; the message says what to do.
    ///
    /// ```
    /// use homing::Topology;
    ///
    /// let machine = Topology::from_hwloc().unwrap_or_else(|error| {
    ///     eprintln!("{error}");
    ///     Topology::read()
    /// });
    /// assert!(!machine.nodes().is_empty());
    /// ```
    pub fn from_hwloc() -> Result<Topology, TopologyError> {
        let (mut topology, is_this_system) = apart(hwloc::read_found)?;
        if is_this_system {
            topology.fill_from(&Topology::read());
        }
        Ok(topology)
    }

    /// The machine of a synthetic description, as hwloc has them (hwloc(7), "Synthetic topologies").
    ///
    /// - *Errors*: [`TopologyError::Description`] where hwloc does not understand it.
    ///
    /// ```
    /// let machine = homing::Topology::from_hwloc_synthetic("NUMANode:4(memory=1GB) PU:2")?;
    /// assert_eq!(machine.nodes().len(), 4);
    /// assert_eq!(machine.nodes()[3].cpus().len(), 2);
    /// # Ok::<(), homing::TopologyError>(())
    /// ```
    pub fn from_hwloc_synthetic(description: &str) -> Result<Topology, TopologyError> {
        apart(|| hwloc::read_synthetic(description))
    }

    /// The machine in a file that `lstopo FILE.xml` wrote, on this machine or another.
    ///
    /// - *Errors*: [`TopologyError::File`] where the file cannot be read or is none of hwloc's.
    ///
    /// ```no_run
    /// let machine = homing::Topology::from_hwloc_xml("server.xml".as_ref())?;
    /// # Ok::<(), homing::TopologyError>(())
    /// ```
    pub fn from_hwloc_xml(file: &Path) -> Result<Topology, TopologyError> {
        // Read here: a file that is not there is no ordinary error to the bindings.
        let wrong = |error: std::io::Error| TopologyError::File { path: file.to_owned(), reason: error.to_string() };
        let xml = std::fs::read_to_string(file).map_err(wrong)?;
        apart(|| hwloc::read_xml(&xml, file))
    }
}

/// Runs a discovery under the guard, and copies what it found out of the guard's mappings.
fn apart<R: Clone>(discover: impl FnOnce() -> Result<R, TopologyError>) -> Result<R, TopologyError> {
    let found = {
        let _apart = Apart::begin();
        discover()
    };
    found.clone()
}
