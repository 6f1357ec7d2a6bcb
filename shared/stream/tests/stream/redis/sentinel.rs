//! The stream behind Redis Sentinel.

use std::time::Duration;

use millrace_stream::SharedStream;
use redis::Value;
use testkit::{Redis, RedisCluster, Sentinels, eventually};
use uuid::Uuid;

use super::load::{LONG, Load, admit_to, admitted_to, batches_in, open_shards};
use super::reasons::assert_reason;
use super::{open, run};
use crate::suite::*;

pub async fn harness() -> Sentinels {
    Sentinels::start(0, &[]).await
}

impl Harness for Sentinels {
    fn open(&self, backlog_events_max: u64) -> SharedStream {
        open(&self.url(), backlog_events_max)
    }
}

async fn entries_at(redis: &Redis) -> Value {
    run(redis, &["XLEN", "{s0}:events"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_promoted_replica_is_found_and_an_old_primary_that_returns_gets_nothing() {
    let mut sentinels = Sentinels::start(1, &[]).await;
    let stream = open_shards(&sentinels.url(), 2).await;
    let mut before = Vec::new();
    for _ in 0..50 {
        before.push(admitted_to(&stream, 0).await);
    }
    let load = Load::start(&stream, 0);
    sentinels.node(0).pause_writes(1).await;
    sentinels.node_mut(0).kill().await;
    eventually(LONG, "a failover", async || (sentinels.primary().await == 1).then_some(())).await;
    sentinels.end_failovers().await;
    let after = admitted_to(&stream, 0).await;
    // As its init system starts it: as a primary, until the Sentinels make it a replica.
    sentinels.node_mut(0).restart().await;
    let during = admitted_to(&stream, 0).await;
    eventually(LONG, "the old primary to be a replica", async || {
        (sentinels.node(0).role().await.as_deref() == Some("slave")).then_some(())
    })
    .await;
    let last = admitted_to(&stream, 0).await;
    let answers = load.end().await;
    let stored = batches_in(&stream, 0).await;
    assert!(before.iter().chain([&after, &during, &last]).all(|batch_id| stored.contains(batch_id)));
    assert!(!answers.acknowledged.is_empty());
    admit_to(&stream, 1, Uuid::now_v7()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_primary_that_still_answers_is_left_when_the_sentinels_name_another() {
    let sentinels = Sentinels::start(1, &[]).await;
    let stream = open_shards(&sentinels.url(), 1).await;
    admitted_to(&stream, 0).await;
    let mut reader = stream.reader(0, "lane").await.unwrap();
    assert_eq!(reader.next(1, Duration::ZERO).await.unwrap().len(), 1);
    // Both are primaries now, and the old one answers as before.
    run(sentinels.node(1), &["REPLICAOF", "NO", "ONE"]).await;
    let at_old = entries_at(sentinels.node(0)).await;
    sentinels.name_primary(1).await;
    eventually(LONG, "the reader to be told", async || {
        reader.next(1, Duration::from_secs(5)).await.is_err().then_some(())
    })
    .await;
    for _ in 0..5 {
        admitted_to(&stream, 0).await;
    }
    stream.check_writable(0).await.unwrap();
    assert_eq!(entries_at(sentinels.node(0)).await, at_old, "nothing more was admitted to the old one");
    assert_eq!(stream.backlog().await.unwrap().entries, batches_in(&stream, 0).await.len() as u64);
    assert_eq!(entries_at(sentinels.node(1)).await, Value::Int(6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sentinels_that_are_silent_or_dead_are_passed_over_while_one_answers() {
    let mut sentinels = Sentinels::start(0, &[]).await;
    sentinels.pause_sentinel(0);
    sentinels.kill_sentinel(1).await;
    let stream = open_shards(&sentinels.url(), 1).await;
    admitted_to(&stream, 0).await;
    // Without any Sentinel, the primary that is connected remains, and cannot be found again.
    sentinels.kill_sentinel(2).await;
    for _ in 0..100 {
        admit_to(&stream, 0, Uuid::now_v7()).await.unwrap();
    }
    assert_reason(&sentinels.url(), &["no Sentinel answered"]).await;
    sentinels.resume_sentinel(0);
    let url = sentinels.url();
    let stream = open(&url, ENOUGH);
    connected(&stream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_url_of_the_wrong_kind_is_refused_with_the_right_beginning() {
    let (redis, cluster, sentinels) =
        tokio::join!(Redis::start(), RedisCluster::start(1, 0, &[]), Sentinels::start(0, &[]));
    let at = |scheme: &str, port: u16, rest: &str| format!("{scheme}://127.0.0.1:{port}{rest}");
    let (node, sentinel) = (cluster.node(0).port(), sentinels.sentinel_port(0));
    for (url, expected) in [
        (at("redis", node, "/0"), "this Redis is a node of a cluster: begin REDIS_URL with redis+cluster:"),
        (at("redis", sentinel, "/0"), "this is a Redis Sentinel: begin REDIS_URL with redis+sentinel:"),
        (at("redis+cluster", redis.port(), ""), "not a node of a cluster"),
        (at("redis+cluster", sentinel, ""), "not a node of a cluster"),
        (at("redis+sentinel", redis.port(), "/m"), "not a Sentinel"),
        (at("redis+sentinel", node, "/m"), "not a Sentinel"),
        (at("redis+sentinel", sentinel, "/other"), "the Sentinels do not know the primary other"),
        ("redis+sentinel://127.0.0.1:1/m".to_owned(), "no Sentinel answered"),
        ("redis+cluster://127.0.0.1:1".to_owned(), "no node of the cluster answered"),
    ] {
        assert_reason(&url, &[expected]).await;
    }
}
