//! How criterion measures here.

use std::time::Duration;

use criterion::Criterion;

/// Short enough that the whole suite ends within minutes.
pub fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(500))
        .sample_size(10)
        .nresamples(2000)
        .configure_from_args()
}
