//! Allocates and gives back by one of the shapes, 512 times a round: what `ci/instructions` counts.
//!
//! `cargo run --release --example shape_pairs ROUNDS SHAPE`, where the shape is one of `pool-512-guards`, `pool-one-guard`,
//! `pool-one-raw`, `bump-512-values`, `node-pools-one-block` and `budget-one-block`.

use std::alloc::{GlobalAlloc, Layout};
use std::error::Error;
use std::hint::black_box;

use homing::{Budget, Bump, BumpConfig, Homing, NodePools, Pool};

/// An object of 64 bytes.
type Object = [u64; 8];

const OBJECT: Object = [7; 8];

fn main() -> Result<(), Box<dyn Error>> {
    let words: Vec<String> = std::env::args().collect();
    let [_, rounds, shape] = &words[..] else { return Err("usage: shape_pairs ROUNDS SHAPE".into()) };
    let rounds: usize = rounds.parse()?;
    match shape.as_str() {
        "pool-512-guards" => pool_512_guards(rounds),
        "pool-one-guard" => pool_one_guard(rounds),
        "pool-one-raw" => pool_one_raw(rounds),
        "bump-512-values" => bump(rounds),
        "node-pools-one-block" => node_pools(rounds),
        "budget-one-block" => budget(rounds),
        _ => Err(format!("there is no shape {shape}").into()),
    }
}

/// 512 guards made, and then dropped in order.
fn pool_512_guards(rounds: usize) -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    let mut guards = Vec::with_capacity(512);
    for _ in 0..rounds {
        for _ in 0..512 {
            guards.push(pool.insert(OBJECT)?);
        }
        black_box(&mut guards).clear();
    }
    Ok(())
}

/// A guard made and dropped.
fn pool_one_guard(rounds: usize) -> Result<(), Box<dyn Error>> {
    let pool = Pool::new();
    for _ in 0..rounds * 512 {
        drop(black_box(pool.insert(OBJECT)?));
    }
    Ok(())
}

/// An object without a value, given back by its address, which is checked.
fn pool_one_raw(rounds: usize) -> Result<(), Box<dyn Error>> {
    let pool = Pool::<Object>::new();
    for _ in 0..rounds * 512 {
        let object = black_box(pool.allocate()?);
        // SAFETY: the object is nobody else's.
        unsafe { pool.deallocate(object) }?;
    }
    Ok(())
}

/// One value in an arena that clears nothing and is reset after 512.
fn bump(rounds: usize) -> Result<(), Box<dyn Error>> {
    let mut bump = Bump::with(BumpConfig::new().zero_on_reset(false));
    for _ in 0..rounds {
        for _ in 0..512 {
            black_box(bump.try_alloc(OBJECT)?);
        }
        bump.reset();
    }
    Ok(())
}

/// 100 bytes on the thread's node.
fn node_pools(rounds: usize) -> Result<(), Box<dyn Error>> {
    let pools = NodePools::new();
    let layout = Layout::from_size_align(100, 8)?;
    for _ in 0..rounds * 512 {
        let block = black_box(pools.allocate(layout)?);
        // SAFETY: the block is nobody else's, and freed once.
        unsafe { pools.deallocate(block) }?;
    }
    Ok(())
}

/// 64 bytes of the global allocator's kind, charged to a budget.
fn budget(rounds: usize) -> Result<(), Box<dyn Error>> {
    static BUDGET: Budget<Homing> = Budget::new("pairs", 1 << 20, Homing::new());
    let layout = Layout::new::<Object>();
    for _ in 0..rounds * 512 {
        // SAFETY: the layout's size is not 0, and each block is freed once, with the layout it was asked for.
        unsafe { BUDGET.dealloc(black_box(BUDGET.alloc(layout)), layout) };
    }
    Ok(())
}
