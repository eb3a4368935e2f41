//! Random sequences of what a pool can be asked, against a model that knows the figures and every object's contents.

mod common;

use std::alloc::System;
use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::thread;

use common::alone;
use homing::{Pool, PoolBox, PoolError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

#[global_allocator]
static OWN: System = System;

#[derive(Clone, Debug)]
enum Step {
    Insert(usize),
    Allocate(usize),
    /// Of the guards, so many from that place on, wrapping.
    Drop(usize, usize),
    /// As remote guards, on another thread or on this one.
    DropRemote(usize, usize, bool),
    /// To another thread and back.
    Travel(usize, usize),
    IntoInner(usize),
    IntoRaw(usize),
    Deallocate(usize, usize),
    FromRaw(usize),
    DeallocateTwice(usize),
    DeallocateWithin(usize),
    Trim,
}

fn steps(burst: usize) -> impl Strategy<Value = Vec<Step>> {
    let place = 0..100_000_usize;
    let step = prop_oneof![
        4 => (1..burst).prop_map(Step::Insert),
        2 => (1..burst).prop_map(Step::Allocate),
        3 => (place.clone(), 1..burst).prop_map(|(from, count)| Step::Drop(from, count)),
        2 => (place.clone(), 1..burst, any::<bool>()).prop_map(|(from, count, here)| Step::DropRemote(from, count, here)),
        1 => (place.clone(), 1..burst).prop_map(|(from, count)| Step::Travel(from, count)),
        1 => place.clone().prop_map(Step::IntoInner),
        1 => place.clone().prop_map(Step::IntoRaw),
        2 => (place.clone(), 1..burst).prop_map(|(from, count)| Step::Deallocate(from, count)),
        1 => place.clone().prop_map(Step::FromRaw),
        1 => place.clone().prop_map(Step::DeallocateTwice),
        1 => place.prop_map(Step::DeallocateWithin),
        1 => Just(Step::Trim),
    ];
    prop::collection::vec(step, 1..40)
}

/// What is put in objects: all bytes follow from a number.
trait Value: Copy + PartialEq + std::fmt::Debug + Send {
    fn of(number: u64) -> Self;
}

impl<const N: usize> Value for [u8; N] {
    fn of(number: u64) -> Self {
        std::array::from_fn(|at| (number as usize * 7 + at) as u8)
    }
}

impl<const N: usize> Value for [u64; N] {
    fn of(number: u64) -> Self {
        std::array::from_fn(|at| number * 1000 + at as u64)
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(512))]
struct Aligned(u64);

impl Value for Aligned {
    fn of(number: u64) -> Self {
        Aligned(number)
    }
}

struct Model<'p, T> {
    pool: &'p Pool<T>,
    guards: Vec<(PoolBox<'p, T>, u64)>,
    raw: Vec<(NonNull<T>, u64)>,
    /// Where objects lie that are out.
    out: BTreeMap<usize, usize>,
    taken: u64,
    peak: usize,
}

impl<'p, T: Value> Model<'p, T> {
    fn comes(&mut self, address: usize) -> u64 {
        assert!(address.is_multiple_of(align_of::<T>()));
        let end = address + size_of::<T>();
        let before = self.out.range(..end).next_back();
        assert!(before.is_none_or(|(_, before)| *before <= address), "an object overlaps another");
        assert_eq!(self.out.insert(address, end), None);
        self.taken += 1;
        self.peak = self.peak.max(self.out.len());
        self.taken
    }

    fn goes(&mut self, address: usize, contents: &T, number: u64) {
        assert_eq!(*contents, T::of(number), "written over");
        assert!(self.out.remove(&address).is_some());
    }

    fn guards_from(&mut self, from: usize, count: usize) -> Vec<PoolBox<'p, T>> {
        let mut taken = Vec::new();
        for _ in 0..count.min(self.guards.len()) {
            let (guard, number) = self.guards.swap_remove(from % self.guards.len());
            self.goes((&raw const *guard).addr(), &guard, number);
            taken.push(guard);
        }
        taken
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Insert(count) => {
                for _ in 0..count {
                    let guard = self.pool.insert(T::of(self.taken + 1)).unwrap();
                    let number = self.comes((&raw const *guard).addr());
                    self.guards.push((guard, number));
                }
            }
            Step::Allocate(count) => {
                for _ in 0..count {
                    let object = self.pool.allocate().unwrap();
                    let number = self.comes(object.addr().get());
                    // SAFETY: the object is a `T`'s.
                    unsafe { object.write(T::of(number)) };
                    self.raw.push((object, number));
                }
            }
            Step::Drop(from, count) => drop(self.guards_from(from, count)),
            Step::DropRemote(from, count, here) => {
                let guards: Vec<_> = self.guards_from(from, count).into_iter().map(PoolBox::into_remote).collect();
                match here {
                    true => drop(guards),
                    false => thread::scope(|threads| drop(threads.spawn(move || drop(guards)))),
                }
            }
            Step::Travel(from, count) => {
                let at = from % (self.guards.len() + 1);
                let away = self.guards.drain(at..(at + count).min(self.guards.len()));
                let away: Vec<_> = away.map(|(guard, number)| (PoolBox::into_remote(guard), number)).collect();
                let back = thread::scope(|threads| threads.spawn(move || away).join().unwrap());
                let home = |(guard, number)| (self.pool.bring_home(guard).unwrap(), number);
                self.guards.extend(back.into_iter().map(home));
            }
            Step::IntoInner(from) => {
                if let Some(guard) = self.guards_from(from, 1).pop() {
                    PoolBox::into_inner(guard);
                }
            }
            Step::IntoRaw(from) => {
                if !self.guards.is_empty() {
                    let (guard, number) = self.guards.swap_remove(from % self.guards.len());
                    self.raw.push((PoolBox::into_raw(guard), number));
                }
            }
            Step::Deallocate(from, count) => {
                for _ in 0..count.min(self.raw.len()) {
                    let (object, number) = self.raw.swap_remove(from % self.raw.len());
                    // SAFETY: the object holds a value, and is out.
                    unsafe {
                        self.goes(object.addr().get(), object.as_ref(), number);
                        assert_eq!(self.pool.deallocate(object), Ok(()));
                    }
                }
            }
            Step::FromRaw(from) => {
                if !self.raw.is_empty() {
                    let (object, number) = self.raw.swap_remove(from % self.raw.len());
                    // SAFETY: the object holds a value, and is out.
                    self.guards.push((unsafe { PoolBox::from_raw(self.pool, object) }, number));
                }
            }
            Step::DeallocateTwice(from) => {
                if !self.raw.is_empty() {
                    let (object, number) = self.raw.swap_remove(from % self.raw.len());
                    // SAFETY: the object holds a value, and is out the first time; then the pool checks what it is given.
                    unsafe {
                        self.goes(object.addr().get(), object.as_ref(), number);
                        let slabs = self.pool.stats().slabs;
                        assert_eq!(self.pool.deallocate(object), Ok(()));
                        let error = self.pool.deallocate(object).unwrap_err();
                        // Its slab may have gone back to the heap, whose block it is then, and from there to where it came from.
                        let gone =
                            error == PoolError::OtherPool || error == PoolError::Foreign && cfg!(feature = "portable");
                        assert!(error == PoolError::DoubleFree || gone && self.pool.stats().slabs < slabs, "{error}");
                    }
                }
            }
            Step::DeallocateWithin(from) => {
                let offset = 1 + from % size_of::<T>();
                if let Some((object, _)) = self.raw.get(from % self.raw.len().max(1))
                    && offset < size_of::<T>()
                {
                    // SAFETY: within the object; the pool checks what it is given.
                    let error = unsafe { self.pool.deallocate(object.byte_add(offset)) };
                    assert_eq!(error, Err(PoolError::Interior { offset, size: size_of::<T>() }));
                }
            }
            Step::Trim => self.pool.trim(),
        }
        let (stats, size) = (self.pool.stats(), size_of::<T>());
        assert_eq!((stats.allocations, stats.objects), (self.taken, self.out.len()));
        assert_eq!(stats.deallocations, self.taken - self.out.len() as u64);
        assert_eq!((stats.bytes, stats.peak_objects), (self.out.len() * size, self.peak));
        assert_eq!(stats.peak_bytes, self.peak * size);
        assert!(stats.reserved >= stats.bytes);
    }
}

fn hold_the_rules<T: Value>(burst: usize) {
    let _alone = alone();
    let mut runner = TestRunner::new(Config { cases: 48, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&steps(burst), |steps| {
        let pool = Pool::<T>::new();
        let mut model =
            Model { pool: &pool, guards: Vec::new(), raw: Vec::new(), out: BTreeMap::new(), taken: 0, peak: 0 };
        steps.into_iter().for_each(|step| model.step(step));
        model.step(Step::Deallocate(0, usize::MAX));
        model.step(Step::Drop(0, usize::MAX));
        model.step(Step::Trim);
        assert_eq!(pool.stats().slabs, 0, "a slab was lost: {:?}", pool.stats());
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn no_sequence_loses_or_doubles_an_object_of_a_byte() {
    hold_the_rules::<[u8; 1]>(2500);
}

#[test]
fn no_sequence_loses_or_doubles_an_object_of_three_words() {
    hold_the_rules::<[u64; 3]>(2500);
}

#[test]
fn no_sequence_loses_or_doubles_an_over_aligned_object() {
    hold_the_rules::<Aligned>(200);
}

#[test]
fn no_sequence_loses_or_doubles_objects_of_which_few_fit_in_a_slab() {
    hold_the_rules::<[u8; 9001]>(30);
}

#[test]
fn no_sequence_loses_or_doubles_objects_of_which_three_fit_in_a_slab() {
    hold_the_rules::<[u8; 400_000]>(8);
}
