//! Machines, from the kernel's files about them: files of any content, and those that a kernel would write of a machine
//! that the bytes describe.
#![no_main]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CStr;

use arbitrary::Unstructured;
use homing::{CpuId, Missing, Node, NodeId, Source, Topology};
use libfuzzer_sys::fuzz_target;

/// As a kernel is built with at most, and a bound that the library sets itself.
const NODES: u16 = 1024;
const CPUS: u32 = 1 << 16;

const NODE: &str = "/sys/devices/system/node";

/// The files of a machine, by path.
struct Files(BTreeMap<String, Vec<u8>>);

impl Source for Files {
    fn read(&self, path: &CStr, buffer: &mut [u8]) -> Option<usize> {
        let text = self.0.get(path.to_str().expect("paths are plain text"))?;
        let length = text.len().min(buffer.len());
        buffer[..length].copy_from_slice(&text[..length]);
        Some(length)
    }
}

/// A path that is read of some machine.
fn path(kind: u8) -> String {
    let node = kind / 16 % 8;
    match kind % 16 {
        0 => format!("{NODE}/online"),
        1 => format!("{NODE}/has_memory"),
        2 => "/proc/self/status".to_owned(),
        3 => "/proc/meminfo".to_owned(),
        4 => "/sys/devices/system/cpu/online".to_owned(),
        5 => format!("/sys/devices/virtual/memory_tiering/memory_tier{node}/nodelist"),
        6 | 7 => format!("{NODE}/node{node}/cpulist"),
        8 | 9 => format!("{NODE}/node{node}/meminfo"),
        10 | 11 => format!("{NODE}/node{node}/distance"),
        12 => format!("{NODE}/node{node}/access0/initiators/read_bandwidth"),
        13 => format!("{NODE}/node{node}/access0/initiators/write_latency"),
        14 => format!("{NODE}/node{node}/access0/initiators/node0/cpulist"),
        _ => format!("{NODE}/node{node}/access0/initiators/node1/cpulist"),
    }
}

/// Whatever the files say, the description is one of a machine.
fn must_make_sense(machine: &Topology) {
    let nodes = machine.nodes();
    assert!(!nodes.is_empty());
    assert!(nodes.is_sorted_by_key(|node| node.id()) && nodes.windows(2).all(|pair| pair[0].id() != pair[1].id()));
    assert_eq!(machine.is_complete(), machine.missing().is_empty());
    assert!(nodes.iter().any(Node::is_allowed), "no process is without memory");
    for node in nodes {
        let (id, cpus) = (node.id(), node.cpus());
        assert!(id.number() < NODES && machine.node(id) == Some(node));
        assert!(cpus.windows(2).all(|pair| pair[0] < pair[1]) && cpus.iter().all(|cpu| cpu.number() < CPUS));
        // A CPU that two nodes claim is the first one's.
        assert!(cpus.iter().all(|cpu| machine.node_of_cpu(*cpu).is_some_and(|owner| owner <= id)));
        let memory = node.memory();
        assert!(memory.free.is_none_or(|free| memory.total.is_none_or(|total| free <= total)));
        assert_eq!(machine.missing().contains(&Missing::Memory(id)), memory.total.is_none());
        let speeds = node.access();
        let speeds = [speeds.read_bandwidth, speeds.write_bandwidth, speeds.read_latency, speeds.write_latency];
        assert!(speeds.iter().all(|speed| *speed != Some(0)));
        let initiators = node.initiators();
        assert!(initiators.is_empty() || speeds.iter().any(Option::is_some));
        assert!(initiators.iter().all(|from| machine.node(*from).is_some_and(|from| !from.cpus().is_empty())));
        let nearest: Vec<&Node> = machine.nearest_to(id).collect();
        assert_eq!(nearest.len(), nodes.len() - 1);
        let far = |other: &&Node| (node.distance_to(other.id()).map_or(u16::MAX, u16::from), other.id());
        assert!(nearest.is_sorted_by_key(far) && nearest.iter().all(|other| other.id() != id));
        assert!(nodes.iter().all(|other| node.distance_to(other.id()) != Some(0)), "nothing is nearer than near");
        let is_unknown = |other: &Node| node.distance_to(other.id()).is_none();
        let says_nodes = !machine.missing().contains(&Missing::Nodes);
        assert_eq!(machine.missing().contains(&Missing::Distances(id)), says_nodes && nodes.iter().any(is_unknown));
    }
}

/// Files of any content: each is a byte that says which, and the bytes up to the next zero.
fn any_files(bytes: &[u8]) -> Files {
    let files = bytes.split(|byte| *byte == 0).filter_map(|file| file.split_first());
    Files(files.map(|(kind, text)| (path(*kind), text.to_vec())).collect())
}

/// A set as the kernel writes it.
fn list<N: Copy + Into<u32>>(numbers: &BTreeSet<N>) -> Vec<u8> {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers.iter().map(|number| (*number).into()) {
        match ranges.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let write = |(first, last): &(u32, u32)| if first == last { format!("{first}") } else { format!("{first}-{last}") };
    (ranges.iter().map(write).collect::<Vec<_>>().join(",") + "\n").into_bytes()
}

/// A node as the bytes describe it.
struct Made {
    cpus: BTreeSet<u32>,
    total_kib: u64,
    free_kib: u64,
    distances: Vec<u8>,
}

/// A machine as the bytes describe it is read as that machine.
fn must_be_read_as_written(bytes: &mut Unstructured) -> arbitrary::Result<()> {
    let ids: BTreeSet<u16> =
        (0..bytes.int_in_range(1..=12)?).map(|_| bytes.int_in_range(0..=NODES - 1)).collect::<Result<_, _>>()?;
    let mut next_cpu = 0;
    let mut files = BTreeMap::from([(format!("{NODE}/online"), list(&ids))]);
    let mut made = BTreeMap::new();
    for id in &ids {
        let mut cpus = BTreeSet::new();
        for _ in 0..bytes.int_in_range(0..=4)? {
            // A range, and a gap after it.
            let end = next_cpu + bytes.int_in_range(1..=64)?;
            cpus.extend(next_cpu..end);
            next_cpu = end + bytes.int_in_range(0..=1200)?;
        }
        let total_kib = bytes.int_in_range(0..=u64::MAX >> 10)?;
        // More free than there is, and nothing at all between two nodes, is nonsense: neither is taken over.
        let free_kib = bytes.int_in_range(0..=u64::MAX >> 10)?;
        let distances = ids.iter().map(|_| bytes.arbitrary()).collect::<Result<Vec<u8>, _>>()?;
        let meminfo = format!("Node {id} MemTotal: {total_kib:14} kB\nNode {id} MemFree: {free_kib:14} kB\n");
        let row = distances.iter().map(u8::to_string).collect::<Vec<_>>().join(" ") + "\n";
        for (file, text) in [("cpulist", list(&cpus)), ("meminfo", meminfo.into()), ("distance", row.into())] {
            files.insert(format!("{NODE}/node{id}/{file}"), text);
        }
        made.insert(*id, Made { cpus, total_kib, free_kib, distances });
    }
    let allowed = ids.iter().copied().filter(|_| bytes.arbitrary().unwrap_or(true)).collect::<BTreeSet<u16>>();
    let line = [b"Name:\tfuzz\nMems_allowed_list:\t", list(&allowed).as_slice()].concat();
    files.insert("/proc/self/status".to_owned(), line);

    let machine = Topology::from_source(&Files(files));
    must_make_sense(&machine);
    let lacks_distances = |made: &Made| made.distances.contains(&0);
    assert_eq!(machine.is_complete(), !made.values().any(lacks_distances), "{:?}", machine.missing());
    assert!(machine.nodes().iter().map(|node| node.id().number()).eq(ids.iter().copied()));
    for (node, (id, made)) in machine.nodes().iter().zip(&made) {
        assert!(node.cpus().iter().map(|cpu| cpu.number()).eq(made.cpus.iter().copied()), "the CPUs of node {id}");
        assert!(made.cpus.iter().all(|cpu| machine.node_of_cpu(CpuId::new(*cpu)) == Some(node.id())));
        assert_eq!(node.memory().total, Some(made.total_kib << 10));
        let free = (made.free_kib <= made.total_kib).then_some(made.free_kib << 10);
        assert_eq!(node.memory().free, free, "free on node {id}");
        for (other, distance) in ids.iter().zip(&made.distances) {
            let distance = Some(*distance).filter(|distance| *distance > 0);
            assert_eq!(node.distance_to(NodeId::new(*other)), distance, "from node {id} to {other}");
        }
        // A list without any of the machine's nodes is about something else.
        assert_eq!(node.is_allowed(), allowed.is_empty() || allowed.contains(id), "node {id}");
    }
    Ok(())
}

fuzz_target!(|bytes: &[u8]| {
    match bytes.split_first() {
        Some((0, rest)) => drop(must_be_read_as_written(&mut Unstructured::new(rest))),
        _ => must_make_sense(&Topology::from_source(&any_files(bytes))),
    }
});
