// error: E0502
fn main() {
    let mut bump = homing::Bump::new();
    let point = bump.checkpoint();
    let text = bump.alloc_str("gone");
    bump.restore(point).unwrap();
    #[cfg(not(allowed))]
    println!("{text}");
}
