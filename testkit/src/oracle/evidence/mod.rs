//! The contents of a store and a stream: rows, sums and counters.
//!
//! There are two implementations, for PostgreSQL with Redis and for the two files of the embedded backend.
//! They must never use the product's own code and never change what they read.

pub(super) mod files;
pub(super) mod servers;

use async_trait::async_trait;
use uuid::Uuid;

pub use self::files::Files;
pub use self::servers::Servers;

/// A row of `events`.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredEvent {
    /// The property `n`, which identifies an event of the oracle.
    pub number: Option<i64>,
    pub event_id: Uuid,
    /// The timestamp, in microseconds since 1970.
    pub time_us: i64,
    /// The receive time, in microseconds since 1970.
    pub received_us: i64,
    pub name: String,
    pub subject: Option<String>,
    /// The id in the request, if it is not a UUID.
    pub client_id: Option<String>,
    /// JSON.
    pub properties: Option<String>,
    /// JSON.
    pub context: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetter {
    /// The number of events in it.
    pub events: u64,
    pub payload: Vec<u8>,
    pub reason: String,
    /// Why no event could be made of a call; `None` for other letters.
    pub code: Option<String>,
}

/// The sums of one project.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// From `batches`: accepted, stored, duplicate, dead, conflict.
    pub ledger: [u64; 5],
    /// From `usage_hourly`: stored, duplicate, dead, conflict.
    pub usage: [u64; 4],
    /// Events in dead letters.
    pub letters: u64,
}

/// A row of `batches`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LedgerEntry {
    pub batch: Uuid,
    /// Milliseconds since 1970.
    pub received_ms: u64,
    /// The number of accepted events.
    pub accepted: u64,
}

/// The stream's counters of a project.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamCounters {
    /// All admitted events.
    pub accepted: u64,
    /// Admitted events that are not settled yet.
    pub pending: i64,
    /// Events charged to the quota of `month`.
    pub used: u64,
    /// Theoretical arrival time of the rate limit, in microseconds since 1970.
    pub tat: u64,
    /// Year * 100 + month.
    pub month: u64,
}

/// The figures of one meter, and the same by the stored events.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MeterSums {
    pub slug: String,
    /// The number of events, and the sum of the values in quarters, the number of different values, or 0.
    pub figures: (i64, i64),
    pub events: (i64, i64),
}

/// What a limit counts: the number of its meter, its period and its customer.
pub type LimitName = (i64, String, String);

/// What a customer used of a limit in one window. Amounts are in quarters, as those of the oracle are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitUse {
    pub name: LimitName,
    /// Hours or days since 1970, or year * 100 + month.
    pub window: i64,
    /// As the store has recorded it.
    pub recorded: i64,
    /// By the stored events.
    pub events: i64,
    pub limit: i64,
}

/// A counter of the stream for a limit, in quarters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitCounter {
    pub name: LimitName,
    pub window: i64,
    pub used: i64,
}

/// The cancelled events of a project.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CancelledEvents {
    /// The numbers of stored events that are cancelled.
    pub numbers: Vec<i64>,
    /// Rows of the record.
    pub records: i64,
    /// As usage counts them.
    pub metered: i64,
}

/// Reads a store and a stream. Every method panics when they do not answer.
#[async_trait]
pub trait Evidence: Send + Sync {
    /// Calls `visit` for every stored event of a project.
    async fn events(&self, project: i64, visit: &mut (dyn FnMut(StoredEvent) + Send));

    /// The dead letters of a project that were not redriven.
    async fn letters(&self, project: i64) -> Vec<DeadLetter>;

    async fn sums(&self, project: i64) -> Sums;

    /// The ledger of a project, in the order of receipt.
    async fn ledger(&self, project: i64) -> Vec<LedgerEntry>;

    /// The number of stored events that were received in a month, given as year * 100 + month. `None` is this
    /// month.
    async fn stored_in_month(&self, project: i64, month: Option<u64>) -> u64;

    /// The length of the property `bulk` of one event, in characters. 0 when the event is not stored.
    async fn bulk_chars(&self, project: i64, event_id: Uuid) -> usize;

    /// For each project, its id and the sum of its metered events, duplicates and dead events.
    async fn metered(&self) -> Vec<(i64, i64)>;

    async fn counters(&self, project: i64) -> StreamCounters;

    /// The meters of a project. Those of drills sum up `$.amount`, whose values are whole quarters, count
    /// the different values of `$.n`, or count events.
    async fn meters(&self, project: i64) -> Vec<MeterSums>;

    /// What customers of a project used of limits that were set before its first event.
    async fn limit_uses(&self, project: i64) -> Vec<LimitUse>;

    /// The stream's counters for limits of customers of a project.
    async fn limit_counters(&self, project: i64) -> Vec<LimitCounter>;

    async fn cancelled_events(&self, project: i64) -> CancelledEvents;

    /// A description of the work left in the stream. Empty when there is none.
    async fn left(&self) -> Vec<String>;

    /// For each shard, the epoch in the stream and the epoch recorded in the store.
    async fn epochs(&self) -> Vec<(Option<String>, Option<String>)>;
}
