//! A soak: a mixed load for a stated time, under everything that can happen to an allocator at once. Threads come and
//! go, hand blocks to each other, resize them, fork and trim, while the kernel refuses at random. Contents are checked
//! always; at the end, when all is at rest, no more memory may be resident than after a warm-up of a fixed amount of work.
//!
//! `ci/soak` runs it for long, with this crate as the program's allocator and under the shared object. Without arguments
//! it takes a few seconds, so that it stays in order.

#[cfg(all(target_os = "linux", not(feature = "portable")))]
#[path = "../common/mod.rs"]
mod common;

#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod allocator;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod crew;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod options;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod soak;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod storm;
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod worker;

fn main() {
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    soak::main();
}
