//! Regions that went back to the heap lately, so that a block of theirs that is freed once more is told from one that was
//! never here.

/// How many are remembered.
const REMEMBERED: usize = 16;

/// The ranges of the last of them, in no order; a range from 0 to 0 is none.
pub(super) struct Gone {
    ranges: [(usize, usize); REMEMBERED],
    next: usize,
}

impl Gone {
    pub(super) const fn new() -> Self {
        Gone { ranges: [(0, 0); REMEMBERED], next: 0 }
    }

    /// A region went back.
    pub(super) fn remember(&mut self, start: usize, end: usize) {
        self.ranges[self.next % REMEMBERED] = (start, end);
        self.next = (self.next + 1) % REMEMBERED;
    }

    /// A region came to lie there: what was there before is not told any more.
    pub(super) fn forget(&mut self, start: usize, end: usize) {
        self.ranges.iter_mut().filter(|range| range.0 < end && start < range.1).for_each(|range| *range = (0, 0));
    }

    pub(super) fn contains(&self, address: usize) -> bool {
        self.ranges.iter().any(|(start, end)| (*start..*end).contains(&address))
    }
}
