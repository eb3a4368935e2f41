//! Pools of objects of one type, beside a box for each object.

use std::alloc::{Layout, handle_alloc_error};
use std::hint::black_box;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::time::Duration;

use homing::{Pool, PoolBox};

use super::{Contender, Contest, Passes};
use crate::peers::turn::Turn;
use crate::peers::{Peer, PeerId, Visitor, entry};
use crate::rng::Rng;
use crate::summary::measure::Timed;

/// Objects that are there at once, where it is not one.
const COUNT: usize = 1000;

/// An object: 32 bytes.
type Object = [u64; 4];

/// Where objects are kept.
trait Keeper: 'static {
    type Held: 'static;
    fn new() -> Self;
    fn keep(&mut self, value: Object) -> Self::Held;
    /// Gives the object back, and says what its first word was.
    fn give_back(&mut self, held: Self::Held) -> u64;
}

/// homing's pool, by its guards. The pool is never given up: its objects borrow it.
struct Guarded(&'static Pool<Object>);

impl Keeper for Guarded {
    type Held = PoolBox<'static, Object>;

    fn new() -> Self {
        Guarded(Box::leak(Box::new(Pool::new())))
    }

    #[inline(always)]
    fn keep(&mut self, value: Object) -> Self::Held {
        self.0.insert(value).expect("there is memory")
    }

    #[inline(always)]
    fn give_back(&mut self, held: Self::Held) -> u64 {
        held[0]
    }
}

/// homing's pool, by its raw pair, which looks at every pointer that is given back.
struct Raw(Pool<Object>);

impl Keeper for Raw {
    type Held = NonNull<Object>;

    fn new() -> Self {
        Raw(Pool::new())
    }

    #[inline(always)]
    fn keep(&mut self, value: Object) -> Self::Held {
        let object = self.0.allocate().expect("there is memory");
        // SAFETY: the object is as large and aligned as its type, and nobody else's.
        unsafe { object.write(value) };
        object
    }

    #[inline(always)]
    fn give_back(&mut self, held: Self::Held) -> u64 {
        // SAFETY: it was written above, and is still there.
        let first = unsafe { held.read() }[0];
        // SAFETY: nobody uses it any more.
        unsafe { self.0.deallocate(held) }.expect("an object of this pool");
        first
    }
}

impl Keeper for slab::Slab<Object> {
    type Held = usize;

    fn new() -> Self {
        slab::Slab::new()
    }

    #[inline(always)]
    fn keep(&mut self, value: Object) -> usize {
        self.insert(value)
    }

    #[inline(always)]
    fn give_back(&mut self, held: usize) -> u64 {
        self.remove(held)[0]
    }
}

/// A box for each, of the peer's memory: what `Box` does where the peer is the program's global allocator.
struct Boxes<P>(PhantomData<fn() -> P>);

impl<P: Peer> Keeper for Boxes<P> {
    type Held = NonNull<Object>;

    fn new() -> Self {
        Boxes(PhantomData)
    }

    #[inline(always)]
    fn keep(&mut self, value: Object) -> Self::Held {
        const LAYOUT: Layout = Layout::new::<Object>();
        // SAFETY: the size is not zero.
        let block = NonNull::new(unsafe { entry::alloc::<P>(LAYOUT) }.cast::<Object>());
        let block = block.unwrap_or_else(|| handle_alloc_error(LAYOUT));
        // SAFETY: the block has the object's layout.
        unsafe { block.write(value) };
        block
    }

    #[inline(always)]
    fn give_back(&mut self, held: Self::Held) -> u64 {
        // SAFETY: written above.
        let first = unsafe { held.read() }[0];
        // SAFETY: a block of that layout, not used any more.
        unsafe { entry::dealloc::<P>(held.as_ptr().cast(), Layout::new::<Object>()) };
        first
    }
}

/// One object at a time.
fn one<K: Keeper>() -> Passes<impl FnMut()> {
    let mut keeper = K::new();
    Passes(move || {
        let held = black_box(keeper.keep(black_box([3; 4])));
        assert_eq!(keeper.give_back(held), 3);
    })
}

/// A thousand, given back as they came or in a random order.
fn many<K: Keeper>(is_shuffled: bool) -> Passes<impl FnMut()> {
    let mut keeper = K::new();
    let mut order: Vec<usize> = (0..COUNT).collect();
    if is_shuffled {
        Rng::new(3).shuffle(&mut order);
    }
    let mut all: Vec<Option<K::Held>> = (0..COUNT).map(|_| None).collect();
    Passes(move || {
        for place in &mut all {
            *place = Some(keeper.keep(black_box([3; 4])));
        }
        for &at in &order {
            let held = all[at].take().expect("each is given back once");
            assert_eq!(keeper.give_back(held), 3);
        }
    })
}

/// A pass of a peer's boxes, in the peer's turn.
struct InTurn {
    peer: PeerId,
    passes: Box<dyn Timed>,
}

impl Timed for InTurn {
    fn time(&mut self, passes: u64) -> Duration {
        let _turn = Turn::of(self.peer);
        self.passes.time(passes)
    }
}

#[derive(Clone, Copy)]
enum Kind {
    One,
    Many { is_shuffled: bool },
}

impl Kind {
    fn passes<K: Keeper>(self) -> Box<dyn Timed> {
        match self {
            Kind::One => Box::new(one::<K>()),
            Kind::Many { is_shuffled } => Box::new(many::<K>(is_shuffled)),
        }
    }

    fn contender<K: Keeper>(self, name: &str) -> Contender {
        Contender { name: name.to_owned(), prepare: Box::new(move || self.passes::<K>()) }
    }

    fn boxes(self, peer: PeerId) -> Contender {
        let prepare = move || {
            let passes = {
                let _turn = Turn::of(peer);
                peer.visit(self)
            };
            InTurn { peer, passes }
        };
        Contender::new(format!("Box, {}", peer.name()), prepare)
    }
}

impl Visitor for Kind {
    type Output = Box<dyn Timed>;

    fn visit<P: Peer>(self) -> Box<dyn Timed> {
        self.passes::<Boxes<P>>()
    }
}

pub(super) fn contests(peers: &[PeerId]) -> Vec<Contest> {
    let kinds = [
        ("one", 1, Kind::One),
        ("1,000, in order", COUNT, Kind::Many { is_shuffled: false }),
        ("1,000, shuffled", COUNT, Kind::Many { is_shuffled: true }),
    ];
    let contests = kinds.into_iter().map(|(name, objects, kind)| {
        let mut contenders = vec![
            kind.contender::<Guarded>("homing"),
            kind.contender::<Raw>("homing, raw"),
            kind.contender::<slab::Slab<Object>>("slab"),
        ];
        contenders.extend(peers.iter().map(|&peer| kind.boxes(peer)));
        Contest { group: "pool", name: name.to_owned(), objects: objects as u64, contenders }
    });
    contests.collect()
}
