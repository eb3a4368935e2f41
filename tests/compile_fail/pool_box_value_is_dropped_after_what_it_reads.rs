// error: E0597
struct Reads<'a>(&'a String);

impl Drop for Reads<'_> {
    fn drop(&mut self) {
        println!("{}", self.0);
    }
}

fn main() {
    let pool = homing::Pool::new();
    let before = String::from("before");
    let mut guard = pool.insert(Reads(&before)).unwrap();
    let after = String::from("after");
    #[cfg(not(allowed))]
    {
        guard.0 = &after;
    }
    guard.0 = &before;
    println!("{after}");
}
