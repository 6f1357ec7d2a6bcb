//! A Redis with replicas: batches that are acknowledged when replicas have them, and servers that a replica
//! could replace.

use std::collections::HashSet;

use millrace_event::plan::Plan;
use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{Admission, Decision, Durability, SharedStream, StreamError};
use redis::Value;
use testkit::{Redis, eventually};
use uuid::Uuid;

use super::faults::try_admit;
use super::load::UntilLost;
use super::{faults, open, run};
use crate::suite::*;

/// A primary and its replica.
pub struct Pair {
    pub primary: Redis,
    pub replica: Redis,
}

pub async fn harness() -> Pair {
    let primary = Redis::start().await;
    let replica = primary.replica_with(&[]).await;
    Pair { primary, replica }
}

impl Harness for Pair {
    fn open(&self, backlog_events_max: u64) -> SharedStream {
        replicated(&self.primary.url(), 1, backlog_events_max)
    }
}

fn replicated(url: &str, replicas: u32, backlog_events_max: u64) -> SharedStream {
    let durability = Durability::Replicated { replicas };
    RedisStream::new(RedisOptions { durability, backlog_events_max, ..RedisOptions::new(url) }).unwrap()
}

/// Opens the stream of this server for so many replicas, with the trusted epoch.
async fn opened(redis: &Redis, replicas: u32) -> SharedStream {
    let stream = replicated(&redis.url(), replicas, ENOUGH);
    connected(&stream).await;
    stream.trust_epoch(0, EPOCH);
    stream
}

async fn entries(redis: &Redis) -> Value {
    run(redis, &["XLEN", "{s0}:events"]).await
}

/// A field of INFO.
async fn info(redis: &Redis, field: &str) -> String {
    let info: String = redis::cmd("INFO").query_async(&mut redis.connect().await).await.unwrap();
    let value = info.lines().find_map(|line| line.strip_prefix(&format!("{field}:")));
    value.unwrap_or_default().to_owned()
}

/// Admits the batch, which must be acknowledged in the end; returns the decision.
async fn acknowledged_soon(stream: &SharedStream, batch: &millrace_event::entry::NewBatch) -> Decision {
    let plan = plan();
    let admission = Admission { batch, plan: &plan, digest: None, awaited: false };
    eventually(DEADLINE, "an acknowledgement", async || stream.admit(&admission).await).await
}

#[tokio::test]
async fn a_batch_is_on_the_replica_when_it_is_acknowledged() {
    let pair = harness().await;
    let stream = trusted_stream(&pair).await;
    for admitted in 1..=50 {
        assert_admitted(admit(&stream, &batch(1)).await);
        assert_eq!(entries(&pair.replica).await, Value::Int(admitted));
    }
    run(&pair.primary, &["SCRIPT", "FLUSH"]).await;
    assert_admitted(admit(&stream, &batch(1)).await);
    assert_eq!(
        entries(&pair.replica).await,
        Value::Int(51),
        "both commands are sent again without the script"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_its_replica_no_batch_is_acknowledged_and_refusals_are_answered_as_they_are() {
    let mut pair = harness().await;
    let stream = trusted_stream(&pair).await;
    let (known, keyed) = (batch(1), keyed_batch(1));
    assert_admitted(admit(&stream, &known).await);
    assert_admitted(admit_keyed(&stream, &keyed, [1; 16]).await);
    pair.replica.pause();

    let unconfirmed = |answer: Result<Decision, StreamError>| match answer {
        Err(StreamError::Unknown(reason)) => assert!(reason.contains("only 0 of 1 replicas"), "{reason}"),
        other => panic!("{other:?}"),
    };
    let one = batch(1);
    let usual = plan();
    let admission = Admission { batch: &one, plan: &usual, digest: None, awaited: false };
    unconfirmed(stream.admit(&admission).await);
    unconfirmed(stream.admit(&admission).await);
    assert_eq!(stream.backlog().await.unwrap().entries, 3, "the server has the batch once");
    let small = Plan { events_per_month: Some(3), ..plan() };
    let refused = admit_under(&stream, &batch(1), &small).await;
    assert!(matches!(refused, Decision::QuotaExceeded { .. }), "{refused:?}");
    let conflict = admit_keyed(&stream, &keyed, [2; 16]).await;
    assert!(matches!(conflict, Decision::Conflict { .. }), "{conflict:?}");

    pair.replica.resume();
    let repeated = acknowledged_soon(&stream, &one).await;
    assert!(matches!(repeated, Decision::Repeated { .. }), "{repeated:?}");
    assert_eq!(entries(&pair.replica).await, Value::Int(3));
    assert_admitted(admit(&stream, &batch(1)).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_of_workers_are_answered_while_an_admission_waits_for_replicas() {
    let mut pair = harness().await;
    let stream = trusted_stream(&pair).await;
    let known = batch(1);
    assert_admitted(admit(&stream, &known).await);
    pair.replica.pause();
    eventually(DEADLINE, "a call during an admission that waits", async || {
        let waits = tokio::spawn({
            let stream = SharedStream::clone(&stream);
            async move { try_admit(&stream).await }
        });
        let blocked = async || info(&pair.primary, "blocked_clients").await == "1";
        eventually(DEADLINE, "the server to wait for its replica", async || {
            if waits.is_finished() { true } else { blocked().await }
        })
        .await;
        let state = stream.batch_state(PROJECT, known.batch_id).await.map(drop);
        let limits = stream.limit_state(PROJECT).await.map(drop);
        let during = blocked().await;
        drop(waits.await.unwrap());
        state.and(limits).map_err(|error| error.to_string())?;
        if during { Ok(()) } else { Err("the admission was faster".to_owned()) }
    })
    .await;
    pair.replica.resume();
}

#[tokio::test]
async fn as_many_replicas_as_demanded_must_have_a_batch_and_more_may() {
    let pair = harness().await;
    trusted_stream(&pair).await;
    let two = opened(&pair.primary, 2).await;
    let unknown = try_admit(&two).await.unwrap_err();
    assert!(
        matches!(&unknown, StreamError::Unknown(reason) if reason.contains("only 1 of 2 replicas")),
        "{unknown:?}"
    );
    assert_eq!(
        faults(&two).await,
        ["Redis has 1 replica that keeps up with it, DURABILITY_REPLICAS demands 2"]
    );
    let second = pair.primary.replica_with(&[]).await;
    assert_eq!(faults(&two).await, Vec::<String>::new());
    let one = batch(1);
    assert_admitted(acknowledged_soon(&two, &one).await);
    let one = opened(&pair.primary, 1).await;
    assert_admitted(acknowledged_soon(&one, &batch(1)).await);
    assert_eq!(stream_replicas(&one).await, (2, false));
    drop(second);
}

async fn stream_replicas(stream: &SharedStream) -> (u32, bool) {
    let report = stream.durability_report(0).await.unwrap();
    (report.replicas, report.refuses_alone)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_batch_is_on_the_replica_that_is_promoted() {
    let mut pair = harness().await;
    let stream = trusted_stream(&pair).await;
    let clients = UntilLost::start(&pair).await;
    eventually(DEADLINE, "300 admissions", async || {
        stream.backlog().await.is_ok_and(|backlog| backlog.entries > 300)
    })
    .await;
    pair.primary.kill().await;
    run(&pair.replica, &["REPLICAOF", "NO", "ONE"]).await;
    let acknowledged = clients.acknowledged().await;
    let promoted = opened(&pair.replica, 1).await;
    let kept: HashSet<_> =
        promoted.pending_batches(0).await.unwrap().iter().map(|batch| batch.batch_id).collect();
    assert!(acknowledged.len() > 200, "{}", acknowledged.len());
    assert!(acknowledged.iter().all(|id| kept.contains(id)), "the promoted replica lacks a batch");
    let unknown = try_admit(&promoted).await.unwrap_err();
    assert!(matches!(unknown, StreamError::Unknown(_)), "it has no replica of its own yet: {unknown:?}");
}

#[tokio::test]
async fn replicated_durability_needs_no_right_to_read_the_configuration() {
    let pair = harness().await;
    trusted_stream(&pair).await;
    let rights =
        "reset on >word ~{s* +@read +@write +@stream +@scripting +@connection +@transaction +info +time";
    let mut command = vec!["ACL", "SETUSER", "app"];
    command.extend(rights.split(' '));
    run(&pair.primary, &command).await;
    let url = format!("redis://app:word@127.0.0.1:{}/0", pair.primary.port());
    let strict = open(&url, ENOUGH);
    connected(&strict).await;
    let found = faults(&strict).await.join("; ");
    assert!(found.contains("appendonly") && found.contains("'config|get' command"), "{found}");
    let stream = replicated(&url, 1, ENOUGH);
    connected(&stream).await;
    assert_eq!(faults(&stream).await, Vec::<String>::new());
    stream.check_writable(0).await.unwrap();
    stream.trust_epoch(0, EPOCH);
    assert_admitted(acknowledged_soon(&stream, &batch(1)).await);
    run(&pair.primary, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    assert!(faults(&stream).await[0].starts_with("maxmemory-policy is \"allkeys-lru\""));
}

#[tokio::test]
async fn a_primary_that_would_come_back_empty_is_refused_or_named_when_only_its_operator_can_change_that() {
    let pair = harness().await;
    let stream = trusted_stream(&pair).await;
    run(&pair.primary, &["CONFIG", "SET", "appendonly", "no"]).await;
    let refused = faults(&stream).await;
    assert!(refused.len() == 1 && refused[0].starts_with("appendonly is \"no\", not \"yes\""), "{refused:?}");
    // As at a service, which gives no one the right to CONFIG.
    run(&pair.primary, &["ACL", "SETUSER", "default", "-config"]).await;
    let report = stream.durability_report(0).await.unwrap();
    assert_eq!(report.faults, Vec::<String>::new());
    let said = report.warnings.join("; ");
    assert!(said.contains("has no append-only file") && said.contains("promotes a replica"), "{said}");
    run(&pair.primary, &["ACL", "SETUSER", "default", "+config"]).await;
    run(&pair.primary, &["CONFIG", "SET", "appendonly", "yes"]).await;
    let report = stream.durability_report(0).await.unwrap();
    assert_eq!((report.faults, report.warnings), (Vec::new(), Vec::<String>::new()));
}

/// What the refusal above prevents.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_without_a_file_that_restarts_makes_its_replica_empty() {
    let mut pair = harness().await;
    let stream = trusted_stream(&pair).await;
    assert_admitted(acknowledged_soon(&stream, &batch(1)).await);
    assert_eq!(entries(&pair.replica).await, Value::Int(1));
    pair.primary.kill().await;
    pair.primary.restart_with(&[("appendonly", "no")]).await;
    eventually(DEADLINE, "the replica to copy nothing", async || {
        (entries(&pair.replica).await == Value::Int(0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_strict_server_that_a_replica_could_replace_must_refuse_writes_alone() {
    let pair = harness().await;
    let strict = open(&pair.primary.url(), ENOUGH);
    connected(&strict).await;
    rebuilt(&strict, Uuid::new_v4(), &[]).await;
    let refused = faults(&strict).await;
    assert!(refused.len() == 1 && refused[0].contains("set min-replicas-to-write to 1"), "{refused:?}");
    run(&pair.primary, &["CONFIG", "SET", "min-replicas-to-write", "1"]).await;
    assert_eq!((faults(&strict).await, stream_replicas(&strict).await), (Vec::new(), (1, true)));
    assert_admitted(admit(&strict, &batch(1)).await);
    run(&pair.primary, &["CONFIG", "SET", "min-replicas-max-lag", "0"]).await;
    assert_eq!(faults(&strict).await, refused, "without a largest lag, the minimum has no effect");
    run(&pair.primary, &["CONFIG", "SET", "min-replicas-max-lag", "10"]).await;

    run(&pair.replica, &["REPLICAOF", "NO", "ONE"]).await;
    eventually(DEADLINE, "the server to refuse writes alone", async || {
        match strict.check_writable(0).await {
            Err(StreamError::Unavailable(reason)) if reason.contains("NOREPLICAS") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let refused = try_admit(&strict).await.unwrap_err();
    assert!(matches!(refused, StreamError::Unavailable(_)) && refused.to_string().contains("NOREPLICAS"));
    run(&pair.replica, &["REPLICAOF", "127.0.0.1", &pair.primary.port().to_string()]).await;
    eventually(DEADLINE, "the replica to be back", async || strict.check_writable(0).await).await;
    assert_admitted(eventually(DEADLINE, "an admission", async || try_admit(&strict).await).await);
}

#[tokio::test]
async fn a_server_that_cannot_wait_acknowledges_nothing() {
    let pair = harness().await;
    trusted_stream(&pair).await;
    run(&pair.primary, &["ACL", "SETUSER", "app", "reset", "on", ">word", "~*", "+@all", "-wait"]).await;
    let stream = replicated(&format!("redis://app:word@127.0.0.1:{}/0", pair.primary.port()), 1, ENOUGH);
    connected(&stream).await;
    stream.trust_epoch(0, EPOCH);
    let refused = eventually(DEADLINE, "an answer", async || match try_admit(&stream).await {
        Err(StreamError::Unknown(reason)) => Ok(reason),
        other => Err(format!("{other:?}")),
    })
    .await;
    assert!(refused.contains("NOPERM") && refused.contains("'wait' command"), "{refused}");
    let refused = stream.check_writable(0).await.unwrap_err().to_string();
    assert!(refused.contains("lacks a right") && refused.contains("(NOPERM WAIT)"), "{refused}");
}
