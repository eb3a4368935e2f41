// error: E0505
fn main() {
    let pool = homing::Pool::new();
    let guard = pool.insert(7_u64).unwrap();
    #[cfg(allowed)]
    drop(guard);
    std::thread::spawn(move || pool.insert(8).is_ok()).join().unwrap();
    #[cfg(not(allowed))]
    drop(guard);
}
