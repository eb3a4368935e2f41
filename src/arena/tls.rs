//! The thread-local word: the arena that the calling thread allocates from.
//!
//! It is never null. Before a thread's first slow path it names [`EMPTY`], while an arena is being found for it
//! [`ATTACHING`], and after its end [`EXITED`]: arenas that never have a block, so that every operation on them goes to
//! the slow path, which tells them apart by their address.
//!
//! The word is a `thread_local!` without a destructor. In a program that is one load (Drepper, "ELF Handling For Thread-Local
//! Storage", 4.4.6: local-exec). In a shared object it is a call of `__tls_get_addr`, and any number of them can be opened.
//! With the feature `initial-exec` on x86-64 Linux it is 8 bytes of initial-exec storage, read by two loads (4.3.6).

use super::Arena;

/// The arena of threads that have none yet.
pub(crate) static EMPTY: Arena = Arena::new();
/// The arena of threads that are being given one.
pub(crate) static ATTACHING: Arena = Arena::new();
/// The arena of threads whose exit hook has run.
pub(crate) static EXITED: Arena = Arena::new();

#[cfg(all(target_arch = "x86_64", target_os = "linux", feature = "initial-exec"))]
mod word {
    use super::{Arena, EMPTY};

    /// The word's name: hidden from other objects, and another one for each crate that this code is compiled as.
    macro_rules! name {
        () => {
            concat!("arena_word_of_", env!("CARGO_CRATE_NAME"))
        };
    }

    core::arch::global_asm!(
        ".pushsection .tdata.homing_arena,\"awT\",@progbits",
        ".p2align 3",
        concat!(".hidden ", name!()),
        concat!(".globl ", name!()),
        concat!(".type ", name!(), ",@object"),
        concat!(".size ", name!(), ",8"),
        concat!(name!(), ":"),
        ".quad {empty}",
        ".popsection",
        empty = sym EMPTY,
    );

    #[inline(always)]
    pub(super) fn get() -> *const Arena {
        let arena: *const Arena;
        // SAFETY: reads the calling thread's copy of the word defined above.
        unsafe {
            core::arch::asm!(
                concat!("mov {word}, qword ptr [rip + ", name!(), "@GOTTPOFF]"),
                "mov {word}, qword ptr fs:[{word}]",
                word = out(reg) arena,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        arena
    }

    #[inline]
    pub(super) fn set(arena: *const Arena) {
        // SAFETY: writes the calling thread's copy of the word defined above.
        unsafe {
            core::arch::asm!(
                concat!("mov {word}, qword ptr [rip + ", name!(), "@GOTTPOFF]"),
                "mov qword ptr fs:[{word}], {arena}",
                word = out(reg) _,
                arena = in(reg) arena,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux", feature = "initial-exec")))]
mod word {
    use core::cell::Cell;

    use super::{Arena, EMPTY};

    std::thread_local! {
        static WORD: Cell<*const Arena> = const { Cell::new(&raw const EMPTY) };
    }

    #[inline(always)]
    pub(super) fn get() -> *const Arena {
        // Without a destructor the word outlives every other; should it not, the thread is at its end.
        WORD.try_with(Cell::get).unwrap_or(&raw const super::EXITED)
    }

    #[inline]
    pub(super) fn set(arena: *const Arena) {
        let _ = WORD.try_with(|word| word.set(arena));
    }
}

/// The calling thread's arena, or one of the three that have nothing.
#[inline(always)]
pub(crate) fn get() -> &'static Arena {
    // SAFETY: the word always names an arena, and arenas live for ever.
    unsafe { &*word::get() }
}

/// Gives the calling thread another arena.
#[inline]
pub(crate) fn set(arena: &'static Arena) {
    if arena.id.get().is_some() {
        // Whichever thread had it before.
        arena.thread.set(0);
    }
    word::set(arena);
}
