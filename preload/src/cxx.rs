//! The C++ runtime's names: the twenty replaceable `operator new` and `operator delete` (C++17 21.6.2), as libstdc++
//! exports them.
//!
//! Where there is no memory, `operator new` calls the new-handler and tries again for as long as there is one, then
//! throws `std::bad_alloc`; the nothrow forms give null. Handler and throw are libstdc++'s, found by weak references; where
//! a program loads it later, for a library's sake, it is asked for when they are wanted.
//!
//! A program may replace some of the forms, `operator new(size_t)` and `operator delete(void*)` at the least. By the
//! standard the others lead to those: where there is a replacement, the forms here do so, too. It is looked for when
//! this object is loaded; programs without one pay for a byte that is compared.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, Ordering};

use homing::entry;

/// What the nothrow forms are passed a reference to; empty.
#[repr(C)]
pub struct NoThrow {
    _empty: u8,
}

type Handler = unsafe extern "C-unwind" fn();

/// The address of a function that may not be there.
macro_rules! weak {
    ($symbol:literal, $type:ty) => {{
        let address: usize;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: loads the weak symbol's address, or 0, from the global offset table.
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $symbol),
                concat!("mov {}, qword ptr [rip + ", $symbol, "@GOTPCREL]"),
                out(reg) address, options(pure, readonly, nostack, preserves_flags)
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        unsafe {
            core::arch::asm!(
                concat!(".weak ", $symbol),
                concat!("adrp {0}, :got:", $symbol),
                concat!("ldr {0}, [{0}, :got_lo12:", $symbol, "]"),
                out(reg) address, options(pure, readonly, nostack, preserves_flags)
            );
        }
        // SAFETY: a function pointer or null, of that symbol's type.
        unsafe { core::mem::transmute::<usize, Option<$type>>(address) }
    }};
}

/// A function of the C++ runtime, which may not be there.
macro_rules! runtimes {
    ($symbol:literal, $type:ty) => {
        weak!($symbol, $type).or_else(|| {
            let address = in_runtime_loaded_later(concat!($symbol, "\0"));
            // SAFETY: a function pointer or null, of that symbol's type.
            unsafe { core::mem::transmute::<*mut c_void, Option<$type>>(address) }
        })
    };
}

/// What the C++ runtime knows by a name that ends with a zero byte, where it was loaded after this object and so stands in
/// no scope that is searched for it. Null where there is none.
#[cold]
fn in_runtime_loaded_later(name: &'static str) -> *mut c_void {
    // SAFETY: a C string; nothing is loaded.
    let runtime = unsafe { libc::dlopen(c"libstdc++.so.6".as_ptr(), libc::RTLD_LAZY | libc::RTLD_NOLOAD) };
    if runtime.is_null() {
        return runtime;
    }
    // SAFETY: the handle is open, and the name ends with a zero byte.
    let address = unsafe { libc::dlsym(runtime, name.as_ptr().cast()) };
    // SAFETY: opened above. Whoever called the operator holds the runtime.
    unsafe { libc::dlclose(runtime) };
    address
}

/// The address of what the process knows by one of this object's names: its own function, or one that comes before it.
macro_rules! address_of_bound {
    ($name:ident) => {{
        let address: usize;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: loads the symbol's address from the global offset table.
        unsafe {
            core::arch::asm!(
                "mov {}, qword ptr [rip + {name}@GOTPCREL]",
                out(reg) address, name = sym $name, options(pure, readonly, nostack, preserves_flags)
            );
        }
        #[cfg(target_arch = "aarch64")]
        // SAFETY: as above.
        unsafe {
            core::arch::asm!(
                "adrp {0}, :got:{name}",
                "ldr {0}, [{0}, :got_lo12:{name}]",
                out(reg) address, name = sym $name, options(pure, readonly, nostack, preserves_flags)
            );
        }
        address
    }};
}

/// That function itself.
macro_rules! bound {
    ($name:ident, $type:ty) => {{
        let address = address_of_bound!($name);
        // SAFETY: a function of that symbol's type.
        unsafe { core::mem::transmute::<usize, $type>(address) }
    }};
}

/// Whether the program has forms of its own, to which the others lead. Written once, when this object is loaded.
static REPLACED: AtomicBool = AtomicBool::new(false);

#[used]
#[unsafe(link_section = ".init_array")]
static LOOK: extern "C" fn() = look_for_replacements;

/// The forms that others lead to may be the program's, or those of a library that comes before this object. Where this
/// object was loaded late, for some only, they are the C++ runtime's: that is no replacement.
extern "C" fn look_for_replacements() {
    let forms = [
        address_of_bound!(_Znwm),
        address_of_bound!(_Znam),
        address_of_bound!(_ZdlPv),
        address_of_bound!(_ZdaPv),
        address_of_bound!(_ZnwmSt11align_val_t),
        address_of_bound!(_ZnamSt11align_val_t),
        address_of_bound!(_ZdlPvSt11align_val_t),
        address_of_bound!(_ZdaPvSt11align_val_t),
    ];
    let others = || forms.into_iter().filter(|form| !is_in_this_object(*form));
    if others().next().is_some() {
        let runtime = weak!("_ZSt15get_new_handlerv", Handler).and_then(|get| object_of(get as usize));
        let is_replacement = |form| object_of(form) != runtime;
        REPLACED.store(others().any(is_replacement), Ordering::Relaxed);
    }
}

#[inline]
fn is_replaced() -> bool {
    REPLACED.load(Ordering::Relaxed)
}

fn is_in_this_object(address: usize) -> bool {
    let (start, end): (usize, usize);
    #[cfg(target_arch = "x86_64")]
    // SAFETY: takes the addresses of two symbols that the linker defines in each object (GNU ld's manual,
    // "PROVIDE_HIDDEN").
    unsafe {
        core::arch::asm!(
            ".hidden __ehdr_start", ".hidden _end", "lea {}, [rip + __ehdr_start]", "lea {}, [rip + _end]",
            out(reg) start, out(reg) end, options(pure, nomem, nostack, preserves_flags)
        );
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        core::arch::asm!(
            ".hidden __ehdr_start", ".hidden _end",
            "adrp {0}, __ehdr_start", "add {0}, {0}, :lo12:__ehdr_start", "adrp {1}, _end", "add {1}, {1}, :lo12:_end",
            out(reg) start, out(reg) end, options(pure, nomem, nostack, preserves_flags)
        );
    }
    (start..end).contains(&address)
}

/// Where the object begins that the address lies in.
fn object_of(address: usize) -> Option<usize> {
    let mut info = core::mem::MaybeUninit::<libc::Dl_info>::zeroed();
    // SAFETY: any address may be asked for; the buffer has the type that the call fills.
    let found = unsafe { libc::dladdr(core::ptr::without_provenance(address), info.as_mut_ptr()) } != 0;
    // SAFETY: zero bytes are valid, and so is what the call has filled in.
    found.then(|| unsafe { info.assume_init() }.dli_fbase.addr())
}

/// Calls the program's new-handler, which may throw; false where it has none.
fn call_new_handler() -> bool {
    let get = runtimes!("_ZSt15get_new_handlerv", unsafe extern "C" fn() -> Option<Handler>);
    // SAFETY: `std::get_new_handler` has no preconditions.
    let Some(handler) = get.and_then(|get| unsafe { get() }) else { return false };
    // SAFETY: the program set it to be called in just this case (C++17 21.6.3.3).
    unsafe { handler() };
    true
}

/// Tries with the handler's help for as long as there is one.
#[cold]
extern "C-unwind" fn with_handler(allocate: impl Fn() -> *mut u8) -> *mut c_void {
    while call_new_handler() {
        let block = allocate();
        if !block.is_null() {
            return block.cast();
        }
    }
    core::ptr::null_mut()
}

#[cold]
extern "C-unwind" fn with_handler_or_throw(allocate: impl Fn() -> *mut u8) -> *mut c_void {
    let block = with_handler(allocate);
    if block.is_null() {
        match runtimes!("_ZSt17__throw_bad_allocv", unsafe extern "C-unwind" fn() -> !) {
            // SAFETY: throws; this function's caller is C++, which may be thrown through.
            Some(throw) => unsafe { throw() },
            // SAFETY: no preconditions.
            None => unsafe { libc::abort() },
        }
    }
    block
}

/// Each form with what serves it, what is done where that fails, and, but for those that others lead to, what it is
/// where the program has forms of its own.
macro_rules! operator_new {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) =
        $allocate:expr, $on_failure:expr $(, replaced: $replaced:expr)?;)*) => {
        $($(#[$doc])*
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)]
        pub extern "C-unwind" fn $name($($argument: $type),*) -> *mut c_void {
            $(if is_replaced() {
                return $replaced;
            })?
            let block = $allocate;
            if block.is_null() {
                return ($on_failure)(move || $allocate);
            }
            block.cast()
        })*
    };
}

type New = unsafe extern "C-unwind" fn(usize) -> *mut c_void;
type AlignedNew = unsafe extern "C-unwind" fn(usize, usize) -> *mut c_void;
type Delete = unsafe extern "C" fn(*mut c_void);
type AlignedDelete = unsafe extern "C" fn(*mut c_void, usize);

#[cold]
extern "C-unwind" fn replaced_new(size: usize) -> *mut c_void {
    let new = bound!(_Znwm, New);
    // SAFETY: `operator new(size_t)` has no preconditions.
    unsafe { new(size) }
}

#[cold]
extern "C-unwind" fn replaced_aligned_new(size: usize, align: usize) -> *mut c_void {
    let new = bound!(_ZnwmSt11align_val_t, AlignedNew);
    // SAFETY: `operator new(size_t, align_val_t)`, with an alignment that the caller has chosen.
    unsafe { new(size, align) }
}

/// `operator new` promises the alignment asked for, or the ordinary one if that is more.
fn aligned(size: usize, align: usize) -> *mut u8 {
    if align.is_power_of_two() { entry::memalign(align, size) } else { core::ptr::null_mut() }
}

/// The C++ runtime's own function of that name, behind this object's or loaded later: null where there is none.
macro_rules! next {
    ($symbol:literal, $type:ty) => {{
        let name = concat!($symbol, "\0");
        // SAFETY: the name ends with a zero byte.
        let next = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr().cast()) };
        let address = if next.is_null() { in_runtime_loaded_later(name) } else { next };
        // SAFETY: a function pointer or null, of that symbol's type.
        unsafe { core::mem::transmute::<*mut c_void, Option<$type>>(address) }
    }};
}

/// A nothrow form has the new-handler called, and gives null where it throws. libstdc++'s own does that: it calls the
/// throwing form, this object's or the program's, and catches, which cannot be done here.
#[cold]
fn nothrow_again(size: usize, array: bool) -> *mut c_void {
    type New = unsafe extern "C" fn(usize, &NoThrow) -> *mut c_void;
    let new = if array { next!("_ZnamRKSt9nothrow_t", New) } else { next!("_ZnwmRKSt9nothrow_t", New) };
    // SAFETY: `operator new(size_t, nothrow_t const&)` has no preconditions.
    new.map_or(core::ptr::null_mut(), |new| unsafe { new(size, &NoThrow { _empty: 0 }) })
}

#[cold]
fn nothrow_aligned_again(size: usize, align: usize, array: bool) -> *mut c_void {
    type New = unsafe extern "C" fn(usize, usize, &NoThrow) -> *mut c_void;
    let new = if array {
        next!("_ZnamSt11align_val_tRKSt9nothrow_t", New)
    } else {
        next!("_ZnwmSt11align_val_tRKSt9nothrow_t", New)
    };
    // SAFETY: as above, with an alignment that the caller has chosen.
    new.map_or(core::ptr::null_mut(), |new| unsafe { new(size, align, &NoThrow { _empty: 0 }) })
}

operator_new! {
    /// `operator new(size_t)`.
    _Znwm(size: usize) = entry::malloc(size), with_handler_or_throw;
    /// `operator new[](size_t)`.
    _Znam(size: usize) = entry::malloc(size), with_handler_or_throw, replaced: replaced_new(size);
    /// `operator new(size_t, align_val_t)`.
    _ZnwmSt11align_val_t(size: usize, align: usize) = aligned(size, align), with_handler_or_throw;
    /// `operator new[](size_t, align_val_t)`.
    _ZnamSt11align_val_t(size: usize, align: usize) = aligned(size, align), with_handler_or_throw,
        replaced: replaced_aligned_new(size, align);
    /// `operator new(size_t, nothrow_t const&)`.
    _ZnwmRKSt9nothrow_t(size: usize, _nothrow: &NoThrow) = entry::malloc(size), (|_| nothrow_again(size, false)),
        replaced: nothrow_again(size, false);
    /// `operator new[](size_t, nothrow_t const&)`.
    _ZnamRKSt9nothrow_t(size: usize, _nothrow: &NoThrow) = entry::malloc(size), (|_| nothrow_again(size, true)),
        replaced: nothrow_again(size, true);
    /// `operator new(size_t, align_val_t, nothrow_t const&)`.
    _ZnwmSt11align_val_tRKSt9nothrow_t(size: usize, align: usize, _nothrow: &NoThrow) = aligned(size, align),
        (|_| nothrow_aligned_again(size, align, false)), replaced: nothrow_aligned_again(size, align, false);
    /// `operator new[](size_t, align_val_t, nothrow_t const&)`.
    _ZnamSt11align_val_tRKSt9nothrow_t(size: usize, align: usize, _nothrow: &NoThrow) = aligned(size, align),
        (|_| nothrow_aligned_again(size, align, true)), replaced: nothrow_aligned_again(size, align, true);
}

/// Each form and, but for those that others lead to, the one that it leads to where the program has forms of its own.
macro_rules! operator_delete {
    ($($(#[$doc:meta])* $name:ident($($argument:ident: $type:ty),*) = $free:ident($($told:ident),*)
        $(, replaced: $replaced:ident as $form:ty $(, $align:ident)?)?;)*) => {
        $($(#[$doc])*
        ///
        /// # Safety
        /// Null, or a live block that is not used any more, of the size and the alignment that are told.
        #[unsafe(no_mangle)]
        #[allow(non_snake_case)]
        pub unsafe extern "C" fn $name(block: *mut c_void, $($argument: $type),*) {
            $(if is_replaced() {
                let delete = bound!($replaced, $form);
                // SAFETY: the caller's promise.
                return unsafe { delete(block $(, $align)?) };
            })?
            // SAFETY: the caller's promise.
            unsafe { entry::$free(block.cast(), $($told),*) };
        })*
    };
}

operator_delete! {
    /// `operator delete(void*)`.
    _ZdlPv() = free();
    /// `operator delete[](void*)`.
    _ZdaPv() = free(), replaced: _ZdlPv as Delete;
    /// `operator delete(void*, nothrow_t const&)`.
    _ZdlPvRKSt9nothrow_t(_nothrow: &NoThrow) = free(), replaced: _ZdlPv as Delete;
    /// `operator delete[](void*, nothrow_t const&)`.
    _ZdaPvRKSt9nothrow_t(_nothrow: &NoThrow) = free(), replaced: _ZdaPv as Delete;
    /// `operator delete(void*, size_t)`.
    _ZdlPvm(size: usize) = free_sized(size), replaced: _ZdlPv as Delete;
    /// `operator delete[](void*, size_t)`.
    _ZdaPvm(size: usize) = free_sized(size), replaced: _ZdaPv as Delete;
    /// `operator delete(void*, align_val_t)`.
    _ZdlPvSt11align_val_t(align: usize) = free_aligned(align);
    /// `operator delete[](void*, align_val_t)`.
    _ZdaPvSt11align_val_t(align: usize) = free_aligned(align),
        replaced: _ZdlPvSt11align_val_t as AlignedDelete, align;
    /// `operator delete(void*, size_t, align_val_t)`.
    _ZdlPvmSt11align_val_t(size: usize, align: usize) = free_aligned_sized(align, size),
        replaced: _ZdlPvSt11align_val_t as AlignedDelete, align;
    /// `operator delete[](void*, size_t, align_val_t)`.
    _ZdaPvmSt11align_val_t(size: usize, align: usize) = free_aligned_sized(align, size),
        replaced: _ZdaPvSt11align_val_t as AlignedDelete, align;
    /// `operator delete(void*, align_val_t, nothrow_t const&)`.
    _ZdlPvSt11align_val_tRKSt9nothrow_t(align: usize, _nothrow: &NoThrow) = free_aligned(align),
        replaced: _ZdlPvSt11align_val_t as AlignedDelete, align;
    /// `operator delete[](void*, align_val_t, nothrow_t const&)`.
    _ZdaPvSt11align_val_tRKSt9nothrow_t(align: usize, _nothrow: &NoThrow) = free_aligned(align),
        replaced: _ZdaPvSt11align_val_t as AlignedDelete, align;
}
