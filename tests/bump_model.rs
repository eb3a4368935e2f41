//! Random sequences of operations on a bump arena against a model that knows nothing of chunks: which blocks are live,
//! what is in them, which checkpoints hold.

use std::ptr::NonNull;

use homing::{Bump, BumpConfig, BumpError, BumpOverflow, Checkpoint, CheckpointError};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Operation {
    Allocate {
        size: usize,
        shift: u32,
    },
    Checkpoint,
    /// To one of the checkpoints so far.
    Restore(prop::sample::Index),
    /// To a position that nobody ever saw.
    MadeUp {
        position: u64,
        restores: u64,
    },
    Reset,
    /// 0 for none.
    Limit(usize),
    #[cfg(feature = "allocator-api2")]
    Deallocate(prop::sample::Index),
    #[cfg(feature = "allocator-api2")]
    Resize {
        which: prop::sample::Index,
        size: usize,
        shift: u32,
        zeroed: bool,
    },
    #[cfg(feature = "allocator-api2")]
    AllocateZeroed {
        size: usize,
        shift: u32,
    },
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0_usize..100,
        4 => 0_usize..5000,
        1 => 0_usize..200_000,
        1 => prop_oneof![Just(usize::MAX), Just(isize::MAX as usize), Just(usize::MAX - 63), Just(1 << 50)],
    ]
}

fn operations() -> impl Strategy<Value = Operation> {
    let shifts = prop_oneof![8 => 0_u32..5, 2 => 5_u32..13, 1 => 13_u32..24];
    let index = any::<prop::sample::Index>();
    prop_oneof![
        10 => (sizes(), shifts.clone()).prop_map(|(size, shift)| Operation::Allocate { size, shift }),
        4 => Just(Operation::Checkpoint),
        4 => index.prop_map(Operation::Restore),
        1 => made_up(),
        1 => Just(Operation::Reset),
        1 => limits().prop_map(Operation::Limit),
        9 => more(shifts.boxed()),
    ]
}

fn limits() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 1_usize..300, 300_usize..10_000, 10_000_usize..400_000, Just(usize::MAX)]
}

fn made_up() -> impl Strategy<Value = Operation> {
    let positions = prop_oneof![0_u64..10_000, 0_u64..1_000_000, Just(u64::MAX)];
    let restores = prop_oneof![0_u64..10, Just(u64::MAX)];
    (positions, restores).prop_map(|(position, restores)| Operation::MadeUp { position, restores })
}

#[cfg(feature = "allocator-api2")]
fn more(shifts: BoxedStrategy<u32>) -> BoxedStrategy<Operation> {
    prop_oneof![
        any::<prop::sample::Index>().prop_map(Operation::Deallocate),
        (any::<prop::sample::Index>(), sizes(), shifts.clone(), any::<bool>())
            .prop_map(|(which, size, shift, zeroed)| Operation::Resize { which, size, shift, zeroed }),
        (sizes(), shifts).prop_map(|(size, shift)| Operation::AllocateZeroed { size, shift }),
    ]
    .boxed()
}

#[cfg(not(feature = "allocator-api2"))]
fn more(shifts: BoxedStrategy<u32>) -> BoxedStrategy<Operation> {
    (sizes(), shifts).prop_map(|(size, shift)| Operation::Allocate { size, shift }).boxed()
}

struct Block {
    start: NonNull<u8>,
    size: usize,
    #[cfg_attr(not(feature = "allocator-api2"), allow(dead_code))]
    shift: u32,
    fill: u8,
    /// When it was handed out.
    time: usize,
}

fn after_overflow(mut stats: homing::BumpStats) -> homing::BumpStats {
    stats.overflows += 1;
    stats
}

/// A checkpoint, and what the model says of it.
struct Point {
    point: Checkpoint,
    time: usize,
    used: usize,
    resets: u64,
    /// Not known of points with as much in use, one of which may be in a chunk that is empty.
    is_undone: Option<bool>,
}

struct Model {
    bump: Bump,
    zero: bool,
    blocks: Vec<Block>,
    points: Vec<Point>,
    time: usize,
    peak: usize,
    resets: u64,
    overflow: BumpOverflow,
    limit: usize,
    /// What it held before the last operation: it may go on to hold that under a limit that was set later.
    held: usize,
    /// Nothing was done since the last reset, or the first settings.
    is_new: bool,
}

impl Model {
    fn bytes(block: &mut Block) -> &mut [u8] {
        // SAFETY: live by the model, which this test is to find wrong where it is.
        unsafe { std::slice::from_raw_parts_mut(block.start.as_ptr(), block.size) }
    }

    fn add(&mut self, start: NonNull<u8>, size: usize, shift: u32, zero: bool) {
        self.time += 1;
        assert!(start.addr().get().is_multiple_of(1 << shift), "{start:?} is not aligned to 1 << {shift}");
        let mut block = Block { start, size, shift, fill: self.time as u8 | 1, time: self.time };
        assert!(!zero || Self::bytes(&mut block).iter().all(|byte| *byte == 0), "not zero");
        let fill = block.fill;
        Self::bytes(&mut block).fill(fill);
        self.blocks.push(block);
    }

    fn check(&mut self) {
        for block in &mut self.blocks {
            let fill = block.fill;
            assert!(Self::bytes(block).iter().all(|byte| *byte == fill), "a live block was written over");
        }
        let stats = self.bump.stats();
        self.peak = self.peak.max(stats.used);
        let live: usize = self.blocks.iter().map(|block| block.size).sum();
        assert!(live <= stats.used && stats.used <= stats.capacity, "{live} {stats:?}");
        assert_eq!((stats.high_water_mark, stats.resets), (self.peak, self.resets));
        assert_eq!(self.bump.limit(), (self.limit > 0).then_some(self.limit));
        let may_hold = if self.limit == 0 { usize::MAX } else { self.limit };
        assert!(stats.capacity <= may_hold.max(self.held), "{} and {} before, {stats:?}", self.limit, self.held);
        assert_eq!(self.bump.limit_left(), self.bump.limit().map(|limit| limit.saturating_sub(stats.capacity)));
        self.held = stats.capacity;
    }

    fn checkpoint(&mut self) {
        let (point, used) = (self.bump.checkpoint(), self.bump.stats().used);
        self.time += 1;
        self.points.push(Point { point, time: self.time, used, resets: self.resets, is_undone: Some(false) });
    }

    fn restore(&mut self, which: prop::sample::Index) {
        if self.points.is_empty() {
            return;
        }
        let which = which.index(self.points.len());
        let Point { point, time, used, resets, is_undone } = self.points[which];
        let before = self.bump.stats();
        let result = self.bump.restore(point);
        match result {
            Ok(()) => {
                assert!(resets == self.resets && is_undone != Some(true), "it does not hold any more");
                assert_eq!(self.bump.stats().used, used);
                self.blocks.retain(|block| block.time < time);
                // Undone are those taken of a point beyond this one.
                for other in &mut self.points {
                    if other.used > used {
                        other.is_undone = Some(true);
                    } else if other.used == used && other.time != time {
                        other.is_undone = other.is_undone.filter(|undone| *undone);
                    }
                }
            }
            Err(error) => {
                assert_eq!(self.bump.stats(), before, "a refused restore changes nothing");
                let wanted = match self.resets - resets {
                    0 => {
                        assert!(is_undone != Some(false), "{error}");
                        // Positions count what is left over of chunks, `used` does not: either is right where they differ.
                        matches!(error, CheckpointError::Stale { resets: 0 } | CheckpointError::Future { .. })
                    }
                    since => error == CheckpointError::Stale { resets: since },
                };
                assert!(wanted, "{error}");
            }
        }
    }

    /// Nothing is known after it but that all that is handed out from then on is as good as ever.
    fn restore_to_made_up(&mut self, position: u64, restores: u64) {
        let before = self.bump.stats();
        let [id, resets, ..] = self.bump.checkpoint().to_words();
        let point = Checkpoint::from_words([id, resets, restores, position]).expect("there is such an arena");
        if self.bump.restore(point).is_ok() {
            self.blocks.clear();
            self.points.iter_mut().for_each(|point| point.is_undone = point.is_undone.filter(|undone| *undone));
        }
        assert!(self.bump.stats().used <= before.used);
    }

    fn allocate(&mut self, size: usize, shift: u32) {
        let (before, align) = (self.bump.stats(), 1 << shift);
        let refused = match self.bump.try_alloc_bytes(size, align) {
            Ok(start) => return self.add(start, size, shift, self.zero),
            Err(refused) => refused,
        };
        assert_eq!(self.bump.stats().used, before.used);
        if let BumpError::Limit { held, limit, .. } = refused {
            let now = self.bump.stats();
            assert_eq!(refused, BumpError::Limit { asked: size, align, held: now.capacity, limit: self.limit });
            assert_eq!((now.overflows, held), (before.overflows + 1, now.capacity));
            let grows = self.overflow == BumpOverflow::Grow;
            assert!(!grows || now == after_overflow(before), "{before:?} {now:?}");
            assert!(
                !grows || size > limit.saturating_sub(before.capacity),
                "the limit has room for {size}: {before:?}"
            );
            assert!(!grows || !self.is_new || size > limit, "a new arena has room for all of its limit: {before:?}");
        } else if self.overflow == BumpOverflow::Grow {
            assert!(matches!(refused, BumpError::NoMemory { .. }) && size >= 1 << 50, "{refused}");
        }
    }

    fn reset(&mut self) {
        self.bump.reset();
        self.resets += 1;
        self.blocks.clear();
    }

    fn apply(&mut self, operation: Operation) {
        let stays_new = matches!(operation, Operation::Reset | Operation::Limit(_));
        let is_reset = matches!(operation, Operation::Reset);
        match operation {
            Operation::Allocate { size, shift } => self.allocate(size, shift),
            Operation::Checkpoint => self.checkpoint(),
            Operation::Restore(which) => self.restore(which),
            Operation::MadeUp { position, restores } => self.restore_to_made_up(position, restores),
            Operation::Reset => self.reset(),
            Operation::Limit(limit) => {
                self.bump.set_limit(limit);
                self.limit = limit;
            }
            #[cfg(feature = "allocator-api2")]
            Operation::Deallocate(which) => self.deallocate(which),
            #[cfg(feature = "allocator-api2")]
            Operation::Resize { which, size, shift, zeroed } => self.resize(which, size, shift, zeroed),
            #[cfg(feature = "allocator-api2")]
            Operation::AllocateZeroed { size, shift } => {
                use allocator_api2::alloc::Allocator;
                if let Some(layout) = layout(size, shift)
                    && let Ok(start) = self.bump.allocate_zeroed(layout)
                {
                    self.add(start.cast(), size, shift, true);
                }
            }
        }
        self.is_new = is_reset || stays_new && self.is_new;
        self.check();
    }
}

#[cfg(feature = "allocator-api2")]
fn layout(size: usize, shift: u32) -> Option<std::alloc::Layout> {
    std::alloc::Layout::from_size_align(size, 1 << shift).ok()
}

#[cfg(feature = "allocator-api2")]
impl Model {
    fn deallocate(&mut self, which: prop::sample::Index) {
        use allocator_api2::alloc::Allocator;
        if self.blocks.is_empty() {
            return;
        }
        let block = self.blocks.swap_remove(which.index(self.blocks.len()));
        self.peak = self.peak.max(self.bump.stats().used);
        // SAFETY: a live block, forgotten just now.
        unsafe { self.bump.deallocate(block.start, layout(block.size, block.shift).unwrap()) };
    }

    fn resize(&mut self, which: prop::sample::Index, size: usize, shift: u32, zeroed: bool) {
        use allocator_api2::alloc::Allocator;
        let Some(new) = layout(size, shift) else { return };
        if self.blocks.is_empty() {
            return;
        }
        let block = self.blocks.swap_remove(which.index(self.blocks.len()));
        let old = layout(block.size, block.shift).unwrap();
        let kept = size.min(block.size);
        // SAFETY: a live block with that layout; the model goes on with what is given instead.
        let resized = unsafe {
            match (size >= block.size, zeroed) {
                (true, true) => self.bump.grow_zeroed(block.start, old, new),
                (true, false) => self.bump.grow(block.start, old, new),
                (false, _) => self.bump.shrink(block.start, old, new),
            }
        };
        let Ok(resized) = resized else {
            self.blocks.push(block);
            return;
        };
        let start = resized.cast::<u8>();
        // SAFETY: the block is as long as was asked for.
        let bytes = unsafe { std::slice::from_raw_parts(start.as_ptr(), size) };
        assert!(bytes[..kept].iter().all(|byte| *byte == block.fill), "contents are lost");
        assert!(!zeroed || bytes[kept..].iter().all(|byte| *byte == 0), "not zero");
        // A block that was there before a checkpoint and has moved is not beyond it for the model's sake: forgotten where
        // the arena is restored to one.
        self.add(start, size, shift, false);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_of_operations_overlaps_blocks_loses_contents_or_takes_a_wrong_checkpoint(
        zero in any::<bool>(),
        overflow in prop_oneof![3 => Just(BumpOverflow::Grow), 1 => Just(BumpOverflow::Error)],
        pool_size in prop_oneof![0_usize..200, 200_usize..100_000],
        limit in prop_oneof![2 => Just(0), 3 => limits()],
        operations in prop::collection::vec(operations(), 1..80),
    ) {
        let config = BumpConfig::new().pool_size(pool_size).zero_on_reset(zero).overflow(overflow).limit(limit);
        let (bump, blocks, points) = (Bump::with(config), Vec::new(), Vec::new());
        let (time, peak, resets, held, is_new) = (0, 0, 0, 0, true);
        let mut model = Model { bump, zero, blocks, points, time, peak, resets, overflow, limit, held, is_new };
        for operation in operations {
            model.apply(operation);
        }
    }
}
