//! The goals, and whether a run reached them.

use crate::results::{Measurement, Results};
use crate::subjects::SubjectName;

/// A goal, and the measured value of one run.
#[derive(Clone, PartialEq, Debug)]
pub struct Goal {
    pub name: String,
    pub target: Bound,
    /// `None` when the run did not measure it.
    pub measured: Option<f64>,
    /// Unit of the target and of the measured value.
    pub unit: &'static str,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bound {
    AtLeast(f64),
    Below(f64),
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Outcome {
    Reached,
    /// The measured value, divided by the target.
    Missed(f64),
    NotMeasured,
}

impl Goal {
    pub fn outcome(&self) -> Outcome {
        match (self.target, self.measured) {
            (_, None) => Outcome::NotMeasured,
            (Bound::AtLeast(target), Some(measured)) if measured >= target => Outcome::Reached,
            (Bound::Below(target), Some(measured)) if measured < target => Outcome::Reached,
            (Bound::AtLeast(target) | Bound::Below(target), Some(measured)) => {
                Outcome::Missed(measured / target)
            }
        }
    }
}

/// All goals, in the order of the scenarios.
pub fn goals(results: &Results) -> Vec<Goal> {
    let values = Values(results);
    [stress(values), realistic(values), steady(values), variations(values), memory(values), embedded(values)]
        .concat()
}

fn goal(name: impl Into<String>, target: Bound, measured: Option<f64>, unit: &'static str) -> Goal {
    Goal { name: name.into(), target, measured, unit }
}

fn stress(values: Values<'_>) -> Vec<Goal> {
    let stored = values.stored_per_s("stress", "saturated", SubjectName::Millrace);
    let direct = values.stored_per_s("stress", "saturated", SubjectName::DirectInsert);
    let copy = values.ceiling("binary COPY, one connection");
    let p99 =
        values.get("stress", "nine tenths", SubjectName::Millrace, |measurement| measurement.latency.p99_ms);
    vec![
        goal("stress: events stored", Bound::AtLeast(300_000.0), stored, "events/s"),
        goal(
            "stress: events stored, relative to direct_insert",
            Bound::AtLeast(7.0),
            ratio(stored, direct),
            "x",
        ),
        goal(
            "stress: events stored, relative to one COPY connection",
            Bound::AtLeast(1.0),
            ratio(stored, copy),
            "x",
        ),
        goal("stress, nine tenths: latency p99", Bound::Below(30.0), p99, "ms"),
    ]
}

fn realistic(values: Values<'_>) -> Vec<Goal> {
    let requests = |measurement: &Measurement| measurement.stored_per_s / measurement.events_per_request;
    let requests = values.get("realistic", "saturated", SubjectName::Millrace, requests);
    let stored = values.stored_per_s("realistic", "saturated", SubjectName::Millrace);
    let direct = values.stored_per_s("realistic", "saturated", SubjectName::DirectInsert);
    let p99 = values
        .get("realistic", "nine tenths", SubjectName::Millrace, |measurement| measurement.latency.p99_ms);
    vec![
        goal("realistic: requests stored", Bound::AtLeast(15_000.0), requests, "requests/s"),
        goal(
            "realistic: events stored, relative to direct_insert",
            Bound::AtLeast(5.0),
            ratio(stored, direct),
            "x",
        ),
        goal("realistic, nine tenths: latency p99", Bound::Below(30.0), p99, "ms"),
    ]
}

fn steady(values: Values<'_>) -> Vec<Goal> {
    let latency =
        |ms: fn(&Measurement) -> f64| values.get("steady", "481 requests/s", SubjectName::Millrace, ms);
    let freshness = |scenario| {
        values.get(scenario, "half load", SubjectName::Millrace, |measurement| measurement.freshness.p99_ms)
    };
    vec![
        goal("steady: latency p50", Bound::Below(1.0), latency(|found| found.latency.p50_ms), "ms"),
        goal("steady: latency p95", Bound::Below(2.0), latency(|found| found.latency.p95_ms), "ms"),
        goal("steady: latency p99", Bound::Below(5.0), latency(|found| found.latency.p99_ms), "ms"),
        goal("steady: latency maximum", Bound::Below(50.0), latency(|found| found.latency.max_ms), "ms"),
        goal("realistic, half load: freshness p99", Bound::Below(100.0), freshness("realistic"), "ms"),
        goal("stress, half load: freshness p99", Bound::Below(100.0), freshness("stress"), "ms"),
    ]
}

fn variations(values: Values<'_>) -> Vec<Goal> {
    let duplicates = |part| values.stored_per_s("duplicates", part, SubjectName::Millrace);
    let without = duplicates("none");
    let growth = values.stored_per_s("growth", "saturated", SubjectName::Millrace);
    let empty = values.stored_per_s("stress", "saturated", SubjectName::Millrace);
    let share = |part| ratio(duplicates(part), without);
    vec![
        goal("0.6 % duplicates: events stored, relative to none", Bound::AtLeast(0.85), share("0.6 %"), "x"),
        goal("10 % duplicates: events stored, relative to none", Bound::AtLeast(0.60), share("10 %"), "x"),
        goal(
            "growth: events stored, relative to an empty table",
            Bound::AtLeast(0.90),
            ratio(growth, empty),
            "x",
        ),
    ]
}

fn memory(values: Values<'_>) -> Vec<Goal> {
    let peak = |process: &'static str| {
        values.get("realistic", "saturated", SubjectName::Millrace, move |measurement| {
            measurement.memory.get(process).map_or(f64::NAN, |memory| memory.peak_mb)
        })
    };
    let pending = |scenario| {
        let measurement = values.0.measurement(scenario, "saturated", SubjectName::Millrace)?;
        Some(measurement.pending?.redis_bytes_per_event)
    };
    vec![
        goal("ingest-api: memory at 1,000 connections", Bound::Below(60.0), peak("ingest-api"), "MB"),
        goal("stream-worker: memory", Bound::Below(120.0), peak("stream-worker"), "MB"),
        goal("stress: Redis memory per waiting event", Bound::Below(80.0), pending("stress"), "bytes"),
        goal("realistic: Redis memory per waiting event", Bound::Below(80.0), pending("realistic"), "bytes"),
    ]
}

fn embedded(values: Values<'_>) -> Vec<Goal> {
    let latency =
        |ms: fn(&Measurement) -> f64| values.get("single", "10,000 requests/s", SubjectName::Embedded, ms);
    let saturated = ["64 connections", "256 connections", "1,000 connections"];
    let requests = saturated.iter().filter_map(|part| {
        values.get("single", part, SubjectName::Embedded, |measurement| measurement.requests_per_s)
    });
    let highest = requests.max_by(f64::total_cmp);
    let (mean, p99) = (latency(|found| found.latency.mean_ms), latency(|found| found.latency.p99_ms));
    vec![
        goal("embedded, 10,000 requests/s: latency mean", Bound::Below(1.0), mean, "ms"),
        goal("embedded, 10,000 requests/s: latency p99", Bound::Below(5.0), p99, "ms"),
        goal("embedded, saturated: requests of 1 event", Bound::AtLeast(30_000.0), highest, "requests/s"),
    ]
}

fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? / other?)
}

/// Looks up single values in the results; `None` when the run did not measure them.
#[derive(Clone, Copy)]
struct Values<'a>(&'a Results);

impl Values<'_> {
    fn get(
        self,
        scenario: &str,
        part: &str,
        subject: SubjectName,
        value: impl Fn(&Measurement) -> f64,
    ) -> Option<f64> {
        self.0.measurement(scenario, part, subject).map(value)
    }

    fn stored_per_s(self, scenario: &str, part: &str, subject: SubjectName) -> Option<f64> {
        self.get(scenario, part, subject, |measurement| measurement.stored_per_s)
    }

    fn ceiling(self, name: &str) -> Option<f64> {
        self.0.ceiling(name).map(|ceiling| ceiling.events_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lower_bound_is_reached_at_the_bound_and_an_upper_bound_only_below_it() {
        let at_least = |measured| goal("x", Bound::AtLeast(100.0), measured, "").outcome();
        assert_eq!(at_least(Some(100.0)), Outcome::Reached);
        assert_eq!(at_least(Some(75.0)), Outcome::Missed(0.75));
        assert_eq!(at_least(None), Outcome::NotMeasured);
        let below = |measured| goal("x", Bound::Below(100.0), measured, "").outcome();
        assert_eq!(below(Some(99.0)), Outcome::Reached);
        assert_eq!(below(Some(100.0)), Outcome::Missed(1.0));
        assert_eq!(below(Some(150.0)), Outcome::Missed(1.5));
    }

    #[test]
    fn a_measured_value_that_is_not_a_number_misses_its_goal() {
        let outcome = |target| goal("x", target, Some(f64::NAN), "").outcome();
        assert!(matches!(outcome(Bound::AtLeast(1.0)), Outcome::Missed(_)));
        assert!(matches!(outcome(Bound::Below(1.0)), Outcome::Missed(_)));
    }
}
