//! A library that a program opens while it runs, and closes again: what it allocates is homing's, whatever the program's own
//! allocator is. Built as a shared object (`cargo build --release --example plugin`).

use homing::{Bump, Homing};

#[global_allocator]
static GLOBAL: Homing = Homing::new();

/// Takes blocks of many sizes and frees them; gives their bytes. What the thread's bump arena gave it stays.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_work(blocks: usize) -> usize {
    let blocks: Vec<Vec<u8>> = (0..blocks).map(|block| vec![1; 1 + block * 37 % 5000]).collect();
    let large = vec![1_u8; 3 << 20];
    // The library may be on its way out.
    if let Ok(scratch) = Bump::local() {
        scratch.alloc([1_u8; 50_000]);
    }
    blocks.iter().chain([&large]).map(|block| block.iter().map(|byte| usize::from(*byte)).sum::<usize>()).sum()
}

/// A block of so many bytes, each of them 7, that is never freed.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_leak(size: usize) -> *const u8 {
    vec![7_u8; size].leak().as_ptr()
}

/// Bytes that the library holds.
#[unsafe(no_mangle)]
pub extern "C" fn plugin_live() -> usize {
    homing::stats().live
}
