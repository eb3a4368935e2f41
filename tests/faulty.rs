//! Faulty Rust programs under the debug mode: each is noticed and named. The test runs itself with a case's name.

// Elsewhere the process has no exit to look at its blocks at, and stacks are not read.
#![cfg(all(target_os = "linux", not(feature = "portable")))]

use std::alloc::{GlobalAlloc, Layout, alloc, dealloc, realloc};
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::rc::Rc;

use homing::Homing;

#[global_allocator]
static GLOBAL: Homing = Homing::new();

/// Names the pointer that the report is to name.
fn tell<T: ?Sized>(pointer: *const T) {
    println!("pointer={:#x}", pointer.addr());
}

fn layout(size: usize, align: usize) -> Layout {
    Layout::from_size_align(size, align).expect("a layout can be so")
}

fn block(size: usize, align: usize) -> *mut u8 {
    // SAFETY: the size is not 0.
    let block = unsafe { alloc(layout(size, align)) };
    tell(block);
    block
}

fn large_vec(length: usize) -> Vec<u64> {
    let numbers = vec![7; length];
    tell(numbers.as_ptr());
    numbers
}

#[repr(align(256))]
#[allow(dead_code, reason = "only its size and alignment count")]
struct Wide([u8; 256]);

/// A leak that is not on this thread's stack any more.
#[inline(never)]
fn far_down(act: fn()) {
    act();
    std::hint::black_box([0_u8; 50_000]);
}

type Case = (&'static str, &'static str, fn());

/// Its name, what the report is to say, and what is done.
///
/// SAFETY, of all: none. Each breaks one rule on purpose; what stands in for the language's promises is that the debug mode
/// ends the process before or when the memory is used anew.
#[allow(clippy::undocumented_unsafe_blocks, reason = "they are unsound, each in the way its name says")]
const CASES: &[Case] = &[
    ("deallocated with a larger size", "(wrong size)", || unsafe { dealloc(block(100, 8), layout(101, 8)) }),
    ("deallocated with a smaller size", "(wrong size)", || unsafe { dealloc(block(5000, 8), layout(4999, 8)) }),
    ("a mapping deallocated with another size", "(wrong size)", || unsafe {
        dealloc(block(5 << 20, 8), layout(5 << 19, 8));
    }),
    ("deallocated with a larger alignment", "(wrong alignment)", || unsafe { dealloc(block(64, 8), layout(64, 16)) }),
    ("deallocated with a smaller alignment", "(wrong alignment)", || unsafe {
        dealloc(block(8192, 4096), layout(8192, 1));
    }),
    ("reallocated with another size", "(wrong size)", || unsafe { _ = realloc(block(100, 8), layout(90, 8), 200) }),
    ("reallocated with another alignment", "(wrong alignment)", || unsafe {
        _ = realloc(block(128, 64), layout(128, 32), 200);
    }),
    ("a vector rebuilt with another capacity", "(wrong size)", || {
        let mut numbers = std::mem::ManuallyDrop::new(large_vec(100));
        drop(unsafe { Vec::from_raw_parts(numbers.as_mut_ptr(), 50, 99) });
    }),
    ("a box made of another type", "(wrong size)", || {
        let raw = Box::into_raw(Box::new([0_u64; 8]));
        tell(raw);
        drop(unsafe { Box::from_raw(raw.cast::<[u64; 4]>()) });
    }),
    ("a wide box dropped as a narrow one", "(wrong alignment)", || {
        let raw = Box::into_raw(Box::new(Wide([0; 256])));
        tell(raw);
        drop(unsafe { Box::from_raw(raw.cast::<[u8; 256]>()) });
    }),
    ("deallocated twice", "(double free)", || unsafe {
        let block = block(1000, 8);
        dealloc(block, layout(1000, 8));
        dealloc(block, layout(1000, 8));
    }),
    ("a box made twice of one pointer", "(double free)", || {
        let raw = Box::into_raw(Box::new([1_u64; 10]));
        tell(raw);
        drop(unsafe { Box::from_raw(raw) });
        drop(unsafe { Box::from_raw(raw) });
    }),
    ("a vector read twice", "(double free)", || {
        let numbers = large_vec(1000);
        drop(unsafe { std::ptr::read(&raw const numbers) });
    }),
    ("reallocated after it was freed", "(double free)", || unsafe {
        let block = block(1000, 8);
        dealloc(block, layout(1000, 8));
        _ = realloc(block, layout(1000, 8), 2000);
    }),
    ("deallocated by two threads", "(double free)", || unsafe {
        let block = block(300_000, 8) as usize;
        let free = move || dealloc(std::ptr::with_exposed_provenance_mut(block), layout(300_000, 8));
        std::thread::spawn(free).join().unwrap();
        free();
    }),
    ("a box made of a vector's middle", "(interior pointer)", || {
        let mut numbers = std::mem::ManuallyDrop::new(vec![7_u64; 100]);
        tell(&raw const numbers[50]);
        drop(unsafe { Box::from_raw(&raw mut numbers[50]) });
    }),
    ("a box made of a variable", "(foreign pointer)", || {
        let mut here = 5_u64;
        tell(&raw const here);
        drop(unsafe { Box::from_raw(&raw mut here) });
    }),
    ("a box made of a static", "(foreign pointer)", || {
        static mut THERE: u64 = 5;
        tell(&raw const THERE);
        drop(unsafe { Box::from_raw(&raw mut THERE) });
    }),
    ("the system's block deallocated", "(foreign pointer)", || unsafe {
        let of_the_system = std::alloc::System.alloc(layout(100, 8));
        tell(of_the_system);
        dealloc(of_the_system, layout(100, 8));
    }),
    ("written past a vector's capacity", "(overrun)", || {
        let mut numbers = large_vec(100);
        unsafe { numbers.as_mut_ptr().add(100).write(1) };
    }),
    ("written past a mapping", "(overrun)", || unsafe {
        let block = block(5_000_001, 8);
        block.add(5_000_001).write(0);
        dealloc(block, layout(5_000_001, 8));
    }),
    ("written past a block that is never freed", "(overrun)", || unsafe { block(77, 1).add(77).write(0) }),
    ("written before a vector", "(underrun)", || {
        let mut numbers = large_vec(100);
        unsafe { numbers.as_mut_ptr().sub(1).write(1) };
    }),
    ("written through a pointer of before", "(write after free)", || {
        let mut numbers = large_vec(100);
        let first = numbers.as_mut_ptr();
        drop(numbers);
        unsafe { first.add(50).write(1) };
    }),
    ("written through a pointer of before the vector grew", "(write after free)", || {
        let mut numbers = large_vec(100);
        let first = numbers.as_mut_ptr();
        numbers.reserve(1000);
        unsafe { first.write(1) };
    }),
];

const LEAKS: &[(&str, fn())] = &[
    ("a box forgotten", || {
        let forgotten = Box::new([3_u64; 100]);
        tell(&raw const *forgotten);
        std::mem::forget(forgotten);
    }),
    ("a cycle of counted pointers", || {
        struct Knot(std::cell::RefCell<Option<Rc<Knot>>>);
        let knot = Rc::new(Knot(None.into()));
        *knot.0.borrow_mut() = Some(knot.clone());
        // The counts stand before the value.
        tell(Rc::as_ptr(&knot).cast::<u8>().wrapping_sub(16));
    }),
    ("a vector's parts given up", || tell(large_vec(1000).leak().as_ptr())),
];

/// What a case does, in a process of its own.
#[test]
#[ignore = "run by the others"]
fn child() {
    let name = std::env::var("FAULTY_CASE").expect("the case is named");
    for (_, _, act) in CASES.iter().filter(|(case, ..)| *case == name) {
        act();
    }
    for (_, act) in LEAKS.iter().filter(|(case, _)| *case == name) {
        far_down(*act);
    }
}

fn run(case: &str, mode: &str) -> (Output, String, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "child", "--ignored", "--nocapture"]).env("FAULTY_CASE", case);
    let output = command.env("HOMING_DEBUG", mode).output().unwrap();
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let pointer = out.split_once("pointer=").and_then(|(_, rest)| rest.split_whitespace().next());
    let pointer = pointer.unwrap_or_else(|| panic!("{case}: no pointer named: {output:?}")).to_owned();
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    (output, pointer, err)
}

#[test]
fn each_misuse_ends_the_process_with_a_report_that_names_it_the_block_and_the_places() {
    let program = std::env::current_exe().unwrap();
    for (case, wanted, _) in CASES {
        let (output, pointer, err) = run(case, "1");
        assert_eq!(output.status.signal(), Some(libc::SIGABRT), "{case}: {err}");
        let first = err.lines().next().unwrap_or_default();
        assert!(first.starts_with("homing: ") && first.contains(wanted), "{case}: {err}");
        assert!(first.contains(&format!(" {pointer}:")), "{case}: {pointer}: {err}");
        let place = format!(" {}+0x", program.display());
        for head in ["  allocated by thread ", "  freed by thread "] {
            let is_told = *wanted != "(foreign pointer)";
            let was_freed = ["(double free)", "(write after free)"].contains(wanted);
            let mut lines = err.lines().skip_while(|line| !line.starts_with(head));
            assert_eq!(
                lines.next().is_some(),
                is_told && (was_freed || head.contains("alloc")),
                "{case}: {head}: {err}"
            );
            let mut calls = lines.take_while(|line| line.starts_with("    ")).peekable();
            assert!(calls.peek().is_none() || calls.any(|call| call.contains(&place)), "{case}: {head}: {err}");
        }
    }
}

#[test]
fn each_leak_is_told_and_ends_nothing() {
    for (case, _) in LEAKS {
        let (output, pointer, err) = run(case, "leaks");
        assert_eq!(output.status.code(), Some(0), "{case}: {err}");
        let told = |line: &str| line.starts_with("homing: leak of ") && line.ends_with(&format!(" one at {pointer}"));
        assert!(err.lines().any(told), "{case}: {pointer}: {err}");
        let (output, _, err) = run(case, "1");
        assert_eq!((output.status.code(), &*err), (Some(0), ""), "{case}");
    }
}
