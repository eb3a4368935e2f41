//! The bump arena of each thread.
//!
//! It lies in the heap, and the thread's data (`os::thread_value`) names it from its first use to the thread's end or
//! clean-up. Only its thread reaches it; a signal handler on top of that thread does, too.
//!
//! | held | given up | meaning | next use | clean-up, thread's end |
//! |---|---|---|---|---|
//! | no | no | at rest | is held | freed |
//! | yes | no | a [`LocalBump`] is out | [`BumpError::Reentered`] | is given up |
//! | yes | yes | cleaned up while it is out | [`BumpError::Reentered`] | nothing |
//! | no | yes | for a moment, while the guard is dropped | begins clean | freed |

use core::cell::{Cell, UnsafeCell};
use core::ffi::c_void;
use core::ops::{Deref, DerefMut};
use core::panic::{RefUnwindSafe, UnwindSafe};
use core::ptr::{self, NonNull};

use super::{Bump, BumpError};
use crate::config;
use crate::config::Config;
use crate::os;
use crate::process;
use crate::source::Source;
use crate::sync::{AtomicBool, Ordering};

struct Local {
    /// Taken by an exchange, so that a handler comes before it or after it.
    held: AtomicBool,
    given_up: Cell<bool>,
    bump: UnsafeCell<Bump>,
}

/// The calling thread's bump arena, held: see [`Bump::local`]. It is at rest again when this is dropped.
///
/// It is lent to helpers as `&Bump`, which it derefs to; as the allocator of a collection it is `&*guard`:
///
/// ```
/// use homing::{Bump, BumpError};
///
/// fn shout<'a>(scratch: &'a Bump, text: &str) -> &'a str {
///     let copy = scratch.alloc_str(text);
///     copy.make_ascii_uppercase();
///     copy
/// }
///
/// let mut scratch = Bump::local()?;
/// scratch.reset();    // what a task before this one has left, also where it panicked
/// assert_eq!(shout(&scratch, "lent"), "LENT");
/// # #[cfg(feature = "allocator-api2")] {
/// let mut words = allocator_api2::vec::Vec::new_in(&*scratch);
/// words.extend("as an allocator".split(' '));
/// # }
/// # Ok::<(), BumpError>(())
/// ```
///
/// It stays on its thread:
///
/// ```compile_fail,E0277
/// let bump = homing::Bump::local().unwrap();
/// std::thread::spawn(move || bump.alloc(1).clone());
/// ```
#[derive(Debug)]
pub struct LocalBump {
    // A pointer, so that this is neither sent nor shared.
    local: NonNull<Local>,
}

// As its arena is.
impl UnwindSafe for LocalBump {}
impl RefUnwindSafe for LocalBump {}

impl Deref for LocalBump {
    type Target = Bump;

    #[inline]
    fn deref(&self) -> &Bump {
        // SAFETY: it lives at least until the guard is dropped, and no other guard is out.
        unsafe { &*self.local.as_ref().bump.get() }
    }
}

impl DerefMut for LocalBump {
    #[inline]
    fn deref_mut(&mut self) -> &mut Bump {
        // SAFETY: as in `deref`; the guard is borrowed exclusively.
        unsafe { &mut *self.local.as_ref().bump.get() }
    }
}

impl Drop for LocalBump {
    fn drop(&mut self) {
        // SAFETY: it lives at least until here.
        let local = unsafe { self.local.as_ref() };
        if !local.given_up.get() {
            local.held.store(false, Ordering::Relaxed);
            return;
        }
        if ptr::eq(os::thread_value(), self.local.as_ptr().cast()) {
            // Cannot fail where it was set before.
            os::set_thread_value(ptr::null_mut(), on_thread_end);
        }
        // SAFETY: nobody else names it any more.
        unsafe { free(self.local) };
    }
}

impl Bump {
    /// The calling thread's own arena, made at the first use with the settings `HOMING_BUMP_SIZE`, `HOMING_BUMP_ZERO`,
    /// `HOMING_BUMP_OVERFLOW` and `HOMING_BUMP_LIMIT` of the environment, put on those of
    /// [`Config::bump`](crate::Config::bump).
    ///
    /// What was put into it stays in use when the guard is dropped, until a [`reset`](Bump::reset); references to it do
    /// not outlive the guard. The memory is given back by the thread's end or by
    /// [`thread_cleanup`](crate::thread_cleanup), after which the next use begins clean; if a guard is held then, when that
    /// is dropped. On Linux, threads may use theirs to their very end, in destructors of thread-local values, too; elsewhere,
    /// and under the feature `portable`, such a destructor may be told [`BumpError::NoThreadData`].
    ///
    /// *Cost*: some thirty instructions, beside those of the arena.
    ///
    /// # Errors
    /// - [`BumpError::Reentered`] while another guard is held on this thread: further up, in a callback, in a `Drop`, in a
    ///   signal handler on top of it; or forgotten;
    /// - [`BumpError::NoMemory`] where there is no memory to begin with;
    /// - [`BumpError::NoThreadData`] where the C library has no thread-specific data left, or the thread's has ended.
    ///
    /// ```
    /// use homing::{Bump, BumpError};
    ///
    /// let mut bump = Bump::local()?;
    /// let text = bump.alloc_str("this thread's");
    /// assert_eq!(text.len(), 13);
    /// assert!(matches!(Bump::local(), Err(BumpError::Reentered)));
    /// bump.reset();
    /// drop(bump);
    /// assert_eq!(Bump::local()?.stats().resets, 1);
    /// # Ok::<(), BumpError>(())
    /// ```
    pub fn local() -> Result<LocalBump, BumpError> {
        let local = match NonNull::new(os::thread_value().cast::<Local>()) {
            Some(local) => local,
            None => begin()?,
        };
        // SAFETY: what the thread's data names lives.
        let state = unsafe { local.as_ref() };
        if state.held.swap(true, Ordering::Relaxed) {
            return Err(BumpError::Reentered);
        }
        let mut guard = LocalBump { local };
        if state.given_up.replace(false) {
            *guard = Bump::with(config::current().bump);
        }
        Ok(guard)
    }
}

/// Makes the thread's arena.
#[cold]
fn begin() -> Result<NonNull<Local>, BumpError> {
    if !process::set_up(&Config::new()) {
        return Err(BumpError::Reentered);
    }
    process::clean_up_by(&CLEAN_UP);
    let bump = UnsafeCell::new(Bump::with(config::current().bump));
    let no_memory = BumpError::NoMemory { size: size_of::<Local>(), align: align_of::<Local>() };
    let local = Source::Caller.allocate(size_of::<Local>(), align_of::<Local>(), false).ok_or(no_memory)?;
    let local = local.cast::<Local>();
    // SAFETY: the memory is large and aligned enough, and nobody else's.
    unsafe { local.write(Local { held: AtomicBool::new(false), given_up: Cell::new(false), bump }) };
    // A signal handler may have been here meanwhile, and made one. (One that comes between this look and the next line
    // loses what it made: 64 KiB, once.)
    let others = NonNull::new(os::thread_value().cast::<Local>());
    if others.is_none() && os::set_thread_value(local.as_ptr().cast(), on_thread_end) {
        return Ok(local);
    }
    // SAFETY: nobody knows of it.
    unsafe { free(local) };
    others.ok_or(BumpError::NoThreadData)
}

/// Gives a thread's arena back.
///
/// # Safety
/// Nobody uses it or names it any more.
unsafe fn free(local: NonNull<Local>) {
    // SAFETY: the caller's promise.
    unsafe { local.drop_in_place() };
    // SAFETY: obtained in `begin` with this size and alignment.
    unsafe { Source::free(local.cast(), size_of::<Local>(), align_of::<Local>()) };
}

/// Gives it back now, or, if a guard is out, when that is dropped. False where a guard is.
fn give_up(local: NonNull<Local>) -> bool {
    // SAFETY: what the thread's data names, or did until now, lives.
    let state = unsafe { local.as_ref() };
    state.given_up.set(true);
    !state.held.load(Ordering::Relaxed)
}

/// The end of a thread that has an arena. A guard that was forgotten keeps it for ever.
extern "C" fn on_thread_end(value: *mut c_void) {
    let _end = process::ThreadEnd::begin();
    if let Some(local) = NonNull::new(value.cast::<Local>())
        && give_up(local)
    {
        // SAFETY: no guard is out, and the thread's data names it no more.
        unsafe { free(local) };
    }
}

static CLEAN_UP: extern "C" fn() = clean_up_thread;

/// Gives the calling thread's arena up; its next use begins clean.
pub(crate) extern "C" fn clean_up_thread() {
    if let Some(local) = NonNull::new(os::thread_value().cast::<Local>())
        && give_up(local)
    {
        os::set_thread_value(ptr::null_mut(), on_thread_end);
        // SAFETY: no guard is out, and the thread's data names it no more.
        unsafe { free(local) };
    }
}
