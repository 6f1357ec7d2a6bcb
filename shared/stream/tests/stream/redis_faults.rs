//! What happens to the stream when Redis is full, forgetful, dead or silent.

use std::time::Duration;

use millrace_event::plan::Plan;
use millrace_stream::{Admission, Decision, SharedStream, StreamError};
use testkit::{Redis, eventually};

use super::bench::*;
use super::on_redis::{contents, run};

async fn try_admit(stream: &SharedStream) -> Result<Decision, StreamError> {
    let (packed, plan) = (batch(1), plan());
    stream.admit(&Admission { packed: &packed, plan: &plan, digest: None, awaited: false }).await
}

#[tokio::test]
async fn a_full_server_refuses_with_nothing_changed_and_still_drains() {
    let rig = Rig::<Redis>::start().await;
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    assert_admitted(admit_keyed(&rig.stream, &batch(1), [1; 16]).await);
    run(&rig.bench, &["CONFIG", "SET", "maxmemory", "1000000"]).await;
    let before = contents(&rig.bench).await;
    let refused = try_admit(&rig.stream).await;
    assert!(matches!(refused, Err(StreamError::Full(_))), "{refused:?}");
    assert_eq!(contents(&rig.bench).await, before);
    rig.stream.limit_state(PROJECT).await.unwrap();
    assert_eq!(rig.stream.note_attempt(0, Default::default()).await.unwrap(), 1);
    assert_eq!(drain(&rig.stream, "lane").await.len(), 2);
    rebuilt(&rig.stream, uuid::Uuid::new_v4(), &[]).await;
    run(&rig.bench, &["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_admitted(admit(&rig.stream, &batch(1)).await);
}

#[tokio::test]
async fn forgotten_scripts_are_brought_back_within_the_call() {
    let rig = Rig::<Redis>::start().await;
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    run(&rig.bench, &["SCRIPT", "FLUSH"]).await;
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    run(&rig.bench, &["SCRIPT", "FLUSH"]).await;
    assert_eq!(drain(&rig.stream, "lane").await.len(), 2);
}

#[tokio::test]
async fn a_wiped_server_is_refused_and_its_group_made_again() {
    let rig = Rig::<Redis>::start().await;
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    run(&rig.bench, &["FLUSHALL"]).await;
    assert_eq!(admit(&rig.stream, &batch(1)).await, Decision::EpochChanged);
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    assert!(reader.next(1, Duration::ZERO).await.unwrap().is_empty());
    rebuilt(&rig.stream, uuid::Uuid::new_v4(), &[]).await;
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    run(&rig.bench, &["XGROUP", "DESTROY", "{s0}:events", "workers"]).await;
    assert_eq!(reader.next(10, Duration::ZERO).await.unwrap().len(), 1, "nothing is skipped");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_acknowledged_survives_kill_and_restart() {
    let mut rig = Rig::<Redis>::start().await;
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let stream = rig.another().await;
        clients.spawn(async move {
            let mut acknowledged = Vec::new();
            loop {
                let (packed, plan) = (batch(2), plan());
                let admission = Admission { packed: &packed, plan: &plan, digest: None, awaited: false };
                match stream.admit(&admission).await {
                    Ok(verdict) => {
                        assert_admitted(verdict);
                        acknowledged.push(packed.batch_id);
                    }
                    Err(StreamError::Unknown(_) | StreamError::Unavailable(_)) => return acknowledged,
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
    }
    eventually(DEADLINE, "500 admissions", async || {
        rig.stream.backlog().await.is_ok_and(|backlog| backlog.entries > 500)
    })
    .await;
    rig.bench.kill().await;
    let mut acknowledged = Vec::new();
    while let Some(client) = clients.join_next().await {
        acknowledged.extend(client.unwrap());
    }
    rig.bench.restart().await;
    connected(&rig.stream).await;
    assert_eq!(rig.stream.epoch(0).await.unwrap(), Some(rig.epoch));
    let kept = rig.stream.pending_batches(0).await.unwrap();
    let names: std::collections::HashSet<_> = kept.iter().map(|batch| batch.batch_id).collect();
    assert!(acknowledged.len() > 400 && acknowledged.iter().all(|id| names.contains(id)));
    let events = kept.len() as u64 * 2;
    let now = counters(&rig.stream).await;
    assert_eq!((now.accepted, now.pending.unsigned_abs(), now.used), (events, events, events));
    assert_eq!(rig.stream.backlog().await.unwrap().events, events);
    assert_eq!(drain(&rig.stream, "lane").await.len(), kept.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_server_opens_the_circuit_and_an_answering_one_closes_it() {
    let mut rig = Rig::<Redis>::start().await;
    rig.bench.pause();
    let unanswered = try_admit(&rig.stream).await;
    assert!(matches!(unanswered, Err(StreamError::Unknown(_))), "{unanswered:?}");
    // One silent call has opened the circuit for every connection: nothing more is sent, nothing waits.
    for _ in 0..100 {
        let refused = try_admit(&rig.stream).await;
        assert!(matches!(refused, Err(StreamError::Unavailable(_))), "{refused:?}");
        assert!(matches!(rig.stream.backlog().await, Err(StreamError::Unavailable(_))));
    }
    rig.bench.resume();
    connected(&rig.stream).await;
    let verdict = eventually(DEADLINE, "an admission", async || try_admit(&rig.stream).await).await;
    assert_admitted(verdict);
}

#[tokio::test]
async fn a_server_that_was_never_there_is_unavailable_at_once() {
    let stream = super::on_redis::open("redis://127.0.0.1:1/", ENOUGH);
    stream.trust_epoch(0, uuid::Uuid::new_v4());
    assert!(matches!(try_admit(&stream).await, Err(StreamError::Unavailable(_))));
    assert!(matches!(stream.reader(0, "lane").await, Err(StreamError::Unavailable(_))));
}

#[tokio::test]
async fn a_closed_connection_is_made_anew_without_a_call_finding_out() {
    let rig = Rig::<Redis>::start().await;
    run(&rig.bench, &["CLIENT", "KILL", "TYPE", "normal"]).await;
    let tight = Plan { name: "same".to_owned(), ..plan() };
    eventually(DEADLINE, "an admission", async || {
        let packed = batch(1);
        let admission = Admission { packed: &packed, plan: &tight, digest: None, awaited: false };
        rig.stream.admit(&admission).await
    })
    .await;
}
