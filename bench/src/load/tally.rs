//! Counts and latencies of a load's requests.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hdrhistogram::Histogram;

/// The highest recorded latency. A longer one counts as this.
const LONGEST_US: u64 = 600_000_000;
/// Significant decimal digits of recorded latencies.
const DIGITS: u8 = 3;

/// Totals that can be read while the load is sent.
#[derive(Default, Debug)]
pub struct LiveCounters {
    accepted: AtomicU64,
    repeated: AtomicU64,
}

impl LiveCounters {
    /// Events accepted so far, including repeated ones.
    pub fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Accepted events that had been accepted before.
    pub fn repeated(&self) -> u64 {
        self.repeated.load(Ordering::Relaxed)
    }

    pub(super) fn add(&self, accepted: u64, repeated: u64) {
        self.accepted.fetch_add(accepted, Ordering::Relaxed);
        self.repeated.fetch_add(repeated, Ordering::Relaxed);
    }
}

#[derive(Clone, Debug)]
pub struct LatencyHistogram(Histogram<u64>);

impl LatencyHistogram {
    pub fn new() -> Self {
        Self(Histogram::new_with_bounds(1, LONGEST_US, DIGITS).expect("the bounds are in order"))
    }

    pub fn record(&mut self, took: Duration) {
        self.0.saturating_record(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
    }

    /// Adds all durations of `other`.
    pub fn add(&mut self, other: &Self) {
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Number of durations of at least `took`.
    #[cfg(test)]
    pub fn count_at_least(&self, took: Duration) -> u64 {
        let us = u64::try_from(took.as_micros()).expect("a test's time is short");
        self.0.count_between(us, LONGEST_US)
    }

    /// The quantile at `share`, from 0 to 1.
    pub fn quantile_ms(&self, share: f64) -> f64 {
        self.0.value_at_quantile(share) as f64 / 1_000.0
    }

    pub fn max_ms(&self) -> f64 {
        self.0.max() as f64 / 1_000.0
    }

    pub fn mean_ms(&self) -> f64 {
        self.0.mean() / 1_000.0
    }
}

/// The totals of one thread, or of the whole load.
#[derive(Clone, Debug)]
pub struct Tally {
    /// From the moment a request was due until its answer, of requests due within the window.
    pub latency: LatencyHistogram,
    /// At a fixed rate, from the moment a request was due until an idle connection began to send it: the
    /// generator's own share of the latency.
    pub lateness: LatencyHistogram,
    /// Requests answered 2xx within the window.
    pub requests: u64,
    /// Events accepted by these requests.
    pub events: u64,
    /// Requests answered with another status, at any time.
    pub refused: u64,
    /// Requests without an answer, at any time. Their events may or may not have been accepted.
    pub unanswered: u64,
    /// Events in requests without an answer.
    pub unanswered_events: u64,
    /// Requests that were due and could not be sent before the end, because the server was too slow.
    pub unsent: u64,
    /// Seconds of processor time of the generator's threads, including the warm-up.
    pub cpu_s: f64,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self {
            latency: LatencyHistogram::new(),
            lateness: LatencyHistogram::new(),
            requests: 0,
            events: 0,
            refused: 0,
            unanswered: 0,
            unanswered_events: 0,
            unsent: 0,
            cpu_s: 0.0,
        }
    }

    /// Adds the totals of another thread.
    pub(super) fn add(&mut self, other: &Self) {
        self.latency.add(&other.latency);
        self.lateness.add(&other.lateness);
        self.requests += other.requests;
        self.events += other.events;
        self.refused += other.refused;
        self.unanswered += other.unanswered;
        self.unanswered_events += other.unanswered_events;
        self.unsent += other.unsent;
        self.cpu_s += other.cpu_s;
    }
}
