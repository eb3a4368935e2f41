//! Leaks: blocks that nothing points to any more when the process exits.
//!
//! A block is reached if an address within it stands anywhere in the process's writable memory that is not the allocator's
//! (statics, stacks, thread-local storage, mappings of the program's own), or in a block that is reached. This errs on the
//! side of silence: any word that looks like an address counts as one (Boehm and Weiser, "Garbage Collection in an
//! Uncooperative Environment", 1988).

use core::cell::Cell;

use super::record::Watched;
use super::{each_watched, report};
use crate::address_map::{self, GRANULE, granule_start};
use crate::arith::{align_down, align_up};
use crate::message::Line;
use crate::sync::{AtomicBool, Ordering};
use crate::{os, place};

/// Leaks that are told one by one, at most: blocks allocated at the same place count as one.
const TOLD: usize = 32;
/// Words that are read of other memory at a time.
const CHUNK: usize = 512;

/// Blocks that are reached, and whose own words are still to be looked at.
struct Found(Cell<Option<Watched>>);

impl Found {
    fn look_at(&self, word: usize) {
        if let Some(watched) = Watched::holding(word)
            && watched.reach()
        {
            watched.set_next_found(self.0.replace(Some(watched)));
        }
    }
}

/// Set while leaks are looked for.
static SEARCH: AtomicBool = AtomicBool::new(false);

/// Whether leaks are being looked for.
pub(super) fn are_looked_for() -> bool {
    SEARCH.load(Ordering::Relaxed)
}

/// How far what lies at an address before `end` is alike, and whether it is the allocator's: then it is not looked through.
/// Blocks that were served in an emergency are the program's here.
fn stretch(at: usize, end: usize) -> (usize, bool) {
    let granule_end = end.min(granule_start(at) + GRANULE);
    let Some(granule) = address_map::range_around(at) else { return (granule_end, false) };
    let Some(mapping) = place::mapping_at(granule) else {
        // A segment, or a mapping that waits to be used again: nothing is kept in it.
        return (granule_end, true);
    };
    let mapping_end = mapping.block().as_ptr() as usize + mapping.length();
    match at < mapping_end {
        true => (end.min(mapping_end), place::is_watched(mapping)),
        // What else lies in the granule is not the allocator's.
        false => (granule_end, false),
    }
}

/// Looks for leaks and tells them on standard error.
#[inline(never)]
pub(super) fn report() {
    SEARCH.store(true, Ordering::Relaxed);
    search();
    SEARCH.store(false, Ordering::Relaxed);
}

#[inline(never)]
fn search() {
    let mut buffer = [0_usize; CHUNK];
    // What lies below on this thread's stack is left from calls that have returned.
    let here = buffer.as_ptr() as usize;
    let found = Found(Cell::new(None));
    let has_maps = os::each_writable_mapping(|start, end| {
        let end = align_down(end, size_of::<usize>());
        let mut at = if (start..end).contains(&here) { here + size_of_val(&buffer) } else { start };
        while at < end {
            let (stop, is_own) = stretch(at, end);
            if is_own {
                at = stop;
                continue;
            }
            let wanted = ((stop - at) / size_of::<usize>()).clamp(1, CHUNK);
            let Some(read) = buffer.get_mut(..wanted).and_then(|words| os::read_memory(at, words)) else {
                // A page that cannot be read though its mapping can, such as a guard, or one that has gone since.
                at = align_down(at, os::page_size()) + os::page_size();
                continue;
            };
            buffer.iter().take(read).for_each(|word| found.look_at(*word));
            at += read * size_of::<usize>();
        }
    });
    if !has_maps || !os::can_read_memory() {
        Line::new().text("leaks cannot be looked for: the process may not read its own memory by system calls").say();
        return;
    }
    while let Some(watched) = found.0.get() {
        found.0.set(watched.next_found());
        if !watched.is_live() || !watched.is_whole() {
            continue;
        }
        let (user, size) = (watched.user(), watched.size());
        let first = user.as_ptr() as usize;
        let before = align_up(first, 8).map_or(0, |word| word - first);
        for offset in (before..size.saturating_sub(7)).step_by(8) {
            // SAFETY: a word of a live block, at a multiple of its size; whatever stands there is taken for a number.
            found.look_at(unsafe { user.add(offset).cast::<usize>().read_volatile() });
        }
    }
    tell();
}

/// Tells what was not reached.
fn tell() {
    let (mut blocks, mut bytes, mut places) = (0, 0, 0);
    each_watched(|leak, _| {
        if !leak.is_unreached() {
            return;
        }
        let (mut alike, mut alike_bytes) = (0, 0);
        if places < TOLD {
            let place = leak.stacks().0;
            each_watched(|other, _| {
                if other.is_unreached() && other.stacks().0 == place {
                    alike += 1;
                    alike_bytes += other.size();
                    other.reach();
                }
            });
            places += 1;
            let line =
                Line::new().text("leak of ").size(alike_bytes).text(" in ").count(alike, "block").text(", one at ");
            line.address(leak.user().as_ptr() as usize).say();
            report::say_history(leak);
        } else {
            (alike, alike_bytes) = (1, leak.size());
        }
        blocks += alike;
        bytes += alike_bytes;
    });
    if blocks > 0 {
        Line::new().text("leaks: ").size(bytes).text(" in ").count(blocks, "block").text(" in all").say();
    }
}
