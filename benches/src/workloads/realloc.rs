//! A buffer that grows from 16 bytes to 1 MiB: whether blocks grow in place, and what moving them costs.

use std::alloc::Layout;

use super::MIB;
use crate::block::Block;
use crate::peers::Peer;
use crate::workload::Workload;

const SMALLEST: usize = 16;
const LARGEST: usize = MIB;

/// How a buffer grows.
#[derive(Clone, Copy)]
pub enum Growth {
    /// To twice its size, the new bytes written at once.
    Double,
    /// By half its size, the new bytes written at once.
    Half,
    /// To twice its size whenever it is full, as a `Vec` to which eight bytes are pushed at a time.
    Push,
}

/// A buffer that grows so.
pub struct Realloc {
    /// In which way.
    pub growth: Growth,
}

/// The sizes that the buffer takes one after the other, and how it is written.
pub struct Script {
    sizes: Vec<usize>,
    push: bool,
}

impl Workload for Realloc {
    type State<P: Peer> = Script;

    fn group(&self) -> &'static str {
        "realloc"
    }

    fn name(&self) -> String {
        let name = match self.growth {
            Growth::Double => "doubling",
            Growth::Half => "by half",
            Growth::Push => "push",
        };
        name.to_owned()
    }

    fn blocks(&self) -> u64 {
        sizes(self.growth).len() as u64
    }

    fn prepare<P: Peer>(&self) -> Script {
        Script { sizes: sizes(self.growth), push: matches!(self.growth, Growth::Push) }
    }

    #[inline(always)]
    fn pass<P: Peer>(script: &mut Script) -> u64 {
        let mut buffer = Block::<P>::new(Layout::from_size_align(SMALLEST, 8).expect("a valid layout"));
        let mut written = 0;
        for (step, &size) in script.sizes.iter().enumerate() {
            if size != buffer.size() {
                buffer.resize(size);
            }
            if script.push {
                while written + 8 <= size {
                    buffer.fill(written..written + 8, step as u8);
                    written += 8;
                }
            }
            buffer.fill(written..size, step as u8);
            written = size;
        }
        // The last byte that each step wrote.
        script.sizes.iter().enumerate().map(|(step, &size)| u64::from(buffer.read(size - 1) != step as u8)).sum()
    }
}

/// From the smallest to the largest, both included.
fn sizes(growth: Growth) -> Vec<usize> {
    let larger = |&size: &usize| match growth {
        Growth::Double | Growth::Push => Some(size * 2),
        Growth::Half => Some(size + size / 2),
    };
    let mut sizes: Vec<usize> =
        std::iter::successors(Some(SMALLEST), larger).take_while(|&size| size < LARGEST).collect();
    sizes.push(LARGEST);
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_grow_from_the_smallest_to_the_largest() {
        assert_eq!(sizes(Growth::Double).len(), 17);
        for growth in [Growth::Double, Growth::Half, Growth::Push] {
            let sizes = sizes(growth);
            assert_eq!((sizes[0], sizes[sizes.len() - 1]), (SMALLEST, LARGEST));
            assert!(sizes.is_sorted_by(|a, b| a < b));
        }
    }
}
