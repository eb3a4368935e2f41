//! Ordinary Rust programs with `Homing` as their allocator: collections, strings, channels and threads.

mod common;

use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap, HashSet, LinkedList, VecDeque};
use std::fmt::Write;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;

use common::Numbers;
use homing::Homing;

#[global_allocator]
static GLOBAL: Homing = Homing::new();

#[test]
fn collections_of_every_kind_keep_what_was_put_into_them() {
    let mut numbers = Numbers::new(1);
    let (mut vector, mut deque, mut list) = (Vec::new(), VecDeque::new(), LinkedList::new());
    let (mut hash, mut tree, mut heap) = (HashMap::new(), BTreeMap::new(), BinaryHeap::new());
    for index in 0..50_000_u64 {
        let value = numbers.next();
        vector.push(value);
        deque.push_front(value);
        list.push_back(value);
        hash.insert(index, value);
        tree.insert(index, value.to_string());
        heap.push(value);
        if index % 3 == 0 {
            deque.pop_back();
            hash.remove(&(index / 2));
            tree.remove(&(index / 2));
        }
    }
    assert!(list.iter().eq(&vector));
    assert!(hash.iter().all(|(index, value)| vector[*index as usize] == *value));
    assert!(tree.iter().all(|(index, text)| vector[*index as usize].to_string() == *text));
    assert!(deque.iter().rev().eq(&vector[vector.len() - deque.len()..]));
    let sorted = heap.into_sorted_vec();
    vector.sort_unstable();
    assert_eq!(sorted, vector);
    let (set, ordered): (HashSet<_>, BTreeSet<_>) = (vector.iter().collect(), vector.iter().collect());
    assert_eq!(set.len(), ordered.len());
}

#[test]
fn strings_that_grow_piece_by_piece_keep_every_piece() {
    let mut text = String::new();
    for number in 0..200_000 {
        write!(text, "{number},").expect("writing to a string does not fail");
    }
    assert!(text.trim_end_matches(',').split(',').map(|piece| piece.parse::<u32>()).eq((0..200_000).map(Ok)));
    let shouted: Vec<String> = text.split(',').take(10_000).map(|piece| piece.repeat(7)).collect();
    assert!(shouted.iter().enumerate().all(|(number, piece)| *piece == number.to_string().repeat(7)));
}

#[test]
fn messages_through_channels_arrive_whole_when_each_is_freed_by_another_thread() {
    let (send, receive) = mpsc::channel::<Vec<String>>();
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let send = send.clone();
            thread::spawn(move || {
                for batch in 0..500 {
                    let texts = (0..50).map(|text| format!("{sender}/{batch}/{text}/{}", "x".repeat(text))).collect();
                    send.send(texts).expect("the receiver listens to the end");
                }
            })
        })
        .collect();
    drop(send);
    let mut next = HashMap::new();
    let mut count = 0;
    for texts in receive {
        for (index, text) in texts.iter().enumerate() {
            assert!(text.ends_with(&format!("/{index}/{}", "x".repeat(index))));
        }
        *next.entry(texts[0].split('/').next().map(str::to_owned)).or_insert(0) += 1;
        count += texts.len();
    }
    for sender in senders {
        sender.join().expect("senders do not panic");
    }
    assert_eq!(count, 4 * 500 * 50);
    assert!(next.values().all(|batches| *batches == 500));
}

#[test]
fn the_least_blocks_freed_by_another_thread_leave_their_neighbours_as_they_were() {
    // A block of 8 bytes has room for one word of the allocator's.
    let (kept, freed): (Vec<_>, Vec<_>) = (0..100_000_u64).map(Box::new).partition(|index| **index % 2 == 0);
    thread::spawn(move || drop(freed)).join().unwrap();
    assert!(kept.iter().zip((0..).step_by(2)).all(|(kept, index)| **kept == index));
}

#[test]
fn scoped_threads_that_free_each_others_data_corrupt_nothing() {
    let pool = Mutex::new(Vec::<(usize, Vec<u8>)>::new());
    thread::scope(|scope| {
        for thread in 0..4 {
            let pool = &pool;
            scope.spawn(move || {
                let mut numbers = Numbers::new(thread + 10);
                for _ in 0..20_000 {
                    let length = numbers.size(40_000);
                    let taken = {
                        let mut pool = pool.lock().expect("nobody panics with the lock");
                        pool.push((length, vec![length as u8; length]));
                        let at = numbers.below(pool.len());
                        if pool.len() > 300 { Some(pool.swap_remove(at)) } else { None }
                    };
                    if let Some((length, bytes)) = taken {
                        assert_eq!(bytes.len(), length);
                        assert!([0, length / 2, length - 1].iter().all(|at| bytes[*at] == length as u8));
                    }
                }
            });
        }
    });
    let pool = pool.into_inner().expect("nobody panicked with the lock");
    assert!(pool.iter().all(|(length, bytes)| bytes.iter().all(|byte| *byte == *length as u8)));
}

#[test]
fn shared_owners_on_many_threads_free_their_data_once() {
    let data: Arc<Vec<Arc<str>>> = Arc::new((0..1000).map(|number| Arc::from(format!("number {number}"))).collect());
    let threads: Vec<_> = (0..8)
        .map(|thread| {
            let data = data.clone();
            thread::spawn(move || {
                let mine: Vec<_> = data.iter().skip(thread).step_by(8).cloned().collect();
                drop(data);
                mine
            })
        })
        .collect();
    drop(data);
    let kept: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("it does not panic")).collect();
    for (thread, texts) in kept.iter().enumerate() {
        for (nth, text) in texts.iter().enumerate() {
            assert_eq!(**text, *format!("number {}", thread + 8 * nth));
            assert_eq!(Arc::strong_count(text), 1);
        }
    }
}

#[test]
fn a_vector_that_grows_to_hundreds_of_mebibytes_keeps_every_element() {
    let mut vector = Vec::new();
    for number in 0..(300_u64 << 20) / 8 {
        vector.push(number);
    }
    assert!(vector.iter().copied().eq(0..vector.len() as u64));
    for length in [20 << 20, 200_000, 20_000, 100, 0] {
        vector.truncate(length);
        vector.shrink_to_fit();
        assert!(vector.iter().copied().eq(0..length as u64));
    }
}

#[test]
fn vectors_that_grow_side_by_side_keep_apart() {
    let mut vectors: Vec<Vec<u32>> = (0..5).map(|_| Vec::new()).collect();
    for number in 0..4_000_000_u32 {
        vectors[number as usize % 5].push(number);
    }
    for (index, vector) in vectors.iter().enumerate() {
        assert!(vector.iter().enumerate().all(|(nth, number)| *number as usize == nth * 5 + index));
    }
}

#[test]
fn things_without_a_size_need_no_memory_and_free_none() {
    let empty: Vec<()> = vec![(); 1_000_000];
    assert_eq!(empty.len(), 1_000_000);
    let boxes: Vec<Box<()>> = (0..1000).map(|_| Box::new(())).collect();
    assert_eq!(boxes.len(), 1000);
    let (nothing, none): (Box<[u64]>, Arc<[u8]>) = (Box::from([]), Arc::from([]));
    assert!(nothing.is_empty() && none.is_empty());
    let mut vector = vec![1, 2, 3];
    vector.clear();
    vector.shrink_to_fit();
    assert_eq!(vector.capacity(), 0);
    vector.push(4);
    assert_eq!(vector, [4]);
}
