// error: E0502
fn main() {
    let mut bump = homing::Bump::local().unwrap();
    let value = bump.alloc(1);
    bump.reset();
    #[cfg(not(allowed))]
    println!("{value}");
}
