//! Limits of customers.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use millrace_event::limit::{Amount, Charge, Counter, CounterState, LimitedCharge, Period, Refund};
use millrace_event::meter::MeterId;
use millrace_event::plan::Plan;

use super::*;

pub fn counter(meter: i64, period: Period, subject: &str) -> Counter {
    Counter { meter: MeterId(meter), period, subject: subject.to_owned() }
}

/// The monthly use of a meter by a customer.
pub fn monthly(subject: &str) -> Counter {
    counter(1, Period::Month, subject)
}

pub fn amount(text: &str) -> Amount {
    Amount::parse(text).unwrap()
}

/// A charge of one event for each amount.
pub fn charged(counter: Counter, limit: &str, amounts: &[&str]) -> LimitedCharge {
    let events = (0..).zip(amounts.iter().map(|text| amount(text))).collect();
    LimitedCharge { charge: Charge { counter, events }, limit: amount(limit) }
}

/// A batch with one charge.
fn taking(subject: &str, limit: &str, amounts: &[&str]) -> NewBatch {
    batch(amounts.len() as u32).with_charges(vec![charged(monthly(subject), limit, amounts)])
}

pub async fn used(stream: &SharedStream, counter: Counter) -> Amount {
    stream.limits_used(PROJECT, &[counter]).await.unwrap().1[0]
}

/// The settlement of a batch with this refund.
pub fn refunding(delivery: &Delivery, counter: Counter, units: &str) -> Settlement {
    let refund = Refund { counter, amount: amount(units) };
    Settlement { refunds: vec![(0, refund)], ..settlement(delivery, 1, 0) }
}

#[track_caller]
fn assert_over(decision: &Decision, expected: &[&str]) {
    let Decision::LimitExceeded { used, .. } = decision else { panic!("{decision:?}") };
    assert_eq!(*used, expected.iter().map(|text| amount(text)).collect::<Vec<_>>());
}

pub async fn a_limit_can_be_used_to_its_last_billionth(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let most = "999999999999999.999999999";
    assert_admitted(admit(&stream, &taking("acme", most, &["999999999999998.5", "1.499999998"])).await);
    assert_eq!(used(&stream, monthly("acme")).await, amount("999999999999999.999999998"));
    assert_over(
        &admit(&stream, &taking("acme", most, &["0.000000002"])).await,
        &["999999999999999.999999998"],
    );
    assert_admitted(admit(&stream, &taking("acme", most, &["0.000000001"])).await);
    assert_over(&admit(&stream, &taking("acme", most, &["0.000000001"])).await, &[most]);
    assert_admitted(admit(&stream, &taking("other", "1", &["1"])).await);
}

pub async fn a_batch_over_one_of_its_limits_charges_nothing(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    assert_admitted(admit(&stream, &taking("full", "5", &["5"])).await);
    let before = (counters(&stream).await, stream.backlog().await.unwrap().events);
    let both = batch(2).with_charges(vec![
        charged(counter(1, Period::Day, "free"), "5", &["1"]),
        charged(monthly("full"), "5", &["1"]),
    ]);
    assert_over(&admit(&stream, &both).await, &["0", "5"]);
    assert_eq!((counters(&stream).await, stream.backlog().await.unwrap().events), before);
    assert_eq!(used(&stream, counter(1, Period::Day, "free")).await, Amount::ZERO);
    assert_admitted(admit(&stream, &both.clone().with_charges(Vec::new())).await);
}

pub async fn a_repeated_batch_is_charged_to_limits_once(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let all = taking("acme", "3", &["3"]);
    assert_admitted(admit_keyed(&stream, &all, [1; 16]).await);
    assert!(matches!(admit_keyed(&stream, &all, [1; 16]).await, Decision::Repeated { .. }));
    assert_eq!(used(&stream, monthly("acme")).await, amount("3"));
}

pub async fn charges_are_delivered_with_their_batch(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let (charged, plain) = (taking("acme", "9", &["1.5", "2"]), batch(1));
    assert_admitted(admit(&stream, &plain).await);
    assert_admitted(admit(&stream, &charged).await);
    let pending = stream.pending_charges(0).await.unwrap();
    let expected = charged.charges[0].charge.clone();
    assert_eq!(pending.len(), 1);
    assert_eq!((pending[0].0.batch_id, &pending[0].1), (charged.batch_id, &vec![expected.clone()]));
    for delivery in drain(&stream, "lane").await {
        let entry = delivery.entry.unwrap();
        for batch in entry.admitted() {
            let of_batch =
                if batch.batch_id == charged.batch_id { vec![expected.clone()] } else { Vec::new() };
            assert_eq!(entry.charges_of(batch.batch_id), of_batch);
        }
    }
    assert_eq!(stream.pending_charges(0).await.unwrap(), []);
}

pub async fn what_was_not_stored_is_given_back_once(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    assert_admitted(admit(&stream, &taking("acme", "10", &["4.25", "5.75"])).await);
    let delivery = next_delivery(&stream, "lane").await;
    let settlement = refunding(&delivery, monthly("acme"), "5.75");
    assert_eq!(stream.settle(0, std::slice::from_ref(&settlement)).await.unwrap(), 1);
    assert_eq!(stream.settle(0, &[settlement]).await.unwrap(), 0);
    assert_eq!(used(&stream, monthly("acme")).await, amount("4.25"));
    assert_admitted(admit(&stream, &taking("acme", "10", &["5.75"])).await);
}

pub async fn a_limit_can_be_changed_while_it_is_used(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    assert_admitted(admit(&stream, &taking("acme", "10", &["8"])).await);
    assert_over(&admit(&stream, &taking("acme", "5", &["1"])).await, &["8"]);
    assert_admitted(admit(&stream, &taking("acme", "12", &["4"])).await);
    let daily = batch(1).with_charges(vec![charged(counter(1, Period::Day, "acme"), "1", &["1"])]);
    assert_admitted(admit(&stream, &daily).await);
    assert_eq!(used(&stream, monthly("acme")).await, amount("12"), "another period has its own counter");
}

pub async fn no_more_than_a_limit_is_admitted_from_any_number_of_processes(harness: &dyn Harness) {
    let first = trusted_stream(harness).await;
    let mut processes = vec![first];
    for _ in 0..3 {
        processes.push(another(harness).await);
    }
    let admitted = AtomicU64::new(0);
    let callers = (0..80).map(|caller| {
        let (stream, admitted) = (&processes[caller % processes.len()], &admitted);
        async move {
            let plan = Plan { events_per_month: None, ..plan() };
            match admit_under(stream, &taking("acme", "50.5", &["0.75", "0.75"]), &plan).await {
                Decision::Admitted { .. } => {
                    admitted.fetch_add(1, Ordering::Relaxed);
                }
                Decision::LimitExceeded { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    });
    join_all(callers).await;
    assert_eq!(admitted.into_inner(), 33);
    assert_eq!(used(&processes[1], monthly("acme")).await, amount("49.5"));
}

pub async fn a_rebuild_restores_limits_and_forgets_all_others(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    assert_admitted(admit(&stream, &taking("stale", "9", &["9"])).await);
    let now_us = stream.limit_state(PROJECT).await.unwrap().now_us;
    let epoch = Uuid::from_u128(2);
    let state = |counter: Counter, window, used| CounterState { counter, window, used: amount(used) };
    let this_month = Period::Month.window(now_us);
    let restored = [
        (PROJECT, state(monthly("acme"), this_month, "7.5")),
        (PROJECT, state(monthly("past"), this_month - 1, "9")),
    ];
    assert!(!stream.restore_limits(0, epoch, &restored).await.unwrap(), "the shard is not fenced");
    stream.fence(0, epoch).await.unwrap();
    assert!(!stream.restore_limits(0, EPOCH, &restored).await.unwrap(), "it is fenced under another epoch");
    assert!(stream.restore_limits(0, epoch, &restored).await.unwrap());
    let pending = stream.pending_batches(0).await.unwrap();
    let floor = stream.witness(0).await.unwrap().acknowledged;
    assert!(stream.rebuild(0, epoch, &[], &pending, floor).await.unwrap());
    stream.trust_epoch(0, epoch);
    for (subject, expected) in [("acme", "7.5"), ("past", "0"), ("stale", "0")] {
        assert_eq!(used(&stream, monthly(subject)).await, amount(expected), "{subject}");
    }
    assert_over(&admit(&stream, &taking("acme", "8", &["1"])).await, &["7.5"]);
    let delivery = next_delivery(&stream, "lane").await;
    let refund = refunding(&delivery, monthly("acme"), "2.6");
    assert_eq!(stream.settle(0, &[refund]).await.unwrap(), 1);
    assert_eq!(used(&stream, monthly("acme")).await, amount("4.9"), "a batch of the time before is refunded");
}
