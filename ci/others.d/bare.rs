//! A library for a system that has nothing: no files, no clock, no environment. It is what ci/others runs as WebAssembly.

#![allow(missing_docs)]

use std::collections::BTreeMap;

#[global_allocator]
static GLOBAL: homing::Homing = homing::Homing::new();

/// Fills a map with vectors of all sizes to 3 MB, again and again, and looks at what is in them: their sum.
#[unsafe(no_mangle)]
pub extern "C" fn work(rounds: u32) -> u32 {
    let mut map: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let (mut sum, mut state) = (0_u32, 1_u32);
    for round in 0..rounds {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let most = if round % 100 == 0 { 3_000_000 } else { 3000 };
        map.insert(state % 500, vec![(state >> 24) as u8; (state >> 8) as usize % most]);
        if let Some(bytes) = map.get(&((state >> 4) % 500)) {
            sum = sum.wrapping_add(bytes.iter().map(|byte| u32::from(*byte)).sum());
        }
    }
    sum
}

/// Bytes that are in use now.
#[unsafe(no_mangle)]
pub extern "C" fn live() -> usize {
    homing::stats().live
}
