//! The promises kept on Redis, and what can be seen only there.

use std::time::Duration;

use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{Decision, EntryId, Outcome, Settlement, SharedStream};
use redis::Value;
use testkit::Redis;
use uuid::Uuid;

use super::bench::*;

impl Bench for Redis {
    async fn start() -> Self {
        Redis::start().await
    }

    fn open(&self, backlog_events_max: u64) -> SharedStream {
        open(&self.url(), backlog_events_max)
    }
}

pub fn open(url: &str, backlog_events_max: u64) -> SharedStream {
    let options = RedisOptions { url: url.to_owned(), shards: 1, backlog_events_max, connections: 2 };
    RedisStream::new(options).unwrap()
}

crate::suite::hold_to_the_suite!(Redis);

/// One command, by hand.
pub async fn run(redis: &Redis, words: &[&str]) -> Value {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(word);
    }
    command.query_async(&mut redis.connect().await).await.unwrap()
}

/// Everything in the server, byte for byte.
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
async fn no_refusal_touches_a_single_key() {
    let rig = Rig::<Redis>::with_backlog(10).await;
    let packed = batch(5);
    assert_admitted(admit_keyed(&rig.stream, &packed, [1; 16]).await);
    let before = contents(&rig.bench).await;
    let small = millrace_event::plan::Plan { events_per_month: Some(6), ..plan() };
    let slow = millrace_event::plan::Plan { requests_per_minute: 1, burst: 1, ..plan() };
    let future = Rig { stream: open(&rig.bench.url(), 10), bench: (), epoch: rig.epoch };
    connected(&future.stream).await;
    let mut verdicts = vec![
        admit_keyed(&rig.stream, &packed, [1; 16]).await,
        admit_keyed(&rig.stream, &packed, [2; 16]).await,
        admit(&rig.stream, &batch(6)).await,
        admit_under(&rig.stream, &batch(2), &small).await,
    ];
    future.stream.trust_epoch(0, Uuid::new_v4());
    verdicts.push(admit(&future.stream, &batch(1)).await);
    assert!(
        matches!(
            verdicts[..],
            [
                Decision::Repeated { .. },
                Decision::Conflict { .. },
                Decision::BacklogFull { .. },
                Decision::QuotaExceeded { .. },
                Decision::EpochChanged,
            ]
        ),
        "{verdicts:?}"
    );
    assert_eq!(contents(&rig.bench).await, before);

    assert_admitted(admit_under(&rig.stream, &batch(1), &slow).await);
    let before = contents(&rig.bench).await;
    assert!(matches!(admit_under(&rig.stream, &batch(1), &slow).await, Decision::RateLimited { .. }));
    assert_eq!(contents(&rig.bench).await, before);
}

#[tokio::test]
async fn a_refund_of_a_month_that_is_over_is_not_given_to_the_next() {
    let rig = Rig::<Redis>::start().await;
    assert_admitted(admit(&rig.stream, &batch(10)).await);
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    let delivery = reader.next(1, Duration::ZERO).await.unwrap().remove(0);
    run(&rig.bench, &["HSET", "{s0}:project:7", "month", "209912", "used", "3"]).await;
    assert_eq!(rig.stream.settle(0, &[settlement(&delivery, 4, 0)]).await.unwrap(), 1);
    assert_eq!(counters(&rig.stream).await.used, 3);
}

#[tokio::test]
async fn markers_stay_while_their_batches_are_pending_and_leave_by_themselves_after() {
    let rig = Rig::<Redis>::start().await;
    let (plain, keyed) = (batch(1), batch(1));
    assert_admitted(admit(&rig.stream, &plain).await);
    assert_admitted(admit_keyed(&rig.stream, &keyed, [9; 16]).await);
    let key = |id: Uuid| format!("{{s0}}:batch:{id}");
    assert_eq!(run(&rig.bench, &["TTL", &key(keyed.batch_id)]).await, Value::Int(-1));
    drain(&rig.stream, "lane").await;
    for (batch_id, kept_s) in [(plain.batch_id, 1..=15), (keyed.batch_id, 86_000..=86_400)] {
        match run(&rig.bench, &["TTL", &key(batch_id)]).await {
            Value::Int(seconds) => assert!(kept_s.contains(&seconds), "{seconds}"),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn entries_forced_into_the_stream_are_delivered_and_leave_the_counters_right() {
    let rig = Rig::<Redis>::start().await;
    assert_admitted(admit(&rig.stream, &batch(5)).await);
    run(&rig.bench, &["XADD", "{s0}:events", "*", "v", "99", "p", "7"]).await;
    run(&rig.bench, &["XADD", "{s0}:events", "*", "nonsense", "x"]).await;
    assert_admitted(admit(&rig.stream, &batch(6)).await);
    let pending = rig.stream.pending_batches(0).await.unwrap();
    assert_eq!(pending.len(), 4);
    assert!(pending[1].batch_id.is_nil() && pending[2].batch_id.is_nil());
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    let deliveries = reader.next(10, Duration::ZERO).await.unwrap();
    let damaged: Vec<_> = deliveries.iter().filter(|delivery| delivery.packed.is_err()).collect();
    assert_eq!(damaged.len(), 2);
    let outcome = Outcome { dead: 1, ..Outcome::default() };
    let settlements = damaged.iter().zip([7, 0]).map(|(delivery, project)| Settlement {
        id: delivery.id,
        batch_id: Uuid::nil(),
        project: millrace_event::plan::ProjectId(project),
        count: 1,
        bytes: 20,
        outcome,
    });
    assert_eq!(rig.stream.settle(0, &settlements.collect::<Vec<_>>()).await.unwrap(), 2);
    let backlog = rig.stream.backlog().await.unwrap();
    assert_eq!((backlog.entries, backlog.events), (2, 11));
    let now = counters(&rig.stream).await;
    assert_eq!((now.accepted, now.pending, now.used), (12, 11, 11));
}

#[tokio::test]
async fn entries_deleted_unread_are_reported_and_never_come_back() {
    let rig = Rig::<Redis>::start().await;
    for _ in 0..4 {
        assert_admitted(admit(&rig.stream, &batch(1)).await);
    }
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    let ids: Vec<String> = reader
        .next(4, Duration::ZERO)
        .await
        .unwrap()
        .iter()
        .map(|delivery| delivery.id.to_string())
        .collect();
    run(&rig.bench, &["XDEL", "{s0}:events", &ids[0], &ids[1]]).await;
    let left = reader.own_pending(EntryId::default(), 1).await.unwrap();
    assert_eq!(left[0].id.to_string(), ids[2], "pages over what is gone");
    run(&rig.bench, &["XDEL", "{s0}:events", &ids[3]]).await;
    let taken = reader.take_over(Duration::ZERO, 10).await.unwrap();
    assert_eq!(taken.deliveries.len(), 1);
    assert_eq!(taken.vanished.iter().map(ToString::to_string).collect::<Vec<_>>(), [ids[3].clone()]);
}

#[tokio::test]
async fn a_server_is_durable_only_as_started() {
    let rig = Rig::<Redis>::start().await;
    assert_eq!(rig.stream.durability_faults().await.unwrap(), Vec::<String>::new());
    run(&rig.bench, &["CONFIG", "SET", "appendfsync", "everysec"]).await;
    run(&rig.bench, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let faults = rig.stream.durability_faults().await.unwrap();
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with("appendfsync is \"everysec\""), "{faults:?}");
    run(&rig.bench, &["ACL", "SETUSER", "default", "-config"]).await;
    let faults = rig.stream.durability_faults().await.unwrap();
    assert_eq!(faults.iter().filter(|fault| fault.contains("cannot be checked")).count(), 4, "{faults:?}");
}
