//! The same work for `homing` and for its peers, in one process.
//!
//! # Why calls, and not function tables or `dlopen`
//!
//! A Rust program reaches its `#[global_allocator]` by a direct call of a symbol (`__rust_alloc`) that is never
//! inlined; behind it stands the code of the `GlobalAlloc` implementation, inlined into that symbol where it is Rust,
//! called from it where it is C. [`peers::entry`] builds just that for each allocator: functions monomorphised for the
//! type, not inlined, their arguments unknown to the optimiser. So Rust allocators gain nothing here (a size known at
//! compile time, a class computed ahead) that they would not gain in a program, and C allocators lose nothing (a table
//! of function pointers, the thread-local storage of a loaded library). All of them are linked statically into one
//! program, built with the same target settings, and each is as optimised as its crate makes it.
//!
//! What the allocators would do to each other in one process is kept apart: symbols of the two majors of mimalloc by
//! renaming (`mimalloc2/`), rpmalloc's own `pthread_create` and numalloc's pinning of threads by taking turns
//! ([`peers::turn`]).
//!
//! The program's own memory (tables, channels, criterion) comes from `System`, and is not allocated while time runs.

#![deny(missing_docs)]

pub mod block;
pub mod case;
pub mod growth;
pub mod memory;
pub mod peers;
pub mod rng;
#[cfg(feature = "homing")]
pub mod shaped;
pub mod summary;
pub mod table;
pub mod workload;
pub mod workloads;
