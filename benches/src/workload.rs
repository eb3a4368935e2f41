//! What a benchmark is.

use crate::peers::Peer;

/// A piece of work that any allocator can do.
pub trait Workload: 'static {
    /// What lasts from pass to pass: tables, threads, live blocks.
    type State<P: Peer>: 'static;

    /// The group it belongs to, by which the command line chooses.
    fn group(&self) -> &'static str;

    /// Its name within the group.
    fn name(&self) -> String;

    /// How many blocks a pass takes from the allocator, by which its time is divided for display.
    fn blocks(&self) -> u64;

    /// Whether the allocator can do it at all.
    fn is_supported<P: Peer>(&self) -> bool {
        true
    }

    /// Everything that is not to be measured.
    fn prepare<P: Peer>(&self) -> Self::State<P>;

    /// Does the work once, and returns how many blocks it found damaged. The check is part of the work: a block that
    /// is never read again is no use to a program, and the time of an allocator that loses bytes is no use to anyone.
    fn pass<P: Peer>(state: &mut Self::State<P>) -> u64;
}
