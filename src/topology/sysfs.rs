//! The kernel's files about nodes (`/sys/devices/system/node`), read without allocating.

use core::ffi::CStr;

use crate::os::{self, MAX_NODES, NodeMask};

/// Where files about the machine are read, so that a program can describe another machine than the one it runs on, and
/// tests can make machines up. See [`Topology::from_source`](super::Topology::from_source).
pub trait Source {
    /// Reads the file from its beginning into the buffer, as much as fits, and says how many bytes that is; `None` where
    /// there is no such file. Paths are absolute, such as `/sys/devices/system/node/online`; folders are never listed.
    fn read(&self, path: &CStr, buffer: &mut [u8]) -> Option<usize>;
}

/// The running kernel's files.
pub(crate) struct Kernel;

impl Source for Kernel {
    fn read(&self, path: &CStr, buffer: &mut [u8]) -> Option<usize> {
        os::read_file(path, buffer)
    }
}

/// The set's members, in order.
pub(super) fn members(mask: &NodeMask) -> impl Iterator<Item = usize> + '_ {
    (0..MAX_NODES).filter(|id| mask[id / 64] & 1 << (id % 64) != 0)
}

/// A list such as `0-3,8` as a set; `None` where there is no such file or it names nothing.
pub(super) fn list(source: &impl Source, path: &CStr, buffer: &mut [u8]) -> Option<NodeMask> {
    let length = source.read(path, buffer)?;
    let mut mask: NodeMask = [0; MAX_NODES / 64];
    for range in buffer[..length].split(|byte| *byte == b',' || *byte == b'\n') {
        let mut ends = range.split(|byte| *byte == b'-').map(decimal);
        let Some(Some(first)) = ends.next() else { continue };
        let last = ends.next().flatten().unwrap_or(first);
        for id in first..=last.min(MAX_NODES - 1) {
            mask[id / 64] |= 1 << (id % 64);
        }
    }
    mask.iter().any(|word| *word != 0).then_some(mask)
}

fn decimal(digits: &[u8]) -> Option<usize> {
    let mut value = None;
    for digit in digits.iter().skip_while(|byte| **byte == b' ') {
        match digit {
            b'0'..=b'9' => value = Some(value.unwrap_or(0_usize).wrapping_mul(10) + usize::from(digit - b'0')),
            _ => break,
        }
    }
    value.filter(|value| *value < MAX_NODES)
}

/// Reads a node's row of distances; says how many it has.
pub(super) fn read_distances(source: &impl Source, id: usize, buffer: &mut [u8], row: &mut [u8; MAX_NODES]) -> usize {
    let mut path = [0_u8; 64];
    let mut length = 0;
    let mut add = |bytes: &[u8]| {
        path[length..length + bytes.len()].copy_from_slice(bytes);
        length += bytes.len();
    };
    add(b"/sys/devices/system/node/node");
    let digits = [
        b'0' + (id / 1000 % 10) as u8,
        b'0' + (id / 100 % 10) as u8,
        b'0' + (id / 10 % 10) as u8,
        b'0' + (id % 10) as u8,
    ];
    let leading = digits.iter().take(3).take_while(|digit| **digit == b'0').count();
    add(&digits[leading..]);
    add(b"/distance\0");
    let Ok(path) = CStr::from_bytes_until_nul(&path) else { return 0 };
    let Some(read) = source.read(path, buffer) else { return 0 };
    let mut count = 0;
    for field in buffer[..read].split(|byte| byte.is_ascii_whitespace()).filter(|field| !field.is_empty()) {
        if count == MAX_NODES {
            break;
        }
        row[count] = decimal(field).and_then(|distance| u8::try_from(distance).ok()).unwrap_or(u8::MAX);
        count += 1;
    }
    count
}
