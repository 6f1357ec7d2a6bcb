//! Helpers of every test target of this crate: requests, writers, outcomes, and checks of the counts.
#![allow(dead_code, reason = "each test target uses a part of it")]

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use millrace_event::plan::ProjectId;
use millrace_event::row::{EventTime, Row};
use millrace_event::undeliverable::UndeliverableCall;
use millrace_event::{BatchGroup, BatchId, EntryId, Outcome};
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{
    KeyOptions, KeyUse, Payload, PolicyChange, ProjectTotals, SharedStore, UpkeepPolicy, WriteError,
    WriteOutcome, WriteRequest, Writer,
};
use uuid::Uuid;

pub const DAY_MS: u64 = 86_400_000;

/// An event to be written.
#[derive(Clone, PartialEq, Debug)]
pub struct Event {
    pub time: EventTime,
    pub id: Uuid,
    pub name: String,
    pub properties: Option<String>,
    pub by_id: bool,
}

pub fn now_ms() -> u64 {
    let age = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
    u64::try_from(age.as_millis()).expect("the clock is before the year 500 million")
}

pub fn at_ms(ms: u64) -> EventTime {
    EventTime::At(i64::try_from(ms).expect("a time") * 1_000)
}

pub fn event(time: EventTime, id: u128) -> Event {
    Event { time, id: Uuid::from_u128(id), name: "thing_done".to_owned(), properties: None, by_id: false }
}

/// An event that its id alone identifies.
pub fn event_by_id(time: EventTime, id: u128) -> Event {
    Event { by_id: true, ..event(time, id) }
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
        by_id: event.by_id,
        name: &event.name,
        subject: Some("somebody"),
        client_id: None,
        properties: event.properties.as_deref().map(str::as_bytes),
        context: None,
    }
    .write(&mut row);
    row
}

/// An entry of shard 0.
pub fn request(project: ProjectId, batch_id: Uuid, entry: EntryId, events: &[Event]) -> WriteRequest {
    let rows: Vec<u8> = events.iter().flat_map(|event| row(project, event)).collect();
    let count = u32::try_from(events.len()).expect("few");
    WriteRequest { entry, shard: 0, batch_id, project, count, payload: Payload::Rows(rows.into()) }
}

/// A row that is no event.
pub fn call_row(project: ProjectId, code: &str, call: &[u8]) -> Vec<u8> {
    let mut row = Vec::new();
    UndeliverableCall { project, code, message: "the type is unknown", call }.write(&mut row);
    row
}

/// An entry of shard 0 with a new batch of these rows.
pub fn request_of_rows(project: ProjectId, entry: EntryId, rows: &[Vec<u8>]) -> WriteRequest {
    let count = u32::try_from(rows.len()).expect("few");
    let payload = Payload::Rows(rows.concat().into());
    WriteRequest { entry, shard: 0, batch_id: new_batch_id(), project, count, payload }
}

/// An id as the API gives it: batches that are made one after the other are usually in one group.
pub fn new_batch_id() -> BatchId {
    static LAST: Mutex<Option<BatchGroup>> = Mutex::new(None);
    let mut last = LAST.lock().expect("no test ends here");
    let next = last.and_then(BatchGroup::next);
    let group = next.unwrap_or_else(|| BatchGroup::first(now_ms() * 1_000, rand::random()));
    *last = Some(group);
    group.batch_id()
}

pub fn entry(ms: u64, seq: u64) -> EntryId {
    EntryId { ms, seq }
}

/// A store as a process opens it.
pub fn postgres_store(config: tokio_postgres::Config) -> Arc<PostgresStore> {
    PostgresStore::new(PostgresOptions { source: config.into(), pool_size: 4, application: "millrace-test" })
}

pub async fn project(store: &SharedStore, name: &str) -> ProjectId {
    store
        .create_project(name, "pro", &PolicyChange::default(), &KeyOptions::default())
        .await
        .expect("a new project")
        .0
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

/// The totals of a project. Checks for every project that its usage equals its tables and its ledger, and
/// that the figures of its meters equal its events.
pub async fn balanced(store: &SharedStore, project: ProjectId) -> ProjectTotals {
    let all = store.totals(true).await.expect("totals");
    for totals in &all {
        assert_eq!(totals.stored, totals.event_rows, "usage and events: {totals:?}");
        assert_eq!(totals.dead, totals.dead_rows, "usage and dead letters: {totals:?}");
        assert_eq!(totals.cancelled, totals.cancelled_rows, "usage and cancellations: {totals:?}");
        assert_eq!(totals.ledger, totals.ledger_hours, "ledger and usage: {totals:?}");
    }
    for check in store.check_meters().await.expect("checks") {
        assert!(check.holds(), "figures and events: {check:?}");
    }
    *all.iter().find(|totals| totals.project == project).expect("every project has totals")
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

/// A use of this key now.
pub fn key_use(key_id: i64) -> KeyUse {
    KeyUse { key_id, at: time::OffsetDateTime::now_utc() }
}

pub fn sqlstate_of(error: &WriteError) -> &str {
    match error {
        WriteError::Environment { sqlstate, .. } => sqlstate,
        WriteError::LedgerRetired => "the ledger is retired",
        WriteError::EpochReplaced { .. } => "the epoch was replaced",
    }
}
