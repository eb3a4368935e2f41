//! Formatted text in bump arenas.

use std::cell::Cell;
use std::fmt;

use homing::{Bump, BumpConfig, BumpError, BumpOverflow};

/// Writes itself in pieces of so many bytes.
struct Pieces<'a>(&'a str, usize);

impl fmt::Display for Pieces<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(rest.len().min(self.1));
            f.write_str(piece)?;
            rest = more;
        }
        Ok(())
    }
}

fn letters(count: usize) -> String {
    (b'a'..=b'z').cycle().take(count).map(char::from).collect()
}

#[test]
fn a_text_of_any_number_of_pieces_takes_its_length_and_no_more() {
    for count in [0, 1, 63, 64, 65, 127, 128, 1000, 4095, 4096] {
        let text = letters(count);
        for size in [1, 7, 64, 5000] {
            let bump = Bump::with(BumpConfig::new().pool_size(16 << 10));
            bump.alloc(7_u8);
            assert_eq!(bump.alloc_fmt(format_args!("{}", Pieces(&text, size))), text.as_str());
            assert_eq!(bump.stats().used, 1 + count, "{count} bytes, {size} at a time");
        }
    }
}

#[test]
fn a_text_that_grows_over_chunks_keeps_every_byte() {
    let bump = Bump::with(BumpConfig::new().pool_size(64));
    for count in [10, 100, 1000, 100_000] {
        let text = letters(count);
        assert_eq!(bump.alloc_fmt(format_args!("<{}>", Pieces(&text, 33))), format!("<{text}>").as_str());
    }
}

/// Puts values into the arena that its text is written to, between its pieces.
struct Busy<'a>(&'a Bump, &'a Cell<Vec<&'a mut u64>>);

impl fmt::Display for Busy<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for piece in 0..50 {
            let mut numbers = self.1.take();
            numbers.push(self.0.alloc(u64::MAX - piece));
            self.1.set(numbers);
            write!(f, "{piece:04}")?;
        }
        Ok(())
    }
}

#[test]
fn a_text_whose_values_use_the_arena_overlaps_none_of_them() {
    let bump = Bump::new();
    let numbers = Cell::default();
    let text = bump.alloc_fmt(format_args!("{}", Busy(&bump, &numbers)));
    let expected: String = (0..50).map(|piece| format!("{piece:04}")).collect();
    assert_eq!(*text, expected);
    text.make_ascii_uppercase();
    for (piece, number) in numbers.take().into_iter().enumerate() {
        assert_eq!(*number, u64::MAX - piece as u64);
    }
}

#[test]
fn a_text_that_fills_the_arena_to_the_byte_is_served_and_a_longer_one_takes_nothing() {
    for (pool, piece) in [(1000, 1), (1000, 7), (1000, 600), (50, 1), (50, 50)] {
        let text = letters(pool + 1);
        let config = BumpConfig::new().pool_size(pool);
        let bump = Bump::with(config.overflow(BumpOverflow::Error));
        let refused = bump.try_alloc_fmt(format_args!("{}", Pieces(&text, piece)));
        assert!(matches!(refused, Err(BumpError::Full { size, .. }) if size == pool), "{refused:?}");
        assert_eq!((bump.stats().used, bump.stats().overflows), (0, 1));
        let fitting = Pieces(&text[..pool], piece);
        assert_eq!(bump.try_alloc_fmt(format_args!("{fitting}")).as_deref(), Ok(&text[..pool]));
        assert_eq!((bump.stats().used, bump.stats().overflows), (pool, 1));
        // An arena that would end the process is asked for no more than is needed either.
        let bump = Bump::with(config.overflow(BumpOverflow::Abort));
        assert_eq!(bump.alloc_fmt(format_args!("{fitting}")).len(), pool);
    }
}

#[test]
fn what_a_text_gives_back_is_zero_when_it_is_handed_out_again() {
    let bump = Bump::with(BumpConfig::new().pool_size(1000).overflow(BumpOverflow::Error));
    for count in [1, 65, 100, 200] {
        bump.alloc_fmt(format_args!("{}", Pieces(&letters(count), 9)));
    }
    let refused = bump.try_alloc_fmt(format_args!("{}", Pieces(&letters(1000), 9)));
    assert!(refused.is_err());
    let left = bump.stats().capacity - bump.stats().used;
    let block = bump.try_alloc_bytes(left, 1).unwrap();
    // SAFETY: a block of that size, which is nobody else's, all zero.
    let bytes = unsafe { std::slice::from_raw_parts(block.as_ptr(), left) };
    assert!(bytes.iter().all(|byte| *byte == 0));
}

/// Cannot be formatted, after its first letters.
struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("broken")?;
        Err(fmt::Error)
    }
}

/// Does not mind that it finds no room.
struct Careless<'a>(&'a str);

impl fmt::Display for Careless<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let _ = f.write_str(self.0);
        Ok(())
    }
}

#[test]
fn a_value_that_cannot_be_formatted_or_hides_that_there_is_no_room_is_an_error() {
    let bump = Bump::with(BumpConfig::new().pool_size(100).overflow(BumpOverflow::Error));
    assert_eq!(bump.try_alloc_fmt(format_args!("{Broken}")), Err(BumpError::Format));
    let refused = bump.try_alloc_fmt(format_args!("{}", Careless(&letters(101))));
    assert!(matches!(refused, Err(BumpError::Full { asked: 101, .. })), "{refused:?}");
    assert_eq!(bump.stats().used, 0);
}

#[test]
fn a_block_before_a_text_and_one_behind_it_stay_as_they_are() {
    let bump = Bump::new();
    let before = bump.alloc_str("before");
    let text = bump.alloc_fmt(format_args!("{}{}", 1, Pieces(&letters(300), 11)));
    let behind = bump.alloc_str("behind");
    text.make_ascii_uppercase();
    assert_eq!((&*before, &*behind), ("before", "behind"));
    assert_eq!(*text, format!("1{}", letters(300).to_uppercase()));
}
