//! The zone: the address range reserved from the kernel once, cut into a part for each node, one that is spread over all,
//! and one that is bound to none. Whether a pointer is the allocator's is one comparison with it.
//!
//! The zone is handed out in granules of one segment's size. Where the kernel refuses a zone worth having (an address
//! space limit), or a part of it is used up, single ranges are reserved elsewhere: *outliers*, which a bitmap of the
//! whole address space names. The comparison fails for them, and the slow path looks there.

use core::ptr::NonNull;

use crossbeam_utils::CachePadded;

use crate::arith::{align_down, align_up, sum};
use crate::os;
use crate::sync::lock::Lock;
use crate::sync::{AtomicU8, AtomicUsize, Ordering};
use crate::topology::{self, INDICES, NodeIndex};

/// Bytes in a granule: the size and the alignment of a segment.
pub(crate) const GRANULE: usize = 32 << 20;

/// The zone that is asked for first, and the least that is worth having, in bytes. (Valgrind grants some tens of GiB.)
const WANTED: usize = 1 << 44;
const LEAST: usize = 1 << 30;

/// Which part of the zone a range comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The part of a node, bound to it where the machine has more than one.
    Node(NodeIndex),
    /// The part that is spread over all nodes, page by page.
    Spread,
    /// The part bound to no node.
    Unbound,
}

/// The zone, on one line of the cache: every free reads it.
struct Extent {
    /// Start of the zone. While there is none, an address so far from any that a pointer has, null among them, that the
    /// comparison fails whatever the size.
    base: AtomicUsize,
    /// Bytes in the zone.
    size: AtomicUsize,
}
static EXTENT: CachePadded<Extent> =
    CachePadded::new(Extent { base: AtomicUsize::new(1 << 63), size: AtomicUsize::new(0) });
/// Granules in each part.
static PART: AtomicUsize = AtomicUsize::new(0);

/// One bit a granule of the zone: in use. Guarded by `LOCK`, but for the reads in `used_granule`.
static USED: Map = [const { AtomicU8::new(0) }; WANTED / GRANULE / 8];
/// One bit a granule of the zone: a range that was handed out and committed begins with it.
static BEGINS: Map = [const { AtomicU8::new(0) }; WANTED / GRANULE / 8];
/// What is known of each part's granules, by the part's number.
static BOUNDS: [Bounds; PARTS] = [const { Bounds::new() }; PARTS];
/// More than there are parts: one a node, the spread one and the unbound one.
const PARTS: usize = 2 * INDICES;
/// One bit a granule of the zone: it holds old data that the kernel did not take back, and is nobody's, though in use.
/// Guarded by `LOCK`.
static UNCLEAN: Map = [const { AtomicU8::new(0) }; WANTED / GRANULE / 8];
/// How many there are. Written under `LOCK`.
static UNCLEAN_COUNT: AtomicUsize = AtomicUsize::new(0);
static LOCK: Lock = Lock::new();

/// Bounds of a part's granules, counted from the part's first.
struct Bounds {
    /// Every granule below this one is in use. Guarded by `LOCK`.
    first_free: AtomicUsize,
    /// No granule from this one on was ever in use. Written under `LOCK`.
    never_used: AtomicUsize,
}

impl Bounds {
    const fn new() -> Self {
        Bounds { first_free: AtomicUsize::new(0), never_used: AtomicUsize::new(0) }
    }
}

/// The bounds of the part with that number. Masked, as the number of a granule below is, so that the compiler knows that
/// there is such a one.
fn bounds(part: usize) -> &'static Bounds {
    debug_assert!(part < PARTS);
    &BOUNDS[part % PARTS]
}

/// A map of the zone, one bit a granule.
type Map = [AtomicU8; WANTED / GRANULE / 8];

/// The byte of a map that has a granule's bit.
fn byte_of(map: &Map, granule: usize) -> &AtomicU8 {
    debug_assert!(granule / 8 < map.len());
    &map[granule / 8 % map.len()]
}

/// The part that a granule belongs to, and the part's first granule. For where there is a zone.
fn part_of(granule: usize) -> (usize, usize) {
    // Never 0 where there is one.
    let in_part = PART.load(Ordering::Relaxed).max(1);
    let part = granule / in_part;
    (part, part * in_part)
}

/// Addresses that user space can have on the systems this runs on: 48 bits.
const ADDRESSES: usize = 1 << 48;
/// One bit a granule of the address space: the granule begins an outlier whose header is found by masking.
static OUTLIERS: [AtomicU8; ADDRESSES / GRANULE / 8] = [const { AtomicU8::new(0) }; ADDRESSES / GRANULE / 8];
/// The same for outliers aligned so far that their header stands in the granule before the user's pointer.
static FAR_ALIGNED: [AtomicU8; ADDRESSES / GRANULE / 8] = [const { AtomicU8::new(0) }; ADDRESSES / GRANULE / 8];

/// Granules in the longest outlier that there was.
static LONGEST_OUTLIER: AtomicUsize = AtomicUsize::new(0);

/// Whether the address lies in the zone. Null does not.
#[inline(always)]
pub(crate) fn contains(address: usize) -> bool {
    address.wrapping_sub(EXTENT.base.load(Ordering::Relaxed)) < EXTENT.size.load(Ordering::Relaxed)
}

/// What a pointer outside the zone may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlier {
    /// Not the allocator's.
    Foreign,
    /// In the first granule of an outlier: its header is found by masking, as in the zone.
    Masked,
    /// The user's pointer of an outlier whose header stands just before it.
    FarAligned,
}

/// What a pointer outside the zone is.
pub(crate) fn classify_outlier(address: usize) -> Outlier {
    if bit(&OUTLIERS, address) {
        Outlier::Masked
    } else if address.is_multiple_of(GRANULE) && bit(&FAR_ALIGNED, address) {
        Outlier::FarAligned
    } else {
        Outlier::Foreign
    }
}

fn bit(map: &[AtomicU8], address: usize) -> bool {
    let granule = address / GRANULE;
    map.get(granule / 8).is_some_and(|byte| byte.load(Ordering::Acquire) & 1 << (granule % 8) != 0)
}

fn set_bit(map: &[AtomicU8], address: usize) -> bool {
    let granule = address / GRANULE;
    map.get(granule / 8).is_some_and(|byte| {
        byte.fetch_or(1 << (granule % 8), Ordering::Release);
        true
    })
}

fn clear_bit(map: &[AtomicU8], address: usize) {
    let granule = address / GRANULE;
    if let Some(byte) = map.get(granule / 8) {
        byte.fetch_and(!(1 << (granule % 8)), Ordering::Release);
    }
}

/// Reserves the zone for `nodes` nodes, or decides to go without.
///
/// # Safety
/// To be called once, by the thread that sets the process up.
pub(crate) unsafe fn install(nodes: usize) {
    // Where addresses are limited (`ulimit -v`), all of them are the program's: none is set aside.
    let mut size = if os::addresses_are_limited() { 0 } else { WANTED };
    while size >= LEAST {
        if let Some(base) = os::reserve(size, GRANULE) {
            PART.store(size / GRANULE / nodes.saturating_add(2), Ordering::Relaxed);
            EXTENT.size.store(size, Ordering::Relaxed);
            EXTENT.base.store(base.as_ptr().expose_provenance(), Ordering::Release);
            return;
        }
        size /= 2;
    }
}

/// The addresses of a part, as a start and a size; size 0 where there is no zone.
pub(crate) fn part_range(part: Part, nodes: usize) -> (NonNull<u8>, usize) {
    let granules = PART.load(Ordering::Relaxed);
    let start = EXTENT.base.load(Ordering::Relaxed).wrapping_add(part_index(part, nodes) * granules * GRANULE);
    let start = NonNull::new(core::ptr::with_exposed_provenance_mut(start)).unwrap_or(NonNull::dangling());
    (start, granules * GRANULE)
}

/// The node whose part of the zone an address lies in, where there are so many nodes; `None` for all other parts, and outside
/// the zone. Nothing is read but where the zone lies.
#[inline]
pub(crate) fn node_of(address: usize, nodes: usize) -> Option<NodeIndex> {
    let granule = contains(address).then(|| (address - EXTENT.base.load(Ordering::Relaxed)) / GRANULE)?;
    let (part, _) = part_of(granule);
    (part < nodes).then(|| NodeIndex::new(part))
}

fn part_index(part: Part, nodes: usize) -> usize {
    match part {
        Part::Node(node) => node.get(),
        Part::Spread => nodes,
        Part::Unbound => nodes + 1,
    }
}

/// A range of addresses that was handed out, inaccessible until committed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Range {
    /// The start, aligned to a granule.
    pub(crate) start: NonNull<u8>,
    /// Bytes: whole granules in the zone, whole pages outside.
    pub(crate) size: usize,
    /// Whether it lies outside the zone.
    pub(crate) outlier: bool,
}

/// Takes at least `size` bytes from the part; where it has none left, an outlier. `None` where the kernel refuses that
/// too.
pub(crate) fn allocate(part: Part, nodes: usize, size: usize) -> Option<Range> {
    let granules = align_up(size, GRANULE)? / GRANULE;
    if !LOCK.is_mine()
        && let Some(start) = allocate_in_zone(part_index(part, nodes), granules)
    {
        return Some(Range { start, size: granules * GRANULE, outlier: false });
    }
    allocate_outlier(size)
}

/// Takes at least `size` bytes outside the zone, without any lock.
pub(crate) fn allocate_outlier(size: usize) -> Option<Range> {
    let size = align_up(size, os::page_size())?;
    let start = os::reserve(size, GRANULE)?;
    if start.as_ptr().expose_provenance() >= ADDRESSES {
        // SAFETY: just reserved, unused.
        unsafe { os::release(start, size) };
        return None;
    }
    LONGEST_OUTLIER.fetch_max(size.div_ceil(GRANULE), Ordering::Relaxed);
    Some(Range { start, size, outlier: true })
}

/// Whether a segment lies outside the zone, and the range that it is.
pub(crate) fn outlier_of_segment(start: NonNull<u8>) -> Option<Range> {
    (!contains(start.as_ptr() as usize)).then_some(Range { start, size: GRANULE, outlier: true })
}

fn allocate_in_zone(part: usize, granules: usize) -> Option<NonNull<u8>> {
    let in_part = PART.load(Ordering::Relaxed);
    if granules > in_part {
        return None;
    }
    let _guard = LOCK.lock();
    clean_up();
    let first = part * in_part;
    let bounds = bounds(part);
    let from = bounds.first_free.load(Ordering::Relaxed);
    let (mut run, mut at) = (0, from);
    while at < in_part {
        // Eight at a time where all eight are in use.
        let granule = first + at;
        let byte = byte_of(&USED, granule).load(Ordering::Relaxed);
        if byte == u8::MAX {
            at += 8 - granule % 8;
            run = 0;
            continue;
        }
        run = if byte & 1 << (granule % 8) == 0 { run + 1 } else { 0 };
        at += 1;
        if run == granules {
            let start = at - granules;
            mark(&USED, first + start, granules, true);
            bounds.never_used.fetch_max(at, Ordering::Relaxed);
            if start == from {
                bounds.first_free.store(at, Ordering::Relaxed);
            }
            let address = EXTENT.base.load(Ordering::Relaxed) + (first + start) * GRANULE;
            return NonNull::new(core::ptr::with_exposed_provenance_mut(address));
        }
    }
    None
}

/// The first granule of the part, from that number on, that is in use now: its number and its address. Others may take and
/// free granules meanwhile.
pub(crate) fn used_granule(part: Part, nodes: usize, from: usize) -> Option<(usize, usize)> {
    let part = part_index(part, nodes);
    let first = part * PART.load(Ordering::Relaxed);
    let end = bounds(part).never_used.load(Ordering::Relaxed);
    let mut at = from;
    while at < end {
        let granule = first + at;
        let byte = byte_of(&USED, granule).load(Ordering::Relaxed) >> (granule % 8);
        if byte & 1 != 0 {
            return Some((at, EXTENT.base.load(Ordering::Relaxed) + granule * GRANULE));
        }
        at += if byte == 0 { 8 - granule % 8 } else { 1 };
    }
    None
}

/// For audits: how many granules are in use now.
pub(crate) fn used_granules() -> usize {
    USED.iter().map(|byte| byte.load(Ordering::Relaxed).count_ones() as usize).sum()
}

/// The caller holds `LOCK`.
fn mark(map: &Map, first: usize, granules: usize, set: bool) {
    for granule in first..first + granules {
        let byte = byte_of(map, granule);
        let old = byte.load(Ordering::Relaxed);
        let bit = 1 << (granule % 8);
        byte.store(if set { old | bit } else { old & !bit }, Ordering::Relaxed);
    }
}

/// Counts granules as free; they read as zero. The caller holds `LOCK`.
fn make_free(first: usize, granules: usize) {
    mark(&USED, first, granules, false);
    let (part, first_of_part) = part_of(first);
    let lowest = &bounds(part).first_free;
    lowest.store(lowest.load(Ordering::Relaxed).min(first - first_of_part), Ordering::Relaxed);
}

/// Offers the kernel again what it did not take back, until it refuses once more. The caller holds `LOCK`.
fn clean_up() {
    if UNCLEAN_COUNT.load(Ordering::Relaxed) == 0 {
        return;
    }
    let base = EXTENT.base.load(Ordering::Relaxed);
    for (index, byte) in UNCLEAN.iter().enumerate() {
        let mut left = byte.load(Ordering::Relaxed);
        while left != 0 {
            let granule = index * 8 + left.trailing_zeros() as usize;
            left &= left - 1;
            let start = core::ptr::with_exposed_provenance_mut(base + granule * GRANULE);
            // SAFETY: a granule of the zone, which is not at null, and nobody's.
            if !unsafe { give_back(NonNull::new_unchecked(start), GRANULE) } {
                return;
            }
            mark(&UNCLEAN, granule, 1, false);
            UNCLEAN_COUNT.fetch_sub(1, Ordering::Relaxed);
            make_free(granule, 1);
        }
    }
}

/// Has the kernel drop the contents. True where it did, and all of it reads as zero once it is committed.
///
/// # Safety
/// The range is the zone's and nobody uses it any more.
unsafe fn give_back(start: NonNull<u8>, size: usize) -> bool {
    // Where there are several nodes, a new reservation would have to be bound anew.
    if os::promises_are_counted() && topology::machine().count() == 1 {
        // SAFETY: the caller's promise.
        return unsafe { os::renew(start, size) || os::decommit(start, size) };
    }
    // It stays accessible, as zeros: whoever frees a block of it once more is told so, and neighbours stay one mapping.
    // SAFETY: the caller's promise.
    unsafe { os::purge(start, size) || os::decommit(start, size) }
}

/// Has the kernel take back, as far as it will by now, what it refused to when it was freed.
pub(crate) fn release_refused() {
    os::release_refused();
    if UNCLEAN_COUNT.load(Ordering::Relaxed) != 0 && !LOCK.is_mine() {
        let _guard = LOCK.lock();
        clean_up();
    }
}

/// Tells that headers can be read at the start of a range that was handed out: it was committed.
pub(crate) fn show_headers(range: &Range) {
    if range.outlier {
        set_bit(&OUTLIERS, range.start.as_ptr().expose_provenance());
    } else {
        set_bit(&BEGINS, granule_of(range.start) * GRANULE);
    }
}

/// Whether what masking the address leads to is the first granule of a range that was handed out: a segment's or a
/// mapping's, where headers stand. Relaxed: whoever has a live block there was handed it after the bit was set.
#[inline]
pub(crate) fn has_headers(address: usize) -> bool {
    if !contains(address) {
        return bit(&OUTLIERS, address);
    }
    let granule = address.wrapping_sub(EXTENT.base.load(Ordering::Relaxed)) / GRANULE;
    BEGINS.get(granule / 8).is_some_and(|byte| byte.load(Ordering::Relaxed) & 1 << (granule % 8) != 0)
}

/// The start of the range that an address of the zone lies in; outside the zone, of the outlier it may lie in. `None` where
/// there is none.
pub(crate) fn range_around(address: usize) -> Option<usize> {
    if !contains(address) {
        let granules = LONGEST_OUTLIER.load(Ordering::Relaxed);
        let before = |back| granule_start(address).checked_sub(back * GRANULE);
        return (0..granules).map_while(before).find(|start| bit(&OUTLIERS, *start));
    }
    let is_used = |address: usize| {
        let granule = address.checked_sub(EXTENT.base.load(Ordering::Relaxed))? / GRANULE;
        Some(USED.get(granule / 8)?.load(Ordering::Relaxed) & 1 << (granule % 8) != 0)
    };
    let mut start = granule_start(address);
    while contains(start) && is_used(start)? {
        if has_headers(start) {
            return Some(start);
        }
        start -= GRANULE;
    }
    None
}

/// Calls `visit` with the start of every range that begins with headers, in the zone and outside. Others may come and go
/// meanwhile.
pub(crate) fn each_with_headers(mut visit: impl FnMut(usize)) {
    let base = EXTENT.base.load(Ordering::Relaxed);
    for (map, base) in [(&BEGINS[..], base), (&OUTLIERS[..], 0)] {
        for (index, byte) in map.iter().enumerate() {
            let byte = byte.load(Ordering::Relaxed);
            (0..8).filter(|bit| byte & 1 << bit != 0).for_each(|bit| visit(base + (index * 8 + bit) * GRANULE));
        }
    }
}

/// Extends a range of the zone by so many bytes (whole granules) after it, if they are free and of the same part.
pub(crate) fn extend(range: &Range, more: usize) -> bool {
    let more = more / GRANULE;
    if range.outlier || LOCK.is_mine() {
        return false;
    }
    let first = granule_of(range.start) + range.size / GRANULE;
    let (part, first_of_part) = part_of(first - 1);
    let end_of_part = first_of_part + PART.load(Ordering::Relaxed);
    let Some(end) = sum([first, more]).filter(|end| *end <= end_of_part) else { return false };
    let _guard = LOCK.lock();
    if (first..end).any(|granule| byte_of(&USED, granule).load(Ordering::Relaxed) & 1 << (granule % 8) != 0) {
        return false;
    }
    mark(&USED, first, more, true);
    bounds(part).never_used.fetch_max(end - first_of_part, Ordering::Relaxed);
    true
}

fn granule_of(start: NonNull<u8>) -> usize {
    (start.as_ptr() as usize - EXTENT.base.load(Ordering::Relaxed)) / GRANULE
}

/// Whether the calling thread holds the lock already, as a signal handler's may: nothing can be given back then.
pub(crate) fn is_mine() -> bool {
    LOCK.is_mine()
}

/// Takes a range back. Its pages go back to the kernel. The calling thread must not be inside ([`is_mine`]).
///
/// # Safety
/// The range was handed out by [`allocate`] (and [`extend`]ed), and nobody uses it any more.
pub(crate) unsafe fn free(range: Range) {
    let size = range.size;
    if range.outlier {
        clear_bit(&OUTLIERS, range.start.as_ptr() as usize);
        // SAFETY: the caller gives the range up.
        unsafe { os::release(range.start, size) };
        return;
    }
    let (first, granules) = (granule_of(range.start), size / GRANULE);
    // Nobody looks there for headers any more.
    clear_bit(&BEGINS, first * GRANULE);
    // SAFETY: the caller gives the range up; others can be given it only after this.
    let clean = unsafe { give_back(range.start, size) };
    let _guard = LOCK.lock();
    if clean {
        make_free(first, granules);
        clean_up();
    } else {
        // Whoever is given the range next would find old data there: nobody is, until the kernel has taken it.
        mark(&UNCLEAN, first, granules, true);
        UNCLEAN_COUNT.fetch_add(granules, Ordering::Relaxed);
    }
}

/// Reserves addresses for a block aligned to `align`, a multiple of a granule, with `before` bytes before it. Gives the
/// start of what was reserved and the block's address.
pub(crate) fn allocate_far_aligned(
    size: usize,
    align: usize,
    before: usize,
) -> Option<(NonNull<u8>, usize, NonNull<u8>)> {
    debug_assert!(align.is_multiple_of(GRANULE) && before <= GRANULE);
    // An aligned start with the block one alignment further on leaves room for what stands before it.
    let reserved = sum([size, align])?;
    let start = os::reserve(reserved, align)?;
    // SAFETY: `align` bytes are within what was reserved.
    let block = unsafe { start.add(align) };
    if !set_bit(&FAR_ALIGNED, block.as_ptr().expose_provenance()) {
        // SAFETY: just reserved, unused.
        unsafe { os::release(start, reserved) };
        return None;
    }
    Some((start, reserved, block))
}

/// Takes back what [`allocate_far_aligned`] gave.
///
/// # Safety
/// The three come from there, and nobody uses them any more.
pub(crate) unsafe fn free_far_aligned(start: NonNull<u8>, reserved: usize, block: NonNull<u8>) {
    clear_bit(&FAR_ALIGNED, block.as_ptr() as usize);
    // SAFETY: the caller gives the range up.
    unsafe { os::release(start, reserved) };
}

/// The start of the granule that an address lies in.
#[inline(always)]
pub(crate) const fn granule_start(address: usize) -> usize {
    align_down(address, GRANULE)
}

/// The lock of the zone, for `fork`.
pub(crate) fn lock_for_fork() -> &'static Lock {
    &LOCK
}
