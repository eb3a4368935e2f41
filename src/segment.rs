//! Segments: 32 MiB on one node, aligned to 32 MiB, so that masking any pointer gives its segment; cut into 512 slots of
//! 64 KiB.
//!
//! All metadata stands at the front, apart from the blocks and apart from each other by who writes it:
//!
//! | slot | bytes | what | written by |
//! |---|---|---|---|
//! | 0 | 64 KiB | 512 hot slab headers of 128 B | each slab's owner |
//! | 1 | 4 KiB | 512 owner words | whoever takes or gives a slot, under the node's lock; an adopting arena |
//! | 1 | 2 KiB | 512 weights | whoever makes the slot part of a slab, under the node's lock |
//! | 1 | the rest | the segment's own header | the holder of the node's lock |
//!
//! It is all touched lazily: a small program pays a few pages. A segment is mapped by parts, from its front on, as slots are
//! taken; where something else lies in its way it stays as long as it is.

mod bitmap;
pub(crate) mod list;
mod owner;

use core::cell::Cell;
use core::ptr::NonNull;

use crate::address_map::{GRANULE, Part, granule_start};
use crate::arith::align_up;
use crate::hardened;
use crate::os;
use crate::size_class::MAX_BLOCK;
use crate::slab::SlabHeader;
use crate::sync::{AtomicU32, AtomicUsize, Ordering};
use crate::topology::NodeIndex;
use bitmap::Bitmap;
pub(crate) use owner::{ARENA_ALIGN, Destination, Owner, OwnerWord};

/// Bytes in a slot.
pub(crate) const SLOT: usize = 64 << 10;
/// Slots in a segment.
pub(crate) const SLOTS: usize = GRANULE / SLOT;
/// The first slot that can hold blocks.
pub(crate) const FIRST_SLOT: usize = 2;
/// Slots of a segment that are guards: one in each [`hardened::GUARD_EVERY`], and the last.
const GUARDS: usize = if hardened::ON { SLOTS / hardened::GUARD_EVERY + 1 } else { 0 };
/// Slots of a segment that can hold blocks.
pub(crate) const USABLE_SLOTS: usize = SLOTS - FIRST_SLOT - GUARDS;

const HEADER: usize = size_of::<SlabHeader>();
/// Where the owner words begin, in bytes from the segment's start. Mappings (`large`) keep theirs at the same place.
pub(crate) const OWNERS: usize = SLOT;
const WEIGHTS: usize = OWNERS + SLOTS * size_of::<usize>();
const OWN: usize = WEIGHTS + SLOTS * size_of::<Weight>();
const _: () = assert!(HEADER * SLOTS <= SLOT);
const _: () = assert!(OWN.is_multiple_of(align_of::<SegmentHeader>()));
const _: () = assert!(OWN + size_of::<SegmentHeader>() <= FIRST_SLOT * SLOT);
const _: () = assert!(SLOTS <= HEADER_WORD * 2 && SLOTS.is_multiple_of(64));

/// The first of a mapping's owner words that serves none: a mapping's block lies in slot 1 or one whose number is a power of
/// two. Its header (`large`) stands over these.
pub(crate) const HEADER_WORD: usize = 264;

/// What blocks weigh in an outbox, from bit 24 on, and how many bytes they are: both are added up at once. No chain weighs more
/// than twice what is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[repr(transparent)]
pub(crate) struct Weight(u32);

impl Weight {
    const SHIFT: u32 = 24;
    /// At this a chain of blocks is sent home: so many bytes, or so many blocks of the least weight.
    const FULL: usize = 128;
    const FULL_BYTES: usize = 16 << 10;
    /// What the lightest blocks weigh that have two words, and those that have one.
    const OF_TWO_WORDS: usize = 4;
    const OF_ONE_WORD: usize = 3;

    /// Nothing.
    pub(crate) const NONE: Self = Weight(0);

    /// Of a block of so many bytes.
    fn of(block_size: usize) -> Self {
        let weight = (block_size * Self::FULL / Self::FULL_BYTES).clamp(Self::OF_TWO_WORDS, Self::FULL);
        let weight = if block_size < TWO_WORDS { Self::OF_ONE_WORD } else { weight };
        Weight((weight << Self::SHIFT | block_size) as u32)
    }

    #[inline(always)]
    pub(crate) fn plus(self, more: Self) -> Self {
        Weight(self.0 + more.0)
    }

    /// Whether so much is sent home.
    #[inline(always)]
    pub(crate) fn is_full(self) -> bool {
        self.0 >= (Self::FULL as u32) << Self::SHIFT
    }

    /// Whether the block has two words, and more can be written to it than a link.
    #[inline(always)]
    pub(crate) fn has_two_words(self) -> bool {
        self.0 >= (Self::OF_TWO_WORDS as u32) << Self::SHIFT
    }

    /// Bytes of the blocks.
    #[inline]
    pub(crate) fn bytes(self) -> usize {
        (self.0 & ((1 << Self::SHIFT) - 1)) as usize
    }
}
const _: () = assert!(2 * Weight::FULL <= 1 << (u32::BITS - Weight::SHIFT));
const _: () = assert!(Weight::FULL_BYTES + MAX_BLOCK < 1 << Weight::SHIFT);

/// Bytes in two words.
pub(crate) const TWO_WORDS: usize = 2 * size_of::<usize>();

/// A slot's number within its segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct SlotIndex(usize);

impl SlotIndex {
    /// The first of all, which holds headers.
    pub(crate) const FIRST: Self = SlotIndex(0);

    /// Those that can hold blocks.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (FIRST_SLOT..SLOTS).map(SlotIndex)
    }

    /// The slot that an address lies in.
    #[inline(always)]
    pub(crate) const fn of(address: usize) -> Self {
        SlotIndex(address / SLOT % SLOTS)
    }

    /// The same, computed once: the compiler would do so anew for each use, by shifts that are not longer than a scale, but
    /// more of them.
    #[inline(always)]
    pub(crate) fn of_once(address: usize) -> Self {
        #[allow(unused_mut, reason = "other processors leave it alone")]
        let mut slot = Self::of(address).0;
        #[cfg(target_arch = "x86_64")]
        // SAFETY: there is no instruction.
        unsafe {
            core::arch::asm!("/* {0:r} */", inout(reg) slot, options(pure, nomem, nostack, preserves_flags));
        }
        SlotIndex(slot)
    }

    /// The slot whose slab header has that address.
    #[inline(always)]
    pub(crate) const fn of_header(address: usize) -> Self {
        SlotIndex(address % SLOT / HEADER)
    }

    /// The slot so many further on. The caller stays within the segment.
    #[inline(always)]
    pub(crate) const fn plus(self, slots: usize) -> Self {
        SlotIndex(self.0 + slots)
    }

    /// The slot so many before. The caller stays within the segment.
    #[inline(always)]
    pub(crate) const fn minus(self, slots: usize) -> Self {
        SlotIndex(self.0 - slots)
    }

    #[inline(always)]
    pub(crate) const fn get(self) -> usize {
        self.0
    }
}

/// A segment, or the first granule of a mapping, by its address.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct SegmentPtr(NonNull<u8>);

/// What a segment's slots are for, and what becomes of its pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Use {
    /// Slabs, and runs to 2 MiB: bound to the node, in pages of the usual size.
    Small,
    /// Longer runs that are bound to the node.
    Bound,
    /// Longer runs that lie where they are first touched.
    FirstTouch,
}

impl Use {
    /// How many there are.
    pub(crate) const COUNT: usize = 3;

    /// What binds the pages of such segments of that node's pool.
    pub(crate) fn part(self, node: NodeIndex) -> Part {
        match self {
            Use::Small | Use::Bound => Part::Node(node),
            Use::FirstTouch => Part::FirstTouch(node),
        }
    }
}

/// How long a segment's longest row of slots may be.
pub(crate) struct LongestRow {
    /// No row is longer.
    pub(crate) at_most: Cell<u32>,
    /// The list of its like that the segment is on, if not 0.
    pub(crate) list: Cell<u8>,
}

/// The segment's own header; guarded by its node's lock.
pub(crate) struct SegmentHeader {
    node: Cell<NodeIndex>,
    /// Constant.
    used_for: Cell<Use>,
    /// Its pool's generation: constant.
    generation: Cell<u32>,
    /// Slots nobody holds.
    free: Bitmap,
    /// Of the free ones: written since they were last given back to the kernel, and lately.
    dirty: Bitmap,
    /// Of the free ones: dirty for at least half the purge delay.
    aged: Bitmap,
    free_count: Cell<u32>,
    /// Slots that are mapped, headers included: those before this one.
    mapped: Cell<u32>,
    /// Slots that can hold blocks: fewer than [`USABLE_SLOTS`] where it cannot be mapped whole.
    usable: Cell<u32>,
    /// The longest rows of free and of dirty slots.
    rows: [LongestRow; 2],
    places: list::Places,
}

impl SegmentPtr {
    /// What masking that address gives.
    ///
    /// # Safety
    /// The address lies in a segment, or in the first granule of a mapping.
    #[inline(always)]
    pub(crate) unsafe fn of(address: usize) -> Self {
        let start = core::ptr::with_exposed_provenance_mut(granule_start(address));
        // SAFETY: granules never begin at 0, where nothing is mapped.
        SegmentPtr(unsafe { NonNull::new_unchecked(start) })
    }

    #[inline(always)]
    fn part<T>(&self, offset: usize) -> NonNull<T> {
        // SAFETY: `offset` is within the segment.
        unsafe { self.0.add(offset) }.cast()
    }

    /// A slot's hot header.
    #[inline(always)]
    pub(crate) fn slab_header(self, slot: SlotIndex) -> NonNull<SlabHeader> {
        self.part(slot.get() * HEADER)
    }

    #[inline(always)]
    fn owner_word(&self, slot: SlotIndex) -> &AtomicUsize {
        // SAFETY: owner words are atomics in mapped memory that stays while anybody may look.
        unsafe { self.part::<AtomicUsize>(OWNERS + slot.get() * size_of::<usize>()).as_ref() }
    }

    /// Who the slot belongs to. Relaxed: whoever frees a block was handed it after its slab's word was written, and
    /// whoever compares the word with its own arena wrote it itself or was handed the arena under the node's lock.
    #[inline(always)]
    pub(crate) fn owner(self, slot: SlotIndex) -> OwnerWord {
        OwnerWord(self.owner_word(slot).load(Ordering::Relaxed))
    }

    /// As [`owner`](Self::owner) for a pointer that may be none that was handed out: `FREE` where a mapping's header stands
    /// over the word.
    #[inline]
    pub(crate) fn owner_if_any(self, slot: SlotIndex) -> OwnerWord {
        match slot.get() >= HEADER_WORD && self.owner(SlotIndex::FIRST) == OwnerWord::OF_MAPPING {
            true => OwnerWord::FREE,
            false => self.owner(slot),
        }
    }

    /// Says who the slot belongs to.
    #[inline]
    pub(crate) fn set_owner(self, slot: SlotIndex, owner: OwnerWord) {
        self.owner_word(slot).store(owner.0, Ordering::Release);
    }

    /// Makes the slot free if it is what the caller saw; false where somebody else was faster.
    pub(crate) fn free_owner(self, slot: SlotIndex, seen: OwnerWord) -> bool {
        self.owner_word(slot).compare_exchange(seen.0, OwnerWord::FREE.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    #[inline(always)]
    fn weight_word(&self, slot: SlotIndex) -> &AtomicU32 {
        // SAFETY: weights are atomics in mapped memory that stays while anybody may look.
        unsafe { self.part::<AtomicU32>(WEIGHTS + slot.get() * size_of::<Weight>()).as_ref() }
    }

    /// What a block of the slot's slab weighs in an outbox. Relaxed: whoever frees a block was handed it after this was
    /// written.
    #[inline(always)]
    pub(crate) fn weight(self, slot: SlotIndex) -> Weight {
        Weight(self.weight_word(slot).load(Ordering::Relaxed))
    }

    /// Says how long the blocks of the slot's slab are, in bytes.
    pub(crate) fn set_weight(self, slot: SlotIndex, block_size: usize) {
        self.weight_word(slot).store(Weight::of(block_size).0, Ordering::Relaxed);
    }

    /// A slot's first byte.
    #[inline(always)]
    pub(crate) fn slot_start(self, slot: SlotIndex) -> NonNull<u8> {
        self.part(slot.get() * SLOT)
    }

    #[inline(always)]
    pub(crate) fn address(self) -> usize {
        self.0.as_ptr() as usize
    }

    #[inline]
    fn header(&self) -> &SegmentHeader {
        // SAFETY: mapped, and zero bytes are valid for every field.
        unsafe { self.part::<SegmentHeader>(OWN).as_ref() }
    }

    /// The segment's first byte.
    pub(crate) fn start(self) -> NonNull<u8> {
        self.0
    }

    /// Its longest row, as lists of that kind know it.
    pub(crate) fn longest_row(&self, kind: usize) -> &LongestRow {
        let [free, dirty] = &self.header().rows;
        if kind == list::WITH_DIRTY_ROOM { dirty } else { free }
    }

    fn longest_hole(&self) -> &Cell<u32> {
        &self.longest_row(list::WITH_ROOM).at_most
    }

    /// How many of the free slots hold old data.
    pub(crate) fn used_free_slots(self) -> usize {
        let header = self.header();
        header.dirty.count(0, SLOTS) + header.aged.count(0, SLOTS)
    }

    /// Whether the slot is free, and whether it is free and holds old data, by the bitmaps.
    pub(crate) fn slot_is_free(self, slot: SlotIndex) -> (bool, bool) {
        let header = self.header();
        let is_dirty = header.dirty.any_set(slot.get(), 1) || header.aged.any_set(slot.get(), 1);
        (header.free.any_set(slot.get(), 1), is_dirty)
    }

    /// The node it was taken for. Written before any of its blocks is handed out, and constant.
    #[inline]
    pub(crate) fn node(self) -> NodeIndex {
        self.header().node.get()
    }

    /// What its slots are for.
    #[inline]
    pub(crate) fn used_for(self) -> Use {
        self.header().used_for.get()
    }

    /// What binds its pages.
    pub(crate) fn binding_part(self) -> Part {
        self.used_for().part(self.node())
    }

    /// Makes a granule a segment of the node's pool in its generation, all slots free and clean, of which the first `mapped` are
    /// mapped and zero.
    pub(crate) fn begin(self, used_for: Use, node: NodeIndex, generation: u32, mapped: usize) {
        let header = self.header();
        header.used_for.set(used_for);
        header.node.set(node);
        header.generation.set(generation);
        header.free.set_range(FIRST_SLOT, SLOTS - FIRST_SLOT);
        self.choose_guards();
        header.free_count.set(USABLE_SLOTS as u32);
        header.usable.set(USABLE_SLOTS as u32);
        self.longest_hole().set(USABLE_SLOTS as u32);
        self.note_mapped(mapped);
    }

    /// Its pool's generation when it was made.
    pub(crate) fn generation(self) -> u32 {
        self.header().generation.get()
    }

    /// How many slots are mapped, headers included.
    pub(crate) fn mapped(self) -> usize {
        self.header().mapped.get() as usize
    }

    /// So many slots are mapped now.
    pub(crate) fn note_mapped(self, slots: usize) {
        let before = self.header().mapped.replace(slots as u32) as usize;
        if hardened::ON {
            self.close_guards(before, slots);
        }
    }

    /// No more slots can be mapped: what is not is not free any more. The slots from `end` on are free and clean.
    pub(crate) fn cut(self) {
        let header = self.header();
        let end = self.mapped();
        let lost = header.free.take_range(end, SLOTS - end) as u32;
        header.free_count.set(header.free_count.get() - lost);
        header.usable.set(header.usable.get() - lost);
        self.measure();
    }

    /// Looks how long the longest rows of free and of dirty slots are.
    pub(crate) fn measure(self) {
        self.longest_hole().set(self.header().free.longest_run() as u32);
        self.longest_row(list::WITH_DIRTY_ROOM).at_most.set(self.all_dirty().longest_run() as u32);
    }

    /// The slots that hold old data, lately or for long.
    fn all_dirty(self) -> Bitmap {
        let header = self.header();
        header.dirty.with(&header.aged)
    }

    /// The first of `count` adjacent dirty slots, itself a multiple of `align` slots, lowest first.
    pub(crate) fn find_dirty_slots(self, count: usize, align: usize) -> Option<SlotIndex> {
        self.all_dirty().lowest_run(count, align).map(SlotIndex)
    }

    /// Whether no slot is taken.
    pub(crate) fn is_unused(self) -> bool {
        self.header().free_count == self.header().usable
    }

    /// Slots that are taken.
    pub(crate) fn taken_slots(self) -> usize {
        (self.header().usable.get() - self.header().free_count.get()) as usize
    }

    /// Hardened: makes one slot in sixteen a guard, beginning anywhere, and the last slot another.
    fn choose_guards(self) {
        if !hardened::ON {
            return;
        }
        let guard = |slot: usize| {
            self.header().free.clear_range(slot, 1);
            self.set_owner(SlotIndex(slot), OwnerWord::RUN_INTERIOR);
        };
        // However it falls, all but the last slot's come before that.
        let phase = FIRST_SLOT + hardened::random(hardened::GUARD_EVERY - 1 - FIRST_SLOT);
        (phase..SLOTS - 1).step_by(hardened::GUARD_EVERY).take(GUARDS - 1).for_each(guard);
        guard(SLOTS - 1);
    }

    /// Hardened: closes the guards among the slots that have just been mapped, and the pages behind the headers. Where the
    /// kernel refuses they are not handed out all the same.
    fn close_guards(self, from: usize, end: usize) {
        for slot in (from.max(FIRST_SLOT)..end).map(SlotIndex) {
            if self.owner(slot) == OwnerWord::RUN_INTERIOR {
                // SAFETY: the slot is nobody's, and is never handed out.
                unsafe { os::forbid(self.slot_start(slot), SLOT) };
            }
        }
        let page = os::page_size();
        let headers_end = align_up(OWN + size_of::<SegmentHeader>(), page);
        if from == 0
            && let Some(end) = headers_end.filter(|end| *end < FIRST_SLOT * SLOT)
        {
            // SAFETY: nothing stands between the headers and the first slot.
            unsafe { os::forbid(self.part(end), FIRST_SLOT * SLOT - end) };
        }
    }

    pub(crate) fn free_slots(self) -> usize {
        self.header().free_count.get() as usize
    }

    /// The first of `count` adjacent free slots, itself a multiple of `align` slots, lowest first.
    pub(crate) fn find_slots(self, count: usize, align: usize) -> Option<SlotIndex> {
        self.header().free.lowest_run(count, align).map(SlotIndex)
    }

    /// Whether those slots are free.
    pub(crate) fn are_free(self, first: SlotIndex, count: usize) -> bool {
        let first = first.get();
        first + count <= SLOTS && self.header().free.all_set(first, count)
    }

    /// Takes slots that are free and mapped; says how many of them hold old data.
    pub(crate) fn take_slots(self, first: SlotIndex, count: usize) -> usize {
        let header = self.header();
        let first = first.get();
        debug_assert!(self.are_free(SlotIndex(first), count) && first + count <= self.mapped());
        let used_before = header.dirty.take_range(first, count) + header.aged.take_range(first, count);
        header.free.clear_range(first, count);
        header.free_count.set(header.free_count.get() - count as u32);
        if header.free_count.get() == 0 {
            self.longest_hole().set(0);
        }
        used_before
    }

    /// Gives slots back, which read as zero if they are clean.
    pub(crate) fn give_slots(self, first: SlotIndex, count: usize, clean: bool) {
        let header = self.header();
        debug_assert!(!header.free.any_set(first.get(), count), "a slot was given back twice");
        header.free.set_range(first.get(), count);
        if !clean {
            self.mark_dirty(first, count);
        }
        header.free_count.set(header.free_count.get() + count as u32);
        let joined = header.free.run_around(first.get()) as u32;
        self.longest_hole().set(self.longest_hole().get().max(joined));
    }

    /// Counts free slots as holding old data from now on.
    pub(crate) fn mark_dirty(self, first: SlotIndex, count: usize) {
        self.header().dirty.set_range(first.get(), count);
        let longest = &self.longest_row(list::WITH_DIRTY_ROOM).at_most;
        longest.set(longest.get().max(self.all_dirty().run_around(first.get()) as u32));
    }

    /// Calls `purge` with runs of free dirty slots, those dirty for longest first, no more than `most` slots in all; those for
    /// which it succeeded are clean from then on. Gives how many, and how many of `most` are left.
    pub(crate) fn purge(self, most: usize, mut purge: impl FnMut(NonNull<u8>, usize) -> bool) -> (usize, usize) {
        let header = self.header();
        let (mut purged, mut left) = (0, most);
        for map in [&header.aged, &header.dirty] {
            let mut from = FIRST_SLOT;
            while let Some((first, count)) = map.next_run(from).filter(|_| left > 0) {
                from = first + count;
                // Of a run that is too long the end, which is taken again last.
                let count = count.min(left);
                left -= count;
                if purge(self.slot_start(SlotIndex(from - count)), count) {
                    map.clear_range(from - count, count);
                    purged += count;
                }
            }
        }
        (purged, left)
    }

    /// Takes a run of free dirty slots, so many at most; aged ones, or any, those first. The slots are clean then, but for what
    /// is in them.
    pub(crate) fn take_dirty(self, only_aged: bool, most: usize) -> Option<(SlotIndex, usize)> {
        let header = self.header();
        let run = |map: &Bitmap| map.next_run(FIRST_SLOT);
        let (first, count) = run(&header.aged).or_else(|| if only_aged { None } else { run(&header.dirty) })?;
        let first = SlotIndex(first);
        let count = count.min(most);
        let _ = self.take_slots(first, count);
        Some((first, count))
    }

    /// What is dirty counts as aged from now on.
    pub(crate) fn age(self) {
        let header = self.header();
        header.aged.take_from(&header.dirty);
    }
}
