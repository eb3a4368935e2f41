// error: E0277
fn main() {
    let pool = homing::Pool::new();
    let guard = homing::PoolBox::into_remote(pool.insert(std::rc::Rc::new(7)).unwrap());
    std::thread::scope(|threads| {
        #[cfg(not(allowed))]
        threads.spawn(move || drop(guard));
        #[cfg(allowed)]
        drop(guard);
        threads.spawn(|| ());
    });
}
