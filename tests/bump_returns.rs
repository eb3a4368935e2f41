//! What bump arenas take goes back. Alone in its program, so that nobody else's memory is counted.

use homing::{Bump, BumpConfig};

#[test]
fn arenas_made_and_dropped_and_reset_leave_no_memory_behind() {
    let work = || {
        for size in [0, 1, 1000, 65536, 3 << 20] {
            let mut bump = Bump::with(BumpConfig::new().pool_size(size));
            let monitor = bump.monitor();
            let mut points = Vec::new();
            for _ in 0..20 {
                points.push(bump.checkpoint());
                bump.alloc([1_u64; 1000]);
                let inner = bump.checkpoint();
                bump.alloc(1_u64);
                bump.restore(inner).unwrap();
            }
            bump.restore(points[10]).unwrap();
            bump.alloc([1_u64; 1000]);
            drop(bump);
            assert_eq!(monitor.used(), 0);
        }
    };
    // So often that the debug mode's quarantine is full.
    (0..20).for_each(|_| work());
    let before = homing::stats().used;
    for _ in 0..100 {
        work();
    }
    let after = homing::stats().used;
    let allowance = if std::env::var_os("HOMING_DEBUG").is_some() { 8 << 20 } else { 64 << 10 };
    assert!(after <= before + allowance, "{before} {after}");
}
