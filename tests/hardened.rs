//! What the feature `hardened` stands against (`src/hardened.rs`): each attack is made by this program run anew.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

use std::alloc::{GlobalAlloc, Layout, System};
use std::collections::HashSet;
use std::env;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};

use homing::Homing;

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();

const SMALL: Layout = Layout::new::<[u64; 8]>();

fn take() -> *mut u64 {
    // SAFETY: the size is not 0.
    let block = unsafe { HOMING.alloc(SMALL) };
    assert!(!block.is_null());
    block.cast()
}

fn give(block: *mut u64) {
    // SAFETY: every caller has the block from `take`, and attacks know what they do.
    unsafe { HOMING.dealloc(block.cast(), SMALL) };
}

fn take_many() -> Vec<*mut u64> {
    (0..500).map(|_| take()).collect()
}

/// Writes to freed blocks, and allocates until the allocator comes across what was written.
fn write_links(link: impl Fn(usize, *mut u64) -> u64) {
    let blocks = take_many();
    blocks.iter().for_each(|block| give(*block));
    for (number, block) in blocks.iter().enumerate() {
        // SAFETY: none; this is the attack. The memory is there.
        unsafe { block.write(link(number, *block)) };
    }
    take_many();
    println!("nothing was noticed");
}

/// What the program does when it is run with that word.
fn attack(name: &str) {
    match name {
        "link-to-stack" => {
            let target = [0_u64; 8];
            let address = target.as_ptr() as u64;
            write_links(|_, _| address);
        }
        "link-to-neighbour" => {
            let victim = take() as u64;
            write_links(|_, _| victim);
        }
        "link-of-zeros" => write_links(|_, _| 0),
        "link-of-another-block" => {
            let blocks = take_many();
            blocks.iter().for_each(|block| give(*block));
            // SAFETY: none; this is the attack. The memory is there.
            let words: Vec<u64> = blocks.iter().map(|block| unsafe { block.read() }).collect();
            for (block, word) in blocks.iter().zip(words.iter().cycle().skip(1)) {
                // SAFETY: likewise.
                unsafe { block.write(*word) };
            }
            take_many();
            println!("nothing was noticed");
        }
        "double-free-of-an-early-one" => {
            let blocks = take_many();
            blocks.iter().take(100).for_each(|block| give(*block));
            give(blocks[3]);
            println!("nothing was noticed");
        }
        "double-free-in-pages-that-went-back" => {
            let blocks: Vec<_> = (0..50).flat_map(|_| take_many()).collect();
            let free = |(_, block): (usize, &*mut u64)| give(*block);
            blocks.iter().enumerate().filter(|(number, _)| number % 700 != 0).for_each(free);
            homing::entry::trim();
            give(blocks[5000]);
            println!("nothing was noticed");
        }
        "double-free-by-two-threads" => {
            let blocks: Vec<usize> = take_many().into_iter().map(|block| block as usize).collect();
            let early = blocks[3];
            let free = move || blocks.iter().take(100).for_each(|block| give(*block as *mut u64));
            std::thread::spawn(free).join().expect("frees of live blocks do not fail");
            std::thread::spawn(move || give(early as *mut u64)).join().expect("nobody has looked yet");
            // Whoever owns them takes them home.
            take_many();
            println!("nothing was noticed");
        }
        "double-free-by-another-thread-first" => {
            let blocks = take_many();
            let early = blocks[3] as usize;
            std::thread::spawn(move || give(early as *mut u64)).join().expect("a free of a live block does not fail");
            give(blocks[3]);
            println!("nothing was noticed");
        }
        "double-free-of-large-ones" => {
            let layout = Layout::new::<[u8; 20_000]>();
            // SAFETY: the size is not 0.
            let blocks: Vec<_> = (0..25).map(|_| unsafe { HOMING.alloc(layout) }).collect();
            // SAFETY: the blocks are live.
            blocks.iter().for_each(|block| unsafe { HOMING.dealloc(*block, layout) });
            // Not one in the first 64 KiB of what the blocks of that size are carved from.
            let highest = *blocks.iter().take(24).max().expect("some were taken");
            // SAFETY: none; this is the attack.
            unsafe { HOMING.dealloc(highest, layout) };
            println!("nothing was noticed");
        }
        "far-overflow" => {
            let block = take().cast::<u8>();
            for offset in 0..(16 << 16) {
                // SAFETY: none; this is the attack.
                unsafe { block.add(offset).write_volatile(1) };
            }
            println!("nothing was noticed");
        }
        "overflow-of-a-mapping" => {
            let layout = Layout::from_size_align(5 << 20, 8).expect("a layout");
            // SAFETY: the size is not 0.
            let block = unsafe { HOMING.alloc(layout) };
            // SAFETY: none; this is the attack.
            unsafe { block.add(layout.size() + 8192).write_volatile(1) };
            println!("nothing was noticed");
        }
        "overflow-of-a-grown-mapping" => {
            let layout = Layout::from_size_align(20 << 20, 8).expect("a layout");
            // SAFETY: the size is not 0, and the block is live.
            let grown = unsafe { HOMING.realloc(HOMING.alloc(layout), layout, 40 << 20) };
            // SAFETY: none; this is the attack.
            unsafe { grown.add((40 << 20) + 2048).write_volatile(1) };
            println!("nothing was noticed");
        }
        "underflow-to-the-headers" => {
            let first = take_many().into_iter().min().expect("some were taken").cast::<u8>();
            for offset in 1..(3 << 16) {
                // SAFETY: none; this is the attack.
                unsafe { first.sub(offset).write_volatile(0) };
            }
            println!("nothing was noticed");
        }
        "order" => {
            let first = take_many();
            let lowest = *first.iter().min().expect("some were taken") as usize;
            let places = first.iter().map(|block| (*block as usize - lowest).to_string());
            println!("{}", places.collect::<Vec<_>>().join(" "));
        }
        _ => panic!("no such attack: {name}"),
    }
}

fn run(name: &str) -> Output {
    run_with(name, &[])
}

fn run_with(name: &str, settings: &[(&str, &str)]) -> Output {
    let program = env::current_exe().expect("the program knows itself");
    let mut command = Command::new(program);
    command.args(["--exact", "attacked", "--nocapture", "--ignored"]).env("ATTACK", name);
    command.envs(settings.iter().copied());
    command.output().expect("the program runs again")
}

/// Not a test: what the others run.
#[test]
#[ignore = "run by the others"]
fn attacked() {
    if let Ok(name) = env::var("ATTACK") {
        attack(&name);
    }
}

#[track_caller]
fn is_noticed(name: &str, signal: i32, words: &str) {
    let output = run(name);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.signal(), Some(signal), "{name}: {output:?}");
    assert!(text.contains(words), "{name}: {text}");
}

#[test]
fn a_link_written_into_a_free_block_is_not_followed() {
    for name in ["link-to-stack", "link-to-neighbour", "link-of-zeros", "link-of-another-block"] {
        is_noticed(name, libc::SIGABRT, "a free block was written to");
    }
}

#[test]
fn a_block_freed_twice_is_noticed_though_others_were_freed_after_it() {
    let attacks = [
        "double-free-of-an-early-one",
        "double-free-in-pages-that-went-back",
        "double-free-by-two-threads",
        "double-free-by-another-thread-first",
        "double-free-of-large-ones",
    ];
    let all = attacks.iter().flat_map(|name| ["off", "alloc", "free"].map(|zero| (*name, zero)));
    let missed: Vec<_> = all
        .filter(|(name, zero)| {
            let output = run_with(name, &[("HOMING_ZERO", zero)]);
            output.status.signal() != Some(libc::SIGABRT)
                || !String::from_utf8_lossy(&output.stderr).contains("double free")
        })
        .collect();
    assert!(missed.is_empty(), "not noticed: {missed:?}");
}

#[test]
fn an_overflow_ends_at_a_guard_before_it_is_a_mebibyte_long() {
    is_noticed("far-overflow", libc::SIGSEGV, "");
}

#[test]
fn an_overflow_of_a_mapping_ends_behind_it() {
    is_noticed("overflow-of-a-mapping", libc::SIGSEGV, "");
}

#[test]
fn an_overflow_of_a_mapping_that_grew_ends_behind_it() {
    is_noticed("overflow-of-a-grown-mapping", libc::SIGSEGV, "");
}

/// Those of `/proc/self/maps` that can be written to.
fn writable() -> Vec<(usize, usize)> {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("the kernel tells");
    let range = |line: &str| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let number = |text| usize::from_str_radix(text, 16).expect("addresses are hexadecimal");
        rest.starts_with("rw").then(|| (number(start), number(end)))
    };
    maps.lines().filter_map(range).collect()
}

#[test]
fn nowhere_in_a_segment_can_more_than_fifteen_slots_be_written_to_at_a_stretch() {
    let layout = Layout::new::<[u8; 60_000]>();
    // SAFETY: the size is not 0.
    let blocks: Vec<_> = (0..4000).map(|_| unsafe { HOMING.alloc(layout) }).collect();
    let writable = writable();
    for block in &blocks {
        let address = *block as usize;
        let (start, end) = writable.iter().find(|(start, end)| (start..end).contains(&&address)).expect("it is there");
        assert!(end - start <= 15 << 16, "{} KiB around {block:p} lie between two guards", (end - start) >> 10);
    }
    // SAFETY: the blocks are live.
    blocks.into_iter().for_each(|block| unsafe { HOMING.dealloc(block, layout) });
}

#[test]
fn headers_cannot_be_reached_from_the_blocks_behind_them() {
    is_noticed("underflow-to-the-headers", libc::SIGSEGV, "");
}

/// Where the blocks of a fresh process lie, from the lowest, in the order in which they were handed out.
fn order() -> Vec<usize> {
    let output = run("order");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.split(' ').count() == 500).expect("a line of places");
    line.split(' ').map(|place| place.parse().expect("places are numbers")).collect()
}

#[test]
fn nobody_can_tell_which_block_lies_behind_another() {
    let orders: HashSet<_> = (0..4).map(|_| order()).collect();
    assert_eq!(orders.len(), 4, "two processes handed blocks out in the same order");
    for order in orders {
        let side_by_side = order.windows(2).filter(|pair| pair[0] + 64 == pair[1]).count();
        assert!(side_by_side < 50, "{side_by_side} of 499 blocks lie just behind the one before");
    }
}

#[test]
fn freed_blocks_do_not_come_back_in_the_order_of_their_freeing() {
    let blocks = take_many();
    blocks.iter().for_each(|block| give(*block));
    let again = take_many();
    let freed = |block: &*mut u64| blocks.iter().position(|freed| freed == block);
    let places: Vec<_> = again.iter().filter_map(freed).collect();
    assert!(places.len() > 100, "only {} blocks came back", places.len());
    let in_turn = places.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count();
    // Of two piles, half of the neighbours stay neighbours when blocks are told apart by a coin.
    assert!(in_turn < places.len() * 7 / 10, "{in_turn} of {} came back in turn", places.len());
    again.into_iter().for_each(give);
}

/// Of the block's own segment, as links and hints are.
#[track_caller]
fn hold_no_address(blocks: &[*mut u64]) {
    for block in blocks {
        // SAFETY: none; this is what an attacker reads. The memory is there.
        let words = unsafe { [block.read(), block.add(1).read()] };
        for word in words {
            let is_near = (word ^ *block as u64) < 1 << 25;
            assert!(!is_near, "{word:#x} in the freed block at {block:p} is an address of its segment");
        }
    }
}

#[test]
fn freed_blocks_hold_no_address() {
    let blocks = take_many();
    blocks.iter().for_each(|block| give(*block));
    hold_no_address(&blocks);
}

#[test]
fn blocks_on_their_way_home_hold_no_address() {
    let blocks = take_many();
    let addresses: Vec<usize> = blocks.iter().map(|block| *block as usize).collect();
    let free = move || addresses.into_iter().for_each(|block| give(block as *mut u64));
    std::thread::spawn(free).join().expect("frees of live blocks do not fail");
    hold_no_address(&blocks);
}
