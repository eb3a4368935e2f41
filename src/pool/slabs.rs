//! A pool's slabs at work: what all pools do alike, whatever their objects are.

use core::cell::Cell;
use core::ptr::NonNull;

use crossbeam_utils::CachePadded;

use super::error::PoolError;
use super::geometry::Geometry;
use super::registry::Registry;
use super::remote::{self, Returned};
use super::slab::{FREE, List, Slab, State};
use super::stats::{PoolStats, Tally};
use crate::misuse::FreeError;
use crate::place;
use crate::source::Source;

/// Slabs of one geometry, which every call is given: as a constant, so that it costs the fast paths nothing.
///
/// Objects are handed out from a word of the current slab's free objects that was taken out of it whole: their flags there are 0
/// until they come back. Only that last step touches the slab, and its countdown of the objects that are out.
pub(super) struct Slabs {
    /// Objects to be handed out next: a bit for each.
    word: Cell<u64>,
    /// Where the object of the word's lowest bit lies.
    base: Cell<*mut u8>,
    tally: Tally,
    /// The slab that the word is of, and the word's place in its bitmap.
    current: Cell<Option<Slab>>,
    cursor: Cell<usize>,
    /// A slab of this pool that a pointer led to lately; 1: none.
    known: Cell<usize>,
    partial: List,
    spare: Cell<Option<Slab>>,
    registry: Registry,
    source: Source,
    /// Bytes of a slab, for the end of it all.
    slab: usize,
    /// Written by droppers of remote guards.
    returned: CachePadded<Returned>,
}

/// So many objects that have come back to the word that the last ones were taken from make it worth taking from again at once:
/// they are still in the cache.
const WARM: u32 = 8;

impl Slabs {
    pub(super) const fn new(source: Source, geometry: &Geometry) -> Self {
        Slabs {
            word: Cell::new(0),
            base: Cell::new(core::ptr::null_mut()),
            tally: Tally::new(),
            current: Cell::new(None),
            cursor: Cell::new(0),
            known: Cell::new(1),
            partial: List::new(),
            spare: Cell::new(None),
            registry: Registry::new(),
            source,
            slab: geometry.slab,
            returned: CachePadded::new(Returned::new()),
        }
    }

    pub(super) fn source(&self) -> Source {
        self.source
    }

    /// Hands an object out.
    #[inline(always)]
    pub(super) fn take(&self, geometry: &Geometry) -> Option<NonNull<u8>> {
        let word = self.word.get();
        let object = match word {
            0 => self.take_slowly(geometry)?,
            _ => self.take_from(word, geometry),
        };
        self.tally.goes_out(&self.returned);
        Some(object)
    }

    /// The object of the lowest bit of the word, which is not 0.
    #[inline(always)]
    fn take_from(&self, word: u64, geometry: &Geometry) -> NonNull<u8> {
        self.word.set(word & (word - 1));
        let number = word.trailing_zeros() as usize;
        // SAFETY: bits stand for objects of the current slab, which are at no null address.
        unsafe { NonNull::new_unchecked(self.base.get().add(number * geometry.stride)) }
    }

    #[cold]
    #[inline(never)]
    fn take_slowly(&self, geometry: &Geometry) -> Option<NonNull<u8>> {
        if self.returned.any_slabs() {
            self.collect(geometry);
        }
        if !self.current.get().is_some_and(|slab| self.take_word(slab, geometry)) {
            self.change_slab(geometry)?;
        }
        Some(self.take_from(self.word.get(), geometry))
    }

    /// Takes an object back, on the user's thread.
    ///
    /// # Safety
    /// It is one of this pool's, handed out and not used any more.
    #[inline(always)]
    pub(super) unsafe fn give(&self, object: NonNull<u8>, geometry: &Geometry) {
        // SAFETY: the caller's promise.
        let slab = unsafe { Slab::around(object, geometry) };
        let number = geometry.number_at(object.addr().get() & (geometry.slab - 1));
        // SAFETY: the number of that object.
        unsafe { self.give_to(slab, number, geometry) };
    }

    /// Takes back the object of that number, on the user's thread.
    ///
    /// # Safety
    /// It is one of that slab's, which is this pool's; handed out and not used any more.
    #[inline(always)]
    unsafe fn give_to(&self, slab: Slab, number: usize, geometry: &Geometry) {
        // SAFETY: the number of an object.
        unsafe { slab.flag(number, geometry) }.set(FREE);
        self.tally.comes_home();
        if slab.count_home() {
            self.settle(slab, geometry);
        }
    }

    /// Takes an object back on whichever thread.
    ///
    /// # Safety
    /// As for [`give`](Self::give); and the caller has had a guard until now, by which the pool was borrowed.
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn give_from_elsewhere(&self, object: NonNull<u8>, geometry: &Geometry) {
        // SAFETY: the caller's promise.
        let slab = unsafe { Slab::around(object, geometry) };
        let index = geometry.number_at(object.addr().get() & (geometry.slab - 1)) - geometry.first;
        // SAFETY: the geometry has a bit for each object.
        let word = unsafe { slab.returned_word(index / 64, geometry) };
        self.returned.give(slab.address(), slab.returning(geometry), word, 1 << (index % 64));
    }

    /// Takes back an object of which nothing is known, not even that it is one.
    ///
    /// # Errors
    /// All but `NoMemory`.
    #[inline]
    pub(super) fn give_checked(&self, object: NonNull<u8>, geometry: &Geometry) -> Result<(), PoolError> {
        let offset = object.addr().get() & (geometry.slab - 1);
        let start = object.addr().get() - offset;
        if start != self.known.get() && !self.knows(start) {
            return Err(elsewhere(object));
        }
        let number = geometry.number_starting_at(offset);
        let index = number.wrapping_sub(geometry.first);
        if index >= geometry.objects {
            return Err(misplaced(offset, geometry));
        }
        // SAFETY: the registry knows a slab of this pool there.
        let slab = unsafe { Slab::at(start) };
        // SAFETY: the number of an object.
        let flag = unsafe { slab.flag(number, geometry) };
        if flag.get() != 0 || self.has_in_word(object, geometry) || Self::is_returned(slab, index, geometry) {
            return Err(twice());
        }
        // SAFETY: the number of an object, which is out.
        unsafe { self.give_to(slab, number, geometry) };
        Ok(())
    }

    /// Whether an object is among those that are to be handed out next.
    #[inline(always)]
    fn has_in_word(&self, object: NonNull<u8>, geometry: &Geometry) -> bool {
        let offset = object.addr().get().wrapping_sub(self.base.get().addr());
        let number = offset / geometry.stride;
        number < 64 && self.word.get() & 1 << number != 0
    }

    /// Whether the object of that index has come back from another thread, and waits to be collected.
    #[inline(always)]
    fn is_returned(slab: Slab, index: usize, geometry: &Geometry) -> bool {
        // SAFETY: the geometry has a bit for each object.
        let word = unsafe { slab.returned_word(index / 64, geometry) };
        slab.returning(geometry).any_objects() && remote::has_bit(word, 1 << (index % 64))
    }

    /// Whether a slab of this pool lies at that address; notes it for the next time.
    #[inline(never)]
    fn knows(&self, start: usize) -> bool {
        let knows = start != 0 && self.registry.contains(start);
        if knows {
            self.known.set(start);
        }
        knows
    }

    /// Takes a word of free objects from another slab than the current one, which has too few. `None` where there is no memory.
    #[cold]
    #[inline(never)]
    fn change_slab(&self, geometry: &Geometry) -> Option<()> {
        if let Some(slab) = self.current.take() {
            slab.set_state(State::Parked, geometry);
        }
        let waiting = self.partial.pop().or_else(|| self.spare.take());
        let Some(slab) = waiting.or_else(|| self.make(geometry)) else { return self.scrape(geometry) };
        slab.set_state(State::Current, geometry);
        self.current.set(Some(slab));
        self.cursor.set(0);
        self.take_word(slab, geometry).then_some(())
    }

    /// Where there is no memory for a slab: takes a word of free objects from any that has some, though not many. There is no
    /// current slab, and none with room.
    #[cold]
    fn scrape(&self, geometry: &Geometry) -> Option<()> {
        let (slab, word, bits) = self.registry.addresses().find_map(|address| {
            // SAFETY: the registry has the slabs that have not gone.
            let slab = unsafe { Slab::at(address) };
            // SAFETY: the geometry has these words.
            let any = |word: usize| Some((slab, word, unsafe { slab.free_bits(word) })).filter(|(.., bits)| *bits != 0);
            if slab.out() < geometry.objects { (0..geometry.words()).find_map(any) } else { None }
        })?;
        slab.set_state(State::Current, geometry);
        self.current.set(Some(slab));
        self.hand_out(slab, word, bits, geometry);
        Some(())
    }

    /// Takes a word of free objects from the current slab: the one taken last, if enough have come back; else another one.
    #[inline(always)]
    fn take_word(&self, slab: Slab, geometry: &Geometry) -> bool {
        let last = self.cursor.get();
        // SAFETY: the cursor is a word that the geometry has.
        let warm = unsafe { slab.free_bits(last) };
        if warm.count_ones() >= WARM {
            self.hand_out(slab, last, warm, geometry);
            return true;
        }
        self.take_another_word(slab, geometry)
    }

    /// Takes the next word of the current slab that has any free objects; from the first on again, if that is worthwhile.
    #[inline(never)]
    fn take_another_word(&self, slab: Slab, geometry: &Geometry) -> bool {
        // SAFETY: the searches below ask for words that the geometry has.
        let any = |word: usize| Some((word, unsafe { slab.free_bits(word) })).filter(|(_, bits)| *bits != 0);
        let last = self.cursor.get();
        let found = (last + 1..geometry.words()).find_map(any).or_else(|| {
            let is_worthwhile = slab.out() + geometry.worthwhile() <= geometry.objects;
            if is_worthwhile { (0..=last).find_map(any) } else { None }
        });
        let Some((word, bits)) = found else { return false };
        self.hand_out(slab, word, bits, geometry);
        true
    }

    /// Takes those free objects from that word of the current slab: all that it has.
    fn hand_out(&self, slab: Slab, word: usize, bits: u64, geometry: &Geometry) {
        let count = bits.count_ones();
        // SAFETY: the word has free objects, so the geometry has it.
        unsafe { slab.clear_flags(word) };
        slab.count_out(count);
        self.tally.takes(count);
        self.cursor.set(word);
        self.word.set(bits);
        // Of a slab's last word not all may lie within it, but those that bits stand for do.
        self.base.set(slab.start().as_ptr().wrapping_add((geometry.first + word * 64) * geometry.stride));
    }

    /// A new slab; `None` where there is no memory for it.
    fn make(&self, geometry: &Geometry) -> Option<Slab> {
        let memory = self.source.allocate(geometry.slab, geometry.slab, false)?;
        // SAFETY: so long and so aligned; it stays until `release`.
        let slab = unsafe { Slab::make(memory, geometry) };
        if !self.registry.insert(slab.address(), self.source) {
            // SAFETY: just obtained, and known to nobody.
            unsafe { Source::free(memory, geometry.slab, geometry.slab) };
            return None;
        }
        Some(slab)
    }

    /// What is to be done when a slab's countdown has ended.
    #[cold]
    #[inline(never)]
    fn settle(&self, slab: Slab, geometry: &Geometry) {
        match slab.state() {
            State::Parked if slab.out() > 0 => {
                slab.set_state(State::Partial, geometry);
                self.partial.push(slab);
            }
            State::Parked => self.keep_or_release(slab, geometry),
            State::Partial => {
                self.partial.remove(slab);
                self.keep_or_release(slab, geometry);
            }
            State::Current | State::Spare => {}
        }
    }

    /// Of the slabs that are empty one is kept.
    fn keep_or_release(&self, slab: Slab, geometry: &Geometry) {
        if self.spare.get().is_none() {
            slab.set_state(State::Spare, geometry);
            self.spare.set(Some(slab));
        } else {
            self.release(slab, geometry);
        }
    }

    /// Gives an empty slab, which is on no list, back to the heap.
    fn release(&self, slab: Slab, geometry: &Geometry) {
        self.registry.remove(slab.address());
        if self.known.get() == slab.address() {
            self.known.set(1);
        }
        // SAFETY: `make` took it for this size; all its objects are home, and nothing leads to it any more.
        unsafe { Source::free(slab.start(), geometry.slab, geometry.slab) };
    }

    /// Brings home what other threads have returned.
    #[cold]
    #[inline(never)]
    fn collect(&self, geometry: &Geometry) {
        let mut waiting = self.returned.take_slabs();
        while waiting != 0 {
            // SAFETY: slabs that were pushed are not empty until their counts are taken, and so have not gone.
            let slab = unsafe { Slab::at(waiting) };
            let (next, count) = slab.returning(geometry).take();
            waiting = next;
            for word in 0..geometry.words() {
                // SAFETY: the geometry has these words.
                let mut bits = remote::take_word(unsafe { slab.returned_word(word, geometry) });
                while bits != 0 {
                    let index = word * 64 + bits.trailing_zeros() as usize;
                    // SAFETY: bits stand for objects.
                    unsafe { slab.flag(geometry.first + index, geometry) }.set(FREE);
                    bits &= bits - 1;
                }
            }
            if slab.count_all_home(count) {
                self.settle(slab, geometry);
            }
        }
    }

    /// Gives empty slabs back to the heap: the spare one, and the current one.
    pub(super) fn trim(&self, geometry: &Geometry) {
        self.collect(geometry);
        if let Some(slab) = self.current.get()
            && slab.out() == self.word.get().count_ones() as usize
        {
            let _ = self.current.take();
            self.tally.takes_back(self.word.replace(0).count_ones());
            self.base.set(core::ptr::null_mut());
            self.release(slab, geometry);
        }
        if let Some(slab) = self.spare.take() {
            self.release(slab, geometry);
        }
    }

    /// The figures.
    pub(super) fn stats(&self, geometry: &Geometry) -> PoolStats {
        let slabs = self.registry.count();
        let stats = self.tally.read(geometry.size, self.word.get().count_ones(), &self.returned);
        PoolStats { slabs, reserved: slabs.wrapping_mul(geometry.slab), ..stats }
    }

    /// A block of the heap of so many bytes went out, one came home, or both.
    #[cfg(feature = "allocator-api2")]
    pub(super) fn count_heap(&self, out: Option<usize>, home: Option<usize>, geometry: &Geometry) {
        self.tally.heap_changes(out, home, geometry.size, &self.returned);
    }
}

impl Drop for Slabs {
    /// Gives all slabs back to the heap, whatever is out: guards borrow the pool, so none is.
    fn drop(&mut self) {
        self.registry.clear(|address| {
            // SAFETY: a slab's address, which `make` took for this size; nobody uses it any more.
            unsafe { Source::free(Slab::at(address).start(), self.slab, self.slab) };
        });
    }
}

/// What is wrong with a pointer that leads to no slab of the pool.
#[cold]
#[inline(never)]
fn elsewhere(object: NonNull<u8>) -> PoolError {
    match place::look(object) {
        Err(FreeError::Foreign) => PoolError::Foreign,
        Err(FreeError::DoubleFree) => PoolError::DoubleFree,
        Ok(_) | Err(_) => PoolError::OtherPool,
    }
}

#[cold]
#[inline(never)]
fn twice() -> PoolError {
    PoolError::DoubleFree
}

/// What is wrong with a pointer that leads so far into a slab of the pool, but to no object's start.
#[cold]
#[inline(never)]
fn misplaced(offset: usize, geometry: &Geometry) -> PoolError {
    let number = geometry.number_at(offset);
    if number.wrapping_sub(geometry.first) >= geometry.objects {
        return PoolError::NoObject { offset };
    }
    PoolError::Interior { offset: offset - number * geometry.stride, size: geometry.stride }
}
