//! Bump arenas: what is handed out, what comes back, and what is said when neither can be.

use std::alloc::Layout;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicBool, Ordering};

use homing::{Bump, BumpConfig, BumpError, BumpOverflow, Checkpoint, CheckpointError};

const FIXED: BumpConfig = BumpConfig::new().pool_size(4096).overflow(BumpOverflow::Error);

/// The bytes at `block`, which the arena has handed out and nobody else uses.
#[allow(clippy::mut_from_ref, reason = "what is handed out is nobody else's")]
fn bytes(_: &Bump, block: std::ptr::NonNull<u8>, size: usize) -> &mut [u8] {
    // SAFETY: as said; any byte of an arena's chunk was written before, or is zero.
    unsafe { std::slice::from_raw_parts_mut(block.as_ptr(), size) }
}

#[test]
fn every_byte_of_a_pool_can_be_handed_out_and_not_one_more() {
    for size in [1, 2, 63, 64, 65, 100, 4096, 5000, 65536, 65537, 3 << 20] {
        let bump = Bump::with(FIXED.pool_size(size));
        assert!(bump.try_alloc_bytes(size, 1).is_ok(), "{size}");
        assert_eq!(bump.try_alloc_bytes(1, 1), Err(BumpError::Full { asked: 1, align: 1, left: 0, size }));
        assert_eq!(bump.stats().utilisation(), 1.0);
        assert_eq!(bump.stats().overflows, 1);
        assert!(bump.try_alloc_bytes(0, 1).is_ok(), "nothing fits always");
    }
}

#[test]
fn a_size_near_the_end_of_the_address_space_wraps_at_no_offset_and_no_alignment() {
    for overflow in [BumpOverflow::Error, BumpOverflow::Grow] {
        for offset in 0..70 {
            let bump = Bump::with(FIXED.overflow(overflow));
            bump.alloc_slice_fill_default::<u8>(offset);
            for shift in 0..64 {
                let used = bump.stats().used;
                // No alignment of a pool of 4 KiB leaves room for so many.
                for size in
                    [usize::MAX, usize::MAX - 1, usize::MAX - offset, isize::MAX as usize + 1, usize::MAX - 4096]
                {
                    let align = 1 << shift;
                    let wanted = match overflow {
                        BumpOverflow::Error => BumpError::Full { asked: size, align, left: 4096 - offset, size: 4096 },
                        _ => BumpError::NoMemory { size, align },
                    };
                    assert!(
                        offset == 0 && bump.stats().capacity == 0 || bump.try_alloc_bytes(size, align) == Err(wanted),
                        "{size:#x} {align:#x} at {offset}: {:?}",
                        bump.try_alloc_bytes(size, align)
                    );
                    assert_eq!(bump.stats().used, used, "a refused request takes nothing");
                }
            }
        }
    }
}

#[test]
fn a_first_request_that_cannot_be_leaves_an_arena_that_serves() {
    for size in [usize::MAX, isize::MAX as usize, 1 << 60] {
        let bump = Bump::new();
        assert_eq!(bump.try_alloc_bytes(size, 8), Err(BumpError::NoMemory { size, align: 8 }));
        assert_eq!(bump.stats().overflows, 1);
        assert_eq!(*bump.alloc(5), 5);
    }
}

#[test]
fn arrays_whose_bytes_wrap_are_refused() {
    let bump = Bump::new();
    let wrapped = usize::MAX / 8 + 2;
    let refused = bump.try_alloc_slice_fill_default::<u64>(wrapped);
    assert_eq!(refused, Err(BumpError::NoMemory { size: usize::MAX, align: 8 }));
    assert_eq!(bump.try_alloc_slice_fill_default::<()>(1000).map(|units| units.len()), Ok(1000));
}

#[test]
fn every_alignment_to_64_mib_is_kept_at_every_offset() {
    for shift in 0..=26 {
        let align = 1_usize << shift;
        let mut bump = Bump::with(BumpConfig::new().zero_on_reset(false));
        for offset in [0, 1, 7, 4095] {
            bump.reset();
            bump.alloc_slice_fill_default::<u8>(offset);
            for size in [1, 3, 64, 5000] {
                let block = bump.try_alloc_bytes(size, align).unwrap();
                assert!(block.addr().get().is_multiple_of(align), "{align:#x}");
                bytes(&bump, block, size).fill(1);
            }
            let stats = bump.stats();
            assert!(stats.used <= stats.capacity, "{stats:?}");
        }
    }
}

#[test]
fn a_large_alignment_is_served_by_one_chunk_that_is_no_larger_for_it() {
    for shift in 7..=26 {
        let bump = Bump::new();
        bump.alloc(1_u8);
        bump.try_alloc_bytes(70 << 10, 1 << shift).unwrap();
        let stats = bump.stats();
        assert_eq!((stats.chunks, stats.overflows, stats.capacity), (2, 1, 3 * (64 << 10)), "1 << {shift}");
    }
}

#[test]
fn an_alignment_that_no_pool_has_room_for_is_full_and_not_beyond_it() {
    let bump = Bump::with(FIXED);
    bump.alloc(1_u8);
    for shift in 12..64 {
        let refused = bump.try_alloc_bytes(4096, 1 << shift);
        assert_eq!(refused, Err(BumpError::Full { asked: 4096, align: 1 << shift, left: 4095, size: 4096 }));
    }
}

#[test]
fn an_alignment_that_is_no_power_of_two_is_named() {
    let bump = Bump::new();
    for align in [0, 3, 24, usize::MAX, (1 << 63) + 1] {
        assert_eq!(bump.try_alloc_bytes(1, align), Err(BumpError::BadAlign { align }));
    }
    assert_eq!(bump.stats().capacity, 0);
}

#[test]
fn a_reset_zeroes_or_does_not_as_set() {
    const LARGE: usize = 9 << 20;
    // Large ones begin and end in the middle of pages, too.
    for (size, left) in [(1, 0), (4096, 0), (65536, 7), (300_000, 0), (LARGE, 0), (LARGE + 1234, 0), (LARGE, 77)] {
        for zero in [true, false] {
            let mut bump = Bump::with(BumpConfig::new().pool_size(size + left).zero_on_reset(zero));
            let block = bump.try_alloc_bytes(size, 1).unwrap();
            let place = block.addr();
            if zero {
                assert!(bytes(&bump, block, size).iter().all(|byte| *byte == 0), "{size}: fresh");
            }
            bytes(&bump, block, size).fill(0xA5);
            bump.reset();
            let block = bump.try_alloc_bytes(size, 1).unwrap();
            assert_eq!(block.addr(), place, "it is the same memory");
            let wanted = if zero { 0 } else { 0xA5 };
            assert!(bytes(&bump, block, size).iter().all(|byte| *byte == wanted), "{size}, zero {zero}");
        }
    }
}

#[test]
fn a_large_range_goes_back_to_the_kernel_at_a_reset() {
    const SIZE: usize = 16 << 20;
    let mut bump = Bump::with(BumpConfig::new().pool_size(SIZE));
    let block = bump.try_alloc_bytes(SIZE, 1).unwrap();
    bytes(&bump, block, SIZE).fill(1);
    let middle = block.as_ptr().wrapping_add(SIZE / 2).cast_const();
    let before = homing::resident_node(middle);
    bump.reset();
    // Some kernels, and the portable twin, do not tell.
    if before.is_ok() {
        assert_eq!(homing::resident_node(middle), Ok(None), "{before:?}");
    }
}

#[test]
fn memory_of_chunks_used_before_others_is_zero_after_a_reset_and_a_restore() {
    let mut bump = Bump::with(BumpConfig::new().pool_size(1000));
    let check = |bump: &mut Bump, from: usize| {
        for size in (from..from + 40).map(|number| number * 37 % 2000 + 1) {
            let block = bump.try_alloc_bytes(size, 1).unwrap();
            assert!(bytes(bump, block, size).iter().all(|byte| *byte == 0), "{size}");
            bytes(bump, block, size).fill(0xFF);
        }
    };
    for round in 0..10 {
        check(&mut bump, round);
        let point = bump.checkpoint();
        for _ in 0..3 {
            check(&mut bump, round + 5);
            bump.restore(point).unwrap();
        }
        check(&mut bump, round);
        bump.reset();
    }
}

#[test]
fn a_reset_keeps_the_largest_chunk_and_no_other() {
    let mut bump = Bump::with(BumpConfig::new().pool_size(1000));
    for _ in 0..5 {
        bump.alloc_slice_fill_default::<u8>(5000);
    }
    let before = bump.stats();
    assert!(before.chunks > 2, "{before:?}");
    bump.reset();
    let after = bump.stats();
    assert_eq!((after.chunks, after.used, after.resets), (1, 0, 1));
    assert!(after.capacity >= before.capacity / 2 && after.capacity < before.capacity, "{before:?} {after:?}");
    assert_eq!(after.high_water_mark, before.used);
    bump.alloc_slice_fill_default::<u8>(after.capacity);
    assert_eq!(bump.stats().overflows, before.overflows, "what was enough once is enough again");
}

#[test]
fn overflows_are_counted_whether_refused_or_grown_for() {
    let bump = Bump::with(FIXED);
    for _ in 0..3 {
        assert!(bump.try_alloc_bytes(5000, 1).is_err());
    }
    assert_eq!((bump.stats().overflows, bump.stats().chunks), (3, 1));
    let bump = Bump::with(FIXED.overflow(BumpOverflow::Grow));
    bump.alloc_slice_fill_default::<u8>(4096);
    assert_eq!(bump.stats().overflows, 0);
    bump.alloc(1_u8);
    assert_eq!((bump.stats().overflows, bump.stats().chunks), (1, 2));
    assert!(bump.stats().capacity >= 3 * 4096, "each chunk is at least twice the last");
    let bump = Bump::with(FIXED.overflow(BumpOverflow::Grow));
    bump.alloc_slice_fill_default::<u8>(5000);
    assert_eq!((bump.stats().overflows, bump.stats().chunks), (1, 1), "a first request beyond the pool");
}

#[test]
fn the_infallible_ways_panic_with_the_text_of_the_error() {
    let bump = Bump::with(FIXED);
    let panic = catch_unwind(|| bump.alloc([0_u8; 5000]).len()).unwrap_err();
    let text = panic.downcast_ref::<String>().unwrap();
    assert_eq!(*text, BumpError::Full { asked: 5000, align: 1, left: 4096, size: 4096 }.to_string());
    for part in ["4096 bytes", "5000", "pool_size"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_panic_that_passes_through_an_arena_leaves_it_whole_and_its_user_need_not_assert_so() {
    let bump = Bump::with(BumpConfig::new().pool_size(4096));
    let monitor = bump.monitor();
    let kept = bump.alloc_str("kept");
    // In the midst of a slice, and where another chunk was just obtained.
    assert!(
        catch_unwind(|| bump.alloc_slice_fill_with(9, |place| 9_usize.checked_div(4 - place).unwrap()).len()).is_err()
    );
    assert!(catch_unwind(|| bump.alloc_with(|| -> [u8; 5000] { panic!("no value") }).len()).is_err());
    assert_eq!(catch_unwind(|| monitor.stats()).unwrap(), bump.stats());
    assert_eq!((&*kept, &*bump.alloc_str("more")), ("kept", "more"));
    let mut bump = catch_unwind(move || bump).unwrap();
    bump.reset();
    assert_eq!((bump.stats().used, bump.stats().chunks), (0, 1));

    let local = Bump::local().unwrap();
    assert!(catch_unwind(move || local.alloc_with(|| -> u8 { panic!("no value") }).wrapping_add(1)).is_err());
    assert!(Bump::local().is_ok(), "the guard was dropped on the way");
}

#[test]
fn values_that_are_made_in_the_arena_while_another_is_put_there_do_not_overlap() {
    let bump = Bump::with(BumpConfig::new().pool_size(64));
    let outer = bump.alloc_with(|| (bump.alloc([1_u64; 20]), bump.alloc([2_u8; 3]), 3_u64));
    let all = bump.alloc_slice_fill_with(100, |place| bump.alloc(place));
    assert_eq!((&*outer.0, &*outer.1, outer.2), (&[1; 20], &[2; 3], 3));
    assert!(all.iter().enumerate().all(|(place, value)| place == **value));
}

#[test]
fn an_iterator_that_lies_about_its_length_leaves_nothing_uninitialised() {
    struct Liar(usize, usize);
    impl Iterator for Liar {
        type Item = String;
        fn next(&mut self) -> Option<String> {
            self.1 = self.1.checked_sub(1)?;
            Some("word".to_owned())
        }
        fn size_hint(&self) -> (usize, Option<usize>) {
            (self.0, Some(self.0))
        }
    }
    impl ExactSizeIterator for Liar {}
    let bump = Bump::new();
    for (says, has) in [(10, 3), (3, 10), (0, 5), (5, 0)] {
        let words = bump.alloc_slice_fill_iter(Liar(says, has));
        assert_eq!(words.len(), says.min(has));
        for word in words {
            assert_eq!(word, "word");
            // SAFETY: in the arena, which does not drop it.
            unsafe { std::ptr::drop_in_place(word) };
        }
    }
}

#[test]
fn values_of_no_size_take_nothing_and_are_aligned() {
    #[derive(Debug, Clone, Copy, Default, PartialEq)]
    #[repr(align(4096))]
    struct Nothing;
    let bump = Bump::new();
    assert!(std::ptr::from_ref(bump.alloc(Nothing)).addr().is_multiple_of(4096));
    assert_eq!(bump.alloc_slice_copy(&[Nothing; 7]).len(), 7);
    assert_eq!(bump.alloc_str(""), "");
    assert_eq!(bump.stats(), homing::BumpStats::default());
    for align in [1, 4096, 1 << 26] {
        assert!(bump.try_alloc_bytes(0, align).unwrap().addr().get().is_multiple_of(align));
        assert!(bump.alloc_layout(Layout::from_size_align(0, align).unwrap()).addr().get().is_multiple_of(align));
    }
    assert_eq!(bump.stats().used, 0);
}

#[test]
fn what_is_in_the_arena_stays_where_it_is_when_the_arena_is_moved_and_sent() {
    let bump = Bump::new();
    let place = std::ptr::from_mut(bump.alloc(77_u64)).expose_provenance();
    let boxed = Box::new(bump);
    let bump = std::thread::spawn(move || {
        boxed.alloc(1_u64);
        *boxed
    });
    let bump = bump.join().unwrap();
    assert_eq!(bump.stats().used, 16);
    // SAFETY: the arena is neither reset nor dropped.
    assert_eq!(unsafe { *std::ptr::with_exposed_provenance::<u64>(place) }, 77);
}

#[test]
fn a_foreign_checkpoint_names_both_arenas() {
    let (mut one, other) = (Bump::new(), Bump::new());
    other.alloc(1);
    let point = other.checkpoint();
    let refused = one.restore(point).unwrap_err();
    assert_eq!(refused, CheckpointError::Foreign { bump: one.id(), checkpoint: other.id() });
    assert_ne!(one.id(), other.id());
    let text = refused.to_string();
    assert!(text.contains(&one.id().to_string()) && text.contains(&other.id().to_string()), "{text}");
}

#[test]
fn a_checkpoint_before_a_reset_is_stale_and_says_how_many() {
    let mut bump = Bump::new();
    let unused = bump.checkpoint();
    assert_eq!(bump.restore(unused), Ok(()));
    for resets in 1..4 {
        bump.reset();
        assert_eq!(bump.restore(unused), Err(CheckpointError::Stale { resets }));
    }
    bump.alloc(1_u64);
    let point = bump.checkpoint();
    bump.reset();
    assert_eq!(bump.restore(point), Err(CheckpointError::Stale { resets: 1 }));
    assert_eq!(bump.restore(unused), Err(CheckpointError::Stale { resets: 4 }));
    assert_eq!(bump.stats().resets, 4);
}

#[test]
fn checkpoints_of_an_arena_before_its_first_use_hold_after_it() {
    let mut bump = Bump::new();
    let point = bump.checkpoint();
    bump.alloc([1_u64; 10]);
    assert_eq!(bump.restore(point), Ok(()));
    assert_eq!(bump.stats().used, 0);
}

#[test]
fn a_checkpoint_that_was_made_up_clears_nothing_that_lies_beyond_what_was_used() {
    for zero in [true, false] {
        let mut bump = Bump::with(BumpConfig::new().pool_size(4096).zero_on_reset(zero));
        bump.alloc([1_u8; 64]);
        // Leaves nearly all of the first chunk over.
        bump.alloc([2_u8; 5000]);
        let [id, resets, restores, _] = bump.checkpoint().to_words();
        let made_up = Checkpoint::from_words([id, resets, restores, 2000]).unwrap();
        bump.restore(made_up).unwrap();
        assert_eq!(bump.stats().used, 64, "no more than what was used there");
        bump.restore(Checkpoint::from_words([id, resets, u64::MAX, u64::MAX]).unwrap()).unwrap();
        assert_eq!(bump.stats().used, 64);
    }
}

#[test]
fn nested_restores_over_many_chunks_leave_what_lies_below() {
    for zero in [true, false] {
        let mut bump = Bump::with(BumpConfig::new().pool_size(128).zero_on_reset(zero));
        let mut points = Vec::new();
        for depth in 0..50_usize {
            points.push((bump.checkpoint(), bump.stats().used));
            bump.alloc_slice_fill_with(depth * 7 + 1, |_| depth as u8);
        }
        for (point, used) in points.iter().rev() {
            for _ in 0..2 {
                bump.alloc_slice_fill_default::<u32>(100);
                bump.restore(*point).unwrap();
                assert_eq!(bump.stats().used, *used);
            }
        }
        assert!(points.iter().skip(1).all(|(point, _)| bump.restore(*point).is_err()));
        assert_eq!(bump.stats().chunks, 2, "the first, and the largest, which is spare");
    }
}

#[test]
fn a_restore_that_lowers_nothing_undoes_nothing() {
    let mut bump = Bump::new();
    bump.alloc(1_u64);
    let (one, same) = (bump.checkpoint(), bump.checkpoint());
    for _ in 0..10 {
        bump.restore(one).unwrap();
        bump.restore(same).unwrap();
    }
    bump.alloc(2_u64);
    let later = bump.checkpoint();
    bump.restore(later).unwrap();
    bump.restore(same).unwrap();
    assert_eq!(bump.restore(later), Err(CheckpointError::Future { ahead: 8 }));
}

#[test]
fn the_largest_chunk_that_a_restore_leaves_is_used_again() {
    let mut bump = Bump::with(BumpConfig::new().pool_size(4096));
    let point = bump.checkpoint();
    let mut capacity = None;
    for _ in 0..1000 {
        bump.alloc_slice_fill_default::<u8>(4096);
        bump.alloc_slice_fill_default::<u8>(8000);
        assert_eq!(*capacity.get_or_insert(bump.stats().capacity), bump.stats().capacity);
        bump.restore(point).unwrap();
    }
}

#[test]
fn another_thread_reads_figures_of_one_moment_while_the_owner_works() {
    const BLOCK: usize = 48;
    let mut bump = Bump::with(BumpConfig::new().pool_size(1000).zero_on_reset(false));
    let monitor = bump.monitor();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = |monitor: homing::BumpMonitor| {
            let (mut last, mut readings) = (homing::BumpStats::default(), 0_u64);
            while !done.load(Ordering::Relaxed) || readings < 1000 {
                let stats = monitor.stats();
                readings += 1;
                assert!(stats.used <= stats.capacity && stats.used <= stats.high_water_mark, "{stats:?}");
                assert!(stats.used.is_multiple_of(BLOCK), "half an operation: {stats:?}");
                assert!(stats.high_water_mark >= last.high_water_mark, "{last:?} {stats:?}");
                assert!(stats.resets >= last.resets && stats.overflows >= last.overflows, "{last:?} {stats:?}");
                assert!((0.0..=1.0).contains(&stats.utilisation()));
                last = stats;
            }
            // Once more: the last reading may have been before the end.
            monitor.stats()
        };
        let readers: Vec<_> =
            (0..2).map(|_| monitor.clone()).map(|monitor| scope.spawn(move || reader(monitor))).collect();
        for round in 0..2000 {
            for _ in 0..round % 100 {
                bump.try_alloc_bytes(BLOCK, 1).unwrap();
            }
            let point = bump.checkpoint();
            for _ in 0..round % 77 {
                bump.try_alloc_bytes(BLOCK, 1).unwrap();
            }
            bump.restore(point).unwrap();
            if round % 3 == 0 {
                bump.reset();
            }
        }
        let at_the_end = bump.stats();
        done.store(true, Ordering::Relaxed);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), at_the_end);
        }
    });
    assert_eq!(monitor.resets(), bump.stats().resets);
    let (marks, overflows) = (monitor.high_water_mark(), monitor.overflows());
    drop(bump);
    let over = monitor.stats();
    assert_eq!((over.used, over.capacity, over.chunks), (0, 0, 0), "what is gone holds nothing");
    assert_eq!((over.high_water_mark, over.overflows), (marks, overflows));
}

#[test]
fn a_monitor_of_an_arena_that_was_never_used_sees_its_first_use() {
    let mut bump = Bump::new();
    bump.reset();
    let monitor = bump.monitor();
    assert_eq!((monitor.stats().capacity, monitor.resets()), (0, 1));
    bump.alloc([0_u8; 10]);
    assert_eq!(monitor.used(), 10);
    assert_eq!(monitor.stats(), bump.stats());
}

#[test]
fn a_node_that_is_not_there_is_an_error_of_the_first_use_and_one_that_is_holds_the_arena() {
    let bump = Bump::with(BumpConfig::new().node(homing::NodeId::new(60_000)));
    assert!(matches!(bump.try_alloc(1), Err(BumpError::Node(homing::NodeError::NoSuchNode(_)))));
    assert!(matches!(bump.try_monitor(), Err(BumpError::Node(_))));
    let node = homing::Topology::read().nodes()[0].id();
    let bump = Bump::with(BumpConfig::new().node(node));
    // All of its pool, which begins where the heap's block does.
    let block = bump.try_alloc_bytes(64 << 10, 1).unwrap();
    // SAFETY: the start of a live block.
    assert_eq!(unsafe { homing::node_of(block.as_ptr()) }, Some(node));
}
