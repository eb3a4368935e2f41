//! Allocates and frees 512 blocks of 64 bytes, or one at a time, through `GlobalAlloc`: what `ci/instructions` counts.
//!
//! `cargo run --release --example pairs ROUNDS bulk|one`

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;

use homing::Homing;

#[global_allocator]
static GLOBAL: Homing = Homing::new();

const LAYOUT: Layout = Layout::new::<[u64; 8]>();

fn main() {
    let words: Vec<String> = std::env::args().collect();
    let [_, rounds, mode] = &words[..] else {
        eprintln!("usage: pairs ROUNDS bulk|one");
        std::process::exit(2);
    };
    let rounds: usize = rounds.parse().expect("ROUNDS is a number");
    if mode == "one" {
        for _ in 0..rounds * 512 {
            // SAFETY: the layout's size is not 0, and each block is freed once, with the layout it was asked for.
            unsafe { GLOBAL.dealloc(black_box(GLOBAL.alloc(LAYOUT)), LAYOUT) };
        }
        return;
    }
    let mut blocks = [std::ptr::null_mut(); 512];
    for _ in 0..rounds {
        for block in &mut blocks {
            // SAFETY: the layout's size is not 0.
            *block = unsafe { GLOBAL.alloc(LAYOUT) };
        }
        for block in black_box(&mut blocks) {
            // SAFETY: each block is freed once, with the layout it was asked for.
            unsafe { GLOBAL.dealloc(*block, LAYOUT) };
        }
    }
}
