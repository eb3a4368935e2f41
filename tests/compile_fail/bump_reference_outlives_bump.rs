// error: E0505
fn main() {
    let bump = homing::Bump::new();
    let values = bump.alloc_slice_copy(&[1, 2, 3]);
    drop(bump);
    #[cfg(not(allowed))]
    println!("{values:?}");
}
