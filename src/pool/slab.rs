//! Slabs: ranges aligned to their own size, with a header that tells which objects are free.
//!
//! | line | what | who |
//! |---|---|---|
//! | first | counts and links | the pool's user |
//! | from [`LINE`] on | a flag for each object, a byte: [`FREE`], or 0 | the pool's user |
//! | [`Geometry::shared_at`] | the slab's part in `remote` | as it says |
//! | a line further on | a bit for each object that was returned by another thread | as `remote` says |
//!
//! Flags are bytes, since to set one takes four instructions fewer than to set a bit; where objects are taken, it is
//! 64 at a time.

use core::cell::Cell;
use core::ptr::NonNull;

use super::geometry::{Geometry, LINE};
use super::remote::Returning;
use crate::sync::AtomicU64;

/// The flag of an object that is free. Its highest bit is what processors gather from many bytes at once.
pub(super) const FREE: u8 = 0x80;

/// What becomes of a slab when its countdown is at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Objects are taken from it. Its countdown never ends.
    Current,
    /// On the list of slabs with room; its countdown ends when it is empty.
    Partial,
    /// On no list, as hardly any of its objects are free; its countdown ends when it is worthwhile to take from it.
    Parked,
    /// On no list: the empty slab that the pool keeps. Its countdown has ended.
    Spare,
}

/// The front of a slab.
#[repr(C)]
struct Header {
    /// Objects that must come back before the slab's state changes: those that are out, less `target`.
    until: Cell<isize>,
    /// How many are still out at that moment.
    target: Cell<isize>,
    state: Cell<State>,
    /// Neighbours on the list of slabs with room.
    next: Cell<Option<Slab>>,
    previous: Cell<Option<Slab>>,
}

const _: () = assert!(size_of::<Header>() <= LINE && size_of::<Returning>() <= LINE);

/// A slab of the pool that has it.
///
/// # Invariant
/// It is the address of a slab that was made and has not gone: its header, flags and bits may be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slab(NonNull<u8>);

impl Slab {
    /// Makes a slab of fresh memory, all of whose objects are free. It is on no list.
    ///
    /// # Safety
    /// The memory is the caller's, as long and aligned as the geometry says, and stays until the slab has gone.
    pub(super) unsafe fn make(memory: NonNull<u8>, geometry: &Geometry) -> Self {
        let header = Header {
            until: Cell::new(0),
            target: Cell::new(0),
            state: Cell::new(State::Spare),
            next: Cell::new(None),
            previous: Cell::new(None),
        };
        // SAFETY: the geometry has the header at the slab's front, the shared part where it says, and as many words.
        unsafe {
            memory.cast::<Header>().write(header);
            memory.add(geometry.shared_at).cast::<Returning>().write(Returning::new());
        }
        let flags = geometry.shared_at - LINE;
        // SAFETY: as above.
        unsafe {
            memory.add(LINE).write_bytes(0, flags);
            memory.add(LINE).write_bytes(FREE, geometry.objects);
            memory.add(geometry.shared_at + LINE).write_bytes(0, geometry.words() * 8);
        }
        Slab(memory)
    }

    /// The slab around an object.
    ///
    /// # Safety
    /// The pointer leads into a slab of that geometry that has not gone.
    #[inline(always)]
    pub(super) unsafe fn around(object: NonNull<u8>, geometry: &Geometry) -> Self {
        // Not by way of the object's pointer: it may have been a reference, or a box, since it was handed out, and may then be
        // used for the object alone.
        // SAFETY: the caller's promise.
        unsafe { Self::at(object.addr().get() & !(geometry.slab - 1)) }
    }

    /// The slab at an address.
    ///
    /// # Safety
    /// One that has not gone lies there.
    #[inline(always)]
    pub(super) unsafe fn at(address: usize) -> Self {
        // SAFETY: no slab lies at address 0.
        Slab(unsafe { NonNull::new_unchecked(core::ptr::with_exposed_provenance_mut(address)) })
    }

    /// Its address, as `at` takes it.
    #[inline(always)]
    pub(super) fn address(self) -> usize {
        self.0.as_ptr().expose_provenance()
    }

    /// Its memory.
    #[inline(always)]
    pub(super) fn start(self) -> NonNull<u8> {
        self.0
    }

    #[inline(always)]
    fn header(&self) -> &Header {
        // SAFETY: the type's invariant.
        unsafe { self.0.cast().as_ref() }
    }

    /// The flag of the object of that number: `FREE` until it is taken to be handed out.
    ///
    /// # Safety
    /// It is the number of an object in the slab's geometry.
    #[inline(always)]
    pub(super) unsafe fn flag(&self, number: usize, geometry: &Geometry) -> &Cell<u8> {
        // SAFETY: the type's invariant, and the caller's promise.
        unsafe { self.0.add(number - geometry.first + LINE).cast::<Cell<u8>>().as_ref() }
    }

    /// The flags of 64 objects.
    ///
    /// # Safety
    /// The slab's geometry has so many words.
    unsafe fn flags(&self, word: usize) -> &[Cell<u64>; 8] {
        // SAFETY: the type's invariant, and the caller's promise; flags begin at a multiple of 64.
        unsafe { self.0.add(LINE + word * 64).cast::<[Cell<u64>; 8]>().as_ref() }
    }

    /// Which of 64 objects are free: a bit for each.
    ///
    /// # Safety
    /// The slab's geometry has so many words.
    pub(super) unsafe fn free_bits(&self, word: usize) -> u64 {
        // SAFETY: the caller's promise.
        gather(unsafe { self.flags(word) })
    }

    /// Has none of 64 objects free any more.
    ///
    /// # Safety
    /// The slab's geometry has so many words.
    pub(super) unsafe fn clear_flags(&self, word: usize) {
        // SAFETY: the caller's promise.
        unsafe { self.flags(word) }.iter().for_each(|eight| eight.set(0));
    }

    /// The word of that number in the bitmap of returned objects.
    ///
    /// # Safety
    /// The geometry, which is the slab's, has so many words.
    #[inline(always)]
    pub(super) unsafe fn returned_word(&self, word: usize, geometry: &Geometry) -> &AtomicU64 {
        // SAFETY: the type's invariant, and the caller's promise.
        unsafe { self.0.add(geometry.shared_at + LINE).cast::<AtomicU64>().add(word).as_ref() }
    }

    /// Its part in what `remote` does.
    #[inline(always)]
    pub(super) fn returning(&self, geometry: &Geometry) -> &Returning {
        // SAFETY: the type's invariant.
        unsafe { self.0.add(geometry.shared_at).cast().as_ref() }
    }

    /// Counts one object as home. True where the countdown is at its end.
    #[inline(always)]
    pub(super) fn count_home(self) -> bool {
        let until = self.header().until.get() - 1;
        self.header().until.set(until);
        until == 0
    }

    /// Counts so many objects as home. True where the countdown has come to its end or past it.
    pub(super) fn count_all_home(self, count: usize) -> bool {
        let before = self.header().until.get();
        self.header().until.set(before - count as isize);
        before > 0 && before <= count as isize
    }

    /// Counts so many objects as out.
    #[inline(always)]
    pub(super) fn count_out(self, count: u32) {
        self.header().until.set(self.header().until.get() + count as isize);
    }

    /// Objects that are out, those among them that the pool has taken and not handed out yet.
    pub(super) fn out(self) -> usize {
        (self.header().until.get() + self.header().target.get()) as usize
    }

    pub(super) fn state(self) -> State {
        self.header().state.get()
    }

    /// Changes the state, and with it when the countdown ends.
    pub(super) fn set_state(self, state: State, geometry: &Geometry) {
        let out = self.out() as isize;
        let target = match state {
            State::Current => -1,
            State::Partial | State::Spare => 0,
            State::Parked => (geometry.objects - geometry.worthwhile()) as isize,
        };
        self.header().state.set(state);
        self.header().target.set(target);
        self.header().until.set(out - target);
    }
}

/// The highest bits of 64 bytes.
#[cfg(target_arch = "x86_64")]
fn gather(flags: &[Cell<u64>; 8]) -> u64 {
    use core::arch::x86_64::{__m128i, _mm_loadu_si128, _mm_movemask_epi8};
    (0..4).rev().fold(0, |bits, quarter| {
        // SAFETY: every x86-64 has SSE2 (its ABI passes numbers in those registers); there are four times 16 bytes.
        let mask = unsafe { _mm_movemask_epi8(_mm_loadu_si128(flags.as_ptr().cast::<__m128i>().add(quarter))) };
        bits << 16 | u64::from(mask as u16)
    })
}

/// The highest bits of 64 bytes, of which no others are set.
#[cfg(any(test, not(target_arch = "x86_64")))]
#[cfg_attr(target_arch = "x86_64", allow(dead_code))]
fn gather_by_product(flags: &[Cell<u64>; 8]) -> u64 {
    // The product's highest byte is the lowest bits of all bytes: each power of two moves one of them there, and no two sums
    // meet in a bit, so nothing is carried.
    let gather = |eight: &Cell<u64>| (u64::from_le(eight.get()) >> 7).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    flags.iter().rev().fold(0, |bits, eight| bits << 8 | gather(eight))
}

#[cfg(not(target_arch = "x86_64"))]
use gather_by_product as gather;

/// A list of slabs, linked both ways.
pub(super) struct List {
    first: Cell<Option<Slab>>,
}

impl List {
    pub(super) const fn new() -> Self {
        List { first: Cell::new(None) }
    }

    pub(super) fn push(&self, slab: Slab) {
        let second = self.first.replace(Some(slab));
        slab.header().next.set(second);
        slab.header().previous.set(None);
        if let Some(second) = second {
            second.header().previous.set(Some(slab));
        }
    }

    pub(super) fn pop(&self) -> Option<Slab> {
        let slab = self.first.get()?;
        self.remove(slab);
        Some(slab)
    }

    /// Takes out a slab that is on the list.
    pub(super) fn remove(&self, slab: Slab) {
        let (next, previous) = (slab.header().next.take(), slab.header().previous.take());
        match previous {
            Some(previous) => previous.header().next.set(next),
            None => self.first.set(next),
        }
        if let Some(next) = next {
            next.header().previous.set(previous);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_to_gather_flags_agree_with_looking_at_each() {
        let mut random = 1_u64;
        for _ in 0..1000 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let flags = [const { Cell::new(0_u64) }; 8];
            for object in (0..64).filter(|object| random >> object & 1 == 1) {
                // SAFETY: there are 64 bytes.
                unsafe { flags.as_ptr().cast::<Cell<u8>>().add(object).as_ref() }.unwrap().set(FREE);
            }
            assert_eq!(gather(&flags), random);
            assert_eq!(gather_by_product(&flags), random);
        }
    }
}
