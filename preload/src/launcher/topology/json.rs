//! The machine for programs.

use homing::{Node, NodeId, Topology};
use serde_json::{Map, Value, json};

/// All that is known, as one JSON object and a line's end. What is not known is `null`.
pub(crate) fn describe(machine: &Topology, source: &str) -> String {
    let nodes: Vec<Value> = machine.nodes().iter().map(|node| describe_node(machine, node)).collect();
    let missing: Vec<String> = machine.missing().iter().map(ToString::to_string).collect();
    let machine = json!({ "source": source, "missing": missing, "nodes": nodes });
    format!("{machine:#}\n")
}

fn describe_node(machine: &Topology, node: &Node) -> Value {
    let (memory, access) = (node.memory(), node.access());
    let distances: Map<String, Value> = machine
        .nodes()
        .iter()
        .map(|other| (other.id().number().to_string(), json!(node.distance_to(other.id()))))
        .collect();
    json!({
        "node": node.id().number(),
        "cpus": node.cpus().iter().map(|cpu| cpu.number()).collect::<Vec<_>>(),
        "total_bytes": memory.total,
        "free_bytes": memory.free,
        "allowed": node.is_allowed(),
        "tier": node.tier(),
        "read_mb_per_s": access.read_bandwidth,
        "write_mb_per_s": access.write_bandwidth,
        "read_ns": access.read_latency,
        "write_ns": access.write_latency,
        "initiators": node.initiators().iter().copied().map(NodeId::number).collect::<Vec<_>>(),
        "distances": distances,
    })
}
