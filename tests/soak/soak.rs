//! The course of it: a warm-up, rounds of work in which the kernel refuses now and then, and rests in which what is
//! resident is held against what was after the warm-up.

use std::process::exit;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::allocator::{self, Block};
use crate::common::{Numbers, resident};
use crate::crew::Crew;
use crate::options;
use crate::storm::{self, Storm};
use crate::worker::{COUNTS, FORK};

/// Bytes that are in use all the time, in blocks of many sizes.
const BALLAST: usize = 48 << 20;
/// The fixed work of the warm-up: so many times a full crew, of threads with so many steps at most.
const WARM_UP: usize = 6;
const WARM_UP_STEPS: usize = 20_000;
/// Steps of a thread's life at most.
const STEPS: usize = 60_000;
/// Time between two rests.
const ROUND: Duration = Duration::from_secs(10);
/// How much more may be resident at the end: one part in so many.
const TOLERANCE: usize = 20;

fn ballast(numbers: &mut Numbers) -> Vec<Block> {
    let mut left = BALLAST;
    let mut blocks = Vec::new();
    while left > 0 {
        let size = numbers.size(256 << 10).min(left);
        blocks.push(Block::take(size, 8, left as u64).expect("there is memory to begin with"));
        left -= size;
    }
    blocks
}

/// Lets the crew go, gives back all that can be, has the audit look, and says how many bytes are resident.
fn rest(crew: &mut Crew, stop: bool) -> usize {
    crew.rest(stop);
    // Twice: what an arena at rest sends on may go to one that was looked after before.
    allocator::trim();
    allocator::trim();
    if !allocator::is_system() {
        // SAFETY: this is the only thread.
        let audit = unsafe { homing::audit() }.unwrap_or_else(|error| panic!("{error}"));
        // What is in use now lies in segments.
        assert!(audit.granules <= audit.segments, "granules are neither in use nor free: {audit:?}");
    }
    resident()
}

/// One round: threads come and go, and the kernel refuses now and then, until the time is over.
fn work_until(end: Instant, crew: &mut Crew, numbers: &mut Numbers, storms: &mut storm::Count) {
    while Instant::now() < end {
        crew.fill(STEPS);
        std::thread::sleep(Duration::from_millis(10 + numbers.below(60) as u64));
        FORK.store(numbers.below(4) == 0, Ordering::Relaxed);
        if numbers.below(2) == 0 {
            let storm = Storm::choose(numbers);
            crew.fill(STEPS);
            storm.rage(Duration::from_millis(5 + numbers.below(100) as u64), storms);
        }
    }
    FORK.store(false, Ordering::Relaxed);
}

fn mib(bytes: usize) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

fn number(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

pub fn main() {
    let options = options::read();
    println!("soak: {} s with {}; SOAK_SEED={}", options.time.as_secs(), allocator::name(), options.seed);
    let mut numbers = Numbers::new(options.seed);
    let mut crew = Crew::new(options.seed ^ 1);
    let mut storms = storm::Count::default();
    let ballast = ballast(&mut numbers);
    for _ in 0..WARM_UP {
        crew.fill(WARM_UP_STEPS);
        crew.rest(false);
    }
    let before = rest(&mut crew, false);
    println!("after the warm-up: {:.1} MiB resident, {:.1} of them in use", mib(before), mib(BALLAST));

    let begin = Instant::now();
    let end = begin + options.time;
    let mut after = before;
    while Instant::now() < end {
        work_until(end.min(Instant::now() + ROUND), &mut crew, &mut numbers, &mut storms);
        after = rest(&mut crew, true);
        ballast.iter().for_each(Block::check);
        println!(
            "{:6.0} s: {} blocks, {} refused, {} threads, {} forks; at rest {:.1} MiB resident",
            begin.elapsed().as_secs_f64(),
            number(&COUNTS.taken),
            number(&COUNTS.refused),
            crew.hired,
            number(&COUNTS.forks),
            mib(after)
        );
    }
    summary(&crew, &storms);
    let change = (after as f64 / before as f64 - 1.0) * 100.0;
    println!("resident at rest: {before} bytes after the warm-up, {after} at the end: {change:+.2} %");
    if after > before + before / TOLERANCE {
        println!("soak: FAILED: more than 5 % more is resident (SOAK_SEED={})", options.seed);
        exit(1);
    }
    if options.time.as_secs() >= 30 && number(&COUNTS.refused) == 0 {
        println!("soak: FAILED: nothing was refused, so that refusals were not tried");
        exit(1);
    }
    println!("soak: passed");
}

fn summary(crew: &Crew, storms: &storm::Count) {
    println!("blocks taken                {}", number(&COUNTS.taken));
    println!("requests refused            {}", number(&COUNTS.refused));
    println!("blocks resized              {}", number(&COUNTS.resized));
    println!("blocks handed on            {}", number(&COUNTS.handed));
    println!("threads                     {} ({} could not be had)", crew.hired, crew.refused);
    println!("forks                       {}", number(&COUNTS.forks));
    println!("trims                       {}", number(&COUNTS.trims));
    println!("times of limits             {}", storms.limits);
    println!("times of injected refusals  {} ({} calls refused)", storms.injected, storms.calls_refused);
}
