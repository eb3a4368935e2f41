//! A [`Topology`] from hwloc, which knows machines, tiers and speeds that the kernel's files do not tell of. Called under
//! the guard only (`crate::hwloc`).

use core::fmt;
use std::path::{Path, PathBuf};

use hwlocality::memory::attribute::{Initiator, MemoryAttribute};
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::distance::DistancesKind;
use hwlocality::object::types::ObjectType;
use hwlocality::topology::builder::{BuildFlags, TopologyBuilder};

use super::NodeId;
use super::description::{Access, CpuId, Memory, Missing, Node, Topology};
use crate::os::MAX_NODES;

/// Why hwloc described no machine.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopologyError {
    /// hwloc could not look at the machine; what it said. [`Topology::read`] goes without hwloc.
    Discovery(String),
    /// hwloc does not take this for a synthetic description.
    Description(String),
    /// A file that is no machine in hwloc's XML, or cannot be read.
    File {
        /// Which one.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What hwloc described has no node that could be named.
    NoNodes,
}

impl fmt::Display for TopologyError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TopologyError::Discovery(why) => {
                write!(to, "hwloc could not read the machine ({why}); unset its HWLOC_ variables, or go without hwloc")
            }
            TopologyError::Description(text) => {
                write!(to, "hwloc does not understand '{text}'; a description is such as 'NUMANode:2(memory=1GB) PU:4'")
            }
            TopologyError::File { path, reason } => {
                write!(to, "{} is no machine to hwloc ({reason}); write one with `lstopo FILE.xml`", path.display())
            }
            TopologyError::NoNodes => to.write_str("hwloc found no memory node; go without hwloc"),
        }
    }
}

impl core::error::Error for TopologyError {}

/// The machine that hwloc finds, and whether it is this one: hwloc's environment can make it another.
pub(crate) fn read_found() -> Result<(Topology, bool), TopologyError> {
    let hwloc = load(TopologyBuilder::new())?;
    Ok((describe(&hwloc)?, hwloc.is_this_system()))
}

/// The machine of a synthetic description.
pub(crate) fn read_synthetic(description: &str) -> Result<Topology, TopologyError> {
    let wrong = |_| TopologyError::Description(description.to_owned());
    describe(&load(TopologyBuilder::new().from_synthetic(description).map_err(wrong)?)?)
}

/// The machine in hwloc's XML, which came from that file.
pub(crate) fn read_xml(xml: &str, path: &Path) -> Result<Topology, TopologyError> {
    let wrong = |reason: String| TopologyError::File { path: path.to_owned(), reason };
    let builder = TopologyBuilder::new().from_xml(xml).map_err(|error| wrong(error.to_string()))?;
    // What is wrong inside the file is found only now.
    let loaded = load(builder).map_err(|error| match error {
        TopologyError::Discovery(reason) => wrong(reason),
        other => other,
    })?;
    describe(&loaded)
}

impl Topology {
    /// Takes over what only the other description knows of the same nodes.
    pub(crate) fn fill_from(&mut self, other: &Topology) {
        let has_tiers = self.nodes.iter().any(|node| node.tier.is_some());
        for node in &mut self.nodes {
            let Some(known) = other.node(node.id) else { continue };
            node.memory.total = node.memory.total.or(known.memory.total);
            node.memory.free = node.memory.free.or(known.memory.free);
            // All or none: the two number tiers in their own ways.
            if !has_tiers {
                node.tier = known.tier;
            }
            if node.distances.is_empty() {
                node.distances.clone_from(&known.distances);
            }
            if node.access == Access::default() {
                node.access = known.access;
                node.initiators.clone_from(&known.initiators);
            }
        }
        self.missing = missing(&self.nodes);
        // hwloc makes a node up where the kernel names none.
        if self.nodes.len() == 1 && other.missing.contains(&Missing::Nodes) {
            self.missing.clone_from(&other.missing);
        }
    }
}

/// What the nodes lack of what every kernel with nodes says.
fn missing(nodes: &[Node]) -> Vec<Missing> {
    let mut missing = Vec::new();
    for node in nodes {
        missing.extend(node.memory.total.is_none().then_some(Missing::Memory(node.id)));
        missing.extend((node.distances.len() < nodes.len()).then_some(Missing::Distances(node.id)));
    }
    missing
}

fn load(builder: TopologyBuilder) -> Result<hwlocality::Topology, TopologyError> {
    // All nodes, also those this process may not use; and no thread is moved from CPU to CPU to ask it what it is.
    let flags = BuildFlags::INCLUDE_DISALLOWED | BuildFlags::DONT_CHANGE_BINDING;
    let builder = builder.with_flags(flags).map_err(|error| TopologyError::Discovery(error.to_string()))?;
    builder.build().map_err(|error| {
        let reason = error.errno.map_or_else(|| "no reason given".to_owned(), |errno| errno.to_string());
        TopologyError::Discovery(format!("{}: {reason}", error.api))
    })
}

fn describe(hwloc: &hwlocality::Topology) -> Result<Topology, TopologyError> {
    let mut objects: Vec<(NodeId, &TopologyObject)> = hwloc
        .objects_with_type(ObjectType::NUMANode)
        .filter_map(|object| Some((id_of(Some(object))?, object)))
        .collect();
    objects.sort_by_key(|(id, _)| *id);
    let mut nodes: Vec<Node> = objects.iter().map(|(id, object)| describe_node(hwloc, *id, object)).collect();
    if nodes.is_empty() {
        return Err(TopologyError::NoNodes);
    }
    keep_cpus_once(&mut nodes);
    // To hwloc, memory of which it knows nothing is as large as none; but no machine is without any.
    if nodes.iter().all(|node| node.memory.total == Some(0)) {
        nodes.iter_mut().for_each(|node| node.memory = Memory::default());
    }
    read_distances(hwloc, &mut nodes);
    for at in 0..nodes.len() {
        nodes[at].initiators = initiators(hwloc, objects[at].1, &nodes);
    }
    let missing = missing(&nodes);
    Ok(Topology { nodes, missing })
}

fn id_of(object: Option<&TopologyObject>) -> Option<NodeId> {
    let number = object?.os_index().filter(|number| *number < MAX_NODES)?;
    Some(NodeId::new(number as u16))
}

fn describe_node(hwloc: &hwlocality::Topology, id: NodeId, object: &TopologyObject) -> Node {
    let mut node = Node::new(id);
    if let Some(cpus) = object.cpuset() {
        node.cpus = cpus.iter_set().map(|cpu| CpuId::new(usize::from(cpu) as u32)).collect();
    }
    if let Some(ObjectAttributes::NUMANode(attributes)) = object.attributes() {
        let total = attributes.local_memory().map_or(0, |bytes| bytes.get());
        node.memory = Memory { total: Some(total), free: (total == 0).then_some(0) };
    }
    node.is_allowed = hwloc.allowed_nodeset().is_set(usize::from(id.number()));
    // hwloc 2.10 and later say it: ranks from 0, the fastest first.
    node.tier = object.info("MemoryTier").and_then(|rank| rank.to_str().ok()?.parse().ok());
    let best = |attribute, is_better| best_value(attribute, object, is_better).map(|(value, _)| value);
    node.access = Access {
        read_bandwidth: best(MemoryAttribute::read_bandwidth(hwloc), u64::gt),
        write_bandwidth: best(MemoryAttribute::write_bandwidth(hwloc), u64::gt),
        read_latency: best(MemoryAttribute::read_latency(hwloc), u64::lt),
        write_latency: best(MemoryAttribute::write_latency(hwloc), u64::lt),
    };
    node
}

/// To hwloc, memory without CPUs is near to the CPUs of other nodes, and has those. A CPU is counted for the node that
/// has the fewest of them, and of equals for the one with the lowest number, where the kernel puts it.
fn keep_cpus_once(nodes: &mut [Node]) {
    let mut order: Vec<usize> = (0..nodes.len()).collect();
    order.sort_by_key(|at| (nodes[*at].cpus.len(), *at));
    let mut taken: Vec<CpuId> = Vec::new();
    for at in order {
        nodes[at].cpus.retain(|cpu| taken.binary_search(cpu).is_err());
        taken.extend(&nodes[at].cpus);
        taken.sort_unstable();
    }
}

/// The firmware's distances, if hwloc has them.
fn read_distances(hwloc: &hwlocality::Topology, nodes: &mut [Node]) {
    let all = hwloc.distances_with_type(Some(DistancesKind::MEANS_LATENCY), ObjectType::NUMANode).unwrap_or_default();
    // Others may have added matrices in units of their own; the firmware's has 10 from each node to itself.
    let firmware = all.iter().find(|matrix| {
        matrix.name() == Some(c"NUMALatency")
            && matrix.enumerate_distances().all(|((from, to), distance)| from != to || distance == 10)
    });
    let Some(firmware) = firmware else { return };
    for ((from, to), distance) in firmware.object_distances() {
        let (Some(from), Some(to), Ok(distance)) = (id_of(from), id_of(to), u8::try_from(distance)) else { continue };
        if let Some(node) = nodes.iter_mut().find(|node| node.id == from) {
            node.distances.push((to, distance));
        }
    }
    for node in nodes {
        node.distances.sort_unstable();
    }
}

/// Whether the first of two values of an attribute is the better.
type IsBetter = fn(&u64, &u64) -> bool;

/// The attribute's best value over all initiators, and who has it.
fn best_value<'hwloc>(
    attribute: MemoryAttribute<'hwloc>,
    target: &TopologyObject,
    is_better: IsBetter,
) -> Option<(u64, Vec<Initiator<'hwloc>>)> {
    // An error says that nothing is known of this target.
    let (initiators, values) = attribute.initiators(target).ok()?;
    let best = *values.iter().reduce(|best, value| if is_better(value, best) { value } else { best })?;
    let those = initiators.into_iter().zip(values).filter(|(_, value)| *value == best);
    Some((best, those.map(|(initiator, _)| initiator).collect()))
}

/// The nodes whose CPUs have the best access to the target, by the first attribute that says anything.
fn initiators(hwloc: &hwlocality::Topology, target: &TopologyObject, nodes: &[Node]) -> Vec<NodeId> {
    let attributes: [(MemoryAttribute<'_>, IsBetter); 4] = [
        (MemoryAttribute::read_bandwidth(hwloc), u64::gt),
        (MemoryAttribute::read_latency(hwloc), u64::lt),
        (MemoryAttribute::write_bandwidth(hwloc), u64::gt),
        (MemoryAttribute::write_latency(hwloc), u64::lt),
    ];
    let found = attributes.into_iter().find_map(|(attribute, is_better)| best_value(attribute, target, is_better));
    let has_access = |cpu: &CpuId| {
        found.iter().flat_map(|(_, those)| those).any(|initiator| match initiator {
            Initiator::CpuSet(cpus) => cpus.is_set(cpu.number() as usize),
            Initiator::Object(object) => object.cpuset().is_some_and(|cpus| cpus.is_set(cpu.number() as usize)),
        })
    };
    nodes.iter().filter(|node| node.cpus.iter().any(has_access)).map(|node| node.id).collect()
}
