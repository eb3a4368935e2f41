//! What it costs to ask where a thread runs, by the ways there are.
//!
//! Run by `cargo run --release --example whereabouts`.

use std::hint::black_box;
use std::time::Instant;

const TIMES: u32 = 2_000_000;
const ROUNDS: usize = 9;

/// The median of several rounds, in nanoseconds a question.
fn cost(mut ask: impl FnMut()) -> f64 {
    let mut rounds: Vec<f64> = (0..ROUNDS)
        .map(|_| {
            let begin = Instant::now();
            for _ in 0..TIMES {
                ask();
            }
            begin.elapsed().as_nanos() as f64 / f64::from(TIMES)
        })
        .collect();
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

fn main() {
    let homings = cost(|| {
        let _ = black_box(homing::current_node());
    });
    // SAFETY: no preconditions.
    let librarys = cost(|| unsafe {
        black_box(libc::sched_getcpu());
    });
    let kernels = cost(|| {
        let (mut cpu, mut node) = (0_u32, 0_u32);
        // SAFETY: both buffers are writable.
        unsafe { libc::syscall(libc::SYS_getcpu, &raw mut cpu, &raw mut node, std::ptr::null_mut::<u8>()) };
        black_box((cpu, node));
    });
    println!("homing::current_node (rseq's CPU and a table)  {homings:6.2} ns");
    println!("sched_getcpu (the C library)                   {librarys:6.2} ns");
    println!("getcpu (the system call)                       {kernels:6.2} ns");
}
