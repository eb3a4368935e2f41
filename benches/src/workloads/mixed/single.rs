//! One thread.

use super::{LIVE, block};
use crate::block::Block;
use crate::peers::Peer;
use crate::rng::Rng;
use crate::workload::Workload;

/// Replacements in a pass.
const REPLACED: usize = 1000;

/// One thread replaces blocks at random.
pub struct Mixed;

/// The live blocks, and what chooses the next.
pub struct Heap<P: Peer> {
    rng: Rng,
    live: Vec<Block<P>>,
}

impl Workload for Mixed {
    type State<P: Peer> = Heap<P>;

    fn group(&self) -> &'static str {
        "mixed"
    }

    fn name(&self) -> String {
        "one thread".to_owned()
    }

    fn blocks(&self) -> u64 {
        REPLACED as u64
    }

    fn prepare<P: Peer>(&self) -> Heap<P> {
        let mut rng = Rng::new(7);
        let live = (0..LIVE).map(|_| block(&mut rng)).collect();
        Heap { rng, live }
    }

    #[inline(always)]
    fn pass<P: Peer>(heap: &mut Heap<P>) -> u64 {
        let mut damaged = 0;
        for _ in 0..REPLACED {
            let at = heap.rng.below(LIVE);
            damaged += u64::from(!heap.live[at].is_intact());
            heap.live[at] = block(&mut heap.rng);
        }
        damaged
    }
}
