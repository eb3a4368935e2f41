//! What an allocator does to the process beyond its memory ends with its turn.

use std::alloc::Layout;
use std::mem;

use homing_benches::block::Block;
use homing_benches::peers::turn::Turn;
use homing_benches::peers::{Peer, PeerId, Visitor};

struct Use;

impl Visitor for Use {
    type Output = ();

    fn visit<P: Peer>(self) {
        drop(Block::<P>::new(Layout::new::<[u64; 8]>()));
    }
}

fn processors() -> usize {
    // SAFETY: a `cpu_set_t` is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: the kernel writes at most the size that is given.
    assert_eq!(unsafe { libc::sched_getaffinity(0, mem::size_of_val(&set), &mut set) }, 0);
    // SAFETY: the set is whole; the function only reads it.
    usize::try_from(unsafe { libc::CPU_COUNT(&set) }).expect("a count")
}

fn stay_on_one_processor() {
    // SAFETY: a `cpu_set_t` is an array of integers, for which zero is a value.
    let mut set: libc::cpu_set_t = unsafe { mem::zeroed() };
    // SAFETY: it takes nothing, and returns a processor that this thread may use.
    let processor = usize::try_from(unsafe { libc::sched_getcpu() }).expect("a processor");
    // SAFETY: a processor in use is below the size of the set, on machines where the set is large enough at all.
    unsafe { libc::CPU_SET(processor, &mut set) };
    // SAFETY: the set is whole and its size is the one given.
    assert_eq!(unsafe { libc::sched_setaffinity(0, mem::size_of_val(&set), &set) }, 0);
}

/// numalloc binds a thread to all processors of a node: seen here because the thread may use one only, before.
#[test]
fn a_thread_keeps_its_processors() {
    stay_on_one_processor();
    for _ in 0..2 {
        for &peer in PeerId::all() {
            {
                let _turn = Turn::of(peer);
                peer.visit(Use);
            }
            assert_eq!(processors(), 1, "after the turn of {}", peer.name());
        }
    }
}

#[cfg(feature = "rpmalloc")]
#[test]
fn rpmalloc_has_the_threads_of_its_turn_and_no_others() {
    unsafe extern "C" {
        fn rpmalloc_is_thread_initialized() -> i32;
    }
    for &peer in PeerId::all() {
        let _turn = Turn::of(peer);
        let hooked = std::thread::spawn(|| {
            // SAFETY: it takes nothing and reads a variable of the thread.
            unsafe { rpmalloc_is_thread_initialized() }
        });
        let hooked = hooked.join().expect("the thread does not panic");
        assert_eq!(hooked != 0, peer == PeerId::Rpmalloc, "in the turn of {}", peer.name());
    }
}
