//! Slabs: ranges aligned to their own size, with a header that tells which objects are free.
//!
//! | line | what | who |
//! |---|---|---|
//! | first | counts and links | the pool's user |
//! | from [`LINE`] on | a bit for each free object | the pool's user |
//! | [`Geometry::shared_at`] | the slab's part in `remote` | as it says |
//! | one further on | a bit for each object that was returned by another thread | as `remote` says |

use core::cell::Cell;
use core::ptr::NonNull;

use super::geometry::{Geometry, LINE};
use super::remote::Returning;
use crate::sync::AtomicU64;

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
/// It is the address of a slab that was made and has not gone: its header and both bitmaps may be read.
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
        for word in 0..geometry.words {
            // SAFETY: as above.
            unsafe {
                memory.add(LINE).cast::<u64>().add(word).write(geometry.objects_in_word(word));
                memory.add(geometry.shared_at + LINE).cast::<u64>().add(word).write(0);
            }
        }
        Slab(memory)
    }

    /// The slab around an object.
    ///
    /// # Safety
    /// The pointer leads into a slab of that geometry that has not gone.
    #[inline(always)]
    pub(super) unsafe fn around(object: NonNull<u8>, geometry: &Geometry) -> Self {
        // SAFETY: no slab lies at address 0.
        Slab(unsafe { NonNull::new_unchecked(object.as_ptr().map_addr(|address| address & !(geometry.slab - 1))) })
    }

    /// The slab at an address.
    ///
    /// # Safety
    /// One that has not gone lies there.
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

    /// The word of that number in the bitmap of free objects.
    ///
    /// # Safety
    /// The geometry has so many words.
    #[inline(always)]
    pub(super) unsafe fn free_word(&self, word: usize) -> &Cell<u64> {
        // SAFETY: the type's invariant, and the caller's promise.
        unsafe { self.0.add(LINE).cast::<Cell<u64>>().add(word).as_ref() }
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
            State::Parked => (geometry.objects() - geometry.worthwhile()) as isize,
        };
        self.header().state.set(state);
        self.header().target.set(target);
        self.header().until.set(out - target);
    }
}

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
