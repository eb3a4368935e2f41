//! A [`Topology`] from the kernel's files.

use std::ffi::CString;

use super::NodeId;
use super::description::{Access, CpuId, Memory, Missing, Node, Topology};
use super::sysfs::{Kernel, Source};
use crate::os::{self, MAX_NODES};

/// More CPUs than any kernel can be built for: what lies beyond is nonsense, and no reason to fill memory with it.
const MAX_CPUS: u32 = 1 << 16;

/// The largest file that is read; the largest there are (the CPUs of a large machine, one by one) stay far below.
const MAX_FILE: usize = 1 << 20;

/// Tiers are looked for by their numbers, since a [`Source`] lists no folders. Ordinary memory is tier 4, faster memory
/// is below it, and persistent memory is about 22 (Linux, include/linux/memory-tiers.h).
const TIERS: u32 = 256;

impl Topology {
    /// Reads the machine this process runs on.
    ///
    /// Never fails. Where the kernel has no nodes, or its files cannot be read (`/sys` may be missing in a container),
    /// there is one node 0 with all the CPUs that are known, and [`missing`](Self::missing) says so.
    ///
    /// ```
    /// let machine = homing::Topology::read();
    /// if !machine.is_complete() {
    ///     let missing: Vec<String> = machine.missing().iter().map(|what| what.to_string()).collect();
    ///     eprintln!("the kernel does not say {}", missing.join(", "));
    /// }
    /// ```
    pub fn read() -> Topology {
        let mut topology = Topology::from_source(&Kernel);
        if let Ok(allowed) = os::allowed_nodes() {
            let allowed: Vec<u32> = allowed.members().map(|id| id as u32).collect();
            if topology.missing.contains(&Missing::Nodes) {
                topology.name_nodes(&allowed);
            }
            topology.allow(&allowed);
        }
        if topology.missing.contains(&Missing::Nodes) && topology.nodes[0].cpus.is_empty() {
            let count = std::thread::available_parallelism().map_or(1, |count| count.get() as u32);
            topology.nodes[0].cpus = (0..count.min(MAX_CPUS)).map(CpuId::new).collect();
        }
        topology
    }

    /// Reads the machine that the source's files describe: another one's, or one that does not exist.
    ///
    /// Never fails: what is missing or makes no sense is left out, and [`missing`](Self::missing) says so.
    ///
    /// ```
    /// use std::ffi::CStr;
    /// use homing::{CpuId, NodeId, Source, Topology};
    ///
    /// struct TwoNodes;
    ///
    /// impl Source for TwoNodes {
    ///     fn read(&self, path: &CStr, buffer: &mut [u8]) -> Option<usize> {
    ///         let text = match path.to_str().ok()?.strip_prefix("/sys/devices/system/node/")? {
    ///             "online" => "0-1\n",
    ///             "node0/cpulist" => "0-3\n",
    ///             "node1/cpulist" => "4-7\n",
    ///             _ => return None,
    ///         };
    ///         let length = text.len().min(buffer.len());
    ///         buffer[..length].copy_from_slice(&text.as_bytes()[..length]);
    ///         Some(length)
    ///     }
    /// }
    ///
    /// let machine = Topology::from_source(&TwoNodes);
    /// assert_eq!(machine.node_of_cpu(CpuId::new(5)), Some(NodeId::new(1)));
    /// ```
    pub fn from_source(source: &impl Source) -> Topology {
        let mut files = Files { source, buffer: vec![0; 4096] };
        let Some(online) = files.nodes("/sys/devices/system/node/online") else { return files.without_nodes() };
        let with_memory = files.nodes("/sys/devices/system/node/has_memory");
        let mut missing = Vec::new();
        let mut nodes: Vec<Node> = online.iter().map(|id| files.node(*id, &online, &mut missing)).collect();
        for node in &mut nodes {
            // A node that is not among those with memory needs no file to say how little it has.
            if node.memory.total.is_none() && with_memory.as_ref().is_some_and(|ids| !ids.contains(&node.id)) {
                node.memory = Memory { total: Some(0), free: Some(0) };
                missing.retain(|what| *what != Missing::Memory(node.id));
            }
        }
        files.read_tiers(&mut nodes);
        files.read_initiators(&mut nodes);
        let mut topology = Topology { nodes, missing };
        if let Some(allowed) = files.allowed() {
            topology.allow(&allowed);
        }
        topology
    }

    /// Takes over the nodes' numbers where no files tell of nodes: of several, nothing but the number is known.
    fn name_nodes(&mut self, ids: &[u32]) {
        let nodes = ids.iter().filter_map(|id| u16::try_from(*id).ok()).map(NodeId::new);
        if ids.len() < 2 {
            return;
        }
        self.nodes = nodes.map(Node::new).collect();
        self.missing.clear();
        for id in self.nodes.iter().map(|node| node.id) {
            self.missing.extend([Missing::Cpus(id), Missing::Memory(id), Missing::Distances(id)]);
        }
    }

    /// Says of each node whether it is among those a process may use. A list with none of them is about something else.
    fn allow(&mut self, allowed: &[u32]) {
        let is_allowed = |node: &Node| allowed.contains(&u32::from(node.id.number()));
        if self.nodes.iter().any(is_allowed) {
            for node in &mut self.nodes {
                node.is_allowed = is_allowed(node);
            }
        }
    }
}

/// A source, and what its files are read into.
struct Files<'source, S: Source> {
    source: &'source S,
    buffer: Vec<u8>,
}

impl<S: Source> Files<'_, S> {
    /// A file's text, whole; `None` where there is none.
    fn text(&mut self, path: &str) -> Option<String> {
        let path = CString::new(path).ok()?;
        loop {
            let length = self.source.read(&path, &mut self.buffer)?.min(self.buffer.len());
            // A buffer that is full may have cut the file off.
            if length < self.buffer.len() || length >= MAX_FILE {
                return Some(String::from_utf8_lossy(&self.buffer[..length]).into_owned());
            }
            self.buffer.resize(length * 2, 0);
        }
    }

    /// A list of nodes; `None` where there is no such file or it names none.
    fn nodes(&mut self, path: &str) -> Option<Vec<NodeId>> {
        let numbers = numbers(&self.text(path)?, MAX_NODES as u32);
        (!numbers.is_empty()).then(|| numbers.into_iter().map(|id| NodeId::new(id as u16)).collect())
    }

    fn cpus(&mut self, path: &str) -> Option<Vec<CpuId>> {
        self.text(path).map(|text| numbers(&text, MAX_CPUS).into_iter().map(CpuId::new).collect())
    }

    /// The one node of a machine that says nothing of nodes.
    fn without_nodes(&mut self) -> Topology {
        let mut node = Node::new(NodeId::new(0));
        let mut missing = vec![Missing::Nodes];
        node.cpus = self.cpus("/sys/devices/system/cpu/online").unwrap_or_default();
        if node.cpus.is_empty() {
            missing.push(Missing::Cpus(node.id));
        }
        node.memory = self.text("/proc/meminfo").map(|text| memory(&text)).unwrap_or_default();
        if node.memory.total.is_none() {
            missing.push(Missing::Memory(node.id));
        }
        Topology { nodes: vec![node], missing }
    }

    fn node(&mut self, id: NodeId, online: &[NodeId], missing: &mut Vec<Missing>) -> Node {
        let folder = folder(id);
        let mut node = Node::new(id);
        match self.cpus(&format!("{folder}/cpulist")) {
            Some(cpus) => node.cpus = cpus,
            None => missing.push(Missing::Cpus(id)),
        }
        node.memory = self.text(&format!("{folder}/meminfo")).map(|text| memory(&text)).unwrap_or_default();
        if node.memory.total.is_none() {
            missing.push(Missing::Memory(id));
        }
        // The row has the distances to the online nodes, in their order.
        let row = self.text(&format!("{folder}/distance")).unwrap_or_default();
        let row = row.split_ascii_whitespace().map(|field| field.parse::<u8>().ok().filter(|distance| *distance > 0));
        node.distances = online.iter().zip(row).filter_map(|(other, distance)| Some((*other, distance?))).collect();
        if node.distances.len() < online.len() {
            missing.push(Missing::Distances(id));
        }
        let mut attribute = |name: &str| {
            let text = self.text(&format!("{folder}/access0/initiators/{name}"))?;
            // The kernel writes 0 for what the firmware left out.
            text.trim().parse().ok().filter(|value| *value > 0)
        };
        node.access = Access {
            read_bandwidth: attribute("read_bandwidth"),
            write_bandwidth: attribute("write_bandwidth"),
            read_latency: attribute("read_latency"),
            write_latency: attribute("write_latency"),
        };
        node
    }

    fn read_tiers(&mut self, nodes: &mut [Node]) {
        let is_sorted = |node: &Node| node.tier.is_some() || node.memory.total == Some(0);
        for tier in 0..TIERS {
            if nodes.iter().all(is_sorted) {
                return;
            }
            let path = format!("/sys/devices/virtual/memory_tiering/memory_tier{tier}/nodelist");
            let Some(list) = self.nodes(&path) else { continue };
            for node in nodes.iter_mut().filter(|node| list.contains(&node.id)) {
                node.tier.get_or_insert(tier);
            }
        }
    }

    /// A node's initiators are links named after them. Only nodes with CPUs are looked for, and only where the firmware
    /// says anything of access.
    fn read_initiators(&mut self, nodes: &mut [Node]) {
        let with_cpus: Vec<NodeId> = nodes.iter().filter(|node| !node.cpus.is_empty()).map(|node| node.id).collect();
        for node in nodes.iter_mut().filter(|node| node.access != Access::default()) {
            let links = format!("{}/access0/initiators", folder(node.id));
            let is_linked = |id: &NodeId| self.text(&format!("{links}/node{}/cpulist", id.number())).is_some();
            node.initiators = with_cpus.iter().copied().filter(is_linked).collect();
        }
    }

    /// The nodes that this process may take memory from, as proc(5) has it.
    fn allowed(&mut self) -> Option<Vec<u32>> {
        let text = self.text("/proc/self/status")?;
        let list = text.lines().find_map(|line| line.strip_prefix("Mems_allowed_list:"))?;
        Some(numbers(list, MAX_NODES as u32))
    }
}

fn folder(id: NodeId) -> String {
    format!("/sys/devices/system/node/node{}", id.number())
}

/// The numbers of a list such as `0-3,8`, in order, each once, those below `end`. What makes no sense is passed over.
fn numbers(list: &str, end: u32) -> Vec<u32> {
    // As a set, so that a file cannot ask for more memory by repeating itself.
    let mut is_listed = vec![false; end as usize];
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>())
            && first <= last
            && first < end
        {
            is_listed[first as usize..=last.min(end - 1) as usize].fill(true);
        }
    }
    (0..end).filter(|number| is_listed[*number as usize]).collect()
}

/// What `meminfo` says, of a node (`Node 0 MemTotal: 1024 kB`) or of the machine (without the first two words).
fn memory(text: &str) -> Memory {
    let bytes = |name: &str| {
        let value = text.lines().find_map(|line| line.split_once(name)?.1.split_ascii_whitespace().next())?;
        value.parse::<u64>().ok()?.checked_mul(1024)
    };
    let total = bytes("MemTotal:");
    // More free than there is would be nonsense.
    Memory { total, free: bytes("MemFree:").filter(|free| total.is_none_or(|total| *free <= total)) }
}

#[cfg(test)]
mod tests;
