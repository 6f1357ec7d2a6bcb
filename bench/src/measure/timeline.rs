//! The samples of a part over time.

use crate::results::TimelinePoint;

/// Seconds between the samples that are kept in the results.
const KEPT_EVERY_S: f64 = 0.5;

/// The sample nearest to this moment, in seconds since the first request.
pub(super) fn nearest(timeline: &[TimelinePoint], at_s: f64) -> TimelinePoint {
    let distance = |point: &TimelinePoint| (point.at_s - at_s).abs();
    let nearest = timeline.iter().min_by(|a, b| distance(a).total_cmp(&distance(b)));
    *nearest.expect("the monitor took at least one sample")
}

/// Events stored per second in the last third between these moments, divided by those of the first third;
/// `None` when there are too few samples, or nothing was stored in the first third.
pub(super) fn last_third(timeline: &[TimelinePoint], from_s: f64, until_s: f64) -> Option<f64> {
    let third = (until_s - from_s) / 3.0;
    let rate = |from_s, until_s| {
        let (from, until) = (nearest(timeline, from_s), nearest(timeline, until_s));
        let took = until.at_s - from.at_s;
        (took > 0.0).then(|| (until.stored - from.stored) as f64 / took)
    };
    let (first, last) = (rate(from_s, from_s + third)?, rate(until_s - third, until_s)?);
    (first > 0.0).then(|| last / first)
}

/// The first and the last sample, and others that are at least [`KEPT_EVERY_S`] apart.
pub(super) fn thinned(timeline: Vec<TimelinePoint>) -> Vec<TimelinePoint> {
    let last = timeline.last().copied();
    let mut kept: Vec<TimelinePoint> = Vec::new();
    for point in timeline {
        if kept.last().is_none_or(|kept| point.at_s - kept.at_s >= KEPT_EVERY_S) {
            kept.push(point);
        }
    }
    kept.extend(last.filter(|last| kept.last() != Some(last)));
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample every 100 ms; after `slow_from` seconds half as much is stored.
    fn timeline(seconds: u32, slow_from: f64) -> Vec<TimelinePoint> {
        let stored = |at_s: f64| 1_000.0 * at_s.min(slow_from) + 500.0 * (at_s - slow_from).max(0.0);
        let at = |tick: u32| f64::from(tick) / 10.0;
        let point = |at_s| TimelinePoint { at_s, accepted: 0, stored: stored(at_s) as u64 };
        (0..=seconds * 10).map(at).map(point).collect()
    }

    #[test]
    fn a_rate_that_falls_to_a_half_is_a_half_in_the_last_third() {
        assert_eq!(last_third(&timeline(12, 20.0), 3.0, 12.0), Some(1.0));
        assert_eq!(last_third(&timeline(12, 9.0), 3.0, 12.0), Some(0.5));
        assert_eq!(last_third(&timeline(0, 1.0), 0.0, 0.0), None);
    }

    #[test]
    fn thinned_samples_keep_the_ends() {
        let all = timeline(2, 5.0);
        let kept = thinned(all.clone());
        assert_eq!((kept.len(), kept.first(), kept.last()), (5, all.first(), all.last()));
        assert_eq!(thinned(Vec::new()), []);
    }
}
