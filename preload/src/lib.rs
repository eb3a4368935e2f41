//! The shared object that puts homing under unmodified programs: the C and C++ entry points.
//!
//! Every function is its namesake of C17, POSIX.1-2024, the glibc manual ("Replacing malloc") or C++17 (21.6.2), and
//! behaves as its contract says; `homing::entry` holds the behaviour, this crate the names.

/// Instructions for the processor that is compiled for.
#[cfg(target_arch = "x86_64")]
macro_rules! by_processor {
    ($x86_64:literal or $aarch64:literal) => {
        $x86_64
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! by_processor {
    ($x86_64:literal or $aarch64:literal) => {
        $aarch64
    };
}

mod c;
mod cxx;
#[cfg(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux", target_env = "gnu"))]
mod deepbind;
#[cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]
mod early;
mod figures;
mod interface;
mod jemalloc;
mod unwind;

/// Run by the dynamic linker before the constructors of all other objects (`-z initfirst`).
#[used]
#[unsafe(link_section = ".init_array")]
static FIRST: extern "C" fn() = first;

extern "C" fn first() {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    homing::entry::storage_is_filled();
    homing::entry::process_begins();
}

/// Run by the dynamic linker when the process exits, after all that was registered by `atexit(3)`. Registering it there would
/// not do: the C library allocates under the lock that this takes.
#[used]
#[unsafe(link_section = ".fini_array")]
static LAST: extern "C" fn() = last;

extern "C" fn last() {
    homing::entry::process_ends();
}
