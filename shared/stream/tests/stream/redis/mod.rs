//! Promises that only the stream on Redis makes.

pub mod cluster;
mod cost;
mod faults;
mod growth;
mod load;
mod reasons;
pub mod replicas;
pub mod sentinel;
mod speed;
mod tls;

use std::time::Duration;

use millrace_event::BatchGroup;
use millrace_event::entry::id_of_damaged;
use millrace_event::plan::{Plan, ProjectId};
use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{BatchState, Decision, EntryId, Outcome, SettledBatch, Settlement, SharedStream};
use redis::Value;
use testkit::Redis;
use uuid::Uuid;

use crate::suite::*;

pub async fn harness() -> Redis {
    Redis::start().await
}

impl Harness for Redis {
    fn open(&self, backlog_events_max: u64) -> SharedStream {
        open(&self.url(), backlog_events_max)
    }
}

fn open(url: &str, backlog_events_max: u64) -> SharedStream {
    let options = RedisOptions { backlog_events_max, ..RedisOptions::new(url) };
    RedisStream::new(options).unwrap()
}

/// What the server lacks to be as durable as the stream was opened for.
pub async fn faults(stream: &SharedStream) -> Vec<String> {
    stream.durability_report(0).await.unwrap().faults
}

/// Sends one command.
pub async fn run(redis: &Redis, words: &[&str]) -> Value {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(word);
    }
    command.query_async(&mut redis.connect().await).await.unwrap()
}

/// Every key in the server, with its serialized value.
pub async fn contents(redis: &Redis) -> Vec<(String, Vec<u8>)> {
    let mut connection = redis.connect().await;
    let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
    keys.sort();
    let mut contents = Vec::new();
    for key in keys {
        let dump = redis::cmd("DUMP").arg(&key).query_async(&mut connection).await.unwrap();
        contents.push((key, dump));
    }
    contents
}

#[tokio::test]
async fn a_refusal_leaves_every_key_unchanged() {
    let redis = Redis::start().await;
    let stream = trusted_stream_with_backlog(&redis, 10).await;
    let batch_of_key = keyed_batch(5);
    assert_admitted(admit_keyed(&stream, &batch_of_key, [1; 16]).await);
    let before = contents(&redis).await;
    let small = Plan { events_per_month: Some(6), ..plan() };
    let slow = Plan { requests_per_minute: 1, burst: 1, ..plan() };
    let other = redis.open(10);
    connected(&other).await;
    let mut decisions = vec![
        admit_keyed(&stream, &batch_of_key, [1; 16]).await,
        admit_keyed(&stream, &batch_of_key, [2; 16]).await,
        admit(&stream, &batch(6)).await,
        admit_under(&stream, &batch(2), &small).await,
    ];
    other.trust_epoch(0, Uuid::new_v4());
    decisions.push(admit(&other, &batch(1)).await);
    assert!(
        matches!(
            decisions[..],
            [
                Decision::Repeated { .. },
                Decision::Conflict { .. },
                Decision::BacklogFull { .. },
                Decision::QuotaExceeded { .. },
                Decision::EpochChanged,
            ]
        ),
        "{decisions:?}"
    );
    assert_eq!(contents(&redis).await, before);

    assert_admitted(admit_under(&stream, &batch(1), &slow).await);
    let before = contents(&redis).await;
    assert!(matches!(admit_under(&stream, &batch(1), &slow).await, Decision::RateLimited { .. }));
    assert_eq!(contents(&redis).await, before);
}

#[tokio::test]
async fn a_refund_for_a_past_month_does_not_change_the_current_month() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    assert_admitted(admit(&stream, &batch(10)).await);
    let delivery = next_delivery(&stream, "lane").await;
    run(&redis, &["HSET", "{s0}:project:7", "month", "209912", "used", "3"]).await;
    assert_eq!(stream.settle(0, &[settlement(&delivery, 4, 0)]).await.unwrap(), 1);
    assert_eq!(counters(&stream).await.used, 3);
}

#[tokio::test]
async fn markers_stay_while_their_batches_are_pending_and_expire_afterwards() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    let (plain, keyed) = (keyed_batch(1), keyed_batch(1));
    assert_admitted(admit(&stream, &plain).await);
    assert_admitted(admit_keyed(&stream, &keyed, [9; 16]).await);
    let key = |id: Uuid| format!("{{s0}}:batch:{id}");
    assert_eq!(run(&redis, &["TTL", &key(keyed.batch_id)]).await, Value::Int(-1));
    drain(&stream, "lane").await;
    for (batch_id, kept_s) in [(plain.batch_id, 1..=15), (keyed.batch_id, 86_000..=86_400)] {
        match run(&redis, &["TTL", &key(batch_id)]).await {
            Value::Int(seconds) => assert!(kept_s.contains(&seconds), "{seconds}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn markers_of_a_group_stay_while_one_of_its_batches_is_pending_and_expire_afterwards() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    let group = BatchGroup::first(1_795_219_200_000_000, 7);
    let [first, second, third] =
        [1, 2, 64].map(|place| batch_with_id(BatchGroup { place, ..group }.batch_id(), 2));
    let ttl = || async {
        match run(&redis, &["TTL", &format!("{{s0}}:batch:{}:0", group.id)]).await {
            Value::Int(seconds) => seconds,
            other => panic!("{other:?}"),
        }
    };
    assert_admitted(admit(&stream, &first).await);
    assert_admitted(admit(&stream, &second).await);
    let mut reader = stream.reader(0, "lane").await.unwrap();
    let both = reader.next(10, Duration::ZERO).await.unwrap();
    for (delivery, kept_s) in both.iter().zip([-1..=-1, 50..=60]) {
        assert_eq!(stream.settle(0, &[settlement(delivery, 0, 0)]).await.unwrap(), 1);
        let seconds = ttl().await;
        assert!(kept_s.contains(&seconds), "{seconds}");
    }
    assert_admitted(admit(&stream, &third).await);
    assert_eq!(ttl().await, -1, "a new batch of the group is pending");
    let all = Outcome { stored: 2, ..Outcome::default() };
    for (batch, state) in [
        (&first, BatchState::Settled { project: PROJECT, outcome: all }),
        (&second, BatchState::Settled { project: PROJECT, outcome: all }),
        (&third, BatchState::Pending { project: PROJECT, count: 2 }),
    ] {
        assert_eq!(stream.batch_state(PROJECT, batch.batch_id).await.unwrap(), state);
        assert!(matches!(admit(&stream, batch).await, Decision::Repeated { .. }));
    }
    assert_eq!(counters(&stream).await.accepted, 6);
    let unknown = BatchGroup { place: 63, ..group }.batch_id();
    assert_eq!(stream.batch_state(PROJECT, unknown).await.unwrap(), BatchState::Unknown);
}

#[tokio::test]
async fn a_marker_of_the_release_before_is_understood() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    let batch = keyed_batch(5);
    let key = format!("{{s0}}:batch:{}", batch.batch_id);
    // A worker of that release settles without the number of conflicts.
    let marker = format!("s - {} 5 1795219200000 - 3 1 1", PROJECT.0);
    run(&redis, &["SET", &key, &marker]).await;
    let outcome = Outcome { stored: 3, duplicate: 1, dead: 1, conflict: 0 };
    let state = stream.batch_state(PROJECT, batch.batch_id).await.unwrap();
    assert_eq!(state, BatchState::Settled { project: PROJECT, outcome });
    assert!(matches!(admit(&stream, &batch).await, Decision::Repeated { .. }));
}

#[tokio::test]
async fn entries_of_another_program_are_delivered_and_the_counters_stay_right() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    assert_admitted(admit(&stream, &batch(5)).await);
    run(&redis, &["XADD", "{s0}:events", "*", "v", "99", "p", "7"]).await;
    run(&redis, &["XADD", "{s0}:events", "*", "nonsense", "x"]).await;
    assert_admitted(admit(&stream, &batch(6)).await);
    let pending = stream.pending_batches(0).await.unwrap();
    assert_eq!(pending.len(), 4);
    assert!(pending[1].batch_id.is_nil() && pending[2].batch_id.is_nil());
    let mut reader = stream.reader(0, "lane").await.unwrap();
    let deliveries = reader.next(10, Duration::ZERO).await.unwrap();
    let damaged: Vec<_> = deliveries.iter().filter(|delivery| delivery.entry.is_err()).collect();
    assert_eq!(damaged.len(), 2);
    let settlements = damaged.iter().zip([7, 0]).map(|(delivery, project)| Settlement {
        id: delivery.id,
        bytes: 20,
        batches: vec![SettledBatch {
            batch_id: id_of_damaged(0, delivery.id),
            project: ProjectId(project),
            count: 1,
            outcome: Outcome { dead: 1, ..Outcome::default() },
        }],
        refunds: Vec::new(),
    });
    let settlements: Vec<_> = settlements.collect();
    assert_eq!(stream.settle(0, &settlements).await.unwrap(), 2);
    // Accepted without admission, so never charged or counted in the backlog; and not remembered.
    let backlog = stream.backlog().await.unwrap();
    assert_eq!((backlog.entries, backlog.events), (2, 11));
    let now = stream.counters(&[PROJECT, ProjectId(0)]).await.unwrap();
    assert_eq!((now[0].accepted, now[0].pending, now[0].used), (12, 11, 11));
    assert_eq!((now[1].accepted, now[1].pending, now[1].used), (1, 0, 0));
    for settlement in settlements.iter().flat_map(|settlement| &settlement.batches) {
        let state = stream.batch_state(settlement.project, settlement.batch_id).await.unwrap();
        assert_eq!(state, BatchState::Unknown);
    }
    assert_eq!(stream.settle(0, &settlements).await.unwrap(), 0);
    assert_eq!(stream.counters(&[PROJECT, ProjectId(0)]).await.unwrap(), now);
}

#[tokio::test]
async fn entries_that_were_deleted_unread_are_reported_and_not_delivered_again() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    for _ in 0..4 {
        assert_admitted(admit(&stream, &batch(1)).await);
    }
    let mut reader = stream.reader(0, "lane").await.unwrap();
    let ids: Vec<String> = reader
        .next(4, Duration::ZERO)
        .await
        .unwrap()
        .iter()
        .map(|delivery| delivery.id.to_string())
        .collect();
    run(&redis, &["XDEL", "{s0}:events", &ids[0], &ids[1]]).await;
    let left = reader.own_pending(EntryId::default(), 1).await.unwrap();
    assert_eq!(left[0].id.to_string(), ids[2], "deleted entries are skipped");
    run(&redis, &["XDEL", "{s0}:events", &ids[3]]).await;
    let taken = reader.take_over(Duration::ZERO, 10).await.unwrap();
    assert_eq!(taken.deliveries.len(), 1);
    assert_eq!(taken.vanished.iter().map(ToString::to_string).collect::<Vec<_>>(), [ids[3].clone()]);
}

#[tokio::test]
async fn settings_that_are_not_durable_are_reported() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    assert_eq!(faults(&stream).await, Vec::<String>::new());
    run(&redis, &["CONFIG", "SET", "appendfsync", "everysec"]).await;
    run(&redis, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let found = faults(&stream).await;
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("appendfsync is \"everysec\""), "{found:?}");
    run(&redis, &["ACL", "SETUSER", "default", "-config"]).await;
    let found = faults(&stream).await;
    let all = "appendonly, appendfsync, no-appendfsync-on-rewrite, maxmemory-policy cannot be checked";
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(all), "the reason stands there once: {found:?}");
}
