//! The patrol: from time to time a pool asks the kernel where its pages lie, and has those brought home that came to lie
//! on another node because theirs was full when they were touched (MPOL_PREFERRED spills to the nearest node by itself).
//! The kernel moves them under their users' hands (move_pages(2)).
//!
//! It goes through the node's ranges by addresses, so that segments and large mappings bound to the node are
//! one to it: a granule at a time, of which a page in every 512 KiB is asked for, another one each round. Where one is
//! away, so is a page in every 64 KiB, and all pages of those 64 KiB are moved whose page is away. While the node has no
//! room the patrol waits longer and longer.
//!
//! On its way it looks whether the nodes that the process may use have changed.

use core::cell::Cell;
use core::num::NonZeroUsize;

use super::{Locked, look_at_allowed_nodes, part_of, shortfalls, spread};
use crate::address_map;
use crate::config;
use crate::os;
use crate::segment::{SLOT, SLOTS};
use crate::topology;

/// Milliseconds between two patrols, where nothing is ever purged.
const INTERVAL: u64 = 500;
/// Bytes that a patrol moves at most; beyond it, the next one goes on.
const MOVED_AT_ONCE: usize = 8 << 20;
/// Patrols that are left out at most while the node has no room.
const MOST_LEFT_OUT: u32 = 64;

/// Pages that are asked for at once. A few lines of the stack: it is cold when the patrol comes.
const AT_ONCE: usize = if SLOTS / SPARSE < 16 { SLOTS / SPARSE } else { 16 };
/// While all are home, a page in so many times 64 KiB is asked for.
const SPARSE: usize = 8;
const _: () = assert!(SLOTS.is_multiple_of(AT_ONCE * SPARSE));

/// What a pool's patrol remembers.
pub(super) struct Patrol {
    looked_at: Cell<u64>,
    /// The granule that is looked at next.
    granule: Cell<usize>,
    /// Rounds through all of the node's granules so far: decides which pages are asked for.
    round: Cell<usize>,
    /// Patrols to leave out, and how many they were the last time.
    leave_out: Cell<u32>,
    left_out: Cell<u32>,
}

impl Patrol {
    pub(super) const fn new() -> Self {
        Patrol {
            looked_at: Cell::new(0),
            granule: Cell::new(0),
            round: Cell::new(0),
            leave_out: Cell::new(0),
            left_out: Cell::new(0),
        }
    }
}

impl Patrol {
    /// The granule that is next, and the round that it is looked at in; `used_from` gives the number and the start of the
    /// first one in use from a number on. A round is one of all granules: by one for each of them, some granules would
    /// never be asked for some pages.
    fn advance(&self, used_from: impl Fn(usize) -> Option<(usize, usize)>) -> Option<(usize, usize)> {
        let (number, start) = used_from(self.granule.get()).or_else(|| {
            self.round.set(self.round.get().wrapping_add(1));
            used_from(0)
        })?;
        self.granule.set(number + 1);
        Some((start, self.round.get()))
    }
}

/// Where in each 512 KiB the page lies that is asked for in a round.
fn sample(round: usize, page: usize) -> usize {
    round % SPARSE * SLOT + round / SPARSE % pages_in_slot(page) * page
}

/// How many pages of that size a slot has: one at least.
fn pages_in_slot(page: usize) -> NonZeroUsize {
    SLOT.checked_div(page).and_then(NonZeroUsize::new).unwrap_or(NonZeroUsize::MIN)
}

/// What came of bringing a granule's pages home.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Found {
    AllHome,
    Moved(usize),
    /// The node has no room for them, or the kernel refuses.
    NoRoom,
}

impl Locked {
    /// Patrols if it is time.
    pub(crate) fn patrol_if_due(&self, now: u64) {
        let patrol = &self.inner().patrol;
        let delay = match config::current().purge_delay_ms {
            u64::MAX => INTERVAL,
            delay => (delay / 2).max(1),
        };
        if topology::machine().count() == 1 || now.wrapping_sub(patrol.looked_at.get()) < delay {
            return;
        }
        patrol.looked_at.set(now);
        look_at_allowed_nodes();
        if patrol.leave_out.get() > 0 {
            patrol.leave_out.set(patrol.leave_out.get() - 1);
            return;
        }
        if !self.can_patrol() {
            return;
        }
        let Some((start, round)) = patrol.advance(|number| self.granule_from(number)) else { return };
        let found = match self.find_away(start, round) {
            Ok(true) => self.bring_granule_home(start, round / SPARSE, MOVED_AT_ONCE),
            Ok(false) => Found::AllHome,
            Err(found) => found,
        };
        match found {
            Found::NoRoom => {
                let wait = (patrol.left_out.get() * 2).clamp(1, MOST_LEFT_OUT);
                patrol.left_out.set(wait);
                patrol.leave_out.set(wait);
            }
            Found::AllHome | Found::Moved(_) => patrol.left_out.set(0),
        }
    }

    /// Patrols all of it now, until the node has no room.
    pub(crate) fn patrol_all(&self) {
        if topology::machine().count() == 1 {
            return;
        }
        look_at_allowed_nodes();
        let patrol = &self.inner().patrol;
        patrol.leave_out.set(0);
        patrol.left_out.set(0);
        let mut next = if self.can_patrol() { self.granule_from(0) } else { None };
        while let Some((number, start)) = next {
            // Every page, one of each 64 KiB at a time.
            for round in 0..pages_in_slot(os::page_size()).get() {
                if self.bring_granule_home(start, round, usize::MAX) == Found::NoRoom {
                    return;
                }
            }
            next = self.granule_from(number + 1);
        }
    }

    fn granule_from(&self, number: usize) -> Option<(usize, usize)> {
        address_map::used_granule(part_of(self.node()), number)
    }

    fn can_patrol(&self) -> bool {
        self.node() != spread()
            && !shortfalls::binding_refused()
            && !shortfalls::residence_refused()
            && topology::machine().is_usable(self.node())
    }

    /// Whether one page in every 512 KiB of the granule at that address lies on another node.
    fn find_away(&self, start: usize, round: usize) -> Result<bool, Found> {
        let home = i32::from(topology::machine().id(self.node()).number());
        let in_part = sample(round, os::page_size());
        for first in (0..SLOTS).step_by(AT_ONCE * SPARSE) {
            let nodes = ask(|index| start + (first + index * SPARSE) * SLOT + in_part)?;
            if nodes.iter().any(|node| *node >= 0 && *node != home) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Asks for a page in every 64 KiB of the granule at that address, and moves those that are away.
    fn bring_granule_home(&self, start: usize, round: usize, most: usize) -> Found {
        let page = os::page_size();
        let home = i32::from(topology::machine().id(self.node()).number());
        let in_slot = round % pages_in_slot(page) * page;
        let mut moved = 0;
        for first in (0..SLOTS).step_by(AT_ONCE) {
            let slot_of = |index: usize| start + (first + index) * SLOT;
            let nodes = match ask(|index| slot_of(index) + in_slot) {
                Ok(nodes) => nodes,
                Err(found) => return found,
            };
            for index in (0..AT_ONCE).filter(|index| nodes[*index] >= 0 && nodes[*index] != home) {
                if !bring_slot_home(slot_of(index), home) {
                    return Found::NoRoom;
                }
                moved += SLOT;
                if moved >= most {
                    return Found::Moved(moved);
                }
            }
        }
        if moved == 0 { Found::AllHome } else { Found::Moved(moved) }
    }
}

/// The kernel's nodes of so many pages; a negative number for what is not in memory.
fn ask(page: impl FnMut(usize) -> usize) -> Result<[i32; AT_ONCE], Found> {
    let pages: [usize; AT_ONCE] = core::array::from_fn(page);
    let mut nodes = [0; AT_ONCE];
    match os::where_are(&pages, &mut nodes) {
        Ok(()) => Ok(nodes),
        Err(error) => {
            shortfalls::note_residence(error);
            Err(Found::NoRoom)
        }
    }
}

/// Moves the pages of 64 KiB. False where the node has no room for them; what cannot be moved for other reasons (a page
/// that a forked child shares) stays where it is.
fn bring_slot_home(start: usize, home: i32) -> bool {
    let page = os::page_size();
    const MOST: usize = SLOT / 4096;
    let count = pages_in_slot(page).get().min(MOST);
    let pages: [usize; MOST] = core::array::from_fn(|index| start + index * page);
    let mut nodes = [0_i32; MOST];
    match os::move_to_node(&pages[..count], home, &mut nodes[..count]) {
        Ok(()) => !nodes[..count].contains(&-os::ENOMEM),
        Err(error) => {
            if error == os::EPERM || error == os::ENOSYS {
                shortfalls::note_residence(error);
            }
            error != os::EPERM && error != os::ENOSYS && error != os::ENOMEM
        }
    }
}

/// Sees to it that memory which was used before is where it is to be: if a sample of its pages lies on another node than
/// `wanted`, all of them go back to the kernel, so that they are touched anew, if `helps` says that this helps. True where
/// that was done, and all of it is zero.
pub(crate) fn settle(
    start: core::ptr::NonNull<u8>,
    size: usize,
    wanted: topology::NodeId,
    helps: impl Fn() -> bool,
) -> bool {
    const SAMPLE: usize = 16;
    if shortfalls::residence_refused() {
        return false;
    }
    let page = os::page_size();
    let pages = size.checked_div(page).unwrap_or(0);
    let sample: [usize; SAMPLE] =
        core::array::from_fn(|index| start.as_ptr() as usize + (pages * index / SAMPLE) * page);
    let mut nodes = [0_i32; SAMPLE];
    if let Err(error) = os::where_are(&sample, &mut nodes) {
        shortfalls::note_residence(error);
        return false;
    }
    let away = nodes.iter().any(|node| *node >= 0 && *node != i32::from(wanted.number()));
    // SAFETY: callers pass a committed block that nobody uses.
    away && helps() && unsafe { os::purge(start, size) }
}

#[cfg(all(test, not(homing_loom)))]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_page_of_every_granule_is_asked_for_some_time() {
        for page in [4096, 16 << 10, 64 << 10] {
            let places = SPARSE * SLOT / page;
            for granules in [1, 2, 3, 8, 100, 128] {
                let patrol = Patrol::new();
                let used_from = |number| (number < granules).then_some((number, number));
                let patrols = (places + 1) * granules;
                let asked: HashSet<_> = (0..patrols)
                    .filter_map(|_| patrol.advance(used_from))
                    .map(|(granule, round)| (granule, sample(round, page)))
                    .collect();
                assert_eq!(asked.len(), places * granules, "{granules} granules, pages of {page}");
            }
        }
    }
}
