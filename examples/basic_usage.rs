//! The shapes that memory can be given, one after the other: a pool, a bump arena, pools of bytes on nodes, a budget.
//!
//! Run by `cargo run --release --example basic_usage --features allocator-api2`.

use std::error::Error;
use std::thread;

use homing::allocator_api2::vec::Vec;
use homing::{Budget, Bump, Homing, NodePools, Pool};

fn main() -> Result<(), Box<dyn Error>> {
    // Objects of one type: each goes back to the pool when its guard is dropped.
    let pool = Pool::new();
    let first = pool.insert([1_u64; 4])?;
    let second = pool.insert([2_u64; 4])?;
    drop(first);
    let stats = pool.stats();
    println!("pool: {} object in it, {} at the peak; it holds {:?}", stats.objects, stats.peak_objects, *second);

    // Whatever lives as long as one task: nothing is freed singly, all of it at once.
    let mut bump = Bump::new();
    let words: Vec<&str, _> = {
        let mut words = Vec::new_in(&bump);
        words.extend("all of these words lie in one arena".split(' ').map(|word| &*bump.alloc_str(word)));
        words
    };
    let longest = words.iter().max_by_key(|word| word.len()).expect("there are words");
    println!("bump: {} words, the longest is {longest:?}", words.len());
    drop(words);
    println!("bump: {} bytes in use before the reset", bump.stats().used);
    bump.reset();
    println!("bump: {} bytes in use after it", bump.stats().used);

    // Bytes of any size, shared by threads; they go back to the node they came from, whoever frees them.
    let pools = NodePools::new();
    let mut numbers = Vec::new_in(&pools);
    numbers.extend(0..1000_u64);
    let sum =
        thread::scope(|scope| scope.spawn(move || numbers.iter().sum::<u64>()).join()).expect("adding does not panic");
    let stats = pools.stats();
    println!("node pools: another thread added up {sum} and freed the numbers; {} bytes left in use", stats.bytes);

    // A limit around any of them.
    let budget = Budget::new("numbers", 1000, Homing::new());
    let mut numbers: Vec<u64, _> = Vec::new_in(&budget);
    match numbers.try_reserve_exact(1000) {
        Ok(()) => println!("8000 bytes were had of 1000, which cannot be"),
        Err(_) => println!("{}", homing::last_refusal().expect("it has refused just now")),
    }
    Ok(())
}
