//! A bump arena's figures, which any thread reads while the owner works, without a lock and without waiting.
//!
//! The owner's fast path writes one word, `top`, and nothing else. All else changes in slow operations, and what `top` is
//! to be measured from changes with it. So there are two views of all else, and `sequence` says which of them holds:
//!
//! | `sequence` | readers use | the owner |
//! |---|---|---|
//! | even | `views[0]`, and `top` measured from the end it names | works in its fast path; or writes `views[1]` |
//! | odd | `views[1]`, which names no end: figures that stand still | writes `top`, `low` and `views[0]` |
//!
//! | step of a slow operation | what keeps readers right |
//! |---|---|
//! | `views[1]` becomes the figures of this moment | who still reads it sees an older `sequence` change (release fence of the last step) |
//! | `sequence` becomes odd, release | who sees it sees `views[1]` |
//! | release fence; `top`, `low`, `views[0]` become the new ones | who sees one of them sees that `sequence` has changed |
//! | `sequence` becomes even, release; release fence | who sees it sees all of them |
//!
//! A reader looks at `sequence` before and after, and begins again if it has changed. It never finds the owner in the way:
//! wherever that one stands still, one of the views is whole.
//!
//! Only the owner writes. `low` is the lowest `top` of this chunk at the times when it went up again, for the high-water
//! mark; it is written before `top` goes up (release fence), and read after `top` (acquire fence): the mark may be of a
//! later moment than the rest, and never goes down.

use crate::sync::{AtomicUsize, Ordering, const_unless_loom, fence};

/// What is told of an arena at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Figures {
    /// Bytes handed out, with what alignment left out between them.
    pub(crate) used: usize,
    /// Bytes held to hand out.
    pub(crate) capacity: usize,
    /// The most `used` ever was.
    pub(crate) peak: usize,
    pub(crate) chunks: usize,
    pub(crate) overflows: usize,
    pub(crate) resets: usize,
}

/// The figures but for what is used of the present chunk. Models have those that are told apart by being mixed up: every
/// word more multiplies the orders to try.
struct View {
    /// The address after the chunk's last byte; 0: `used` is all.
    end: AtomicUsize,
    used: AtomicUsize,
    #[cfg(not(homing_loom))]
    capacity: AtomicUsize,
    peak: AtomicUsize,
    #[cfg(not(homing_loom))]
    chunks: AtomicUsize,
    #[cfg(not(homing_loom))]
    overflows: AtomicUsize,
    #[cfg(not(homing_loom))]
    resets: AtomicUsize,
}

impl View {
    const_unless_loom! {
        fn new() -> Self {
            View {
                end: AtomicUsize::new(0),
                used: AtomicUsize::new(0),
                #[cfg(not(homing_loom))]
                capacity: AtomicUsize::new(0),
                peak: AtomicUsize::new(0),
                #[cfg(not(homing_loom))]
                chunks: AtomicUsize::new(0),
                #[cfg(not(homing_loom))]
                overflows: AtomicUsize::new(0),
                #[cfg(not(homing_loom))]
                resets: AtomicUsize::new(0),
            }
        }
    }

    fn store(&self, end: usize, figures: &Figures) {
        self.end.store(end, Ordering::Relaxed);
        self.used.store(figures.used, Ordering::Relaxed);
        self.peak.store(figures.peak, Ordering::Relaxed);
        #[cfg(not(homing_loom))]
        {
            self.capacity.store(figures.capacity, Ordering::Relaxed);
            self.chunks.store(figures.chunks, Ordering::Relaxed);
            self.overflows.store(figures.overflows, Ordering::Relaxed);
            self.resets.store(figures.resets, Ordering::Relaxed);
        }
    }

    fn load(&self) -> Figures {
        let (used, peak) = (self.used.load(Ordering::Relaxed), self.peak.load(Ordering::Relaxed));
        #[cfg_attr(homing_loom, allow(unused_mut))]
        let mut figures = Figures { used, peak, ..Figures::default() };
        #[cfg(not(homing_loom))]
        {
            figures.capacity = self.capacity.load(Ordering::Relaxed);
            figures.chunks = self.chunks.load(Ordering::Relaxed);
            figures.overflows = self.overflows.load(Ordering::Relaxed);
            figures.resets = self.resets.load(Ordering::Relaxed);
        }
        figures
    }
}

/// The figures. See the module's text.
#[repr(C)]
pub(crate) struct Gauge {
    top: AtomicUsize,
    low: AtomicUsize,
    sequence: AtomicUsize,
    views: [View; 2],
}

impl Gauge {
    const_unless_loom! {
        /// Nothing held; `top` as given.
        pub(crate) fn new(top: usize) -> Self {
            Gauge {
                top: AtomicUsize::new(top),
                low: AtomicUsize::new(top),
                sequence: AtomicUsize::new(0),
                views: [View::new(), View::new()],
            }
        }
    }

    /// The first address of what is handed out of the present chunk.
    #[inline(always)]
    pub(crate) fn top(&self) -> usize {
        self.top.load(Ordering::Relaxed)
    }

    /// The owner has handed memory out down to that address.
    #[inline(always)]
    pub(crate) fn take_down_to(&self, start: usize) {
        self.top.store(start, Ordering::Relaxed);
    }

    /// The owner has taken memory back up to that address.
    #[inline(always)]
    pub(crate) fn give_back_to(&self, top: usize) {
        let lowest = self.low.load(Ordering::Relaxed).min(self.top.load(Ordering::Relaxed));
        self.low.store(lowest, Ordering::Relaxed);
        fence(Ordering::Release);
        self.top.store(top, Ordering::Relaxed);
    }

    /// The figures of this moment, for any thread.
    pub(crate) fn read(&self) -> Figures {
        loop {
            let sequence = self.sequence.load(Ordering::Acquire);
            let view = &self.views[sequence % 2];
            let mut figures = view.load();
            let end = view.end.load(Ordering::Relaxed);
            let top = self.top.load(Ordering::Relaxed);
            fence(Ordering::Acquire);
            let low = self.low.load(Ordering::Relaxed).min(top);
            fence(Ordering::Acquire);
            if self.sequence.load(Ordering::Relaxed) != sequence {
                // The owner has got on meanwhile: no waiting, whatever becomes of it.
                continue;
            }
            if end != 0 {
                figures.peak = figures.peak.max(figures.used + (end - low));
                figures.used += end - top;
            }
            return figures;
        }
    }

    /// The owner's slow operations: what is measured from now on, and from where. `figures.used` is what is used of other
    /// chunks than the one that ends at `end`. The high-water mark goes on from what it was.
    pub(crate) fn switch(&self, end: usize, top: usize, figures: Figures) {
        let now = self.read();
        let sequence = self.sequence.load(Ordering::Relaxed);
        self.views[1].store(0, &now);
        self.sequence.store(sequence.wrapping_add(1), Ordering::Release);
        fence(Ordering::Release);
        self.top.store(top, Ordering::Relaxed);
        self.low.store(top, Ordering::Relaxed);
        self.views[0].store(end, &Figures { peak: now.peak, ..figures });
        self.sequence.store(sequence.wrapping_add(2), Ordering::Release);
        fence(Ordering::Release);
    }
}

#[cfg(all(test, homing_loom))]
mod loom_models {
    use super::*;
    use loom::sync::Arc;

    /// Where two chunks end.
    const FIRST: usize = 1000;
    const SECOND: usize = 5000;

    fn begun() -> Arc<Gauge> {
        let gauge = Arc::new(Gauge::new(64));
        gauge.switch(FIRST, FIRST, Figures::default());
        gauge
    }

    const fn at(used: usize, peak: usize) -> Figures {
        Figures { used, peak, capacity: 0, chunks: 0, overflows: 0, resets: 0 }
    }

    /// Reads beside the owner, so many times: what is read was so at some moment, and no moment is before the last.
    ///
    /// The owner works first. Since a reader only reads, whatever it can see in between it can see afterwards too, as loom
    /// gives it any value that nothing forbids. The other way round, loom would not try all: of what was done to a word it
    /// has only the last put off, and the owner reads words before it writes them.
    fn beside(readings: usize, work: fn(&Gauge), moments: &'static [Figures]) {
        let mut models = loom::model::Builder::new();
        models.preemption_bound = Some(1);
        models.check(move || {
            let gauge = begun();
            let other = gauge.clone();
            let reader = loom::thread::spawn(move || {
                let mut from = 0;
                for _ in 0..readings {
                    let figures = other.read();
                    let at = moments[from..].iter().position(|moment| *moment == figures);
                    from += at.unwrap_or_else(|| panic!("{figures:?} never was, or was before"));
                }
            });
            work(&gauge);
            reader.join().unwrap();
            assert_eq!(gauge.read(), moments[moments.len() - 1]);
        });
    }

    #[test]
    fn a_reader_beside_growth_never_measures_the_top_of_one_chunk_from_the_end_of_another() {
        fn work(gauge: &Gauge) {
            gauge.take_down_to(FIRST - 60);
            gauge.switch(SECOND, SECOND, at(60, 0));
            gauge.take_down_to(SECOND - 150);
        }
        beside(1, work, const { &[at(0, 0), at(60, 60), at(210, 210)] });
    }

    #[test]
    fn a_reader_that_is_overtaken_by_two_slow_operations_does_not_mix_their_figures() {
        fn work(gauge: &Gauge) {
            gauge.switch(SECOND, SECOND - 150, at(60, 0));
            gauge.switch(FIRST, FIRST - 5, at(0, 0));
        }
        beside(1, work, const { &[at(0, 0), at(210, 210), at(5, 210)] });
    }

    #[test]
    fn the_high_water_mark_does_not_go_down_while_memory_comes_back() {
        fn work(gauge: &Gauge) {
            gauge.take_down_to(FIRST - 60);
            gauge.give_back_to(FIRST - 10);
            gauge.take_down_to(FIRST - 30);
        }
        // The mark is read after the rest, and may be of a moment after it.
        beside(2, work, const { &[at(0, 0), at(0, 60), at(60, 60), at(10, 60), at(30, 60)] });
    }
}
