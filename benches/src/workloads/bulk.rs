//! Many blocks of one size at once, freed in various orders: how lists of free blocks grow, shrink and mix.

use std::alloc::Layout;

use super::human;
use crate::block::Block;
use crate::peers::Peer;
use crate::rng::Rng;
use crate::workload::Workload;

const COUNT: usize = 1000;

/// In which order blocks are freed.
#[derive(Clone, Copy)]
pub enum Order {
    /// As they were allocated.
    Forward,
    /// The last first.
    Backward,
    /// In a random order, the same in each pass.
    Shuffled,
}

/// A thousand blocks of this size, all allocated and then all freed.
pub struct Bulk {
    /// In bytes.
    pub size: usize,
    /// Of the frees.
    pub order: Order,
}

/// The order of the frees, and a place for each block.
pub struct Table<P: Peer> {
    layout: Layout,
    order: Vec<usize>,
    blocks: Vec<Option<Block<P>>>,
}

impl Workload for Bulk {
    type State<P: Peer> = Table<P>;

    fn group(&self) -> &'static str {
        "bulk"
    }

    fn name(&self) -> String {
        let order = match self.order {
            Order::Forward => "forward",
            Order::Backward => "backward",
            Order::Shuffled => "shuffled",
        };
        format!("{}, {order}", human(self.size))
    }

    fn blocks(&self) -> u64 {
        COUNT as u64
    }

    fn prepare<P: Peer>(&self) -> Table<P> {
        let mut order: Vec<usize> = (0..COUNT).collect();
        match self.order {
            Order::Forward => {}
            Order::Backward => order.reverse(),
            Order::Shuffled => Rng::new(3).shuffle(&mut order),
        }
        Table {
            layout: Layout::from_size_align(self.size, 8).expect("a valid layout"),
            order,
            blocks: (0..COUNT).map(|_| None).collect(),
        }
    }

    #[inline(always)]
    fn pass<P: Peer>(table: &mut Table<P>) -> u64 {
        for place in &mut table.blocks {
            *place = Some(Block::new(table.layout));
        }
        let mut damaged = 0;
        for &at in &table.order {
            let block = table.blocks[at].take();
            damaged += u64::from(!block.is_some_and(|block| block.is_intact()));
        }
        damaged
    }
}
