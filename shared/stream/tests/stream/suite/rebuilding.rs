//! Promises about epochs, fences and rebuilds.

use millrace_event::plan::month_of;
use millrace_stream::{Decision, ProjectCounters, StreamError};
use uuid::Uuid;

use super::*;

pub async fn nothing_is_admitted_or_settled_without_the_trusted_epoch(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    assert_admitted(admit(&stream, &batch(1)).await);
    let delivery = next_delivery(&stream, "lane").await;
    let other = harness.open(ENOUGH);
    connected(&other).await;
    for trusted in [None, Some(Uuid::new_v4())] {
        if let Some(epoch) = trusted {
            other.trust_epoch(0, epoch);
        }
        assert_eq!(admit(&other, &batch(1)).await, Decision::EpochChanged);
        let settled = other.settle(0, &[settlement(&delivery, 0, 0)]).await;
        assert!(matches!(settled, Err(StreamError::EpochChanged)), "{settled:?}");
    }
    assert_eq!(other.epoch(0).await.unwrap(), Some(EPOCH));
    assert_eq!(stream.settle(0, &[settlement(&delivery, 0, 0)]).await.unwrap(), 1);
}

pub async fn a_rebuild_replaces_the_counters_and_keeps_the_batches(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let batch = batch(4);
    assert_admitted(admit(&stream, &batch).await);
    let month = month_of(stream.limit_state(PROJECT).await.unwrap().now_us);
    let given = ProjectCounters { project: PROJECT, accepted: 104, pending: 4, month, used: 54 };
    let epoch = Uuid::new_v4();
    rebuilt(&stream, epoch, &[given]).await;
    assert_eq!(counters(&stream).await, given);
    assert_eq!(stream.epoch(0).await.unwrap(), Some(epoch));
    let limit_state = stream.limit_state(PROJECT).await.unwrap();
    assert_eq!(limit_state.requests_left(&plan()), u64::from(plan().burst));
    assert!(matches!(admit(&stream, &batch).await, Decision::Repeated { .. }));
    assert_eq!(stream.backlog().await.unwrap().events, 4);
    assert_eq!(drain(&stream, "lane").await.len(), 1);
    assert_eq!(counters(&stream).await, ProjectCounters { pending: 0, ..given });
}

pub async fn a_rebuild_is_refused_when_the_entries_have_changed(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    assert_admitted(admit(&stream, &batch(1)).await);
    let counted = stream.pending_batches(0).await.unwrap();
    assert_admitted(admit(&stream, &batch(1)).await);
    let before = counters(&stream).await;
    let epoch = Uuid::new_v4();
    stream.fence(0, epoch).await.unwrap();
    assert!(!stream.rebuild(0, epoch, &[], &counted, EntryId::default()).await.unwrap());
    assert_eq!(counters(&stream).await, before);
    assert_eq!(stream.epoch(0).await.unwrap(), None);
}

pub async fn a_fence_stops_every_process_until_its_own_rebuild(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let (slow, fast) = (Uuid::new_v4(), Uuid::new_v4());
    assert!(!stream.rebuild(0, slow, &[], &[], EntryId::default()).await.unwrap(), "without a fence");
    stream.fence(0, slow).await.unwrap();
    assert_eq!(admit(&stream, &batch(1)).await, Decision::EpochChanged);
    another(harness).await.fence(0, fast).await.unwrap();
    assert!(!stream.rebuild(0, slow, &[], &[], EntryId::default()).await.unwrap());
    assert!(stream.rebuild(0, fast, &[], &[], EntryId::default()).await.unwrap());
    assert_eq!(stream.epoch(0).await.unwrap(), Some(fast));
}
