//! The kernel maps memory elsewhere than it is asked to: everything is served from where it does.

mod common;

use std::alloc::System;
use std::thread;

use common::{Held, Numbers, SIZES, verbs_of};
use homing::Homing;
use homing::fault::{self, Call, When};

#[global_allocator]
static OWN: System = System;

static HOMING: Homing = Homing::new();
verbs_of!(Direct, HOMING);

#[test]
fn where_the_kernel_maps_elsewhere_every_kind_of_block_is_served_and_freed_by_any_thread() {
    // The test is alone in its program.
    fault::inject(Call::Wish as u32, When::Every(1));
    let mut numbers = Numbers::new(3);
    let mut live: Vec<Held<Direct>> = Vec::new();
    for round in 0..4 {
        for size in SIZES {
            for align in [8, 4096, 1 << 20, 64 << 20] {
                live.push(Held::take(size, align, numbers.next()).expect("there is memory for it"));
            }
        }
        for _ in 0..2000 {
            live.push(Held::take_zeroed(numbers.size(200_000), 8, numbers.next()).expect("there is memory for it"));
            let at = numbers.below(live.len());
            assert!(live[at].resize(numbers.size(4 << 20)));
            let at = numbers.below(live.len());
            drop(live.swap_remove(at));
        }
        live.iter().for_each(Held::check);
        let half = live.split_off(live.len() / (round + 2));
        thread::spawn(move || drop(half)).join().expect("it does not panic");
    }
    let (asked, refused) = fault::stop();
    assert!(asked > 0 && asked == refused);
}
