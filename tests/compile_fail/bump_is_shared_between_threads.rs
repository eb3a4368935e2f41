// error: E0277
fn main() {
    let bump = homing::Bump::new();
    std::thread::scope(|scope| {
        #[cfg(not(allowed))]
        scope.spawn(|| *bump.alloc(1));
        let monitor = bump.monitor();
        scope.spawn(move || monitor.used());
    });
}
