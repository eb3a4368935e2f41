//! The limits of bump arenas: what they hold to the byte, what is refused for them, and that nothing else is.

use std::panic::catch_unwind;

use homing::{Bump, BumpConfig, BumpError, BumpOverflow, BumpStats};

fn limited(pool_size: usize, limit: usize) -> Bump {
    Bump::with(BumpConfig::new().pool_size(pool_size).limit(limit))
}

/// Asks for what the limit has no room for, and looks at what is said and that nothing but the count has changed.
fn check_refusal(bump: &Bump, asked: usize, align: usize) {
    let (before, left) = (bump.stats(), bump.limit_left());
    let limit = bump.limit().expect("there is one");
    let refused = bump.try_alloc_bytes(asked, align);
    assert_eq!(refused, Err(BumpError::Limit { asked, align, held: before.capacity, limit }));
    let mut wanted = before;
    wanted.overflows += 1;
    assert_eq!((bump.stats(), bump.limit_left()), (wanted, left), "a refused request takes nothing and is counted");
}

const LIMITS: [usize; 9] = [1, 63, 64, 65, 1000, 4096, 4097, 100_001, 3 << 20];

#[test]
fn a_single_request_is_served_to_the_last_byte_of_the_limit_and_not_one_more() {
    for limit in LIMITS {
        for pool_size in [0, 1, 100, limit - 1, limit, limit + 1, usize::MAX] {
            for size in [limit - 1, limit].into_iter().filter(|size| *size > 0) {
                let bump = limited(pool_size, limit);
                check_refusal(&bump, limit + 1, 1);
                assert!(bump.try_alloc_bytes(size, 1).is_ok(), "{size} of {limit}, pool of {pool_size}");
                assert!(bump.stats().capacity <= limit, "{:?}", bump.stats());
            }
        }
    }
}

#[test]
fn an_arena_that_grows_byte_by_byte_ends_at_its_limit() {
    for limit in LIMITS.into_iter().filter(|limit| *limit < 1 << 20) {
        for pool_size in [0, 1, 100, 3000] {
            let bump = limited(pool_size, limit);
            for _ in 0..limit {
                assert!(bump.try_alloc_bytes(1, 1).is_ok(), "{limit}: {:?}", bump.stats());
            }
            assert_eq!((bump.stats().used, bump.stats().capacity, bump.limit_left()), (limit, limit, Some(0)));
            check_refusal(&bump, 1, 1);
            assert!(bump.try_alloc_bytes(0, 1).is_ok(), "nothing fits always");
        }
    }
}

#[test]
fn a_smaller_chunk_serves_where_twice_the_newest_is_too_much() {
    let bump = limited(4096, 10_000);
    bump.alloc([1_u8; 4096]);
    bump.alloc(1_u8);
    let stats = bump.stats();
    assert_eq!((stats.chunks, stats.capacity, stats.overflows), (2, 10_000, 1));
    assert!(bump.try_alloc_bytes(5903, 1).is_ok());
    check_refusal(&bump, 1, 1);
    // With room for twice the newest, that is what is obtained.
    let bump = limited(4096, 12_289);
    bump.alloc([1_u8; 4096]);
    bump.alloc(1_u8);
    assert_eq!((bump.stats().capacity, bump.limit_left()), (12_288, Some(1)));
}

#[test]
fn what_the_limit_leaves_is_served_at_every_alignment_and_one_byte_more_at_none() {
    for shift in 0..=26 {
        let align = 1 << shift;
        let bump = limited(1000, 100_003);
        check_refusal(&bump, 100_004, align);
        bump.alloc(1_u8);
        let left = bump.limit_left().unwrap();
        assert_eq!(left, 99_003);
        check_refusal(&bump, left + 1, align);
        let block = bump.try_alloc_bytes(left, align).unwrap();
        assert!(block.addr().get().is_multiple_of(align));
        assert_eq!(bump.stats().capacity, 100_003, "1 << {shift}");
        let whole = limited(1000, 100_003);
        assert!(whole.try_alloc_bytes(100_003, align).is_ok(), "1 << {shift}");
    }
}

#[test]
fn no_size_near_the_end_of_the_address_space_wraps_into_the_limit() {
    for (pool_size, limit) in [(0, 1), (4096, 4096), (4096, 10_000), (usize::MAX, 4096)] {
        for offset in [0, 1, 63, 64, 4095] {
            let bump = limited(pool_size, limit);
            let _ = bump.try_alloc_bytes(offset, 1);
            for shift in 0..64 {
                for size in [usize::MAX, usize::MAX - 63, usize::MAX - offset, isize::MAX as usize + 1, 1 << 60] {
                    check_refusal(&bump, size, 1 << shift);
                }
            }
        }
    }
}

#[test]
fn a_limit_of_all_there_is_refuses_only_what_is_beyond_it() {
    let bump = limited(4096, usize::MAX);
    let size = usize::MAX;
    assert_eq!(bump.limit_left(), Some(size));
    assert_eq!(bump.try_alloc_bytes(size, 1), Err(BumpError::NoMemory { size, align: 1 }), "within the limit");
    bump.alloc(1_u8);
    assert_eq!(bump.limit_left(), Some(size - 4096));
    check_refusal(&bump, size, 1);
    let size = size - 4096;
    assert_eq!(bump.try_alloc_bytes(size, 1), Err(BumpError::NoMemory { size, align: 1 }));
    assert_eq!(*bump.alloc(5), 5);
}

#[test]
fn none_is_the_default_and_0() {
    for config in [BumpConfig::new(), BumpConfig::new().limit(0), BumpConfig::new().limit(4096).limit(0)] {
        let bump = Bump::with(config);
        assert_eq!(config, BumpConfig::new());
        assert_eq!((bump.limit(), bump.limit_left()), (None, None));
        assert!(bump.try_alloc_bytes(5 << 20, 1).is_ok());
    }
}

#[test]
fn chunks_that_a_reset_gives_back_count_no_longer() {
    let mut bump = limited(1000, 10_000);
    for round in 1..100 {
        while bump.try_alloc_bytes(700, 1).is_ok() {}
        assert!(bump.stats().capacity <= 10_000 && bump.stats().chunks > 1, "{:?}", bump.stats());
        let before = bump.stats().overflows;
        bump.reset();
        let kept = bump.stats().capacity;
        assert_eq!((bump.stats().chunks, bump.limit_left()), (1, Some(10_000 - kept)));
        assert!(kept < 10_000);
        // The kept chunk and a second one.
        assert!(bump.try_alloc_bytes(kept, 1).is_ok());
        assert!(bump.try_alloc_bytes(10_000 - kept, 1).is_ok(), "round {round}");
        assert_eq!(bump.stats().overflows, before + 1);
        check_refusal(&bump, 1, 1);
        bump.reset();
    }
}

#[test]
fn an_arena_that_was_just_reset_serves_as_much_at_once_as_a_new_one() {
    for align in [1, 64, 4096, 1 << 20] {
        let mut bump = limited(1000, 10_000);
        let monitor = bump.monitor();
        while bump.try_alloc_bytes(700, 1).is_ok() {}
        let mark = bump.stats().high_water_mark;
        bump.reset();
        let beginning = bump.checkpoint();
        let kept = bump.stats().capacity;
        assert!(kept > 500 && kept < 9500, "what is kept is in the way of a request of so many");
        check_refusal(&bump, 10_001, align);
        let block = bump.try_alloc_bytes(9500, align).unwrap();
        // SAFETY: a block of that size, which is nobody else's, all zero.
        let bytes = unsafe { std::slice::from_raw_parts_mut(block.as_ptr(), 9500) };
        assert!(bytes.iter().all(|byte| *byte == 0));
        bytes.fill(1);
        let stats = bump.stats();
        assert_eq!((stats.chunks, stats.high_water_mark), (1, mark.max(stats.used)));
        assert!(9500 <= stats.used && stats.used <= stats.capacity && stats.capacity <= 10_000, "{stats:?}");
        assert_eq!(monitor.stats(), stats);
        assert!(bump.limit_left() == Some(0) || bump.try_alloc_bytes(bump.limit_left().unwrap(), 1).is_ok());
        assert_eq!(bump.restore(beginning), Ok(()), "the beginning is where it was");
        assert_eq!((bump.stats().used, bump.limit_left()), (0, Some(0)));
        assert!(bump.try_alloc_bytes(9500, 1).is_ok());
    }
}

#[test]
fn a_chunk_that_a_restore_left_makes_room_and_stays_where_that_is_not_enough() {
    let mut bump = limited(1000, 10_000);
    bump.alloc([1_u8; 600]);
    let point = bump.checkpoint();
    bump.alloc([2_u8; 3000]);
    bump.restore(point).unwrap();
    let held = bump.stats();
    assert_eq!((held.chunks, held.capacity), (2, 1000 + 3008), "the second is spare");
    check_refusal(&bump, 9001, 1);
    assert!(bump.try_alloc_bytes(9000, 1).is_ok(), "all but the first chunk");
    assert_eq!((bump.stats().chunks, bump.stats().capacity), (2, 10_000));
    bump.restore(point).unwrap();
    assert_eq!(bump.stats().used, 600);
    let again = bump.stats();
    assert!(bump.try_alloc_bytes(8000, 1).is_ok());
    assert_eq!(bump.stats().capacity, again.capacity, "the spare one serves what it has room for");
}

#[test]
fn what_lies_in_the_arena_stays_when_the_limit_refuses() {
    let bump = limited(64, 5000);
    let mut words = Vec::new();
    while let Ok(word) = bump.try_alloc_str(&format!("word {}", words.len()))
        && words.len() < 5000
    {
        words.push(word);
        let _ = bump.try_alloc_bytes(5001, 8);
    }
    assert!((400..1000).contains(&words.len()), "{}", words.len());
    assert!(words.iter().enumerate().all(|(number, word)| **word == format!("word {number}")));
    assert!(bump.stats().overflows > words.len() as u64);
}

#[test]
fn a_pool_that_does_not_grow_is_cut_to_the_limit_and_says_which_of_them_it_is() {
    let config = BumpConfig::new().pool_size(4096).overflow(BumpOverflow::Error);
    let bump = Bump::with(config.limit(1000));
    assert!(bump.try_alloc_bytes(1000, 1).is_ok());
    check_refusal(&bump, 1, 1);
    check_refusal(&bump, usize::MAX, 1);
    for limit in [4096, 4097] {
        let bump = Bump::with(config.limit(limit));
        assert!(bump.try_alloc_bytes(4096, 1).is_ok());
        let refused = bump.try_alloc_bytes(1, 1);
        assert_eq!(refused, Err(BumpError::Full { asked: 1, align: 1, left: 0, size: 4096 }), "its pool is full");
    }
}

#[test]
fn a_limit_that_is_set_later_holds_from_then_on_and_takes_nothing_away() {
    let mut bump = Bump::with(BumpConfig::new().pool_size(4096));
    bump.set_limit(100);
    assert_eq!((bump.limit(), bump.limit_left(), bump.config()), (Some(100), Some(100), bump.config().limit(100)));
    check_refusal(&bump, 101, 1);
    bump.set_limit(0);
    let kept = bump.alloc([7_u8; 3000]);
    bump.set_limit(100);
    assert_eq!((bump.stats().capacity, bump.limit_left()), (4096, Some(0)));
    assert!(bump.try_alloc_bytes(1096, 1).is_ok(), "out of what it has");
    check_refusal(&bump, 1, 1);
    assert_eq!(*kept, [7; 3000]);
    bump.reset();
    assert_eq!(bump.stats().capacity, 4096);
    check_refusal(&bump, 4097, 1);
    // An alignment that the chunk has none of at that size: within the limit once it is given back.
    bump.set_limit(4096);
    assert!(bump.try_alloc_bytes(4096, 1 << 20).is_ok());
    bump.set_limit(4096 + 64);
    assert!(bump.try_alloc_bytes(64, 1).is_ok());
    assert_eq!(bump.limit_left(), Some(0));
    bump.set_limit(0);
    assert!(bump.try_alloc_bytes(1 << 20, 1).is_ok());
    assert_eq!(bump.config(), BumpConfig::new().pool_size(4096));
}

#[test]
fn the_error_tells_the_limit_what_is_held_and_what_was_asked() {
    let bump = limited(1024, 3000);
    bump.alloc(1_u8);
    let panic = catch_unwind(|| bump.alloc([0_u16; 1234]).len()).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    for part in ["3000 bytes", "1024", "2468", "aligned to 2", "reset", "larger limit"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(bump.try_alloc(0_u8), Ok(&mut 0), "and the arena serves on");
}

#[test]
fn a_text_that_grows_asks_for_no_more_than_it_needs_where_the_limit_is_near() {
    let bump = limited(0, 170);
    let (one, two) = ("1".repeat(64), "2".repeat(36));
    // Twice the first block would be more than is left; what is needed is not.
    let text = bump.try_alloc_fmt(format_args!("{one}{two}")).map(|text| text.len());
    assert_eq!((text, bump.stats().overflows), (Ok(100), 2));
    let (before, long) = (bump.stats(), "3".repeat(171));
    let refused = bump.try_alloc_fmt(format_args!("{long}"));
    assert_eq!(refused, Err(BumpError::Limit { asked: 171, align: 1, held: before.capacity, limit: 170 }));
    assert_eq!(bump.stats(), after_overflow(before));
}

fn after_overflow(mut stats: BumpStats) -> BumpStats {
    stats.overflows += 1;
    stats
}

#[cfg(feature = "allocator-api2")]
mod collections {
    use super::*;
    use allocator_api2::vec::Vec;
    use hashbrown::HashMap;
    use std::hash::RandomState;

    #[test]
    fn a_vector_that_the_limit_refuses_is_whole_and_serves_on() {
        for pool_size in [0, 100, 1000] {
            let bump = limited(pool_size, 10_000);
            let mut vector = Vec::new_in(&bump);
            while vector.try_reserve(1).is_ok() {
                vector.push(vector.len());
            }
            assert!(vector.len() >= 256 && vector.iter().copied().eq(0..vector.len()), "{}", vector.len());
            assert!(bump.stats().capacity <= 10_000 && bump.stats().overflows > 0, "{:?}", bump.stats());
            let left = bump.limit_left().unwrap();
            assert!(left == 0 || bump.try_alloc_bytes(left, 1).is_ok());
            assert_eq!(bump.limit_left(), Some(0));
            assert!(vector.iter().copied().eq(0..vector.len()));
        }
    }

    #[test]
    fn vectors_that_come_and_go_in_an_arena_do_not_wear_its_limit_out() {
        let bump = limited(64, 5000);
        for size in [100, 3000, 5000, 64, 5000, 1].into_iter().cycle().take(600) {
            let mut vector = Vec::<u8, _>::new_in(&bump);
            assert!(vector.try_reserve_exact(size).is_ok(), "{size}: {:?}", bump.stats());
            assert_eq!(bump.stats().used, size);
            drop(vector);
            assert_eq!(bump.stats().used, 0);
            let refused = Vec::<u8, _>::new_in(&bump).try_reserve_exact(5001).is_err();
            assert!(refused && bump.stats().capacity <= 5000);
        }
    }

    #[test]
    fn a_map_that_the_limit_refuses_has_all_it_was_given() {
        let mut bump = limited(256, 50_000);
        for _ in 0..3 {
            let mut map = HashMap::with_hasher_in(RandomState::new(), &bump);
            while map.try_reserve(1).is_ok() {
                map.insert(map.len(), map.len() * 3);
            }
            assert!(map.len() > 200 && (0..map.len()).all(|key| map[&key] == key * 3), "{}", map.len());
            assert!(bump.stats().capacity <= 50_000);
            drop(map);
            bump.reset();
        }
    }
}
