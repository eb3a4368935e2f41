//! Contents that tell whose they are: every byte follows from a seed and its offset.
//!
//! Blocks to 64 KiB are written whole. Of larger ones the first and the last KiB, and a word of each 4 KiB, so that each
//! page is touched and a test of hundreds of MiB stays quick.

use std::ptr::NonNull;

const WHOLE: usize = 64 << 10;
const EDGE: usize = 1024;
const PAGE: usize = 4096;
const WORD: usize = size_of::<u64>();

fn word(seed: u64, offset: usize) -> u64 {
    let mixed = (seed ^ (offset / WORD) as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    mixed ^ mixed >> 29
}

/// The offsets of the words that are written in a block of that length.
fn offsets(length: usize) -> impl Iterator<Item = usize> {
    let end = length - length % WORD;
    let (first, pages, last) =
        if length <= WHOLE { (0..end, 0..0, 0..0) } else { (0..EDGE, PAGE..end - EDGE, end - EDGE..end) };
    first.step_by(WORD).chain(pages.step_by(PAGE)).chain(last.step_by(WORD))
}

/// The offsets of the bytes after the last whole word.
fn tail(length: usize) -> std::ops::Range<usize> {
    length - length % WORD..length
}

/// Writes the seed's pattern.
///
/// # Safety
/// `length` bytes from `start` on may be written.
pub unsafe fn fill(start: NonNull<u8>, length: usize, seed: u64) {
    for offset in offsets(length) {
        // SAFETY: a whole word lies there.
        unsafe { start.add(offset).cast::<u64>().write_unaligned(word(seed, offset)) };
    }
    for offset in tail(length) {
        // SAFETY: below `length`.
        unsafe { start.add(offset).write(word(seed, offset).to_ne_bytes()[offset % WORD]) };
    }
}

/// The offset of the first word below `end` that is not the pattern's. The block was filled with `length` bytes of it.
///
/// # Safety
/// `end` bytes from `start` on may be read.
pub unsafe fn first_difference(start: NonNull<u8>, length: usize, end: usize, seed: u64) -> Option<usize> {
    let differs = |offset: &usize| {
        // SAFETY: only offsets of whole words below `end` are asked for.
        unsafe { start.add(*offset).cast::<u64>().read_unaligned() != word(seed, *offset) }
    };
    let byte_differs = |offset: &usize| {
        // SAFETY: only offsets below `end` are asked for.
        unsafe { start.add(*offset).read() != word(seed, *offset).to_ne_bytes()[*offset % WORD] }
    };
    let tail = if length <= WHOLE { tail(end) } else { tail(length) };
    offsets(length)
        .filter(|offset| offset + WORD <= end)
        .find(differs)
        .or_else(|| tail.filter(|offset| *offset < end).find(byte_differs))
}

/// The offset of the first byte of `from..to` that is not zero.
///
/// # Safety
/// `to` bytes from `start` on may be read.
pub unsafe fn first_not_zero(start: NonNull<u8>, from: usize, to: usize) -> Option<usize> {
    // SAFETY: the caller's promise; every byte that the kernel or the allocator hands out may be read.
    let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr().add(from), to - from) };
    // SAFETY: any bytes make a `u64`.
    let (before, words, after) = unsafe { bytes.align_to::<u64>() };
    if before.iter().chain(after).all(|byte| *byte == 0) && words.iter().all(|word| *word == 0) {
        return None;
    }
    bytes.iter().position(|byte| *byte != 0).map(|at| from + at)
}
