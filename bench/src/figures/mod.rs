//! What is told of one measurement: plain numbers with their units in their names. How they are found out is in the rooms
//! beside this; what is made of them, in `report`.

pub mod measure;
pub mod pending;
mod probe;
pub mod process;
mod watch;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::load::Latency;
use crate::subjects::Name;

/// Everything a run has found.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Results {
    /// Where, with what, and how it was run.
    pub machine: BTreeMap<String, String>,
    /// Whether it was the short form, whose figures only show that it works.
    pub is_quick: bool,
    /// What the parts can do alone.
    pub ceilings: Vec<Ceiling>,
    /// What the subjects did.
    pub measurements: Vec<Measurement>,
}

/// What one part can do when nothing else is asked of the machine.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Ceiling {
    /// Which part.
    pub name: String,
    /// The shape of batches it was given.
    pub events_per_batch: usize,
    /// Requests, scripts or transactions a second.
    pub per_s: f64,
    /// Events a second.
    pub events_per_s: f64,
}

/// One part of one scenario, by one subject.
#[derive(Clone, Serialize, Deserialize, Debug)]
pub struct Measurement {
    /// The scenario's name.
    pub scenario: String,
    /// The part's: how requests were sent.
    pub part: String,
    /// Who was measured.
    pub subject: Name,
    /// Rows in the table before the scenario's first part.
    pub rows_before: u64,
    /// Connections open at once.
    pub connections: usize,
    /// Events in an average batch.
    pub events_per_request: f64,
    /// Seconds that were measured.
    pub window_s: f64,
    /// Requests answered 2xx.
    pub requests_per_s: f64,
    /// Events in them.
    pub accepted_per_s: f64,
    /// Events that reached the table for good.
    pub stored_per_s: f64,
    /// Events accepted and not stored when measuring began.
    pub backlog_begin: u64,
    /// The same at its end.
    pub backlog_end: u64,
    /// The share of the time in which the generator waited so that the backlog did not grow further.
    pub held_share: f64,
    /// From the moment a request was due to its answer.
    pub latency: Times,
    /// How late the generator was to send at a fixed pace; its own share of the above.
    pub lateness: Times,
    /// From the answer to the moment an event can be read from the table.
    pub freshness: Times,
    /// Requests answered other than 2xx, requests without an answer, and requests never sent for want of answers.
    pub refused: u64,
    /// See [`Measurement::refused`].
    pub unanswered: u64,
    /// See [`Measurement::refused`].
    pub unsent: u64,
    /// Events in requests without an answer: they may or may not be stored.
    pub unanswered_events: u64,
    /// The generator's processor time, as a share of one processor.
    pub generator_processors: f64,
    /// From the first request until everything was stored, by process; in seconds for a million events accepted.
    pub cpu_s_per_million: BTreeMap<String, f64>,
    /// Memory by process.
    pub memory: BTreeMap<String, Memory>,
    /// The store's log of transactions.
    pub wal_bytes_per_event: Option<f64>,
    /// What events cost in Redis while they waited; looked at before the load.
    pub pending: Option<Pending>,
    /// Seconds after the last answer until everything was stored.
    pub drained_s: f64,
    /// Events accepted, those of the warm-up and of the probes included.
    pub accepted: u64,
    /// Those among them that were sent a second time.
    pub repeated: u64,
    /// What happened when.
    pub course: Vec<Moment>,
}

/// What events cost that wait in the stream.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Pending {
    /// Memory of Redis.
    pub redis_bytes_per_event: f64,
    /// Its append-only file, until they are admitted.
    pub aof_bytes_per_event: f64,
}

/// Memory of one process, in megabytes.
#[derive(Clone, Copy, Serialize, Deserialize, Debug, Default)]
pub struct Memory {
    /// The most that was seen.
    pub peak_mb: f64,
    /// When everything was stored.
    pub end_mb: f64,
}

/// The state of things at one moment.
#[derive(Clone, Copy, Serialize, Deserialize, Debug)]
pub struct Moment {
    /// Seconds since the first request.
    pub at_s: f64,
    /// Events accepted so far.
    pub accepted: u64,
    /// Events stored so far.
    pub stored: u64,
}

/// How long many things took, in milliseconds.
#[derive(Clone, Copy, Serialize, Deserialize, Debug, Default)]
pub struct Times {
    /// How many things.
    pub count: u64,
    /// On average.
    pub mean_ms: f64,
    /// Half of them took at most this.
    pub p50_ms: f64,
    /// And so on.
    pub p95_ms: f64,
    /// And so on.
    pub p99_ms: f64,
    /// And so on.
    pub p999_ms: f64,
    /// The longest.
    pub max_ms: f64,
}

impl From<&Latency> for Times {
    fn from(latency: &Latency) -> Self {
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
