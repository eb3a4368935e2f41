//! Bump arenas. The kinds of work are those by which bumpalo measures itself: an arena is made with room for what comes,
//! filled, and given up; and beside them what arenas are used for most, growing collections and being reset.

use std::hint::black_box;

use homing::BumpConfig;

use super::{Contender, Contest, Passes};

/// Objects in an arena.
const COUNT: usize = 10_000;

#[derive(Clone, Copy)]
struct Small(#[allow(dead_code, reason = "only its size matters")] u8);

#[derive(Clone, Copy)]
struct Big(#[allow(dead_code, reason = "only its size matters")] [usize; 32]);

const SMALL: Small = Small(1);
const BIG: Big = Big([1; 32]);
const BYTES: [u8; 64] = [7; 64];
const TEXT: &str = "a text of thirty-two characters.";

/// What homing's and bumpalo's arenas do under different names, or only by macro: the rest is called as it is named.
trait Arena: 'static {
    fn with_capacity(bytes: usize) -> Self;
    fn put(&self, number: u64);
    fn push(&self, count: u64);
    fn begin_anew(&mut self);
}

macro_rules! arena {
    ($type:ty, $with_capacity:expr) => {
        impl Arena for $type {
            fn with_capacity(bytes: usize) -> Self {
                $with_capacity(bytes)
            }

            #[inline(always)]
            fn put(&self, number: u64) {
                black_box(self.alloc(number));
            }

            #[inline(always)]
            fn push(&self, count: u64) {
                let mut numbers = allocator_api2::vec::Vec::new_in(self);
                (0..count).for_each(|number| numbers.push(black_box(number)));
                black_box(&numbers);
            }

            fn begin_anew(&mut self) {
                self.reset();
            }
        }
    };
}

arena!(bumpalo::Bump, bumpalo::Bump::with_capacity);
arena!(homing::Bump, |bytes| homing::Bump::with(BumpConfig::new().pool_size(bytes).zero_on_reset(false)));

/// homing's as it is unless told otherwise: all memory is zero when it is handed out.
struct Zeroing(homing::Bump);

impl Arena for Zeroing {
    fn with_capacity(bytes: usize) -> Self {
        Zeroing(homing::Bump::with(BumpConfig::new().pool_size(bytes)))
    }

    #[inline(always)]
    fn put(&self, number: u64) {
        self.0.put(number);
    }

    #[inline(always)]
    fn push(&self, count: u64) {
        self.0.push(count);
    }

    fn begin_anew(&mut self) {
        self.0.reset();
    }
}

/// A pass that makes an arena and fills it.
fn fill<A: Arena, T>(bytes: usize, mut each: impl FnMut(&A)) {
    let arena = A::with_capacity(bytes * size_of::<T>());
    for _ in 0..COUNT {
        each(black_box(&arena));
    }
}

macro_rules! fills {
    ($contests:ident, $($name:literal: $of:ty, $items:expr, |$arena:ident| $each:expr;)*) => {
        $($contests.push(Contest {
            group: "bump",
            name: $name.to_owned(),
            objects: COUNT as u64,
            contenders: vec![
                Contender::new("homing", || Passes(|| fill::<homing::Bump, $of>(COUNT * $items, |$arena| { $each; }))),
                Contender::new("bumpalo", || Passes(|| fill::<bumpalo::Bump, $of>(COUNT * $items, |$arena| { $each; }))),
            ],
        });)*
    };
}

/// A pass in an arena that is reset and used again.
fn reset<A: Arena>() -> Passes<impl FnMut()> {
    let mut arena = A::with_capacity(COUNT * size_of::<u64>() * 2);
    Passes(move || {
        for number in 0..COUNT as u64 {
            black_box(&arena).put(black_box(number));
        }
        arena.begin_anew();
    })
}

/// A pass in which a vector grows by pushes, in an arena that is reset then.
fn push<A: Arena>() -> Passes<impl FnMut()> {
    let mut arena = A::with_capacity(COUNT * size_of::<u64>() * 4);
    Passes(move || {
        black_box(&arena).push(COUNT as u64);
        arena.begin_anew();
    })
}

fn typed<T: Copy + 'static>(value: T) -> Contender {
    Contender::new("typed-arena", move || {
        Passes(move || {
            let arena = typed_arena::Arena::with_capacity(COUNT);
            for _ in 0..COUNT {
                black_box(black_box(&arena).alloc(black_box(value)));
            }
        })
    })
}

pub(super) fn contests() -> Vec<Contest> {
    let mut contests = Vec::new();
    fills! { contests,
        "alloc, 1 B": Small, 1, |arena| black_box(arena.alloc(black_box(SMALL)));
        "alloc, 256 B": Big, 1, |arena| black_box(arena.alloc(black_box(BIG)));
        "alloc_with, 1 B": Small, 1, |arena| black_box(arena.alloc_with(|| black_box(SMALL)));
        "alloc_with, 256 B": Big, 1, |arena| black_box(arena.alloc_with(|| black_box(BIG)));
        "try_alloc, 1 B": Small, 1, |arena| black_box(arena.try_alloc(black_box(SMALL)).is_ok());
        "try_alloc, 256 B": Big, 1, |arena| black_box(arena.try_alloc(black_box(BIG)).is_ok());
        "alloc_try_with, 1 B": Small, 1, |arena| black_box(arena.alloc_try_with(|| black_box(Ok::<_, u8>(SMALL))).is_ok());
        "alloc_try_with, 256 B": Big, 2, |arena| black_box(arena.alloc_try_with(|| black_box(Ok::<_, u8>(BIG))).is_ok());
        "alloc_slice_copy, 64 B": u8, 64, |arena| black_box(arena.alloc_slice_copy(black_box(&BYTES)));
        "alloc_slice_clone, 64 B": u8, 64, |arena| black_box(arena.alloc_slice_clone(black_box(&BYTES)));
        "alloc_slice_fill, 64 B": u8, 64, |arena| black_box(arena.alloc_slice_fill_with(black_box(64), |_| black_box(7_u8)));
        "alloc_str, 32 B": u8, 32, |arena| black_box(arena.alloc_str(black_box(TEXT)));
    }
    contests[0].contenders.push(typed(SMALL));
    contests[1].contenders.push(typed(BIG));
    let objects = COUNT as u64;
    contests.push(Contest {
        group: "bump",
        name: "8 B and reset".to_owned(),
        objects,
        contenders: vec![
            Contender::new("homing", reset::<homing::Bump>),
            Contender::new("bumpalo", reset::<bumpalo::Bump>),
            Contender::new("homing, zeroing", reset::<Zeroing>),
        ],
    });
    contests.push(Contest {
        group: "bump",
        name: "Vec::push".to_owned(),
        objects,
        contenders: vec![
            Contender::new("homing", push::<homing::Bump>),
            Contender::new("bumpalo", push::<bumpalo::Bump>),
            Contender::new("homing, zeroing", push::<Zeroing>),
        ],
    });
    contests
}
