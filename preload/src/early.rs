//! Calls that come while the loader is still at work.
//!
//! glibc's loader sets the first thread's thread-local storage up before it relocates the program and its libraries, but
//! fills it afterwards: until then every word of it is zero, the one that names the thread's arena among them. Resolvers of
//! indirect functions (`ifunc`) run in between, and may allocate. This object is relocated before the program that it was
//! loaded with is (libraries come in the reverse order, the program last), so a resolver of its own comes first, and names
//! the arena of threads that are served by mappings of their own; filling the storage undoes that.
//!
//! No remedy exists for resolvers of libraries that are relocated before this one: its own code cannot be run then.

core::arch::global_asm!(
    ".pushsection .text.homing_early,\"ax\",@progbits",
    ".globl homing_preload_early",
    ".hidden homing_preload_early",
    ".type homing_preload_early,@gnu_indirect_function",
    ".set homing_preload_early, {resolver}",
    ".popsection",
    resolver = sym resolver,
);

unsafe extern "C" {
    fn homing_preload_early();
}

/// Has the loader call the resolver: only for that.
#[used]
static RELOCATED: unsafe extern "C" fn() = homing_preload_early;

/// Called by the loader when the rest of this object is relocated, and nothing else has happened yet.
extern "C" fn resolver() -> extern "C" fn() {
    homing::entry::process_will_begin();
    homing::entry::storage_is_not_filled_yet();
    nothing
}

extern "C" fn nothing() {}
