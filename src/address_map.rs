//! The address map: which addresses are the allocator's, and what begins there.
//!
//! Memory comes from the kernel in *ranges*. A range begins in a *granule* of its own (32 MiB, aligned to 32 MiB) and
//! covers as many granules as it has bytes for; nothing is reserved beyond its last byte. The map has one word for each
//! granule of the address space. It tells whether masking a pointer leads to headers, so a pointer of somebody else is
//! recognised before anything is read through it.
//!
//! | the word says | meaning | who changes it |
//! |---|---|---|
//! | `NOTHING` | never ours | whoever claims it, by compare-exchange |
//! | `WITHIN` | claimed; a later granule of a range, or one that is being mapped | its range's holder |
//! | `HEADERS` | a mapping begins here, and its headers can be read | its range's holder |
//! | `SEGMENT` | the same for a segment | its range's holder |
//! | `FAR_ALIGNED` | a block begins here whose header stands in the page before | its range's holder |
//! | `GONE` | was ours, and went back to the kernel | whoever claims it, by compare-exchange |
//!
//! A granule is claimed before memory is mapped there, so no two ranges share one. There is no lock: the kernel hands an
//! address out once, and the map follows.
//!
//! The other bits of the word name the part the range belongs to: a node, the memory spread over all nodes, or none.

use core::ptr::NonNull;

use crate::arith::{align_down, sum};
use crate::os;
use crate::sync::{AtomicU16, AtomicUsize, Ordering};
use crate::topology::{self, INDICES, NodeIndex};

/// Bytes in a granule: the size and the alignment of a segment. Fewer where addresses are.
pub(crate) const GRANULE: usize = if usize::BITS > 32 { 32 << 20 } else { 4 << 20 };

/// Bits of an address that user space can have: Linux hands out no more without being asked for it (x86-64: 47; Linux,
/// Documentation/arch/x86/x86_64/mm.rst; AArch64: 48).
const ADDRESS_BITS: u32 = match (usize::BITS, cfg!(target_arch = "x86_64")) {
    (..=32, _) => usize::BITS,
    (_, true) => 47,
    (_, false) => 48,
};
/// Granules in the address space, but for the last one: that is the kernel's or the stack's, and a number that is no power of
/// two is one instruction to compare with.
const GRANULES: usize = (1 << (ADDRESS_BITS - GRANULE.ilog2())) - 1;

const NOTHING: u16 = 0;
/// The lowest bit: the fast path of `free` looks at that only.
const HEADERS: u16 = 1;
const WITHIN: u16 = 2;
const FAR_ALIGNED: u16 = 4;
const GONE: u16 = 8;
const KINDS: u16 = HEADERS | WITHIN | FAR_ALIGNED | GONE;
/// More than the kind.
const SEGMENT: u16 = HEADERS | 16;
/// Above these, the word names the part.
const KIND_BITS: u32 = 5;

/// See the module's text. On pages of its own, hardly any of which is ever touched.
#[repr(align(4096))]
struct Map([AtomicU16; GRANULES]);

static MAP: Map = Map([const { AtomicU16::new(NOTHING) }; GRANULES]);

impl core::ops::Deref for Map {
    type Target = [AtomicU16; GRANULES];

    #[inline(always)]
    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

/// Keeps the map out of core dumps, which some programs write with all pages that were never touched.
pub(crate) fn leave_out_of_dumps() {
    // SAFETY: the pages are the map's alone.
    unsafe { os::leave_out_of_dumps(NonNull::from(&MAP).cast(), size_of::<Map>()) };
}

/// What binds a range's pages to nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// They are that node's, or spread over all nodes where the index is the one behind the last node's.
    Node(NodeIndex),
    /// Nothing: they lie where they are first touched. They are of the pool of that index all the same.
    FirstTouch(NodeIndex),
}

impl Part {
    /// The part's number, below [`PARTS`].
    fn number(self) -> usize {
        match self {
            Part::Node(node) => node.get(),
            Part::FirstTouch(node) => INDICES + node.get(),
        }
    }

    fn word(self, kind: u16) -> u16 {
        (self.number() as u16) << KIND_BITS | kind
    }
}

const PARTS: usize = 2 * INDICES;
const _: () = assert!(PARTS <= 1 << (u16::BITS - KIND_BITS));

/// Where a part's ranges lie. Each part has addresses of its own, far from those that the kernel chooses by itself, so that
/// ranges of one part are neighbours: the kernel joins them into few mappings.
struct Area {
    /// The granule that the next range is tried below; 0 before the first.
    next: AtomicUsize,
    /// The lowest granule that ever was part of a range, as its distance from the last granule of all; and the one behind
    /// the highest.
    lowest_from_end: AtomicUsize,
    behind_highest: AtomicUsize,
}

static AREAS: [Area; PARTS] = [const {
    Area { next: AtomicUsize::new(0), lowest_from_end: AtomicUsize::new(0), behind_highest: AtomicUsize::new(0) }
}; PARTS];

/// What stands in the map for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Not the allocator's.
    Foreign,
    /// In a granule that a segment or a mapping begins in: masking leads to headers.
    Headers,
    /// In a later granule of a range.
    Within,
    /// In a granule that begins with a block whose header stands in the page before.
    FarAligned,
    /// It was the allocator's.
    Gone,
}

/// Whether masking the address leads to headers of the allocator's. Relaxed: whoever has a live block there was handed it
/// after the word was written.
#[inline(always)]
pub(crate) fn has_headers(address: usize) -> bool {
    has_aligned_headers(address, 0)
}

/// The same; false, too, for an address that is not aligned to 2 to the power of `log_align`. For one instruction more: what is
/// beyond the map and what is not aligned are the same to it.
#[inline(always)]
pub(crate) fn has_aligned_headers(address: usize, log_align: u32) -> bool {
    match MAP.get(address.rotate_right(log_align) >> (GRANULE.ilog2() - log_align)) {
        Some(word) => word.load(Ordering::Relaxed) & HEADERS != 0,
        None => false,
    }
}

/// Whether a segment lies there. It stays while its pool is held.
pub(crate) fn is_segment(address: usize) -> bool {
    word_of(address) & SEGMENT == SEGMENT
}

fn word_of(address: usize) -> u16 {
    MAP.get(address / GRANULE).map_or(NOTHING, |word| word.load(Ordering::Acquire))
}

/// What the map says of an address.
pub(crate) fn kind(address: usize) -> Kind {
    match word_of(address) & KINDS {
        NOTHING => Kind::Foreign,
        HEADERS => Kind::Headers,
        FAR_ALIGNED => Kind::FarAligned,
        GONE => Kind::Gone,
        _ => Kind::Within,
    }
}

/// The node that an address is bound to, or was when it was the allocator's; also the index that stands for all nodes.
/// Nothing is read but the map.
#[inline]
pub(crate) fn node_of(address: usize) -> Option<NodeIndex> {
    let is_bound = |_: &NodeIndex| usize::from(word_of(address) >> KIND_BITS) < INDICES;
    pool_of(address).filter(is_bound)
}

/// The pool that an address is counted in, or was, bound or not.
pub(crate) fn pool_of(address: usize) -> Option<NodeIndex> {
    let word = word_of(address);
    (word != NOTHING).then(|| NodeIndex::new(usize::from(word >> KIND_BITS) % INDICES))
}

/// The start of the granule that an address lies in.
#[inline(always)]
pub(crate) const fn granule_start(address: usize) -> usize {
    align_down(address, GRANULE)
}

/// The first granule's start of the range that an address lies in; `None` where it is in none.
pub(crate) fn range_around(address: usize) -> Option<usize> {
    let mut start = granule_start(address);
    loop {
        match kind(start) {
            Kind::Headers | Kind::FarAligned => return Some(start),
            Kind::Within => start = start.checked_sub(GRANULE)?,
            Kind::Foreign | Kind::Gone => return None,
        }
    }
}

/// The first granule of the part that is in use now, from that number on: its number and its address. Others may come and
/// go meanwhile.
pub(crate) fn used_granule(part: Part, from: usize) -> Option<(usize, usize)> {
    let area = &AREAS[part.number()];
    let lowest = (GRANULES - 1).saturating_sub(area.lowest_from_end.load(Ordering::Relaxed));
    let range = from.max(lowest)..area.behind_highest.load(Ordering::Relaxed).min(GRANULES);
    let words = MAP.get(range.clone())?;
    let is_used = |word: &AtomicU16| {
        let word = word.load(Ordering::Relaxed);
        word != part.word(GONE) && word != NOTHING && word >> KIND_BITS == part.word(NOTHING) >> KIND_BITS
    };
    let number = range.start + words.iter().position(is_used)?;
    Some((number, number * GRANULE))
}

/// For audits: how many granules are in use now.
pub(crate) fn used_granules() -> usize {
    let is_used = |word: &&AtomicU16| !matches!(word.load(Ordering::Relaxed) & KINDS, NOTHING | GONE);
    used_words().iter().filter(is_used).count()
}

/// Calls `visit` with the start of every granule that a segment or a mapping begins in. Others may come and go meanwhile.
pub(crate) fn each_with_headers(mut visit: impl FnMut(usize)) {
    let words = used_words();
    // SAFETY: both lie in the map.
    let first = unsafe { words.as_ptr().offset_from(MAP.as_ptr()) } as usize;
    for (index, word) in words.iter().enumerate() {
        if word.load(Ordering::Acquire) & HEADERS != 0 {
            visit((first + index) * GRANULE);
        }
    }
}

/// The part of the map beyond which nothing was ever in use.
fn used_words() -> &'static [AtomicU16] {
    let lowest_from_end = AREAS.iter().map(|area| area.lowest_from_end.load(Ordering::Relaxed)).max().unwrap_or(0);
    let behind = AREAS.iter().map(|area| area.behind_highest.load(Ordering::Relaxed)).max().unwrap_or(0);
    MAP.get((GRANULES - 1).saturating_sub(lowest_from_end)..behind.min(GRANULES)).unwrap_or(&[])
}

/// A range of addresses that memory is mapped at.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    pub(crate) part: Part,
    /// Its first byte.
    pub(crate) start: NonNull<u8>,
    /// Bytes, whole pages.
    pub(crate) size: usize,
    /// How many of them lie before the first granule that is claimed for it: 0, or a page before a far-aligned block.
    pub(crate) front: usize,
}

impl Range {
    /// The first granule that is claimed for it.
    fn first(&self) -> usize {
        (self.start.addr().get() + self.front) / GRANULE
    }

    /// How many granules are claimed for it.
    fn granules(&self) -> usize {
        self.granules_if(self.size)
    }

    /// How many would be, if it had so many bytes.
    fn granules_if(&self, size: usize) -> usize {
        ((self.start.addr().get() + self.front) % GRANULE + size - self.front).div_ceil(GRANULE)
    }

    /// The words of its granules, if the map reaches so far.
    fn words(&self) -> &'static [AtomicU16] {
        words(self.first(), self.granules())
    }

    /// Claims its granules; false, and none is claimed, where one of them is taken.
    fn claim(&self) -> bool {
        claim(self.part, self.first(), self.granules())
    }

    /// Tells that a mapping begins with it, or a segment, and that its headers can be read.
    pub(crate) fn show_headers(&self, is_segment: bool) {
        self.show(if is_segment { SEGMENT } else { HEADERS });
    }

    /// Tells that a block begins behind its front, whose header can be read.
    pub(crate) fn show_far_aligned(&self) {
        self.show(FAR_ALIGNED);
    }

    fn show(&self, kind: u16) {
        if let Some(word) = self.words().first() {
            word.store(self.part.word(kind), Ordering::Release);
        }
    }

    /// Makes it longer, up to so many bytes, without moving it; what is added reads as zero. False, and nothing has changed,
    /// where the addresses behind it are taken.
    ///
    /// # Safety
    /// The range is the caller's.
    pub(crate) unsafe fn extend(&self, size: usize) -> bool {
        let (before, after) = (self.granules(), self.granules_if(size));
        let added = self.first() + before;
        if !claim(self.part, added, after - before) {
            return false;
        }
        // SAFETY: the caller's promise.
        let extended = unsafe { os::grow(self.start, self.size, size) };
        if !extended {
            unclaim(self.part, added, after - before);
        }
        extended
    }

    /// Gives its end back, down to so many bytes, whole pages. False, and nothing has changed, where the kernel refuses.
    ///
    /// # Safety
    /// The range is the caller's, and nobody uses its end.
    pub(crate) unsafe fn shorten(&self, size: usize) -> bool {
        let (before, after) = (self.granules(), self.granules_if(size));
        // SAFETY: the caller's promise.
        let shortened = unsafe { os::shorten(self.start, self.size, size) };
        if shortened {
            unclaim(self.part, self.first() + after, before - after);
        }
        shortened
    }

    /// Gives it back to the kernel.
    ///
    /// # Safety
    /// The range is the caller's, and nobody uses it any more.
    pub(crate) unsafe fn unmap(&self) {
        // SAFETY: the caller's promise; none of it is lost.
        unsafe { self.unmap_around(self.size..self.size) };
    }

    /// The same, but for a part of it that is not the caller's any more.
    ///
    /// # Safety
    /// As for [`unmap`](Self::unmap). `lost` lies within the range.
    pub(crate) unsafe fn unmap_around(&self, lost: core::ops::Range<usize>) {
        // First, since others may be given these addresses from then on: nobody looks for headers there any more.
        for word in self.words() {
            word.store(self.part.word(WITHIN), Ordering::Release);
        }
        for piece in [0..lost.start, lost.end..self.size].into_iter().filter(|piece| !piece.is_empty()) {
            // SAFETY: the caller's promise.
            unsafe { os::unmap(self.start.add(piece.start), piece.len()) };
        }
        unclaim(self.part, self.first(), self.granules());
    }
}

fn words(first: usize, count: usize) -> &'static [AtomicU16] {
    sum([first, count]).and_then(|end| MAP.get(first..end)).unwrap_or(&[])
}

/// Claims `count` granules from that number on; false, and none is claimed, where one of them is taken.
fn claim(part: Part, first: usize, count: usize) -> bool {
    let words = words(first, count);
    let mut is_whole = words.len() == count;
    for (claimed, word) in words.iter().enumerate() {
        let old = word.load(Ordering::Relaxed);
        let is_free = old == NOTHING || old & GONE != 0;
        is_whole =
            is_free && word.compare_exchange(old, part.word(WITHIN), Ordering::Acquire, Ordering::Relaxed).is_ok();
        if !is_whole {
            unclaim(part, first, claimed);
            break;
        }
    }
    if is_whole && count > 0 {
        let area = &AREAS[part.number()];
        area.lowest_from_end.fetch_max(GRANULES - 1 - first, Ordering::Relaxed);
        area.behind_highest.fetch_max(first + count, Ordering::Relaxed);
    }
    is_whole
}

/// Gives claimed granules up: what was there is gone.
fn unclaim(part: Part, first: usize, count: usize) {
    for word in words(first, count) {
        word.store(part.word(GONE), Ordering::Release);
    }
}

/// Granules from the top of the address space that the areas begin below, and that they have together: one in so many of
/// those below the stack. The kernel places what a program maps downwards from the stack.
const LEFT_TO_OTHERS: usize = 64;
const OF_ALL_AREAS: usize = 4;

/// The granule that the stack lies in of the thread that came first: near the top of the address space. 0: none came yet.
static TOP: AtomicUsize = AtomicUsize::new(0);

/// The granule below which a part's area begins, and how many granules it has.
fn area_of(part: Part) -> (usize, usize) {
    let mut top = TOP.load(Ordering::Relaxed);
    if top == 0 {
        let here = 0_u8;
        top = (&raw const here).addr() / GRANULE;
        TOP.store(top, Ordering::Relaxed);
    }
    let nodes = topology::machine().count();
    // Where this copy of the allocator lies decides where exactly: a process may have many.
    let spread = (&raw const MAP).addr() / 4096 * 127 % (top / LEFT_TO_OTHERS).max(1);
    let first = top - top / LEFT_TO_OTHERS - spread;
    // The spread memory has one too.
    let pools = nodes + 1;
    let each = top / OF_ALL_AREAS / (2 * pools);
    let place = part.number() / INDICES * pools + part.number() % INDICES;
    (first.saturating_sub(place * each), each)
}

/// How many places are tried before the kernel is left to choose.
const TRIES: usize = 16;
/// Granules that are left out where others have mapped something in the area.
const JUMP: usize = 1 << 10;

/// Maps a range of `size` bytes that begins `lead` bytes behind a granule's start: readable, writable, all zero, not yet
/// bound to any node. `None` where the kernel refuses. Takes no lock.
///
/// The map does not tell what it is until [`Range::show_headers`].
pub(crate) fn map(part: Part, lead: usize, size: usize) -> Option<Range> {
    let find = Find { part, lead, front: 0, size, align: GRANULE };
    find.in_area().or_else(|| find.anywhere(TRIES))
}

/// Likewise a range that begins `front` bytes before a multiple of `align`, itself one of a granule.
pub(crate) fn map_far_aligned(part: Part, front: usize, size: usize, align: usize) -> Option<Range> {
    let find = Find { part, lead: 0, front, size, align };
    find.in_area().or_else(|| find.anywhere(TRIES))
}

/// A search for addresses.
struct Find {
    part: Part,
    /// Bytes between a granule's start and the range's, if it begins behind one.
    lead: usize,
    front: usize,
    size: usize,
    align: usize,
}

impl Find {
    fn range(&self, start: NonNull<u8>) -> Range {
        Range { part: self.part, start, size: self.size, front: self.front }
    }

    /// Maps it in the part's area.
    fn in_area(&self) -> Option<Range> {
        let count = (sum([self.lead, self.size])? - self.front).div_ceil(GRANULE);
        let area = &AREAS[self.part.number()];
        for _ in 0..TRIES {
            let place = self.next_place(area, count)?;
            if !claim(self.part, place, count) {
                continue;
            }
            let wanted = place * GRANULE + self.lead - self.front;
            match os::map_near(wanted, self.size) {
                Some(start) if start.addr().get() == wanted => return Some(self.range(start)),
                elsewhere => {
                    unclaim(self.part, place, count);
                    // SAFETY: just mapped, and nobody's. (Where nothing was mapped the kernel has no memory to give.)
                    unsafe { os::unmap(elsewhere?, self.size) };
                    area.next.fetch_min(place.saturating_sub(JUMP), Ordering::Relaxed);
                }
            }
        }
        None
    }

    /// Maps it where the kernel likes.
    fn anywhere(&self, tries: usize) -> Option<Range> {
        let lead = if self.front > 0 { self.align - self.front } else { self.lead };
        let range = self.range(os::map_aligned(lead, self.size, self.align)?);
        if range.claim() {
            return Some(range);
        }
        // Beyond the addresses that the map knows, or where another range's granule has room at its front: kept until
        // another place is found, which cannot be the same then.
        let other = if tries > 0 { self.anywhere(tries - 1) } else { None };
        // SAFETY: just mapped, and nobody's.
        unsafe { os::unmap(range.start, range.size) };
        other
    }

    /// A place in the area where `count` granules look free: below the last one that was given, and from the top again behind
    /// the lowest. `None` where there is none.
    fn next_place(&self, area: &Area, count: usize) -> Option<usize> {
        let (first, length) = area_of(self.part);
        if !os::MAPS_WHERE_ASKED || count > length {
            return None;
        }
        let lowest = first.saturating_sub(length).max(1);
        let mut at = match area.next.load(Ordering::Relaxed) {
            0 => first,
            next => next.min(first),
        };
        let (mut free, mut has_turned) = (0, false);
        while free < count || !at.is_multiple_of(self.align / GRANULE) {
            if at <= lowest {
                if has_turned {
                    return None;
                }
                (at, free, has_turned) = (first, 0, true);
            }
            at -= 1;
            let word = MAP.get(at)?.load(Ordering::Relaxed);
            free = if word == NOTHING || word & GONE != 0 { free + 1 } else { 0 };
        }
        area.next.store(at, Ordering::Relaxed);
        Some(at)
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const PART: Part = Part::FirstTouch(NodeIndex::FIRST);

    fn kinds(range: &Range) -> Vec<Kind> {
        (0..range.granules()).map(|index| kind((range.first() + index) * GRANULE)).collect()
    }

    #[test]
    fn a_range_is_told_from_its_first_byte_to_its_last_and_until_it_goes_back() {
        for (lead, size) in [(0, 1 << 20), (0, GRANULE), (64 << 10, 4096), (64 << 10, 3 * GRANULE)] {
            let range = map(PART, lead, size).unwrap();
            let start = range.start.addr().get();
            assert_eq!(start % GRANULE, lead);
            assert!(!has_headers(start), "nobody is told before the headers are there");
            range.show_headers(false);
            assert!(has_headers(start) && has_headers(start + 4095));
            assert!(kinds(&range)[1..].iter().all(|kind| *kind == Kind::Within));
            assert_eq!(range_around(start + size - 1), Some(start - lead));
            // SAFETY: mapped above, and nobody's.
            unsafe { range.unmap() };
            assert!(kinds(&range).iter().all(|kind| *kind == Kind::Gone));
            assert_eq!(range_around(start), None);
        }
    }

    #[test]
    fn no_address_is_too_high_or_too_low_to_be_asked_for() {
        for address in [0, 1, GRANULE, 1 << (ADDRESS_BITS - 1), usize::MAX >> 1, usize::MAX / 2 + 1, usize::MAX] {
            assert!(!has_headers(address), "{address:#x}");
            assert_eq!(kind(address), Kind::Foreign, "{address:#x}");
            assert_eq!(node_of(address), None, "{address:#x}");
            assert_eq!(range_around(address), None, "{address:#x}");
        }
    }

    #[test]
    fn a_far_aligned_range_has_its_front_in_a_granule_that_is_not_its_own() {
        let page = os::page_size();
        for align in [GRANULE, 2 * GRANULE, 8 * GRANULE] {
            let ranges: Vec<_> =
                (0..3).map(|_| map_far_aligned(PART, page, page + GRANULE + 1, align).unwrap()).collect();
            for range in &ranges {
                range.show_far_aligned();
                let block = range.start.addr().get() + page;
                assert!(block.is_multiple_of(align));
                assert_eq!(kinds(range), [Kind::FarAligned, Kind::Within]);
                assert_eq!(range_around(block + GRANULE), Some(block));
            }
            // SAFETY: mapped above, and nobody's.
            ranges.iter().for_each(|range| unsafe { range.unmap() });
        }
    }

    #[test]
    fn where_something_else_lies_a_range_is_mapped_elsewhere() {
        let before = map(PART, 0, GRANULE).unwrap();
        let below = before.start.addr().get() - GRANULE;
        let taken = os::map_near(below, 4096).unwrap();
        let ranges: Vec<_> = (0..40).map(|_| map(PART, 0, GRANULE).unwrap()).collect();
        assert!(ranges.iter().all(|range| range.start.addr().get() != below));
        ranges.iter().chain([&before]).for_each(|range| {
            // SAFETY: mapped above, and nobody's.
            unsafe { range.unmap() };
        });
        // SAFETY: likewise.
        unsafe { os::unmap(taken, 4096) };
    }

    #[test]
    fn threads_that_map_at_once_share_no_granule() {
        // They stay mapped, so that each has granules of its own.
        let map_some = || (0..200).map(|_| map(PART, 64 << 10, 4096).unwrap().first()).collect::<Vec<_>>();
        let firsts: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(map_some)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(firsts.iter().collect::<std::collections::HashSet<_>>().len(), firsts.len());
    }
}
