//! What the allocator would do for locality and cannot: each noted once, said where a person can act on it, and kept for
//! the statistics.

use crate::message::Line;
use crate::sync::{AtomicU32, Ordering};
use crate::topology::{self, NodeId};

/// What keeps memory from being placed as it should be, and why. All `None` and `false`: nothing does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shortfalls {
    /// The kernel refuses to bind memory to nodes (`mbind`): the error's number, as in `errno(3)`. Memory lies where it
    /// is first touched, which for most is the node of the thread that asked for it.
    pub binding: Option<i32>,
    /// The kernel does not tell on which node a thread runs (`getcpu`): the error's number. Every thread counts as one of
    /// the first node.
    pub tracking: Option<i32>,
    /// The kernel does not tell where pages lie, or does not move them (`move_pages`): the error's number. Pages that
    /// came to lie on another node because theirs was full stay there until they are freed.
    pub residence: Option<i32>,
    /// The distances between nodes are not known (there is no `/sys`): all count as equally far.
    pub distances_unknown: bool,
    /// The node that `HOMING_POLICY=prefer:N` names has no memory for this process: the policy is ignored.
    pub missing_node: Option<NodeId>,
}

/// A number that was noted, plus one; 0: none.
struct Noted(AtomicU32);

impl Noted {
    const fn new() -> Self {
        Noted(AtomicU32::new(0))
    }

    /// Notes the number. True the first time.
    fn note(&self, number: u32) -> bool {
        self.0.compare_exchange(0, number + 1, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    fn get(&self) -> Option<u32> {
        self.0.load(Ordering::Relaxed).checked_sub(1)
    }
}

static BINDING: Noted = Noted::new();
static TRACKING: Noted = Noted::new();
static RESIDENCE: Noted = Noted::new();
static MISSING: Noted = Noted::new();

/// All that was noted.
pub(crate) fn all() -> Shortfalls {
    let error = |noted: &Noted| noted.get().map(|error| error as i32);
    Shortfalls {
        binding: error(&BINDING),
        tracking: error(&TRACKING),
        residence: error(&RESIDENCE),
        distances_unknown: topology::machine().count() > 1 && !topology::machine().knows_distances(),
        missing_node: MISSING.get().map(|id| NodeId::new(id as u16)),
    }
}

/// Whether the kernel has refused to bind memory.
pub(super) fn binding_refused() -> bool {
    BINDING.get().is_some()
}

/// Whether the kernel has refused to tell where pages lie.
pub(super) fn residence_refused() -> bool {
    RESIDENCE.get().is_some()
}

pub(super) fn note_binding(error: i32) {
    if BINDING.note(error as u32) {
        Line::new()
            .text("the kernel refuses to bind memory to nodes (mbind: error ")
            .number(error as usize)
            .text("); memory lies where it is first touched")
            .say();
    }
}

pub(super) fn note_tracking(error: i32) {
    if TRACKING.note(error as u32) {
        Line::new()
            .text("the kernel does not tell on which node a thread runs (getcpu: error ")
            .number(error as usize)
            .text("); all memory is taken from the first node")
            .say();
    }
}

/// Of no use to people by itself: where this is refused, binding mostly is too, and said.
pub(super) fn note_residence(error: i32) {
    RESIDENCE.note(error as u32);
}

pub(super) fn note_missing(node: NodeId) {
    if MISSING.note(u32::from(node.number())) {
        Line::new()
            .text("HOMING_POLICY=prefer:")
            .number(usize::from(node.number()))
            .text(" is ignored: this process has no memory on a node of that number")
            .say();
    }
}
