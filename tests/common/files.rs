//! Machines that do not exist, written as the files a kernel would have for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// One node of a machine.
#[derive(Clone, Default)]
pub struct MadeNode {
    pub id: usize,
    pub cpus: Vec<usize>,
    pub kib: u64,
    pub tier: Option<u32>,
    /// Read and write bandwidth in MB/s, read and write latency in ns, and the nodes that have them.
    pub access: Option<([u64; 4], Vec<usize>)>,
}

/// A set of CPUs as the kernel writes it: words of 32 bits, the highest first.
fn mask(cpus: &[usize]) -> String {
    let words = cpus.iter().max().map_or(1, |last| last / 32 + 1);
    let word = |at: usize| cpus.iter().filter(|cpu| **cpu / 32 == at).fold(0_u32, |word, cpu| word | 1 << (cpu % 32));
    (0..words).rev().map(|at| format!("{:08x}", word(at))).collect::<Vec<_>>().join(",")
}

fn list(numbers: &[usize]) -> String {
    numbers.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

fn write(root: &Path, path: &str, text: &str) {
    let file = root.join(path);
    fs::create_dir_all(file.parent().expect("files lie in folders")).expect("the folder can be made");
    fs::write(file, format!("{text}\n")).expect("the file can be written");
}

/// Writes the machine's files below a folder of their own.
pub fn machine(name: &str, nodes: &[MadeNode], distance: impl Fn(usize, usize) -> u8) -> PathBuf {
    // Tests run side by side, some on the same machine.
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let unique = format!("machine-{name}-{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let root = Path::new(env!("CARGO_TARGET_TMPDIR")).join(unique);
    let _ = fs::remove_dir_all(&root);
    let ids: Vec<usize> = nodes.iter().map(|node| node.id).collect();
    let mut cpus: Vec<usize> = nodes.iter().flat_map(|node| node.cpus.iter().copied()).collect();
    cpus.sort_unstable();
    let with_memory: Vec<usize> = nodes.iter().filter(|node| node.kib > 0).map(|node| node.id).collect();
    for (file, text) in [
        ("devices/system/node/online", list(&ids)),
        ("devices/system/node/possible", list(&ids)),
        ("devices/system/node/has_memory", list(&with_memory)),
        ("devices/system/cpu/online", list(&cpus)),
        ("devices/system/cpu/possible", list(&cpus)),
    ] {
        write(&root.join("sys"), file, &text);
    }
    write(&root, "proc/cpuinfo", "");
    write(&root, "proc/mounts", "");
    for node in nodes {
        let folder = root.join(format!("sys/devices/system/node/node{}", node.id));
        write(&folder, "cpulist", &list(&node.cpus));
        write(&folder, "cpumap", &mask(&node.cpus));
        let total = format!("Node {} MemTotal: {:9} kB\nNode {0} MemFree: {:9} kB", node.id, node.kib, node.kib / 4);
        write(&folder, "meminfo", &total);
        let row: Vec<String> = ids.iter().map(|to| distance(node.id, *to).to_string()).collect();
        write(&folder, "distance", &row.join(" "));
        if let Some(tier) = node.tier {
            let file = format!("sys/devices/virtual/memory_tiering/memory_tier{tier}/nodelist");
            let all: Vec<usize> = nodes.iter().filter(|other| other.tier == Some(tier)).map(|node| node.id).collect();
            write(&root, &file, &list(&all));
        }
        if let Some((values, initiators)) = &node.access {
            let names = ["read_bandwidth", "write_bandwidth", "read_latency", "write_latency"];
            for (name, value) in names.iter().zip(values) {
                write(&folder, &format!("access0/initiators/{name}"), &value.to_string());
            }
            for initiator in initiators {
                let link = folder.join(format!("access0/initiators/node{initiator}"));
                std::os::unix::fs::symlink(format!("../../../node{initiator}"), link).expect("links can be made");
            }
        }
        for cpu in &node.cpus {
            let topology = root.join(format!("sys/devices/system/cpu/cpu{cpu}/topology"));
            for (file, text) in [
                ("core_cpus", mask(&[*cpu])),
                ("thread_siblings", mask(&[*cpu])),
                ("core_id", cpu.to_string()),
                ("package_cpus", mask(&node.cpus)),
                ("core_siblings", mask(&node.cpus)),
                ("physical_package_id", node.id.to_string()),
            ] {
                write(&topology, file, &text);
            }
        }
    }
    root
}

/// Two nodes with CPUs, the second of them without memory; numbers have gaps.
pub fn sparse() -> PathBuf {
    let nodes = [
        MadeNode { id: 0, cpus: vec![0, 1, 2, 3, 8], kib: 4 << 20, ..MadeNode::default() },
        MadeNode { id: 4, cpus: vec![4, 5, 6, 7], kib: 0, ..MadeNode::default() },
        MadeNode { id: 9, cpus: vec![9, 10], kib: 8 << 20, ..MadeNode::default() },
    ];
    machine("sparse", &nodes, |from, to| match (from, to) {
        _ if from == to => 10,
        (0, 4) | (4, 0) => 21,
        _ => 31,
    })
}

/// Two ordinary nodes, and one that is memory only and slower.
pub fn expanded() -> PathBuf {
    let ordinary = |id: usize| MadeNode {
        id,
        cpus: (id * 4..id * 4 + 4).collect(),
        kib: 16 << 20,
        tier: Some(4),
        access: Some(([180_000, 120_000, 90, 100], vec![id])),
    };
    let access = Some(([30_000, 25_000, 250, 260], vec![0]));
    let slow = MadeNode { id: 2, cpus: vec![], kib: 64 << 20, tier: Some(22), access };
    machine("expanded", &[ordinary(0), ordinary(1), slow], |from, to| match (from, to) {
        _ if from == to => 10,
        (2, 1) | (1, 2) => 34,
        (2, _) | (_, 2) => 24,
        _ => 21,
    })
}

/// Seventy-two nodes of one CPU each.
pub fn many() -> PathBuf {
    let node = |id: usize| MadeNode { id, cpus: vec![id], kib: 1 << 20, ..MadeNode::default() };
    machine("many", &(0..72).map(node).collect::<Vec<_>>(), |from, to| {
        if from == to { 10 } else { 20 + (from / 12).abs_diff(to / 12) as u8 }
    })
}
