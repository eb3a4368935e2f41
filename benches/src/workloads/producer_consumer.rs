//! One thread allocates and another frees: blocks that never come home by themselves.

use std::alloc::Layout;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use crate::block::Block;
use crate::peers::Peer;
use crate::rng::Rng;
use crate::workload::Workload;

/// Blocks in a batch: so many that waking the other thread counts little.
const BATCH: usize = 250;
/// Batches in a pass.
const BATCHES: usize = 40;
/// Batches under way at most.
const UNDER_WAY: usize = 8;

/// Batches of small blocks, handed over through a bounded channel.
pub struct ProducerConsumer;

/// Blocks on their way to the consumer, or their empty container on its way back: containers go round, so that
/// neither they nor the channels are ever allocated while time runs.
struct Batch<P: Peer> {
    blocks: Vec<Block<P>>,
    damaged: u64,
}

/// The producer's side.
pub struct Producer<P: Peer> {
    layouts: Vec<Layout>,
    /// Containers in hand: all of them, between passes.
    spare: Vec<Batch<P>>,
    /// There until the drop.
    full: Option<SyncSender<Batch<P>>>,
    empty: Receiver<Batch<P>>,
    /// There until the drop.
    consumer: Option<JoinHandle<()>>,
}

impl Workload for ProducerConsumer {
    type State<P: Peer> = Producer<P>;

    fn group(&self) -> &'static str {
        "producer_consumer"
    }

    fn name(&self) -> String {
        "batches".to_owned()
    }

    fn blocks(&self) -> u64 {
        (BATCH * BATCHES) as u64
    }

    fn prepare<P: Peer>(&self) -> Producer<P> {
        let mut rng = Rng::new(6);
        let layout = |size| Layout::from_size_align(size, 8).expect("a valid layout");
        let (full, incoming) = sync_channel::<Batch<P>>(UNDER_WAY);
        let (outgoing, empty) = sync_channel(UNDER_WAY);
        Producer {
            layouts: (0..BATCH).map(|_| layout(rng.size(16, 6))).collect(),
            spare: (0..UNDER_WAY).map(|_| Batch { blocks: Vec::with_capacity(BATCH), damaged: 0 }).collect(),
            full: Some(full),
            empty,
            consumer: Some(thread::spawn(move || consume(&incoming, &outgoing))),
        }
    }

    #[inline(always)]
    fn pass<P: Peer>(producer: &mut Producer<P>) -> u64 {
        let full = producer.full.as_ref().expect("the producer is alive");
        let mut damaged = 0;
        for _ in 0..BATCHES {
            let mut batch = match producer.spare.pop() {
                Some(batch) => batch,
                None => producer.empty.recv().expect("the consumer lives as long as the producer"),
            };
            damaged += batch.damaged;
            batch.damaged = 0;
            batch.blocks.extend(producer.layouts.iter().map(|&layout| Block::new(layout)));
            full.send(batch).expect("the consumer lives as long as the producer");
        }
        while producer.spare.len() < UNDER_WAY {
            let mut batch = producer.empty.recv().expect("the consumer lives as long as the producer");
            damaged += batch.damaged;
            batch.damaged = 0;
            producer.spare.push(batch);
        }
        damaged
    }
}

/// Checks and frees what comes until nothing more can come.
fn consume<P: Peer>(full: &Receiver<Batch<P>>, empty: &SyncSender<Batch<P>>) {
    for mut batch in full {
        batch.damaged = batch.blocks.drain(..).map(|block| u64::from(!block.is_intact())).sum();
        if empty.send(batch).is_err() {
            return;
        }
    }
}

impl<P: Peer> Drop for Producer<P> {
    fn drop(&mut self) {
        self.full = None;
        if let Some(consumer) = self.consumer.take() {
            consumer.join().expect("the consumer does not panic");
        }
    }
}
