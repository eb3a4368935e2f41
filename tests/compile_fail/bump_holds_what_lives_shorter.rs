// error: E0597
fn main() {
    let bump = homing::Bump::new();
    let number = 1;
    let kept = bump.alloc(&number);
    {
        let inner = 2;
        #[cfg(not(allowed))]
        {
            *kept = &inner;
        }
        println!("{inner}");
    }
    println!("{kept}");
}
