// error: E0277
use homing::{Pool, PoolBox};

fn main() {
    let pool = Pool::new();
    std::thread::scope(|threads| {
        let remote = PoolBox::into_remote(pool.insert(7).unwrap());
        threads.spawn(move || drop(remote));
        let guard = pool.insert(8).unwrap();
        #[cfg(not(allowed))]
        threads.spawn(move || drop(guard));
    });
}
