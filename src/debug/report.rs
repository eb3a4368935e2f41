//! What the debug mode has to say: one line that tells what is wrong with which block, then where that block was allocated
//! and freed.

use core::ptr::NonNull;

use super::record::Watched;
use super::stack::Stack;
use crate::arena;
use crate::message::Line;
use crate::misuse::{self, FreeError};
use crate::os;

/// What is found wrong with a block without anybody freeing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Finding {
    /// Bytes before it were written over, the nearest so far before its start.
    Underrun { before: usize },
    /// Bytes behind it were written over, the nearest so far behind its last.
    Overrun { behind: usize },
    /// Its byte at that place was written after it was freed.
    WrittenAfterFree { at: usize },
    /// What the allocator keeps about it was written over.
    RecordLost,
}

/// Reports what the verb `what` found wrong with a pointer, and ends the process. Never inlined: see `stack`.
#[inline(never)]
pub(super) fn fatal_use(what: &str, error: FreeError, block: NonNull<u8>, watched: Option<Watched>) -> ! {
    let address = block.as_ptr() as usize;
    describe(error.line(what, address), address, watched).text("; aborting").say();
    if let Some(watched) = watched {
        say_history(watched);
    }
    let here = match (what, error) {
        ("free", FreeError::DoubleFree) => "freed again",
        ("free", _) => "freed now",
        _ => "used now",
    };
    say_stack(here, arena::thread_number(), &Stack::here());
    os::abort()
}

/// Reports what was found wrong with a block, and ends the process.
pub(super) fn fatal(finding: Finding, watched: Watched) -> ! {
    let is_lost = finding == Finding::RecordLost;
    let address = if is_lost { watched.likely_user() } else { watched.user().as_ptr() as usize };
    let line = Line::new().text("block ").address(address).text(": ");
    let line = match finding {
        Finding::Underrun { before } => {
            line.text("memory before it was written over, ").count(before, "byte").text(" from its start (underrun)")
        }
        Finding::Overrun { behind } => {
            line.text("memory behind it was written over, ").count(behind, "byte").text(" from its last (overrun)")
        }
        Finding::WrittenAfterFree { at } => {
            line.text("its byte at ").number(at).text(" was written after it was freed (write after free)")
        }
        Finding::RecordLost => line.text("what is kept about it was written over (underrun)"),
    };
    describe(line, address, (!is_lost).then_some(watched)).text("; aborting").say();
    if !is_lost {
        say_history(watched);
    }
    os::abort()
}

/// Adds what is known of a block.
fn describe(line: Line, address: usize, watched: Option<Watched>) -> Line {
    match watched {
        Some(watched) => {
            let line = line.text("; block ").address(watched.user().as_ptr() as usize);
            let line = line.text(" of ").count(watched.size(), "byte").text(" aligned to ").number(watched.align());
            misuse::about(line, watched.raw().as_ptr() as usize)
        }
        None => misuse::about(line, address),
    }
}

/// Writes where a block was allocated and freed.
pub(super) fn say_history(watched: Watched) {
    let (allocated_by, freed_by) = watched.threads();
    let (allocated_at, freed_at) = watched.stacks();
    say_stack("allocated", allocated_by, &allocated_at);
    if freed_by != 0 {
        say_stack("freed", freed_by, &freed_at);
    }
}

fn say_stack(what: &str, thread: u32, stack: &Stack) {
    let line = Line::empty().text("  ").text(what).text(" by thread ").number(thread as usize);
    if stack.is_known() { line.text(" at") } else { line.text("; its stack cannot be read") }.say();
    stack.say();
}
