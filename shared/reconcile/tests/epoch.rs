//! The epoch, against a real Redis that loses its data and a real PostgreSQL that does not.

mod rig;

use millrace_reconcile::epoch::{EpochCheck, reconcile};
use millrace_stream::Decision;
use testkit::eventually;

use crate::rig::{DEADLINE, Rig, answers, open};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_stream_and_store_agree_nothing_is_rebuilt() {
    let rig = Rig::start().await;
    assert!(matches!(rig.admit(3).await, Decision::Admitted { .. }));
    let before = (rig.stream.epoch(0).await.unwrap(), rig.counters().await);
    assert_eq!(reconcile(&*rig.stream, &*rig.store).await.unwrap(), EpochCheck::Agreement);
    assert_eq!((rig.stream.epoch(0).await.unwrap(), rig.counters().await), before);
    assert_eq!(before.0, rig.store.epoch(0).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wiped_stream_gets_its_quota_back_from_the_ledger() {
    let mut rig = Rig::start().await;
    assert!(matches!(rig.admit(30).await, Decision::Admitted { .. }));
    rig.settle(&rig.store_one("lane").await).await;
    let before = rig.counters().await;
    rig.redis.wipe_and_restart().await;
    answers(&rig.stream).await;
    assert_eq!(rig.admit(1).await, Decision::EpochChanged);
    assert_eq!(reconcile(&*rig.stream, &*rig.store).await.unwrap(), EpochCheck::Rebuild(1));
    assert_eq!(rig.counters().await, before);
    assert!(matches!(rig.admit(970).await, Decision::Admitted { .. }));
    assert!(matches!(rig.admit(1).await, Decision::QuotaExceeded { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_is_stored_and_still_pending_is_counted_once() {
    let rig = Rig::start().await;
    for count in [5, 7] {
        assert!(matches!(rig.admit(count).await, Decision::Admitted { .. }));
    }
    let stored = rig.store_one("lane").await;
    let before = rig.counters().await;
    assert_eq!((before.accepted, before.pending, before.used), (12, 12, 12));
    rig.in_redis("DEL", "{s0}:epoch").await;
    rig.in_redis("DEL", &format!("{{s0}}:project:{}", rig.project)).await;
    assert_eq!(reconcile(&*rig.stream, &*rig.store).await.unwrap(), EpochCheck::Rebuild(1));
    assert_eq!(rig.counters().await, before);
    rig.settle(&stored).await;
    rig.settle(&rig.store_one("lane").await).await;
    let after = rig.counters().await;
    assert_eq!((after.accepted, after.pending, after.used), (12, 0, 12));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_that_find_a_wiped_stream_end_with_one_epoch() {
    let rig = Rig::start().await;
    assert!(matches!(rig.admit(5).await, Decision::Admitted { .. }));
    rig.settle(&rig.store_one("lane").await).await;
    rig.in_redis("DEL", "{s0}:epoch").await;
    let mut streams = Vec::new();
    for _ in 0..6 {
        streams.push(open(&rig.redis).await);
    }
    let processes = streams.iter().map(async |stream| {
        eventually(DEADLINE, "an agreed epoch", async || match reconcile(&**stream, &*rig.store).await {
            Ok(EpochCheck::Agreement) => Ok(()),
            Ok(check) => Err(format!("{check:?}")),
            Err(error) => Err(error.to_string()),
        })
        .await;
    });
    futures_util::future::join_all(processes).await;
    let epoch = rig.stream.epoch(0).await.unwrap();
    assert!(epoch.is_some() && epoch == rig.store.epoch(0).await.unwrap());
    let now = rig.counters().await;
    assert_eq!((now.accepted, now.pending, now.used), (5, 0, 5));
}
