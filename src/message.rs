//! What the allocator has to say to people: single lines on standard error, made on the stack.

use core::ffi::CStr;
use core::fmt;

use crate::os;

/// A line in the making. What does not fit is cut off.
pub(crate) struct Line {
    text: [u8; LONGEST + 1],
    length: usize,
}

/// Bytes in a line, without its end.
const LONGEST: usize = 479;

impl Line {
    /// An empty line.
    pub(crate) fn empty() -> Self {
        Line { text: [0; LONGEST + 1], length: 0 }
    }

    /// A line that begins with the allocator's name.
    pub(crate) fn new() -> Self {
        Self::empty().text("homing: ")
    }

    /// Adds text.
    pub(crate) fn text(self, text: &str) -> Self {
        self.bytes(text.as_bytes())
    }

    /// Adds bytes that came from outside.
    pub(crate) fn bytes(mut self, bytes: &[u8]) -> Self {
        // The last byte is kept for the end of the line.
        let room = self.text.iter_mut().take(LONGEST).skip(self.length);
        let taken = room.len().min(bytes.len());
        room.zip(bytes).for_each(|(place, byte)| *place = *byte);
        self.length += taken;
        self
    }

    /// Adds a number.
    pub(crate) fn number(self, number: usize) -> Self {
        self.digits::<10>(number)
    }

    /// Adds a number of things: one `thing`, or several `things`.
    pub(crate) fn count(self, number: usize, thing: &str) -> Self {
        let line = self.number(number).text(" ").text(thing);
        if number == 1 { line } else { line.text("s") }
    }

    /// Adds an address.
    pub(crate) fn address(self, address: usize) -> Self {
        self.text("0x").hexadecimal(address)
    }

    /// Adds a number in base 16.
    pub(crate) fn hexadecimal(self, number: usize) -> Self {
        self.digits::<16>(number)
    }

    /// Adds a number of bytes in the largest unit that leaves it at one or more, to one decimal.
    pub(crate) fn size(self, bytes: usize) -> Self {
        const UNITS: [(u32, &str); 4] = [(40, " TiB"), (30, " GiB"), (20, " MiB"), (10, " KiB")];
        let wide = bytes as u64;
        match UNITS.iter().find(|(shift, _)| wide >> shift > 0) {
            None => self.number(bytes).text(" B"),
            Some((shift, unit)) => {
                let tenths = (wide >> (shift - 10) & 1023) * 10 / 1024;
                self.number((wide >> shift) as usize).text(".").number(tenths as usize).text(unit)
            }
        }
    }

    /// Fills up with spaces to the column, so that lines stand as a table.
    pub(crate) fn column(mut self, column: usize) -> Self {
        self.text.iter_mut().take(column.min(LONGEST)).skip(self.length).for_each(|place| *place = b' ');
        self.length = self.length.max(column.min(LONGEST));
        self
    }

    fn digits<const BASE: usize>(self, mut number: usize) -> Self {
        let mut digits = [b' '; 20];
        for digit in digits.iter_mut().rev() {
            *digit = b"0123456789abcdef"[number % BASE];
            number /= BASE;
            if number == 0 {
                break;
            }
        }
        self.bytes(digits.trim_ascii_start())
    }

    /// Calls `visit` with the line and its end, as a C string.
    pub(crate) fn with_text(mut self, visit: &mut dyn FnMut(&CStr)) {
        let last = self.length.min(LONGEST - 1);
        self.text.iter_mut().skip(last).zip(*b"\n\0").for_each(|(place, byte)| *place = byte);
        if let Ok(text) = CStr::from_bytes_until_nul(&self.text) {
            visit(text);
        }
    }

    /// Writes the line to standard error.
    pub(crate) fn say(self) {
        self.say_to(os::STDERR);
    }

    /// Writes the line to a file descriptor.
    pub(crate) fn say_to(mut self, descriptor: i32) {
        self.text.iter_mut().skip(self.length).take(1).for_each(|end| *end = b'\n');
        os::write_to(descriptor, self.text.get(..=self.length).unwrap_or(&self.text));
    }
}

/// A number of bytes, in words: for errors, which are not lines.
pub(crate) struct Bytes(pub(crate) usize);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, if self.0 == 1 { "byte" } else { "bytes" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text_of(line: &Line) -> &str {
        core::str::from_utf8(&line.text[..line.length]).unwrap()
    }

    #[test]
    fn sizes_are_written_in_the_largest_unit_with_one_decimal() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536, "1.5 KiB"),
            (64 << 20, "64.0 MiB"),
            ((1 << 30) - 1, "1023.9 MiB"),
            (usize::MAX, if usize::BITS > 32 { "16777215.9 TiB" } else { "3.9 GiB" }),
        ] {
            assert_eq!(text_of(&Line::empty().size(bytes)), text);
        }
    }

    #[test]
    fn one_thing_is_not_told_as_several() {
        assert_eq!(text_of(&Line::empty().count(1, "block")), "1 block");
        for number in [0, 2, 11, 21, usize::MAX] {
            assert_eq!(text_of(&Line::empty().count(number, "byte")), format!("{number} bytes"));
            assert_eq!(Bytes(number).to_string(), format!("{number} bytes"));
        }
        assert_eq!(Bytes(1).to_string(), "1 byte");
    }

    #[test]
    fn a_line_too_long_is_cut_and_never_overruns_its_buffer() {
        let mut line = Line::new();
        for _ in 0..100 {
            line = line.text("0123456789").address(usize::MAX);
        }
        assert_eq!(line.length, LONGEST);
        line.say_to(-1);
    }
}
