//! Frees that say what is wrong instead of ending the process. Every test holds in debug mode too: the last one runs them
//! all once more in a process of its own. The test's own memory comes from the system.

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::process::Command;
use std::thread;

use common::alone;
use homing::{FreeError, Homing, try_dealloc, try_free};

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();

/// Of slabs, runs and mappings; the last has more than one granule.
const SIZES: [usize; 8] = [1, 24, 100, 5000, 60_000, 200_000, 5 << 20, 70 << 20];
const BYTE: u8 = 0x3c;

fn is_watched() -> bool {
    std::env::var_os("HOMING_DEBUG").is_some()
}

/// A block that is live until `give` succeeds.
#[derive(Clone, Copy)]
struct Block {
    start: *mut u8,
    layout: Layout,
}

// SAFETY: any thread may use and free a block, and tests see to it that one at a time does.
unsafe impl Send for Block {}

impl Block {
    fn aligned(size: usize, align: usize) -> Self {
        let layout = Layout::from_size_align(size, align).expect("a layout can have that size");
        // SAFETY: the size is not 0.
        let start = unsafe { HOMING.alloc(layout) };
        assert!(!start.is_null(), "no memory for {layout:?}");
        // SAFETY: the block is so long.
        unsafe { start.write_bytes(BYTE, size) };
        Block { start, layout }
    }

    fn of(size: usize) -> Self {
        Self::aligned(size, 8)
    }

    fn at(self, offset: usize) -> *mut u8 {
        self.start.wrapping_add(offset)
    }

    fn give(self) -> Result<(), FreeError> {
        // SAFETY: nothing uses the block any more; where it is free already, that is what the test is about.
        unsafe { try_free(self.start) }
    }

    /// That it is as it was, whatever was tried; frees it.
    fn intact(self, after: &str) {
        // SAFETY: the block is live.
        let bytes = unsafe { std::slice::from_raw_parts(self.start, self.layout.size()) };
        assert!(bytes.iter().all(|byte| *byte == BYTE), "{after}: a byte of {:?} has changed", self.layout);
        // SAFETY: the block is live, of that layout, and not used any more.
        let freed = unsafe { try_dealloc(self.start, self.layout) };
        assert_eq!(freed, Ok(()), "{after}: {:?}", self.layout);
        // SAFETY: no other thread is inside; tests keep apart.
        unsafe { homing::audit() }.unwrap_or_else(|error| panic!("{after}: {error}"));
    }
}

/// What comes of a pointer that is no block.
fn free(pointer: *mut u8) -> Result<(), FreeError> {
    // SAFETY: not the pointer of a live block.
    unsafe { try_free(pointer) }
}

#[test]
fn null_is_fine_and_nothing() {
    let _alone = alone();
    assert_eq!(free(std::ptr::null_mut()), Ok(()));
    // SAFETY: null.
    assert_eq!(unsafe { try_dealloc(std::ptr::null_mut(), Layout::new::<u64>()) }, Ok(()));
}

/// Not on the portable twin: other memory of the process lies in the same 32 MiB as a mapping there, and is taken for what
/// was freed while that waits to be used again.
#[test]
#[cfg(all(target_os = "linux", not(feature = "portable")))]
fn what_is_not_the_allocators_is_foreign() {
    let _alone = alone();
    // The allocator is there, so that its ranges are.
    let live: Vec<_> = SIZES.map(Block::of).into();
    let mut here = 0_u64;
    static THERE: u64 = 0;
    // Within granules, at their starts, where null masks to, and where no process has memory.
    let made_up = [1, 8, 4096, 1 << 25, (1 << 25) + 8, 1 << 40, (1 << 47) - 8, 1 << 63, usize::MAX, usize::MAX - 7];
    let own = [(&raw mut here).cast(), (&raw const THERE).cast_mut().cast(), free as *const () as *mut u8];
    let system = Layout::new::<[u8; 1000]>();
    // SAFETY: the size is not 0.
    let of_the_system = unsafe { System.alloc(system) };
    let made_up = made_up.into_iter().map(std::ptr::without_provenance_mut);
    let systems = [of_the_system, of_the_system.wrapping_add(64)];
    for pointer in made_up.chain(own).chain(systems) {
        assert_eq!(free(pointer), Err(FreeError::Foreign), "{pointer:p}");
        // SAFETY: not the pointer of a live block.
        assert_eq!(unsafe { try_dealloc(pointer, system) }, Err(FreeError::Foreign), "{pointer:p}");
    }
    // SAFETY: the system's own block.
    unsafe { System.dealloc(of_the_system, system) };
    live.into_iter().for_each(|block| block.intact("after foreign pointers"));
}

#[test]
fn a_pointer_into_a_block_is_interior_and_told_how_far() {
    let _alone = alone();
    for size in SIZES.into_iter().filter(|size| *size > 16) {
        let block = Block::of(size);
        for offset in [1, 8, 16, size / 2, size - 1].into_iter().chain((size > 40 << 20).then_some(36 << 20)) {
            match free(block.at(offset)) {
                Err(FreeError::Interior { offset: told, size: whole }) => {
                    assert_eq!(told, offset, "of {size} bytes");
                    assert!(whole == size || whole > size && !is_watched(), "{whole} for {size} bytes");
                }
                other => panic!("{offset} within {size} bytes: {other:?}"),
            }
        }
        block.intact("after pointers into it");
    }
}

#[test]
fn a_pointer_into_a_mapping_is_interior_wherever_masking_leads() {
    let _alone = alone();
    for size in [20 << 20, 30 << 20, 60 << 20] {
        let block = Block::of(size);
        for offset in (1..size >> 16).map(|slot| slot << 16) {
            let told = free(block.at(offset));
            assert!(
                matches!(told, Err(FreeError::Interior { offset: told, .. }) if told == offset),
                "{offset}: {told:?}"
            );
        }
        block.intact("after pointers into each slot of it");
    }
}

#[test]
fn what_was_never_handed_out_is_told_from_what_was() {
    const SIZE: usize = 7168;
    let _alone = alone();
    // Enough that what others have freed is used up, and then until another block fits behind in its 64 KiB.
    let mut blocks: Vec<_> = (0..200).map(|_| Block::of(SIZE)).collect();
    while blocks.last().is_some_and(|last| (last.start as usize) % 65_536 + 2 * SIZE > 65_536) {
        blocks.push(Block::of(SIZE));
    }
    let last = *blocks.last().expect("some were taken");
    if !is_watched() {
        assert_eq!(free(last.at(SIZE)), Err(FreeError::DoubleFree));
    }
    blocks.into_iter().for_each(|block| block.intact("after a block that never was"));
}

#[test]
fn what_this_thread_has_freed_is_a_double_free() {
    let _alone = alone();
    // Before its neighbour is used, and long after; what waits in between stays where it is.
    for size in SIZES {
        let (first, second, last) = (Block::of(size), Block::of(size), Block::of(size));
        for block in [first, second] {
            assert_eq!(block.give(), Ok(()), "{size}");
            let again = block.give();
            // A mapping's addresses may have gone back, and be nobody's.
            let is_gone = size > 2 << 20 && again == Err(FreeError::Foreign);
            assert!(again == Err(FreeError::DoubleFree) || is_gone, "{size}: {again:?}");
        }
        assert!(first.give().is_err() && second.give().is_err(), "{size}");
        last.intact("after double frees beside it");
    }
}

#[test]
fn what_lies_in_pages_that_went_back_is_a_double_free() {
    let _alone = alone();
    for size in [24, 100, 5000, 20_000] {
        let each = if size > 8 << 10 { 14 } else { (64 << 10) / size * 2 / 3 };
        let blocks: Vec<_> = (0..(4 << 20) / size).map(|_| Block::of(size)).collect();
        let (stay, go): (Vec<_>, Vec<_>) = blocks.iter().enumerate().partition(|(number, _)| number % each == 0);
        go.iter().for_each(|(_, block)| assert_eq!(block.give(), Ok(()), "{size}"));
        homing::entry::trim();
        // Most of the slabs are still there, but for a few pages.
        let again = go.iter().step_by(7).map(|(_, block)| block.give());
        again.for_each(|again| assert_eq!(again, Err(FreeError::DoubleFree), "{size}"));
        stay.iter().for_each(|(_, block)| block.intact("among pages that went back"));
    }
}

/// An arena keeps them at hand as they were.
#[test]
fn a_pointer_into_a_run_that_was_freed_is_a_double_free_wherever_it_leads() {
    let _alone = alone();
    for size in [100_000, 200_000, 1 << 20] {
        let (block, beside) = (Block::of(size), Block::of(size));
        assert_eq!(block.give(), Ok(()), "{size}");
        for offset in (0..size).step_by(4096) {
            assert_eq!(free(block.at(offset)), Err(FreeError::DoubleFree), "{offset} of {size}");
        }
        beside.intact("after double frees beside it");
    }
}

#[test]
fn what_another_thread_has_freed_is_a_double_free_once_that_thread_has_ended() {
    let _alone = alone();
    for size in SIZES {
        let (block, beside) = (Block::of(size), Block::of(size));
        thread::spawn(move || assert_eq!({ block }.give(), Ok(()), "{size}")).join().unwrap();
        let again = block.give();
        let is_gone = size > 2 << 20 && again == Err(FreeError::Foreign);
        assert!(again == Err(FreeError::DoubleFree) || is_gone, "{size}: {again:?}");
        beside.intact("after a double free in two threads");
    }
}

#[test]
fn blocks_of_a_thread_that_has_ended_are_known_as_those_of_others() {
    let _alone = alone();
    for size in SIZES {
        let (kept, freed) = thread::spawn(move || {
            let freed = Block::of(size);
            let kept = Block::of(size);
            assert_eq!(freed.give(), Ok(()));
            (kept, freed)
        })
        .join()
        .unwrap();
        assert!(freed.give().is_err(), "{size}");
        if size > 1 {
            assert!(matches!(free(kept.at(1)), Err(FreeError::Interior { offset: 1, .. })), "{size}");
        }
        kept.intact("after its thread has ended");
    }
}

#[test]
fn a_thread_past_its_end_frees_and_is_told_too() {
    struct Last(Block);

    impl Drop for Last {
        fn drop(&mut self) {
            // What the thread had is given up before this.
            homing::thread_cleanup();
            assert!(matches!(free(self.0.at(3)), Err(FreeError::Interior { offset: 3, .. })));
            assert_eq!(self.0.give(), Ok(()));
            assert_eq!(self.0.give(), Err(FreeError::DoubleFree));
        }
    }

    thread_local!(static LAST: std::cell::RefCell<Option<Last>> = const { std::cell::RefCell::new(None) });
    let _alone = alone();
    for size in [24, 5000, 200_000] {
        thread::spawn(move || LAST.set(Some(Last(Block::of(size))))).join().unwrap();
    }
}

#[test]
fn a_wrong_size_or_alignment_is_told_and_frees_nothing() {
    let _alone = alone();
    for size in SIZES {
        let block = Block::aligned(size, 64);
        let said = size * 3 + 4096;
        // SAFETY: the block is live; where it would be freed, the test fails.
        let wrong = |size, align| unsafe { try_dealloc(block.start, Layout::from_size_align(size, align).unwrap()) };
        match wrong(said, 64) {
            Err(FreeError::WrongSize { said: told, actual }) => {
                assert_eq!(told, said);
                assert!(actual == size || actual >= size && !is_watched(), "{actual} for {size} bytes");
            }
            other => panic!("{size} bytes said to be {said}: {other:?}"),
        }
        if is_watched() {
            assert_eq!(wrong(size + 1, 64), Err(FreeError::WrongSize { said: size + 1, actual: size }));
            assert_eq!(wrong(size, 32), Err(FreeError::WrongAlign { said: 32, actual: 64 }));
        }
        let far = 1 << 30;
        let whole = block.layout.size();
        let told = wrong(whole, far);
        assert!(
            matches!(told, Err(FreeError::WrongAlign { said, .. } | FreeError::WrongSize { said, .. }) if said == far || said == whole),
            "{size}: {told:?}"
        );
        block.intact("after wrong layouts");
    }
}

#[test]
fn every_right_layout_is_accepted_also_after_realloc() {
    let _alone = alone();
    for align in [1, 8, 64, 4096, 65_536, 1 << 20, 64 << 20] {
        for size in SIZES.into_iter().filter(|size| *size < 10 << 20) {
            Block::aligned(size, align).intact("new");
            let block = Block::aligned(size, align);
            for new in [size.div_ceil(2), size + size / 4 + 1, size * 2] {
                let Block { start, layout } = Block::aligned(size, align);
                // SAFETY: a live block of that layout.
                let start = unsafe { HOMING.realloc(start, layout, new) };
                assert!(!start.is_null());
                // SAFETY: the block is so long.
                unsafe { start.write_bytes(BYTE, new) };
                Block { start, layout: Layout::from_size_align(new, align).unwrap() }.intact("moved");
            }
            block.intact("beside others");
        }
    }
}

#[test]
fn bytes_written_around_a_block_are_told_in_debug_mode_and_free_nothing() {
    let _alone = alone();
    for size in SIZES.into_iter().filter(|_| is_watched()) {
        let block = Block::of(size);
        for (offset, wanted) in [
            (size as isize, FreeError::Overrun { behind: 1 }),
            (size as isize + 7, FreeError::Overrun { behind: 8 }),
            (-1, FreeError::Underrun { before: 1 }),
            (-12, FreeError::Underrun { before: 12 }),
        ] {
            let beside = block.start.wrapping_offset(offset);
            // SAFETY: within what the debug mode keeps around the block; put back before anybody else looks.
            let before = unsafe { beside.replace(b'!') };
            assert_eq!(block.give(), Err(wanted), "{size}");
            // SAFETY: likewise.
            unsafe { beside.write(before) };
        }
        block.intact("after it was mended");
    }
}

#[test]
fn each_error_says_in_a_sentence_what_is_wrong() {
    let cases = [
        (FreeError::Foreign, "foreign pointer: ", ""),
        (FreeError::DoubleFree, "double free: ", "freed already"),
        (FreeError::Interior { offset: 7, size: 99 }, "interior pointer: ", "7 bytes within a block of 99 bytes"),
        (
            FreeError::WrongSize { said: 7, actual: 99 },
            "wrong size: ",
            "said to be 7 bytes long, but this block has 99",
        ),
        (
            FreeError::WrongAlign { said: 8, actual: 64 },
            "wrong alignment: ",
            "aligned to 8 bytes, but this block is aligned to 64",
        ),
        (FreeError::Underrun { before: 1 }, "underrun: ", "was written over, 1 byte from its start"),
        (
            FreeError::Interior { offset: 1, size: 8 },
            "interior pointer: ",
            "lies 1 byte within a block of 8 bytes, not",
        ),
        (FreeError::Underrun { before: 3 }, "underrun: ", "before this block was written over, 3 bytes from its start"),
        (FreeError::Overrun { behind: 4 }, "overrun: ", "behind this block was written over, 4 bytes from its last"),
    ];
    for (error, name, rest) in cases {
        let text = error.to_string();
        assert!(text.starts_with(name) && text.contains(rest), "{error:?}: {text}");
        assert!(std::error::Error::source(&error).is_none());
    }
}

#[test]
fn all_of_it_holds_in_debug_mode_whoever_freed() {
    if is_watched() {
        let _alone = alone();
        // What a thread has freed that lives on is known here, and only here.
        let block = Block::of(500);
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let (say, hear) = std::sync::mpsc::channel();
        let other = thread::spawn(move || {
            say.send({ block }.give()).unwrap();
            _ = wait.recv();
        });
        assert_eq!(hear.recv().unwrap(), Ok(()));
        assert_eq!(block.give(), Err(FreeError::DoubleFree));
        drop(go);
        return other.join().unwrap();
    }
    let output = Command::new(std::env::current_exe().unwrap()).env("HOMING_DEBUG", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}
