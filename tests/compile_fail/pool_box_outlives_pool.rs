// error: E0505
fn main() {
    let pool = homing::Pool::new();
    let guard = pool.insert(7_u64).unwrap();
    let number = *guard;
    #[cfg(not(allowed))]
    {
        drop(pool);
        println!("{guard}");
    }
    println!("{number}");
}
