//! Promises about settling, and about the remembered state of a settled batch.

use std::time::Duration;

use millrace_stream::{Admission, BatchState, Decision, Outcome};

use super::*;

pub async fn a_settled_batch_is_remembered(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    for (digest, awaited) in [(Some([1; 16]), false), (None, true), (None, false)] {
        let batch = if digest.is_some() { keyed_batch(5) } else { batch(5) };
        let plan = plan();
        let admission = Admission { batch: &batch, plan: &plan, digest, awaited };
        assert_admitted(stream.admit(&admission).await.unwrap());
        let state = stream.batch_state(PROJECT, batch.batch_id).await.unwrap();
        assert_eq!(state, BatchState::Pending { project: PROJECT, count: 5 });
        let delivery = next_delivery(&stream, "lane").await;
        let outcome = Outcome { stored: 2, duplicate: 2, dead: 1, conflict: 1 };
        stream.settle(0, &[settlement_with(&delivery, outcome)]).await.unwrap();
        let kept = BatchState::Settled { project: PROJECT, outcome };
        assert_eq!(stream.batch_state(PROJECT, batch.batch_id).await.unwrap(), kept);
        // A client that lost the answer repeats the request after the batch was settled.
        let again = stream.admit(&admission).await.unwrap();
        assert!(matches!(again, Decision::Repeated { .. }), "{again:?}");
    }
}

pub async fn an_entry_that_is_settled_twice_is_refunded_once(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    assert_admitted(admit(&stream, &batch(10)).await);
    let delivery = next_delivery(&stream, "lane").await;
    let settlements = [settlement(&delivery, 2, 1)];
    assert_eq!(stream.settle(0, &settlements).await.unwrap(), 1);
    assert_eq!(stream.settle(0, &settlements).await.unwrap(), 0);
    let now = counters(&stream).await;
    assert_eq!((now.accepted, now.pending, now.used), (10, 0, 7));
}

pub async fn an_entry_that_two_lanes_settle_is_refunded_once(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let other = another(harness).await;
    for _ in 0..20 {
        assert_admitted(admit(&stream, &batch(10)).await);
    }
    let mut first = stream.reader(0, "first").await.unwrap();
    let mut second = other.reader(0, "second").await.unwrap();
    let read = first.next(20, Duration::ZERO).await.unwrap();
    let taken = second.take_over(Duration::ZERO, 20).await.unwrap();
    assert_eq!(taken.deliveries.len(), 20);
    let all: Vec<_> = read.iter().map(|delivery| settlement(delivery, 1, 0)).collect();
    let (one, two) = tokio::join!(settle_one_by_one(&stream, &all), settle_one_by_one(&other, &all));
    assert_eq!(one + two, 20);
    let now = counters(&stream).await;
    assert_eq!((now.accepted, now.pending, now.used), (200, 0, 180));
}

async fn settle_one_by_one(stream: &SharedStream, settlements: &[Settlement]) -> u64 {
    let mut settled = 0;
    for settlement in settlements {
        settled += stream.settle(0, std::slice::from_ref(settlement)).await.unwrap();
    }
    settled
}

pub async fn attempts_are_counted_until_they_are_forgotten(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    assert_admitted(admit(&stream, &batch(1)).await);
    let delivery = next_delivery(&stream, "lane").await;
    assert_eq!(stream.note_attempt(0, delivery.id).await.unwrap(), 1);
    assert_eq!(stream.note_attempt(0, delivery.id).await.unwrap(), 2);
    stream.forget_attempts(0, delivery.id).await.unwrap();
    assert_eq!(stream.note_attempt(0, delivery.id).await.unwrap(), 1);
    stream.settle(0, &[settlement(&delivery, 0, 0)]).await.unwrap();
    assert_eq!(stream.note_attempt(0, delivery.id).await.unwrap(), 1);
}
