//! The stream on a Redis Cluster.

use std::time::Duration;

use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{SharedStream, StreamError};
use redis::Value;
use testkit::{RedisCluster, eventually};
use uuid::Uuid;

use super::load::{LONG, Load, admit_to, admitted_to, batches_in, open_shards};
use super::run;
use crate::suite::*;

/// The project of the suite is in the first of these shards.
const SUITE_SHARDS: u16 = 7;

pub async fn harness() -> RedisCluster {
    RedisCluster::start(3, 0, &[]).await
}

impl Harness for RedisCluster {
    fn open(&self, backlog_events_max: u64) -> SharedStream {
        let options =
            RedisOptions { backlog_events_max, shards: SUITE_SHARDS, ..RedisOptions::new(self.url()) };
        RedisStream::new(options).unwrap()
    }
}

/// Those of the shards 1 to 3 that have another master.
async fn shards_not_at(cluster: &RedisCluster, master: usize) -> Vec<u16> {
    let mut others = Vec::new();
    for shard in 1..4 {
        if cluster.master_of(&format!("{{s{shard}}}")).await != master {
            others.push(shard);
        }
    }
    others
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_loses_nothing_and_repeats_nothing() {
    let cluster = RedisCluster::start(3, 1, &[]).await;
    let stream = open_shards(&cluster.url(), 2).await;
    let mut reader = stream.reader(0, "lane").await.unwrap();
    let load = Load::start(&stream, 0);
    admitted_to(&stream, 0).await;
    let master = cluster.master_of("{s0}").await;
    let replica = cluster.replica_of(master).await;
    cluster.hand_over_to(replica).await;
    admitted_to(&stream, 0).await;
    let answers = load.end().await;
    let stored = batches_in(&stream, 0).await;
    let lost = answers.acknowledged.iter().filter(|batch_id| !stored.contains(batch_id)).count();
    assert_eq!(lost, 0, "of {}", answers.acknowledged.len());
    let twice = answers.refused.iter().filter(|(batch_id, _)| stored.contains(batch_id)).count();
    assert_eq!(twice, 0, "a refused batch was not stored: {:?}", answers.refused.first());
    // The reader at the old master ends, and the next one is at the new master.
    eventually(LONG, "the reader to notice", async || {
        reader.next(1, Duration::from_millis(100)).await.is_err().then_some(())
    })
    .await;
    eventually(LONG, "a reader at the new master", async || {
        let mut reader = stream.reader(0, "lane").await?;
        reader.next(10, Duration::ZERO).await.map(|deliveries| assert!(!deliveries.is_empty()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_master_that_died_stops_its_shards_only_until_its_replica_took_over() {
    let mut cluster = RedisCluster::start(3, 1, &[]).await;
    let stream = open_shards(&cluster.url(), 4).await;
    let master = cluster.master_of("{s0}").await;
    let others = shards_not_at(&cluster, master).await;
    let mut before = Vec::new();
    for _ in 0..50 {
        before.push(admitted_to(&stream, 0).await);
    }
    let (load, other) = (Load::start(&stream, 0), Load::start(&stream, others[0]));
    cluster.node(master).pause_writes(1).await;
    cluster.node_mut(master).kill().await;
    let after = loop {
        let batch_id = Uuid::now_v7();
        match admit_to(&stream, 0, batch_id).await {
            Ok(_) if cluster.master_of("{s0}").await != master => break batch_id,
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    };
    let other = other.end().await;
    assert!(other.refused.is_empty() && other.unknown.is_empty(), "{other:?}");
    let last = admitted_to(&stream, 0).await;
    load.end().await;
    let stored = batches_in(&stream, 0).await;
    assert!(before.iter().chain([&after, &last]).all(|batch_id| stored.contains(batch_id)));
    // The old master comes back as a replica, and nothing is admitted to it.
    cluster.node_mut(master).restart().await;
    cluster.settled().await;
    let last = admitted_to(&stream, 0).await;
    assert!(batches_in(&stream, 0).await.contains(&last));
    for shard in others {
        admit_to(&stream, shard, Uuid::now_v7()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_under_load_is_followed_and_nothing_is_lost() {
    let cluster = RedisCluster::start(3, 0, &[]).await;
    let stream = open_shards(&cluster.url(), 2).await;
    let slot = cluster.slot_of("{s0}").await;
    let from = cluster.master_of_slot(slot).await;
    let load = Load::start(&stream, 0);
    for _ in 0..20 {
        admitted_to(&stream, 0).await;
    }
    let to = (from + 1) % 3;
    cluster.begin_move(slot, to).await;
    // The marker of a new batch is not there, so the node cannot say on which of the two it is.
    let refused =
        eventually(LONG, "a refusal", async || admit_to(&stream, 0, Uuid::now_v7()).await.err()).await;
    assert!(matches!(refused, StreamError::Unavailable(_)), "{refused}");
    assert!(refused.to_string().contains("is being moved"), "{refused}");
    admit_to(&stream, 1, Uuid::now_v7()).await.unwrap();
    assert!(cluster.finish_move(slot, to).await > 0);
    admitted_to(&stream, 0).await;
    let answers = load.end().await;
    let stored = batches_in(&stream, 0).await;
    assert!(answers.unknown.is_empty(), "{:?}", answers.unknown);
    assert!(answers.acknowledged.iter().all(|batch_id| stored.contains(batch_id)));
    assert!(answers.refused.iter().all(|(batch_id, _)| !stored.contains(batch_id)));
    assert_eq!(cluster.master_of_slot(slot).await, to);
    let moved = run(cluster.node(to), &["EXISTS", "{s0}:events"]).await;
    assert_eq!(moved, Value::Int(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_moved_is_refused_once_and_then_found() {
    let cluster = RedisCluster::start(3, 0, &[]).await;
    let stream = open_shards(&cluster.url(), 1).await;
    admitted_to(&stream, 0).await;
    let slot = cluster.slot_of("{s0}").await;
    let to = (cluster.master_of_slot(slot).await + 1) % 3;
    cluster.move_slot(slot, to).await;
    if let Err(refused) = admit_to(&stream, 0, Uuid::now_v7()).await {
        assert!(matches!(refused, StreamError::Unavailable(_)), "{refused}");
    }
    admitted_to(&stream, 0).await;
    assert_eq!(stream.durability_report(0).await.unwrap().faults, Vec::<String>::new());
    assert_eq!(
        drain(&stream, "lane").await.len(),
        usize::try_from(batches_before(&cluster, to).await).unwrap()
    );
}

/// Entries that the stream of shard 0 ever had.
async fn batches_before(cluster: &RedisCluster, at: usize) -> i64 {
    let mut command = redis::cmd("XINFO");
    command.arg("STREAM").arg("{s0}:events");
    let mut connection = cluster.node(at).connect().await;
    let info: std::collections::HashMap<String, Value> = command.query_async(&mut connection).await.unwrap();
    match info["entries-added"] {
        Value::Int(entries) => entries,
        ref other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_lost_for_good_stops_no_other_shard_and_is_named_by_its_shards() {
    let mut cluster = RedisCluster::start(3, 0, &[]).await;
    let stream = open_shards(&cluster.url(), 4).await;
    let master = cluster.master_of("{s0}").await;
    let others = shards_not_at(&cluster, master).await;
    cluster.node_mut(master).kill().await;
    for shard in others {
        for _ in 0..20 {
            admit_to(&stream, shard, Uuid::now_v7()).await.unwrap();
        }
        stream.check_writable(shard).await.unwrap();
        assert_eq!(stream.durability_report(shard).await.unwrap().faults, Vec::<String>::new());
        assert!(
            !stream.reader(shard, "lane").await.unwrap().next(1, Duration::ZERO).await.unwrap().is_empty()
        );
    }
    let refused = eventually(LONG, "a refusal", async || stream.check_writable(0).await.err()).await;
    assert!(matches!(refused, StreamError::Unavailable(_)), "{refused}");
    assert!(refused.to_string().contains("shard 0: "), "{refused}");
    assert!(!refused.to_string().contains("127.0.0.1"), "{refused}");
    // The same node again: nothing else has to be done.
    cluster.node_mut(master).restart().await;
    admitted_to(&stream, 0).await;
}
