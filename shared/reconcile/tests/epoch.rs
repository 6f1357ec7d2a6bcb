//! The epoch, against a real Redis that loses its data and a real PostgreSQL that does not.

use std::time::Duration;

use millrace_event::entry::PackedBatch;
use millrace_event::plan::{Plan, ProjectId};
use millrace_event::row::{EventTime, Row};
use millrace_reconcile::epoch::{EpochCheck, reconcile};
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{KeyOptions, Payload, PolicyChange, SharedStore, WriteRequest};
use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{Admission, Decision, Delivery, ProjectCounters, Settlement, SharedStream};
use testkit::{Postgres, Redis, eventually};
use uuid::Uuid;

const DEADLINE: Duration = Duration::from_secs(20);

/// A stream and a store that agree, and a project on them.
struct Rig {
    redis: Redis,
    _postgres: Postgres,
    stream: SharedStream,
    store: SharedStore,
    project: ProjectId,
}

impl Rig {
    async fn start() -> Self {
        let (redis, postgres) = (Redis::start().await, Postgres::start().await);
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

    async fn admit(&self, count: u32) -> Decision {
        let batch_id = Uuid::now_v7();
        let mut rows = Vec::new();
        for _ in 0..count {
            let row = Row {
                project: self.project,
                time: EventTime::Anonymous,
                event_id: Uuid::new_v4(),
                by_id: false,
                name: "page_view",
                subject: None,
                client_id: None,
                properties: None,
                context: None,
            };
            row.write(&mut rows);
        }
        let packed = PackedBatch::pack(batch_id, self.project, count, &rows);
        let plan = Plan {
            name: "test".to_owned(),
            requests_per_minute: 60_000,
            burst: 1_000,
            events_per_month: Some(1_000),
            events_per_batch: 1_000,
        };
        let admission = Admission { packed: &packed, plan: &plan, digest: None, awaited: false };
        self.stream.admit(&admission).await.unwrap()
    }

    /// Reads and stores one entry, and does not settle it.
    async fn store_one(&self, consumer: &str) -> Delivery {
        let mut reader = self.stream.reader(0, consumer).await.unwrap();
        let delivery = reader.next(1, Duration::ZERO).await.unwrap().remove(0);
        let packed = delivery.packed.as_ref().unwrap();
        let request = WriteRequest {
            entry: delivery.id,
            shard: 0,
            batch_id: packed.batch_id,
            project: packed.project,
            count: packed.count,
            payload: Payload::Rows(packed.unpack().unwrap()),
        };
        let mut writer = self.store.writer(consumer).await.unwrap();
        let written = writer.write(&[request]).await.unwrap();
        assert_eq!(written[0].outcome.stored, packed.count);
        delivery
    }

    async fn settle(&self, delivery: &Delivery) {
        let packed = delivery.packed.as_ref().unwrap();
        let settlement = Settlement {
            id: delivery.id,
            batch_id: packed.batch_id,
            project: packed.project,
            count: packed.count,
            bytes: u32::try_from(packed.data.len()).unwrap(),
            outcome: millrace_stream::Outcome { stored: packed.count, duplicate: 0, dead: 0, conflict: 0 },
        };
        assert_eq!(self.stream.settle(0, &[settlement]).await.unwrap(), 1);
    }

    async fn counters(&self) -> ProjectCounters {
        self.stream.counters(&[self.project]).await.unwrap()[0]
    }

    async fn in_redis(&self, command: &str, key: &str) {
        redis::cmd(command).arg(key).exec_async(&mut self.redis.connect().await).await.unwrap();
    }
}

async fn open(redis: &Redis) -> SharedStream {
    let options = RedisOptions::new(redis.url());
    let stream: SharedStream = RedisStream::new(options).unwrap();
    eventually(DEADLINE, "the stream to answer", async || stream.epoch(0).await).await;
    stream
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_stream_and_store_agree_nothing_is_rebuilt() {
    let rig = Rig::start().await;
    assert!(matches!(rig.admit(3).await, Decision::Admitted { .. }));
    let before = (rig.stream.epoch(0).await.unwrap(), rig.counters().await);
    assert_eq!(reconcile(&*rig.stream, &*rig.store).await.unwrap(), EpochCheck::Agreement);
    assert_eq!((rig.stream.epoch(0).await.unwrap(), rig.counters().await), before);
    assert_eq!(before.0, rig.store.epoch(0).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_stream_gets_its_quota_back_from_the_ledger() {
    let mut rig = Rig::start().await;
    assert!(matches!(rig.admit(30).await, Decision::Admitted { .. }));
    rig.settle(&rig.store_one("lane").await).await;
    let before = rig.counters().await;
    rig.redis.wipe_and_restart().await;
    eventually(DEADLINE, "the stream to answer", async || rig.stream.limit_state(rig.project).await).await;
    assert_eq!(rig.admit(1).await, Decision::EpochChanged);
    assert_eq!(reconcile(&*rig.stream, &*rig.store).await.unwrap(), EpochCheck::Rebuild(1));
    assert_eq!(rig.counters().await, before);
    assert!(matches!(rig.admit(970).await, Decision::Admitted { .. }));
    assert!(matches!(rig.admit(1).await, Decision::QuotaExceeded { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_stored_and_still_pending_is_counted_once() {
    let rig = Rig::start().await;
    for count in [5, 7] {
        assert!(matches!(rig.admit(count).await, Decision::Admitted { .. }));
    }
    let stored = rig.store_one("lane").await;
    let before = rig.counters().await;
    assert_eq!((before.accepted, before.pending, before.used), (12, 12, 12));
    rig.in_redis("DEL", "{s0}:epoch").await;
    rig.in_redis("DEL", &format!("{{s0}}:project:{}", rig.project)).await;
    assert_eq!(reconcile(&*rig.stream, &*rig.store).await.unwrap(), EpochCheck::Rebuild(1));
    assert_eq!(rig.counters().await, before);
    rig.settle(&stored).await;
    rig.settle(&rig.store_one("lane").await).await;
    let after = rig.counters().await;
    assert_eq!((after.accepted, after.pending, after.used), (12, 0, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_that_find_a_wiped_stream_end_with_one_epoch() {
    let rig = Rig::start().await;
    assert!(matches!(rig.admit(5).await, Decision::Admitted { .. }));
    rig.settle(&rig.store_one("lane").await).await;
    rig.in_redis("DEL", "{s0}:epoch").await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(open(&rig.redis).await);
    }
    let processes = streams.iter().map(async |stream| {
        eventually(DEADLINE, "an agreed epoch", async || match reconcile(&**stream, &*rig.store).await {
            Ok(EpochCheck::Agreement) => Ok(()),
            Ok(check) => Err(format!("{check:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await;
    });
    futures_util::future::join_all(processes).await;
    let epoch = rig.stream.epoch(0).await.unwrap();
    assert!(epoch.is_some() && epoch == rig.store.epoch(0).await.unwrap());
    let now = rig.counters().await;
    assert_eq!((now.accepted, now.pending, now.used), (5, 0, 5));
}
