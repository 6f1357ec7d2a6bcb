//! What every store promises. Nothing here knows which store it is.

pub mod accounts;
pub mod admin;
pub mod keeping;
pub mod letters;
pub mod racing;
pub mod redriving;
pub mod writing;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use millrace_event::plan::ProjectId;
use millrace_event::row::{EventTime, Row};
use millrace_event::{EntryId, Outcome};
pub use millrace_store::WriteOutcome;
use millrace_store::{Payload, ProjectTotals, SharedStore, UpkeepPolicy, WriteRequest, Writer};
use serde_json::Value;
use uuid::Uuid;

pub const DAY_MS: u64 = 86_400_000;

/// A migrated store with nothing in it, and a look into its tables.
#[async_trait]
pub trait Harness: Send + Sync {
    /// The store.
    fn store(&self) -> SharedStore;
    /// Another one on the same data, as another process would have it.
    fn another(&self) -> SharedStore;
    /// Every event stored of a project, ordered by time and id.
    async fn events(&self, project: ProjectId) -> Vec<StoredEvent>;
    /// When a key was last used, microseconds since 1970.
    async fn last_used_us(&self, key_id: i64) -> Option<i64>;
    /// Every dead letter of a project, oldest first.
    async fn letters(&self, project: ProjectId) -> Vec<StoredLetter>;
    /// Puts something else into a letter, as if the database had come to like what is in it.
    async fn mend_letter(&self, id: i64, payload: &[u8]);
}

/// A row of `events`.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredEvent {
    pub timestamp_us: i64,
    pub event_id: Uuid,
    pub received_us: i64,
    pub name: String,
    pub subject: Option<String>,
    pub client_id: Option<String>,
    pub properties: Option<Value>,
    pub context: Option<Value>,
}

/// A row of `dead_letters`.
#[derive(Clone, PartialEq, Debug)]
pub struct StoredLetter {
    pub batch_id: Uuid,
    pub event_index: Option<i32>,
    pub event_count: i64,
    pub sqlstate: Option<String>,
    pub reason: String,
    pub payload: Vec<u8>,
}

/// An event to be written.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub time: EventTime,
    pub id: Uuid,
    pub name: String,
    pub properties: Option<String>,
}

pub fn now_ms() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).expect("we live after 1970");
    u64::try_from(age.as_millis()).expect("and before the year 500 million")
}

pub fn at_ms(ms: u64) -> EventTime {
    EventTime::At(i64::try_from(ms).expect("a time") * 1_000)
}

pub fn event(time: EventTime, id: u128) -> Event {
    Event { time, id: Uuid::from_u128(id), name: "thing_done".to_owned(), properties: None }
}

/// Events with these ids, all at one time.
pub fn events(ms: u64, ids: impl IntoIterator<Item = u128>) -> Vec<Event> {
    ids.into_iter().map(|id| event(at_ms(ms), id)).collect()
}

pub fn row(project: ProjectId, event: &Event) -> Vec<u8> {
    let mut row = Vec::new();
    Row {
        project,
        time: event.time,
        event_id: event.id,
        name: &event.name,
        subject: Some("somebody"),
        client_id: None,
        properties: event.properties.as_deref().map(str::as_bytes),
        context: None,
    }
    .write(&mut row);
    row
}

/// One entry of shard 0.
pub fn work(project: ProjectId, batch_id: Uuid, entry: EntryId, events: &[Event]) -> WriteRequest {
    let rows: Vec<u8> = events.iter().flat_map(|event| row(project, event)).collect();
    let count = u32::try_from(events.len()).expect("few");
    WriteRequest { entry, shard: 0, batch_id, project, count, body: Payload::Rows(rows.into()) }
}

pub fn entry(ms: u64, seq: u64) -> EntryId {
    EntryId { ms, seq }
}

pub async fn project(store: &SharedStore, name: &str) -> ProjectId {
    store.create_project(name, "pro", None, false).await.expect("a new project").0
}

pub async fn writer(store: &SharedStore) -> Box<dyn Writer> {
    store.writer("test").await.expect("a writer")
}

/// The outcomes alone.
pub trait Outcomes {
    fn map_outcomes(&self) -> Vec<Outcome>;
}

impl Outcomes for Vec<WriteOutcome> {
    fn map_outcomes(&self) -> Vec<Outcome> {
        self.iter().map(|written| written.outcome).collect()
    }
}

pub fn stored(stored: u32) -> Outcome {
    Outcome { stored, ..Outcome::default() }
}

pub fn duplicate(duplicate: u32) -> Outcome {
    Outcome { duplicate, ..Outcome::default() }
}

/// The totals of a project, checked: what was metered is what is in the tables and in the ledger.
pub async fn balanced(store: &SharedStore, project: ProjectId) -> ProjectTotals {
    let all = store.totals(true).await.expect("totals");
    for totals in &all {
        assert_eq!(totals.stored, totals.event_rows, "metered and stored: {totals:?}");
        assert_eq!(totals.dead, totals.dead_rows, "metered and dead: {totals:?}");
        assert_eq!(totals.ledger, totals.ledger_hours, "ledger and meters: {totals:?}");
    }
    *all.iter().find(|totals| totals.project == project.0).expect("every project has totals")
}

/// Upkeep that retires nothing.
pub fn keep_all() -> UpkeepPolicy {
    UpkeepPolicy {
        retention_days: None,
        ledger_days: 7,
        oldest_pending_ms: None,
        transaction_age_max: Duration::from_secs(3_600),
    }
}
