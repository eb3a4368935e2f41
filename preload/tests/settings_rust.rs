//! Each setting, in a Rust program that declares the allocator as its own: this program, which runs itself.

mod support;

use std::alloc::{GlobalAlloc, Layout};
use std::os::unix::fs::{FileExt, PermissionsExt};

use homing::Homing;
use support::settings::{CHECKS, ENVIRONMENT_CHECKS};
use support::{Outcome, command, copied, run, scratch};

#[global_allocator]
static GLOBAL: Homing = Homing::new();

const MIB: usize = 1 << 20;

fn main() {
    let mut arguments = std::env::args().skip(1);
    if let (Some(word), Some(operation)) = (arguments.next(), arguments.next())
        && word == "probe"
    {
        return probe(&operation);
    }
    // Words are parts of names, as for other tests; options of the usual harness change nothing, but for `--list`.
    let is_word = |argument: &String| !argument.starts_with('-') && argument.parse::<u32>().is_err();
    let wanted: Vec<String> = std::env::args().skip(1).filter(is_word).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    if std::env::args().any(|argument| argument == "--list") {
        return;
    }
    for (name, check) in CHECKS.iter().chain(ENVIRONMENT_CHECKS).filter(|(name, _)| is_wanted(name)) {
        println!("{name}");
        check(&by_environment);
    }
    if is_wanted("a_program_with_privileges_of_its_own_ignores_the_environment") {
        println!("a_program_with_privileges_of_its_own_ignores_the_environment");
        a_program_with_privileges_of_its_own_ignores_the_environment();
    }
}

fn by_environment(operation: &str, settings: &[(&str, &str)]) -> Outcome {
    let this = std::env::current_exe().expect("this program has a file");
    run(command(this).args(["probe", operation]).envs(settings.iter().copied()))
}

/// Only where the tests run as the super-user: nobody else can give a file away.
fn a_program_with_privileges_of_its_own_ignores_the_environment() {
    const NOBODY: u32 = 65534;
    let this = std::env::current_exe().expect("this program has a file");
    let copy = copied(this, scratch("set-user-id").join("program"));
    if std::os::unix::fs::chown(&copy, Some(NOBODY), None).is_err() {
        println!("  left out: the file cannot be given to another user");
        return;
    }
    let allow = |mode| std::fs::set_permissions(&copy, std::fs::Permissions::from_mode(mode)).expect("it is ours");
    allow(0o755);
    let plain = run(command(&copy).args(["probe", "secure"]).env("HOMING_VERBOSE", "1")).succeeded();
    assert_eq!(plain.number("secure"), 0);
    assert!(plain.only_line().contains("version"), "{plain:?}");
    allow(0o4755);
    let secure = run(command(&copy).args(["probe", "secure"]).env("HOMING_VERBOSE", "1")).succeeded();
    if secure.number("secure") == 0 {
        println!("  left out: the file system ignores set-user-ID");
        return;
    }
    assert_eq!(secure.err, "");
}

fn probe(operation: &str) {
    match operation {
        "resident" => println!("resident={}", resident()),
        "fill" => fill(),
        "zero" => zero(),
        "mapping" => {
            let block = get(32 * MIB);
            println!("served={} resident={}", u8::from(!std::hint::black_box(block).is_null()), resident());
        }
        "purge-small" => purge(1024),
        "purge-runs" => purge(MIB),
        "purge-mappings" => purge(8 * MIB),
        // SAFETY: no preconditions.
        "secure" => println!("secure={}", unsafe { libc::getauxval(libc::AT_SECURE) }),
        "nothing" => {}
        _ => panic!("no such operation"),
    }
}

fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: usize = text.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a number");
    // SAFETY: no preconditions.
    pages * unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize
}

fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a small size")
}

fn get(size: usize) -> *mut u8 {
    // SAFETY: no size here is 0.
    unsafe { GLOBAL.alloc(layout(size)) }
}

fn give(block: *mut u8, size: usize) {
    if !block.is_null() {
        // SAFETY: the block came from `get` with that size and is not used any more.
        unsafe { GLOBAL.dealloc(block, layout(size)) };
    }
}

fn fill() {
    let mut blocks = Vec::with_capacity(128);
    while blocks.len() < 128 {
        match get(MIB) {
            block if block.is_null() => break,
            block => blocks.push(block),
        }
    }
    let served = blocks.len();
    let (mut again, mut large, mut large_again) = (false, false, false);
    if served > 20 {
        large = !get(16 * MIB).is_null();
        blocks.pop().into_iter().for_each(|block| give(block, MIB));
        let block = get(MIB);
        again = !block.is_null();
        give(block, MIB);
        blocks.drain(served - 21..).for_each(|block| give(block, MIB));
        large_again = !get(16 * MIB).is_null();
    }
    // Rust has no errno to look at.
    println!(
        "blocks={served} enomem=1 again={} large={} large_again={}",
        u8::from(again),
        u8::from(large),
        u8::from(large_again)
    );
}

/// Bytes that are not zero, among those that can be read at all.
fn nonzero(memory: &std::fs::File, block: *mut u8, from: usize, size: usize, scratch: *mut u8) -> usize {
    // SAFETY: the scratch block is at least `size` bytes long and used here only.
    let bytes = unsafe {
        scratch.write_bytes(0, size);
        std::slice::from_raw_parts_mut(scratch, size)
    };
    let got = memory.read_at(bytes, block as u64).unwrap_or(0);
    bytes[..got].iter().skip(from).filter(|byte| **byte != 0).count()
}

fn zero() {
    let memory = std::fs::File::open("/proc/self/mem").expect("/proc is mounted");
    let (mut freed, mut recycled, mut cleared) = (0, 0, 0);
    for size in [24, 104, 1000, 5000, 20_000, 100_000, 700_000, 3 * MIB] {
        // Another size class, so that what is read with does not come from the blocks that are looked at.
        let some = if size > MIB { 2 } else { 8 };
        let fill = |block: *mut u8| {
            // SAFETY: the block is `size` bytes long.
            unsafe { block.write_bytes(0xAA, size) };
            block
        };
        let mut blocks: Vec<*mut u8> = (0..some).map(|_| fill(get(size))).collect();
        let scratch = get(2 * size);
        blocks.iter().for_each(|block| give(*block, size));
        freed += blocks.iter().map(|block| nonzero(&memory, *block, 16, size, scratch)).sum::<usize>();
        for block in &mut blocks {
            *block = get(size);
            recycled += nonzero(&memory, *block, 0, size, scratch);
            fill(*block);
        }
        blocks.iter().for_each(|block| give(*block, size));
        for block in &mut blocks {
            // SAFETY: the size is not 0.
            *block = unsafe { GLOBAL.alloc_zeroed(layout(size)) };
            cleared += nonzero(&memory, *block, 0, size, scratch);
        }
        blocks.iter().for_each(|block| give(*block, size));
        give(scratch, 2 * size);
    }
    println!("freed={freed} recycled={recycled} calloc={cleared}");
}

fn purge(size: usize) {
    let mut blocks = Vec::with_capacity(64 * MIB / size);
    for _ in 0..64 * MIB / size {
        let block = get(size);
        // SAFETY: the block is `size` bytes long.
        unsafe { block.write_bytes(1, size) };
        blocks.push(block);
    }
    let before = resident();
    blocks.iter().for_each(|block| give(*block, size));
    println!("before={before} after={}", resident());
}
