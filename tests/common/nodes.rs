//! The machine's nodes, and threads that run on one of them.

use homing::{NodeId, Topology};

/// The nodes that this process may take memory from.
pub fn nodes() -> Vec<NodeId> {
    let machine = Topology::read();
    let usable = |node: &&homing::Node| node.is_allowed() && node.memory().total != Some(0);
    machine.nodes().iter().filter(usable).map(homing::Node::id).collect()
}

/// A CPU of each node that has any and has memory.
pub fn cpus() -> Vec<(usize, NodeId)> {
    let machine = Topology::read();
    let with_memory = nodes();
    let cpu_of = |node: &homing::Node| Some((node.cpus().first()?.number() as usize, node.id()));
    machine.nodes().iter().filter(|node| with_memory.contains(&node.id())).filter_map(cpu_of).collect()
}

/// Has the calling thread run on that CPU alone.
pub fn run_on(cpu: usize) {
    // SAFETY: an all-zero set is an empty one, of which one bit is set; the call reads it.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of_val(&set), &set), 0);
    }
}
