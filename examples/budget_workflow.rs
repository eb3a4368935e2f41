//! A server whose requests may each take so much memory, and all of them together so much: budgets within a budget, a
//! warning when it gets tight, and a refusal that says who asked for how much of what.
//!
//! Run by `cargo run --release --example budget_workflow --features allocator-api2`.

use homing::allocator_api2::vec::Vec;
use homing::{Budget, Homing, SoftLimit, last_refusal};

const KIB: usize = 1 << 10;

/// One request: it wants so many bytes, in pieces.
fn serve(name: &'static str, wanted: usize, server: &Budget<Homing>) {
    let request = Budget::new(name, 64 * KIB, server);
    let mut pieces: Vec<Vec<u8, _>, _> = Vec::new_in(&request);
    for piece in 0..wanted / (8 * KIB) {
        let mut bytes = Vec::new_in(&request);
        if pieces.try_reserve(1).is_err() || bytes.try_reserve_exact(8 * KIB).is_err() {
            let refusal = last_refusal().expect("it has just refused");
            println!("{name}: stopped after {piece} pieces: {refusal}");
            break;
        }
        bytes.resize(8 * KIB, 1);
        pieces.push(bytes);
    }
    println!(
        "{name}: {} KiB of its {} in use; the server has {}",
        request.used() / KIB,
        request.limit() / KIB,
        server.used() / KIB
    );
}

/// What is called when the server's memory gets tight.
fn warn(limit: &SoftLimit) {
    println!("warning: {} uses {} KiB of {}", limit.budget, limit.used / KIB, limit.limit / KIB);
}

fn main() {
    let server = Budget::new("server", 256 * KIB, Homing::new());
    serve("small request", 32 * KIB, &server);
    serve("large request", 128 * KIB, &server);

    // What the server keeps for itself leaves less for requests than each of them may have.
    let server =
        Budget::new("busy server", 256 * KIB, Homing::new()).with_soft_limit(192 * KIB, warn as fn(&SoftLimit));
    let mut cache: Vec<u8, _> = Vec::new_in(&server);
    cache.resize(200 * KIB, 0);
    serve("late request", 64 * KIB, &server);
    drop(cache);
    println!(
        "at the end: {} bytes in use, {} KiB at the peak, {} refusals",
        server.used(),
        server.peak() / KIB,
        server.stats().refusals
    );
}
