//! The kernel's files about nodes (`/sys/devices/system/node`), read without allocating.

use core::ffi::CStr;

use super::NodeId;
use crate::arith;
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

/// A list such as `0-3,8` as a set; `None` where there is no such file or it names nothing.
pub(super) fn list(source: &impl Source, path: &CStr, buffer: &mut [u8]) -> Option<NodeMask> {
    let length = source.read(path, buffer)?;
    let mut mask = NodeMask::default();
    for range in buffer.get(..length)?.split(|byte| *byte == b',' || *byte == b'\n') {
        let mut ends = range.split(|byte| *byte == b'-').map(decimal);
        let Some(Some(first)) = ends.next() else { continue };
        let last = ends.next().flatten().unwrap_or(first);
        (first..=last).for_each(|id| mask.insert(id));
    }
    (!mask.is_empty()).then_some(mask)
}

/// A number below [`MAX_NODES`].
fn decimal(digits: &[u8]) -> Option<usize> {
    let mut value = None;
    for digit in digits.iter().skip_while(|byte| **byte == b' ') {
        match digit {
            // Beyond any number there is, it stays there.
            b'0'..=b'9' => {
                value = Some(value.unwrap_or(0_usize).saturating_mul(10).saturating_add(usize::from(digit - b'0')));
            }
            _ => break,
        }
    }
    value.filter(|value| *value < MAX_NODES)
}

/// Reads a node's row of distances; says how many it has.
pub(super) fn read_distances(source: &impl Source, id: usize, buffer: &mut [u8], row: &mut [u8; MAX_NODES]) -> usize {
    let Some(read) = read_of_node(source, id, b"/distance", buffer) else { return 0 };
    let Some(text) = buffer.get(..read) else { return 0 };
    let fields = text.split(|byte| byte.is_ascii_whitespace()).filter(|field| !field.is_empty());
    let mut count = 0;
    for (distance, field) in row.iter_mut().zip(fields) {
        *distance = decimal(field).and_then(|distance| u8::try_from(distance).ok()).unwrap_or(u8::MAX);
        count += 1;
    }
    count
}

/// Reads a file of a node's; `name` begins with a slash.
fn read_of_node(source: &impl Source, id: usize, name: &[u8], buffer: &mut [u8]) -> Option<usize> {
    let digits = [
        b'0' + (id / 1000 % 10) as u8,
        b'0' + (id / 100 % 10) as u8,
        b'0' + (id / 10 % 10) as u8,
        b'0' + (id % 10) as u8,
    ];
    let leading = digits.iter().take(3).take_while(|digit| **digit == b'0').count();
    let text = b"/sys/devices/system/node/node".iter().chain(digits.iter().skip(leading)).chain(name);
    let mut path = [0_u8; 64];
    // All but the last byte, which stays zero.
    path.iter_mut().take(63).zip(text).for_each(|(place, byte)| *place = *byte);
    // SAFETY: a zero byte ends the path, the array's last at the latest.
    source.read(unsafe { CStr::from_ptr(path.as_ptr().cast()) }, buffer)
}

/// A node's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NodeMemory {
    /// What it has.
    pub(crate) total: usize,
    /// What nobody uses, and half of what it keeps of files that were not read lately.
    pub(crate) free: usize,
}

/// The memory of the node with that number, by the kernel's word now. `None` where it does not tell.
pub(crate) fn memory_of(node: NodeId) -> Option<NodeMemory> {
    read_memory(&Kernel, node)
}

/// Bytes that the kernel keeps for itself, of all nodes together (vm.min_free_kbytes); 0 where it does not tell.
pub(crate) fn kernel_keeps() -> usize {
    let mut buffer = [0_u8; 32];
    let read = Kernel.read(c"/proc/sys/vm/min_free_kbytes", &mut buffer).unwrap_or(0);
    let kib = buffer.get(..read).and_then(|text| number_after(text, b""));
    kib.and_then(|kib| arith::times(kib, 1024)).unwrap_or(0)
}

/// The number that stands after `name`, where that first stands in the text; `None` where none does, or it is too large.
pub(super) fn number_after(text: &[u8], name: &[u8]) -> Option<usize> {
    let after = (0..text.len()).find_map(|at| text.get(at..)?.strip_prefix(name))?.trim_ascii_start();
    let digits = after.iter().position(|byte| !byte.is_ascii_digit()).map_or(Some(after), |end| after.get(..end))?;
    arith::decimal(digits)
}

fn read_memory(source: &impl Source, node: NodeId) -> Option<NodeMemory> {
    let mut buffer = [0_u8; 4096];
    let read = read_of_node(source, usize::from(node.number()), b"/meminfo", &mut buffer)?;
    let text = buffer.get(..read)?;
    let bytes = |name: &[u8]| arith::times(number_after(text, name)?, 1024);
    Some(NodeMemory {
        total: bytes(b" MemTotal:")?,
        free: bytes(b" MemFree:")?.saturating_add(bytes(b" Inactive(file):").unwrap_or(0) / 2),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    struct OneFile(&'static str, &'static str);

    impl Source for OneFile {
        fn read(&self, path: &CStr, buffer: &mut [u8]) -> Option<usize> {
            if path.to_str().ok()? != self.0 {
                return None;
            }
            buffer[..self.1.len()].copy_from_slice(self.1.as_bytes());
            Some(self.1.len())
        }
    }

    #[test]
    fn a_number_too_large_for_a_node_names_none_however_large_it_is() {
        let read = |text| list(&OneFile("/online", text), c"/online", &mut [0; 64]);
        let mut third = NodeMask::default();
        third.insert(3);
        assert_eq!(read("3\n"), Some(third));
        // 2^64, and 2^64 + 7.
        for number in ["1024", "18446744073709551616", "18446744073709551623", "99999999999999999999"] {
            assert_eq!(read(format!("{number}\n").leak()), None, "{number}");
            assert_eq!(read(format!("3,{number}\n").leak()), Some(third), "{number}");
        }
    }

    #[test]
    fn a_node_s_memory_is_read_in_bytes_and_nonsense_is_unknown() {
        let read = |text| read_memory(&OneFile("/sys/devices/system/node/node117/meminfo", text), NodeId::new(117));
        let text = "Node 117 MemTotal:       131072 kB\nNode 117 MemFree:         4096 kB\n\
                    Node 117 Inactive(file):     100 kB\n";
        assert_eq!(read(text), Some(NodeMemory { total: 128 << 20, free: (4 << 20) + (50 << 10) }));
        assert_eq!(read("Node 117 MemTotal: 10 kB\n"), None);
        assert_eq!(read("Node 117 MemTotal: 10 kB\nNode 117 MemFree: 99999999999999999999999 kB\n"), None);
        assert_eq!(read(""), None);
    }
}
