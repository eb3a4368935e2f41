// error: E0515
#[cfg(not(allowed))]
fn make() -> &'static mut u64 {
    let bump = homing::Bump::new();
    bump.alloc(1)
}

#[cfg(allowed)]
fn make() -> &'static mut u64 {
    Box::leak(Box::new(1))
}

fn main() {
    println!("{}", make());
}
