// error: E0597
use homing::{Pool, PoolBox};

struct Link<'p>(#[allow(dead_code)] Option<PoolBox<'p, Link<'p>>>);

fn main() {
    let mut list: Option<PoolBox<'_, Link<'_>>> = None;
    let pool = Pool::new();
    let inner = pool.insert(Link(None)).ok();
    #[cfg(not(allowed))]
    {
        list = pool.insert(Link(inner)).ok();
    }
    println!("{}", list.take().is_some());
}
