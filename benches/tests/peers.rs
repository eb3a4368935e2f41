//! The allocators are the ones they are called, and live beside each other in one process.

use std::alloc::Layout;
use std::collections::HashMap;

use homing_benches::block::Block;
use homing_benches::peers::turn::Turn;
use homing_benches::peers::{Peer, PeerId, Visitor, entry};
use homing_benches::workloads;

/// Allocates small blocks, which are never freed, and tells in which 64 KiB of memory they lie.
struct Places;

impl Visitor for Places {
    type Output = Vec<usize>;

    fn visit<P: Peer>(self) -> Vec<usize> {
        let layout = Layout::from_size_align(48, 8).expect("a valid layout");
        // SAFETY: the size is not zero.
        let mut places: Vec<usize> = (0..5000).map(|_| unsafe { entry::alloc::<P>(layout) }.addr() >> 16).collect();
        places.dedup();
        places
    }
}

/// If calls of one allocator ended up in another, their blocks would lie side by side.
#[test]
fn no_two_allocators_are_one() {
    let mut owners = HashMap::new();
    for &peer in PeerId::all() {
        let _turn = Turn::of(peer);
        for place in peer.visit(Places) {
            let owner = *owners.entry(place).or_insert(peer);
            assert_eq!(owner, peer, "both have blocks at {place:#x} << 16");
        }
    }
}

/// Frees on one thread what another allocated.
struct Across;

impl Visitor for Across {
    type Output = ();

    fn visit<P: Peer>(self) {
        let layout = Layout::from_size_align(100, 8).expect("a valid layout");
        let blocks: Vec<Block<P>> = (0..10_000).map(|_| Block::new(layout)).collect();
        let intact = std::thread::spawn(move || blocks.into_iter().all(|block| block.is_intact()));
        assert!(intact.join().expect("the thread does not panic"));
    }
}

#[test]
fn blocks_outlive_their_turn() {
    for _ in 0..3 {
        for &peer in PeerId::all() {
            let _turn = Turn::of(peer);
            peer.visit(Across);
        }
    }
}

#[test]
fn benchmarks_have_different_names() {
    let mut names: Vec<String> =
        workloads::all().iter().map(|case| format!("{} {}", case.group(), case.name())).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);
}

#[cfg(feature = "mimalloc2")]
#[test]
fn mimalloc_2_is_mimalloc_2() {
    let version = mimalloc2::version();
    assert!(version.to_string().starts_with('2'), "{version}");
}

#[cfg(feature = "mimalloc3")]
#[test]
fn mimalloc_3_is_mimalloc_3() {
    unsafe extern "C" {
        fn mi_version() -> i32;
    }
    // SAFETY: it takes nothing and returns a constant.
    let version = unsafe { mi_version() };
    assert!(version.to_string().starts_with('3'), "{version}");
}
