//! A server's inner loop: each request is parsed into an arena, answered, and forgotten at once by a reset. The parser tries
//! one reading of its input after the other, and gives up what a wrong one has allocated by a checkpoint.
//!
//! Run by `cargo run --release --example bump_arena --features allocator-api2`.

use homing::allocator_api2::boxed::Box;
use homing::{Bump, BumpConfig, BumpOverflow, CheckpointError};

/// An expression: its parts lie in the arena.
enum Expression<'a> {
    Number(i64),
    Sum(Box<Expression<'a>, &'a Bump>, Box<Expression<'a>, &'a Bump>),
    Product(Box<Expression<'a>, &'a Bump>, Box<Expression<'a>, &'a Bump>),
}

impl Expression<'_> {
    fn value(&self) -> i64 {
        match self {
            Expression::Number(number) => *number,
            Expression::Sum(left, right) => left.value() + right.value(),
            Expression::Product(left, right) => left.value() * right.value(),
        }
    }
}

/// Numbers, `+` and `*`, without parentheses. Sums are split first: they bind less.
fn parse<'a>(text: &str, bump: &'a Bump) -> Option<Expression<'a>> {
    let both = |(left, right): (&str, &str)| {
        Some((Box::new_in(parse(left, bump)?, bump), Box::new_in(parse(right, bump)?, bump)))
    };
    if let Some(parts) = text.rsplit_once('+') {
        let (left, right) = both(parts)?;
        return Some(Expression::Sum(left, right));
    }
    if let Some(parts) = text.rsplit_once('*') {
        let (left, right) = both(parts)?;
        return Some(Expression::Product(left, right));
    }
    text.trim().parse().ok().map(Expression::Number)
}

fn main() {
    let config = BumpConfig::new().pool_size(16 << 10).overflow(BumpOverflow::Error).zero_on_reset(false);
    let mut bump = Bump::with(config);
    let monitor = bump.monitor();
    for request in ["1 + 2 * 3", "2 * 3 * 4 + 5 * 6", "7 *", "10 + 20 + 30 + 40"] {
        match parse(request, &bump) {
            Some(expression) => println!("{request} = {}", expression.value()),
            None => println!("{request}: not an expression"),
        }
        println!("  {} bytes of the arena in use", bump.stats().used);
        bump.reset();
    }
    let stats = monitor.stats();
    println!("{} resets; at most {} bytes were in use at once", stats.resets, stats.high_water_mark);

    // What is allocated after a checkpoint is given up by restoring it; what came before stays.
    bump.alloc_str("kept");
    let checkpoint = bump.checkpoint();
    let before = bump.stats().used;
    for reading in ["1 + one", "1 + 1"] {
        let is_right = parse(reading, &bump).is_some();
        println!("reading {reading:?}: {}", if is_right { "right" } else { "wrong" });
        if !is_right {
            bump.restore(checkpoint).expect("nothing before the checkpoint was given up");
            println!("  restored to {before} bytes: {}", bump.stats().used == before);
        }
    }
    bump.reset();
    match bump.restore(checkpoint) {
        Err(error @ CheckpointError::Stale { .. }) => println!("after a reset: {error}"),
        other => println!("after a reset: {other:?}"),
    }
}
