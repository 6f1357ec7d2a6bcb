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
    AtMost(f64),
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
            (Bound::AtMost(target), Some(measured)) if measured <= target => Outcome::Reached,
            (Bound::Below(target), Some(measured)) if measured < target => Outcome::Reached,
            (Bound::AtLeast(target) | Bound::AtMost(target) | Bound::Below(target), Some(measured)) => {
                Outcome::Missed(measured / target)
            }
        }
    }
}

/// All goals, in the order of the scenarios, for results with one measurement of each part. Goals of a
/// variant are left out where it was not run.
pub fn goals(results: &Results) -> Vec<Goal> {
    let values = Values { results, subject: SubjectName::Millrace };
    let json = Values { results, subject: SubjectName::MillraceJson };
    let embedded = Values { results, subject: SubjectName::Embedded };
    let mut goals = vec![stress(values), json_columns(json), realistic(values), single(values)];
    goals.extend([tail(values, "stress"), tail(values, "realistic")]);
    goals.extend([steady(values), variations(values), metered(values), memory(values), on_files(embedded)]);
    goals.concat()
}

fn goal(name: impl Into<String>, target: Bound, measured: Option<f64>, unit: &'static str) -> Goal {
    Goal { name: name.into(), target, measured, unit }
}

fn stress(values: Values<'_>) -> Vec<Goal> {
    let stored = values.stored_per_s("stress", "saturated");
    let direct = values.of(SubjectName::DirectInsert).stored_per_s("stress", "saturated");
    let cpu = values.get("stress", "saturated", Measurement::cpu_s_per_million_in_all);
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
            Bound::AtLeast(1.05),
            values.stored_relative_to_copy("stress", "saturated"),
            "x",
        ),
        goal("stress: processor time of a million events, in all", Bound::AtMost(7.4), cpu, "s"),
    ]
}

fn json_columns(values: Values<'_>) -> Vec<Goal> {
    if values.results.measurements.iter().all(|measurement| measurement.subject != values.subject) {
        return Vec::new();
    }
    let cpu = values.get("stress", "saturated", Measurement::cpu_s_per_million_in_all);
    vec![
        goal(
            "stress, json columns: events stored, relative to one COPY connection (jsonb)",
            Bound::AtLeast(1.35),
            values.stored_relative_to_copy("stress", "saturated"),
            "x",
        ),
        goal(
            "stress, json columns: processor time of a million events, in all",
            Bound::AtMost(6.0),
            cpu,
            "s",
        ),
    ]
}

fn realistic(values: Values<'_>) -> Vec<Goal> {
    let requests = |measurement: &Measurement| measurement.stored_per_s / measurement.events_per_request;
    let requests = values.get("realistic", "saturated", requests);
    let stored = values.stored_per_s("realistic", "saturated");
    let direct = values.of(SubjectName::DirectInsert).stored_per_s("realistic", "saturated");
    // Seconds per million events are microseconds per event.
    let cpu =
        |measurement: &Measurement| measurement.cpu_s_per_million_in_all() * measurement.events_per_request;
    let cpu = values.get("realistic", "saturated", cpu);
    vec![
        goal("realistic: requests stored", Bound::AtLeast(15_000.0), requests, "requests/s"),
        goal(
            "realistic: events stored, relative to direct_insert",
            Bound::AtLeast(5.0),
            ratio(stored, direct),
            "x",
        ),
        goal("realistic: processor time of a request, in all", Bound::AtMost(115.0), cpu, "µs"),
    ]
}

fn single(values: Values<'_>) -> Vec<Goal> {
    vec![goal("single: requests", Bound::AtLeast(28_000.0), values.highest_of_single(), "requests/s")]
}

/// Latency and freshness at nine tenths and at half of the rate at saturation.
fn tail(values: Values<'_>, scenario: &str) -> Vec<Goal> {
    let mut goals = Vec::new();
    for (part, latency, freshness) in [("nine tenths", 50.0, 200.0), ("half load", 10.0, 50.0)] {
        let p99 = values.get(scenario, part, |measurement| measurement.latency.p99_ms);
        goals.push(goal(format!("{scenario}, {part}: latency p99"), Bound::Below(latency), p99, "ms"));
        let p99 = values.get(scenario, part, |measurement| measurement.freshness.p99_ms);
        goals.push(goal(format!("{scenario}, {part}: freshness p99"), Bound::Below(freshness), p99, "ms"));
    }
    goals
}

fn steady(values: Values<'_>) -> Vec<Goal> {
    let latency = |ms: fn(&Measurement) -> f64| values.get("steady", "481 requests/s", ms);
    vec![
        goal("steady: latency p50", Bound::Below(1.0), latency(|found| found.latency.p50_ms), "ms"),
        goal("steady: latency p95", Bound::Below(2.0), latency(|found| found.latency.p95_ms), "ms"),
        goal("steady: latency p99", Bound::Below(5.0), latency(|found| found.latency.p99_ms), "ms"),
        goal("steady: latency maximum", Bound::Below(50.0), latency(|found| found.latency.max_ms), "ms"),
    ]
}

fn variations(values: Values<'_>) -> Vec<Goal> {
    let without = values.stored_per_s("duplicates", "none");
    let share = |part| ratio(values.stored_per_s("duplicates", part), without);
    let growth = values.stored_per_s("growth", "saturated");
    let empty = values.stored_per_s("stress", "saturated");
    vec![
        goal("0.6 % duplicates: events stored, relative to none", Bound::AtLeast(0.95), share("0.6 %"), "x"),
        goal("10 % duplicates: events stored, relative to none", Bound::AtLeast(0.80), share("10 %"), "x"),
        goal(
            "growth: events stored, relative to an empty table",
            Bound::AtLeast(0.95),
            ratio(growth, empty),
            "x",
        ),
    ]
}

/// Empty where the scenario was not run.
fn metered(values: Values<'_>) -> Vec<Goal> {
    let Some(metered) = values.stored_per_s("metered", "three meters") else { return Vec::new() };
    let without = values.stored_per_s("stress", "saturated");
    let share = ratio(Some(metered), without);
    vec![goal("metered: events stored, relative to stress", Bound::AtLeast(0.70), share, "x")]
}

fn memory(values: Values<'_>) -> Vec<Goal> {
    let peak = |process: &'static str| {
        values.get("realistic", "saturated", move |measurement| {
            measurement.memory.get(process).map_or(f64::NAN, |memory| memory.peak_mb)
        })
    };
    let pending = |scenario| {
        let measurement = values.results.measurement(scenario, "saturated", values.subject)?;
        Some(measurement.pending?.redis_bytes_per_event)
    };
    vec![
        goal("ingest-api: memory at 1,000 connections", Bound::Below(60.0), peak("ingest-api"), "MB"),
        goal("stream-worker: memory", Bound::Below(120.0), peak("stream-worker"), "MB"),
        goal("stress: Redis memory per waiting event", Bound::AtMost(80.0), pending("stress"), "bytes"),
        goal("realistic: Redis memory per waiting event", Bound::AtMost(80.0), pending("realistic"), "bytes"),
    ]
}

fn on_files(values: Values<'_>) -> Vec<Goal> {
    let latency = |ms: fn(&Measurement) -> f64| values.get("single", "10,000 requests/s", ms);
    let highest = values.highest_of_single();
    let (mean, p99) = (latency(|found| found.latency.mean_ms), latency(|found| found.latency.p99_ms));
    vec![
        goal("embedded, 10,000 requests/s: latency mean", Bound::Below(1.0), mean, "ms"),
        goal("embedded, 10,000 requests/s: latency p99", Bound::Below(5.0), p99, "ms"),
        goal("embedded, saturated: requests of 1 event", Bound::AtLeast(40_000.0), highest, "requests/s"),
    ]
}

fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? / other?)
}

/// Looks up single values of a subject in the results; `None` when the run did not measure them.
#[derive(Clone, Copy)]
struct Values<'a> {
    results: &'a Results,
    subject: SubjectName,
}

impl Values<'_> {
    fn of(self, subject: SubjectName) -> Self {
        Self { subject, ..self }
    }

    fn get(self, scenario: &str, part: &str, value: impl Fn(&Measurement) -> f64) -> Option<f64> {
        self.results.measurement(scenario, part, self.subject).map(value)
    }

    fn stored_per_s(self, scenario: &str, part: &str) -> Option<f64> {
        self.get(scenario, part, |measurement| measurement.stored_per_s)
    }

    /// Relative to the COPY before and after the subject. Results of the time before 0.2 have only the
    /// ceiling of the run.
    fn stored_relative_to_copy(self, scenario: &str, part: &str) -> Option<f64> {
        let measurement = self.results.measurement(scenario, part, self.subject)?;
        let of_run = self.results.ceiling("binary COPY, one connection").map(|ceiling| ceiling.events_per_s);
        let ratio_of_run = of_run.map(|copied| measurement.stored_per_s / copied);
        measurement.copy.map(|copy| copy.stored_ratio).or(ratio_of_run)
    }

    /// The most requests of one event per second, with any number of connections.
    fn highest_of_single(self) -> Option<f64> {
        let saturated = ["64 connections", "256 connections", "1,000 connections"];
        let requests = |part: &&str| self.get("single", part, |measurement| measurement.requests_per_s);
        saturated.iter().filter_map(requests).max_by(f64::total_cmp)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_that_is_allowed_is_reached_and_an_upper_bound_only_below_it() {
        let at_least = |measured| goal("x", Bound::AtLeast(100.0), measured, "").outcome();
        assert_eq!(at_least(Some(100.0)), Outcome::Reached);
        assert_eq!(at_least(Some(75.0)), Outcome::Missed(0.75));
        assert_eq!(at_least(None), Outcome::NotMeasured);
        let below = |measured| goal("x", Bound::Below(100.0), measured, "").outcome();
        assert_eq!(below(Some(99.0)), Outcome::Reached);
        assert_eq!(below(Some(100.0)), Outcome::Missed(1.0));
        assert_eq!(below(Some(150.0)), Outcome::Missed(1.5));
        let at_most = |measured| goal("x", Bound::AtMost(100.0), measured, "").outcome();
        assert_eq!(at_most(Some(100.0)), Outcome::Reached);
        assert_eq!(at_most(Some(101.0)), Outcome::Missed(1.01));
    }

    #[test]
    fn a_measured_value_that_is_not_a_number_misses_its_goal() {
        let outcome = |target| goal("x", target, Some(f64::NAN), "").outcome();
        assert!(matches!(outcome(Bound::AtLeast(1.0)), Outcome::Missed(_)));
        assert!(matches!(outcome(Bound::AtMost(1.0)), Outcome::Missed(_)));
        assert!(matches!(outcome(Bound::Below(1.0)), Outcome::Missed(_)));
    }
}
