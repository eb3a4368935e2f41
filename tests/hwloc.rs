//! What hwloc says of a machine, against what the kernel's files say of it.

#[path = "common/files.rs"]
mod files;

use std::ffi::CStr;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use homing::{CpuId, Missing, Node, NodeId, Source, Topology, TopologyError};

/// A folder that stands for the root of another machine's files.
struct Root(PathBuf);

impl Source for Root {
    fn read(&self, path: &CStr, buffer: &mut [u8]) -> Option<usize> {
        let text = std::fs::read(self.0.join(path.to_str().ok()?.trim_start_matches('/'))).ok()?;
        let length = text.len().min(buffer.len());
        buffer[..length].copy_from_slice(&text[..length]);
        Some(length)
    }
}

/// That two values are the same, where both are known.
#[track_caller]
fn agree<T: PartialEq + std::fmt::Debug>(what: &str, hwloc: Option<T>, files: Option<T>) {
    if let (Some(hwloc), Some(files)) = (hwloc, files) {
        assert_eq!(hwloc, files, "{what}: hwloc, then the files");
    }
}

fn ids(machine: &Topology) -> Vec<NodeId> {
    machine.nodes().iter().map(Node::id).collect()
}

fn must_agree(hwloc: &Topology, files: &Topology) {
    assert_eq!(ids(hwloc), ids(files));
    for (node, other) in hwloc.nodes().iter().zip(files.nodes()) {
        let what = format!("node {}", node.id().number());
        assert_eq!(node.cpus(), other.cpus(), "{what}");
        assert_eq!(node.is_allowed(), other.is_allowed(), "{what}");
        agree(&what, node.memory().total, other.memory().total);
        for to in ids(hwloc) {
            agree(&format!("{what} to {to:?}"), node.distance_to(to), other.distance_to(to));
        }
        let (access, known) = (node.access(), other.access());
        agree(&what, access.read_bandwidth, known.read_bandwidth);
        agree(&what, access.write_bandwidth, known.write_bandwidth);
        agree(&what, access.read_latency, known.read_latency);
        agree(&what, access.write_latency, known.write_latency);
        if !node.initiators().is_empty() && !other.initiators().is_empty() {
            assert_eq!(node.initiators(), other.initiators(), "{what}");
        }
        // Each numbers tiers in its own way; which of two is the faster must be the same.
        for (peer, other_peer) in hwloc.nodes().iter().zip(files.nodes()) {
            let order = |one: &Node, two: &Node| Some(one.tier()?.cmp(&two.tier()?));
            agree(&format!("{what}, tier"), order(node, peer), order(other, other_peer));
        }
    }
}

#[test]
fn hwloc_and_the_kernel_do_not_describe_two_machines() {
    let totals = |machine: &Topology| machine.nodes().iter().map(|node| node.memory().total).collect::<Vec<_>>();
    // Memory of a virtual machine comes and goes: between two equal readings it did not.
    let (kernel, hwloc) = loop {
        let (before, hwloc, after) = (Topology::read(), Topology::from_hwloc().unwrap(), Topology::read());
        if totals(&before) == totals(&after) {
            break (after, hwloc);
        }
    };
    must_agree(&hwloc, &kernel);
    // What one of the two knows is not lost.
    assert_eq!(hwloc.missing(), kernel.missing());
    for (node, other) in hwloc.nodes().iter().zip(kernel.nodes()) {
        assert_eq!(node.memory().free.is_some(), other.memory().free.is_some());
        assert_eq!(node.tier().is_some(), other.tier().is_some());
        assert_eq!(node.distance_to(node.id()), other.distance_to(node.id()));
    }
}

/// hwloc takes another machine's root from its environment, so each machine is read by a process of its own: this test
/// again, told by a variable.
#[test]
fn hwloc_and_the_files_of_a_made_up_machine_do_not_describe_two_machines() {
    const NAME: &str = "hwloc_and_the_files_of_a_made_up_machine_do_not_describe_two_machines";
    if let Some(root) = std::env::var_os("HWLOC_FSROOT") {
        let hwloc = Topology::from_hwloc().unwrap();
        let files = Topology::from_source(&Root(root.into()));
        must_agree(&hwloc, &files);
        assert!(hwloc.nodes().iter().all(|node| node.distance_to(node.id()) == Some(10)), "{hwloc:?}");
        assert!(hwloc.nodes().iter().all(|node| node.memory().free.is_none_or(|free| free == 0)), "not this system");
        let speeds =
            |machine: &Topology| machine.nodes().iter().filter(|node| node.access().read_latency.is_some()).count();
        assert_eq!(speeds(&hwloc), speeds(&files), "{hwloc:?}");
        return;
    }
    for root in [files::sparse(), files::expanded(), files::many()] {
        let mut again = Command::new(std::env::current_exe().unwrap());
        let outcome = again.args(["--exact", NAME]).env("HWLOC_FSROOT", &root).output().unwrap();
        let said = String::from_utf8_lossy(&outcome.stdout);
        assert!(outcome.status.success() && said.contains("1 passed"), "{}: {said}", root.display());
    }
}

#[test]
fn a_synthetic_machine_has_all_its_nodes_and_says_that_it_has_no_distances() {
    let machine = Topology::from_hwloc_synthetic("NUMANode:4(memory=1GB) PU:2").unwrap();
    assert_eq!(machine.nodes().len(), 4);
    for (number, node) in machine.nodes().iter().enumerate() {
        let number = number as u32;
        assert_eq!(node.id().number(), number as u16);
        assert_eq!(node.cpus(), [2 * number, 2 * number + 1].map(CpuId::new));
        assert_eq!(node.memory().total, Some(1_000_000_000));
        assert!(node.is_allowed());
        assert!(machine.missing().contains(&Missing::Distances(node.id())));
    }
    assert_eq!(machine.node_of_cpu(CpuId::new(5)), Some(NodeId::new(2)));
    let two_hundred = Topology::from_hwloc_synthetic("NUMANode:200 PU:1").unwrap();
    assert_eq!(two_hundred.nodes().len(), 200);
}

/// The machine of a synthetic description, in hwloc's XML.
fn xml_of(description: &str) -> String {
    let builder = hwlocality::topology::builder::TopologyBuilder::new().from_synthetic(description).unwrap();
    builder.build().unwrap().export_xml(Default::default()).unwrap().to_string()
}

/// A file of that machine.
fn xml_file(xml: &str) -> PathBuf {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    let name = format!("machine-{}-{}.xml", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::write(&file, xml).unwrap();
    file
}

#[test]
fn a_machine_whose_memory_hwloc_does_not_know_is_not_taken_for_one_without_any() {
    let xml = xml_of("NUMANode:2(memory=1GiB) PU:1");
    let size = " local_memory=\"1073741824\"";
    assert_eq!(xml.matches(size).count(), 2);
    let none = Topology::from_hwloc_xml(&xml_file(&xml.replace(size, ""))).unwrap();
    assert!(none.nodes().iter().all(|node| node.memory().total.is_none()), "{none:?}");
    assert!(none.missing().contains(&Missing::Memory(NodeId::new(1))));
    let one = Topology::from_hwloc_xml(&xml_file(&xml.replacen(size, "", 1))).unwrap();
    assert_eq!(one.nodes()[0].memory().total, Some(0));
    assert!(!one.missing().contains(&Missing::Memory(NodeId::new(0))));
}

/// Two nodes, each with two CPUs; of the second one's memory it is known how fast it is for the CPUs of both, and in
/// which tier it is. `local` is how far a node is from itself.
fn two_nodes(local: u8) -> Topology {
    let xml = xml_of("NUMANode:2(memory=1GiB) PU:2");
    let (first, second) = xml.split_once("os_index=\"1\" cpuset=\"0x0000000c\"").unwrap();
    let (tag, rest) = second.split_once('>').unwrap();
    let target = tag.split_once("gp_index=\"").unwrap().1.split_once('"').unwrap().0;
    let attribute = |name: &str, flags: u32, far: u64, near: u64| {
        let value = |cpus: &str, value: u64| {
            format!(
                "<memattr_value target_obj_type=\"NUMANode\" target_obj_gp_index=\"{target}\" value=\"{value}\" \
                 initiator_cpuset=\"{cpus}\"/>"
            )
        };
        format!("<memattr name=\"{name}\" flags=\"{flags}\">{}{}</memattr>", value("0x3", far), value("0xc", near))
    };
    let values = format!("{local} 21 31 {local} ");
    let distances = format!(
        "<distances2 type=\"NUMANode\" nbobjs=\"2\" kind=\"5\" name=\"NUMALatency\" indexing=\"os\">\
         <indexes length=\"4\">0 1 </indexes><u64values length=\"{}\">{values}</u64values></distances2>",
        values.len()
    );
    let more = distances + &attribute("ReadBandwidth", 5, 10_000, 20_000) + &attribute("ReadLatency", 6, 300, 100);
    let rest = rest.replace("</topology>", &format!("{more}</topology>"));
    let xml = format!("{first}os_index=\"1\" cpuset=\"0x0000000c\"{tag}><info name=\"MemoryTier\" value=\"1\"/>{rest}");
    Topology::from_hwloc_xml(&xml_file(&xml)).unwrap()
}

#[test]
fn of_several_speeds_the_best_is_told_and_who_has_it() {
    let machine = two_nodes(10);
    let node = machine.node(NodeId::new(1)).unwrap();
    assert_eq!((node.access().read_bandwidth, node.access().read_latency), (Some(20_000), Some(100)));
    assert_eq!((node.access().write_bandwidth, node.access().write_latency), (None, None));
    assert_eq!(node.initiators(), [NodeId::new(1)]);
    assert_eq!(machine.nodes()[0].initiators(), []);
    assert_eq!((machine.nodes()[0].tier(), node.tier()), (None, Some(1)));
}

#[test]
fn distances_in_other_units_than_the_firmware_s_are_not_taken_for_the_firmware_s() {
    let machine = two_nodes(10);
    let [first, second] = machine.nodes() else { panic!("two nodes") };
    assert_eq!((first.distance_to(second.id()), second.distance_to(first.id())), (Some(21), Some(31)));
    assert!(machine.is_complete());
    let machine = two_nodes(1);
    assert!(machine.nodes().iter().all(|node| node.distance_to(NodeId::new(0)).is_none()));
    assert_eq!(machine.missing().len(), 2);
}

#[test]
fn memory_that_shares_cpus_with_another_node_does_not_have_them_twice() {
    // Packages with ordinary memory of their own, each with a second, large one at its side.
    let machine =
        Topology::from_hwloc_synthetic("Package:2 [NUMANode(memory=1GB)] [NUMANode(memory=8GB)] PU:4").unwrap();
    let counts: Vec<usize> = machine.nodes().iter().map(|node| node.cpus().len()).collect();
    assert_eq!(counts.iter().sum::<usize>(), 8, "{counts:?}");
    assert_eq!(counts.iter().filter(|count| **count == 0).count(), 2, "{counts:?}");
}

#[test]
fn a_machine_survives_the_way_through_a_file() {
    let described = "NUMANode:3(memory=2GB) PU:4";
    let file = xml_file(&xml_of(described));
    assert_eq!(Topology::from_hwloc_xml(&file), Topology::from_hwloc_synthetic(described));
}

#[test]
fn what_hwloc_does_not_take_is_an_error_that_says_what_to_do() {
    let error = Topology::from_hwloc_synthetic("Node:lots").unwrap_err();
    assert_eq!(error, TopologyError::Description("Node:lots".to_owned()));
    assert!(error.to_string().contains("'Node:lots'") && error.to_string().contains("NUMANode:2"), "{error}");
    assert!(Topology::from_hwloc_synthetic("NUMANode:2\0PU:1").is_err());
    let toml = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for (file, part) in [("/nowhere/at/all.xml", "No such file"), ("/", "directory"), (toml, "hwloc")] {
        let error = Topology::from_hwloc_xml(file.as_ref()).unwrap_err();
        let TopologyError::File { path, reason } = &error else { panic!("{error}") };
        assert!(path.as_os_str() == file && reason.contains(part), "{error}");
        assert!(error.to_string().contains("lstopo"), "{error}");
    }
}
