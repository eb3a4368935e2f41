//! Libraries that declare the allocator, opened and closed by a program that has another one: `examples/plugin.rs`.
#![cfg(all(target_os = "linux", target_env = "gnu", not(feature = "portable")))]

use std::ffi::{CStr, CString, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::Duration;

/// Keeps tests apart: they look at what the whole process has.
static ALONE: Mutex<()> = Mutex::new(());

/// The library, built by the cargo that runs this test.
fn built() -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    cargo.args(["--package", "homing", "--example", "plugin"]);
    cargo.args(cfg!(feature = "hardened").then_some(["--features", "hardened"]).into_iter().flatten());
    assert!(cargo.status().expect("cargo can be run").success());
    let test = std::env::current_exe().expect("the test knows its program");
    let profile = test.ancestors().nth(2).expect("it lies in a folder of the profile's");
    profile.join("examples/libplugin.so")
}

/// Copies of it, so that each is loaded by itself.
fn copies(test: &str, count: usize) -> Vec<CString> {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{test}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("folders can be made");
    let copy = |number: usize| {
        let place = folder.join(format!("{number}.so"));
        std::fs::copy(built(), &place).expect("it can be copied");
        CString::new(place.as_os_str().as_bytes()).expect("paths have no zero bytes")
    };
    (0..count).map(copy).collect()
}

struct Library(*mut c_void);

// SAFETY: handles of the loader are any thread's.
unsafe impl Send for Library {}
// SAFETY: likewise.
unsafe impl Sync for Library {}

impl Library {
    fn open(path: &CStr) -> Self {
        // SAFETY: the library's constructors are Rust's own.
        let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
        // SAFETY: the loader's own text.
        assert!(!handle.is_null(), "{path:?}: {:?}", unsafe { CStr::from_ptr(libc::dlerror()) });
        Library(handle)
    }

    fn symbol(&self, name: &CStr) -> *mut c_void {
        // SAFETY: the handle is open.
        let symbol = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        assert!(!symbol.is_null(), "{name:?} is there");
        symbol
    }

    fn work(&self) {
        // SAFETY: the function has that type.
        let work: extern "C" fn(usize) -> usize = unsafe { std::mem::transmute(self.symbol(c"plugin_work")) };
        assert_eq!(work(500), (0..500).map(|block| 1 + block * 37 % 5000).sum::<usize>() + (3 << 20));
    }

    fn leak(&self, size: usize) -> &'static [u8] {
        // SAFETY: the function has that type.
        let leak: extern "C" fn(usize) -> *const u8 = unsafe { std::mem::transmute(self.symbol(c"plugin_leak")) };
        // SAFETY: a block of that size, which is never freed.
        unsafe { std::slice::from_raw_parts(leak(size), size) }
    }

    fn live(&self) -> usize {
        // SAFETY: the function has that type.
        let live: extern "C" fn() -> usize = unsafe { std::mem::transmute(self.symbol(c"plugin_live")) };
        live()
    }

    /// Closes it, and sees that it is gone.
    fn close(self, path: &CStr) {
        // SAFETY: nobody uses it any more.
        assert_eq!(unsafe { libc::dlclose(self.0) }, 0);
        // SAFETY: nothing is loaded.
        let still = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_NOLOAD) };
        assert!(still.is_null(), "{path:?} was not unloaded");
    }
}

type Work = Box<dyn FnOnce() + Send>;

/// A thread that does what it is sent, and lives on until its sender is dropped.
fn worker() -> (Sender<Work>, thread::JoinHandle<()>) {
    let (sender, receiver) = channel::<Work>();
    (sender, thread::spawn(move || receiver.iter().for_each(|work| work())))
}

fn on(worker: &Sender<Work>, work: impl FnOnce() + Send + 'static) {
    let (done, is_done) = channel();
    let work = move || {
        work();
        done.send(()).expect("it is waited for");
    };
    worker.send(Box::new(work)).expect("it waits for work");
    is_done.recv().expect("the work does not panic");
}

/// Bytes of address space that the process has, and mappings.
fn addresses() -> (usize, usize) {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux has a /proc/self/statm");
    let pages: usize = statm.split(' ').next().and_then(|field| field.parse().ok()).expect("it begins with a number");
    (pages * 4096, std::fs::read_to_string("/proc/self/maps").expect("Linux has it").lines().count())
}

#[test]
fn a_thread_that_used_a_library_ends_after_it_was_unloaded() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    for path in &copies("ends", 3) {
        let library = Library::open(path);
        let (sender, thread) = worker();
        let lent = Library(library.0);
        on(&sender, move || lent.work());
        library.work();
        library.close(path);
        drop(sender);
        thread.join().expect("it ends as any other");
    }
}

#[test]
fn what_a_library_has_not_freed_is_there_when_it_was_unloaded() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let path = &copies("leaks", 1)[0];
    let library = Library::open(path);
    let left: Vec<_> = [16, 3000, 100_000, 5 << 20, 40 << 20].map(|size| library.leak(size)).into();
    library.work();
    library.close(path);
    assert!(left.iter().all(|block| block.iter().all(|byte| *byte == 7)));
}

#[test]
fn a_library_that_is_loaded_again_and_again_keeps_no_addresses() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let path = &copies("again", 1)[0];
    let cycle = || {
        let library = Library::open(path);
        library.work();
        thread::scope(|scope| drop(scope.spawn(|| library.work()).join()));
        library.close(path);
    };
    (0..3).for_each(|_| cycle());
    let before = addresses();
    (0..100).for_each(|_| cycle());
    let after = addresses();
    assert!(after.0 <= before.0 + (1 << 20) && after.1 <= before.1 + 4, "{before:?} before, {after:?} after");
}

/// Its arena cannot be taken from it: what stays is what the arena holds, here a few MiB of addresses each time.
#[test]
fn a_library_that_is_loaded_again_and_again_keeps_little_for_a_thread_that_used_it_and_lives_on() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let path = &copies("lives-on", 1)[0];
    let (sender, thread) = worker();
    let cycle = || {
        let library = Library::open(path);
        let lent = Library(library.0);
        on(&sender, move || lent.work());
        library.close(path);
    };
    (0..3).for_each(|_| cycle());
    let before = addresses();
    (0..20).for_each(|_| cycle());
    let after = addresses();
    // Hardened, each guard parts a mapping.
    let mappings = if cfg!(feature = "hardened") { 20 } else { 3 };
    assert!(
        after.0 <= before.0 + 20 * (10 << 20) && after.1 <= before.1 + 20 * mappings,
        "{before:?} before, {after:?} after"
    );
    drop(sender);
    thread.join().expect("it ends as any other");
}

#[test]
fn a_hundred_copies_are_loaded_at_once_and_leave_room_for_4_tib() {
    let _alone = ALONE.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let paths = copies("hundred", 100);
    let libraries: Vec<_> = paths.iter().map(|path| Library::open(path)).collect();
    libraries.iter().for_each(Library::work);
    thread::scope(|scope| drop(scope.spawn(|| libraries.iter().for_each(Library::work)).join()));
    let (size, flags) = (4 << 40, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: a new mapping, which is not touched.
    let mapped = unsafe { libc::mmap(std::ptr::null_mut(), size, libc::PROT_NONE, flags, -1, 0) };
    assert_ne!(mapped, libc::MAP_FAILED, "there is room");
    // SAFETY: mapped above.
    assert_eq!(unsafe { libc::munmap(mapped, size) }, 0);
    libraries.into_iter().zip(&paths).for_each(|(library, path)| library.close(path));
}

#[test]
fn libraries_that_have_a_thread_of_their_own_are_unloaded_as_any_other() {
    let mut command = Command::new(std::env::current_exe().expect("the test knows its program"));
    command.args(["--skip", "exit", "--skip", "have_a_thread"]).env("HOMING_BACKGROUND", "1");
    let output = command.env("HOMING_PURGE_DELAY", "20ms").output().expect("it can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// Runs the test of that name in processes of its own, many times, each of which is to exit as it likes.
fn exits(name: &str) {
    for _ in 0..20 {
        let mut command = Command::new(std::env::current_exe().expect("the test knows its program"));
        let status = command.args(["--exact", name]).env("EXITS_INSIDE_A_LIBRARY", "1").status();
        assert_eq!(status.expect("it can be run").code(), Some(42));
    }
}

/// Whether this is one of these processes.
fn is_to_exit() -> bool {
    std::env::var_os("EXITS_INSIDE_A_LIBRARY").is_some()
}

extern "C" fn takes_long() {
    thread::sleep(Duration::from_millis(20));
}

/// Has `inside` done over and over by four threads, and exits while they are at it.
fn exit_while(inside: impl Fn(&Library) + Copy + Send + 'static) -> ! {
    // What was registered before the library was there is called after it has left.
    // SAFETY: a function of the program.
    assert_eq!(unsafe { libc::atexit(takes_long) }, 0);
    let library: &'static Library = Box::leak(Box::new(Library::open(&copies("exits", 1)[0])));
    // So that there is something to be given back.
    (0..20).map(|_| thread::spawn(|| library.work())).for_each(|thread| thread.join().expect("it works"));
    let (sender, begun) = channel();
    for _ in 0..4 {
        let sender = sender.clone();
        thread::spawn(move || {
            loop {
                inside(library);
                let _ = sender.send(());
            }
        });
    }
    (0..8).for_each(|_| begun.recv().expect("they work"));
    std::process::exit(42);
}

#[test]
fn a_program_may_exit_while_its_threads_are_inside_a_library() {
    if is_to_exit() {
        exit_while(Library::work);
    }
    exits("a_program_may_exit_while_its_threads_are_inside_a_library");
}

#[test]
fn a_program_may_exit_while_threads_without_a_block_ask_a_library_for_figures() {
    if is_to_exit() {
        exit_while(|library| assert_ne!(library.live(), usize::MAX));
    }
    exits("a_program_may_exit_while_threads_without_a_block_ask_a_library_for_figures");
}
