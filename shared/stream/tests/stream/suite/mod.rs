//! The promises of every stream. This module must never depend on a single implementation.

pub mod admission;
pub mod delivery;
pub mod limiting;
pub mod rebuilding;
pub mod settling;
pub mod witness;

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use millrace_event::BatchGroup;
use millrace_event::entry::{EntryBatch, NewBatch};
use millrace_event::plan::{Plan, ProjectId};
use millrace_stream::{
    Admission, BatchId, Decision, Delivery, EntryId, Epoch, Outcome, ProjectCounters, SettledBatch,
    Settlement, SharedStream,
};
use testkit::eventually;
use uuid::Uuid;

pub const DEADLINE: Duration = Duration::from_secs(20);
pub const PROJECT: ProjectId = ProjectId(7);
/// The epoch of every trusted stream.
pub const EPOCH: Epoch = Uuid::from_u128(0xE90C);
/// A backlog that no test fills.
pub const ENOUGH: u64 = 1_000_000;

/// A new server or folder that can hold one stream.
pub trait Harness {
    /// The stream as one process sees it. Each call is another process.
    fn open(&self, backlog_events_max: u64) -> SharedStream;
}

/// A new stream that trusts [`EPOCH`].
pub async fn trusted_stream(harness: &dyn Harness) -> SharedStream {
    trusted_stream_with_backlog(harness, ENOUGH).await
}

pub async fn trusted_stream_with_backlog(harness: &dyn Harness, backlog_events_max: u64) -> SharedStream {
    let stream = harness.open(backlog_events_max);
    connected(&stream).await;
    rebuilt(&stream, EPOCH, &[]).await;
    stream
}

/// The same stream in another process that trusts [`EPOCH`].
pub async fn another(harness: &dyn Harness) -> SharedStream {
    let stream = harness.open(ENOUGH);
    connected(&stream).await;
    stream.trust_epoch(0, EPOCH);
    stream
}

pub async fn connected(stream: &SharedStream) {
    eventually(DEADLINE, "the stream to answer", async || stream.limit_state(PROJECT).await).await;
}

/// Rebuilds shard 0 with this epoch and these counters, and trusts the epoch.
pub async fn rebuilt(stream: &SharedStream, epoch: Epoch, counters: &[ProjectCounters]) {
    // A stream that was wiped continues above what it has acknowledged: an entry with the same id, in the
    // same millisecond, would show that it went back in time.
    let floor = stream.witness(0).await.unwrap().acknowledged;
    stream.fence(0, epoch).await.unwrap();
    let pending = stream.pending_batches(0).await.unwrap();
    assert!(stream.rebuild(0, epoch, counters, &pending, floor).await.unwrap());
    stream.trust_epoch(0, epoch);
}

pub fn plan() -> Plan {
    Plan {
        name: "test".to_owned(),
        requests_per_minute: 60_000,
        burst: 100_000,
        events_per_month: Some(1_000_000),
        events_per_batch: 1_000,
    }
}

/// A batch with this many events and without an idempotency key. As in an API process, its id has the next
/// place of a group.
pub fn batch(count: u32) -> NewBatch {
    batch_with_id(next_id(), count)
}

/// A batch with this many events and an idempotency key: its id names no group.
pub fn keyed_batch(count: u32) -> NewBatch {
    batch_with_id(Uuid::now_v7(), count)
}

/// The id of the next batch without an idempotency key.
pub fn next_id() -> BatchId {
    static LAST: Mutex<Option<BatchGroup>> = Mutex::new(None);
    let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    let first = || BatchGroup::first(1_795_219_200_000_000, Uuid::new_v4().as_u64_pair().1);
    let group = last.and_then(BatchGroup::next).unwrap_or_else(first);
    *last = Some(group);
    group.batch_id()
}

pub fn batch_with_id(batch_id: BatchId, count: u32) -> NewBatch {
    NewBatch::new(batch_id, PROJECT, count, rows_of(batch_id, count))
}

/// No rows, but bytes that are delivered as they are.
pub fn rows_of(batch_id: BatchId, count: u32) -> Vec<u8> {
    format!("{count} rows of {batch_id}").into_bytes()
}

/// The admitted batches of these entries.
pub fn batches(deliveries: &[Delivery]) -> Vec<EntryBatch> {
    let entries = deliveries.iter().map(|delivery| delivery.entry.as_ref().unwrap());
    entries.flat_map(|entry| entry.admitted().copied()).collect()
}

/// The only batch of an entry.
#[track_caller]
pub fn only_batch(delivery: &Delivery) -> EntryBatch {
    let [batch] = delivery.entry.as_ref().unwrap().batches[..] else { panic!("{delivery:?}") };
    batch
}

pub async fn admit(stream: &SharedStream, batch: &NewBatch) -> Decision {
    admit_under(stream, batch, &plan()).await
}

pub async fn admit_under(stream: &SharedStream, batch: &NewBatch, plan: &Plan) -> Decision {
    stream.admit(&Admission { batch, plan, digest: None, awaited: false }).await.unwrap()
}

pub async fn admit_keyed(stream: &SharedStream, batch: &NewBatch, digest: [u8; 16]) -> Decision {
    let plan = plan();
    stream.admit(&Admission { batch, plan: &plan, digest: Some(digest), awaited: false }).await.unwrap()
}

/// Returns when the batch was received, in milliseconds since 1970.
#[track_caller]
pub fn assert_admitted(decision: Decision) -> u64 {
    match decision {
        Decision::Admitted { received_ms, .. } => received_ms,
        other => panic!("not admitted: {other:?}"),
    }
}

pub async fn counters(stream: &SharedStream) -> ProjectCounters {
    stream.counters(&[PROJECT]).await.unwrap()[0]
}

/// Settles an entry, each of whose batches has so many duplicates and dead events.
pub fn settlement(delivery: &Delivery, duplicate: u32, dead: u32) -> Settlement {
    let entry = delivery.entry.as_ref().unwrap();
    let settled = |batch: &EntryBatch| {
        let EntryBatch { batch_id, project, count, .. } = *batch;
        let outcome = Outcome { stored: count - duplicate - dead, duplicate, dead, conflict: 0 };
        SettledBatch { batch_id, project, count, outcome }
    };
    Settlement {
        id: delivery.id,
        bytes: entry.packed_bytes(),
        batches: entry.admitted().map(settled).collect(),
        refunds: Vec::new(),
    }
}

/// The same for an entry of one batch with this outcome.
pub fn settlement_with(delivery: &Delivery, outcome: Outcome) -> Settlement {
    let mut settlement = settlement(delivery, 0, 0);
    settlement.batches[0].outcome = outcome;
    settlement
}

/// Reads all new entries and settles them as stored.
pub async fn drain(stream: &SharedStream, consumer: &str) -> Vec<Delivery> {
    let mut reader = stream.reader(0, consumer).await.unwrap();
    let mut drained = Vec::new();
    loop {
        let deliveries = reader.next(100, Duration::ZERO).await.unwrap();
        if deliveries.is_empty() {
            return drained;
        }
        let settlements: Vec<_> = deliveries.iter().map(|delivery| settlement(delivery, 0, 0)).collect();
        assert_eq!(stream.settle(0, &settlements).await.unwrap(), deliveries.len() as u64);
        drained.extend(deliveries);
    }
}

/// The next new entry, read by this consumer.
pub async fn next_delivery(stream: &SharedStream, consumer: &str) -> Delivery {
    let mut reader = stream.reader(0, consumer).await.unwrap();
    reader.next(1, Duration::ZERO).await.unwrap().remove(0)
}
