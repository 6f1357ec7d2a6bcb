//! The results of a run, as they are written to the results file. Units are part of the names.
//!
//! Field names are the keys of that file. Where a Rust name differs, `serde(rename)` keeps the key.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::load::LatencyHistogram;
use crate::subjects::SubjectName;

#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Results {
    /// The machine, the versions of programs, and the command of the run.
    pub machine: BTreeMap<String, String>,
    /// Whether `--quick` was given. Such a run is too short for its numbers to be compared.
    pub is_quick: bool,
    pub ceilings: Vec<Ceiling>,
    pub measurements: Vec<Measurement>,
}

impl Results {
    pub fn measurement(&self, scenario: &str, part: &str, subject: SubjectName) -> Option<&Measurement> {
        self.measurements.iter().find(|measurement| {
            (measurement.scenario.as_str(), measurement.part.as_str(), measurement.subject)
                == (scenario, part, subject)
        })
    }

    /// What makes results of a run with this window incomparable with others; `None` when they belong
    /// together.
    pub fn difference(&self, others: &Self, window: Duration) -> Option<String> {
        for fact in ["programs", "profile", "processor", "PostgreSQL", "Redis"] {
            let [ours, theirs] = [self, others].map(|results| results.machine.get(fact));
            if ours != theirs {
                let text = |fact: Option<&String>| fact.map_or("unknown", String::as_str).to_owned();
                return Some(format!("{fact} is {}, and was {}", text(ours), text(theirs)));
            }
        }
        let windows = others.measurements.iter().map(|measurement| measurement.window_s);
        let window_s = window.as_secs_f64();
        let another = windows.into_iter().find(|found| (found - window_s).abs() > 0.001);
        another.map(|found| format!("a window is {window_s} s, and was {found} s"))
    }

    pub fn ceiling(&self, name: &str) -> Option<&Ceiling> {
        self.ceilings.iter().find(|ceiling| ceiling.name == name)
    }
}

/// The highest rate of one component that has the machine to itself.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Ceiling {
    pub name: String,
    pub events_per_batch: usize,
    /// Batches per second: HTTP requests, Redis scripts or COPY transactions.
    pub per_s: f64,
    pub events_per_s: f64,
}

/// One part of one scenario, measured on one subject.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Measurement {
    pub scenario: String,
    /// The part's name: how requests were sent.
    pub part: String,
    pub subject: SubjectName,
    /// Which repetition it is, from 1.
    #[serde(default = "first")]
    pub repetition: u32,
    /// Rows in the table before the scenario's first part.
    pub rows_before: u64,
    pub connections: usize,
    /// Mean number of events per accepted request.
    pub events_per_request: f64,
    /// Seconds between the end of the warm-up and the end of the load.
    pub window_s: f64,
    /// Requests answered 2xx.
    pub requests_per_s: f64,
    /// Events in these requests.
    pub accepted_per_s: f64,
    /// Events committed to the table.
    pub stored_per_s: f64,
    /// Events stored per second in the last third of the window, divided by those of the first third: below 1
    /// when the rate does not last.
    #[serde(default)]
    pub last_third: Option<f64>,
    /// The rate of one COPY connection at that time.
    #[serde(default)]
    pub copy: Option<CopyRates>,
    /// Events accepted and not yet stored when the window began.
    pub backlog_begin: u64,
    /// Events accepted and not yet stored when the window ended.
    pub backlog_end: u64,
    /// Share of the time in which the generator was held back to keep the backlog from growing.
    pub held_share: f64,
    /// From the moment a request was due until its answer.
    pub latency: LatencySummary,
    /// How late the generator was to send at a fixed rate. Included in `latency`.
    pub lateness: LatencySummary,
    /// From an event's answer until the event can be read from the table.
    pub freshness: LatencySummary,
    /// Requests answered with another status than 2xx.
    pub refused: u64,
    /// Requests that received no answer.
    pub unanswered: u64,
    /// Requests that were due and could not be sent before the end.
    pub unsent: u64,
    /// Events in requests that received no answer: they may or may not be stored.
    pub unanswered_events: u64,
    /// Processors that the generator kept busy: 1.0 is one whole processor.
    pub generator_processors: f64,
    /// Seconds of processor time per million accepted events, by process, until everything was stored.
    pub cpu_s_per_million: BTreeMap<String, f64>,
    /// By process.
    pub memory: BTreeMap<String, MemoryUse>,
    /// PostgreSQL's write-ahead log; `None` for other stores.
    pub wal_bytes_per_event: Option<f64>,
    /// Measured before the load, with the stream-worker paused; `None` for a subject without Redis.
    pub pending: Option<PendingCost>,
    /// Seconds from the last answer until everything was stored.
    pub drained_s: f64,
    /// Events accepted, including the warm-up and the probes.
    pub accepted: u64,
    /// Accepted events that had been accepted before.
    pub repeated: u64,
    #[serde(rename = "course")]
    pub timeline: Vec<TimelinePoint>,
}

fn first() -> u32 {
    1
}

/// Events per second that one COPY connection wrote into a table with jsonb columns before and after a
/// subject was measured. Their difference is the drift of the machine.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct CopyRates {
    pub before_per_s: f64,
    pub after_per_s: f64,
    /// The events that the subject stored per second, divided by the mean of both.
    pub stored_ratio: f64,
}

impl CopyRates {
    pub fn new(before_per_s: f64, after_per_s: f64, stored_per_s: f64) -> Self {
        Self {
            before_per_s,
            after_per_s,
            stored_ratio: stored_per_s / f64::midpoint(before_per_s, after_per_s),
        }
    }
}

impl Measurement {
    /// Processor time of all processes of the subject, servers included.
    pub fn cpu_s_per_million_in_all(&self) -> f64 {
        self.cpu_s_per_million.values().sum()
    }
}

/// Bytes per event that waits in the Redis stream.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct PendingCost {
    /// Memory of Redis.
    pub redis_bytes_per_event: f64,
    /// Size of its append-only file.
    pub aof_bytes_per_event: f64,
}

/// Resident memory of one process, in megabytes.
#[derive(Clone, Copy, Serialize, Deserialize, Debug, Default)]
pub struct MemoryUse {
    pub peak_mb: f64,
    /// When everything was stored.
    pub end_mb: f64,
}

/// Running totals at one moment.
#[derive(Clone, Copy, PartialEq, Serialize, Deserialize, Debug)]
pub struct TimelinePoint {
    /// Seconds since the first request.
    pub at_s: f64,
    pub accepted: u64,
    pub stored: u64,
}

/// Mean, percentiles and maximum of many durations.
#[derive(Clone, Copy, Serialize, Deserialize, Debug, Default)]
pub struct LatencySummary {
    /// Number of durations.
    pub count: u64,
    pub mean_ms: f64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    /// The 99.9th percentile.
    pub p999_ms: f64,
    pub max_ms: f64,
}

impl From<&LatencyHistogram> for LatencySummary {
    fn from(latency: &LatencyHistogram) -> Self {
        Self {
            count: latency.count(),
            mean_ms: latency.mean_ms(),
            p50_ms: latency.quantile_ms(0.50),
            p95_ms: latency.quantile_ms(0.95),
            p99_ms: latency.quantile_ms(0.99),
            p999_ms: latency.quantile_ms(0.999),
            max_ms: latency.max_ms(),
        }
    }
}
