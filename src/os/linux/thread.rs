//! Threads: who is asking, where it runs, and its end. Clocks and waiting.

use core::ffi::c_void;

use super::keeping_errno;
use crate::os::fault::{self, Call};
use crate::sync::{AtomicBool, AtomicU16, AtomicUsize, Ordering};

/// A number that no other living thread has, even and not 0: the thread pointer, or the address of the thread's `errno`.
#[inline(always)]
pub(crate) fn thread_token() -> usize {
    #[cfg(target_arch = "x86_64")]
    {
        let token: usize;
        // SAFETY: the x86-64 ABI for thread-local storage keeps the thread pointer at offset 0 of the segment `fs`
        // (Drepper, "ELF Handling For Thread-Local Storage", 3.4.6).
        unsafe {
            core::arch::asm!("mov {}, qword ptr fs:[0]", out(reg) token, options(pure, readonly, nostack, preserves_flags));
        }
        token
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        // SAFETY: a valid pointer, of which only the address is taken.
        unsafe { libc::__errno_location() as usize }
    }
}

/// The half of a word that the kernel looks at: the lower one.
fn futex_of(word: &AtomicUsize) -> *mut u32 {
    let halves = size_of::<usize>() / size_of::<u32>();
    let half = if cfg!(target_endian = "big") { halves - 1 } else { 0 };
    // SAFETY: within the word.
    unsafe { word.as_ptr().cast::<u32>().add(half) }
}

/// Sleeps while the word is `expected`, or differs in its upper half only; may wake for no reason (futex(2)).
pub(crate) fn futex_wait(word: &AtomicUsize, expected: usize) {
    if fault::fails(Call::Wait) {
        return;
    }
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let expected = expected as u32;
    // SAFETY: a valid, aligned futex for as long as the call runs; a null timeout waits for ever.
    keeping_errno(|| unsafe {
        libc::syscall(libc::SYS_futex, futex_of(word), operation, expected, core::ptr::null::<libc::timespec>())
    });
}

/// Likewise, so many milliseconds at most. False where the kernel refuses to have the thread sleep.
pub(crate) fn futex_wait_for(word: &AtomicUsize, expected: usize, milliseconds: u64) -> bool {
    if fault::fails(Call::Wait) {
        return false;
    }
    let time = libc::timespec {
        tv_sec: (milliseconds / 1000) as _,
        tv_nsec: (milliseconds % 1000 * 1_000_000) as libc::c_long,
    };
    let operation = libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG;
    let expected = expected as u32;
    keeping_errno(|| {
        // SAFETY: a valid, aligned futex and a valid time for as long as the call runs.
        let woken = unsafe { libc::syscall(libc::SYS_futex, futex_of(word), operation, expected, &raw const time) };
        woken == 0 || [libc::EAGAIN, libc::EINTR, libc::ETIMEDOUT].contains(&super::errno())
    })
}

/// Wakes one thread that sleeps on the word. Not made to fail: the kernel refuses it for a word that is no memory, or
/// together with the wait, and then nobody sleeps.
pub(crate) fn futex_wake_one(word: &AtomicUsize) {
    let operation = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: the word is a valid, aligned futex.
    keeping_errno(|| unsafe { libc::syscall(libc::SYS_futex, futex_of(word), operation, 1) });
}

/// Milliseconds of a clock that never goes back, to a few milliseconds exact (CLOCK_MONOTONIC_COARSE).
#[inline]
pub(crate) fn now_ms() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    if !fault::fails(Call::Clock) {
        // SAFETY: the buffer has the type the call fills; the clock exists since Linux 2.6.32.
        keeping_errno(|| unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC_COARSE, &raw mut time) });
    }
    time.tv_sec as u64 * 1000 + time.tv_nsec as u64 / 1_000_000
}

/// Whether the processor's counter is read.
static READS_TICKS: AtomicBool = AtomicBool::new(false);

/// Has the processor's counter read from now on, if the process may (PR_SET_TSC, which a program is started with; who
/// forbids it to itself later, as strict seccomp(2) does, must not come here).
pub(crate) fn read_processor_ticks() {
    #[cfg(target_arch = "x86_64")]
    {
        let mut state: libc::c_int = 0;
        let known = !fault::fails(Call::Ask)
            // SAFETY: the buffer has the type the call fills.
            && keeping_errno(|| unsafe { libc::prctl(libc::PR_GET_TSC, &raw mut state) }) == 0;
        if known && state != libc::PR_TSC_ENABLE {
            return;
        }
    }
    READS_TICKS.store(true, Ordering::Relaxed);
}

/// Whether [`processor_ticks`] may be called: not before [`read_processor_ticks`]. The coarse clock can be read where the
/// counter kills the process.
pub(crate) fn reads_processor_ticks() -> bool {
    READS_TICKS.load(Ordering::Relaxed)
}

/// A counter of the processor's that goes on evenly for the most part, and is read without touching memory; how fast is
/// not said.
#[inline]
pub(crate) fn processor_ticks() -> Option<u64> {
    #[cfg(target_arch = "x86_64")]
    {
        // SAFETY: every x86-64 processor has the instruction.
        Some(unsafe { core::arch::x86_64::_rdtsc() })
    }
    #[cfg(target_arch = "aarch64")]
    {
        let ticks: u64;
        // SAFETY: Linux lets programs read the virtual counter.
        unsafe { core::arch::asm!("mrs {ticks}, cntvct_el0", ticks = out(reg) ticks, options(nomem, nostack)) };
        Some(ticks)
    }
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    None
}

/// The number of the CPU that the calling thread runs on, if it costs next to nothing to know.
///
/// Read from the thread's `rseq` area where the C library registered one (glibc 2.35), else asked of the vDSO.
#[inline(always)]
pub(crate) fn current_cpu() -> Option<u32> {
    match rseq::cpu() {
        Some(cpu) => Some(cpu),
        None => ask_for_cpu(),
    }
}

/// Likewise, where the `rseq` area is known already and nothing need be called.
#[inline(always)]
pub(crate) fn current_cpu_at_hand() -> Option<u32> {
    rseq::cpu_at_hand()
}

#[cold]
fn ask_for_cpu() -> Option<u32> {
    // SAFETY: no preconditions.
    let cpu = keeping_errno(|| unsafe { libc::sched_getcpu() });
    if fault::fails(Call::Getcpu) { None } else { u32::try_from(cpu).ok() }
}

/// The kernel's number of the node that a CPU belongs to, once a thread on that CPU has called [`current_node`].
#[inline]
pub(crate) fn node_of_cpu(cpu: u32) -> Option<u32> {
    let known = NODE_OF_CPU.get(cpu as usize)?.load(Ordering::Relaxed);
    u32::from(known).checked_sub(1)
}

/// By CPU: its node's number plus one; 0 while it was not asked for. A CPU stays on its node for as long as the process
/// runs (but where a machine's boards are exchanged under power; then blocks land on the node that the CPU had).
static NODE_OF_CPU: [AtomicU16; 8192] = [const { AtomicU16::new(0) }; 8192];

/// The kernel's number of the node that the calling thread runs on, asked of the kernel (getcpu(2)); the error is
/// `errno`'s.
#[cold]
pub(crate) fn current_node() -> Result<u32, i32> {
    if fault::fails(Call::Getcpu) {
        return Err(libc::ENOSYS);
    }
    let (mut cpu, mut node) = (0_u32, 0_u32);
    keeping_errno(|| {
        if !rseq::vdso_getcpu(&mut cpu, &mut node) {
            // SAFETY: both buffers are writable; the third argument is ignored since Linux 2.6.24.
            let answer = unsafe {
                libc::syscall(libc::SYS_getcpu, &raw mut cpu, &raw mut node, core::ptr::null_mut::<c_void>())
            };
            if answer != 0 {
                return Err(super::errno());
            }
        }
        if let (Some(known), Ok(number)) = (NODE_OF_CPU.get(cpu as usize), u16::try_from(node + 1)) {
            known.store(number, Ordering::Relaxed);
        }
        Ok(node)
    })
}

/// The restartable-sequences area of the thread (rseq(2)), as far as it is needed here.
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
mod rseq {
    use crate::sync::{AtomicUsize, Ordering};

    /// Offset of the CPU's number in `struct rseq` (linux/rseq.h).
    const CPU_ID: usize = 4;

    // glibc 2.35 and later export the area's distance from the thread pointer, and 2.29 and later a getcpu that asks the
    // vDSO; weak, since older ones do not.
    core::arch::global_asm!(".weak __rseq_offset", ".weak __rseq_size", ".weak getcpu");

    /// Asks the vDSO by the C library's `getcpu(3)`, which works where the system call is refused. False where there is
    /// none.
    pub(super) fn vdso_getcpu(cpu: &mut u32, node: &mut u32) -> bool {
        let function: *const ();
        // SAFETY: loads the weak symbol's address, null where the C library has none, from the global offset table.
        unsafe {
            core::arch::asm!(
                "mov {}, qword ptr [rip + getcpu@GOTPCREL]",
                out(reg) function, options(pure, readonly, nostack, preserves_flags)
            );
        }
        if function.is_null() {
            return false;
        }
        // SAFETY: not null, and what the C library exports by that name is a function of this type (getcpu(3)).
        let getcpu: unsafe extern "C" fn(*mut u32, *mut u32) -> i32 = unsafe { core::mem::transmute(function) };
        // SAFETY: both buffers are writable.
        unsafe { getcpu(cpu, node) == 0 }
    }

    /// Where the CPU's number stands, from the thread pointer; or one of the two below, which no offset is.
    static PLACE: AtomicUsize = AtomicUsize::new(NOT_LOOKED);
    const NOT_LOOKED: usize = 1;
    const NOWHERE: usize = 3;

    #[cold]
    fn look() -> usize {
        let (offset, size): (*const isize, *const u32);
        // SAFETY: loads the two weak symbols' addresses (null where the C library has none) from the global offset
        // table.
        unsafe {
            core::arch::asm!(
                "mov {}, qword ptr [rip + __rseq_offset@GOTPCREL]",
                "mov {}, qword ptr [rip + __rseq_size@GOTPCREL]",
                out(reg) offset, out(reg) size, options(pure, readonly, nostack, preserves_flags)
            );
        }
        let mut place = NOWHERE;
        if !offset.is_null() && !size.is_null() {
            // SAFETY: both are constants of the C library, of these types (glibc manual, "Restartable Sequences").
            let (offset, size) = unsafe { (*offset, *size) };
            // A size of 0: the area is not registered (GLIBC_TUNABLES=glibc.pthread.rseq=0).
            if size as usize >= CPU_ID + size_of::<u32>() {
                place = (offset as usize).wrapping_add(CPU_ID);
            }
        }
        PLACE.store(place, Ordering::Relaxed);
        place
    }

    #[inline(always)]
    pub(super) fn cpu() -> Option<u32> {
        let mut place = PLACE.load(Ordering::Relaxed);
        if !place.is_multiple_of(4) {
            place = if place == NOT_LOOKED { look() } else { place };
            if place == NOWHERE {
                return None;
            }
        }
        cpu_at(place)
    }

    /// Where it was looked for before.
    #[inline(always)]
    pub(super) fn cpu_at_hand() -> Option<u32> {
        let place = PLACE.load(Ordering::Relaxed);
        if place.is_multiple_of(4) { cpu_at(place) } else { None }
    }

    #[inline(always)]
    fn cpu_at(place: usize) -> Option<u32> {
        let cpu: i32;
        // SAFETY: the C library keeps the calling thread's area at that distance from its thread pointer; the kernel
        // writes aligned words of it, only while this thread is not running.
        unsafe {
            core::arch::asm!("mov {:e}, dword ptr fs:[{}]", out(reg) cpu, in(reg) place, options(readonly, nostack, preserves_flags));
        }
        // Negative while the area is not registered.
        u32::try_from(cpu).ok()
    }
}

#[cfg(not(all(target_arch = "x86_64", target_env = "gnu")))]
mod rseq {
    pub(super) fn cpu() -> Option<u32> {
        None
    }

    pub(super) fn cpu_at_hand() -> Option<u32> {
        None
    }

    pub(super) fn vdso_getcpu(_: &mut u32, _: &mut u32) -> bool {
        false
    }
}

/// A key of the C library's for thread-specific data (pthread_key_create(3)), made when it is first needed.
///
/// | state | meaning | who leaves it |
/// |---|---|---|
/// | `NONE` | there is none | any thread, by compare-exchange to a key's number and 2 |
/// | a number and 2 | the key | `remove` |
/// | `REMOVED` | there is none any more | nobody |
struct ThreadKey(AtomicUsize);

impl ThreadKey {
    const NONE: usize = 0;
    const REMOVED: usize = 1;

    const fn new() -> Self {
        ThreadKey(AtomicUsize::new(Self::NONE))
    }

    fn number(&self) -> Option<libc::pthread_key_t> {
        self.0.load(Ordering::Acquire).checked_sub(2).map(|key| key as libc::pthread_key_t)
    }

    /// The key, made if there is none; `None` where the C library has none left, or it was removed.
    fn made(&self, end: extern "C" fn(*mut c_void)) -> Option<libc::pthread_key_t> {
        if self.0.load(Ordering::Acquire) != Self::NONE {
            return self.number();
        }
        let mut key: libc::pthread_key_t = 0;
        if fault::fails(Call::ThreadHook)
            // SAFETY: the buffer has the type the call fills; the destructor is a function of the program.
            || keeping_errno(|| unsafe { libc::pthread_key_create(&raw mut key, Some(end)) }) != 0
        {
            return None;
        }
        if self.0.compare_exchange(Self::NONE, key as usize + 2, Ordering::AcqRel, Ordering::Acquire).is_err() {
            // SAFETY: made above, and never used.
            keeping_errno(|| unsafe { libc::pthread_key_delete(key) });
        }
        self.number()
    }

    fn get(&self) -> *mut c_void {
        match self.number() {
            // SAFETY: the key was made by `pthread_key_create`.
            Some(key) => unsafe { libc::pthread_getspecific(key) },
            None => core::ptr::null_mut(),
        }
    }

    fn set(&self, value: *mut c_void, end: extern "C" fn(*mut c_void)) -> bool {
        let Some(key) = self.made(end) else { return false };
        let fails = !value.is_null() && fault::fails(Call::ThreadHook);
        // SAFETY: as in `get`.
        !fails && keeping_errno(|| unsafe { libc::pthread_setspecific(key, value) }) == 0
    }

    fn remove(&self) {
        let key = self.number();
        self.0.store(Self::REMOVED, Ordering::Release);
        if let Some(key) = key {
            // SAFETY: the key was made by `pthread_key_create`, and is deleted once.
            keeping_errno(|| unsafe { libc::pthread_key_delete(key) });
        }
    }
}

static HOOK: ThreadKey = ThreadKey::new();
static VALUE: ThreadKey = ThreadKey::new();

/// Has the hook called when the calling thread ends, among the destructors of thread-specific data, after those of C++'s
/// and Rust's thread-local objects. It is the same at every call. May allocate, for late keys. False where the C library has
/// no key or no memory for it: the hook is not called.
#[must_use]
pub(crate) fn call_at_thread_exit(hook: extern "C" fn(*mut c_void)) -> bool {
    HOOK.set(core::ptr::without_provenance_mut(1), hook)
}

/// What the calling thread has left by [`set_thread_value`]; null where it has not, and from its end on.
#[inline]
pub(crate) fn thread_value() -> *mut c_void {
    VALUE.get()
}

/// Leaves a value for the calling thread, which `end` is called with when the thread ends, among the destructors of
/// thread-specific data; also one that is left in the middle of these, as long as the C library goes round
/// (PTHREAD_DESTRUCTOR_ITERATIONS). `end` is the same at every call. May allocate, for late keys. False where the C library
/// has no key or no memory for it; not where the thread has left one before.
pub(crate) fn set_thread_value(value: *mut c_void, end: extern "C" fn(*mut c_void)) -> bool {
    VALUE.set(value, end)
}

/// Before this code is unloaded: nothing of it is called any more when a thread ends, and nothing can be left for threads.
pub(crate) fn remove_thread_hooks() {
    HOOK.remove();
    VALUE.remove();
}

/// The stack of a thread of the allocator's own, in bytes; the C library's usual one where thread-local storage leaves too
/// little of it.
const STACK: usize = 64 << 10;

/// Begins a thread in which `run` is called, with every signal blocked. May allocate. The error is its number, as in `errno`.
pub(crate) fn begin_thread(run: extern "C" fn(*mut c_void) -> *mut c_void) -> Result<(), i32> {
    if fault::fails(Call::Thread) {
        return Err(libc::EAGAIN);
    }
    let mut all = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
    let mut before = core::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the buffer has the type the call fills.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the first set was filled above, and the second is there to be filled. A new thread has its maker's signals.
    let blocked = unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), before.as_mut_ptr()) };
    if blocked != 0 {
        return Err(blocked);
    }
    let error = keeping_errno(|| match begin_with_stack(Some(STACK), run) {
        libc::EINVAL => begin_with_stack(None, run),
        answer => answer,
    });
    // SAFETY: filled by the call above.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), core::ptr::null_mut()) };
    if error == 0 { Ok(()) } else { Err(error) }
}

/// The error's number, or 0.
fn begin_with_stack(stack: Option<usize>, run: extern "C" fn(*mut c_void) -> *mut c_void) -> i32 {
    let mut attributes = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the buffer has the type the call fills.
    let error = unsafe { libc::pthread_attr_init(attributes.as_mut_ptr()) };
    if error != 0 {
        return error;
    }
    if let Some(stack) = stack {
        // SAFETY: filled above. Where the size is refused, the thread has the usual one.
        unsafe { libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), stack) };
    }
    let mut thread = core::mem::MaybeUninit::<libc::pthread_t>::uninit();
    let nothing = core::ptr::null_mut();
    // SAFETY: the attributes were filled above, the buffer has the type the call fills, and `run` is a function of the program.
    let error = unsafe { libc::pthread_create(thread.as_mut_ptr(), attributes.as_ptr(), run, nothing) };
    // SAFETY: filled above, and not used any more.
    unsafe { libc::pthread_attr_destroy(attributes.as_mut_ptr()) };
    error
}

/// Names the calling thread, for people (prctl(2)). Nothing where the kernel refuses.
pub(crate) fn name_thread(name: &core::ffi::CStr) {
    // SAFETY: the name is a C string.
    keeping_errno(|| unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) });
}

/// What [`join_thread`] knows the calling thread by; not 0.
pub(crate) fn this_thread() -> usize {
    // SAFETY: no preconditions.
    unsafe { libc::pthread_self() as usize }
}

/// Waits for the end of a thread of [`begin_thread`]'s, by what it is known by. Once only.
pub(crate) fn join_thread(thread: usize) {
    // SAFETY: a thread of this process that is joined by nobody else, and was not made to be let go.
    keeping_errno(|| unsafe { libc::pthread_join(thread as libc::pthread_t, core::ptr::null_mut()) });
}
