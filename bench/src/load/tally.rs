//! What has come of the requests: counts that can be read while they are made, and times that are summed up at the end.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longer than any request takes; what takes longer counts as this.
const LONGEST_US: u64 = 600_000_000;
/// Three digits: a thousandth of what is told.
const DIGITS: u8 = 3;

/// What is known while requests are still sent.
#[derive(Default, Debug)]
pub struct Live {
    accepted: AtomicU64,
    repeated: AtomicU64,
}

impl Live {
    /// Events accepted so far, repeated ones included.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Events among them that had been accepted before.
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, accepted: u64, repeated: u64) {
        self.accepted.fetch_add(accepted, Ordering::Relaxed);
        self.repeated.fetch_add(repeated, Ordering::Relaxed);
    }
}

/// Times of many requests.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Latency {
    /// Of none.
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("the bounds are in order"))
    }

    /// Adds one.
    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds all of another.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// How many of them took at least this long.
    #[cfg(test)]
    pub fn count_at_least(&self, took: Duration) -> u64 {
        let us = u64::try_from(took.as_micros()).expect("a test's time is short");
        self.0.count_between(us, LONGEST_US)
    }

    /// What this share of them took at most, in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1_000.0
    }

    /// The longest, in milliseconds.
    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1_000.0
    }

    /// The average, in milliseconds.
    pub fn mean_ms(&self) -> f64 {
        self.0.mean() / 1_000.0
    }
}

/// What one thread, or all of them, have to tell at the end.
#[derive(Clone, Debug)]
pub struct Tally {
    /// From the moment a request was due to its answer; those due within the window.
    pub latency: Latency,
    /// From the moment a request of a fixed pace was due until an idle connection began to send it: the generator's own
    /// share of its latency.
    pub lateness: Latency,
    /// Requests answered 2xx within the window.
    pub requests: u64,
    /// Events accepted by them.
    pub events: u64,
    /// Requests answered anything else, at any time.
    pub refused: u64,
    /// The last such answer's status.
    pub refused_with: Option<u16>,
    /// Requests that no answer came to, at any time: their events may or may not have been accepted.
    pub unanswered: u64,
    /// Events in them.
    pub unanswered_events: u64,
    /// Requests that were due and could not be sent before the end, because the server was too slow.
    pub unsent: u64,
    /// Seconds of processor time that sending and receiving took, warm-up included.
    pub cpu_s: f64,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            latency: Latency::new(),
            lateness: Latency::new(),
            requests: 0,
            events: 0,
            refused: 0,
            refused_with: None,
            unanswered: 0,
            unanswered_events: 0,
            unsent: 0,
            cpu_s: 0.0,
        }
    }

    /// Adds what another thread has to tell.
    pub(super) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.lateness.add(&other.lateness);
        self.requests += other.requests;
        self.events += other.events;
        self.refused += other.refused;
        self.refused_with = self.refused_with.or(other.refused_with);
        self.unanswered += other.unanswered;
        self.unanswered_events += other.unanswered_events;
        self.unsent += other.unsent;
        self.cpu_s += other.cpu_s;
    }
}
