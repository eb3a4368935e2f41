//! Random sequences of operations on the pool of one node against a model that knows where each block must come to lie:
//! every address, every refusal, every figure is predicted.

mod common;

use std::alloc::{Layout, System};
use std::collections::BTreeMap;
use std::ptr::NonNull;

use common::pattern;
use homing::{NodeId, NodePools, NodePoolsConfig, NodePoolsError, NodePoolsStats, Topology};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[global_allocator]
static OWN: System = System;

// The portable twin is slow to find addresses for blocks that are aligned far.
const CASES: u32 = if cfg!(feature = "portable") { 100 } else { 1000 };
const GRANULE: usize = 16;
const REGION: usize = 16 << 10;
/// Four regions and a half.
const LIMIT: usize = REGION * 9 / 2;

#[derive(Clone, Debug)]
enum Step {
    Allocate {
        size: usize,
        align: usize,
        zeroed: bool,
    },
    Free {
        which: usize,
        how: How,
    },
    Resize {
        which: usize,
        size: usize,
    },
    /// What lies at so many bytes from the start of a region.
    Probe {
        which: usize,
        offset: usize,
    },
    Trim,
}

#[derive(Clone, Copy, Debug)]
enum How {
    Plainly,
    WithLayout,
    FromNode,
    /// A second time too.
    Twice,
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        1 => Just(0_usize),
        8 => 1..200_usize,
        6 => 200..5000_usize,
        2 => 5000..=REGION,
        1 => REGION + 1..2 * REGION,
        1 => Just(LIMIT - 100),
        1 => Just(isize::MAX as usize - (64 << 20)),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let align = prop_oneof![6 => 0_u32..=4, 3 => 5_u32..=14, 1 => 15_u32..=26].prop_map(|shift| 1_usize << shift);
    let how = prop_oneof![Just(How::Plainly), Just(How::WithLayout), Just(How::FromNode), Just(How::Twice)];
    prop_oneof![
        12 => (size(), align, any::<bool>()).prop_map(|(size, align, zeroed)| Step::Allocate { size, align, zeroed }),
        9 => (any::<usize>(), how).prop_map(|(which, how)| Step::Free { which, how }),
        4 => (any::<usize>(), size()).prop_map(|(which, size)| Step::Resize { which, size }),
        3 => (any::<usize>(), 0..REGION).prop_map(|(which, offset)| Step::Probe { which, offset }),
        1 => Just(Step::Trim),
    ]
}

/// A live block: its length, what was asked for, and the pattern it is full of.
struct Block {
    length: usize,
    asked: usize,
    seed: u64,
}

struct Region {
    size: usize,
    /// Whether it is one block's.
    is_own: bool,
    /// By address.
    blocks: BTreeMap<usize, Block>,
}

impl Region {
    /// The gaps between live blocks: start and end.
    fn gaps(&self, start: usize) -> Vec<(usize, usize)> {
        let mut gaps = Vec::new();
        let mut from = start;
        for (address, block) in &self.blocks {
            if from < *address {
                gaps.push((from, *address));
            }
            from = address + block.length;
        }
        if from < start + self.size {
            gaps.push((from, start + self.size));
        }
        gaps
    }
}

struct Model {
    pools: NodePools,
    node: NodeId,
    /// By address.
    regions: BTreeMap<usize, Region>,
    expected: NodePoolsStats,
    seeds: u64,
}

fn pointer(address: usize) -> NonNull<u8> {
    NonNull::new(std::ptr::with_exposed_provenance_mut(address)).expect("blocks are not at null")
}

/// Where the first gap is that has room.
fn first_fit(gaps: &[(usize, usize)], length: usize, align: usize) -> Option<usize> {
    gaps.iter().find_map(|(from, to)| {
        let start = from.next_multiple_of(align.max(GRANULE));
        (start + length <= *to).then_some(start)
    })
}

impl Model {
    fn new() -> Self {
        let usable = |node: &&homing::Node| node.is_allowed() && node.memory().total != Some(0);
        let node = Topology::read().nodes().iter().find(usable).expect("there is one").id();
        Model {
            pools: NodePools::with(NodePoolsConfig::new().pool_size(REGION).limit(LIMIT)),
            node,
            regions: BTreeMap::new(),
            expected: NodePoolsStats::default(),
            seeds: 0,
        }
    }

    fn reserved(&self) -> usize {
        self.regions.values().map(|region| region.size).sum()
    }

    fn empty(&self) -> Option<usize> {
        let is_empty = |(start, region): (&usize, &Region)| region.blocks.is_empty().then_some(*start);
        let empty: Vec<_> = self.regions.iter().filter_map(is_empty).collect();
        assert!(empty.len() <= 1);
        empty.first().copied()
    }

    /// The live block of that number: its region's start and its address.
    fn pick(&self, which: usize) -> Option<(usize, usize)> {
        let all = || self.regions.iter().flat_map(|(start, region)| region.blocks.keys().map(|block| (*start, *block)));
        all().nth(which % all().count().max(1))
    }

    fn allocate(&mut self, size: usize, align: usize, zeroed: bool) {
        let layout = Layout::from_size_align(size, align).expect("sizes leave room for alignments");
        let length = size.max(1).next_multiple_of(GRANULE);
        let is_own = length > REGION || align > REGION;
        let mut place = None;
        if !is_own {
            let fit = |(start, region): (&usize, &Region)| {
                first_fit(&region.gaps(*start), length, align).map(|address| (*start, address))
            };
            place = self.regions.iter().filter(|(_, region)| !region.is_own).find_map(fit);
        }
        let wanted = if is_own { length } else { REGION };
        if place.is_none() && self.reserved() + wanted > LIMIT {
            self.empty().map(|empty| self.regions.remove(&empty));
        }
        let is_full = place.is_none() && self.reserved() + wanted > LIMIT;
        let given = match zeroed {
            true => self.pools.allocate_zeroed_on(layout, self.node),
            false => self.pools.allocate_on(layout, self.node),
        };
        if is_full {
            assert_eq!(given, Err(NodePoolsError::Full { node: self.node, size }));
            return;
        }
        let block = given.expect("the model has room");
        let address = block.as_ptr().expose_provenance();
        let start = match place {
            Some((start, predicted)) => {
                assert_eq!(address, predicted, "{layout:?}");
                start
            }
            None => {
                let apart =
                    |(start, region): (&usize, &Region)| start + region.size <= address || address + wanted <= *start;
                assert!(self.regions.iter().all(apart), "a new region lies where one is");
                assert!(address.is_multiple_of(if is_own { align } else { REGION }));
                self.regions.insert(address, Region { size: wanted, is_own, blocks: BTreeMap::new() });
                address
            }
        };
        self.seeds += 1;
        // SAFETY: the block is the model's, and so long.
        unsafe {
            assert!(!zeroed || pattern::first_not_zero(block, 0, length).is_none(), "{layout:?} is not zero");
            pattern::fill(block, length, self.seeds);
        }
        let block = Block { length, asked: size, seed: self.seeds };
        self.regions.get_mut(&start).expect("it is there").blocks.insert(address, block);
        self.expected.allocations += 1;
        self.expected.bytes_allocated += length as u64;
    }

    fn check_contents(&self, address: usize, block: &Block, end: usize) {
        // SAFETY: a live block that was filled.
        let wrong = unsafe { pattern::first_difference(pointer(address), block.length, end, block.seed) };
        assert_eq!(wrong, None, "a byte of a block of {} bytes has changed", block.length);
    }

    fn free(&mut self, which: usize, how: How) {
        let Some((start, address)) = self.pick(which) else { return };
        let region = self.regions.get_mut(&start).expect("it was picked");
        let (block, is_own) = (region.blocks.remove(&address).expect("it was picked"), region.is_own);
        self.check_contents(address, &block, block.length);
        let layout = Layout::from_size_align(block.asked, 1).expect("it was asked for");
        // SAFETY: a live block, that ends here; the second time it is none.
        unsafe {
            let freed = match how {
                How::Plainly | How::Twice => self.pools.deallocate(pointer(address)),
                How::WithLayout => self.pools.deallocate_with(pointer(address), layout),
                How::FromNode => self.pools.deallocate_from_node(pointer(address), self.node),
            };
            assert_eq!(freed, Ok(()));
            if matches!(how, How::Twice) {
                assert_eq!(self.pools.deallocate(pointer(address)), Err(NodePoolsError::DoubleFree));
            }
        }
        let is_empty = |region: &Region| region.blocks.is_empty();
        let empty = self.regions.values().filter(|region| is_empty(region)).count();
        if is_own || empty > 1 {
            self.regions.remove(&start);
        }
        self.expected.deallocations += 1;
        self.expected.bytes_deallocated += block.length as u64;
    }

    fn resize(&mut self, which: usize, size: usize) {
        let Some((start, address)) = self.pick(which) else { return };
        let region = &self.regions[&start];
        let block = &region.blocks[&address];
        let length = size.max(1).next_multiple_of(GRANULE);
        let behind = region.gaps(start).into_iter().find(|(from, _)| *from == address + block.length);
        let room = block.length + behind.map_or(0, |(from, to)| to - from);
        let fits = if region.is_own { length == block.length } else { length <= room };
        // SAFETY: a live block, of which nothing is used beyond the new size.
        assert_eq!(unsafe { self.pools.resize_in_place(pointer(address), size) }, Ok(fits));
        self.check_contents(address, block, if fits { block.length.min(length) } else { block.length });
        if !fits {
            return;
        }
        match length.checked_sub(block.length) {
            Some(more) => self.expected.bytes_allocated += more as u64,
            None => self.expected.bytes_deallocated += (block.length - length) as u64,
        }
        let block = Block { length, asked: size, seed: block.seed };
        // SAFETY: the block is so long now.
        unsafe { pattern::fill(pointer(address), length, block.seed) };
        self.regions.get_mut(&start).expect("it was picked").blocks.insert(address, block);
    }

    fn probe(&self, which: usize, offset: usize) {
        let Some((start, region)) = self.regions.iter().nth(which % self.regions.len().max(1)) else { return };
        let address = start + offset % region.size;
        let around = region.blocks.range(..=address).next_back().filter(|(block, at)| address < **block + at.length);
        let told = match around {
            Some((block, at)) if *block == address => Ok(at.length),
            Some((block, at)) => Err(NodePoolsError::Interior { offset: address - block, size: at.length }),
            None => Err(NodePoolsError::DoubleFree),
        };
        assert_eq!(self.pools.usable_size(pointer(address)), told);
        if let Err(error) = told {
            // SAFETY: no live block begins there, so nothing is freed.
            assert_eq!(unsafe { self.pools.deallocate(pointer(address)) }, Err(error));
        }
    }

    fn check(&mut self) {
        let expected = &mut self.expected;
        let gaps: Vec<usize> =
            self.regions.iter().flat_map(|(start, region)| region.gaps(*start)).map(|(from, to)| to - from).collect();
        let blocks = || self.regions.values().flat_map(|region| region.blocks.values());
        expected.blocks = blocks().count();
        expected.bytes = blocks().map(|block| block.length).sum();
        expected.peak_blocks = expected.peak_blocks.max(expected.blocks);
        expected.peak_bytes = expected.peak_bytes.max(expected.bytes);
        expected.free_bytes = gaps.iter().sum();
        expected.largest_free = gaps.iter().copied().max().unwrap_or(0);
        expected.regions = self.regions.len();
        expected.reserved_bytes = self.regions.values().map(|region| region.size).sum();
        assert_eq!(self.pools.stats_on(self.node), Ok(*expected));
        let free = expected.free_bytes as f64;
        let unusable = if free == 0.0 { 0.0 } else { (free - expected.largest_free as f64) / free };
        assert!((self.pools.fragmentation() - unusable).abs() < 1e-12);
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Allocate { size, align, zeroed } => self.allocate(size, align, zeroed),
            Step::Free { which, how } => self.free(which, how),
            Step::Resize { which, size } => self.resize(which, size),
            Step::Probe { which, offset } => self.probe(which, offset),
            Step::Trim => {
                let empty = self.empty().and_then(|empty| self.regions.remove(&empty));
                assert_eq!(self.pools.trim(), empty.map_or(0, |region| region.size));
            }
        }
        self.check();
    }
}

#[test]
fn every_address_refusal_and_figure_is_what_a_model_of_one_node_predicts() {
    let config = Config { cases: CASES, failure_persistence: None, max_shrink_iters: 2000, ..Config::default() };
    let steps = proptest::collection::vec(step(), 1..300);
    TestRunner::new(config)
        .run(&steps, |steps| {
            let mut model = Model::new();
            steps.into_iter().for_each(|step| model.run(step));
            while model.pick(0).is_some() {
                model.free(0, How::Twice);
                model.check();
            }
            Ok(())
        })
        .unwrap_or_else(|failure| panic!("{failure}"));
}
