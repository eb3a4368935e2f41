//! The machine for people: a table of its nodes, and one of the distances between them.

use std::fmt::Write;

use comfy_table::presets::{UTF8_BORDERS_ONLY, UTF8_FULL_CONDENSED};
use comfy_table::{Cell, CellAlignment, ColumnConstraint, ContentArrangement, Table, Width};
use homing::{CpuId, Missing, Node, Topology};

/// Columns of text at most, for a machine of which everything is known.
const WIDTH: u16 = 120;
/// Columns for a list of CPUs, which goes on in the next line.
const CPUS_WIDTH: u16 = 22;
/// Distances in one row of a table; beyond that the other columns get a table of their own.
const DISTANCES: usize = 16;
/// Characters of a bar.
const BAR: u64 = 10;
/// Reasons that are named one by one.
const NAMED: usize = 3;

/// Draws the machine.
pub(crate) fn draw(machine: &Topology, source: &str) -> String {
    let mut text = format!("{} (from {source})\n", summary(machine));
    if !machine.is_complete() {
        let _ = writeln!(text, "not known: {}", missing(machine));
    }
    let _ = writeln!(text, "\n{}", nodes(machine).trim_fmt());
    for part in distances(machine) {
        let _ = writeln!(text, "\n{}", part.trim_fmt());
    }
    text
}

fn summary(machine: &Topology) -> String {
    let nodes = machine.nodes();
    let count = |number: usize, what: &str| format!("{number} {what}{}", if number == 1 { "" } else { "s" });
    let mut text = count(nodes.len(), "node");
    if let Some(cpus) = nodes.iter().map(|node| cpus(machine, node).map(<[CpuId]>::len)).sum::<Option<usize>>() {
        let _ = write!(text, ", {}", count(cpus, "CPU"));
    }
    if let Some(total) = nodes.iter().map(|node| node.memory().total).sum::<Option<u64>>() {
        let _ = write!(text, ", {} of memory", size(total));
    }
    let closed = nodes.iter().filter(|node| usable(node) == "no").count();
    if closed > 0 {
        let _ = write!(text, ", {} that this process may not use", count(closed, "node"));
    }
    text
}

fn missing(machine: &Topology) -> String {
    let all: Vec<String> = machine.missing().iter().map(ToString::to_string).collect();
    let named = all[..all.len().min(NAMED)].join(", ");
    match all.len() - all.len().min(NAMED) {
        0 => named,
        more => format!("{named}, and {more} more"),
    }
}

/// The node's CPUs, if they are known.
fn cpus<'node>(machine: &Topology, node: &'node Node) -> Option<&'node [CpuId]> {
    (!machine.missing().contains(&Missing::Cpus(node.id()))).then(|| node.cpus())
}

/// A column: its heading, and what it says of a node.
type Column = (&'static str, CellAlignment, fn(&Node) -> String);

fn nodes(machine: &Topology) -> Table {
    let any = |known: fn(&Node) -> bool| machine.nodes().iter().any(known);
    let mut columns: Vec<Column> = vec![
        ("node", CellAlignment::Right, |node| node.id().number().to_string()),
        ("memory", CellAlignment::Left, bar),
        ("used", CellAlignment::Right, |node| known(used(node), size)),
        ("free", CellAlignment::Right, |node| known(node.memory().free, size)),
        ("total", CellAlignment::Right, |node| known(node.memory().total, size)),
        ("usable", CellAlignment::Left, usable),
    ];
    // Few machines say these.
    if any(|node| node.tier().is_some()) {
        columns.push(("tier", CellAlignment::Right, |node| known(node.tier(), |tier| tier.to_string())));
    }
    if any(|node| node.access().read_bandwidth.or(node.access().read_latency).is_some()) {
        columns.push(("reads", CellAlignment::Right, |node| {
            speed(node.access().read_bandwidth, node.access().read_latency)
        }));
    }
    if any(|node| node.access().write_bandwidth.or(node.access().write_latency).is_some()) {
        columns.push(("writes", CellAlignment::Right, |node| {
            speed(node.access().write_bandwidth, node.access().write_latency)
        }));
    }
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic).set_width(WIDTH);
    let (first, others) = (&columns[0], &columns[1..]);
    let headings = others.iter().map(|(heading, ..)| *heading);
    table.set_header([first.0, "CPUs"].into_iter().chain(headings));
    for node in machine.nodes() {
        let cell = |(_, alignment, text): &Column| Cell::new(text(node)).set_alignment(*alignment);
        let cpus = Cell::new(known(cpus(machine, node), ranges));
        table.add_row([cell(first), cpus].into_iter().chain(others.iter().map(cell)));
    }
    // Only the list of CPUs goes on in the next line where the table would be too wide.
    for column in table.column_iter_mut() {
        column.set_constraint(ColumnConstraint::ContentWidth);
    }
    if let Some(cpus) = table.column_mut(1) {
        cpus.set_delimiter(',').set_constraint(ColumnConstraint::UpperBoundary(Width::Fixed(CPUS_WIDTH)));
    }
    table
}

/// The distances, in as many tables as they need; none where no distance is known.
fn distances(machine: &Topology) -> Vec<Table> {
    let nodes = machine.nodes();
    if !nodes.iter().any(|from| nodes.iter().any(|to| from.distance_to(to.id()).is_some())) {
        return Vec::new();
    }
    let right = |text: String| Cell::new(text).set_alignment(CellAlignment::Right);
    let parts = nodes.chunks(DISTANCES).map(|part| {
        let mut table = Table::new();
        table.load_style(UTF8_BORDERS_ONLY);
        let heading = part.iter().map(|to| right(to.id().number().to_string()));
        table.set_header(std::iter::once(Cell::new("from / to")).chain(heading).collect::<Vec<_>>());
        for from in nodes {
            let row = part.iter().map(|to| right(known(from.distance_to(to.id()), |distance| distance.to_string())));
            table.add_row(std::iter::once(right(from.id().number().to_string())).chain(row).collect::<Vec<_>>());
        }
        table
    });
    parts.collect()
}

/// Whether this process may use the node's memory; nothing where there is none to use.
fn usable(node: &Node) -> String {
    match node.memory().total {
        Some(0) => "",
        _ if node.is_allowed() => "yes",
        _ => "no",
    }
    .to_owned()
}

fn known<T>(value: Option<T>, say: impl FnOnce(T) -> String) -> String {
    value.map_or_else(|| "?".to_owned(), say)
}

fn used(node: &Node) -> Option<u64> {
    node.memory().total?.checked_sub(node.memory().free?)
}

/// How full the node is; nothing for one without memory.
fn bar(node: &Node) -> String {
    let (Some(used), Some(total)) = (used(node), node.memory().total.filter(|total| *total > 0)) else {
        return String::new();
    };
    // To the nearest, and never empty for what is in use.
    let full = (u128::from(used) * u128::from(BAR) + u128::from(total) / 2) / u128::from(total);
    let full = (full as usize).max(usize::from(used > 0));
    format!("{}{}", "█".repeat(full), "░".repeat(BAR as usize - full))
}

/// Bytes in the largest unit of which there is at least one.
fn size(bytes: u64) -> String {
    let mut unit = 0;
    while bytes >> (10 * (unit + 1)) > 0 && unit < 5 {
        unit += 1;
    }
    let name = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"][unit];
    match unit {
        0 => format!("{bytes} {name}"),
        _ => format!("{:.1} {name}", bytes as f64 / (1_u64 << (10 * unit)) as f64),
    }
}

fn speed(megabytes: Option<u64>, nanoseconds: Option<u64>) -> String {
    let bandwidth = megabytes.map(|number| format!("{:.1} GB/s", number as f64 / 1000.0));
    let latency = nanoseconds.map(|number| format!("{number} ns"));
    let both: Vec<String> = bandwidth.into_iter().chain(latency).collect();
    if both.is_empty() { "?".to_owned() } else { both.join("\n") }
}

/// CPUs as the kernel lists them: `0-3,8`.
fn ranges(cpus: &[CpuId]) -> String {
    let parts = cpus.chunk_by(|one, next| one.number() + 1 == next.number()).map(|range| match range {
        [only] => only.number().to_string(),
        _ => format!("{}-{}", range[0].number(), range[range.len() - 1].number()),
    });
    let text = parts.collect::<Vec<_>>().join(",");
    if text.is_empty() { "none".to_owned() } else { text }
}
