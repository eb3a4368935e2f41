//! Pointers that are no block to be freed: what is wrong with them, as an error and as the line that ends the process.
//!
//! What costs nothing to notice is noticed always: pointers that are not the allocator's, pointers into runs and mappings,
//! the second free of what was freed last or lies in no slab, more frees than blocks, and links that were written over
//! where a slow path comes across them. `debug` notices the rest.

use core::fmt;

use crate::address_map;
use crate::block::Block;
use crate::large::Mapping;
use crate::message::{Bytes, Line};
use crate::os;
use crate::segment::{Owner, SegmentPtr, SlotIndex};
use crate::slab::Slab;
use crate::topology::{self, NodeIndex};

/// Why a pointer cannot be freed; given by [`try_free`](crate::try_free) and [`try_dealloc`](crate::try_dealloc).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FreeError {
    /// It is not this allocator's: another one's, of the stack, of a static, or made up.
    Foreign,
    /// The block was freed already, or never handed out.
    DoubleFree,
    /// It lies within a block, not at its start.
    Interior {
        /// Bytes from the block's start.
        offset: usize,
        /// Bytes in the block.
        size: usize,
    },
    /// The block has another size than the caller says.
    WrongSize {
        /// The size that the caller named, in bytes.
        said: usize,
        /// Bytes in the block: what was asked for where that is known, else all that may be used.
        actual: usize,
    },
    /// The block is aligned otherwise than the caller says.
    WrongAlign {
        /// The alignment that the caller named, in bytes.
        said: usize,
        /// What was asked for, or what the block's address is aligned to where that is not known.
        actual: usize,
    },
    /// Bytes before the block were written over (noticed under [`Debug::On`](crate::Debug::On)).
    Underrun {
        /// How far before the block's start the nearest of them is.
        before: usize,
    },
    /// Bytes behind the block were written over (noticed under [`Debug::On`](crate::Debug::On)).
    Overrun {
        /// How far behind the block's last byte the nearest of them is: 1 for the very next.
        behind: usize,
    },
}

impl FreeError {
    /// The name of the misuse, as reports begin with it.
    fn name(self) -> &'static str {
        match self {
            FreeError::Foreign => "foreign pointer",
            FreeError::DoubleFree => "double free",
            FreeError::Interior { .. } => "interior pointer",
            FreeError::WrongSize { .. } => "wrong size",
            FreeError::WrongAlign { .. } => "wrong alignment",
            FreeError::Underrun { .. } => "underrun",
            FreeError::Overrun { .. } => "overrun",
        }
    }

    /// Calls `write` with the parts of a sentence that says what is wrong.
    fn tell(self, write: &mut dyn FnMut(Part)) {
        match self {
            FreeError::Foreign => {
                write(Part::Text("this pointer was not allocated here, or its memory is gone already"))
            }
            FreeError::DoubleFree => write(Part::Text("this block was freed already, or never handed out")),
            FreeError::Interior { offset, size } => {
                write(Part::Text("this pointer lies "));
                write(Part::Bytes(offset));
                write(Part::Text(" within a block of "));
                write(Part::Bytes(size));
                write(Part::Text(", not at its start"));
            }
            FreeError::WrongSize { said, actual } => {
                write(Part::Text("said to be "));
                write(Part::Bytes(said));
                write(Part::Text(" long, but this block has "));
                write(Part::Number(actual));
            }
            FreeError::WrongAlign { said, actual } => {
                write(Part::Text("said to be aligned to "));
                write(Part::Bytes(said));
                write(Part::Text(", but this block is aligned to "));
                write(Part::Number(actual));
            }
            FreeError::Underrun { before } => {
                write(Part::Text("memory before this block was written over, "));
                write(Part::Bytes(before));
                write(Part::Text(" from its start"));
            }
            FreeError::Overrun { behind } => {
                write(Part::Text("memory behind this block was written over, "));
                write(Part::Bytes(behind));
                write(Part::Text(" from its last"));
            }
        }
    }

    /// The line that tells it, in the making.
    pub(crate) fn line(self, what: &str, address: usize) -> Line {
        let mut line = Some(Line::new().text(what).text(" of ").address(address).text(": "));
        self.tell(&mut |part| {
            line = line.take().map(|line| match part {
                Part::Text(text) => line.text(text),
                Part::Number(number) => line.number(number),
                Part::Bytes(number) => line.count(number, "byte"),
            });
        });
        line.unwrap_or_else(Line::new).text(" (").text(self.name()).text(")")
    }
}

/// A part of a sentence.
enum Part {
    Text(&'static str),
    Number(usize),
    Bytes(usize),
}

impl fmt::Display for FreeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.name())?;
        let mut result = Ok(());
        self.tell(&mut |part| {
            result = result.and_then(|()| match part {
                Part::Text(text) => f.write_str(text),
                Part::Number(number) => write!(f, "{number}"),
                Part::Bytes(number) => write!(f, "{}", Bytes(number)),
            });
        });
        result
    }
}

impl core::error::Error for FreeError {}

/// Memory safety is lost already: says what is wrong with the pointer, and of which size class and node the block is that
/// it leads to; ends the process.
#[cold]
#[inline(never)]
pub(crate) fn fatal(what: &str, address: usize, error: FreeError) -> ! {
    about(error.line(what, address), address).text("; aborting").say();
    os::abort()
}

/// Adds the size class and the node that the headers name which an address leads to, if it leads to some.
pub(crate) fn about(line: Line, address: usize) -> Line {
    if !address_map::has_headers(address) {
        return line;
    }
    // SAFETY: headers stand there, since a range begins with what masking leads to.
    let segment = unsafe { SegmentPtr::of(address) };
    let slot = SlotIndex::of(address);
    let name_node = |line: Line, node: NodeIndex| match node == topology::spread() {
        true => line.text(", spread over nodes"),
        false => line.text(", node ").number(usize::from(topology::machine().id(node).number())),
    };
    match segment.owner_if_any(slot).decode() {
        Owner::Arena(_, back) => {
            let slab = Slab::at(segment, slot.minus(back));
            name_node(line.text("; size class ").size(slab.block_size()), slab.node())
        }
        Owner::Run(slots) => name_node(line.text("; run of ").size(slots * crate::segment::SLOT), segment.node()),
        Owner::RunInterior => name_node(line.text("; within a run"), segment.node()),
        Owner::Mapping | Owner::WatchedMapping => {
            // SAFETY: the owner word says so.
            let mapping = unsafe { Mapping::of(address) };
            let line = line.text("; mapping of ").size(mapping.length());
            // Where its pages are touched first decides, if nothing binds them.
            match (mapping.part(), mapping.node()) {
                (address_map::Part::FirstTouch(_), _) | (_, None) => line,
                (_, Some(node)) => name_node(line, node),
            }
        }
        Owner::Free => line,
    }
}

/// A block was freed that is the one freed last.
#[cold]
#[inline(never)]
pub(crate) extern "C" fn double_free(block: Block) -> ! {
    fatal("free", block.address(), FreeError::DoubleFree)
}

/// The link of a free block was found written over: somebody wrote to it after it was freed, or past the end of the block
/// before it.
#[cold]
#[inline(never)]
pub(crate) extern "C" fn corrupted_link(block: Block) -> ! {
    let line = Line::new().text("a free block was written to at ").address(block.address());
    let line = line.text(": its link leads nowhere (written after it was freed, or past the end of its neighbour)");
    about(line, block.address()).text("; aborting").say();
    os::abort()
}
