//! Entries that were delivered often: harmless batches are stored, one that keeps ending its worker is
//! dead-lettered.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use millrace_event::BatchGroup;
use millrace_event::entry::{NewBatch, PackedEntry};
use millrace_event::plan::{Plan, ProjectId};
use millrace_event::row::Row;
use millrace_reconcile::epoch;
use millrace_reconcile::health::{Durability, StreamHealth};
use millrace_reconcile::keeper::CheckPeriods;
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{KeyOptions, PolicyChange, RedriveOrder, SharedStore};
use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{Admission, Decision, Delivery, EntryId, SharedStream};
use stream_worker::Deps;
use stream_worker::config::Config;
use stream_worker::quarantine::{LOST_ATTEMPTS_MAX, SUSPECT_FROM_DELIVERY};
use stream_worker::requests::EntryRequests;
use testkit::{Postgres, Redis, eventually};
use tokio::sync::watch;
use uuid::Uuid;

const SOON: Duration = Duration::from_secs(30);

struct Rig {
    redis: Redis,
    postgres: Postgres,
    stream: SharedStream,
    store: SharedStore,
    project: ProjectId,
}

impl Rig {
    async fn start() -> Self {
        let (redis, postgres) = (Redis::start().await, Postgres::start().await);
        let store: SharedStore = PostgresStore::new(PostgresOptions {
            source: postgres.config().into(),
            pool_size: 4,
            application: "millrace-test",
        });
        store.migrate().await.unwrap();
        let (project, _key) = store
            .create_project("shop", "pro", &PolicyChange::default(), &KeyOptions::default())
            .await
            .unwrap();
        let stream: SharedStream = RedisStream::new(RedisOptions::new(redis.url())).unwrap();
        eventually(SOON, "an epoch", async || epoch::reconcile(&*stream, &*store).await).await;
        Self { redis, postgres, stream, store, project }
    }

    /// A batch of one event with this name.
    fn batch(&self, name: &str) -> NewBatch {
        let mut rows = Vec::new();
        let row = Row::bare(self.project, Uuid::new_v4(), name);
        row.write(&mut rows);
        NewBatch::new(Uuid::now_v7(), self.project, 1, rows)
    }

    /// Appends one entry of batches with these names, and returns it.
    async fn append_group(&self, names: &[&str]) -> Delivery {
        let first = BatchGroup::first(1, Uuid::new_v4().as_u64_pair().1);
        let places = std::iter::successors(Some(first), |group| group.next());
        let batches: Vec<_> = names
            .iter()
            .zip(places)
            .map(|(name, group)| self.batch(name).with_id(group.batch_id()))
            .collect();
        let mut append = redis::cmd("XADD");
        append.arg("{s0}:events").arg("*");
        for (name, value) in PackedEntry::pack(&batches).fields() {
            append.arg(name).arg(&value[..]);
        }
        append.exec_async(&mut self.redis.connect().await).await.unwrap();
        let mut reader = self.stream.reader(0, "consumer").await.unwrap();
        reader.next(100, Duration::ZERO).await.unwrap().pop().unwrap()
    }

    async fn admit(&self, name: &str) -> EntryId {
        let batch = self.batch(name);
        let plan = Plan {
            name: "any".to_owned(),
            requests_per_minute: 1_000,
            burst: 1_000,
            events_per_month: None,
            events_per_batch: 1_000,
        };
        let admission = Admission { batch: &batch, plan: &plan, digest: None, awaited: false };
        let decision = self.stream.admit(&admission).await.unwrap();
        assert!(matches!(decision, Decision::Admitted { .. }), "{decision:?}");
        // The last entry is the newest.
        self.stream.pending_batches(0).await.unwrap().last().unwrap().id
    }

    /// Delivers every entry to one consumer after the other, none of which settles it.
    async fn deliver_often(&self) {
        let mut first = self.stream.reader(0, "consumer-0").await.unwrap();
        first.next(100, Duration::ZERO).await.unwrap();
        for round in 1..=SUSPECT_FROM_DELIVERY {
            let mut reader = self.stream.reader(0, &format!("consumer-{round}")).await.unwrap();
            let taken = reader.take_over(Duration::ZERO, 100).await.unwrap();
            assert!(taken.deliveries.iter().all(|delivery| delivery.delivered > round));
        }
    }

    /// Runs a worker in this process until `done`.
    async fn work_until(&self, what: &str, done: impl AsyncFnMut() -> bool) {
        self.work_with_until(&[], what, done).await;
    }

    /// The same, with additional settings.
    async fn work_with_until(&self, more: &[&str], what: &str, done: impl AsyncFnMut() -> bool) {
        let (redis, database) = (self.redis.url(), self.postgres.url());
        let config = Config::parse_from(
            ["stream-worker", "--redis-url", &redis, "--database-url", &database]
                .into_iter()
                .chain(["--takeover-idle-ms", "100", "--upkeep-interval-ms", "50", "--worker-lanes", "1"])
                .chain(more.iter().copied()),
        );
        let settings = Arc::new(config.settings);
        let (stop, stopped) = watch::channel(false);
        let (stream, store) = (Arc::clone(&self.stream), Arc::clone(&self.store));
        let stream_health = Arc::new(StreamHealth::new(Durability::Strict, 1));
        let deps = Deps { stream, store, stream_health, check_periods: CheckPeriods::WORKER, settings };
        let worker = tokio::spawn(stream_worker::run(deps, stopped));
        eventually(SOON, what, done).await;
        stop.send_replace(true);
        worker.await.unwrap();
    }

    /// The consumer for which the only entry is pending.
    async fn owner(&self, redis: &mut redis::aio::MultiplexedConnection) -> String {
        let mut pending = redis::cmd("XPENDING");
        pending.arg("{s0}:events").arg("workers").arg("-").arg("+").arg(1);
        let rows: Vec<(String, String, u64, u64)> = pending.query_async(redis).await.unwrap();
        rows[0].1.clone()
    }

    /// Makes every write fail for a reason that no event causes, or lets writes succeed again.
    async fn let_store_write(&self, allowed: bool) {
        let (from, to) = if allowed { ("away", "usage_hourly") } else { ("usage_hourly", "away") };
        let rename = format!("ALTER TABLE {from} RENAME TO {to}");
        self.postgres.connect().await.batch_execute(&rename).await.unwrap();
    }

    async fn names(&self, sql: &str) -> Vec<String> {
        let client = self.postgres.connect().await;
        client.query(sql, &[]).await.unwrap().iter().map(|row| row.get(0)).collect()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_delivered_often_is_stored_while_every_attempt_at_it_returned() {
    let rig = Rig::start().await;
    rig.admit("harmless").await;
    rig.deliver_often().await;
    rig.work_until("the event", async || rig.names("SELECT name FROM events").await == ["harmless"]).await;
    assert_eq!(rig.names("SELECT reason FROM dead_letters").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_entry_that_keeps_ending_its_worker_is_dead_lettered() {
    let rig = Rig::start().await;
    let killer = rig.admit("killer").await;
    rig.admit("other").await;
    rig.deliver_often().await;
    // Each stands for a worker that noted an attempt and died.
    for attempt in 1..=LOST_ATTEMPTS_MAX {
        assert_eq!(rig.stream.note_attempt(0, killer).await.unwrap(), attempt);
    }
    rig.work_until("the other event and the dead letter", async || {
        rig.names("SELECT name FROM events").await == ["other"]
            && rig.names("SELECT reason FROM dead_letters").await.len() == 1
    })
    .await;
    let reason = rig.names("SELECT reason FROM dead_letters").await.remove(0);
    assert!(reason.contains("ended the worker 5 times"), "{reason}");
    eventually(SOON, "an empty stream", async || rig.stream.backlog().await.unwrap().entries == 0).await;
    let counters = rig.stream.counters(&[rig.project]).await.unwrap()[0];
    assert_eq!(
        (counters.accepted, counters.pending, counters.used),
        (2, 0, 1),
        "the dead-lettered event is refunded"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_group_only_the_batch_that_keeps_ending_its_worker_is_dead_lettered() {
    let rig = Rig::start().await;
    let group = rig.append_group(&["before", "killer", "after", "last"]).await;
    rig.deliver_often().await;
    // Each stands for a worker that wrote the first batch, and died with the second.
    let requests = EntryRequests { shard: 0, delivery: &group }.written();
    rig.store.writer("lane").await.unwrap().write(&requests[..1]).await.unwrap();
    for attempt in 1..=LOST_ATTEMPTS_MAX {
        assert_eq!(rig.stream.note_attempt(0, group.id).await.unwrap(), attempt);
    }
    rig.work_until("an empty stream", async || rig.stream.backlog().await.unwrap().entries == 0).await;
    assert_eq!(rig.names("SELECT name FROM events ORDER BY name").await, ["after", "before", "last"]);
    let letters = "SELECT batch_id::text FROM dead_letters";
    assert_eq!(rig.names(letters).await, [requests[1].batch_id.to_string()]);
    let order = RedriveOrder {
        id: Uuid::new_v4(),
        os_user: String::new(),
        host: String::new(),
        filter: String::new(),
    };
    assert_eq!(rig.store.redrive(&order, &[1]).await.unwrap().stored, 1, "its letter has its rows");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_that_cannot_even_be_decompressed_is_kept_whole() {
    let rig = Rig::start().await;
    let group = rig.append_group(&["one", "two"]).await;
    rig.deliver_often().await;
    // Attempts to write it, and attempts to set a batch of it aside.
    for _ in 0..LOST_ATTEMPTS_MAX + 3 {
        rig.stream.note_attempt(0, group.id).await.unwrap();
    }
    rig.work_until("an empty stream", async || rig.stream.backlog().await.unwrap().entries == 0).await;
    let client = rig.postgres.connect().await;
    let letters = "SELECT project_id, event_count, payload FROM dead_letters ORDER BY dead_letter_id";
    let rows = client.query(letters, &[]).await.unwrap();
    let letters: Vec<(i64, i64, Vec<u8>)> =
        rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
    let project = rig.project.0;
    let whole = group.entry.unwrap().raw().to_vec();
    assert_eq!(letters, [(project, 1, Vec::new()), (project, 1, Vec::new()), (0, 0, whole)]);
    let balances = millrace_reconcile::audit::audit(&*rig.stream, &*rig.store, true).await.unwrap();
    assert!(balances.iter().all(|balance| balance.holds()), "{balances:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_full_within_a_group_continues_in_the_next_one() {
    let rig = Rig::start().await;
    let names: Vec<String> = (0..50).map(|event| format!("event-{event}")).collect();
    let group = rig.append_group(&names.iter().map(String::as_str).collect::<Vec<_>>()).await;
    // A lane that died after it wrote some of them.
    let requests = EntryRequests { shard: 0, delivery: &group }.written();
    rig.store.writer("lane").await.unwrap().write(&requests[..20]).await.unwrap();
    rig.work_with_until(&["--transaction-events-max", "7"], "an empty stream", async || {
        rig.stream.backlog().await.unwrap().entries == 0
    })
    .await;
    assert_eq!(rig.names("SELECT name FROM events").await.len(), 50);
    assert_eq!(rig.names("SELECT batch_id::text FROM ledger").await.len(), 50);
    let balances = millrace_reconcile::audit::audit(&*rig.stream, &*rig.store, true).await.unwrap();
    assert!(balances.iter().all(|balance| balance.holds()), "{balances:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_store_does_not_count_against_a_suspect() {
    let rig = Rig::start().await;
    let suspect = rig.admit("suspect").await;
    rig.deliver_often().await;
    rig.let_store_write(false).await;
    let mut redis = rig.redis.connect().await;
    let mut owner = rig.owner(&mut redis).await;
    // Each of these workers takes the entry over, fails to write it, and stops.
    for _ in 0..LOST_ATTEMPTS_MAX + 2 {
        let before = owner.clone();
        rig.work_until("the entry to be taken over", async || rig.owner(&mut redis.clone()).await != before)
            .await;
        owner = rig.owner(&mut redis).await;
        let noted: i64 = redis::cmd("HLEN").arg("{s0}:attempts").query_async(&mut redis).await.unwrap();
        assert_eq!(noted, 0, "the attempt returned");
    }
    assert_eq!(rig.stream.note_attempt(0, suspect).await.unwrap(), 1, "no attempt counts against it");
    rig.let_store_write(true).await;
    rig.work_until("the event", async || rig.names("SELECT name FROM events").await == ["suspect"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_exceeds_its_time_limit_is_retried_with_half_the_events() {
    let rig = Rig::start().await;
    for event in 0..60 {
        rig.admit(&format!("event-{event}")).await;
    }
    // All of them in one transaction take three times as long as a transaction may.
    let slow = "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS
                $$ BEGIN PERFORM pg_sleep(0.05); RETURN NEW; END $$;
                CREATE TRIGGER slow BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION slowly()";
    rig.postgres.connect().await.batch_execute(slow).await.unwrap();
    rig.work_with_until(&["--transaction-age-max-ms", "1000"], "every event", async || {
        rig.names("SELECT name FROM events").await.len() == 60
    })
    .await;
}
