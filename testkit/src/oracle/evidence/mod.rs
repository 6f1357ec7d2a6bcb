//! What is there to be judged: rows, sums and counters, read out of a store and a stream by hand.
//!
//! Two installations can be looked at: PostgreSQL and Redis, and the two files of the embedded one. Both are asked the same
//! questions. What this room must never do: use the product's own code, or change what it looks at.

pub(super) mod files;
pub(super) mod servers;

use async_trait::async_trait;
use uuid::Uuid;

pub use self::files::Files;
pub use self::servers::Servers;

/// An event as it stands in the store.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredEvent {
    /// The number in its properties, by which the oracle knows it.
    pub number: Option<i64>,
    /// Its id.
    pub event_id: Uuid,
    /// Its timestamp, in microseconds since 1970.
    pub time_us: i64,
    /// When it was received, the same.
    pub received_us: i64,
    /// Its name.
    pub name: String,
    /// Its subject.
    pub subject: Option<String>,
    /// Its id as the client wrote it.
    pub client_id: Option<String>,
    /// JSON.
    pub properties: Option<String>,
    /// JSON.
    pub context: Option<String>,
}

/// A dead letter.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Letter {
    /// Events it counts.
    pub events: u64,
    /// What it holds.
    pub payload: Vec<u8>,
    /// Why it is dead.
    pub reason: String,
}

/// The sums of one project.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Sums {
    /// Of the ledger: accepted, stored, duplicate, dead.
    pub ledger: [u64; 4],
    /// Of the meters: stored, duplicate, dead.
    pub usage: [u64; 3],
    /// Events in dead letters.
    pub letters: u64,
}

/// A row of the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The batch.
    pub batch: Uuid,
    /// When it was received.
    pub received_ms: u64,
    /// Events in it.
    pub accepted: u64,
}

/// What the stream knows of a project.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StreamCounters {
    /// Events ever admitted.
    pub accepted: u64,
    /// Of these, not settled.
    pub pending: i64,
    /// Events charged to the month.
    pub used: u64,
    /// Theoretical arrival time of the rate limit.
    pub tat: u64,
    /// The month, as year * 100 + month.
    pub month: u64,
}

/// An installation to be looked at. Every method panics when it does not answer: it must run again.
#[async_trait]
pub trait Evidence: Send + Sync {
    /// Every event of a project, one after the other.
    async fn events(&self, project: i64, visit: &mut (dyn FnMut(StoredEvent) + Send));

    /// Its dead letters.
    async fn letters(&self, project: i64) -> Vec<Letter>;

    /// Its sums.
    async fn sums(&self, project: i64) -> Sums;

    /// Its ledger, in the order of receipt.
    async fn ledger(&self, project: i64) -> Vec<Entry>;

    /// Events stored of those received in a month, given as year * 100 + month; `None` is this month.
    async fn stored_in_month(&self, project: i64, month: Option<u64>) -> u64;

    /// Characters of `bulk` in the properties of one event; 0 when it is not there.
    async fn bulk_chars(&self, project: i64, event_id: Uuid) -> usize;

    /// Events ever metered, in whatever way, by project.
    async fn metered(&self) -> Vec<(i64, i64)>;

    /// What the stream knows of a project.
    async fn counters(&self, project: i64) -> StreamCounters;

    /// What the stream still holds, in words.
    async fn left(&self) -> Vec<String>;

    /// The epoch of each shard: the one the stream bears, and the one on record.
    async fn epochs(&self) -> Vec<(Option<String>, Option<String>)>;
}
