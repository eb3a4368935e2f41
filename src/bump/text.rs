//! Formatted text, written into the arena as it comes.
#![allow(clippy::mut_from_ref, reason = "what is handed out is nobody else's")]

use core::fmt::{self, Write};
use core::ptr::NonNull;

use super::Bump;
use super::alloc::or_panic;
use super::error::BumpError;
use crate::config::BumpOverflow;

/// The least that is obtained for a text that grows.
const LEAST: usize = 64;

/// A text that grows: in its place as long as nothing else is put into the arena.
struct Text<'b> {
    bump: &'b Bump,
    /// `size` bytes, of which the first `len` are written. Dangling as long as there are none.
    block: NonNull<u8>,
    len: usize,
    size: usize,
    refused: Option<BumpError>,
}

impl<'b> Text<'b> {
    const fn new(bump: &'b Bump) -> Self {
        Text { bump, block: NonNull::dangling(), len: 0, size: 0, refused: None }
    }

    /// Whether what the block has beyond the text can be given back: it was handed out last.
    fn is_last(&self) -> bool {
        let head = self.bump.head();
        // A block that begins where an empty chunk ends is its neighbour's.
        self.size > 0 && head.is_last(self.block) && head.may_give_back(self.block.addr().get() + self.size)
    }

    /// A block with room for so many more bytes.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, more: usize) -> Result<(), BumpError> {
        let least = self.len.saturating_add(more);
        let wanted = least.max(self.size.saturating_mul(2)).max(LEAST);
        if self.is_last() {
            let end = self.block.addr().get() + self.size;
            for size in [wanted, least] {
                if let Some(block) = self.bump.head().place_last(end, size, 1) {
                    // SAFETY: both are within the chunk, and as long as the text at least; they may overlap.
                    unsafe { block.copy_from(self.block, self.len) };
                    (self.block, self.size) = (block, size);
                    return Ok(());
                }
            }
        }
        // Where the arena does not grow as far, asking for more than is needed could be one request too many.
        let grows = self.bump.config().overflow == BumpOverflow::Grow;
        let size = if grows && self.bump.limit_left().is_none_or(|left| wanted <= left) { wanted } else { least };
        let block = self.bump.obtain(size, 1)?;
        // SAFETY: longer than the text, and apart from it.
        unsafe { block.copy_from_nonoverlapping(self.block, self.len) };
        (self.block, self.size) = (block, size);
        Ok(())
    }

    /// Gives back what is not needed, and the first `len` bytes out.
    fn finish(self, len: usize) -> &'b mut str {
        let mut block = self.block;
        let less = self.size - len;
        if less > 0 && self.is_last() {
            // SAFETY: within the block, or at its end.
            block = unsafe { self.block.add(less) };
            // SAFETY: both are within the block; they may overlap.
            unsafe { block.copy_from(self.block, len) };
            // SAFETY: the last block's first bytes, which were copied from.
            unsafe { self.bump.give_back(self.block, less) };
        }
        // SAFETY: so many were written, and are nobody else's as long as the arena is borrowed.
        let bytes = unsafe { core::slice::from_raw_parts_mut(block.as_ptr(), len) };
        // SAFETY: they are whole texts, one after the other.
        unsafe { core::str::from_utf8_unchecked_mut(bytes) }
    }
}

impl Write for Text<'_> {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.size - self.len < more.len()
            && let Err(refused) = self.make_room(more.len())
        {
            self.refused = Some(refused);
            return Err(fmt::Error);
        }
        // SAFETY: within the block, or at its end.
        let end = unsafe { self.block.add(self.len) };
        // SAFETY: the block has room for as many, and is nobody else's.
        unsafe { end.as_ptr().copy_from_nonoverlapping(more.as_ptr(), more.len()) };
        self.len += more.len();
        Ok(())
    }
}

impl Bump {
    /// Puts a formatted text into the arena: `bump.alloc_fmt(format_args!("{name}: {count}"))`. What is formatted may use the
    /// arena; then the text may take up to four times its length.
    ///
    /// *Cost*: that of `format!`, without the allocation; the text is moved once when it is finished, and where it grows.
    ///
    /// # Panics
    /// With the text of the [`BumpError`] that [`try_alloc_fmt`](Self::try_alloc_fmt) gives.
    ///
    /// ```
    /// let bump = homing::Bump::new();
    /// let (line, wanted) = (7, "a name");
    /// let complaint = bump.alloc_fmt(format_args!("line {line}: {wanted} is missing"));
    /// assert_eq!(complaint, "line 7: a name is missing");
    /// assert_eq!(bump.stats().used, complaint.len());
    /// ```
    pub fn alloc_fmt(&self, text: fmt::Arguments<'_>) -> &mut str {
        or_panic(self.try_alloc_fmt(text))
    }

    /// As [`alloc_fmt`](Self::alloc_fmt).
    ///
    /// # Errors
    /// As [`try_alloc`](Self::try_alloc), and [`BumpError::Format`] where a value says that it cannot be formatted. Nothing of the
    /// arena is taken then, but where what is formatted uses it.
    ///
    /// ```
    /// use homing::{Bump, BumpConfig, BumpError, BumpOverflow};
    ///
    /// let bump = Bump::with(BumpConfig::new().pool_size(16).overflow(BumpOverflow::Error));
    /// assert!(matches!(bump.try_alloc_fmt(format_args!("{:20}", 7)), Err(BumpError::Full { .. })));
    /// assert_eq!(bump.try_alloc_fmt(format_args!("{:16}", 7)).map(|text| text.len()), Ok(16));
    /// ```
    pub fn try_alloc_fmt(&self, text: fmt::Arguments<'_>) -> Result<&mut str, BumpError> {
        if let Some(text) = text.as_str() {
            return self.try_alloc_str(text);
        }
        let mut written = Text::new(self);
        let result = written.write_fmt(text);
        let len = written.len;
        match (result, written.refused) {
            (Ok(()), None) => Ok(written.finish(len)),
            (_, refused) => {
                written.finish(0);
                Err(refused.unwrap_or(BumpError::Format))
            }
        }
    }
}
