//! Which restores a bump arena remembers, so that it knows the checkpoints that they have undone.
//!
//! Restores are numbered; a checkpoint knows the number of the last one before it. Restore `t` to position `p` undoes each
//! checkpoint that was taken before it (of a lower number) at a position beyond `p`. A later restore to the same or a
//! lower position undoes all that an earlier one does, which is forgotten then. So what is remembered has ascending
//! numbers and ascending positions, and of those with a number above a checkpoint's the first has the lowest position: it
//! alone decides.

use core::ptr::NonNull;

use crate::arith;
use crate::source::Source;

#[derive(Clone, Copy)]
struct Restore {
    number: u64,
    position: usize,
}

/// What fits without memory of the heap.
const INLINE: usize = 4;

/// The restores that are remembered. See the module's text.
pub(super) struct Restores {
    /// Restores so far.
    last: u64,
    length: usize,
    room: usize,
    inline: [Restore; INLINE],
    /// All of them, where there are more than `INLINE`.
    heap: Option<NonNull<Restore>>,
}

impl Restores {
    pub(super) const fn new() -> Self {
        let none = Restore { number: 0, position: 0 };
        Restores { last: 0, length: 0, room: INLINE, inline: [none; INLINE], heap: None }
    }

    /// The number of the last restore: what a checkpoint is taken after.
    pub(super) fn last(&self) -> u64 {
        self.last
    }

    fn all(&self) -> &[Restore] {
        match self.heap {
            // SAFETY: the first `length` of `room` places are filled.
            Some(heap) => unsafe { core::slice::from_raw_parts(heap.as_ptr(), self.length) },
            None => self.inline.get(..self.length).unwrap_or(&[]),
        }
    }

    /// Whether a checkpoint at `position` that was taken after restore `number` is undone.
    pub(super) fn undo(&self, number: u64, position: usize) -> bool {
        let all = self.all();
        let first = all.partition_point(|restore| restore.number <= number);
        all.get(first).is_some_and(|restore| restore.position < position)
    }

    /// Remembers a restore to `position`.
    pub(super) fn note(&mut self, position: usize) {
        self.note_with(position, Self::make_room);
    }

    fn note_with(&mut self, position: usize, make_room: impl FnOnce(&mut Self) -> bool) {
        self.last += 1;
        self.length = self.all().partition_point(|restore| restore.position < position);
        let restore = Restore { number: self.last, position };
        if self.length == self.room && !make_room(self) {
            // As if the last one had been made just now: it undoes more than it did, never less.
            self.set(self.length - 1, |last| last.number = restore.number);
            return;
        }
        self.set(self.length, |place| *place = restore);
        self.length += 1;
    }

    fn set(&mut self, index: usize, change: impl FnOnce(&mut Restore)) {
        match self.heap {
            // SAFETY: one of `room` places, all of which were written when the memory was obtained.
            Some(heap) => change(unsafe { heap.add(index).as_mut() }),
            None => {
                if let Some(place) = self.inline.get_mut(index) {
                    change(place);
                }
            }
        }
    }

    /// Twice as many places. False where there is no memory for them.
    fn make_room(&mut self) -> bool {
        let room = self.room.saturating_mul(2);
        let Some(bytes) = arith::array(size_of::<Restore>(), room) else { return false };
        let Some(heap) = Source::Caller.allocate(bytes, align_of::<Restore>(), true) else { return false };
        let heap = heap.cast::<Restore>();
        let all = self.all();
        // SAFETY: the new memory has twice as many places.
        unsafe { heap.copy_from_nonoverlapping(NonNull::from(all).cast(), all.len()) };
        self.free();
        self.heap = Some(heap);
        self.room = room;
        true
    }

    fn free(&mut self) {
        if let Some(heap) = self.heap.take() {
            // SAFETY: obtained in `make_room` with this size and alignment.
            unsafe { Source::free(heap.cast(), size_of::<Restore>() * self.room, align_of::<Restore>()) };
        }
    }

    /// Forgets all restores: the arena was reset, which undoes every checkpoint.
    pub(super) fn forget(&mut self) {
        self.free();
        self.length = 0;
        self.room = INLINE;
    }
}

impl Drop for Restores {
    fn drop(&mut self) {
        self.free();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a checkpoint remembers.
    #[derive(Clone, Copy, Debug)]
    struct Taken {
        number: u64,
        position: usize,
        is_undone: bool,
    }

    /// Takes checkpoints and restores to positions in turn, beside a list of all checkpoints ever taken; says how each stands.
    fn run(steps: &[(bool, usize)], has_memory: bool, check: impl Fn(Taken, bool)) {
        let mut restores = Restores::new();
        let mut taken: Vec<Taken> = Vec::new();
        for (is_restore, position) in steps.iter().copied() {
            if is_restore {
                restores.note_with(position, |restores| has_memory && restores.make_room());
                taken.iter_mut().filter(|taken| taken.position > position).for_each(|taken| taken.is_undone = true);
            } else {
                taken.push(Taken { number: restores.last(), position, is_undone: false });
            }
            for taken in &taken {
                check(*taken, restores.undo(taken.number, taken.position));
            }
        }
    }

    fn steps() -> impl Strategy<Value = Vec<(bool, usize)>> {
        prop::collection::vec((any::<bool>(), 0_usize..50), 1..200)
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn exactly_those_checkpoints_are_undone_that_a_later_restore_went_back_before(steps in steps()) {
            run(&steps, true, |taken, undone| assert_eq!(undone, taken.is_undone, "{taken:?}"));
        }

        #[test]
        fn without_memory_no_checkpoint_holds_that_does_not(steps in steps()) {
            run(&steps, false, |taken, undone| assert!(undone || !taken.is_undone, "{taken:?}"));
        }
    }

    #[test]
    fn ever_higher_restores_are_remembered_beyond_what_fits_at_once_and_forgotten_by_a_reset() {
        let mut restores = Restores::new();
        (1..=1000).for_each(|position| restores.note(position));
        for position in 1..=1000 {
            assert!(restores.undo(position as u64 - 1, position + 1) && !restores.undo(position as u64, position + 1));
        }
        restores.forget();
        assert!(!restores.undo(0, usize::MAX));
        assert_eq!(restores.last(), 1000, "numbers go on");
    }
}
