//! Kernels whose pages are 16 KiB or 64 KiB long, made up: the program runs itself, once for each, with the allocator told
//! that pages are so long. All it asks of the kernel then are whole pages of that size. Likewise a machine that has little
//! memory left.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

mod common;

use std::alloc::System;
use std::process::Command;
use std::{env, thread};

use common::{Held, Numbers, SIZES, verbs_of};
use homing::{Homing, entry, fault};

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();
verbs_of!(Direct, HOMING);

/// Every kind of block, resized, freed by other threads, trimmed, taken again as zeros.
fn all_kinds(page: usize) {
    let mut numbers = Numbers::new(page as u64);
    let mut live: Vec<Held<Direct>> = Vec::new();
    for _ in 0..3 {
        for size in SIZES {
            for align in [8, 4096, page, 1 << 20, 64 << 20] {
                let block = Held::take(size, align, numbers.next()).expect("there is memory for it");
                let (start, end) = block.range();
                // Beyond runs, what may be written are whole pages.
                assert!(size <= 2 << 20 || (end - start).is_multiple_of(page), "{size} bytes aligned to {align}");
                live.push(block);
            }
        }
        for _ in 0..500 {
            live.push(Held::take_zeroed(numbers.size(4 << 20), 8, numbers.next()).expect("there is memory for it"));
            let at = numbers.below(live.len());
            assert!(live[at].resize(numbers.size(6 << 20)));
            let at = numbers.below(live.len());
            drop(live.swap_remove(at));
        }
        live.iter().for_each(Held::check);
        let half = live.split_off(live.len() / 2);
        thread::spawn(move || drop(half)).join().expect("it does not panic");
        entry::trim();
        // SAFETY: no other thread is in the allocator.
        unsafe { homing::audit() }.expect("the pools are whole");
    }
    let block = entry::valloc(100);
    assert!(block.addr().is_multiple_of(page), "valloc aligns to a page");
    // SAFETY: a live block, not used any more.
    unsafe { entry::free(block) };
    let whole = entry::pvalloc(page + 1);
    // SAFETY: a live block.
    assert!(unsafe { entry::usable_size(whole) } >= 2 * page, "pvalloc gives whole pages");
    // SAFETY: a live block, not used any more.
    unsafe { entry::free(whole) };
}

/// A machine that has little memory left is made up: the program runs itself with a pool of that size.
#[test]
fn a_pool_larger_than_what_the_machine_has_left_obtains_nearly_that_and_says_so_once() {
    const LEFT: usize = 96 << 20;
    const NAME: &str = "a_pool_larger_than_what_the_machine_has_left_obtains_nearly_that_and_says_so_once";
    if env::var_os("HOMING_POOL_SIZE").is_some() {
        fault::pretend_memory_of(LEFT);
        let block = Held::<Direct>::take(100, 8, 1).expect("there is memory for it");
        eprintln!("dirty={}", homing::stats().dirty);
        return drop(block);
    }
    // A part is left, and the test itself has a few MiB in memory.
    for (size, least, lines) in [("1024T", 70 << 20, 1), ("91M", 70 << 20, 1), ("64M", 60 << 20, 0)] {
        let mut program = Command::new(env::current_exe().expect("the program knows itself"));
        let output = program.args(["--exact", NAME, "--nocapture"]).env("HOMING_POOL_SIZE", size).output();
        let output = output.expect("the program runs again");
        let err = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{size}: {err}");
        let dirty = err.lines().find_map(|line| line.strip_prefix("dirty=")).and_then(|bytes| bytes.parse().ok());
        let dirty: usize = dirty.expect("the program says it");
        assert!((least..=LEFT / 16 * 15).contains(&dirty), "of {size}, {dirty} bytes were obtained");
        let said: Vec<_> = err.lines().filter(|line| line.contains("HOMING_POOL_SIZE is not met")).collect();
        assert_eq!(said.len(), lines, "{size}: {err}");
        assert!(said.iter().all(|line| line.contains("MiB of") && line.contains("nearly all")), "{said:?}");
    }
}

#[test]
fn kernels_with_larger_pages_lose_nothing() {
    if let Some(page) = env::var("PAGE").ok().and_then(|page| page.parse().ok()) {
        fault::pretend_pages_of(page);
        return all_kinds(page);
    }
    for page in [16 << 10, 64 << 10] {
        let mut program = Command::new(env::current_exe().expect("the program knows itself"));
        program.args(["--exact", "kernels_with_larger_pages_lose_nothing"]).env("PAGE", page.to_string());
        let output = program.output().expect("the program runs again");
        assert!(output.status.success(), "pages of {page} bytes: {output:?}");
    }
}
