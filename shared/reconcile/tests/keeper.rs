//! The keeper of the stream's health, against a real Redis and a real PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use millrace_reconcile::health::{Durability, StreamHealth};
use millrace_reconcile::keeper::{CheckPeriods, keep};
use millrace_store::SharedStore;
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_stream::SharedStream;
use millrace_stream::redis::{RedisOptions, RedisStream};
use testkit::{Postgres, Redis, eventually};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(20);

/// A keeper at work.
struct Rig {
    redis: Redis,
    postgres: Postgres,
    health: Arc<StreamHealth>,
    stop: watch::Sender<bool>,
    keeper: JoinHandle<()>,
}

fn open_store(postgres: &Postgres) -> SharedStore {
    let config = postgres.config();
    PostgresStore::new(PostgresOptions { source: config.into(), pool_size: 4, application: "millrace-test" })
}

fn open(redis: &Redis) -> SharedStream {
    let url = redis.url();
    RedisStream::new(RedisOptions::new(url)).unwrap()
}

impl Rig {
    fn store(&self) -> SharedStore {
        open_store(&self.postgres)
    }

    async fn start() -> Self {
        let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
        let store = open_store(&postgres);
        store.migrate().await.unwrap();
        let stream = open(&redis);
        let health = Arc::new(StreamHealth::new(Durability::Strict, 1));
        assert!(
            !health.shard(0).is_durable_enough() && !health.shard(0).is_epoch_trusted(),
            "nothing was checked yet"
        );
        let (stop, shutdown) = watch::channel(false);
        let keeper = tokio::spawn({
            let health = Arc::clone(&health);
            async move { keep(&health, &stream, &store, CheckPeriods::API, shutdown).await }
        });
        let rig = Self { redis, postgres, health, stop, keeper };
        rig.is_durable_soon().await;
        tokio::time::timeout(DEADLINE, rig.health.shard(0).epoch_trusted()).await.unwrap();
        rig
    }

    async fn is_durable_soon(&self) {
        eventually(DEADLINE, "a durable stream", async || self.health.shard(0).is_durable_enough()).await;
    }

    async fn set_fsync(&self, policy: &str) {
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("appendfsync").arg(policy);
        set.exec_async(&mut self.redis.connect().await).await.unwrap();
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(DEADLINE, self.keeper).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_api_never_writes_an_epoch_for_a_redis_that_it_would_not_accept_on() {
    let rig = Rig::start().await;
    let store = rig.store();
    let recorded = store.epoch(0).await.unwrap();
    assert!(recorded.is_some());
    let wrong = Redis::start_with(&[("appendonly", "no")]).await;
    let stream = open(&wrong);
    let health = Arc::new(StreamHealth::new(Durability::Strict, 1));
    let (stop, shutdown) = watch::channel(false);
    let keeper = tokio::spawn({
        let (health, stream, store) = (Arc::clone(&health), Arc::clone(&stream), Arc::clone(&store));
        async move { keep(&health, &stream, &store, CheckPeriods::API, shutdown).await }
    });
    eventually(DEADLINE, "the comparison to be given up", async || {
        let fault = health.shard(0).epoch_fault().unwrap_or_default();
        if fault.contains("must not be given a new one yet") { Ok(()) } else { Err(fault) }
    })
    .await;
    assert!(health.shard(0).durability_fault().is_some_and(|fault| fault.contains("appendonly")));
    assert!(!health.shard(0).is_epoch_trusted());
    assert_eq!(store.epoch(0).await.unwrap(), recorded, "the right stream keeps its epoch");
    assert_eq!(stream.epoch(0).await.unwrap(), None);

    // The same Redis is accepted once its settings are right, as a new one that was set up for good would be.
    let mut set = redis::cmd("CONFIG");
    set.arg("SET").arg("appendonly").arg("yes");
    set.exec_async(&mut wrong.connect().await).await.unwrap();
    tokio::time::timeout(DEADLINE, health.shard(0).epoch_trusted()).await.unwrap();
    assert_ne!(store.epoch(0).await.unwrap(), recorded);
    stop.send_replace(true);
    keeper.await.unwrap();
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_marked_as_stale_is_not_durable_until_its_settings_are() {
    let rig = Rig::start().await;
    rig.set_fsync("everysec").await;
    rig.health.shard(0).mark_stale();
    for _ in 0..20 {
        assert!(!rig.health.shard(0).is_durable_enough());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    rig.set_fsync("always").await;
    rig.is_durable_soon().await;
    rig.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_of_the_store_changes_neither_durability_nor_the_trust_in_the_epoch() {
    let mut rig = Rig::start().await;
    rig.postgres.stop_fast().await;
    rig.health.shard(0).mark_stale();
    rig.is_durable_soon().await;
    assert!(rig.health.shard(0).is_epoch_trusted());
    rig.health.shard(0).mark_epoch_stale();
    assert!(!rig.health.shard(0).is_epoch_trusted());
    rig.postgres.restart().await;
    tokio::time::timeout(DEADLINE, rig.health.shard(0).epoch_trusted()).await.unwrap();
    rig.stop().await;
}
