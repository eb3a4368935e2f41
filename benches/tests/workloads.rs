//! Every workload with every allocator, watched: each call reaches the allocator, blocks lie where they may, and what
//! was written stays.

mod checked;

use checked::{Checked, record, reset};
use homing_benches::peers::turn::Turn;
use homing_benches::peers::{self, Peer, PeerId};
use homing_benches::workload::Workload;
use homing_benches::workloads;

/// Does one workload with one allocator.
struct Pass<'a, W>(&'a W);

impl<W: Workload> peers::Visitor for Pass<'_, W> {
    type Output = ();

    fn visit<P: Peer>(self) {
        let Self(workload) = self;
        if !workload.is_supported::<Checked<P>>() {
            return;
        }
        reset();
        let mut state = workload.prepare::<Checked<P>>();
        for _ in 0..2 {
            let before = record().taken();
            assert_eq!(W::pass::<Checked<P>>(&mut state), 0, "damaged blocks");
            assert_eq!(record().taken() - before, workload.blocks(), "blocks in a pass");
        }
        drop(state);

        let record = record();
        assert_eq!(record.allocated, record.freed);
        assert_eq!(record.live.len(), 0);
        assert_eq!(record.zeroed > 0, workload.group() == "zeroed");
        assert_eq!(record.resized > 0, workload.group() == "realloc");
    }
}

/// Does one workload with all allocators.
struct Each;

impl workloads::Visitor for Each {
    fn visit<W: Workload>(&mut self, workload: W) {
        for &peer in PeerId::all() {
            println!("{} {} {}", workload.group(), workload.name(), peer.name());
            let _turn = Turn::of(peer);
            peer.visit(Pass(&workload));
        }
    }
}

#[test]
fn every_workload_does_its_work_with_every_allocator() {
    workloads::visit(&mut Each);
}
