// error: E0597
fn main() {
    let pool = homing::Pool::new();
    let number = 1;
    let mut kept = pool.insert(&number).unwrap();
    {
        let inner = 2;
        #[cfg(not(allowed))]
        {
            *kept = &inner;
        }
        *kept = &3;
        println!("{inner}");
    }
    println!("{kept}");
}
