//! Promises about admission.

use std::time::Duration;

use futures_util::future::join_all;
use millrace_event::entry::NewBatch;
use millrace_event::plan::Plan;
use millrace_stream::{Admission, Backlog, Decision, PendingBatch, ProjectCounters, SharedStream};

use uuid::Uuid;

use super::*;

pub async fn an_admitted_batch_is_delivered_as_it_was(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let batch = batch(3);
    let received_ms = assert_admitted(admit(&stream, &batch).await);
    let mut reader = stream.reader(0, "lane").await.unwrap();
    let deliveries = reader.next(10, Duration::ZERO).await.unwrap();
    assert_eq!(deliveries.len(), 1);
    assert_eq!((deliveries[0].id.ms, deliveries[0].delivered), (received_ms, 1));
    let entry = deliveries[0].entry.clone().unwrap();
    let delivered = entry.unpack().unwrap();
    let found: Vec<_> =
        delivered.iter().map(|(batch, rows)| (batch.batch_id, batch.project, &rows[..])).collect();
    assert_eq!(found, [(batch.batch_id, PROJECT, &rows_of(batch.batch_id, 3)[..])]);
    let backlog = stream.backlog().await.unwrap();
    let bytes = entry.data.len() as u64;
    assert_eq!(
        Backlog { oldest_age_ms: 0, ..backlog },
        Backlog { entries: 1, events: 3, bytes, oldest_age_ms: 0 }
    );
    stream.settle(0, &[settlement(&deliveries[0], 0, 0)]).await.unwrap();
    assert_eq!(stream.backlog().await.unwrap(), Backlog::default());
    let now = counters(&stream).await;
    assert_eq!((now.accepted, now.pending, now.used), (3, 0, 3));
}

pub async fn batches_that_are_admitted_at_the_same_time_share_entries(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let small: Vec<_> = (1..=40).map(batch).collect();
    // With a frame of its own.
    let large = NewBatch::new(Uuid::now_v7(), PROJECT, 7, b"a large batch".repeat(20_000));
    let all: Vec<_> = small.iter().chain([&large]).collect();
    let decisions = join_all(all.iter().map(|batch| admit(&stream, batch))).await;
    for decision in decisions {
        assert_admitted(decision);
    }
    let deliveries = drain(&stream, "lane").await;
    assert!(deliveries.len() < all.len(), "{} entries", deliveries.len());
    let mut rows = Vec::new();
    for delivery in &deliveries {
        rows.extend(delivery.entry.as_ref().unwrap().unpack().unwrap());
    }
    let found: Vec<_> =
        rows.iter().map(|(batch, rows)| (batch.batch_id, batch.count, rows.clone())).collect();
    let mut expected: Vec<_> = small
        .iter()
        .map(|batch| (batch.batch_id, batch.count, rows_of(batch.batch_id, batch.count).into()))
        .collect();
    expected.push((large.batch_id, 7, b"a large batch".repeat(20_000).into()));
    assert_eq!(found, expected, "in the order in which they were admitted");
    assert_eq!(stream.backlog().await.unwrap(), Backlog::default());
    let now = counters(&stream).await;
    assert_eq!((now.accepted, now.pending, now.used), (827, 0, 827));
}

pub async fn a_repeated_batch_id_returns_the_first_answer_and_charges_nothing(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    for digest in [None, Some([1; 16])] {
        let batch = if digest.is_some() { keyed_batch(3) } else { batch(3) };
        let plan = plan();
        let admission = Admission { batch: &batch, plan: &plan, digest, awaited: false };
        let first_ms = assert_admitted(stream.admit(&admission).await.unwrap());
        let before = counters(&stream).await;
        match another(harness).await.admit(&admission).await.unwrap() {
            Decision::Repeated { received_ms, limit_state } => {
                assert_eq!((received_ms, limit_state.used), (first_ms, before.used));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(counters(&stream).await, before);
    }
    assert_eq!(stream.backlog().await.unwrap().entries, 2);
}

pub async fn the_same_key_with_another_body_is_a_conflict(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let batch = keyed_batch(3);
    assert_admitted(admit_keyed(&stream, &batch, [1; 16]).await);
    assert!(matches!(admit_keyed(&stream, &batch, [2; 16]).await, Decision::Conflict { .. }));
    drain(&stream, "lane").await;
    assert!(matches!(admit_keyed(&stream, &batch, [2; 16]).await, Decision::Conflict { .. }));
    assert!(matches!(admit_keyed(&stream, &batch, [1; 16]).await, Decision::Repeated { .. }));
}

/// The counters, the limit state and the pending batches.
async fn observable_state(stream: &SharedStream) -> (ProjectCounters, u64, Vec<PendingBatch>) {
    let tat_us = stream.limit_state(PROJECT).await.unwrap().tat_us;
    (counters(stream).await, tat_us, stream.pending_batches(0).await.unwrap())
}

pub async fn a_refusal_changes_nothing(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let slow = Plan { requests_per_minute: 1, burst: 1, ..plan() };
    assert_admitted(admit_under(&stream, &batch(8), &slow).await);
    let before = observable_state(&stream).await;
    match admit_under(&stream, &batch(1), &slow).await {
        Decision::RateLimited { wait_us, limit_state } => {
            assert_eq!((limit_state.tat_us, wait_us), (before.1, before.1 - limit_state.now_us));
        }
        other => panic!("{other:?}"),
    }
    let small = Plan { events_per_month: Some(10), ..plan() };
    let refused = admit_under(&stream, &batch(3), &small).await;
    assert!(matches!(refused, Decision::QuotaExceeded { .. }), "{refused:?}");
    assert_eq!(observable_state(&stream).await, before);
}

pub async fn the_quota_can_be_used_to_its_last_event(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let small = Plan { events_per_month: Some(10), ..plan() };
    assert_admitted(admit_under(&stream, &batch(9), &small).await);
    let refused = admit_under(&stream, &batch(2), &small).await;
    assert!(
        matches!(refused, Decision::QuotaExceeded { limit_state } if limit_state.used == 9),
        "{refused:?}"
    );
    assert_admitted(admit_under(&stream, &batch(1), &small).await);
    let refused = admit_under(&stream, &batch(1), &small).await;
    assert!(
        matches!(refused, Decision::QuotaExceeded { limit_state } if limit_state.used == 10),
        "{refused:?}"
    );
}

pub async fn a_batch_that_exceeds_the_backlog_is_refused_until_there_is_room(harness: &dyn Harness) {
    let stream = trusted_stream_with_backlog(harness, 10).await;
    assert_admitted(admit(&stream, &batch(8)).await);
    let before = observable_state(&stream).await;
    assert!(matches!(admit(&stream, &batch(3)).await, Decision::BacklogFull { .. }));
    assert_eq!(observable_state(&stream).await, before);
    assert_admitted(admit(&stream, &batch(2)).await);
    drain(&stream, "lane").await;
    assert_admitted(admit(&stream, &batch(10)).await);
}

pub async fn every_batch_of_many_retrying_clients_is_admitted_once(harness: &dyn Harness) {
    const CLIENTS: u64 = 16;
    const BATCHES: u64 = 25;
    const QUOTA: u64 = 1_000;
    let stream = trusted_stream(harness).await;
    let limited = Plan { events_per_month: Some(QUOTA), ..plan() };
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (stream, plan) = (another(harness).await, limited.clone());
        clients.spawn(async move {
            let (mut admitted, mut events) = (0, 0);
            for number in 0..BATCHES {
                let batch = batch(3);
                let mut first = None;
                for _retry in 0..=(client + number) % 3 {
                    match admit_under(&stream, &batch, &plan).await {
                        Decision::Admitted { received_ms, .. } => {
                            assert_eq!(first.replace(received_ms), None);
                            (admitted, events) = (admitted + 1, events + 3);
                        }
                        Decision::Repeated { received_ms, .. } => assert_eq!(first, Some(received_ms)),
                        Decision::QuotaExceeded { .. } => assert_eq!(first, None),
                        other => panic!("{other:?}"),
                    }
                }
            }
            (admitted, events)
        });
    }
    let (mut admitted, mut events) = (0_u64, 0);
    while let Some(client) = clients.join_next().await {
        let (batches, in_them) = client.unwrap();
        (admitted, events) = (admitted + batches, events + in_them);
    }
    assert_eq!(events, QUOTA / 3 * 3, "the quota is used to the last batch that fits");
    let pending = stream.pending_batches(0).await.unwrap();
    assert_eq!(pending.len() as u64, admitted);
    assert_eq!(pending.iter().map(|batch| u64::from(batch.count)).sum::<u64>(), events);
    let now = counters(&stream).await;
    assert_eq!((now.accepted, now.pending.unsigned_abs(), now.used), (events, events, events));
}
