//! Promises about where a shard stands.

use uuid::Uuid;

use super::*;

pub async fn a_stream_stands_at_the_last_entry_that_was_acknowledged(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let before = stream.witness(0).await.unwrap();
    assert_eq!(
        (before.epoch, before.trusted, before.acknowledged),
        (Some(EPOCH), Some(EPOCH), EntryId::default())
    );
    for count in 1..=3 {
        let received_ms = assert_admitted(admit(&stream, &batch(count)).await);
        let witness = stream.witness(0).await.unwrap();
        assert_eq!((witness.last, witness.acknowledged.ms), (witness.acknowledged, received_ms));
        assert_eq!(witness.missing, []);
    }
    let last = drain(&stream, "lane").await.last().unwrap().id;
    let drained = stream.witness(0).await.unwrap();
    assert_eq!((drained.last, drained.acknowledged, drained.missing), (last, last, vec![]));
}

pub async fn a_rebuilt_shard_continues_above_the_floor(harness: &dyn Harness) {
    let stream = trusted_stream(harness).await;
    let received_ms = assert_admitted(admit(&stream, &batch(1)).await);
    let floor = EntryId { ms: received_ms + 60_000, seq: 7 };
    let (epoch, pending) = (Uuid::new_v4(), stream.pending_batches(0).await.unwrap());
    stream.fence(0, epoch).await.unwrap();
    assert!(stream.rebuild(0, epoch, &[], &pending, floor).await.unwrap());
    assert!(stream.witness(0).await.unwrap().last > floor);
    stream.trust_epoch(0, epoch);
    assert_admitted(admit(&stream, &batch(1)).await);
    let ids: Vec<_> = drain(&stream, "lane").await.iter().map(|delivery| delivery.id).collect();
    assert!(ids.len() == 2 && ids[1] > floor, "{ids:?}");
}
