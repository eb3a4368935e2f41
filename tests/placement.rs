//! Memory on chosen nodes, and every block home again: on whatever machine this runs. `ci/nodes` runs it on simulated
//! ones with many nodes; with one node, that one stands for all.

// Without a kernel to ask there is nothing to hold anything against.
#![cfg(not(feature = "portable"))]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;
use std::sync::mpsc;
use std::thread;

use common::alone;
use common::nodes::{cpus, nodes, run_on};
use homing::{
    Homing, NodeError, NodeId, Topology, alloc_on_node, audit, current_node, dealloc_from_node, home_node, node_of,
    resident_node,
};

// The test's own memory comes from the system, so that audits see the tests' blocks alone.
#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();

const SIZES: [usize; 10] = [1, 24, 100, 1000, 4096, 20_000, 65_536, 100_000, 1 << 20, 5 << 20];

fn fill(block: NonNull<u8>, size: usize) {
    // SAFETY: callers pass a block of theirs of that size.
    unsafe { block.write_bytes(7, size) };
}

/// Every page of the block, by the kernel's word.
fn lies_on(block: NonNull<u8>, size: usize, node: NodeId) -> bool {
    (0..size)
        .step_by(4096)
        .all(|at| resident_node(block.as_ptr().wrapping_add(at)).is_ok_and(|there| there == Some(node)))
}

#[test]
fn a_block_on_a_chosen_node_lies_there_by_its_header_and_by_the_kernel() {
    let _alone = alone();
    for node in nodes() {
        for size in SIZES {
            for align in [1, 16, 4096, 1 << 21] {
                let layout = Layout::from_size_align(size, align).unwrap();
                let block = alloc_on_node(layout, node).unwrap();
                assert!((block.as_ptr() as usize).is_multiple_of(align));
                fill(block, size);
                // SAFETY: a live block.
                assert_eq!(unsafe { node_of(block.as_ptr()) }, Some(node), "{size} bytes");
                assert!(lies_on(block, size, node), "{size} bytes aligned to {align} on {node:?}");
                // SAFETY: a live block, not used any more.
                unsafe { dealloc_from_node(block, layout, node) }.unwrap();
            }
        }
    }
}

#[test]
fn a_node_that_is_not_there_or_has_no_memory_is_a_typed_error_that_says_so() {
    let layout = Layout::new::<u64>();
    assert_eq!(alloc_on_node(layout, NodeId::new(1000)), Err(NodeError::NoSuchNode(NodeId::new(1000))));
    assert_eq!(alloc_on_node(layout, NodeId::new(u16::MAX)), Err(NodeError::NoSuchNode(NodeId::new(u16::MAX))));
    assert!(NodeError::NoSuchNode(NodeId::new(1000)).to_string().contains("no node 1000"));
    for node in Topology::read().nodes() {
        let answer = alloc_on_node(layout, node.id());
        let expected = match (node.is_allowed(), node.memory().total) {
            (_, Some(0)) => Err(NodeError::WithoutMemory(node.id())),
            (false, _) => Err(NodeError::NotAllowed(node.id())),
            _ => Ok(()),
        };
        assert_eq!(answer.map(|_| ()), expected);
        if let Ok(block) = answer {
            // SAFETY: a live block, not used any more.
            unsafe { dealloc_from_node(block, layout, node.id()) }.unwrap();
        }
    }
}

#[test]
fn more_than_a_node_can_ever_have_is_an_error_and_nothing_is_lost() {
    let node = nodes()[0];
    let size = 1 << 47;
    let layout = Layout::from_size_align(size, 8).unwrap();
    assert_eq!(alloc_on_node(layout, node), Err(NodeError::Full { node, size }));
    let layout = Layout::from_size_align(isize::MAX as usize - 7, 8).unwrap();
    assert!(matches!(alloc_on_node(layout, node), Err(NodeError::Full { .. })));
}

#[test]
fn a_block_of_another_node_is_not_freed_from_this_one() {
    let _alone = alone();
    let nodes = nodes();
    for size in SIZES {
        let layout = Layout::from_size_align(size, 8).unwrap();
        let actual = nodes[0];
        let said = nodes.get(1).copied().unwrap_or(NodeId::new(9));
        let block = alloc_on_node(layout, actual).unwrap();
        fill(block, size);
        // SAFETY: a live block, which is used on only where it was not freed.
        assert_eq!(unsafe { dealloc_from_node(block, layout, said) }, Err(NodeError::WrongNode { said, actual }));
        // SAFETY: it still is.
        assert_eq!(unsafe { block.add(size - 1).read() }, 7);
        // SAFETY: a live block, not used any more.
        unsafe { dealloc_from_node(block, layout, actual) }.unwrap();
    }
}

#[test]
fn foreign_pointers_have_no_node() {
    let local = 5_u32;
    let foreign = Box::new(5_u32);
    // SAFETY: null, or foreign.
    unsafe {
        assert_eq!(node_of(std::ptr::null()), None);
        assert_eq!(node_of((&raw const local).cast()), None);
        assert_eq!(node_of((&raw const *foreign).cast()), None);
    }
    assert_eq!(resident_node(std::ptr::null()), Ok(None));
}

/// A question is answered, and ends no process: also where the pointer leads into a block, to a freed one, or nowhere.
#[test]
fn a_pointer_into_a_block_has_no_node_and_is_not_freed() {
    let _alone = alone();
    let node = nodes()[0];
    for size in [100, 20_000, 300_000, 5 << 20, 40 << 20, 70 << 20] {
        let layout = Layout::from_size_align(size, 16).unwrap();
        let block = alloc_on_node(layout, node).unwrap();
        for offset in [1, 8, 16, size / 2, size - 1] {
            let within = block.as_ptr().wrapping_add(offset);
            // SAFETY: within a live block.
            assert_eq!(unsafe { node_of(within) }, None, "{offset} within {size}");
            let within = NonNull::new(within).unwrap();
            // SAFETY: as above; nothing is freed.
            let answer = unsafe { dealloc_from_node(within, layout, node) };
            assert_eq!(answer, Err(NodeError::Unplaced), "{offset} within {size}");
        }
        // SAFETY: a live block, not used any more.
        unsafe { dealloc_from_node(block, layout, node) }.unwrap();
        // SAFETY: no other thread gives memory back.
        let _ = unsafe { node_of(block.as_ptr()) };
    }
    for made_up in [0, 1, 16, 0x1234_5678_9000, 1 << 40, usize::MAX / 2 + 1, usize::MAX] {
        // SAFETY: it leads nowhere.
        assert_eq!(unsafe { node_of(std::ptr::without_provenance(made_up)) }, None, "{made_up:#x}");
    }
}

#[test]
fn a_thread_that_moves_to_another_node_is_given_that_nodes_memory_and_is_never_pinned() {
    let cpus = cpus();
    thread::spawn(move || {
        for round in 0..3 * cpus.len() {
            let (cpu, node) = cpus[round % cpus.len()];
            run_on(cpu);
            assert_eq!(current_node(), Ok(node));
            assert_eq!(home_node(), Some(node));
            // A size that no list has ready, so that the thread's node is looked at.
            let layout = Layout::from_size_align(70_000, 8).unwrap();
            // SAFETY: the size is not 0.
            let block = NonNull::new(unsafe { HOMING.alloc(layout) }).unwrap();
            fill(block, layout.size());
            assert!(lies_on(block, layout.size(), node));
            // SAFETY: not used any more.
            unsafe { HOMING.dealloc(block.as_ptr(), layout) };
        }
        // SAFETY: an all-zero set is an empty one; the call fills it.
        let allowed = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::sched_getaffinity(0, size_of_val(&set), &mut set);
            libc::CPU_COUNT(&set)
        };
        assert_eq!(allowed, 1, "the test itself pinned the thread to one CPU");
    })
    .join()
    .unwrap();
}

/// What is not bound lies where the thread's memory policy (set_mempolicy(2), numactl(8)) says: a large block that is
/// handed out again is not to be given back to the kernel each time since its pages are not where the thread runs.
#[test]
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn a_large_block_that_the_threads_own_policy_has_spread_is_reused_with_its_pages() {
    const MPOL_INTERLEAVE: i32 = 3;
    let _alone = alone();
    let (cpu, _) = cpus()[0];
    // A block of a thread that has no such policy, so that the answer to that cannot serve for all.
    for interleave in [false, true] {
        // No block is kept whose pages another thread has touched.
        homing::entry::trim();
        thread::spawn(move || {
            run_on(cpu);
            if interleave {
                let mask = nodes().iter().fold([0_u64; 16], |mut mask, node| {
                    mask[usize::from(node.number()) / 64] |= 1 << (node.number() % 64);
                    mask
                });
                // SAFETY: the mask is as long as is said.
                let answer = unsafe { libc::syscall(libc::SYS_set_mempolicy, MPOL_INTERLEAVE, &raw const mask, 1024) };
                // Where the kernel has no nodes, or a filter is in the way, there is nothing to see.
                if answer != 0 {
                    return;
                }
            }
            let layout = Layout::from_size_align(3 << 20, 8).unwrap();
            let (mut last, mut same) = (std::ptr::null_mut(), 0);
            for round in 0..4 {
                // SAFETY: the size is not 0.
                let block = NonNull::new(unsafe { HOMING.alloc(layout) }).unwrap();
                if block.as_ptr() == last {
                    same += 1;
                    // SAFETY: a live block, which was full of sevens when it was freed; pages that went back read as zero.
                    let stayed =
                        (0..layout.size()).step_by(4096).all(|at| unsafe { block.add(at).read_volatile() } == 7);
                    assert!(stayed, "interleaved: {interleave}, round {round}: pages went back to the kernel");
                }
                fill(block, layout.size());
                last = block.as_ptr();
                // SAFETY: not used any more.
                unsafe { HOMING.dealloc(block.as_ptr(), layout) };
            }
            // Hardened, it has a mapping of its own, and that is gone.
            assert!(same > 0 || cfg!(feature = "hardened"), "a large block that was just freed is handed out again");
        })
        .join()
        .unwrap();
    }
}

/// Memory that a thread of another node has left behind, and whose blocks are freed from here, goes back though no thread
/// runs there any more to take it.
#[test]
fn memory_of_a_node_where_no_thread_runs_any_more_comes_back() {
    const BLOCKS: usize = 32 << 10;
    let _alone = alone();
    let cpus = cpus();
    let (Some(&(here, _)), Some(&(there, _))) = (cpus.first(), cpus.get(1)) else { return };
    let layout = Layout::from_size_align(1000, 8).unwrap();
    thread::spawn(move || {
        run_on(here);
        homing::entry::trim();
        let before = homing::stats().used;
        let blocks = thread::spawn(move || {
            run_on(there);
            // SAFETY: the size is not 0.
            let block = |_| unsafe { HOMING.alloc(layout) } as usize;
            (0..BLOCKS).map(block).collect::<Vec<_>>()
        });
        for block in blocks.join().unwrap() {
            // SAFETY: not used any more.
            unsafe { HOMING.dealloc(block as *mut u8, layout) };
        }
        assert!(homing::stats().used > before + (BLOCKS * layout.size()) / 2, "it waits in an inbox there");
        // What this thread does now and then is all there is to bring it back; that takes some seconds at most.
        let end = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while homing::stats().used > before + (4 << 20) {
            assert!(std::time::Instant::now() < end, "{} bytes are in use", homing::stats().used - before);
            let large = Layout::from_size_align(70_000, 8).unwrap();
            for _ in 0..200 {
                // SAFETY: the size is not 0, and the block is freed at once.
                unsafe { HOMING.dealloc(HOMING.alloc(large), large) };
            }
            thread::sleep(std::time::Duration::from_millis(5));
        }
    })
    .join()
    .unwrap();
}

/// Blocks on their way from one thread to the next.
struct Batch(Vec<(usize, Layout)>);

/// Threads on all nodes hand what they allocate to the next, which frees it: `batches` of 500 blocks each.
fn swap_across_nodes(batches: usize) {
    let cpus = cpus();
    let threads = cpus.len().max(2);
    let (ways, mut ends): (Vec<_>, Vec<_>) = (0..threads).map(|_| mpsc::sync_channel::<Batch>(4)).unzip();
    ends.rotate_left(1);
    let spawn = |(index, (way, end)): (usize, (mpsc::SyncSender<Batch>, mpsc::Receiver<Batch>))| {
        let (cpu, _) = cpus[index % cpus.len()];
        thread::spawn(move || {
            run_on(cpu);
            let give_back = |batch: Batch| {
                for (block, layout) in batch.0 {
                    // SAFETY: a live block of that layout, which nobody uses any more.
                    unsafe { HOMING.dealloc(std::ptr::with_exposed_provenance_mut(block), layout) };
                }
            };
            for batch in 0..batches {
                let blocks = (0..500).map(|step| {
                    let size = 8 + (batch * 31 + step * 97) % 1500;
                    let layout = Layout::from_size_align(size, 8).unwrap();
                    // SAFETY: the size is not 0.
                    let block = NonNull::new(unsafe { HOMING.alloc(layout) }).unwrap();
                    fill(block, size);
                    (block.as_ptr().expose_provenance(), layout)
                });
                way.send(Batch(blocks.collect())).unwrap();
                if let Ok(batch) = end.try_recv() {
                    give_back(batch);
                }
            }
            drop(way);
            end.iter().for_each(give_back);
        })
    };
    let running: Vec<_> = ways.into_iter().zip(ends).enumerate().map(spawn).collect();
    // Joined one by one: the end of a scope does not wait for the ends of its threads, where arenas are given up.
    running.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn a_million_blocks_freed_on_other_nodes_go_home_and_no_count_drifts() {
    let _alone = alone();
    let checked = |when: &str| {
        // SAFETY: all threads that used the allocator have been joined.
        let audit = unsafe { audit() }.unwrap_or_else(|error| panic!("{when}: {error}"));
        assert_eq!(audit.away, 0, "{when}: free blocks lie on other nodes than their headers say: {audit:?}");
        audit
    };
    let live_before = checked("before").live_blocks;
    let threads = cpus().len().max(2);
    let mut used = Vec::new();
    for round in 0..4 {
        swap_across_nodes(1_000_000 / 4 / 500 / threads + 1);
        let audit = checked(&format!("after round {round}"));
        assert_eq!(audit.live_blocks, live_before, "every block was freed");
        assert!(audit.slabs > 0 && audit.asked > 0);
        used.push(homing::stats().used);
    }
    // What is kept for reuse is bounded: the last rounds need no more than the first ones.
    assert!(used[3] <= used[0] + used[0] / 2 + (8 << 20), "{used:?}");
}

#[cfg(feature = "allocator-api2")]
mod collections {
    use allocator_api2::boxed::Box;
    use allocator_api2::vec::Vec;
    use homing::NodeAlloc;

    use super::*;

    #[test]
    fn a_vector_on_a_node_grows_and_shrinks_there_with_its_contents() {
        let _alone = super::alone();
        for node in nodes() {
            let mut numbers = Vec::new_in(NodeAlloc::new(node).unwrap());
            for number in 0..1_000_000_u64 {
                numbers.push(number);
                if number.is_power_of_two() {
                    // SAFETY: a live block.
                    assert_eq!(unsafe { node_of(numbers.as_ptr().cast()) }, Some(node));
                }
            }
            assert!(numbers.iter().copied().eq(0..1_000_000));
            let start = NonNull::new(numbers.as_mut_ptr().cast()).unwrap();
            assert!(lies_on(start, numbers.len() * 8, node));
            numbers.truncate(1000);
            numbers.shrink_to_fit();
            assert!(numbers.iter().copied().eq(0..1000));
            // SAFETY: a live block.
            assert_eq!(unsafe { node_of(numbers.as_ptr().cast()) }, Some(node));
        }
    }

    #[test]
    fn what_is_zeroed_on_a_node_is_zero_after_any_history() {
        use allocator_api2::alloc::Allocator;

        let _alone = super::alone();
        for node in nodes() {
            let here = NodeAlloc::new(node).unwrap();
            for size in SIZES {
                let layout = Layout::from_size_align(size, 8).unwrap();
                for _ in 0..3 {
                    let block = here.allocate_zeroed(layout).unwrap();
                    // SAFETY: a live block of that size, initialised.
                    assert!(unsafe { block.as_ref() }.iter().all(|byte| *byte == 0), "{size} bytes");
                    fill(block.cast(), size);
                    // SAFETY: its own, not used any more.
                    unsafe { here.deallocate(block.cast(), layout) };
                }
                let small = here.allocate(layout).unwrap();
                fill(small.cast(), size);
                let larger = Layout::from_size_align(size * 3, 8).unwrap();
                // SAFETY: its own; the old block is not used any more.
                let grown = unsafe { here.grow_zeroed(small.cast(), layout, larger) }.unwrap();
                // SAFETY: a live block of that size, initialised.
                let (old, new) = unsafe { grown.as_ref() }.split_at(size);
                assert!(old.iter().all(|byte| *byte == 7) && new.iter().all(|byte| *byte == 0), "{size} bytes");
                // SAFETY: its own, not used any more.
                unsafe { here.deallocate(grown.cast(), larger) };
            }
        }
    }

    #[test]
    fn a_node_that_is_not_there_has_no_allocator_and_nothing_takes_no_memory() {
        assert_eq!(NodeAlloc::new(NodeId::new(777)), Err(NodeError::NoSuchNode(NodeId::new(777))));
        let here = NodeAlloc::here().unwrap();
        assert!(nodes().contains(&here.node()));
        let nothing = Box::new_in((), here);
        assert_eq!(*nothing, ());
        let empty: Vec<u64, _> = Vec::new_in(here);
        assert!(empty.is_empty());
    }

    #[test]
    fn a_vector_outlives_the_thread_that_filled_it_on_another_node() {
        let _alone = super::alone();
        let cpus = cpus();
        for node in nodes() {
            let vectors: std::vec::Vec<_> = cpus
                .iter()
                .map(|(cpu, _)| {
                    let cpu = *cpu;
                    thread::spawn(move || {
                        run_on(cpu);
                        let mut words = Vec::new_in(NodeAlloc::new(node).unwrap());
                        words.extend((0..5000_u32).map(|number| number * 3));
                        words
                    })
                })
                .map(|thread| thread.join().unwrap())
                .collect();
            for words in vectors {
                // SAFETY: a live block.
                assert_eq!(unsafe { node_of(words.as_ptr().cast()) }, Some(node));
                assert!(words.iter().copied().eq((0..5000).map(|number| number * 3)));
            }
        }
    }
}
