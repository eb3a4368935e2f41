//! The program's allocator: this crate, or the C library's `malloc`, in whose place the shared object may stand.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU8, Ordering};

use homing::Homing;

use crate::common::{Global, Held, Verbs};

/// Set in the environment of a program that is to have the C library's.
pub const SYSTEM: &str = "SOAK_ALLOCATOR_SYSTEM";

static HOMING: Homing = Homing::new().purge_delay_ms(Some(20));

struct Chosen;

#[global_allocator]
static GLOBAL: Chosen = Chosen;

/// Whether the C library's `malloc` serves the program; the same from its first allocation on.
pub fn is_system() -> bool {
    static IS_SYSTEM: AtomicU8 = AtomicU8::new(2);
    match IS_SYSTEM.load(Ordering::Relaxed) {
        2 => {
            // SAFETY: a C string; nobody changes the environment while the program begins.
            let is_set = !unsafe { libc::getenv(c"SOAK_ALLOCATOR_SYSTEM".as_ptr()) }.is_null();
            IS_SYSTEM.store(u8::from(is_set), Ordering::Relaxed);
            is_set
        }
        known => known == 1,
    }
}

// SAFETY: one of two allocators, always the same one.
unsafe impl GlobalAlloc for Chosen {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { if is_system() { System.alloc(layout) } else { HOMING.alloc(layout) } }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { if is_system() { System.dealloc(block, layout) } else { HOMING.dealloc(block, layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { if is_system() { System.alloc_zeroed(layout) } else { HOMING.alloc_zeroed(layout) } }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe {
            if is_system() { System.realloc(block, layout, new_size) } else { HOMING.realloc(block, layout, new_size) }
        }
    }
}

/// The program's allocator, whichever it is.
pub struct Program;

impl Verbs for Program {
    fn allocate(layout: Layout, zeroed: bool) -> *mut u8 {
        Global::allocate(layout, zeroed)
    }

    unsafe fn reallocate(block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // SAFETY: the caller's promise.
        unsafe { Global::reallocate(block, layout, new_size) }
    }

    unsafe fn free(block: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { Global::free(block, layout) };
    }

    unsafe fn usable(block: *mut u8) -> usize {
        // SAFETY: the caller's promise.
        unsafe { if is_system() { libc::malloc_usable_size(block.cast()) } else { homing::entry::usable_size(block) } }
    }
}

pub type Block = Held<Program>;

/// Gives back what nobody uses.
pub fn trim() {
    if is_system() {
        // SAFETY: no preconditions.
        unsafe { libc::malloc_trim(0) };
    } else {
        homing::entry::trim();
    }
}

/// The name of what serves, for people.
pub fn name() -> &'static str {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    match (is_system(), maps.contains("libhoming_preload.so")) {
        (false, _) => "homing, as the program's own",
        (true, true) => "homing, preloaded",
        (true, false) => "the C library's",
    }
}
