//! Blocks of mixed sizes that must start at a multiple of more than any size asks for.

use std::alloc::Layout;

use super::human;
use crate::block::Block;
use crate::peers::Peer;
use crate::rng::Rng;
use crate::workload::Workload;

const COUNT: usize = 100;

/// A hundred blocks of mixed sizes, allocated and then freed in a random order.
pub struct Aligned {
    /// In bytes.
    pub align: usize,
}

/// What to allocate, the order of the frees, and a place for each block.
pub struct Table<P: Peer> {
    layouts: Vec<Layout>,
    order: Vec<usize>,
    blocks: Vec<Option<Block<P>>>,
}

impl Aligned {
    fn layouts(&self) -> Vec<Layout> {
        let mut rng = Rng::new(4);
        let layout = |size| Layout::from_size_align(size, self.align).expect("a valid layout");
        (0..COUNT).map(|_| layout(rng.size(16, 10))).collect()
    }
}

impl Workload for Aligned {
    type State<P: Peer> = Table<P>;

    fn group(&self) -> &'static str {
        "aligned"
    }

    fn name(&self) -> String {
        human(self.align)
    }

    fn blocks(&self) -> u64 {
        COUNT as u64
    }

    /// rpmalloc refuses alignments of 64 KiB and more.
    fn is_supported<P: Peer>(&self) -> bool {
        self.layouts().into_iter().all(|layout| Block::<P>::try_new(layout).is_some())
    }

    fn prepare<P: Peer>(&self) -> Table<P> {
        let mut order: Vec<usize> = (0..COUNT).collect();
        Rng::new(5).shuffle(&mut order);
        Table { layouts: self.layouts(), order, blocks: (0..COUNT).map(|_| None).collect() }
    }

    #[inline(always)]
    fn pass<P: Peer>(table: &mut Table<P>) -> u64 {
        for (place, &layout) in table.blocks.iter_mut().zip(&table.layouts) {
            *place = Some(Block::new(layout));
        }
        let mut damaged = 0;
        for &at in &table.order {
            let block = table.blocks[at].take();
            damaged += u64::from(!block.is_some_and(|block| block.is_aligned() && block.is_intact()));
        }
        damaged
    }
}
