//! Takes `pthread_create` back from the crate `rpmalloc`.
//!
//! That crate always compiles in rpmalloc's own `pthread_create`, which a static link puts in front of libc's: each
//! thread of the process would then start and end a heap of rpmalloc, whichever allocator is being measured. With
//! `--wrap`, calls of `pthread_create` go to `src/peers/thread_hook.rs` instead, which lets rpmalloc have the threads
//! that are started in its own turn and no others.

fn main() {
    println!("cargo::rerun-if-changed=build/link.rs");
    if std::env::var_os("CARGO_FEATURE_RPMALLOC").is_some() {
        println!("cargo::rustc-link-arg=-Wl,--wrap=pthread_create");
    }
}
