//! What the table says, in words.

use super::measure::Row;
use super::statistics::geometric_mean;
use crate::peers::PeerId;

/// The geometric mean of an allocator's ratios, over the benchmarks it can do.
pub(super) fn mean(rows: &[Row], at: usize) -> Option<f64> {
    geometric_mean(rows.iter().filter_map(|row| row.ratio(at)))
}

/// The lines under the table.
pub(super) fn lines(rows: &[Row], peers: &[PeerId]) -> Vec<String> {
    let mut lines = losses(rows, peers);
    lines.extend(against_the_best(rows, peers));
    lines
}

/// Each benchmark in which the reference is slower than `System`, with the noise by which to judge it.
fn losses(rows: &[Row], peers: &[PeerId]) -> Vec<String> {
    let reference = peers[0].name();
    let Some(system) = peers.iter().position(|&peer| peer == PeerId::System).filter(|&at| at > 0) else {
        return vec!["homing is not compiled in: all ratios are to system".to_owned()];
    };
    let slower: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            let ratio = 1.0 / row.ratio(system).filter(|&ratio| ratio < 1.0)?;
            let noise = [0, system].iter().filter_map(|&at| Some(row.times[at].as_ref()?.spread)).fold(0.0, f64::max);
            Some(format!(
                "  {}: {ratio:.2} times system's time (middle half of the samples: {:.0} %)",
                row.name,
                noise * 100.0
            ))
        })
        .collect();
    let mut lines = vec![format!("{reference} is slower than system in {} of {} benchmarks", slower.len(), rows.len())];
    lines.extend(slower);
    lines
}

/// The reference's mean beside that of the best other allocator.
fn against_the_best(rows: &[Row], peers: &[PeerId]) -> Option<String> {
    let means = (1..peers.len()).filter_map(|at| Some((mean(rows, at)?, at)));
    let (best, at) = means.min_by(|a, b| a.0.total_cmp(&b.0))?;
    let missing = rows.iter().filter(|row| row.ratio(at).is_none()).count();
    let gaps = if missing == 0 { String::new() } else { format!(", which cannot do {missing} of the benchmarks") };
    Some(format!(
        "{}: {:.2} times the time of the best other allocator, {} (geometric means{gaps})",
        peers[0].name(),
        1.0 / best,
        peers[at].name()
    ))
}

#[cfg(test)]
mod tests {
    use super::super::measure::Time;
    use super::*;

    fn row(name: &str, times: &[Option<f64>]) -> Row {
        let time = |nanoseconds| Time { nanoseconds, spread: 0.1 };
        Row { name: name.to_owned(), times: times.iter().map(|&ns| ns.map(time)).collect() }
    }

    #[test]
    fn means_pass_over_what_an_allocator_cannot_do() {
        let rows = [row("a", &[Some(10.0), Some(20.0)]), row("b", &[Some(10.0), None])];
        assert_eq!(mean(&rows, 0), Some(1.0));
        assert!((mean(&rows, 1).expect("one value") - 2.0).abs() < 1e-12);
    }

    #[cfg(all(feature = "homing", feature = "mimalloc3"))]
    #[test]
    fn losses_and_the_best_are_named() {
        let peers = [PeerId::Homing, PeerId::System, PeerId::Mimalloc3];
        let rows = [row("won", &[Some(10.0), Some(20.0), Some(5.0)]), row("lost", &[Some(10.0), Some(5.0), Some(5.0)])];
        let lines = lines(&rows, &peers);
        assert_eq!(lines[0], "homing is slower than system in 1 of 2 benchmarks");
        assert_eq!(lines[1], "  lost: 2.00 times system's time (middle half of the samples: 10 %)");
        assert_eq!(lines[2], "homing: 2.00 times the time of the best other allocator, mimalloc3 (geometric means)");
        assert_eq!(lines.len(), 3);
    }
}
