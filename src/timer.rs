//! Timers of those who come by often, and seldom have something to do.
//!
//! The clock itself costs a dozen lines of memory that all threads share and that are far on most nodes (the C library's,
//! the vDSO's). So a counter of the processor tells whether it can be time at all; how fast that counts is learned from
//! the clock. A counter that stands still, or jumps (a thread that moves to a processor whose counter began at another
//! time, a virtual machine that moves), puts off what is due by [`MOST_LOOKS`] calls at most.

use core::cell::Cell;

use crate::os;

/// Calls between two readings of the clock at most.
const MOST_LOOKS: u32 = 64;

/// A timer of somebody's own; threads do not share it. All zero: a new one, which says at once that it is time.
pub(crate) struct Timer {
    /// Calls since the last reading.
    looks: Cell<u32>,
    /// The last reading of the clock (milliseconds), and the processor's counter then.
    read_at: Cell<u64>,
    ticks_then: Cell<u64>,
    /// How far the counter is to go until the clock is read again.
    ticks_to_wait: Cell<u64>,
    /// When it was last time.
    last_time: Cell<u64>,
    /// Whether the counter can be read, as it was found when the clock was read: all threads share what tells.
    has_counter: Cell<bool>,
}

impl Timer {
    /// A new one.
    pub(crate) const fn new() -> Self {
        Timer {
            looks: Cell::new(0),
            read_at: Cell::new(0),
            ticks_then: Cell::new(0),
            ticks_to_wait: Cell::new(0),
            last_time: Cell::new(0),
            has_counter: Cell::new(false),
        }
    }

    /// The clock's milliseconds, if so many have gone by since it was last time. The period is the same in each call.
    pub(crate) fn is_time(&self, period: u64) -> Option<u64> {
        let ticks = if self.has_counter.get() { os::processor_ticks() } else { None };
        self.is_time_by(period, ticks, || {
            self.has_counter.set(os::reads_processor_ticks());
            os::now_ms()
        })
    }

    fn is_time_by(&self, period: u64, ticks: Option<u64>, clock: impl FnOnce() -> u64) -> Option<u64> {
        if let Some(ticks) = ticks
            && ticks.wrapping_sub(self.ticks_then.get()) < self.ticks_to_wait.get()
            && self.looks.get() < MOST_LOOKS
        {
            self.looks.set(self.looks.get() + 1);
            return None;
        }
        self.looks.set(0);
        let now = clock();
        let is_time = now.wrapping_sub(self.last_time.get()) >= period;
        if is_time {
            self.last_time.set(now);
        }
        // Where no time has gone by, nothing is learned, and what was learned before holds on: the clock goes on in steps
        // of some milliseconds, and what is measured from within one to the next is far too little.
        let gone = now.wrapping_sub(self.read_at.get());
        if let Some(ticks) = ticks
            && gone != 0
        {
            let ticks_gone = ticks.wrapping_sub(self.ticks_then.replace(ticks));
            let left = period.saturating_sub(now.wrapping_sub(self.last_time.get()));
            // The first reading tells nothing: the counter may have begun long before the clock.
            let in_one = if self.read_at.replace(now) == 0 { 0 } else { ticks_gone / gone };
            self.ticks_to_wait.set(in_one.saturating_mul(left));
        }
        is_time.then_some(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Looks each millisecond, with a counter of 1000 a millisecond that `ticks` may bend; says when it was time and how
    /// often the clock was read.
    fn run(milliseconds: u64, mut ticks: impl FnMut(u64) -> Option<u64>) -> (Vec<u64>, u32) {
        let timer = Timer::new();
        let (mut times, mut readings) = (Vec::new(), 0);
        for now in 1_000_000..1_000_000 + milliseconds {
            let clock = || {
                readings += 1;
                now
            };
            times.extend(timer.is_time_by(500, ticks(now), clock).map(|now| now - 1_000_000));
        }
        (times, readings)
    }

    #[test]
    fn what_is_due_is_not_forgotten_and_the_clock_is_read_seldom() {
        let (times, readings) = run(5000, |now| Some(now * 1000));
        assert_eq!(times.len(), 10, "{times:?}");
        assert!(times.windows(2).all(|pair| (500..510).contains(&(pair[1] - pair[0]))), "{times:?}");
        // At most 64 looks without one.
        assert!(readings < 100, "{readings}");
    }

    #[test]
    fn the_clock_is_read_seldom_by_those_who_look_often_between_two_of_its_steps() {
        for step in [1_u64, 4, 10] {
            let timer = Timer::new();
            let (mut times, mut readings, mut looks) = (Vec::new(), 0, 0);
            for microseconds in (1_000_000_000..1_002_000_000_u64).step_by(5) {
                looks += 1;
                let clock = || {
                    readings += 1;
                    microseconds / 1000 / step * step
                };
                times.extend(timer.is_time_by(500, Some(microseconds * 3000), clock));
            }
            assert_eq!(times.len(), 4, "{times:?}");
            assert!(readings < looks / 40, "steps of {step} ms: {readings} readings in {looks} looks");
        }
    }

    #[test]
    fn a_counter_that_began_long_before_the_clock_puts_nothing_off() {
        let timer = Timer::new();
        let looks = (10_000..30_000_u64).step_by(100);
        let times: Vec<_> =
            looks.filter_map(|now| timer.is_time_by(500, Some((1 << 50) + now * 1000), || now)).collect();
        assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 600), "{times:?}");
    }

    #[test]
    fn a_counter_that_stands_still_or_is_missing_puts_nothing_off_for_long() {
        for counter in [Some(0), Some(7_000_000), None] {
            let (times, _) = run(5000, |_| counter);
            assert!(times.len() >= 9, "{counter:?}: {times:?}");
        }
    }

    #[test]
    fn a_counter_that_jumps_puts_nothing_off_for_long() {
        for jump in [u64::MAX / 2, 1 << 40, 12_345] {
            let (times, _) = run(5000, |now| {
                let bent = if now % 700 < 300 { now * 1000 } else { (now * 1000).wrapping_add(jump) };
                Some(bent)
            });
            assert!(times.len() >= 8, "{jump}: {times:?}");
            assert!(times.windows(2).all(|pair| pair[1] - pair[0] <= 500 + 65), "{jump}: {times:?}");
        }
    }
}
