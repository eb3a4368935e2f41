// error: E0277
fn main() {
    let pool = homing::Pool::<u64>::new();
    std::thread::scope(|threads| {
        #[cfg(not(allowed))]
        threads.spawn(|| pool.insert(7).is_ok());
        threads.spawn(|| ());
    });
    drop(pool);
}
