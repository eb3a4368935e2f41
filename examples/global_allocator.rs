//! A whole program on homing: it counts words on several threads, and says what the allocator did meanwhile.
//!
//! Run by `cargo run --release --example global_allocator`; try it with `HOMING_VERBOSE=1`, `HOMING_STATS=exit`, or
//! `HOMING_POOL_LIMIT=1M HOMING_OVERFLOW=fail`.

use std::collections::BTreeMap;
use std::thread;

use homing::{Homing, Zero};

#[global_allocator]
static GLOBAL: Homing = Homing::new().purge_delay_ms(Some(500)).zero(Zero::Off);

const TEXT: &str =
    "the block goes home to the node the block came from, whichever thread of whichever node frees the block";

/// How often each word is there, counted in owned strings: an allocation for each word and each node of the map.
fn count(words: &[&str]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for word in words {
        *counts.entry(word.trim_matches(',').to_owned()).or_insert(0) += 1;
    }
    counts
}

fn main() {
    let words: Vec<&str> = TEXT.split(' ').collect();
    // Each thread's blocks come from its own arena; what it returns is freed here.
    let parts: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = words.chunks(5).map(|part| scope.spawn(|| count(part))).collect();
        threads.into_iter().map(|thread| thread.join().expect("counting does not panic")).collect()
    });
    let mut all = BTreeMap::new();
    for (word, count) in parts.into_iter().flatten() {
        *all.entry(word).or_insert(0) += count;
    }
    let mut ranked: Vec<_> = all.iter().collect();
    ranked.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (word, count) in ranked.iter().take(3) {
        println!("{count} x {word}");
    }
    let stats = homing::stats();
    println!(
        "{} blocks handed out, {} KiB in use, {} KiB at the peak",
        stats.blocks,
        stats.used >> 10,
        stats.peak >> 10
    );
    let first = ranked[0].0.as_ptr();
    // SAFETY: the string is live.
    match unsafe { homing::node_of(first) } {
        Some(node) => println!("the first word lies on node {}", node.number()),
        None => println!("the first word's node is not known"),
    }
}
