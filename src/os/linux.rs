//! Linux.

mod inspect;
mod memory;
mod numa;
mod process;
mod thread;

pub(crate) use inspect::*;
pub(crate) use memory::*;
pub(crate) use numa::*;
pub(crate) use process::*;
pub(crate) use thread::*;

/// Runs `call` and puts `errno` back to what it was: a success leaves it alone, and so does every `free`.
fn keeping_errno<R>(call: impl FnOnce() -> R) -> R {
    let saved = errno();
    let result = call();
    set_errno(saved);
    result
}
