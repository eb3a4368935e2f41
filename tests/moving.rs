//! What calls of other crates become (docs/moving.md), in programs as they are moved.
#![cfg(feature = "allocator-api2")]

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::mem::MaybeUninit;
use std::sync::mpsc;
use std::thread;

use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use homing::{Budget, Bump, BumpError, Pool, PoolBox, RemotePoolBox};

#[test]
fn each_way_of_bumpalo_that_is_called_otherwise_here_has_its_like() {
    let bump = Bump::new();

    let complaint: &mut str = bump.alloc_fmt(format_args!("line {}: {} is missing", 7, "a name"));
    assert_eq!(complaint, "line 7: a name is missing");

    let mut string = Vec::new_in(&bump);
    for piece in ["text", "1"] {
        string.extend_from_slice(piece.as_bytes());
    }
    assert_eq!(std::str::from_utf8(string.leak()), Ok("text1"));

    let twenty = allocator_api2::vec![in &bump; 7_u8; 20];
    assert_eq!(*twenty, [7; 20]);
    let mut collected = Vec::new_in(&bump);
    collected.extend((0..100).filter(|number| number % 3 == 0));
    assert!(collected.leak().iter().copied().eq((0..100).step_by(3)));

    let add = 2;
    let shape: Box<dyn Fn(u8) -> u8, &Bump> =
        allocator_api2::unsize_box!(Box::new_in(move |number| number + add, &bump));
    assert_eq!(shape(1), 3);

    fn tried<'a>(bump: &'a Bump, words: &str) -> Result<&'a mut [u8], std::num::ParseIntError> {
        let mut numbers = Vec::new_in(bump);
        for word in words.split(' ') {
            numbers.push(word.parse()?);
        }
        Ok(numbers.leak())
    }
    assert_eq!(tried(&bump, "1 2 3").as_deref(), Ok(&[1, 2, 3][..]));
    assert!(tried(&bump, "1 two 3").is_err());

    fn one<'a>(bump: &'a Bump, word: &str) -> Result<&'a mut u8, std::boxed::Box<dyn std::error::Error>> {
        Ok(bump.try_alloc(word.parse()?)?)
    }
    assert_eq!(one(&bump, "17").ok().as_deref(), Some(&17));
    assert!(one(&bump, "seventeen").is_err());
}

#[test]
fn a_limit_of_bumpalo_is_one_here_also_where_it_is_set_to_what_is_held() {
    let bump = Bump::new();
    bump.set_limit(100_000);
    let mut served = 0;
    while served < 1000 && bump.try_alloc([0_u8; 1000]).is_ok() {
        served += 1;
    }
    assert!((98..=100).contains(&served) && bump.stats().capacity <= 100_000, "{served} {:?}", bump.stats());
    assert_eq!((bump.limit(), bump.limit_left()), (Some(100_000), Some(100_000 - bump.stats().capacity)));
    bump.set_limit(0);
    assert!(bump.try_alloc([0_u8; 1000]).is_ok());
    bump.set_limit(bump.stats().capacity);
    assert_eq!(bump.limit_left(), Some(0));
    let refused = bump.try_alloc_bytes(bump.stats().capacity, 1);
    assert!(matches!(refused, Err(BumpError::Limit { .. })), "{refused:?}");
}

struct Node<'a> {
    name: &'a str,
    next: Cell<Option<&'a Node<'a>>>,
    edges: RefCell<Vec<&'a Node<'a>, &'a Bump>>,
}

#[test]
fn a_ring_of_nodes_and_all_that_they_own_lies_in_one_arena() {
    let bump = Bump::new();
    let monitor = bump.monitor();
    let make = |number: u32| -> &Node {
        let name = bump.alloc_fmt(format_args!("node {number}"));
        bump.alloc(Node { name, next: Cell::new(None), edges: RefCell::new(Vec::new_in(&bump)) })
    };
    let first = make(0);
    let mut last = first;
    for number in 1..1000 {
        let next = make(number);
        last.next.set(Some(next));
        next.edges.borrow_mut().push(first);
        first.edges.borrow_mut().push(next);
        last = next;
    }
    last.next.set(Some(first));
    let mut seen = 0;
    let mut at = first;
    for _ in 0..2500 {
        seen += at.edges.borrow().len();
        at = at.next.get().unwrap();
    }
    assert_eq!((at.name, first.edges.borrow().len(), seen), ("node 500", 999, 3 * 999 + 2497));
    let places: &mut [MaybeUninit<u64>] = bump.alloc_slice_fill_with(10, |_| MaybeUninit::uninit());
    assert_eq!(*places[3].write(7), 7);
    assert!(monitor.used() > 1000 * size_of::<Node>());
    drop(bump);
    assert_eq!(monitor.capacity(), 0);
}

#[test]
fn a_table_of_guards_by_numbers_of_its_own_does_what_a_table_with_keys_does() {
    let pool = Pool::new();
    let mut table = HashMap::new();
    for key in 0..10 {
        table.insert(key, pool.insert_with(|| format!("connection {key}")).unwrap());
    }
    table.retain(|key, _| key % 2 == 0);
    assert_eq!(pool.stats().objects, 5);
    assert_eq!(table.remove(&4).map(PoolBox::into_inner).as_deref(), Some("connection 4"));
    assert!(!table.contains_key(&4));
    table.clear();
    pool.trim();
    assert_eq!((pool.stats().objects, pool.stats().slabs), (0, 0));
}

#[test]
fn guards_of_a_pool_that_is_never_dropped_go_into_channels_and_threads() {
    let (send, receive) = mpsc::channel::<RemotePoolBox<'static, String>>();
    let reader = thread::spawn(move || receive.into_iter().map(|text| text.len()).sum::<usize>());
    let writer = thread::spawn(move || {
        let pool: &'static Pool<String> = std::boxed::Box::leak(std::boxed::Box::new(Pool::new()));
        for _ in 0..1000 {
            let guard = pool.insert("a message".to_owned()).unwrap();
            send.send(PoolBox::into_remote(guard)).unwrap();
        }
        drop(send);
        (reader.join().unwrap(), pool.stats().objects)
    });
    assert_eq!(writer.join().unwrap(), (9000, 0));
}

#[test]
fn a_budget_around_an_arena_is_made_anew_after_each_reset() {
    let mut bump = Bump::new();
    for _ in 0..3 {
        let budget = Budget::new("request", 1000, &bump);
        let mut bytes = Vec::new_in(&budget);
        bytes.extend_from_slice(&[1_u8; 600]);
        assert_eq!((bytes.leak().len(), budget.used()), (600, 600));
        assert!(Vec::<u8, _>::new_in(&budget).try_reserve_exact(600).is_err());
        bump.reset();
    }
}

#[test]
fn a_tasks_first_reset_takes_back_what_one_that_panicked_has_left_and_helpers_are_lent_the_arena() {
    fn helper(scratch: &Bump, text: &str) -> usize {
        let mut words = Vec::new_in(scratch);
        words.extend(text.split(' '));
        words.len()
    }
    let task = |fails: bool| {
        let mut scratch = Bump::local().unwrap();
        scratch.reset();
        assert_eq!(scratch.stats().used, 0);
        let text = scratch.alloc_str("some words");
        assert!(matches!(Bump::local(), Err(BumpError::Reentered)));
        assert!(!fails, "as it should");
        let mut lengths = Vec::new_in(&*scratch);
        lengths.push(helper(&scratch, text));
        lengths[0]
    };
    for _ in 0..3 {
        assert!(std::panic::catch_unwind(|| task(true)).is_err());
        assert_eq!(task(false), 2);
    }
}
