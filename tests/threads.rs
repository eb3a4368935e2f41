//! The lives of threads: their ends, their destructors, and that none leaves anything behind.

mod common;

use std::cell::RefCell;
use std::sync::Mutex;
use std::thread;

use common::alone;
use homing::Homing;

#[global_allocator]
static GLOBAL: Homing = Homing::new();

/// What may be in use more after thousands of threads than after some: slabs that one of them happened to need.
const SLACK: usize = 8 << 20;

fn short_life(nth: usize) -> Vec<String> {
    let texts: Vec<String> = (0..50).map(|length| "y".repeat(length * (1 + nth % 7))).collect();
    let large = [vec![1_u8; 70_000 + nth], vec![2_u8; 3 << 20], vec![3_u8; 5000]];
    assert!(large.iter().zip(1..).all(|(bytes, value)| bytes[bytes.len() - 1] == value));
    texts
}

#[test]
fn thousands_of_short_threads_leave_nothing_behind() {
    let _alone = alone();
    let live = |from, to| {
        for nth in (from..to).step_by(4) {
            let threads: Vec<_> = (nth..nth + 4).map(|nth| thread::spawn(move || short_life(nth))).collect();
            for thread in threads {
                // What the thread returns is freed here.
                let texts = thread.join().expect("it does not panic");
                assert_eq!(texts.len(), 50);
            }
        }
    };
    live(0, 200);
    let before = homing::stats();
    live(200, 4000);
    let after = homing::stats();
    assert!(after.used <= before.used + SLACK, "{} bytes in use before, {} after", before.used, after.used);
    assert!(after.arenas <= before.arenas + 8, "{} arenas before, {} after", before.arenas, after.arenas);
}

#[test]
fn a_thread_that_cleans_up_ten_thousand_times_does_not_grow() {
    let _alone = alone();
    let go = |times| {
        for nth in 0..times {
            let text = "z".repeat(nth % 3000 + 1);
            let kept = vec![nth; 100];
            homing::thread_cleanup();
            assert_eq!(kept[nth % 100], nth);
            drop(text);
            if nth % 2 == 0 {
                homing::thread_cleanup();
                homing::thread_cleanup();
            }
        }
    };
    go(500);
    let before = homing::stats();
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    let resident = common::resident();
    go(10_000);
    let after = homing::stats();
    assert!(after.used <= before.used + SLACK, "{} bytes in use before, {} after", before.used, after.used);
    assert!(after.arenas <= before.arenas + 2, "{} arenas before, {} after", before.arenas, after.arenas);
    #[cfg(all(target_os = "linux", not(feature = "portable")))]
    assert!(common::resident() <= resident + SLACK, "{resident} bytes resident before, {} after", common::resident());
}

/// Owns memory, and frees and allocates more when it is dropped.
struct Talkative {
    own: Vec<String>,
    depth: usize,
}

static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());

thread_local! {
    static FIRST: RefCell<Option<Talkative>> = const { RefCell::new(None) };
    static SECOND: RefCell<Option<Talkative>> = const { RefCell::new(None) };
    static LATE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Talkative {
    fn drop(&mut self) {
        let mut said: Vec<String> = self.own.drain(..).rev().collect();
        said.push(format!("depth {}", self.depth));
        let large = vec![7_u8; 100_000 * (self.depth + 1)];
        // Memory of a local that is initialised while the thread ends.
        let _ = LATE.try_with(|late| late.borrow_mut().push(vec![1; 5000]));
        assert!(large.iter().all(|byte| *byte == 7));
        if let Ok(mut all) = SAID.lock() {
            all.extend(said);
        }
        if self.depth > 0 {
            let below = Talkative { own: vec!["below".to_owned(); 20], depth: self.depth - 1 };
            if SECOND.try_with(|second| second.replace(Some(below))).is_err() {
                // The local is gone: the value was dropped with the closure.
            }
        }
    }
}

#[test]
fn destructors_of_thread_locals_may_allocate_and_free() {
    let _alone = alone();
    let threads: Vec<_> = (0..200)
        .map(|_| {
            thread::spawn(|| {
                let talkative = |depth| Talkative { own: (0..50).map(|n| format!("own {n}")).collect(), depth };
                FIRST.set(Some(talkative(3)));
                SECOND.set(Some(talkative(2)));
            })
        })
        .collect();
    for thread in threads {
        thread.join().expect("it does not panic");
    }
    let said = SAID.lock().expect("nobody panicked with the lock");
    assert!(said.len() >= 200 * 2 * 51);
    assert!(said.iter().all(|text| text.starts_with("own ") || text.starts_with("depth ") || text == "below"));
}

/// Destructors of thread-specific data that come after the allocator's own: the thread has no arena any more.
#[cfg(all(target_os = "linux", not(feature = "portable")))]
mod after_the_end {
    use std::ffi::c_void;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::{Mutex, OnceLock};
    use std::thread;

    static KEY: OnceLock<libc::pthread_key_t> = OnceLock::new();
    static LEFT: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
    static LAST: AtomicUsize = AtomicUsize::new(0);
    /// As often as the C library calls destructors (PTHREAD_DESTRUCTOR_ITERATIONS).
    const ROUNDS: usize = 4;

    extern "C" fn destroy(round: *mut c_void) {
        let round = round as usize;
        for size in [10, 1000, 10_000, 100_000, 3 << 20] {
            let mut blocks: Vec<Vec<u8>> = (0..10).map(|nth| vec![nth; size]).collect();
            blocks.retain(|block| block[0] % 2 == 0 && block[size - 1] == block[0]);
            // One that outlives the thread, and one that another thread may have made.
            let mut left = LEFT.lock().expect("nobody panics with the lock");
            left.extend(blocks.pop());
            if left.len() > 100 {
                let old = left.swap_remove(round * 7);
                assert!(old.iter().all(|byte| *byte == old[0]));
            }
        }
        if round < ROUNDS {
            set(round + 1);
        } else {
            LAST.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn set(round: usize) {
        let key = *KEY.get_or_init(|| {
            let mut key = 0;
            // SAFETY: the buffer has the type that the call fills.
            assert_eq!(unsafe { libc::pthread_key_create(&raw mut key, Some(destroy)) }, 0);
            key
        });
        // SAFETY: the key was made above; the value is only a number.
        assert_eq!(unsafe { libc::pthread_setspecific(key, std::ptr::without_provenance(round)) }, 0);
    }

    #[test]
    fn a_thread_that_is_over_still_allocates_and_frees() {
        let _alone = crate::common::alone();
        // Sees to it that the allocator's own key is the older one.
        drop(std::hint::black_box(vec![1_u8; 1000]));
        for _ in 0..50 {
            let threads: Vec<_> = (0..4)
                .map(|nth| {
                    thread::spawn(move || {
                        set(1);
                        vec![nth; 10_000]
                    })
                })
                .collect();
            for (nth, thread) in threads.into_iter().enumerate() {
                assert_eq!(thread.join().expect("it does not panic"), vec![nth; 10_000]);
            }
        }
        assert_eq!(LAST.load(Ordering::Relaxed), 200, "the last round's destructor ran for every thread");
        let left = LEFT.lock().expect("nobody panics with the lock");
        assert!(left.iter().all(|block| block.iter().all(|byte| *byte == block[0])));
    }
}
