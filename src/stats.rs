//! Figures: what the floors below keep, read and written out for people.
//!
//! Blocks are counted where a slow path puts them on a list, so that the fast paths count nothing; what the program holds, by
//! a census (`arena::census`).

use crate::arena::enter::HeldPool;
use crate::arena::{Arena, census, emergency};
use crate::message::Line;
use crate::node::shortfalls::Shortfalls;
use crate::node::{self, PoolFigures};
use crate::size_class::ClassId;
use crate::topology::{self, NodeIndex};
use crate::{config, debug, hardened, os};

/// What the allocator has done so far, and holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Blocks handed out, ever.
    pub blocks: u64,
    /// Their bytes, ever, as their size classes have them.
    pub bytes: u64,
    /// Bytes of the blocks that the program holds now, as their size classes have them: what was handed out and not freed.
    /// Right to the byte for what threads at rest hold and have freed; of blocks that move at this moment, some may be missing
    /// or counted twice. In debug mode, with the record before and behind each.
    pub live: usize,
    /// Bytes in slabs, runs and mappings, now: `live`, and what is free between live blocks or waits to be used again.
    pub used: usize,
    /// The most bytes in slabs, runs and mappings, summed over the nodes' own peaks.
    pub peak: usize,
    /// Free bytes that have not gone back to the kernel.
    pub dirty: usize,
    /// Bytes that went back to the kernel, ever.
    pub purged: u64,
    /// Arenas, with a thread and idle.
    pub arenas: usize,
    /// Requests, ever, that were served by mappings of their own and are in no other figure here: those of threads that
    /// were inside the allocator already, or were reading the machine through hwloc.
    pub emergencies: u64,
    /// What keeps memory from being placed as it should be, and why.
    pub shortfalls: Shortfalls,
}

/// Reads the figures. Looks at every slab, some microseconds for each 32 MiB of them, and holds a node's lock for one segment
/// of 32 MiB at a time; allocates nothing.
pub(crate) fn read() -> Stats {
    let mut stats = Stats { emergencies: emergency::served(), shortfalls: node::shortfalls::all(), ..Stats::default() };
    let mut waiting = debug::quarantined_bytes();
    for arena in Arena::all() {
        stats.arenas += 1;
        waiting += arena.bytes_waiting();
        let (blocks, bytes) = arena.reused();
        stats.blocks = stats.blocks.wrapping_add(blocks);
        stats.bytes = stats.bytes.wrapping_add(bytes);
        for class in ClassId::all() {
            let listed = arena.listed_now(class);
            waiting += listed * class.size();
            // Wrapping: a list that came from an idle arena was counted there; the sum over all arenas is right.
            let blocks = arena.listed_ever(class).wrapping_sub(listed as u64);
            stats.blocks = stats.blocks.wrapping_add(blocks);
            stats.bytes = stats.bytes.wrapping_add(blocks.wrapping_mul(class.size() as u64));
        }
    }
    each_pool(|_, figures| {
        stats.blocks = stats.blocks.wrapping_add(figures.large_blocks);
        stats.bytes = stats.bytes.wrapping_add(figures.large_bytes);
        stats.used += figures.used;
        stats.peak += figures.peak;
        stats.dirty += figures.dirty;
        stats.purged += figures.purged;
        stats.live += figures.mapped;
    });
    stats.live += (0..node::pools()).map(|node| census::bytes_out(NodeIndex::new(node))).sum::<usize>();
    stats.live = stats.live.saturating_sub(waiting);
    stats
}

fn each_pool(mut visit: impl FnMut(NodeIndex, PoolFigures)) {
    for index in (0..node::pools()).map(NodeIndex::new) {
        let pool = node::pool(index);
        if !node::any_is_mine()
            && let Some(pool) = HeldPool::from(|| pool.lock_started())
        {
            visit(index, pool.figures());
        }
    }
}

/// Writes the summary, when the process exits, if it is wanted.
pub(crate) fn at_exit() {
    let config = config::current();
    match config.report {
        Some((process, descriptor)) if process == os::process_id() => write_summary(descriptor),
        _ if config.summary => write_summary(os::STDERR),
        _ => {}
    }
}

fn write_summary(descriptor: i32) {
    let stats = read();
    let say = |name: &str| Line::new().text(name).column(28);
    say("blocks handed out").number(stats.blocks as usize).say_to(descriptor);
    say("bytes handed out").size(stats.bytes as usize).say_to(descriptor);
    each_pool(|index, figures| {
        let line = Line::new();
        let line = match index == node::spread() {
            true => line.text("spread over nodes"),
            false => line.text("node ").number(usize::from(topology::machine().id(index).number())),
        };
        let line = line.column(28).size(figures.used).text(" in use, ").size(figures.peak).text(" at the peak, ");
        let line = line.size(figures.dirty).text(" free, ").size(figures.purged as usize).text(" gone back");
        let line = match figures.spilled {
            0 => line,
            spilled => line.text(", ").count(spilled as usize, "request").text(" spilled"),
        };
        line.say_to(descriptor);
    });
    let line = match os::resident_bytes() {
        Some(bytes) => say("resident memory").size(bytes),
        None => say("resident memory").text("unknown (/proc does not tell)"),
    };
    match os::peak_resident_bytes() {
        Some(bytes) => line.text(", ").size(bytes).text(" at the peak"),
        None => line,
    }
    .say_to(descriptor);
    write_shortfalls(stats.shortfalls, descriptor);
}

/// Calls `visit` with the lines that `malloc_stats(3)` writes.
pub(crate) fn each_line_for_c(mut visit: impl FnMut(Line)) {
    let stats = read();
    visit(Line::new().count(stats.arenas, "arena"));
    let line = |name: &str| Line::empty().text(name).column(18).text("= ");
    visit(line("live bytes").number(stats.live));
    visit(line("in use bytes").number(stats.used));
    visit(line("free bytes").number(stats.dirty));
    visit(line("peak bytes").number(stats.peak));
    visit(line("blocks handed out").number(stats.blocks as usize));
}

fn write_shortfalls(shortfalls: Shortfalls, descriptor: i32) {
    let say = |name: &str| Line::new().text(name).column(28);
    let refused = |name: &str, call: &str, error: Option<i32>| {
        if let Some(error) = error {
            let line = say(name).text("the kernel refused ").text(call).text(" (error ");
            line.number(error as usize).text(")").say_to(descriptor);
        }
    };
    refused("not bound to nodes", "mbind", shortfalls.binding);
    refused("threads not followed", "getcpu", shortfalls.tracking);
    refused("places of pages not known", "move_pages", shortfalls.residence);
    if shortfalls.distances_unknown {
        say("distances not known").text("/sys does not tell; all nodes count as equally far").say_to(descriptor);
    }
    if let Some(node) = shortfalls.missing_node {
        let line = say("policy not followed").text("no memory for this process on node ");
        line.number(usize::from(node.number())).say_to(descriptor);
    }
}

/// Says what was found and chosen, for `HOMING_VERBOSE`.
pub(crate) fn say_settings() {
    let config = config::current();
    let machine = topology::machine();
    let line = Line::new().text("version ").text(env!("CARGO_PKG_VERSION")).text(", ").number(machine.count());
    let line =
        line.text(if machine.count() == 1 { " node, pages of " } else { " nodes, pages of " }).size(os::page_size());
    let line = line.text("; pool size ").size(config.pool_size).text(", limit ");
    let line = match config.pool_limit {
        usize::MAX => line.text("none"),
        limit => line.size(limit),
    };
    let line = line.text(", overflow ").text(match config.overflow {
        config::Overflow::Spill => "spill",
        config::Overflow::Fail => "fail",
        config::Overflow::Abort => "abort",
    });
    let line = line.text(", zero ").text(match config.zero {
        config::Zero::Off => "off",
        config::Zero::Alloc => "alloc",
        config::Zero::Free => "free",
    });
    let line = match config.policy {
        config::Policy::Local => line.text(", policy local"),
        config::Policy::Bind => line.text(", policy bind"),
        config::Policy::Interleave => line.text(", policy interleave"),
        config::Policy::Prefer(id) => line.text(", policy prefer:").number(usize::from(id)),
    };
    let line = match config.large {
        None => line,
        Some(config::Large::Local) => line.text(", large local"),
        Some(config::Large::FirstTouch) => line.text(", large firsttouch"),
        Some(config::Large::Interleave) => line.text(", large interleave"),
    };
    let line = match config.debug {
        config::Debug::Off => line,
        config::Debug::On => line.text(", debug 1"),
        config::Debug::Leaks => line.text(", debug leaks"),
    };
    let line = if hardened::ON { line.text(", hardened") } else { line };
    let line = line.text(", purge delay ");
    let line = match config.purge_delay_ms {
        u64::MAX => line.text("never"),
        delay => line.number(delay as usize).text(" ms"),
    };
    let line = if config.background { line.text(", background") } else { line };
    let bump = config.bump;
    let line = match bump == config::BumpConfig::new() {
        true => line,
        false => line
            .text(", bump arenas of ")
            .size(bump.pool_size)
            .text(if bump.zero_on_reset { ", zeroed" } else { ", not zeroed" })
            .text(match bump.overflow {
                config::BumpOverflow::Error => ", overflow error",
                config::BumpOverflow::Abort => ", overflow abort",
                config::BumpOverflow::Grow => ", overflow grow",
            }),
    };
    match bump.limit {
        None => line,
        Some(limit) => line.text(", limit ").size(limit.get()),
    }
    .say();
}
