//! A stream to hold to its promises, and short words for what is done to it.

use std::time::Duration;

use millrace_event::entry::PackedBatch;
use millrace_event::plan::{Plan, ProjectId};
use millrace_stream::{
    Admission, BatchId, Decision, Delivery, Epoch, Outcome, ProjectCounters, Settlement, SharedStream,
};
use testkit::eventually;
use uuid::Uuid;

pub const DEADLINE: Duration = Duration::from_secs(20);
pub const PROJECT: ProjectId = ProjectId(7);
pub const ENOUGH: u64 = 1_000_000;

/// One implementation's server, files, or whatever holds a stream.
pub trait Bench: Sized {
    async fn start() -> Self;
    /// One process's view of the stream; each call is another process.
    fn open(&self, backlog_events_max: u64) -> SharedStream;
}

/// An implementation with a new and trusted stream on it.
pub struct Rig<B> {
    pub bench: B,
    pub stream: SharedStream,
    pub epoch: Epoch,
}

impl<B: Bench> Rig<B> {
    pub async fn start() -> Self {
        Self::with_backlog(ENOUGH).await
    }

    pub async fn with_backlog(backlog_events_max: u64) -> Self {
        let bench = B::start().await;
        let stream = bench.open(backlog_events_max);
        let epoch = Uuid::new_v4();
        let rig = Self { bench, stream, epoch };
        connected(&rig.stream).await;
        rebuilt(&rig.stream, epoch, &[]).await;
        rig
    }

    /// One more process that trusts the same epoch.
    pub async fn another(&self) -> SharedStream {
        let stream = self.bench.open(ENOUGH);
        connected(&stream).await;
        stream.trust_epoch(0, self.epoch);
        stream
    }
}

pub async fn connected(stream: &SharedStream) {
    eventually(DEADLINE, "the stream to answer", async || stream.limit_state(PROJECT).await).await;
}

/// Gives shard 0 this epoch and these counters, and trusts it.
pub async fn rebuilt(stream: &SharedStream, epoch: Epoch, counters: &[ProjectCounters]) {
    stream.fence(0, epoch).await.unwrap();
    let pending = stream.pending_batches(0).await.unwrap();
    assert!(stream.rebuild(0, epoch, counters, &pending).await.unwrap());
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

pub fn batch(count: u32) -> PackedBatch {
    batch_named(Uuid::now_v7(), count)
}

pub fn batch_named(batch_id: BatchId, count: u32) -> PackedBatch {
    PackedBatch::pack(batch_id, PROJECT, count, format!("{count} rows of {batch_id}").as_bytes())
}

pub async fn admit(stream: &SharedStream, packed: &PackedBatch) -> Decision {
    admit_under(stream, packed, &plan()).await
}

pub async fn admit_under(stream: &SharedStream, packed: &PackedBatch, plan: &Plan) -> Decision {
    stream.admit(&Admission { packed, plan, digest: None, awaited: false }).await.unwrap()
}

pub async fn admit_keyed(stream: &SharedStream, packed: &PackedBatch, digest: [u8; 16]) -> Decision {
    let plan = plan();
    stream.admit(&Admission { packed, plan: &plan, digest: Some(digest), awaited: false }).await.unwrap()
}

#[track_caller]
pub fn assert_admitted(verdict: Decision) -> u64 {
    match verdict {
        Decision::Admitted { received_ms, .. } => received_ms,
        other => panic!("not admitted: {other:?}"),
    }
}

pub async fn counters(stream: &SharedStream) -> ProjectCounters {
    stream.counters(&[PROJECT]).await.unwrap()[0]
}

pub fn settlement(delivery: &Delivery, duplicate: u32, dead: u32) -> Settlement {
    let packed = delivery.packed.as_ref().unwrap();
    Settlement {
        id: delivery.id,
        batch_id: packed.batch_id,
        project: packed.project,
        count: packed.count,
        bytes: u32::try_from(packed.data.len()).unwrap(),
        outcome: Outcome { stored: packed.count - duplicate - dead, duplicate, dead },
    }
}

/// Reads everything there is and settles it as stored.
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
