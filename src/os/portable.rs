//! Every other system, and any with the feature `portable`: memory comes from `std::alloc::System`, in granules that are
//! never given back, and there is one node.
//!
//! What the kernel does on Linux is done by hand: reserved memory is usable at once and zeroed, "purged" memory is
//! written over with zeros, pages are not moved, nothing is bound.

use core::cell::Cell;
use core::ffi::{CStr, c_void};
use core::ptr::{self, NonNull};
use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write;

use crate::os::fault::{self, Call};
use crate::os::{Binding, Moved, NodeMask};
use crate::sync::{AtomicPtr, AtomicUsize, Ordering};

/// Bytes in a page, as far as the allocator's rounding is concerned.
#[inline]
pub(crate) fn page_size() -> usize {
    4096
}

/// The largest request: `System` may touch all of it.
const MOST: usize = if usize::BITS > 32 { 1 << 31 << 1 } else { crate::arith::MAX_SIZE };

/// Whether addresses can be chosen.
pub(crate) const MAPS_WHERE_ASKED: bool = false;

/// `size` bytes, zeroed, `lead` bytes behind a multiple of `align`. `None` where the system refuses.
pub(crate) fn map_aligned(lead: usize, size: usize, align: usize) -> Option<NonNull<u8>> {
    let total = crate::arith::sum([lead, size]).filter(|total| *total <= MOST && !fault::fails(Call::Map))?;
    // What `System` gets from the kernel for a request of this size is mapped, so most of it is not touched here.
    let layout = Layout::from_size_align(total, align).ok()?;
    // SAFETY: the size is not 0.
    let obtained = NonNull::new(unsafe { System.alloc_zeroed(layout) })?;
    // SAFETY: `lead` bytes are within it.
    let start = unsafe { obtained.add(lead) };
    if remember(start, lead, layout) {
        return Some(start);
    }
    // SAFETY: as it was allocated, and nobody uses it.
    unsafe { System.dealloc(obtained.as_ptr(), layout) };
    None
}

/// Anywhere: nothing is known of addresses.
pub(crate) fn map_near(_: usize, size: usize) -> Option<NonNull<u8>> {
    map_aligned(0, size, page_size())
}

/// Never.
pub(crate) fn map_at(_: NonNull<u8>, _: usize) -> bool {
    false
}

/// Never.
///
/// # Safety
/// None here; the twin has some.
pub(crate) unsafe fn grow(_: NonNull<u8>, _: usize, _: usize) -> bool {
    false
}

/// Never.
///
/// # Safety
/// None here; the twin has some.
pub(crate) unsafe fn shorten(_: NonNull<u8>, _: usize, _: usize) -> bool {
    false
}

/// What `System` was asked for, so that it can be given back.
struct Obtained {
    /// Where it is used from; 0: the place is empty.
    start: AtomicUsize,
    lead: AtomicUsize,
    size: AtomicUsize,
    align: AtomicUsize,
}

/// So many of them, and where there are more: what `System` gave for them, and never takes back. All zero: none.
struct Table {
    places: [Obtained; 1023],
    next: AtomicPtr<Table>,
}

static OBTAINED: Table = Table {
    places: [const {
        Obtained {
            start: AtomicUsize::new(0),
            lead: AtomicUsize::new(0),
            size: AtomicUsize::new(0),
            align: AtomicUsize::new(0),
        }
    }; 1023],
    next: AtomicPtr::new(ptr::null_mut()),
};

impl Table {
    /// The table behind this one, made if `make` says so and there is none. `None` where there is no memory for one.
    fn next(&self, make: bool) -> Option<&'static Table> {
        let mut next = self.next.load(Ordering::Acquire);
        if next.is_null() && make {
            let layout = Layout::new::<Table>();
            // SAFETY: the size is not 0.
            let made = unsafe { System.alloc_zeroed(layout) }.cast::<Table>();
            match self.next.compare_exchange(next, made, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => next = made,
                Err(theirs) => {
                    if !made.is_null() {
                        // SAFETY: allocated above, and nobody saw it.
                        unsafe { System.dealloc(made.cast(), layout) };
                    }
                    next = theirs;
                }
            }
        }
        // SAFETY: null, or a table, which stays for good.
        unsafe { next.as_ref() }
    }

    fn all() -> impl Iterator<Item = &'static Table> {
        core::iter::successors(Some(&OBTAINED), |table| table.next(false))
    }
}

/// Notes it. False where there is no memory to do so.
fn remember(start: NonNull<u8>, lead: usize, layout: Layout) -> bool {
    const BUSY: usize = 1;
    let mut table = &OBTAINED;
    loop {
        for obtained in &table.places {
            if obtained.start.load(Ordering::Relaxed) == 0
                && obtained.start.compare_exchange(0, BUSY, Ordering::Acquire, Ordering::Relaxed).is_ok()
            {
                obtained.lead.store(lead, Ordering::Relaxed);
                obtained.size.store(layout.size(), Ordering::Relaxed);
                obtained.align.store(layout.align(), Ordering::Relaxed);
                obtained.start.store(start.addr().get(), Ordering::Release);
                return true;
            }
        }
        match table.next(true) {
            Some(next) => table = next,
            None => return false,
        }
    }
}

/// Gives memory back.
///
/// # Safety
/// The range came from [`map_aligned`] whole, and nobody uses it any more.
pub(crate) unsafe fn unmap(start: NonNull<u8>, _: usize) {
    let is_it = |obtained: &&Obtained| obtained.start.load(Ordering::Acquire) == start.addr().get();
    let Some(obtained) = Table::all().flat_map(|table| &table.places).find(is_it) else { return };
    let (size, align) = (obtained.size.load(Ordering::Relaxed), obtained.align.load(Ordering::Relaxed));
    let lead = obtained.lead.load(Ordering::Relaxed);
    obtained.start.store(0, Ordering::Release);
    if let Ok(layout) = Layout::from_size_align(size, align) {
        // SAFETY: allocated in `map_aligned` with this layout, so many bytes before.
        unsafe { System.dealloc(start.as_ptr().sub(lead), layout) };
    }
}

/// Nothing: what is given back is taken.
pub(crate) fn release_refused() {}

/// Forgets the contents: they read as zero from now on.
///
/// # Safety
/// The range is the caller's, and its contents may be lost.
pub(crate) unsafe fn purge(start: NonNull<u8>, size: usize) -> bool {
    if fault::fails(Call::Purge) {
        return false;
    }
    // SAFETY: the caller's promise.
    unsafe { start.write_bytes(0, size) };
    true
}

/// Nothing: there is no call for it.
///
/// # Safety
/// None here; the twin has some.
pub(crate) unsafe fn populate(_: NonNull<u8>, _: usize) {}

/// Nothing: what is reserved is there.
///
/// # Safety
/// None here; the twin has some.
pub(crate) unsafe fn obtain_pages(_: NonNull<u8>, _: usize) -> bool {
    true
}

/// Calls `visit` with each page of the range: which of them are in memory is not known.
pub(crate) fn each_resident_page(start: NonNull<u8>, size: usize, mut visit: impl FnMut(NonNull<u8>)) {
    for offset in (0..size).step_by(page_size()) {
        // SAFETY: within the range.
        visit(unsafe { start.add(offset) });
    }
}

/// Not known.
pub(crate) fn total_memory() -> usize {
    0
}

/// As far as is known.
pub(crate) fn places_by_first_touch() -> bool {
    true
}

/// Nobody can tell.
pub(crate) fn where_are(_: &[usize], _: &mut [i32]) -> Result<(), i32> {
    Err(ENOSYS)
}

/// Nothing is moved.
pub(crate) fn move_to_node(_: &[usize], _: i32, _: &mut [i32]) -> Result<(), i32> {
    Err(ENOSYS)
}

/// Nothing: there is no call for it.
///
/// # Safety
/// None here; the twin has some.
pub(crate) unsafe fn refuse_huge_pages(_: NonNull<u8>, _: usize) {}

/// Nothing: there is no call for it.
///
/// # Safety
/// None here; the twin has some.
pub(crate) unsafe fn leave_out_of_dumps(_: NonNull<u8>, _: usize) {}

/// Never: contents are copied.
///
/// # Safety
/// None here; the twin has some.
pub(crate) unsafe fn move_pages(_: NonNull<u8>, _: usize, _: NonNull<u8>) -> Moved {
    Moved::No
}

/// Not known.
pub(crate) fn resident_bytes() -> Option<usize> {
    None
}

/// Not known.
pub(crate) fn peak_resident_bytes() -> Option<usize> {
    None
}

/// "Out of memory", as C's `errno` says it on most systems.
pub(crate) const ENOMEM: i32 = 12;
/// Numbers of errors that answers of the system are compared with.
pub(crate) const EPERM: i32 = 1;
/// No such thing.
pub(crate) const ENOENT: i32 = 2;
/// Not a valid address.
pub(crate) const EFAULT: i32 = 14;
/// No such call.
pub(crate) const ENOSYS: i32 = 38;
/// "Invalid argument", as C's `errno` says it on most systems.
pub(crate) const EINVAL: i32 = 22;

/// Nothing: the C entry points are for Linux.
pub(crate) fn set_errno(_: i32) {}

/// Not known.
pub(crate) fn is_mapped(_: usize) -> bool {
    false
}

/// Whether there is no system at all, as under WebAssembly that is embedded in something else: no environment, no process, no
/// clock. What std has of these panics there.
const IS_BARE: bool = cfg!(all(target_family = "wasm", target_os = "unknown"));

/// Calls `visit` with every `KEY=VALUE` of the environment.
pub(crate) fn for_each_variable(mut visit: impl FnMut(&[u8])) -> bool {
    if IS_BARE {
        return true;
    }
    // Allocates, and is re-entered then: the emergency path serves that.
    for (key, value) in std::env::vars_os() {
        let mut variable = key.into_encoded_bytes();
        variable.push(b'=');
        variable.extend(value.into_encoded_bytes());
        visit(&variable);
    }
    true
}

/// Not known; no system without the notion runs programs with others' privileges.
pub(crate) fn is_secure() -> bool {
    false
}

/// The process's id.
pub(crate) fn process_id() -> u32 {
    if IS_BARE { 1 } else { std::process::id() }
}

/// None: files of the kernel are Linux's.
pub(crate) fn read_file(_: &CStr, _: &mut [u8]) -> Option<usize> {
    None
}

/// The descriptor of standard error.
pub(crate) const STDERR: i32 = 2;

/// Writes the text to standard error.
pub(crate) fn write_to(_: i32, text: &[u8]) {
    let _ = std::io::stderr().write_all(text);
}

/// Ends the process at once.
pub(crate) fn abort() -> ! {
    std::process::abort()
}

/// Nothing: `fork` is not a notion that all systems have.
pub(crate) fn at_fork(_: extern "C" fn()) -> bool {
    true
}

/// Nothing: there is no common way.
pub(crate) fn at_exit(_: extern "C" fn()) -> bool {
    true
}

/// What is called when a thread ends, if anything is.
struct AtExit(Cell<Option<extern "C" fn(*mut c_void)>>);

impl Drop for AtExit {
    fn drop(&mut self) {
        if let Some(hook) = self.0.get() {
            hook(ptr::null_mut());
        }
    }
}

std::thread_local! {
    static AT_EXIT: AtExit = const { AtExit(Cell::new(None)) };
    static TOKEN: u16 = const { 0 };
}

/// Has the hook called when the calling thread ends, among the destructors of its thread-local values. False where those
/// have been.
pub(crate) fn call_at_thread_exit(hook: extern "C" fn(*mut c_void)) -> bool {
    AT_EXIT.try_with(|at_exit| at_exit.0.set(Some(hook))).is_ok()
}

/// Nothing: no code is unloaded, as far as is known.
pub(crate) fn remove_thread_hooks() {}

/// What a thread has left, and what is called with it at the thread's end.
struct Value(Cell<*mut c_void>, Cell<Option<extern "C" fn(*mut c_void)>>);

impl Drop for Value {
    fn drop(&mut self) {
        if let (false, Some(end)) = (self.0.get().is_null(), self.1.get()) {
            end(self.0.get());
        }
    }
}

std::thread_local! {
    static VALUE: Value = const { Value(Cell::new(ptr::null_mut()), Cell::new(None)) };
}

/// What the calling thread has left by [`set_thread_value`]; null where it has not, and from its end on.
pub(crate) fn thread_value() -> *mut c_void {
    VALUE.try_with(|value| value.0.get()).unwrap_or(ptr::null_mut())
}

/// Leaves a value for the calling thread, which `end` is called with when the thread ends, among the destructors of its
/// thread-local values. False where those have been.
pub(crate) fn set_thread_value(value: *mut c_void, end: extern "C" fn(*mut c_void)) -> bool {
    let set = |place: &Value| {
        place.0.set(value);
        place.1.set(Some(end));
    };
    (value.is_null() || !fault::fails(Call::ThreadHook)) && VALUE.try_with(set).is_ok()
}

/// A number that no other living thread has, even and not 0.
pub(crate) fn thread_token() -> usize {
    TOKEN.try_with(|token| core::ptr::from_ref(token) as usize).unwrap_or(2)
}

/// Gives way; the word is looked at again after it.
pub(crate) fn futex_wait(_: &AtomicUsize, _: usize) {
    std::thread::yield_now();
}

/// Sleeps so many milliseconds at most, and looks at the word twice a second.
pub(crate) fn futex_wait_for(word: &AtomicUsize, expected: usize, milliseconds: u64) -> bool {
    let mut left = milliseconds;
    while left > 0 && word.load(Ordering::Relaxed) == expected {
        let some = left.min(500);
        std::thread::sleep(std::time::Duration::from_millis(some));
        left -= some;
    }
    true
}

/// Begins a thread in which `run` is called. The error is its number, as far as it has one.
pub(crate) fn begin_thread(run: extern "C" fn(*mut c_void) -> *mut c_void) -> Result<(), i32> {
    if fault::fails(Call::Thread) {
        return Err(ENOMEM);
    }
    let begun = std::thread::Builder::new().name("homing".into()).spawn(move || {
        run(ptr::null_mut());
    });
    begun.map(drop).map_err(|error| error.raw_os_error().unwrap_or(ENOSYS))
}

/// Nothing: it has its name.
pub(crate) fn name_thread(_: &CStr) {}

/// Not known.
pub(crate) fn this_thread() -> usize {
    0
}

/// Nothing: no code is unloaded, as far as is known.
pub(crate) fn join_thread(_: usize) {}

/// Nothing: nobody sleeps.
pub(crate) fn futex_wake_one(_: &AtomicUsize) {}

/// Milliseconds of a clock that never goes back; 0 where there is none.
pub(crate) fn now_ms() -> u64 {
    use std::sync::OnceLock;
    use std::time::Instant;
    static START: OnceLock<Instant> = OnceLock::new();
    if IS_BARE {
        return 0;
    }
    START.get_or_init(Instant::now).elapsed().as_millis() as u64
}

/// There is none.
pub(crate) fn read_processor_ticks() {}

/// Never.
pub(crate) fn reads_processor_ticks() -> bool {
    false
}

/// Not known.
pub(crate) fn processor_ticks() -> Option<u64> {
    None
}

/// Not known.
pub(crate) fn current_cpu() -> Option<u32> {
    None
}

/// Not known.
pub(crate) fn current_cpu_at_hand() -> Option<u32> {
    None
}

/// Not known.
pub(crate) fn node_of_cpu(_: u32) -> Option<u32> {
    None
}

/// The one node there is.
pub(crate) fn current_node() -> Result<u32, i32> {
    Ok(0)
}

/// Never: there is nothing to bind to.
///
/// # Safety
/// None here; the twin has some.
pub(crate) unsafe fn bind(_: NonNull<u8>, _: usize, _: Binding, _: &NodeMask) -> Result<(), i32> {
    Err(EINVAL)
}

/// Not known.
pub(crate) fn allowed_nodes() -> Result<NodeMask, i32> {
    Err(EINVAL)
}

/// Nothing: every page can be touched.
///
/// # Safety
/// None here; the twin has some.
pub(crate) unsafe fn forbid(_: NonNull<u8>, _: usize) {}

/// Numbers that are hard to guess.
pub(crate) fn random_numbers() -> [u64; 3] {
    use std::hash::{BuildHasher, RandomState};
    core::array::from_fn(|place| RandomState::new().hash_one(place))
}

/// A number that no other living thread has.
pub(crate) fn thread_id() -> u32 {
    thread_token() as u32
}

/// Nothing: stacks are not read.
#[inline(never)]
pub(crate) fn read_stack(_: &mut [usize]) {}

/// Where a piece of code comes from.
pub(crate) struct CodePlace {
    /// The program or shared object.
    pub(crate) file: &'static CStr,
    /// Bytes from where that was loaded to.
    pub(crate) offset: usize,
    /// The function, if it is known.
    pub(crate) function: Option<&'static CStr>,
}

/// Not known.
pub(crate) fn whereabouts_of_code(_: usize) -> Option<CodePlace> {
    None
}

/// Not known.
pub(crate) fn own_shared_object() -> Option<(usize, usize)> {
    None
}

/// Never: memory is not read like this.
pub(crate) fn read_memory(_: usize, _: &mut [usize]) -> Option<usize> {
    None
}

/// No.
pub(crate) fn can_read_memory() -> bool {
    false
}

/// Not known.
pub(crate) fn each_writable_mapping(_: impl FnMut(usize, usize)) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_ranges_than_a_table_has_places_for_are_all_given_back() {
        let ranges: Vec<_> = (0..3000).map(|_| map_near(0, 4096).expect("there is memory")).collect();
        let is_noted = |range: &NonNull<u8>| {
            let mut places = Table::all().flat_map(|table| &table.places);
            places.any(|place| place.start.load(Ordering::Relaxed) == range.addr().get())
        };
        assert!(ranges.iter().all(is_noted));
        for range in &ranges {
            // SAFETY: mapped above, and nobody uses it.
            unsafe { unmap(*range, 4096) };
        }
        assert!(!ranges.iter().any(is_noted));
    }
}
