//! The promises of every stream.

use std::time::Duration;

use millrace_event::plan::{Plan, month_of};
use millrace_stream::{
    Admission, Backlog, BatchState, Decision, EntryId, Outcome, ProjectCounters, SharedStream, StreamError,
};
use uuid::Uuid;

use super::bench::*;

/// Every promise, as tests of one implementation.
macro_rules! hold_to_the_suite {
    ($bench:ty: $($promise:ident)*) => {
        $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $promise() {
            crate::suite::$promise::<$bench>().await;
        })*
    };
    ($bench:ty) => {
        $crate::suite::hold_to_the_suite! { $bench:
            an_admitted_batch_is_delivered_as_it_was_packed
            a_known_batch_id_returns_its_first_answer_and_charges_nothing
            the_same_key_with_another_body_is_a_conflict
            a_refusal_changes_nothing
            the_quota_is_used_to_its_last_event
            a_batch_over_the_backlog_is_refused_until_there_is_room
            without_a_trusted_epoch_nothing_is_admitted_or_settled
            a_settled_batch_is_remembered_as_long_as_somebody_may_ask
            settling_twice_refunds_once
            two_lanes_that_settle_the_same_entry_refund_it_once
            a_silent_consumers_entries_are_taken_over_and_their_deliveries_counted
            what_was_handed_out_and_never_settled_is_read_again
            a_waiting_reader_is_woken_by_an_admission
            consumers_are_retired_only_when_nothing_is_pending_for_them
            attempts_are_counted_until_they_are_forgotten
            a_rebuild_replaces_the_counters_and_keeps_the_batches
            a_rebuild_is_refused_when_the_contents_have_moved
            a_fence_stops_every_process_and_yields_only_to_its_own_rebuild
            many_clients_with_retries_are_admitted_exactly_once_each
        }
    };
}
pub(crate) use hold_to_the_suite;

pub async fn an_admitted_batch_is_delivered_as_it_was_packed<B: Bench>() {
    let rig = Rig::<B>::start().await;
    let packed = batch(3);
    let received_ms = assert_admitted(admit(&rig.stream, &packed).await);
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    let deliveries = reader.next(10, Duration::ZERO).await.unwrap();
    assert_eq!(deliveries.len(), 1);
    assert_eq!((deliveries[0].id.ms, deliveries[0].delivered), (received_ms, 1));
    assert_eq!(deliveries[0].packed, Ok(packed.clone()));
    let backlog = rig.stream.backlog().await.unwrap();
    let bytes = packed.data.len() as u64;
    assert_eq!(
        Backlog { oldest_age_ms: 0, ..backlog },
        Backlog { entries: 1, events: 3, bytes, oldest_age_ms: 0 }
    );
    rig.stream.settle(0, &[settlement(&deliveries[0], 0, 0)]).await.unwrap();
    assert_eq!(rig.stream.backlog().await.unwrap(), Backlog::default());
    let now = counters(&rig.stream).await;
    assert_eq!((now.accepted, now.pending, now.used), (3, 0, 3));
}

pub async fn a_known_batch_id_returns_its_first_answer_and_charges_nothing<B: Bench>() {
    let rig = Rig::<B>::start().await;
    for digest in [None, Some([1; 16])] {
        let packed = batch(3);
        let plan = plan();
        let admission = Admission { packed: &packed, plan: &plan, digest, awaited: false };
        let first_ms = assert_admitted(rig.stream.admit(&admission).await.unwrap());
        let before = counters(&rig.stream).await;
        match rig.another().await.admit(&admission).await.unwrap() {
            Decision::Repeated { received_ms, limit_state } => {
                assert_eq!((received_ms, limit_state.used), (first_ms, before.used));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(counters(&rig.stream).await, before);
    }
    assert_eq!(rig.stream.backlog().await.unwrap().entries, 2);
}

pub async fn the_same_key_with_another_body_is_a_conflict<B: Bench>() {
    let rig = Rig::<B>::start().await;
    let packed = batch(3);
    assert_admitted(admit_keyed(&rig.stream, &packed, [1; 16]).await);
    assert!(matches!(admit_keyed(&rig.stream, &packed, [2; 16]).await, Decision::Conflict { .. }));
    drain(&rig.stream, "lane").await;
    assert!(matches!(admit_keyed(&rig.stream, &packed, [2; 16]).await, Decision::Conflict { .. }));
    assert!(matches!(admit_keyed(&rig.stream, &packed, [1; 16]).await, Decision::Repeated { .. }));
}

/// What a client or an operator could see of a change.
async fn visible(stream: &SharedStream) -> (ProjectCounters, u64, Vec<millrace_stream::PendingBatch>) {
    let tat_us = stream.limit_state(PROJECT).await.unwrap().tat_us;
    (counters(stream).await, tat_us, stream.pending_batches(0).await.unwrap())
}

pub async fn a_refusal_changes_nothing<B: Bench>() {
    let rig = Rig::<B>::start().await;
    let slow = Plan { requests_per_minute: 1, burst: 1, ..plan() };
    assert_admitted(admit_under(&rig.stream, &batch(8), &slow).await);
    let before = visible(&rig.stream).await;
    match admit_under(&rig.stream, &batch(1), &slow).await {
        Decision::RateLimited { wait_us, limit_state } => {
            assert_eq!((limit_state.tat_us, wait_us), (before.1, before.1 - limit_state.now_us));
        }
        other => panic!("{other:?}"),
    }
    let small = Plan { events_per_month: Some(10), ..plan() };
    let refused = admit_under(&rig.stream, &batch(3), &small).await;
    assert!(matches!(refused, Decision::QuotaExceeded { .. }), "{refused:?}");
    assert_eq!(visible(&rig.stream).await, before);
}

pub async fn the_quota_is_used_to_its_last_event<B: Bench>() {
    let rig = Rig::<B>::start().await;
    let small = Plan { events_per_month: Some(10), ..plan() };
    assert_admitted(admit_under(&rig.stream, &batch(9), &small).await);
    let refused = admit_under(&rig.stream, &batch(2), &small).await;
    assert!(
        matches!(refused, Decision::QuotaExceeded { limit_state } if limit_state.used == 9),
        "{refused:?}"
    );
    assert_admitted(admit_under(&rig.stream, &batch(1), &small).await);
    let refused = admit_under(&rig.stream, &batch(1), &small).await;
    assert!(
        matches!(refused, Decision::QuotaExceeded { limit_state } if limit_state.used == 10),
        "{refused:?}"
    );
}

pub async fn a_batch_over_the_backlog_is_refused_until_there_is_room<B: Bench>() {
    let rig = Rig::<B>::with_backlog(10).await;
    assert_admitted(admit(&rig.stream, &batch(8)).await);
    let before = visible(&rig.stream).await;
    assert!(matches!(admit(&rig.stream, &batch(3)).await, Decision::BacklogFull { .. }));
    assert_eq!(visible(&rig.stream).await, before);
    assert_admitted(admit(&rig.stream, &batch(2)).await);
    drain(&rig.stream, "lane").await;
    assert_admitted(admit(&rig.stream, &batch(10)).await);
}

pub async fn without_a_trusted_epoch_nothing_is_admitted_or_settled<B: Bench>() {
    let rig = Rig::<B>::start().await;
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    let delivery = reader.next(1, Duration::ZERO).await.unwrap().remove(0);
    let stranger = rig.bench.open(ENOUGH);
    connected(&stranger).await;
    for trusted in [None, Some(Uuid::new_v4())] {
        if let Some(epoch) = trusted {
            stranger.trust_epoch(0, epoch);
        }
        assert_eq!(admit(&stranger, &batch(1)).await, Decision::EpochChanged);
        let settled = stranger.settle(0, &[settlement(&delivery, 0, 0)]).await;
        assert!(matches!(settled, Err(StreamError::EpochChanged)), "{settled:?}");
    }
    assert_eq!(stranger.epoch(0).await.unwrap(), Some(rig.epoch));
    assert_eq!(rig.stream.settle(0, &[settlement(&delivery, 0, 0)]).await.unwrap(), 1);
}

pub async fn a_settled_batch_is_remembered_as_long_as_somebody_may_ask<B: Bench>() {
    let rig = Rig::<B>::start().await;
    for (digest, awaited) in [(Some([1; 16]), false), (None, true), (None, false)] {
        let (packed, plan) = (batch(5), plan());
        let admission = Admission { packed: &packed, plan: &plan, digest, awaited };
        assert_admitted(rig.stream.admit(&admission).await.unwrap());
        let state = rig.stream.batch_state(PROJECT, packed.batch_id).await.unwrap();
        assert_eq!(state, BatchState::Pending { project: PROJECT, count: 5 });
        let mut reader = rig.stream.reader(0, "lane").await.unwrap();
        let delivery = reader.next(1, Duration::ZERO).await.unwrap().remove(0);
        rig.stream.settle(0, &[settlement(&delivery, 2, 1)]).await.unwrap();
        let outcome = Outcome { stored: 2, duplicate: 2, dead: 1 };
        let kept = BatchState::Settled { project: PROJECT, outcome };
        assert_eq!(rig.stream.batch_state(PROJECT, packed.batch_id).await.unwrap(), kept);
        // Whoever lost the answer asks again, though a lane was faster.
        let again = rig.stream.admit(&admission).await.unwrap();
        assert!(matches!(again, Decision::Repeated { .. }), "{again:?}");
    }
}

pub async fn settling_twice_refunds_once<B: Bench>() {
    let rig = Rig::<B>::start().await;
    assert_admitted(admit(&rig.stream, &batch(10)).await);
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    let delivery = reader.next(1, Duration::ZERO).await.unwrap().remove(0);
    let settlements = [settlement(&delivery, 2, 1)];
    assert_eq!(rig.stream.settle(0, &settlements).await.unwrap(), 1);
    assert_eq!(rig.stream.settle(0, &settlements).await.unwrap(), 0);
    let now = counters(&rig.stream).await;
    assert_eq!((now.accepted, now.pending, now.used), (10, 0, 7));
}

pub async fn two_lanes_that_settle_the_same_entry_refund_it_once<B: Bench>() {
    let rig = Rig::<B>::start().await;
    let other = rig.another().await;
    for _ in 0..20 {
        assert_admitted(admit(&rig.stream, &batch(10)).await);
    }
    let mut first = rig.stream.reader(0, "first").await.unwrap();
    let mut second = other.reader(0, "second").await.unwrap();
    let read = first.next(20, Duration::ZERO).await.unwrap();
    let taken = second.take_over(Duration::ZERO, 20).await.unwrap();
    assert_eq!(taken.deliveries.len(), 20);
    let all: Vec<_> = read.iter().map(|delivery| settlement(delivery, 1, 0)).collect();
    let (one, two) = tokio::join!(
        async {
            let mut n = 0;
            for s in &all {
                n += rig.stream.settle(0, &[*s]).await.unwrap();
            }
            n
        },
        async {
            let mut n = 0;
            for s in &all {
                n += other.settle(0, &[*s]).await.unwrap();
            }
            n
        },
    );
    assert_eq!(one + two, 20);
    let now = counters(&rig.stream).await;
    assert_eq!((now.accepted, now.pending, now.used), (200, 0, 180));
}

pub async fn a_silent_consumers_entries_are_taken_over_and_their_deliveries_counted<B: Bench>() {
    let rig = Rig::<B>::start().await;
    for _ in 0..25 {
        assert_admitted(admit(&rig.stream, &batch(1)).await);
    }
    let mut dead = rig.stream.reader(0, "dead").await.unwrap();
    assert_eq!(dead.next(100, Duration::ZERO).await.unwrap().len(), 25);
    let mut heir = rig.stream.reader(0, "heir").await.unwrap();
    let none = heir.take_over(Duration::from_secs(3_600), 100).await.unwrap();
    assert!(none.deliveries.is_empty());
    let some = heir.take_over(Duration::ZERO, 10).await.unwrap();
    assert_eq!(some.deliveries.len(), 10);
    assert!(some.deliveries.iter().all(|delivery| delivery.delivered == 2));
    let all = heir.take_over(Duration::ZERO, 100).await.unwrap();
    assert_eq!(all.deliveries.len(), 25);
    assert_eq!((all.deliveries[0].delivered, all.deliveries[24].delivered), (3, 2));
    assert!(all.vanished.is_empty());
    let settlements: Vec<_> = all.deliveries.iter().map(|delivery| settlement(delivery, 0, 0)).collect();
    assert_eq!(rig.stream.settle(0, &settlements).await.unwrap(), 25);
}

pub async fn what_was_handed_out_and_never_settled_is_read_again<B: Bench>() {
    let rig = Rig::<B>::start().await;
    for _ in 0..5 {
        assert_admitted(admit(&rig.stream, &batch(1)).await);
    }
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    let handed: Vec<_> = reader.next(3, Duration::ZERO).await.unwrap().iter().map(|d| d.id).collect();
    drop(reader);
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    let mut again = Vec::new();
    let mut after = EntryId::default();
    loop {
        let page = reader.own_pending(after, 2).await.unwrap();
        let Some(last) = page.last() else { break };
        assert!(page.iter().all(|delivery| delivery.delivered == 2));
        after = last.id;
        again.extend(page.iter().map(|delivery| delivery.id));
    }
    assert_eq!(again, handed);
    assert_eq!(reader.next(10, Duration::ZERO).await.unwrap().len(), 2);
}

pub async fn a_waiting_reader_is_woken_by_an_admission<B: Bench>() {
    let rig = Rig::<B>::start().await;
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    let wait = tokio::spawn(async move {
        loop {
            let deliveries = reader.next(1, Duration::from_secs(5)).await.unwrap();
            if !deliveries.is_empty() {
                return deliveries;
            }
        }
    });
    let packed = batch(1);
    assert_admitted(admit(&rig.stream, &packed).await);
    assert_eq!(wait.await.unwrap()[0].packed, Ok(packed));
}

pub async fn consumers_are_retired_only_when_nothing_is_pending_for_them<B: Bench>() {
    let rig = Rig::<B>::start().await;
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    let mut busy = rig.stream.reader(0, "busy").await.unwrap();
    let handed = busy.next(1, Duration::ZERO).await.unwrap();
    let mut idle = rig.stream.reader(0, "idle").await.unwrap();
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    let done = idle.next(1, Duration::ZERO).await.unwrap().remove(0);
    rig.stream.settle(0, &[settlement(&done, 0, 0)]).await.unwrap();
    assert_eq!(rig.stream.retire_consumers(0, Duration::from_secs(3_600)).await.unwrap(), 0);
    assert_eq!(rig.stream.retire_consumers(0, Duration::ZERO).await.unwrap(), 1);
    busy.leave().await.unwrap();
    let pending = busy.own_pending(EntryId::default(), 10).await.unwrap();
    assert_eq!(pending[0].id, handed[0].id);
    rig.stream.settle(0, &[settlement(&pending[0], 0, 0)]).await.unwrap();
    busy.leave().await.unwrap();
    assert_eq!(rig.stream.retire_consumers(0, Duration::ZERO).await.unwrap(), 0);
}

pub async fn attempts_are_counted_until_they_are_forgotten<B: Bench>() {
    let rig = Rig::<B>::start().await;
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    let delivery = reader.next(1, Duration::ZERO).await.unwrap().remove(0);
    assert_eq!(rig.stream.note_attempt(0, delivery.id).await.unwrap(), 1);
    assert_eq!(rig.stream.note_attempt(0, delivery.id).await.unwrap(), 2);
    rig.stream.forget_attempts(0, delivery.id).await.unwrap();
    assert_eq!(rig.stream.note_attempt(0, delivery.id).await.unwrap(), 1);
    rig.stream.settle(0, &[settlement(&delivery, 0, 0)]).await.unwrap();
    assert_eq!(rig.stream.note_attempt(0, delivery.id).await.unwrap(), 1);
}

pub async fn a_rebuild_replaces_the_counters_and_keeps_the_batches<B: Bench>() {
    let rig = Rig::<B>::start().await;
    let packed = batch(4);
    assert_admitted(admit(&rig.stream, &packed).await);
    let month = month_of(rig.stream.limit_state(PROJECT).await.unwrap().now_us);
    let given = ProjectCounters { project: PROJECT, accepted: 104, pending: 4, month, used: 54 };
    let epoch = Uuid::new_v4();
    rebuilt(&rig.stream, epoch, &[given]).await;
    assert_eq!(counters(&rig.stream).await, given);
    assert_eq!(rig.stream.epoch(0).await.unwrap(), Some(epoch));
    let limit_state = rig.stream.limit_state(PROJECT).await.unwrap();
    assert_eq!(limit_state.requests_left(&plan()), u64::from(plan().burst));
    assert!(matches!(admit(&rig.stream, &packed).await, Decision::Repeated { .. }));
    assert_eq!(rig.stream.backlog().await.unwrap().events, 4);
    assert_eq!(drain(&rig.stream, "lane").await.len(), 1);
    assert_eq!(counters(&rig.stream).await, ProjectCounters { pending: 0, ..given });
}

pub async fn a_rebuild_is_refused_when_the_contents_have_moved<B: Bench>() {
    let rig = Rig::<B>::start().await;
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    let counted = rig.stream.pending_batches(0).await.unwrap();
    assert_admitted(admit(&rig.stream, &batch(1)).await);
    let before = counters(&rig.stream).await;
    let epoch = Uuid::new_v4();
    rig.stream.fence(0, epoch).await.unwrap();
    assert!(!rig.stream.rebuild(0, epoch, &[], &counted).await.unwrap());
    assert_eq!(counters(&rig.stream).await, before);
    assert_eq!(rig.stream.epoch(0).await.unwrap(), None);
}

pub async fn a_fence_stops_every_process_and_yields_only_to_its_own_rebuild<B: Bench>() {
    let rig = Rig::<B>::start().await;
    let (slow, fast) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(!rig.stream.rebuild(0, slow, &[], &[]).await.unwrap(), "without a fence");
    rig.stream.fence(0, slow).await.unwrap();
    assert_eq!(admit(&rig.stream, &batch(1)).await, Decision::EpochChanged);
    rig.another().await.fence(0, fast).await.unwrap();
    assert!(!rig.stream.rebuild(0, slow, &[], &[]).await.unwrap());
    assert!(rig.stream.rebuild(0, fast, &[], &[]).await.unwrap());
    assert_eq!(rig.stream.epoch(0).await.unwrap(), Some(fast));
}

pub async fn many_clients_with_retries_are_admitted_exactly_once_each<B: Bench>() {
    const CLIENTS: u64 = 16;
    const BATCHES: u64 = 25;
    const QUOTA: u64 = 1_000;
    let rig = Rig::<B>::start().await;
    let limited = Plan { events_per_month: Some(QUOTA), ..plan() };
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let (stream, plan) = (rig.another().await, limited.clone());
        clients.spawn(async move {
            let (mut admitted, mut events) = (0, 0);
            for number in 0..BATCHES {
                let packed = batch(3);
                let mut first = None;
                for _retry in 0..=(client + number) % 3 {
                    match admit_under(&stream, &packed, &plan).await {
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
    let pending = rig.stream.pending_batches(0).await.unwrap();
    assert_eq!(pending.len() as u64, admitted);
    assert_eq!(pending.iter().map(|batch| u64::from(batch.count)).sum::<u64>(), events);
    let now = counters(&rig.stream).await;
    assert_eq!((now.accepted, now.pending.unsigned_abs(), now.used), (events, events, events));
}
