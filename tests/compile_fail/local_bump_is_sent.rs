// error: E0277
fn main() {
    let bump = homing::Bump::local().unwrap();
    #[cfg(not(allowed))]
    std::thread::spawn(move || drop(bump)).join().unwrap();
}
