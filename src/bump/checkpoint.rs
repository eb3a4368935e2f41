//! Points that a bump arena can be taken back to.

use super::error::CheckpointError;
use super::{Bump, Inside};
use crate::ids::BumpId;

/// A point that a bump arena can be taken back to: see [`Bump::checkpoint`]. Plain data, which borrows nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    bump: BumpId,
    /// Resets so far.
    resets: usize,
    /// The number of the last restore before it.
    restores: u64,
    position: usize,
}

impl Checkpoint {
    /// The arena that it was taken of.
    pub fn bump(&self) -> BumpId {
        self.bump
    }

    /// As numbers, for languages that know no more of it: all there is of it, the arena's number first.
    ///
    /// ```
    /// use homing::{Bump, Checkpoint};
    ///
    /// let checkpoint = Bump::new().checkpoint();
    /// assert_eq!(Checkpoint::from_words(checkpoint.to_words()), Some(checkpoint));
    /// assert_eq!(Checkpoint::from_words([0; 4]), None);
    /// ```
    pub fn to_words(self) -> [u64; 4] {
        [self.bump.get(), self.resets as u64, self.restores, self.position as u64]
    }

    /// The checkpoint of such numbers; `None` where no arena has the first of them. Numbers that were made up are safe: at worst
    /// an arena is taken back further than was meant.
    pub fn from_words(words: [u64; 4]) -> Option<Self> {
        let [bump, resets, restores, position] = words;
        let bump = BumpId::known(bump)?;
        Some(Checkpoint {
            bump,
            resets: usize::try_from(resets).ok()?,
            restores,
            position: usize::try_from(position).ok()?,
        })
    }
}

impl Bump {
    /// The point that [`restore`](Self::restore) takes the arena back to.
    ///
    /// A block that lies below a checkpoint is not taken back by itself any more when it is deallocated, but only by a reset
    /// or a restore; one that grows is moved. *Cost*: some thirty instructions.
    ///
    /// ```
    /// let mut bump = homing::Bump::new();
    /// bump.alloc_str("kept");
    /// let point = bump.checkpoint();
    /// for attempt in 0..3 {
    ///     bump.alloc_slice_fill_with(1000, |place| place * attempt);
    ///     bump.restore(point)?;
    ///     assert_eq!(bump.stats().used, 4);
    /// }
    /// # Ok::<(), homing::CheckpointError>(())
    /// ```
    pub fn checkpoint(&self) -> Checkpoint {
        // The head of arenas that were never used is everybody's.
        let (position, restores) = if self.has_head() { self.head().mark() } else { (0, 0) };
        Checkpoint { bump: self.id(), resets: self.resets_so_far(), restores, position }
    }

    /// Takes back all that was handed out since the checkpoint was taken.
    ///
    /// It may be done again and again, and for nested checkpoints from the inner ones to the outer ones. What was put into
    /// the arena meanwhile is not dropped; chunks obtained meanwhile go back to the heap, but for the largest. With
    /// [`zero_on_reset`](crate::BumpConfig::zero_on_reset), what was used is cleared. A restore to a point beyond those of all
    /// restores before it is remembered until the arena is reset, or restored to an earlier point: 16 bytes of the heap.
    ///
    /// # Errors
    /// Nothing is changed where the checkpoint does not hold any more:
    /// - [`CheckpointError::Foreign`]: it is another arena's;
    /// - [`CheckpointError::Stale`]: the arena was reset since, or restored to an earlier point and then used beyond this
    ///   one;
    /// - [`CheckpointError::Future`]: the arena was restored to an earlier point since, and is still before this one;
    /// - [`CheckpointError::Reentered`]: this is a signal handler, on top of a slow path of the arena.
    ///
    /// ```
    /// use homing::{Bump, CheckpointError};
    ///
    /// let mut bump = Bump::new();
    /// let outer = bump.checkpoint();
    /// bump.alloc(1_u64);
    /// let inner = bump.checkpoint();
    /// bump.restore(outer)?;
    /// assert_eq!(bump.restore(inner), Err(CheckpointError::Future { ahead: 8 }));
    /// bump.alloc([2_u64; 2]);
    /// assert_eq!(bump.restore(inner), Err(CheckpointError::Stale { resets: 0 }));
    /// # Ok::<(), CheckpointError>(())
    /// ```
    pub fn restore(&mut self, checkpoint: Checkpoint) -> Result<(), CheckpointError> {
        let id = self.id();
        if checkpoint.bump != id {
            return Err(CheckpointError::Foreign { bump: id, checkpoint: checkpoint.bump });
        }
        let resets = self.resets_so_far().wrapping_sub(checkpoint.resets);
        if resets != 0 {
            return Err(CheckpointError::Stale { resets: resets as u64 });
        }
        if !self.has_head() {
            return Ok(());
        }
        match self.head().is_undone(checkpoint.position, checkpoint.restores) {
            Some(0) => return Err(CheckpointError::Stale { resets: 0 }),
            Some(ahead) => return Err(CheckpointError::Future { ahead }),
            None => {}
        }
        let _inside = Inside::enter(&self.busy).map_err(|_| CheckpointError::Reentered)?;
        // SAFETY: what was handed out borrows the arena, and this is the only reference to it.
        unsafe { self.head().restore(checkpoint.position, self.zeroes()) };
        Ok(())
    }

    fn resets_so_far(&self) -> usize {
        if self.has_head() { self.head().figures().resets } else { self.resets.get() }
    }
}
