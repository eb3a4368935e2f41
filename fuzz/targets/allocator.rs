//! Sequences of the model's steps (`tests/common/model.rs`), made from the fuzzer's bytes.
//!
//! The fuzzer's own memory, the table and the threads' channels come from the system, so that the bytes alone decide
//! what the allocator does. What it freed is never purged by the clock, but by the step that trims: a sequence that fails
//! once fails again.
#![no_main]

#[path = "../../tests/common/mod.rs"]
mod common;
#[path = "../../tests/common/model.rs"]
mod model;

use std::sync::{LazyLock, Mutex, PoisonError};

use arbitrary::{Arbitrary, Unstructured};
use common::c_verbs::C;
use common::verbs_of;
use homing::Homing;
use libfuzzer_sys::fuzz_target;
use model::{ACTORS, Step, Team};

static HOMING: Homing = Homing::new().purge_delay_ms(None);
verbs_of!(Direct, HOMING);

/// Bytes that may be live at once, and that one sequence may ask for in all: a fuzzer lives on many short runs.
const MOST: usize = 128 << 20;
const IN_ALL: usize = 256 << 20;

/// The threads live on from one sequence to the next; each sequence ends with their arenas given up.
static TEAM: LazyLock<Mutex<Team>> = LazyLock::new(|| Mutex::new(Team::new()));

/// Which face is called, and what is done by it.
#[derive(Debug)]
struct Sequence {
    in_c: bool,
    steps: Vec<Step>,
}

impl<'bytes> Arbitrary<'bytes> for Sequence {
    fn arbitrary(bytes: &mut Unstructured<'bytes>) -> arbitrary::Result<Self> {
        let in_c = bytes.arbitrary::<u8>()? % 2 == 1;
        let (mut steps, mut asked) = (Vec::new(), 0);
        while !bytes.is_empty() && asked < IN_ALL {
            let step = step(bytes)?;
            asked += match &step {
                Step::Allocate { size, count, .. } => size * count,
                Step::AllocateOn { size, .. } | Step::Resize { size, .. } => *size,
                _ => 0,
            };
            steps.push(step);
        }
        Ok(Sequence { in_c, steps })
    }
}

fn step(bytes: &mut Unstructured) -> arbitrary::Result<Step> {
    let kind: u8 = bytes.arbitrary()?;
    let who = usize::from(kind >> 4) % ACTORS;
    Ok(match kind % 16 {
        0..=3 => {
            let (size, align) = (size(bytes)?, align(bytes)?);
            Step::Allocate { who, size, align, zeroed: kind % 2 == 1, count: 1 }
        }
        4 | 5 => {
            let (size, align) = (size(bytes)?, align(bytes)?);
            let most = ((4 << 20) / size.max(align).min(4 << 20)).clamp(1, 700);
            Step::Allocate { who, size, align, zeroed: kind % 2 == 1, count: 1 + which(bytes)? % most }
        }
        6 => Step::AllocateOn { who, size: size(bytes)?, align: align(bytes)?, node: bytes.arbitrary()? },
        7 | 8 => Step::Resize { who, which: which(bytes)?, size: size(bytes)? },
        9 => Step::Free { who, which: which(bytes)?, count: 1, stride: 1 },
        10 => {
            let (which, count, stride) = (which(bytes)?, 1 + which(bytes)? % 1000, bytes.arbitrary::<u8>()?);
            Step::Free { who, which, count, stride: 1 + usize::from(stride % 4) }
        }
        11 => Step::FreeFromNode { who, which: which(bytes)? },
        12 => Step::Read { who, which: which(bytes)? },
        13 if who > 0 && kind >= 0x80 => Step::Rebirth { who },
        13 => Step::CleanUp { who },
        14 => Step::Trim { who },
        _ => Step::Audit,
    })
}

/// Any number of a live block, or of blocks.
fn which(bytes: &mut Unstructured) -> arbitrary::Result<usize> {
    Ok(usize::from(bytes.arbitrary::<u16>()?))
}

/// From 1 byte to 64 MiB: a power of two, small ones more often, and a part of as much again.
fn size(bytes: &mut Unstructured) -> arbitrary::Result<usize> {
    let (doublings, part): (u8, u16) = bytes.arbitrary()?;
    let doublings = match doublings {
        0..=99 => doublings % 11,
        100..=199 => doublings % 17,
        _ => doublings % 26,
    };
    Ok((1 << doublings) + ((usize::from(part) << doublings) >> u16::BITS))
}

fn align(bytes: &mut Unstructured) -> arbitrary::Result<usize> {
    let shift: u8 = bytes.arbitrary()?;
    Ok(1 << if shift < 192 { shift % 5 } else { shift % 28 })
}

fuzz_target!(|sequence: Sequence| {
    let mut team = TEAM.lock().unwrap_or_else(PoisonError::into_inner);
    if sequence.in_c {
        model::run::<C>(&mut team, MOST, sequence.steps);
    } else {
        model::run::<Direct>(&mut team, MOST, sequence.steps);
    }
});
