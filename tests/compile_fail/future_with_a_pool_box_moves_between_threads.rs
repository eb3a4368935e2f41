// error: future cannot be sent between threads safely
use homing::{Pool, PoolBox};

fn may_move(_: impl Future<Output = ()> + Send) {}

fn main() {
    let mut pool = Pool::new();
    let pool = &mut pool;
    may_move(async move {
        let remote = PoolBox::into_remote(pool.insert(7).unwrap());
        #[cfg(not(allowed))]
        let guard = pool.insert(8).unwrap();
        std::future::ready(()).await;
        drop(pool.insert(9).unwrap());
        drop(remote);
        #[cfg(not(allowed))]
        drop(guard);
    });
}
