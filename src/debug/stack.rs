//! Stacks: where in the program something was done.

use crate::message::Line;
use crate::os;
use crate::sync::{AtomicUsize, Ordering};

/// How many calls of a stack are kept.
const DEPTH: usize = 10;

/// The return addresses of the calls that led somewhere, the innermost first; 0 where there are no more.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Stack([usize; DEPTH]);

/// Calls of the allocator's own between the reader of stacks and whoever asks for one: `os::read_stack`, `Stack::here` and
/// the function of this module that called it are never inlined.
const OWN: usize = 3;
/// More of them that there may be, where they can be told from the program's.
const MORE_OWN: usize = 9;

/// The code of the shared object that the allocator is in: its start and its end; 0 where it is part of the program.
static OWN_CODE: [AtomicUsize; 2] = [const { AtomicUsize::new(0) }; 2];

/// Has the C library load what it reads stacks with.
pub(super) fn begin() {
    let mut stack = [0; OWN];
    os::read_stack(&mut stack);
    if let Some((start, end)) = os::own_shared_object() {
        OWN_CODE[0].store(start, Ordering::Relaxed);
        OWN_CODE[1].store(end, Ordering::Relaxed);
    }
}

fn is_own(call: usize) -> bool {
    (OWN_CODE[0].load(Ordering::Relaxed)..OWN_CODE[1].load(Ordering::Relaxed)).contains(&call)
}

impl Stack {
    pub(super) const EMPTY: Self = Stack([0; DEPTH]);

    /// The calls that led to the function that asks, which is never inlined, without the allocator's own as far as they can
    /// be told.
    #[inline(never)]
    pub(super) fn here() -> Self {
        let mut calls = [0; OWN + MORE_OWN + DEPTH];
        os::read_stack(&mut calls);
        let own = OWN + calls.iter().skip(OWN).take(MORE_OWN).take_while(|call| is_own(**call)).count();
        let mut stack = Self::EMPTY;
        stack.0.iter_mut().zip(calls.iter().skip(own)).for_each(|(kept, call)| *kept = *call);
        stack
    }

    /// The return addresses.
    pub(super) fn calls(&self) -> [usize; DEPTH] {
        self.0
    }

    pub(super) fn is_known(&self) -> bool {
        self.0[0] != 0
    }

    /// Writes it to standard error, a line a call.
    pub(super) fn say(&self) {
        for call in self.0.into_iter().take_while(|call| *call != 0) {
            // The call stands before the address that it returns to.
            let line = Line::empty().text("    ").address(call);
            match os::whereabouts_of_code(call - 1) {
                Some(place) => {
                    let line = line.text(" ").bytes(place.file.to_bytes()).text("+0x").hexadecimal(place.offset);
                    match place.function {
                        Some(function) => line.text(" (").bytes(function.to_bytes()).text(")"),
                        None => line,
                    }
                }
                None => line,
            }
            .say();
        }
    }
}
