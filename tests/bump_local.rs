//! The bump arena of each thread: held by one at a time, given back by the thread's end or a clean-up.

use std::cell::RefCell;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};

use homing::{Bump, BumpError, BumpStats, Homing, LocalBump};

#[global_allocator]
static GLOBAL: Homing = Homing::new();

fn is_reentered(result: Result<LocalBump, BumpError>) -> bool {
    matches!(result, Err(BumpError::Reentered))
}

/// On a thread of its own, whose arena nobody has used.
fn alone<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| scope.spawn(work).join().unwrap())
}

#[test]
fn a_second_use_while_one_is_held_is_reentry_and_none_after_it() {
    alone(|| {
        let bump = Bump::local().unwrap();
        assert!(is_reentered(Bump::local()), "nested");
        let seen = bump.alloc_with(|| is_reentered(Bump::local()));
        assert!(*seen, "from a callback");
        assert!(BumpError::Reentered.to_string().contains("in use further up"));
        drop(bump);
        assert!(Bump::local().is_ok());
        let other = alone(|| Bump::local().map(|bump| bump.stats().used));
        assert_eq!(other, Ok(0), "another thread has its own");
    });
}

#[test]
fn a_drop_that_asks_for_the_arena_while_it_is_held_is_told() {
    struct Asks<'a>(&'a AtomicU32);
    impl Drop for Asks<'_> {
        fn drop(&mut self) {
            self.0.fetch_add(if is_reentered(Bump::local()) { 1 } else { 100 }, Ordering::Relaxed);
        }
    }
    alone(|| {
        let told = AtomicU32::new(0);
        let bump = Bump::local().unwrap();
        drop(Asks(&told));
        assert_eq!(told.load(Ordering::Relaxed), 1);
        drop(bump);
        drop(Asks(&told));
        assert_eq!(told.load(Ordering::Relaxed), 101);
    });
}

#[cfg(unix)]
#[test]
fn a_signal_handler_on_top_of_the_arena_is_told_and_one_beside_it_is_served() {
    static TOLD: AtomicU32 = AtomicU32::new(0);
    static SERVED: AtomicU32 = AtomicU32::new(0);
    extern "C" fn handler(_: i32) {
        match Bump::local() {
            Err(BumpError::Reentered) => TOLD.fetch_add(1, Ordering::Relaxed),
            Ok(bump) => SERVED.fetch_add(*bump.alloc(1), Ordering::Relaxed),
            Err(_) => 0,
        };
    }
    alone(|| {
        // SAFETY: the handler makes no call that a handler must not make but the ones that are tested.
        unsafe { libc::signal(libc::SIGUSR1, handler as extern "C" fn(i32) as libc::sighandler_t) };
        // SAFETY: the signal has a handler; it is delivered before the call returns.
        let raise = || assert_eq!(unsafe { libc::raise(libc::SIGUSR1) }, 0);
        let bump = Bump::local().unwrap();
        raise();
        assert_eq!((TOLD.load(Ordering::Relaxed), SERVED.load(Ordering::Relaxed)), (1, 0));
        bump.alloc_with(raise);
        assert_eq!((TOLD.load(Ordering::Relaxed), SERVED.load(Ordering::Relaxed)), (2, 0));
        drop(bump);
        raise();
        assert_eq!((TOLD.load(Ordering::Relaxed), SERVED.load(Ordering::Relaxed)), (2, 1));
        homing::thread_cleanup();
        raise();
        assert_eq!(SERVED.load(Ordering::Relaxed), 2, "a first use in a handler");
    });
}

#[test]
fn what_a_thread_keeps_in_its_arena_stays_until_a_reset_or_a_clean_up() {
    alone(|| {
        Bump::local().unwrap().alloc([1_u8; 1000]);
        assert_eq!(Bump::local().unwrap().stats().used, 1000);
        Bump::local().unwrap().reset();
        let stats = Bump::local().unwrap().stats();
        assert_eq!((stats.used, stats.resets), (0, 1));
        homing::thread_cleanup();
        assert_eq!(Bump::local().unwrap().stats(), BumpStats::default());
    });
}

#[test]
fn a_clean_up_while_the_arena_is_held_waits_for_its_holder() {
    alone(|| {
        let bump = Bump::local().unwrap();
        let value = bump.alloc([7_u64; 100]);
        let monitor = bump.monitor();
        homing::thread_cleanup();
        homing::thread_cleanup();
        assert!(is_reentered(Bump::local()));
        assert_eq!(*value, [7; 100]);
        bump.alloc(1);
        assert!(monitor.capacity() > 0);
        drop(bump);
        assert_eq!(monitor.capacity(), 0, "given back when it was dropped");
        assert_eq!(Bump::local().unwrap().stats(), BumpStats::default());
    });
}

#[test]
fn a_thread_s_arena_is_cleaned_and_begun_again_ten_thousand_times_without_growth() {
    let (succeeded, out, err) = run("ten_thousand_rounds", &[]);
    assert!(succeeded && out.contains("1 passed"), "{out}{err}");
}

#[test]
fn a_thread_s_end_gives_its_arena_back_also_where_its_destructors_use_it() {
    struct AtEnd;
    impl Drop for AtEnd {
        fn drop(&mut self) {
            match Bump::local() {
                Ok(bump) => {
                    bump.alloc([2_u8; 3000]);
                    MONITORS.lock().unwrap().push(bump.monitor());
                }
                Err(error) => assert!(HAS_AN_END && error == BumpError::NoThreadData, "{error}"),
            }
        }
    }
    /// Whether thread-local values end in any order, as those of the portable twin do.
    const HAS_AN_END: bool = cfg!(any(feature = "portable", not(target_os = "linux")));
    static MONITORS: std::sync::Mutex<Vec<homing::BumpMonitor>> = std::sync::Mutex::new(Vec::new());
    thread_local!(static AT_END: AtEnd = const { AtEnd });
    for begins_before in [true, false] {
        // Scoped threads count as joined before their destructors have run.
        std::thread::spawn(move || {
            AT_END.with(|_| {});
            if begins_before {
                Bump::local().unwrap().alloc([1_u8; 1000]);
                MONITORS.lock().unwrap().push(Bump::local().unwrap().monitor());
            }
        })
        .join()
        .unwrap();
    }
    let monitors = MONITORS.lock().unwrap();
    assert!(monitors.len() == 3 || HAS_AN_END && !monitors.is_empty(), "{}", monitors.len());
    for monitor in monitors.iter() {
        assert!(monitor.high_water_mark() >= 1000, "it was used");
        assert_eq!(monitor.capacity(), 0, "and given back");
    }
}

#[test]
fn a_guard_that_outlives_its_thread_s_arena_in_a_thread_local_keeps_the_memory() {
    thread_local!(static KEPT: RefCell<Option<LocalBump>> = const { RefCell::new(None) });
    let monitor = std::thread::spawn(|| {
        let bump = Bump::local().unwrap();
        bump.alloc(1_u64);
        let monitor = bump.monitor();
        KEPT.with(|kept| *kept.borrow_mut() = Some(bump));
        monitor
    });
    assert_eq!(monitor.join().unwrap().capacity(), 0);
    let forgotten = std::thread::spawn(|| {
        let bump: &'static LocalBump = Box::leak(Box::new(Bump::local().unwrap()));
        (&*bump.alloc(9_u64), bump.monitor())
    });
    let (value, monitor) = forgotten.join().unwrap();
    assert!(monitor.capacity() > 0, "somebody may still use it");
    assert_eq!(*value, 9);
}

#[test]
fn the_arena_can_be_exchanged_for_another_under_its_guard() {
    alone(|| {
        let mut guard = Bump::local().unwrap();
        guard.alloc([1_u8; 100]);
        let taken = std::mem::take(&mut *guard);
        assert_eq!(guard.stats().used, 0);
        drop(guard);
        homing::thread_cleanup();
        assert_eq!(taken.stats().used, 100);
    });
}

/// What this program prints when it is run for one of its tests.
fn run(test: &str, variables: &[(&str, &str)]) -> (bool, String, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--ignored", "--exact", test, "--nocapture", "--test-threads=1"]);
    let output = command.envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[test]
fn settings_of_the_environment_hold_for_all_threads_at_once() {
    for _ in 0..10 {
        let settings = [("HOMING_BUMP_SIZE", "12K"), ("HOMING_BUMP_ZERO", "0"), ("HOMING_BUMP_OVERFLOW", "error")];
        let (succeeded, out, err) = run("first_uses_at_once", &settings);
        assert!(succeeded && out.contains("all 16 agree on 12288 bytes"), "{out}{err}");
    }
}

#[test]
fn a_bad_setting_is_one_line_and_the_default_holds() {
    for (key, value, wanted) in [
        ("HOMING_BUMP_SIZE", "lots", "a size such as"),
        ("HOMING_BUMP_ZERO", "yes", "0 or 1"),
        ("HOMING_BUMP_OVERFLOW", "spill", "error, abort or grow"),
        ("HOMING_BUMP_LIMIT", "none", "a size such as"),
    ] {
        let (_, _, err) = run("first_uses_at_once", &[(key, value)]);
        let lines: Vec<&str> = err.lines().filter(|line| line.starts_with("homing: ")).collect();
        assert!(lines.len() == 1 && lines[0].contains(key) && lines[0].contains(wanted), "{err}");
    }
}

#[test]
#[ignore = "run by others, in a process of its own, so that nobody else's memory is counted"]
fn ten_thousand_rounds() {
    alone(|| {
        let round = || {
            let mut bump = Bump::local().unwrap();
            assert_eq!(bump.stats(), BumpStats::default(), "begun clean");
            let point = bump.checkpoint();
            bump.alloc([1_u8; 70_000]);
            let _ = bump.monitor();
            bump.restore(point).unwrap();
            bump.alloc(5);
            drop(bump);
            homing::thread_cleanup();
        };
        // So many that the debug mode's quarantine is full.
        (0..500).for_each(|_| round());
        let before = homing::stats();
        (0..10_000).for_each(|_| round());
        let after = homing::stats();
        assert!(after.used < before.used + (1 << 20), "{} {}", before.used, after.used);
        assert!(after.arenas <= before.arenas, "{} {}", before.arenas, after.arenas);
    });
}

#[test]
#[ignore = "run by others, in a process of its own"]
fn first_uses_at_once() {
    const THREADS: usize = 16;
    let barrier = Barrier::new(THREADS);
    let agreed = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                barrier.wait();
                let bump = Bump::local().unwrap();
                bump.alloc([1_u8; 12288]);
                let refused = bump.try_alloc(1_u8);
                if refused == Err(BumpError::Full { asked: 1, align: 1, left: 0, size: 12288 }) {
                    agreed.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    assert_eq!(agreed.load(Ordering::Relaxed), THREADS);
    println!("all {THREADS} agree on 12288 bytes");
}

#[test]
fn an_arena_that_is_to_abort_does_so_with_one_line() {
    let (succeeded, _, err) = run("overflows", &[("HOMING_BUMP_OVERFLOW", "abort"), ("HOMING_BUMP_SIZE", "4K")]);
    assert!(!succeeded);
    let lines: Vec<&str> = err.lines().filter(|line| line.starts_with("homing: ")).collect();
    assert_eq!(lines.len(), 1, "{err}");
    assert!(lines[0].contains("a bump arena of 4096 bytes has 96 left, no room for 5000 aligned to 1"), "{err}");
}

#[test]
fn an_arena_that_is_to_abort_and_was_cut_to_its_limit_says_so() {
    let settings = [("HOMING_BUMP_OVERFLOW", "abort"), ("HOMING_BUMP_LIMIT", "4K")];
    let (succeeded, _, err) = run("overflows", &settings);
    assert!(!succeeded);
    let lines: Vec<&str> = err.lines().filter(|line| line.starts_with("homing: ")).collect();
    assert_eq!(lines.len(), 1, "{err}");
    let wanted = "a bump arena that may hold 4096 bytes holds 4096, no room for 5000 aligned to 1; aborting";
    assert!(lines[0].contains(wanted), "{err}");
}

#[test]
fn a_limit_of_the_environment_holds_each_thread_s_arena_that_grows() {
    let (succeeded, out, err) = run("grows_to_its_limit", &[("HOMING_BUMP_LIMIT", "100000")]);
    assert!(succeeded && out.contains("100000 of Some(100000)"), "{out}{err}");
    let (succeeded, out, err) = run("grows_to_its_limit", &[("HOMING_BUMP_LIMIT", "0")]);
    assert!(succeeded && out.contains("1000000 of None"), "{out}{err}");
}

#[test]
#[ignore = "run by others, in a process of its own"]
fn grows_to_its_limit() {
    let fill = || {
        let bump = Bump::local().unwrap();
        let served = (0..1_000_000).take_while(|_| bump.try_alloc(1_u8).is_ok()).count();
        (served, bump.limit())
    };
    let ((served, limit), other) = (fill(), std::thread::spawn(fill));
    assert_eq!(other.join().unwrap(), (served, limit));
    println!("{served} of {limit:?}");
}

#[test]
fn a_limit_set_on_a_thread_s_arena_goes_with_it() {
    alone(|| {
        Bump::local().unwrap().set_limit(1000);
        assert_eq!(Bump::local().unwrap().limit(), Some(1000));
        homing::thread_cleanup();
        assert_eq!(Bump::local().unwrap().limit(), None);
    });
}

#[test]
#[ignore = "run by others, in a process of its own"]
fn overflows() {
    let bump = Bump::local().unwrap();
    bump.alloc([1_u8; 4000]);
    bump.alloc([1_u8; 5000]);
}
