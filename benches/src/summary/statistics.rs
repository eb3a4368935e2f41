//! The few statistics that the summary needs.

/// The middle value, and how far apart the middle half lies, as a share of it.
///
/// # Panics
/// When there are no values.
pub fn median_and_spread(values: &mut [f64]) -> (f64, f64) {
    values.sort_unstable_by(f64::total_cmp);
    let quantile = |share: f64| values[((values.len() - 1) as f64 * share).round() as usize];
    let median = quantile(0.5);
    (median, (quantile(0.75) - quantile(0.25)) / median)
}

/// The geometric mean; `None` of no values.
pub fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value.ln(), count + 1));
    (count > 0).then(|| (sum / f64::from(count)).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let (median, spread) = median_and_spread(&mut [9.0, 1.0, 4.0, 2.0, 5.0]);
        assert_eq!(median, 4.0);
        assert_eq!(spread, 0.75);
    }

    #[test]
    fn twice_and_half_cancel() {
        let mean = geometric_mean([2.0, 0.5].into_iter()).expect("two values");
        assert!((mean - 1.0).abs() < 1e-12);
        assert_eq!(geometric_mean([].into_iter()), None);
    }
}
