//! A simulation whose particles come and go: each is an object of a pool, and goes back to it by itself. Then the pool's raw
//! pair, which looks at what it is given.
//!
//! Run by `cargo run --release --example pool_for_structs`.

use homing::{Pool, PoolBox, PoolError};

/// A spark that falls.
struct Spark {
    height: f64,
    speed: f64,
}

impl Spark {
    /// A moment later; `false` when it has reached the ground.
    fn falls(&mut self) -> bool {
        self.speed += 0.5;
        self.height -= self.speed;
        self.height > 0.0
    }
}

fn main() -> Result<(), PoolError> {
    let pool = Pool::new();
    let mut sparks: Vec<PoolBox<'_, Spark>> = Vec::new();
    println!("moment  sparks  objects made  peak  KiB held");
    for moment in 0..60 {
        if moment < 40 {
            for number in 0..100 {
                sparks.push(pool.insert(Spark { height: 20.0 + f64::from(number), speed: 0.0 })?);
            }
        }
        // Those that reach the ground are dropped, and their places are taken by the next.
        sparks.retain_mut(|spark| spark.falls());
        if moment % 10 == 9 {
            let stats = pool.stats();
            println!(
                "{:6}  {:6}  {:12}  {:4}  {:8}",
                moment + 1,
                stats.objects,
                stats.allocations,
                stats.peak_objects,
                stats.reserved >> 10
            );
        }
    }
    sparks.clear();

    let place = pool.allocate()?;
    // SAFETY: the place is as large and aligned as a spark, and this program's alone.
    unsafe { place.write(Spark { height: 1.0, speed: 0.0 }) };
    // SAFETY: nobody uses the place any more; a spark needs no drop.
    unsafe { pool.deallocate(place)? };
    // SAFETY: nobody uses it, and no other thread gives it back: the pool looks at it, and refuses.
    match unsafe { pool.deallocate(place) } {
        Err(error) => println!("given back twice: {error}"),
        Ok(()) => println!("given back twice, and nobody noticed"),
    }
    let stats = pool.stats();
    println!("{} objects made, {} given back, {} left", stats.allocations, stats.deallocations, stats.objects);
    Ok(())
}
