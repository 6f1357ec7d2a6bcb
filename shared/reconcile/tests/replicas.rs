//! The keeper of a stream that has replicas, had some, or waits for one.

use std::sync::Arc;
use std::time::Duration;

use millrace_reconcile::health::{Durability, StreamHealth};
use millrace_reconcile::keeper::{CheckPeriods, keep};
use millrace_store::SharedStore;
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_stream::redis::{RedisOptions, RedisStream};
use testkit::{Postgres, Redis, eventually};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const DEADLINE: Duration = Duration::from_secs(60);
/// Every check often.
const PERIODS: CheckPeriods =
    CheckPeriods { durable: Duration::from_millis(200), ..CheckPeriods::STANDALONE };

/// A process that checks the stream.
struct Process {
    health: Arc<StreamHealth>,
    keeper: JoinHandle<()>,
    /// Dropping it stops the keeper.
    _stop: watch::Sender<bool>,
}

impl Process {
    fn start(redis: &Redis, store: &SharedStore, durability: Durability) -> Self {
        let stream = RedisStream::new(RedisOptions { durability, ..RedisOptions::new(redis.url()) }).unwrap();
        let health = Arc::new(StreamHealth::new(durability, 1));
        let (stop, shutdown) = watch::channel(false);
        let keeper = tokio::spawn({
            let (health, store) = (Arc::clone(&health), Arc::clone(store));
            let stream: millrace_stream::SharedStream = stream;
            async move { keep(&health, &stream, &store, PERIODS, shutdown).await }
        });
        Self { health, keeper, _stop: stop }
    }

    fn accepts(&self) -> bool {
        self.health.shard(0).is_durable_enough()
            && self.health.shard(0).is_epoch_trusted()
            && self.health.shard(0).stream_fault().is_none()
    }

    async fn accepts_soon(&self) {
        eventually(DEADLINE, "events to be accepted", async || match self.accepts() {
            true => Ok(()),
            false => Err(format!("{:?}", self.health)),
        })
        .await;
    }

    /// Waits until nothing is accepted, for this reason.
    async fn refuses_soon(&self, reason: &str) {
        eventually(DEADLINE, reason, async || {
            let faults = [self.health.shard(0).durability_fault(), self.health.shard(0).stream_fault()];
            let faults: String = faults.into_iter().flatten().collect();
            if faults.contains(reason) && !self.accepts() { Ok(()) } else { Err(faults) }
        })
        .await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

async fn open_store(postgres: &Postgres) -> SharedStore {
    let config = postgres.config();
    let store = PostgresStore::new(PostgresOptions {
        source: config.into(),
        pool_size: 4,
        application: "millrace-test",
    });
    millrace_store::Operators::migrate(&*store).await.unwrap();
    store
}

async fn is_recorded_soon(store: &SharedStore) {
    eventually(DEADLINE, "the replica to be on record", async || {
        let shards = store.shards_with_replicas().await.unwrap();
        if shards == [0] { Ok(()) } else { Err(format!("{shards:?}")) }
    })
    .await;
}

const MIN_REPLICAS: (&str, &str) = ("min-replicas-to-write", "1");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_that_comes_back_alone_is_refused_until_the_record_is_taken_back() {
    let (mut redis, postgres) = tokio::join!(Redis::start_with(&[MIN_REPLICAS]), Postgres::start());
    let store = open_store(&postgres).await;
    let replica = redis.replica_with(&[]).await;
    let first = Process::start(&redis, &store, Durability::Strict);
    first.accepts_soon().await;
    is_recorded_soon(&store).await;
    drop(first);

    // As an init system starts it after a failover, with a configuration that was never completed.
    drop(replica);
    redis.restart_with(&[]).await;
    let second = Process::start(&redis, &store, Durability::Strict);
    second.refuses_soon("had replicas").await;
    tokio::time::timeout(DEADLINE, second.health.shard(0).epoch_trusted())
        .await
        .expect("its epoch is the recorded one");
    assert!(!second.accepts());
    redis.run(&["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    second.refuses_soon("NOREPLICAS").await;
    redis.run(&["CONFIG", "SET", "min-replicas-to-write", "0"]).await;
    second.refuses_soon("had replicas").await;

    let database = postgres.connect().await;
    database.execute("UPDATE stream_epochs SET has_replicas = false", &[]).await.unwrap();
    second.accepts_soon().await;
    assert_eq!(store.shards_with_replicas().await.unwrap(), Vec::<u16>::new(), "it stays taken back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_is_attached_later_is_recorded_and_refused_without_a_minimum() {
    let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
    let store = open_store(&postgres).await;
    let process = Process::start(&redis, &store, Durability::Strict);
    process.accepts_soon().await;
    assert_eq!(store.shards_with_replicas().await.unwrap(), Vec::<u16>::new());
    let replica = redis.replica_with(&[]).await;
    process.refuses_soon("a replica could be promoted without what was acknowledged").await;
    is_recorded_soon(&store).await;
    drop(replica);
    process.refuses_soon("had replicas").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_without_the_replica_that_it_needs_says_so_from_the_start_and_recovers_by_itself() {
    for (durability, reason) in [
        (Durability::Strict, "NOREPLICAS"),
        (Durability::Replicated { replicas: 1 }, "Redis has 0 replicas that keep up"),
    ] {
        let (redis, postgres) = tokio::join!(Redis::start_with(&[MIN_REPLICAS]), Postgres::start());
        let store = open_store(&postgres).await;
        let process = Process::start(&redis, &store, durability);
        process.refuses_soon(reason).await;
        assert_eq!(store.epoch(0).await.unwrap(), None, "a stream that takes no batch gets no epoch");
        let replica = redis.replica_with(&[]).await;
        process.accepts_soon().await;
        is_recorded_soon(&store).await;
        drop(replica);
        process.refuses_soon(reason).await;
        let _again = redis.replica_with(&[]).await;
        process.accepts_soon().await;
    }
}
