// error: E0502
fn main() {
    let mut bump = homing::Bump::new();
    #[cfg(feature = "allocator-api2")]
    let numbers = {
        let mut numbers = allocator_api2::vec::Vec::new_in(&bump);
        numbers.push(1);
        numbers
    };
    #[cfg(not(feature = "allocator-api2"))]
    let numbers = bump.alloc_slice_copy(&[1]);
    #[cfg(not(allowed))]
    bump.reset();
    println!("{}", numbers[0]);
    drop(numbers);
    bump.reset();
}
