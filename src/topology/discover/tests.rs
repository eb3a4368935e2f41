use core::cell::RefCell;
use core::ffi::CStr;
use std::collections::HashMap;

use super::*;

/// A machine made of files; counts how often it was asked for one.
#[derive(Default)]
struct MadeUp {
    files: HashMap<String, String>,
    asked: RefCell<usize>,
}

impl MadeUp {
    fn with(mut self, path: &str, text: &str) -> Self {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/sys/devices/system/node/{path}") };
        self.files.insert(path, text.to_owned());
        self
    }

    fn read(&self) -> Topology {
        Topology::from_source(self)
    }
}

impl Source for MadeUp {
    fn read(&self, path: &CStr, buffer: &mut [u8]) -> Option<usize> {
        *self.asked.borrow_mut() += 1;
        let text = self.files.get(path.to_str().unwrap())?.as_bytes();
        let length = text.len().min(buffer.len());
        buffer[..length].copy_from_slice(&text[..length]);
        Some(length)
    }
}

fn id(number: u16) -> NodeId {
    NodeId::new(number)
}

fn ids<'nodes>(nodes: impl Iterator<Item = &'nodes Node>) -> Vec<u16> {
    nodes.map(|node| node.id().number()).collect()
}

fn meminfo(node: u16, total_kib: u64, free_kib: u64) -> String {
    format!(
        "Node {node} MemTotal:       {total_kib} kB\nNode {node} MemFree:        {free_kib} kB\nNode {node} MemUsed: 1 kB\n"
    )
}

/// Two nodes with CPUs, one of them without memory, and a slower one that is memory only; numbers have gaps.
fn mixed() -> MadeUp {
    MadeUp::default()
        .with("online", "0,4,9\n")
        .with("has_memory", "4,9\n")
        .with("node0/cpulist", "0-3,8\n")
        .with("node4/cpulist", "4-7\n")
        .with("node9/cpulist", "\n")
        .with("node0/meminfo", &meminfo(0, 0, 0))
        .with("node4/meminfo", &meminfo(4, 2048, 1024))
        .with("node9/meminfo", &meminfo(9, 8192, 8192))
        .with("node0/distance", "10 40 21\n")
        .with("node4/distance", "40 10 30\n")
        .with("node9/distance", "21 30 10\n")
        .with("node9/access0/initiators/read_bandwidth", "12000\n")
        .with("node9/access0/initiators/write_bandwidth", "0\n")
        .with("node9/access0/initiators/read_latency", "250\n")
        .with("node9/access0/initiators/node0/cpulist", "0-3,8\n")
        .with("/sys/devices/virtual/memory_tiering/memory_tier4/nodelist", "4\n")
        .with("/sys/devices/virtual/memory_tiering/memory_tier22/nodelist", "9\n")
}

#[test]
fn nodes_with_gaps_in_their_numbers_keep_what_is_theirs() {
    let machine = mixed().read();
    assert!(machine.is_complete(), "{:?}", machine.missing());
    assert_eq!(ids(machine.nodes().iter()), [0, 4, 9]);
    assert_eq!(machine.node(id(1)), None);
    let [first, second, third] = machine.nodes() else { panic!("three nodes") };
    assert_eq!(first.cpus(), [0, 1, 2, 3, 8].map(CpuId::new));
    assert_eq!(first.memory(), Memory { total: Some(0), free: Some(0) });
    assert_eq!(second.memory(), Memory { total: Some(2 << 20), free: Some(1 << 20) });
    assert_eq!(third.cpus(), []);
    assert_eq!((first.tier(), second.tier(), third.tier()), (None, Some(4), Some(22)));
    assert_eq!(first.distance_to(id(9)), Some(21));
    assert_eq!(second.distance_to(id(0)), Some(40));
    assert_eq!(second.distance_to(id(1)), None);
}

#[test]
fn access_that_the_firmware_left_out_is_not_taken_for_infinitely_slow() {
    let machine = mixed().read();
    let access = machine.node(id(9)).unwrap().access();
    assert_eq!(access.read_bandwidth, Some(12000));
    assert_eq!(access.write_bandwidth, None);
    assert_eq!((access.read_latency, access.write_latency), (Some(250), None));
    assert_eq!(machine.node(id(9)).unwrap().initiators(), [id(0)]);
    assert_eq!(machine.node(id(4)).unwrap().access(), Access::default());
}

#[test]
fn the_nearest_nodes_come_by_distance_and_the_unknown_ones_last() {
    let machine = mixed().read();
    assert_eq!(ids(machine.nearest_to(id(0))), [9, 4]);
    assert_eq!(ids(machine.nearest_to(id(4))), [9, 0]);
    assert_eq!(ids(machine.nearest_to(id(3))), [0_u16; 0]);
    let partly = mixed().with("node4/distance", "x 10 255\n").read();
    assert_eq!(ids(partly.nearest_to(id(4))), [9, 0]);
    assert_eq!(partly.missing(), [Missing::Distances(id(4))]);
}

#[test]
fn a_cpu_belongs_to_its_node_and_an_unknown_one_to_none() {
    let machine = mixed().read();
    assert_eq!(machine.node_of_cpu(CpuId::new(8)), Some(id(0)));
    assert_eq!(machine.node_of_cpu(CpuId::new(4)), Some(id(4)));
    assert_eq!(machine.node_of_cpu(CpuId::new(9)), None);
}

#[test]
fn two_hundred_nodes_are_all_there_with_rows_longer_than_the_first_buffer() {
    let mut machine = MadeUp::default().with("online", "0-199\n").with("has_memory", "0-199\n");
    let cpus: Vec<String> = (0..2000).map(|cpu| (cpu * 2).to_string()).collect();
    machine = machine.with("node7/cpulist", &cpus.join(","));
    for from in 0..200_u16 {
        let row: Vec<String> = (0..200).map(|to| if to == from { "10".to_owned() } else { "254".to_owned() }).collect();
        machine = machine.with(&format!("node{from}/distance"), &format!("{}   ", row.join("     ")));
    }
    let machine = machine.read();
    assert_eq!(machine.nodes().len(), 200);
    assert_eq!(machine.node(id(7)).unwrap().cpus().len(), 2000);
    assert_eq!(machine.node(id(199)).unwrap().distance_to(id(198)), Some(254));
    assert_eq!(machine.nearest_to(id(42)).count(), 199);
}

#[test]
fn a_machine_without_sysfs_is_one_node_and_says_what_is_missing() {
    let bare = MadeUp::default().read();
    assert_eq!(ids(bare.nodes().iter()), [0]);
    assert_eq!(bare.missing(), [Missing::Nodes, Missing::Cpus(id(0)), Missing::Memory(id(0))]);
    assert_eq!(bare.nodes()[0].memory(), Memory { total: None, free: None });
    assert!(bare.nodes()[0].is_allowed());
    let with_proc = MadeUp::default()
        .with("/sys/devices/system/cpu/online", "0-1\n")
        .with("/proc/meminfo", "MemTotal:  1024 kB\nMemFree:  512 kB\n")
        .read();
    assert_eq!(with_proc.missing(), [Missing::Nodes]);
    assert_eq!(with_proc.nodes()[0].cpus().len(), 2);
    assert_eq!(with_proc.nodes()[0].memory(), Memory { total: Some(1 << 20), free: Some(1 << 19) });
}

#[test]
fn a_node_that_the_cpuset_leaves_out_is_not_allowed() {
    let machine = mixed().with("/proc/self/status", "Name:\tx\nMems_allowed_list:\t4-9\n").read();
    let allowed: Vec<bool> = machine.nodes().iter().map(Node::is_allowed).collect();
    assert_eq!(allowed, [false, true, true]);
    let foreign = mixed().with("/proc/self/status", "Mems_allowed_list:\t100\n").read();
    assert!(foreign.nodes().iter().all(Node::is_allowed), "a list with none of them is about another machine");
}

#[test]
fn nonsense_in_files_is_left_out_and_said() {
    let machine = MadeUp::default()
        .with("online", "1,x,,99999999999999999999,5-2,3-,-4,70000,1\n")
        .with("node1/cpulist", "0-4294967295,\u{fffd},3\n")
        .with("node1/meminfo", "MemTotal: lots\nMemFree: 18446744073709551615 kB\n")
        .with("node1/distance", "0 300 -1\n")
        .with("node1/access0/initiators/read_latency", "fast\n")
        .with("/sys/devices/virtual/memory_tiering/memory_tier1/nodelist", "2-\n")
        .read();
    assert_eq!(ids(machine.nodes().iter()), [1]);
    assert_eq!(machine.missing(), [Missing::Memory(id(1)), Missing::Distances(id(1))]);
    let node = &machine.nodes()[0];
    assert_eq!(node.cpus().len(), MAX_CPUS as usize);
    assert_eq!((node.tier(), node.access()), (None, Access::default()));
    assert_eq!(MadeUp::default().with("online", "\n").read().missing()[0], Missing::Nodes);
}

#[test]
fn a_source_that_claims_more_than_it_was_given_room_for_is_not_believed() {
    struct Liar;
    impl Source for Liar {
        fn read(&self, _: &CStr, buffer: &mut [u8]) -> Option<usize> {
            buffer.fill(b'7');
            Some(usize::MAX)
        }
    }
    assert_eq!(Topology::from_source(&Liar).missing()[0], Missing::Nodes);
}

#[test]
fn few_files_are_asked_for_on_a_machine_with_many_nodes() {
    let mut machine = MadeUp::default().with("online", "0-199\n").with("has_memory", "0-199\n");
    machine = machine.with("/sys/devices/virtual/memory_tiering/memory_tier4/nodelist", "0-199\n");
    for node in 0..200_u16 {
        machine = machine.with(&format!("node{node}/cpulist"), &format!("{node}\n"));
    }
    let _ = machine.read();
    assert!(*machine.asked.borrow() < 10 * 200, "{:?}", machine.asked);
}

#[test]
fn the_running_machine_has_a_node_with_cpus_and_one_that_may_be_used() {
    let machine = Topology::read();
    assert!(machine.nodes().iter().any(Node::is_allowed));
    assert!(machine.nodes().iter().any(|node| !node.cpus().is_empty()));
}

#[test]
fn without_files_the_nodes_that_the_process_may_use_are_there_by_their_numbers() {
    struct Nothing;
    impl Source for Nothing {
        fn read(&self, _: &std::ffi::CStr, _: &mut [u8]) -> Option<usize> {
            None
        }
    }
    let mut machine = Topology::from_source(&Nothing);
    machine.name_nodes(&[3]);
    assert_eq!(machine.missing()[0], Missing::Nodes, "one node is what is assumed anyway");
    machine.name_nodes(&[0, 2, 5]);
    assert_eq!(machine.nodes().iter().map(|node| node.id().number()).collect::<Vec<_>>(), [0, 2, 5]);
    assert!(
        machine.missing().contains(&Missing::Distances(NodeId::new(5))) && !machine.missing().contains(&Missing::Nodes)
    );
}
