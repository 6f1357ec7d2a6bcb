//! A stream and a store that agree, for tests that part them.
#![allow(dead_code, reason = "each test target uses a part of it")]

use std::time::Duration;

use millrace_event::entry::{EntryBatch, NewBatch};
use millrace_event::plan::{Plan, ProjectId};
use millrace_event::row::Row;
use millrace_reconcile::epoch::{EpochCheck, reconcile};
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{KeyOptions, Payload, PolicyChange, SharedStore, WriteRequest};
use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{
    Admission, Decision, Delivery, ProjectCounters, SettledBatch, Settlement, SharedStream, StreamError,
};
use testkit::{Postgres, Redis, eventually};
use uuid::Uuid;

pub const DEADLINE: Duration = Duration::from_secs(20);

/// A stream and a store that agree, and a project on them.
pub struct Rig {
    pub redis: Redis,
    _postgres: Postgres,
    pub stream: SharedStream,
    pub store: SharedStore,
    pub project: ProjectId,
}

impl Rig {
    pub async fn start() -> Self {
        Self::start_on(Redis::start().await).await
    }

    pub async fn start_on(redis: Redis) -> Self {
        let postgres = Postgres::start().await;
        let store = PostgresStore::new(PostgresOptions {
            source: postgres.config().into(),
            pool_size: 4,
            application: "millrace-test",
        });
        let store: SharedStore = store;
        store.migrate().await.unwrap();
        let (project, _key) = store
            .create_project("shop", "pro", &PolicyChange::default(), &KeyOptions::default())
            .await
            .unwrap();
        let stream = open(&redis).await;
        assert_eq!(reconcile(&*stream, &*store).await.unwrap(), EpochCheck::Rebuild(1));
        Self { redis, _postgres: postgres, stream, store, project }
    }

    pub async fn admit(&self, count: u32) -> Decision {
        admit(&self.stream, self.project, count).await.unwrap()
    }

    /// Reads and stores one entry, and does not settle it.
    pub async fn store_one(&self, consumer: &str) -> Delivery {
        store_one(&self.stream, &self.store, consumer).await
    }

    pub async fn settle(&self, delivery: &Delivery) {
        let request = request_of(delivery);
        let WriteRequest { batch_id, project, count, .. } = request;
        let outcome = millrace_stream::Outcome { stored: count, duplicate: 0, dead: 0, conflict: 0 };
        let batches = vec![SettledBatch { batch_id, project, count, outcome }];
        let bytes = delivery.entry.as_ref().unwrap().packed_bytes();
        let settlement = Settlement { id: delivery.id, bytes, batches, refunds: Vec::new() };
        assert_eq!(self.stream.settle(0, &[settlement]).await.unwrap(), 1);
    }

    pub async fn counters(&self) -> ProjectCounters {
        self.stream.counters(&[self.project]).await.unwrap()[0]
    }

    pub async fn in_redis(&self, command: &str, key: &str) {
        redis::cmd(command).arg(key).exec_async(&mut self.redis.connect().await).await.unwrap();
    }
}

pub async fn open(redis: &Redis) -> SharedStream {
    open_at(redis.url()).await
}

pub async fn open_at(url: String) -> SharedStream {
    let options = RedisOptions::new(url);
    let stream: SharedStream = RedisStream::new(options).unwrap();
    eventually(DEADLINE, "the stream to answer", async || stream.epoch(0).await).await;
    stream
}

/// Admits a batch of this many events.
/// Waits until the stream answers over the shared connections, and over the pool.
pub async fn answers(stream: &SharedStream) {
    eventually(DEADLINE, "the stream to answer", async || stream.limit_state(ProjectId(1)).await).await;
    eventually(DEADLINE, "the stream to answer", async || stream.backlog().await).await;
}

pub async fn admit(stream: &SharedStream, project: ProjectId, count: u32) -> Result<Decision, StreamError> {
    let batch_id = Uuid::now_v7();
    let mut rows = Vec::new();
    for _ in 0..count {
        let row = Row::bare(project, Uuid::new_v4(), "page_view");
        row.write(&mut rows);
    }
    let batch = NewBatch::new(batch_id, project, count, rows);
    let plan = Plan {
        name: "test".to_owned(),
        requests_per_minute: 60_000,
        burst: 1_000,
        events_per_month: Some(1_000),
        events_per_batch: 1_000,
    };
    let admission = Admission { batch: &batch, plan: &plan, digest: None, awaited: false };
    stream.admit(&admission).await
}

/// Reads and stores one entry, and does not settle it.
pub async fn store_one(stream: &SharedStream, store: &SharedStore, consumer: &str) -> Delivery {
    let mut reader = stream.reader(0, consumer).await.unwrap();
    let delivery = reader.next(1, Duration::ZERO).await.unwrap().remove(0);
    let request = request_of(&delivery);
    let count = request.count;
    let mut writer = store.writer(consumer).await.unwrap();
    let written = writer.write(&[request]).await.unwrap();
    assert_eq!(written[0].outcome.stored, count);
    delivery
}

/// The request that writes an entry of one batch.
pub fn request_of(delivery: &Delivery) -> WriteRequest {
    let (batch, rows) = delivery.entry.as_ref().unwrap().unpack().unwrap().remove(0);
    batch.check(&rows).unwrap();
    let EntryBatch { batch_id, project, count, .. } = batch;
    WriteRequest { entry: delivery.id, shard: 0, batch_id, project, count, payload: Payload::Rows(rows) }
}
