//! Threads that build words for each other, with `Homing` as the program's allocator.
//!
//! `cargo run --release --example threads`

use std::collections::HashMap;
use std::sync::mpsc;
use std::thread;

use homing::Homing;

#[global_allocator]
static GLOBAL: Homing = Homing::new();

const THREADS: usize = 4;
const WORDS: usize = 50_000;

fn main() {
    let (send, receive) = mpsc::channel::<Vec<String>>();
    let builders: Vec<_> = (0..THREADS)
        .map(|builder| {
            let send = send.clone();
            thread::spawn(move || {
                for batch in 0..WORDS / 100 {
                    let words =
                        (0..100).map(|word| format!("word {} of builder {builder}", batch * 100 + word)).collect();
                    send.send(words).expect("the counting thread listens to the end");
                }
            })
        })
        .collect();
    drop(send);
    let mut lengths: HashMap<usize, usize> = HashMap::new();
    for words in receive {
        for word in words {
            *lengths.entry(word.len()).or_default() += 1;
        }
    }
    for builder in builders {
        builder.join().expect("builders do not panic");
    }
    let mut lengths: Vec<_> = lengths.into_iter().collect();
    lengths.sort_unstable();
    for (length, count) in &lengths {
        println!("{count:>7} words of {length} bytes");
    }
    assert_eq!(lengths.iter().map(|(_, count)| count).sum::<usize>(), THREADS * WORDS);
    let stats = homing::stats();
    println!(
        "{} blocks handed out, {} KiB in use, {} KiB at the peak",
        stats.blocks,
        stats.used >> 10,
        stats.peak >> 10
    );
}
