//! Which nodes the machine has, which of them this process may use, and how far they are from each other.
//!
//! The nodes with memory are counted once; which of them the process may use can change while it runs (its cpuset is
//! written to). Without the kernel's files, those that it may use when it begins are all there are.

use core::cell::UnsafeCell;

use super::sysfs::{Kernel, Source, list, read_distances};
use super::{INDICES, MOST_NODES, NodeId, NodeIndex};
use crate::os::{self, MAX_NODES, NodeMask};
use crate::sync::{AtomicU8, AtomicU16, AtomicU64, Ordering};

/// The nodes with memory, and which of them this process may use now.
pub(crate) struct Machine {
    /// The last one, so that the machine with one node is all zeros, and costs a binary no space.
    last: NodeIndex,
    /// By index: the kernel's number.
    ids: [u16; INDICES],
    /// Whether the firmware's distances were found for any node.
    knows_distances: bool,
    /// By the kernel's number: the index of the node itself, or of the nearest that has memory and may be used.
    nearest: [AtomicU16; MAX_NODES],
    /// The nodes that the process may use, by the kernel's word when it was last asked; all 0: it does not tell.
    allowed: [AtomicU64; MAX_NODES / 64],
    /// By index and index: the distance the firmware gives; 10 is local (ACPI 6.5, 5.2.17).
    distances: [[u8; INDICES]; INDICES],
}

const LOCAL: u8 = 10;
const UNKNOWN: u8 = 20;

impl Machine {
    /// A machine with the one node 0.
    pub(crate) const fn single() -> Self {
        Machine {
            last: NodeIndex::FIRST,
            ids: [0; INDICES],
            knows_distances: false,
            nearest: [const { AtomicU16::new(0) }; MAX_NODES],
            allowed: [const { AtomicU64::new(0) }; MAX_NODES / 64],
            distances: [[0; INDICES]; INDICES],
        }
    }

    /// Reads the machine. `allowed` are the nodes the process may use, where that is known.
    pub(crate) fn read(&mut self, source: &impl Source, allowed: Option<&NodeMask>) {
        let mut buffer = [0_u8; 4096];
        let with_memory = list(source, c"/sys/devices/system/node/has_memory", &mut buffer)
            .or_else(|| list(source, c"/sys/devices/system/node/online", &mut buffer));
        let (all, usable) = match (with_memory, allowed) {
            (Some(with_memory), Some(allowed)) => {
                let both = with_memory.and(allowed);
                // A kernel that names none in common has named something else; believe what it allows.
                if both.is_empty() { (*allowed, *allowed) } else { (with_memory, both) }
            }
            (Some(with_memory), None) => (with_memory, with_memory),
            (None, Some(allowed)) => (*allowed, *allowed),
            (None, None) => return,
        };
        let mut count = 0;
        for (place, id) in self.ids.iter_mut().zip(all.members().take(MOST_NODES)) {
            *place = id as u16;
            count += 1;
        }
        if count <= 1 {
            return;
        }
        self.last = NodeIndex::new(count - 1);
        for own in 0..count {
            for other in 0..count {
                self.set_distance(own, other, if own == other { LOCAL } else { UNKNOWN });
            }
        }
        if let Some(allowed) = allowed {
            self.note_allowed(allowed);
        }
        each_online(source, &all, |id, distances| {
            let own = self.ids().position(|other| other == id);
            if let Some(own) = own {
                for other in (0..count).filter(|other| *other != own) {
                    let distance = distances.to(self.ids[NodeIndex::new(other).get()]);
                    self.knows_distances |= distance.is_some();
                    self.set_distance(own, other, distance.unwrap_or(UNKNOWN));
                }
            }
            self.find_nearest(id, &usable, distances);
        });
    }

    fn set_distance(&mut self, own: usize, other: usize, distance: u8) {
        self.distances[NodeIndex::new(own).get()][NodeIndex::new(other).get()] = distance;
    }

    /// Notes the index of the node with that number, or of the nearest of the usable ones.
    fn find_nearest(&self, id: u16, usable: &NodeMask, distances: &Distances) {
        let distance = |other: u16| if other == id { 0 } else { distances.to(other).unwrap_or(UNKNOWN) };
        let nearest = (self.ids().enumerate())
            .filter(|(_, other)| usable.contains(usize::from(*other)))
            .min_by_key(|(_, other)| distance(*other))
            .map_or(0, |(index, _)| index as u16);
        if let Some(place) = self.nearest.get(usize::from(id)) {
            place.store(nearest, Ordering::Relaxed);
        }
    }

    /// The kernel's numbers of all of them, by their indices.
    fn ids(&self) -> impl Iterator<Item = u16> {
        self.ids.iter().copied().take(self.count())
    }

    /// Takes over which nodes the process may use now. True where that has changed, and leaves it any.
    fn allow(&self, source: &impl Source, allowed: &NodeMask) -> bool {
        let mut words = self.allowed.iter().zip(allowed.words());
        if words.all(|(known, now)| known.load(Ordering::Relaxed) == *now) {
            return false;
        }
        self.note_allowed(allowed);
        let usable = self.mask().and(allowed);
        if usable.is_empty() {
            return false;
        }
        each_online(source, &self.mask(), |id, distances| self.find_nearest(id, &usable, distances));
        true
    }

    fn note_allowed(&self, allowed: &NodeMask) {
        for (known, now) in self.allowed.iter().zip(allowed.words()) {
            known.store(*now, Ordering::Relaxed);
        }
    }

    /// Whether the firmware's distances are known.
    pub(crate) fn knows_distances(&self) -> bool {
        self.knows_distances
    }

    /// Whether the process may take memory from the node now.
    pub(crate) fn is_usable(&self, node: NodeIndex) -> bool {
        self.count() == 1 || self.nearest(u32::from(self.ids[node.get()])) == node
    }

    /// How many nodes there are.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.last.get() + 1
    }

    /// The kernel's number of a node.
    pub(crate) fn id(&self, node: NodeIndex) -> NodeId {
        NodeId(self.ids[node.get()])
    }

    /// The node with that number, if this process may use it.
    pub(crate) fn find(&self, id: NodeId) -> Option<NodeIndex> {
        let index = self.ids().position(|other| other == id.0).map(NodeIndex::new);
        index.filter(|index| self.is_usable(*index))
    }

    /// The node itself, or the nearest that has memory and may be used.
    pub(crate) fn nearest(&self, kernel_number: u32) -> NodeIndex {
        NodeIndex(self.nearest.get(kernel_number as usize).map_or(0, |nearest| nearest.load(Ordering::Relaxed)))
    }

    /// The other nodes that may be used now, nearest first; equally near ones in the order of their numbers.
    pub(crate) fn others_by_distance(&self, from: NodeIndex) -> impl Iterator<Item = NodeIndex> {
        let row = self.distances[from.get()].iter().take(self.count());
        // Selection without memory of its own: the next is the least (distance, index) above the last one given.
        let mut last: Option<(u8, usize)> = None;
        core::iter::from_fn(move || {
            let next = row
                .clone()
                .enumerate()
                .filter(|(index, _)| *index != from.get() && self.is_usable(NodeIndex::new(*index)))
                .map(|(index, distance)| (*distance, index))
                .filter(|candidate| last.is_none_or(|last| *candidate > last))
                .min()?;
            last = Some(next);
            Some(NodeIndex::new(next.1))
        })
    }

    /// All of them as the kernel takes a set.
    pub(crate) fn mask(&self) -> NodeMask {
        self.ids().map(usize::from).collect()
    }
}

/// A node's distances to those that are online, in their order, as far as they are known.
struct Distances<'a> {
    online: &'a NodeMask,
    row: &'a [u8],
}

impl Distances<'_> {
    /// The distance to the node with that number.
    fn to(&self, other: u16) -> Option<u8> {
        let mut known = self.online.members().zip(self.row);
        known.find(|(id, _)| *id == usize::from(other)).map(|(_, distance)| *distance)
    }
}

/// Calls `visit` with the number of every node that is online, and its distances.
fn each_online(source: &impl Source, else_these: &NodeMask, mut visit: impl FnMut(u16, &Distances)) {
    let mut buffer = [0_u8; 4096];
    let online = list(source, c"/sys/devices/system/node/online", &mut buffer).unwrap_or(*else_these);
    let mut row = [0_u8; MAX_NODES];
    for id in online.members() {
        let known = read_distances(source, id, &mut buffer, &mut row);
        visit(id as u16, &Distances { online: &online, row: row.get(..known).unwrap_or_default() });
    }
}

/// The machine: written once, while the process is being set up, and read by everybody afterwards.
struct Shared(UnsafeCell<Machine>);

// SAFETY: written only by `install`, whose caller is alone (see there); all other uses read, or go through atomics.
unsafe impl Sync for Shared {}

static MACHINE: Shared = Shared(UnsafeCell::new(Machine::single()));

/// Reads the machine this process runs on.
///
/// # Safety
/// Nobody else reads or writes it yet: the caller is the one that sets the process up, before it is done.
pub(crate) unsafe fn install() {
    let allowed = os::allowed_nodes().ok();
    // SAFETY: the caller is alone.
    unsafe { (*MACHINE.0.get()).read(&Kernel, allowed.as_ref()) };
}

/// Whether the machine has a node of that number, and whether it has memory; `None` where nobody tells.
pub(crate) fn look_for(node: NodeId) -> Option<(bool, bool)> {
    let mut buffer = [0_u8; 4096];
    let mut has = |path| list(&Kernel, path, &mut buffer).map(|mask| mask.contains(usize::from(node.0)));
    let online = has(c"/sys/devices/system/node/online")?;
    Some((online, has(c"/sys/devices/system/node/has_memory").unwrap_or(online)))
}

/// 1 while somebody looks at the allowed nodes: one at a time, since who comes second has nothing to add.
static LOOKING: AtomicU8 = AtomicU8::new(0);

/// In the child of a `fork`: whoever was looking is not there.
pub(crate) fn after_fork_in_child() {
    LOOKING.store(0, Ordering::Relaxed);
}

/// Asks the kernel which nodes the process may use now. True where that has changed.
pub(crate) fn look_at_allowed_nodes() -> bool {
    if machine().count() == 1 || LOOKING.swap(1, Ordering::Acquire) != 0 {
        return false;
    }
    let changed = os::allowed_nodes().is_ok_and(|allowed| machine().allow(&Kernel, &allowed));
    LOOKING.store(0, Ordering::Release);
    changed
}

/// The machine; one node before the process is set up.
#[inline(always)]
pub(crate) fn machine() -> &'static Machine {
    // SAFETY: written before anybody who reads gets here (`install`).
    unsafe { &*MACHINE.0.get() }
}

#[cfg(test)]
mod tests {
    use core::ffi::CStr;

    use super::*;

    struct MadeUp(&'static [(&'static str, &'static str)]);

    impl Source for MadeUp {
        fn read(&self, path: &CStr, buffer: &mut [u8]) -> Option<usize> {
            let name = path.to_str().unwrap().strip_prefix("/sys/devices/system/node/").unwrap();
            let (_, text) = self.0.iter().find(|(file, _)| *file == name)?;
            buffer[..text.len()].copy_from_slice(text.as_bytes());
            Some(text.len())
        }
    }

    fn read(files: &'static [(&'static str, &'static str)], allowed: Option<&NodeMask>) -> Box<Machine> {
        let mut machine = Box::new(Machine::single());
        machine.read(&MadeUp(files), allowed);
        machine
    }

    fn order(machine: &Machine, from: usize) -> Vec<usize> {
        machine.others_by_distance(NodeIndex::new(from)).map(NodeIndex::get).collect()
    }

    #[test]
    fn no_sysfs_is_one_node() {
        assert_eq!(read(&[], None).count(), 1);
    }

    #[test]
    fn sparse_numbers_and_a_node_without_memory_map_to_the_nearest_with_memory() {
        let machine = read(
            &[
                ("online", "0,4,9\n"),
                ("has_memory", "4,9\n"),
                ("node0/distance", "10 40 21\n"),
                ("node4/distance", "40 10 30\n"),
                ("node9/distance", "21 30 10\n"),
            ],
            None,
        );
        assert_eq!(machine.count(), 2);
        assert_eq!(machine.id(NodeIndex::new(0)), NodeId::new(4));
        assert_eq!(machine.nearest(0).get(), 1);
        assert_eq!(machine.nearest(4).get(), 0);
        assert_eq!(machine.nearest(9).get(), 1);
        assert_eq!(machine.nearest(4000).get(), 0);
        assert_eq!(machine.find(NodeId::new(9)), Some(NodeIndex::new(1)));
        assert_eq!(machine.find(NodeId::new(0)), None);
    }

    #[test]
    fn next_best_is_by_distance_and_not_by_number() {
        let machine = read(
            &[
                ("online", "0-3\n"),
                ("has_memory", "0-3\n"),
                ("node0/distance", "10 31 21 21\n"),
                ("node1/distance", "31 10 21 41\n"),
                ("node2/distance", "21 21 10 31\n"),
                ("node3/distance", "21 41 31 10\n"),
            ],
            None,
        );
        assert_eq!(order(&machine, 0), [2, 3, 1]);
        assert_eq!(order(&machine, 1), [2, 0, 3]);
        assert_eq!(order(&machine, 3), [0, 2, 1]);
    }

    #[test]
    fn nodes_outside_the_cpuset_are_not_used() {
        let allowed: NodeMask = [2, 3].into_iter().collect();
        let machine = read(&[("online", "0-3\n"), ("has_memory", "0-3\n")], Some(&allowed));
        assert_eq!((0..4).map(|id| machine.nearest(id).get()).collect::<Vec<_>>(), [2, 2, 2, 3]);
        assert_eq!(machine.find(NodeId::new(1)), None);
        assert_eq!(order(&machine, 0), [2, 3]);
        // Without /sys, what is allowed is all there is.
        let machine = read(&[], Some(&allowed));
        assert_eq!(machine.count(), 2);
        assert_eq!(machine.id(NodeIndex::new(0)), NodeId::new(2));
        assert_eq!(machine.mask(), allowed);
    }

    #[test]
    fn a_node_that_may_not_be_used_any_more_is_served_by_the_nearest_that_may_and_comes_back() {
        let files: &[_] = &[
            ("online", "0-3\n"),
            ("has_memory", "0-3\n"),
            ("node0/distance", "10 31 21 21\n"),
            ("node1/distance", "31 10 21 41\n"),
            ("node2/distance", "21 21 10 31\n"),
            ("node3/distance", "21 41 31 10\n"),
        ];
        let all: NodeMask = (0..4).collect();
        let machine = read(files, Some(&all));
        assert!(!machine.allow(&MadeUp(files), &all));
        let few: NodeMask = [0, 3].into_iter().collect();
        assert!(machine.allow(&MadeUp(files), &few));
        assert_eq!(machine.count(), 4);
        assert_eq!((0..4).map(|id| machine.nearest(id).get()).collect::<Vec<_>>(), [0, 0, 0, 3]);
        assert_eq!(machine.find(NodeId::new(1)), None);
        assert_eq!(order(&machine, 1), [0, 3]);
        assert!(!machine.is_usable(NodeIndex::new(2)) && machine.is_usable(NodeIndex::new(3)));
        // Nodes that have no memory are not there; all of the others gone is not believed.
        let others: NodeMask = [7].into_iter().collect();
        assert!(!machine.allow(&MadeUp(files), &others));
        assert!(machine.allow(&MadeUp(files), &all));
        assert_eq!((0..4).map(|id| machine.nearest(id).get()).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }

    #[test]
    fn two_hundred_nodes_without_distances_are_all_there() {
        let machine = read(&[("online", "0-199\n"), ("has_memory", "0-199\n")], None);
        assert_eq!(machine.count(), 200);
        assert!(!machine.knows_distances());
        assert_eq!(machine.nearest(199).get(), 199);
        assert_eq!(machine.mask().words()[3], 0xff);
        assert_eq!(order(&machine, 7).len(), 199);
    }

    #[test]
    fn a_machine_with_as_many_nodes_as_there_can_be_leaves_an_index_for_what_is_spread() {
        let machine = read(&[("online", "0-1023\n"), ("has_memory", "0-1023\n")], None);
        assert_eq!(machine.count(), MOST_NODES);
        assert_eq!(machine.id(NodeIndex::new(MOST_NODES - 1)), NodeId::new(MOST_NODES as u16 - 1));
        // The last one's threads are served by another's memory.
        assert!(machine.nearest(MOST_NODES as u32).get() < MOST_NODES);
        assert_eq!(order(&machine, 7).len(), MOST_NODES - 1);
    }

    #[test]
    fn nonsense_in_sysfs_is_survived() {
        let machine = read(&[("online", "x-,99999999999999999999,,5-2\n"), ("has_memory", "\n")], None);
        assert_eq!(machine.count(), 1);
    }
}
