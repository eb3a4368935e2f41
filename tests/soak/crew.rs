//! The threads that work, made by plain `pthread_create`: std's threads allocate, and may not be refused.

use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::common::Numbers;
use crate::worker::{self, STOP};

const MOST: usize = 8;

/// What a thread is told, and whether it is done.
struct Place {
    seed: AtomicU64,
    steps: AtomicU64,
    done: AtomicBool,
}

static PLACES: [Place; MOST] =
    [const { Place { seed: AtomicU64::new(0), steps: AtomicU64::new(0), done: AtomicBool::new(false) } }; MOST];

extern "C" fn thread(place: *mut c_void) -> *mut c_void {
    // SAFETY: `hire` passes a place, which lives for ever.
    let place = unsafe { &*place.cast::<Place>() };
    worker::work(place.seed.load(Ordering::Relaxed), place.steps.load(Ordering::Relaxed));
    place.done.store(true, Ordering::Release);
    std::ptr::null_mut()
}

/// Who works now.
pub struct Crew {
    threads: [Option<libc::pthread_t>; MOST],
    numbers: Numbers,
    pub hired: u64,
    /// Threads that could not be had.
    pub refused: u64,
}

impl Crew {
    pub fn new(seed: u64) -> Self {
        Crew { threads: [None; MOST], numbers: Numbers::new(seed), hired: 0, refused: 0 }
    }

    /// Lets those go that are done, and fills their places with new threads of up to so many steps.
    pub fn fill(&mut self, most_steps: usize) {
        for (at, place) in PLACES.iter().enumerate() {
            if self.threads[at].is_some() && place.done.load(Ordering::Acquire) {
                self.join(at);
            }
            if self.threads[at].is_none() {
                self.hire(at, most_steps);
            }
        }
    }

    fn hire(&mut self, at: usize, most_steps: usize) {
        let place = &PLACES[at];
        place.seed.store(self.numbers.next(), Ordering::Relaxed);
        place.steps.store(self.numbers.size(most_steps) as u64, Ordering::Relaxed);
        place.done.store(false, Ordering::Relaxed);
        let mut new = 0;
        let argument = (&raw const *place).cast_mut().cast();
        // SAFETY: the buffer has the type the call fills; the function takes a place.
        if unsafe { libc::pthread_create(&raw mut new, std::ptr::null(), thread, argument) } == 0 {
            self.threads[at] = Some(new);
            self.hired += 1;
        } else {
            self.refused += 1;
        }
    }

    fn join(&mut self, at: usize) {
        if let Some(thread) = self.threads[at].take() {
            // SAFETY: made by `hire`, and joined once.
            unsafe { libc::pthread_join(thread, std::ptr::null_mut()) };
        }
    }

    /// Waits until all are done; stopped before, if it is said so. Frees what they left to each other.
    pub fn rest(&mut self, stop: bool) {
        STOP.store(stop, Ordering::Relaxed);
        (0..MOST).for_each(|at| self.join(at));
        STOP.store(false, Ordering::Relaxed);
        worker::free_handed();
    }
}
