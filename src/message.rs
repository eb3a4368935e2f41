//! What the allocator has to say to people: single lines on standard error, made on the stack.

use crate::os;

/// A line in the making. What does not fit is cut off.
pub(crate) struct Line {
    text: [u8; 480],
    length: usize,
}

impl Line {
    /// An empty line.
    pub(crate) fn empty() -> Self {
        Line { text: [0; 480], length: 0 }
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
        let room = self.text.len() - 1 - self.length;
        let taken = bytes.len().min(room);
        self.text[self.length..self.length + taken].copy_from_slice(&bytes[..taken]);
        self.length += taken;
        self
    }

    /// Adds a number.
    pub(crate) fn number(self, number: usize) -> Self {
        self.digits(number, 10)
    }

    /// Adds an address.
    pub(crate) fn address(self, address: usize) -> Self {
        self.text("0x").hexadecimal(address)
    }

    /// Adds a number in base 16.
    pub(crate) fn hexadecimal(self, number: usize) -> Self {
        self.digits(number, 16)
    }

    /// Adds a number of bytes in the largest unit that leaves it at one or more, to one decimal.
    pub(crate) fn size(self, bytes: usize) -> Self {
        const UNITS: [&str; 5] = [" B", " KiB", " MiB", " GiB", " TiB"];
        let mut unit = 0;
        let mut divisor = 1_usize;
        while unit + 1 < UNITS.len() && bytes / divisor >= 1024 {
            divisor <<= 10;
            unit += 1;
        }
        let line = self.number(bytes / divisor);
        let line = match unit {
            0 => line,
            _ => line.text(".").number((bytes % divisor) / (divisor / 1024) * 10 / 1024),
        };
        line.text(UNITS[unit])
    }

    /// Fills up with spaces to the column, so that lines stand as a table.
    pub(crate) fn column(mut self, column: usize) -> Self {
        while self.length < column && self.length < self.text.len() - 1 {
            self.text[self.length] = b' ';
            self.length += 1;
        }
        self
    }

    fn digits(self, mut number: usize, base: usize) -> Self {
        let mut digits = [0_u8; 20];
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b"0123456789abcdef"[number % base];
            number /= base;
            if number == 0 {
                break;
            }
        }
        self.bytes(&digits[first..])
    }

    /// Writes the line to standard error.
    pub(crate) fn say(self) {
        self.say_to(os::STDERR);
    }

    /// Writes the line to a file descriptor.
    pub(crate) fn say_to(mut self, descriptor: i32) {
        self.text[self.length] = b'\n';
        os::write_to(descriptor, &self.text[..=self.length]);
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
            (usize::MAX, "16777215.9 TiB"),
        ] {
            assert_eq!(text_of(&Line::empty().size(bytes)), text);
        }
    }

    #[test]
    fn a_line_too_long_is_cut_and_never_overruns_its_buffer() {
        let mut line = Line::new();
        for _ in 0..100 {
            line = line.text("0123456789").address(usize::MAX);
        }
        assert_eq!(line.length, line.text.len() - 1);
        line.say_to(-1);
    }
}
