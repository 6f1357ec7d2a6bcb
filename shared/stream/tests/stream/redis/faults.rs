//! The stream on a Redis that is full, wiped, killed or silent.

use std::collections::HashSet;
use std::time::Duration;

use millrace_stream::{Admission, Decision, SharedStream, StreamError};
use testkit::{Redis, eventually};
use uuid::Uuid;

use super::load::UntilLost;
use super::{contents, open, run};
use crate::suite::*;

pub async fn try_admit(stream: &SharedStream) -> Result<Decision, StreamError> {
    let (batch, plan) = (batch(1), plan());
    stream.admit(&Admission { batch: &batch, plan: &plan, digest: None, awaited: false }).await
}

#[tokio::test]
async fn a_full_server_refuses_with_nothing_changed_and_still_drains() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    assert_admitted(admit(&stream, &batch(1)).await);
    assert_admitted(admit_keyed(&stream, &keyed_batch(1), [1; 16]).await);
    run(&redis, &["CONFIG", "SET", "maxmemory", "1000000"]).await;
    let before = contents(&redis).await;
    let refused = try_admit(&stream).await;
    assert!(matches!(refused, Err(StreamError::Full(_))), "{refused:?}");
    assert_eq!(contents(&redis).await, before);
    stream.limit_state(PROJECT).await.unwrap();
    assert_eq!(stream.note_attempt(0, Default::default()).await.unwrap(), 1);
    assert_eq!(drain(&stream, "lane").await.len(), 2);
    rebuilt(&stream, Uuid::new_v4(), &[]).await;
    run(&redis, &["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_admitted(admit(&stream, &batch(1)).await);
}

#[tokio::test]
async fn missing_scripts_are_loaded_within_the_call() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    assert_admitted(admit(&stream, &batch(1)).await);
    run(&redis, &["SCRIPT", "FLUSH"]).await;
    assert_admitted(admit(&stream, &batch(1)).await);
    run(&redis, &["SCRIPT", "FLUSH"]).await;
    assert_eq!(drain(&stream, "lane").await.len(), 2);
}

#[tokio::test]
async fn a_wiped_server_admits_nothing_and_its_group_is_created_again() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    assert_admitted(admit(&stream, &batch(1)).await);
    run(&redis, &["FLUSHALL"]).await;
    assert_eq!(admit(&stream, &batch(1)).await, Decision::EpochChanged);
    let mut reader = stream.reader(0, "lane").await.unwrap();
    assert!(reader.next(1, Duration::ZERO).await.unwrap().is_empty());
    rebuilt(&stream, Uuid::new_v4(), &[]).await;
    assert_admitted(admit(&stream, &batch(1)).await);
    run(&redis, &["XGROUP", "DESTROY", "{s0}:events", "workers"]).await;
    assert_eq!(reader.next(10, Duration::ZERO).await.unwrap().len(), 1, "no entry is skipped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acknowledged_batches_survive_kill_and_restart() {
    let mut redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    let clients = UntilLost::start(&redis).await;
    eventually(DEADLINE, "500 admissions", async || {
        stream.backlog().await.is_ok_and(|backlog| backlog.events > 1_000)
    })
    .await;
    redis.kill().await;
    let acknowledged = clients.acknowledged().await;
    redis.restart().await;
    connected(&stream).await;
    assert_eq!(stream.epoch(0).await.unwrap(), Some(EPOCH));
    let kept = stream.pending_batches(0).await.unwrap();
    let names: HashSet<_> = kept.iter().map(|batch| batch.batch_id).collect();
    assert!(acknowledged.len() > 400 && acknowledged.iter().all(|id| names.contains(id)));
    let events = kept.len() as u64 * 2;
    let now = counters(&stream).await;
    assert_eq!((now.accepted, now.pending.unsigned_abs(), now.used), (events, events, events));
    assert_eq!(stream.backlog().await.unwrap().events, events);
    assert_eq!(batches(&drain(&stream, "lane").await).len(), kept.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_opens_the_circuit_and_an_answer_closes_it() {
    let mut redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    redis.pause();
    let unanswered = try_admit(&stream).await;
    assert!(matches!(unanswered, Err(StreamError::Unknown(_))), "{unanswered:?}");
    // One unanswered call opened the circuit of every connection: calls fail without being sent.
    for _ in 0..100 {
        let refused = try_admit(&stream).await;
        assert!(matches!(refused, Err(StreamError::Unavailable(_))), "{refused:?}");
        assert!(matches!(stream.backlog().await, Err(StreamError::Unavailable(_))));
    }
    redis.resume();
    connected(&stream).await;
    let decision = eventually(DEADLINE, "an admission", async || try_admit(&stream).await).await;
    assert_admitted(decision);
}

#[tokio::test]
async fn a_server_that_cannot_be_reached_is_unavailable() {
    let stream = open("redis://127.0.0.1:1/", ENOUGH);
    stream.trust_epoch(0, Uuid::new_v4());
    assert!(matches!(try_admit(&stream).await, Err(StreamError::Unavailable(_))));
    assert!(matches!(stream.reader(0, "lane").await, Err(StreamError::Unavailable(_))));
}

#[tokio::test]
async fn a_closed_connection_is_replaced() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    run(&redis, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    let decision = eventually(DEADLINE, "an admission", async || try_admit(&stream).await).await;
    assert_admitted(decision);
}
