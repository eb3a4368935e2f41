//! The allocator never unwinds. A release build has no panic in it either (`ci/panics`), and the linker leaves all of this
//! out; where debug assertions are on, a panic is a defect that ends the process, by the standard library's code for it.
//! These stand in for the unwinder of libgcc_s that such code calls, so that a program that does not load that library by
//! itself need not for the allocator's sake.
//!
//! They are hidden: no other object sees them. Exceptions of C++ that pass through the frames of `operator new` are
//! libstdc++'s business and find there only what the frame tables say; no function here has anything to clean up.
//!
//! Raising fails, as it does where the stack ends (`_URC_END_OF_STACK`, 5); Rust's runtime then says so and aborts.

/// Defines functions of those names, hidden, that are those instructions.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! stand_in {
    ($names:literal: $x86_64:literal or $aarch64:literal) => {
        core::arch::global_asm!(
            ".pushsection .text._ZN6homing_unwind,\"ax\",%progbits",
            concat!(".irp name, ", $names),
            ".globl \\name",
            ".hidden \\name",
            ".type \\name,%function",
            "\\name:",
            ".endr",
            by_processor!($x86_64 or $aarch64),
            ".popsection",
        );
    };
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod functions {
    stand_in!("_Unwind_RaiseException, _Unwind_DeleteException": "mov eax, 5; ret" or "mov w0, #5; ret");
    stand_in!("_Unwind_Backtrace": "mov eax, 5; ret" or "mov w0, #5; ret");
    // Asked only by whoever walks a stack, which never begins.
    stand_in!(
        "_Unwind_GetIP, _Unwind_GetIPInfo, _Unwind_GetCFA, _Unwind_GetLanguageSpecificData, _Unwind_GetRegionStart, \
         _Unwind_GetTextRelBase, _Unwind_GetDataRelBase, _Unwind_FindEnclosingFunction, _Unwind_SetGR, _Unwind_SetIP":
        "xor eax, eax; ret" or "mov x0, #0; ret"
    );
    stand_in!("_Unwind_Resume": "ud2" or "brk #1");
}
