//! The machine, described for people and programs. It allocates, and the allocator itself never goes by it.

use core::fmt;

use super::NodeId;

/// The kernel's number of a CPU (a hardware thread).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(transparent)]
pub struct CpuId(u32);

impl CpuId {
    /// The CPU with that number; whether the machine has it is another question.
    pub const fn new(number: u32) -> Self {
        CpuId(number)
    }

    /// The kernel's number.
    pub const fn number(self) -> u32 {
        self.0
    }
}

/// A node's memory, in bytes. `None` where it is not known; a node without memory has a total of 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// All that the node has for the kernel to give out.
    pub total: Option<u64>,
    /// What nobody used when the machine was read.
    pub free: Option<u64>,
}

/// How fast a node's memory is for the CPUs nearest to it, as the firmware says (ACPI 6.5, 5.2.28, HMAT); `None` where it
/// does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// Megabytes a second that can be read.
    pub read_bandwidth: Option<u64>,
    /// Megabytes a second that can be written.
    pub write_bandwidth: Option<u64>,
    /// Nanoseconds until a read is answered.
    pub read_latency: Option<u64>,
    /// Nanoseconds until a write is done.
    pub write_latency: Option<u64>,
}

/// One node of a [`Topology`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    pub(super) id: NodeId,
    /// In order, each once.
    pub(super) cpus: Vec<CpuId>,
    pub(super) memory: Memory,
    pub(super) is_allowed: bool,
    /// In the order of their numbers.
    pub(super) distances: Vec<(NodeId, u8)>,
    pub(super) tier: Option<u32>,
    pub(super) access: Access,
    pub(super) initiators: Vec<NodeId>,
}

impl Node {
    pub(super) fn new(id: NodeId) -> Self {
        Node {
            id,
            cpus: Vec::new(),
            memory: Memory::default(),
            is_allowed: true,
            distances: Vec::new(),
            tier: None,
            access: Access::default(),
            initiators: Vec::new(),
        }
    }

    /// The kernel's number of the node.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// The node's CPUs that are online, in order; none for a node that is memory only.
    pub fn cpus(&self) -> &[CpuId] {
        &self.cpus
    }

    /// The node's memory.
    pub fn memory(&self) -> Memory {
        self.memory
    }

    /// Whether this process may take memory from the node (its cpuset); true where that is not known.
    pub fn is_allowed(&self) -> bool {
        self.is_allowed
    }

    /// How far the other node's memory is from this node's CPUs, as the firmware says: 10 is as near as can be, 20 twice
    /// as far (ACPI 6.5, 5.2.17). `None` where it says nothing.
    pub fn distance_to(&self, other: NodeId) -> Option<u8> {
        let at = self.distances.binary_search_by_key(&other, |(id, _)| *id).ok()?;
        Some(self.distances[at].1)
    }

    /// The number of the tier that the node's memory is in: the lower, the faster. Only the order means anything, and
    /// only within one machine. `None` where the kernel sorts no memory into tiers.
    pub fn tier(&self) -> Option<u32> {
        self.tier
    }

    /// How fast the node's memory is.
    pub fn access(&self) -> Access {
        self.access
    }

    /// The nodes whose CPUs have the access that [`access`](Self::access) describes; none where that is not listed.
    pub fn initiators(&self) -> &[NodeId] {
        &self.initiators
    }
}

/// Something that a [`Topology`] should have and the machine did not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// Which nodes there are; one node 0 stands for all.
    Nodes,
    /// Which CPUs the node has.
    Cpus(NodeId),
    /// How much memory the node has.
    Memory(NodeId),
    /// How far some node is from this one.
    Distances(NodeId),
}

impl fmt::Display for Missing {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Missing::Nodes => to.write_str("which nodes there are"),
            Missing::Cpus(node) => write!(to, "the CPUs of node {}", node.number()),
            Missing::Memory(node) => write!(to, "the memory of node {}", node.number()),
            Missing::Distances(node) => write!(to, "the distances from node {}", node.number()),
        }
    }
}

/// The machine's nodes: their CPUs, their memory, and how far they are from each other.
///
/// A description as of when it was read, for people and for programs that place their own threads. It allocates; the
/// allocator goes by a table of its own.
///
/// ```
/// use homing::Topology;
///
/// let machine = Topology::read();
/// for node in machine.nodes() {
///     println!("node {}: {} CPUs, {:?}", node.id().number(), node.cpus().len(), node.memory().total);
/// }
/// assert!(!machine.nodes().is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Topology {
    /// In the order of their numbers; at least one.
    pub(super) nodes: Vec<Node>,
    pub(super) missing: Vec<Missing>,
}

impl Topology {
    /// The nodes, in the order of their numbers, which may have gaps. Never empty.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node with that number, if the machine has it.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        let at = self.nodes.binary_search_by_key(&id, |node| node.id).ok()?;
        Some(&self.nodes[at])
    }

    /// The node that the CPU belongs to. `None` for a CPU that is offline, or that the machine does not have.
    ///
    /// ```
    /// # use homing::Topology;
    /// let machine = Topology::read();
    /// let node = &machine.nodes()[0];
    /// for cpu in node.cpus() {
    ///     assert_eq!(machine.node_of_cpu(*cpu), Some(node.id()));
    /// }
    /// ```
    pub fn node_of_cpu(&self, cpu: CpuId) -> Option<NodeId> {
        self.nodes.iter().find(|node| node.cpus.binary_search(&cpu).is_ok()).map(|node| node.id)
    }

    /// The other nodes, nearest first. Equally near ones come in the order of their numbers, and last those whose
    /// distance is not known. Nothing where the machine does not have the node.
    pub fn nearest_to(&self, id: NodeId) -> impl Iterator<Item = &Node> {
        let mut others: Vec<&Node> = Vec::new();
        if let Some(from) = self.node(id) {
            others.extend(self.nodes.iter().filter(|node| node.id != id));
            // Stable, so that equals stay in order.
            others.sort_by_key(|node| from.distance_to(node.id).map_or(u16::MAX, u16::from));
        }
        others.into_iter()
    }

    /// Whether the machine said all that every kernel with nodes says: which there are, their CPUs, their memory, and the
    /// distances between them. Tiers and [`Access`] are known for few machines, and are not counted.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// What it did not say.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }
}
