// error: E0505
fn main() {
    let bump = homing::Bump::local().unwrap();
    let value = bump.alloc(1);
    drop(bump);
    #[cfg(not(allowed))]
    println!("{value}");
}
