//! What was set out to be reached, and whether it was.

use crate::figures::{Measurement, Results};
use crate::subjects::Name;

/// A goal, held against figures of one run.
#[derive(Clone, PartialEq, Debug)]
pub struct Goal {
    /// What is looked at.
    pub what: String,
    /// What it should be.
    pub wanted: Bound,
    /// What it is; `None` when it was not measured this time.
    pub seen: Option<f64>,
    /// What both are counted in.
    pub unit: &'static str,
}

/// What a figure should be.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Bound {
    /// This or more.
    AtLeast(f64),
    /// Less than this.
    Below(f64),
}

/// What became of a goal.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict {
    /// It was reached.
    Reached,
    /// It was not: what was seen is this share of what was wanted.
    Missed(f64),
    /// Nothing was measured that could tell.
    NotMeasured,
}

impl Goal {
    /// Whether it was reached.
    pub fn verdict(&self) -> Verdict {
        match (self.wanted, self.seen) {
            (_, None) => Verdict::NotMeasured,
            (Bound::AtLeast(wanted), Some(seen)) if seen >= wanted => Verdict::Reached,
            (Bound::Below(wanted), Some(seen)) if seen < wanted => Verdict::Reached,
            (Bound::AtLeast(wanted) | Bound::Below(wanted), Some(seen)) => Verdict::Missed(seen / wanted),
        }
    }
}

/// Every goal, in the order in which scenarios are told.
pub fn goals(results: &Results) -> Vec<Goal> {
    let look = Look(results);
    [stress(look), realistic(look), steady(look), variations(look), memory(look), embedded(look)].concat()
}

fn goal(what: impl Into<String>, wanted: Bound, seen: Option<f64>, unit: &'static str) -> Goal {
    Goal { what: what.into(), wanted, seen, unit }
}

fn stress(look: Look<'_>) -> Vec<Goal> {
    let stored = look.stored("stress", "saturated", Name::Millrace);
    let direct = look.stored("stress", "saturated", Name::DirectInsert);
    let ceiling = look.ceiling("binary COPY, one connection");
    let p99 = look.of("stress", "nine tenths", Name::Millrace, |seen| seen.latency.p99_ms);
    vec![
        goal("stress: stored", Bound::AtLeast(300_000.0), stored, "events/s"),
        goal("stress: stored, to direct_insert's", Bound::AtLeast(7.0), ratio(stored, direct), "x"),
        goal("stress: stored, to one COPY connection's", Bound::AtLeast(1.0), ratio(stored, ceiling), "x"),
        goal("stress at nine tenths of that: p99", Bound::Below(30.0), p99, "ms"),
    ]
}

fn realistic(look: Look<'_>) -> Vec<Goal> {
    let requests = |seen: &Measurement| seen.stored_per_s / seen.events_per_request;
    let requests = look.of("realistic", "saturated", Name::Millrace, requests);
    let stored = look.stored("realistic", "saturated", Name::Millrace);
    let direct = look.stored("realistic", "saturated", Name::DirectInsert);
    let p99 = look.of("realistic", "nine tenths", Name::Millrace, |seen| seen.latency.p99_ms);
    vec![
        goal("realistic: requests stored", Bound::AtLeast(15_000.0), requests, "requests/s"),
        goal("realistic: stored, to direct_insert's", Bound::AtLeast(5.0), ratio(stored, direct), "x"),
        goal("realistic at nine tenths of that: p99", Bound::Below(30.0), p99, "ms"),
    ]
}

fn steady(look: Look<'_>) -> Vec<Goal> {
    let of = |figure: fn(&Measurement) -> f64| look.of("steady", "481 requests/s", Name::Millrace, figure);
    let fresh = |scenario| look.of(scenario, "half load", Name::Millrace, |seen| seen.freshness.p99_ms);
    vec![
        goal("steady: p50", Bound::Below(1.0), of(|seen| seen.latency.p50_ms), "ms"),
        goal("steady: p95", Bound::Below(2.0), of(|seen| seen.latency.p95_ms), "ms"),
        goal("steady: p99", Bound::Below(5.0), of(|seen| seen.latency.p99_ms), "ms"),
        goal("steady: longest", Bound::Below(50.0), of(|seen| seen.latency.max_ms), "ms"),
        goal("freshness at half load, realistic: p99", Bound::Below(100.0), fresh("realistic"), "ms"),
        goal("freshness at half load, stress: p99", Bound::Below(100.0), fresh("stress"), "ms"),
    ]
}

fn variations(look: Look<'_>) -> Vec<Goal> {
    let duplicates = |part| look.stored("duplicates", part, Name::Millrace);
    let without = duplicates("none");
    let grown = look.stored("growth", "saturated", Name::Millrace);
    let empty = look.stored("stress", "saturated", Name::Millrace);
    let share = |part| ratio(duplicates(part), without);
    vec![
        goal("0.6 % duplicates, to none", Bound::AtLeast(0.85), share("0.6 %"), "x"),
        goal("10 % duplicates, to none", Bound::AtLeast(0.60), share("10 %"), "x"),
        goal("growth: stored, to an empty table", Bound::AtLeast(0.90), ratio(grown, empty), "x"),
    ]
}

fn memory(look: Look<'_>) -> Vec<Goal> {
    let peak = |process: &'static str| {
        look.of("realistic", "saturated", Name::Millrace, move |seen| {
            seen.memory.get(process).map_or(f64::NAN, |memory| memory.peak_mb)
        })
    };
    let pending = |scenario| {
        let found = look.measurement(scenario, "saturated", Name::Millrace)?.pending?;
        Some(found.redis_bytes_per_event)
    };
    vec![
        goal("ingest-api at 1,000 connections", Bound::Below(60.0), peak("ingest-api"), "MB"),
        goal("stream-worker", Bound::Below(120.0), peak("stream-worker"), "MB"),
        goal("Redis, for an event that waits, stress", Bound::Below(80.0), pending("stress"), "bytes"),
        goal("Redis, for an event that waits, realistic", Bound::Below(80.0), pending("realistic"), "bytes"),
    ]
}

fn embedded(look: Look<'_>) -> Vec<Goal> {
    let fixed =
        |figure: fn(&Measurement) -> f64| look.of("single", "10,000 requests/s", Name::Embedded, figure);
    let saturated = ["64 connections", "256 connections", "1,000 connections"];
    let requests = saturated
        .iter()
        .filter_map(|part| look.of("single", part, Name::Embedded, |seen| seen.requests_per_s));
    let most = requests.max_by(f64::total_cmp);
    vec![
        goal(
            "embedded, 10,000 requests/s: average",
            Bound::Below(1.0),
            fixed(|seen| seen.latency.mean_ms),
            "ms",
        ),
        goal("embedded, 10,000 requests/s: p99", Bound::Below(5.0), fixed(|seen| seen.latency.p99_ms), "ms"),
        goal("embedded, single at saturation", Bound::AtLeast(30_000.0), most, "requests/s"),
    ]
}

fn ratio(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    Some(one? / other?)
}

/// Finds figures.
#[derive(Clone, Copy)]
struct Look<'a>(&'a Results);

impl<'a> Look<'a> {
    fn measurement(self, scenario: &str, part: &str, subject: Name) -> Option<&'a Measurement> {
        let is_it =
            |seen: &&Measurement| seen.scenario == scenario && seen.part == part && seen.subject == subject;
        self.0.measurements.iter().find(is_it)
    }

    fn of(
        self,
        scenario: &str,
        part: &str,
        subject: Name,
        figure: impl Fn(&Measurement) -> f64,
    ) -> Option<f64> {
        self.measurement(scenario, part, subject).map(figure)
    }

    fn stored(self, scenario: &str, part: &str, subject: Name) -> Option<f64> {
        self.of(scenario, part, subject, |seen| seen.stored_per_s)
    }

    fn ceiling(self, name: &str) -> Option<f64> {
        self.0.ceilings.iter().find(|ceiling| ceiling.name == name).map(|ceiling| ceiling.events_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_goal_is_reached_at_its_bound_and_otherwise_says_by_how_much_not() {
        let at_least = |seen| goal("x", Bound::AtLeast(100.0), seen, "").verdict();
        assert_eq!(at_least(Some(100.0)), Verdict::Reached);
        assert_eq!(at_least(Some(75.0)), Verdict::Missed(0.75));
        assert_eq!(at_least(None), Verdict::NotMeasured);
        let below = |seen| goal("x", Bound::Below(100.0), seen, "").verdict();
        assert_eq!(below(Some(99.0)), Verdict::Reached);
        assert_eq!(below(Some(150.0)), Verdict::Missed(1.5));
        assert!(matches!(at_least(Some(f64::NAN)), Verdict::Missed(_)));
    }
}
