//! A stream that went back in time: real servers that get an older copy of their data back.

mod rig;

use std::pin::pin;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use millrace_reconcile::epoch::{EpochCheck, EpochError, reconcile, reconcile_shard};
use millrace_store::sqlite::SqliteStore;
use millrace_store::{KeyOptions, PolicyChange, SharedStore};
use millrace_stream::embedded::{EmbeddedOptions, EmbeddedStream};
use millrace_stream::{Decision, Delivery, EntryId, SharedStream, StreamError};
use tempfile::TempDir;
use testkit::chaos::{Act, Call, ChaosProxy, Moment, Trap, Weather, Wire};
use testkit::{DataCopy, Redis, eventually};

use crate::rig::{DEADLINE, Rig, admit, answers, open, open_at, request_of, store_one};

/// Less than the time after which a marker may have expired.
const MARKER_KEPT: Duration = Duration::from_secs(10);

impl Rig {
    /// Stops the server for a moment, and copies its data.
    async fn copy(&mut self) -> DataCopy {
        self.redis.kill().await;
        let copy = self.redis.copy_data();
        self.redis.restart().await;
        answers(&self.stream).await;
        copy
    }

    async fn go_back_to(&mut self, copy: &DataCopy) {
        self.redis.kill().await;
        self.redis.restore_data(copy);
        self.redis.restart().await;
    }

    async fn must_refuse(&self) {
        must_refuse(&self.stream, &self.store).await;
    }
}

/// Waits for an answer to an admission, which must be that the shard is not trusted. Afterwards every
/// connection answers: an admission can also be refused while some, or all, are still being made again.
async fn must_refuse(stream: &SharedStream, store: &SharedStore) {
    let project = store.projects().await.unwrap()[0].project;
    let decision = eventually(DEADLINE, "a decision", async || admit(stream, project, 1).await).await;
    assert_eq!(decision, Decision::EpochChanged);
    answers(stream).await;
}

/// Batches and events that are lost and not reviewed.
async fn lost(store: &SharedStore) -> (u64, u64) {
    let hours = store.lost_batches().await.unwrap();
    let open = hours.iter().filter(|hour| !hour.reviewed);
    open.fold((0, 0), |(batches, events), hour| (batches + hour.batches, events + hour.events))
}

async fn agree(stream: &SharedStream, store: &SharedStore) {
    assert_eq!(reconcile(&**stream, &**store).await.unwrap(), EpochCheck::Agreement);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_copy_is_not_trusted_and_every_batch_that_it_lacks_is_named() {
    let mut rig = Rig::start().await;
    assert!(matches!(rig.admit(3).await, Decision::Admitted { .. }));
    rig.settle(&rig.store_one("lane").await).await;
    let copy = rig.copy().await;
    agree(&rig.stream, &rig.store).await;
    for count in [5, 7] {
        assert!(matches!(rig.admit(count).await, Decision::Admitted { .. }));
    }
    let epoch = rig.stream.epoch(0).await.unwrap();
    let held = store_of_a_lane(&rig).await;
    rig.go_back_to(&copy).await;
    rig.must_refuse().await;
    assert_eq!(rig.stream.epoch(0).await.unwrap(), epoch, "the epoch is that of the copy");
    assert_eq!(reconcile(&*rig.stream, &*rig.store).await.unwrap(), EpochCheck::Rebuild(1));
    assert_eq!(lost(&rig.store).await, (2, 12));
    let now = rig.counters().await;
    assert_eq!((now.accepted, now.pending, now.used), (3, 0, 3));
    agree(&rig.stream, &rig.store).await;
    assert!(matches!(rig.admit(1).await, Decision::Admitted { .. }));

    // A lane that still had an entry in memory commits it: it was not lost after all.
    held.write(&rig.store).await;
    assert_eq!(lost(&rig.store).await, (1, 7));
    assert_eq!(rig.store.review_lost_batches().await.unwrap(), 2);
    assert_eq!(lost(&rig.store).await, (0, 0));
    assert_eq!(rig.store.lost_batches().await.unwrap().iter().map(|hour| hour.events).sum::<u64>(), 7);
}

/// An entry that a lane has read and not stored.
struct HeldEntry(Delivery);

async fn store_of_a_lane(rig: &Rig) -> HeldEntry {
    let mut reader = rig.stream.reader(0, "lane").await.unwrap();
    HeldEntry(reader.next(1, Duration::ZERO).await.unwrap().remove(0))
}

impl HeldEntry {
    async fn write(&self, store: &SharedStore) {
        store.writer("lane").await.unwrap().write(&[request_of(&self.0)]).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_has_just_started_notices_by_the_ledger() {
    let mut rig = Rig::start().await;
    let copy = rig.copy().await;
    agree(&rig.stream, &rig.store).await;
    assert!(matches!(rig.admit(5).await, Decision::Admitted { .. }));
    let stored = rig.store_one("lane").await;
    rig.settle(&stored).await;
    rig.go_back_to(&copy).await;
    let started = open(&rig.redis).await;
    let refused = reconcile_shard(&*started, &*rig.store, 0, || false).await;
    assert!(matches!(refused, Err(EpochError::RolledBack { shard: 0 })), "{refused:?}");
    assert_eq!(reconcile(&*started, &*rig.store).await.unwrap(), EpochCheck::Rebuild(1));
    assert!(started.witness(0).await.unwrap().last > stored.id);
    assert_eq!(lost(&rig.store).await, (0, 0), "what is stored is not lost");
    agree(&started, &rig.store).await;
    rig.must_refuse().await;
    agree(&rig.stream, &rig.store).await;
    assert!(matches!(rig.admit(1).await, Decision::Admitted { .. }));
    let now = rig.counters().await;
    assert_eq!((now.accepted, now.pending, now.used), (6, 1, 6));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn missing_batches_are_noticed_after_another_process_has_admitted() {
    let mut rig = Rig::start().await;
    let copy = rig.copy().await;
    let proxy = ChaosProxy::start(([127, 0, 0, 1], rig.redis.port()).into(), Wire::Redis).await;
    let slow = open_at(format!("redis://{}/0", proxy.address())).await;
    agree(&slow, &rig.store).await;
    assert!(matches!(admit(&slow, rig.project, 5).await.unwrap(), Decision::Admitted { .. }));
    let acknowledged_at = Instant::now();
    proxy.set(Weather::Refuse);
    rig.go_back_to(&copy).await;
    let fast = open(&rig.redis).await;
    agree(&fast, &rig.store).await;
    assert!(matches!(admit(&fast, rig.project, 2).await.unwrap(), Decision::Admitted { .. }));
    proxy.heal();
    answers(&slow).await;
    if acknowledged_at.elapsed() < MARKER_KEPT {
        must_refuse(&slow, &rig.store).await;
    }
    let witness = slow.witness(0).await.unwrap();
    assert!(witness.last >= witness.acknowledged, "the position alone proves nothing");
    assert_eq!(witness.missing.len(), 1);
    assert_eq!(reconcile(&*slow, &*rig.store).await.unwrap(), EpochCheck::Rebuild(1));
    assert_eq!(lost(&rig.store).await, (1, 5));
    let now = slow.counters(&[rig.project]).await.unwrap()[0];
    assert_eq!((now.accepted, now.pending), (2, 2), "what was admitted since is kept");
    agree(&slow, &rig.store).await;
}

/// The request reads the epoch while the old server is still trusted, waits for the call before it, and is
/// sent when the address leads to a server with an older copy.
#[tokio::test]
async fn a_batch_that_waited_while_the_stream_went_back_is_not_admitted() {
    let mut rig = Rig::start().await;
    let copy = rig.copy().await;
    agree(&rig.stream, &rig.store).await;
    let mut restored = Redis::start().await;
    restored.kill().await;
    restored.restore_data(&copy);
    restored.restart().await;
    let proxy = ChaosProxy::start(([127, 0, 0, 1], rig.redis.port()).into(), Wire::Redis).await;
    let stream = open_at(format!("redis://{}/0", proxy.address())).await;
    agree(&stream, &rig.store).await;
    assert!(matches!(admit(&stream, rig.project, 5).await.unwrap(), Decision::Admitted { .. }));
    // The last command of every shared connection is known.
    for _ in 0..SHARED_CONNECTIONS_MAX {
        stream.forget_attempts(0, EntryId::default()).await.unwrap();
    }
    let held = proxy.arm(Trap::first(Moment::Reply(Call::named("EVALSHA").containing(":batch:")), Act::Hold));
    let mut under_way = pin!(admit(&stream, rig.project, 7));
    eventually(DEADLINE, "the first call to be under way", async || {
        assert!(under_way.as_mut().now_or_never().is_none());
        if held.sprung() { Ok(()) } else { Err("no answer is held") }
    })
    .await;
    let mut waiting = pin!(admit(&stream, rig.project, 1));
    assert!(waiting.as_mut().now_or_never().is_none());

    proxy.lead_to(([127, 0, 0, 1], restored.port()).into());
    cut_connections_after(&rig.redis, "hdel").await;
    eventually(DEADLINE, "a connection to the older copy", async || {
        match stream.limit_state(rig.project).await {
            Ok(state) if state.used == 0 => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    proxy.cut_held();
    let (answered, decision) = tokio::join!(under_way, waiting);
    assert!(answered.is_err(), "{answered:?}");
    assert!(
        matches!(decision, Ok(Decision::EpochChanged) | Err(StreamError::Unavailable(_))),
        "{decision:?}"
    );
    let mut length = redis::cmd("XLEN");
    let entries = length.arg("{s0}:events").query_async::<u64>(&mut restored.connect().await).await;
    assert_eq!(entries, Ok(0));
}

/// At least as many as a stream has.
const SHARED_CONNECTIONS_MAX: usize = 64;

/// Cuts the connections whose last command was this one.
async fn cut_connections_after(redis: &Redis, command: &str) {
    let mut list = redis::cmd("CLIENT");
    let clients: String = list.arg("LIST").query_async(&mut redis.connect().await).await.unwrap();
    let last = format!("cmd={command}");
    for client in clients.lines().filter(|client| client.split(' ').any(|field| field == last)) {
        let id = client.split(' ').find_map(|field| field.strip_prefix("id=")).unwrap();
        redis.run(&["CLIENT", "KILL", "ID", id]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_wiped_stream_lost_is_named_whichever_process_rebuilds_it() {
    let rig = Rig::start().await;
    let another = open(&rig.redis).await;
    agree(&another, &rig.store).await;
    let mut batches = 0;
    for (first, second) in [(&rig.stream, &another), (&another, &rig.stream)] {
        assert!(matches!(rig.admit(3).await, Decision::Admitted { .. }));
        rig.settle(&rig.store_one("lane").await).await;
        assert!(matches!(rig.admit(5).await, Decision::Admitted { .. }));
        rig.redis.run(&["FLUSHALL"]).await;
        assert_eq!(reconcile(&**first, &*rig.store).await.unwrap(), EpochCheck::Rebuild(1));
        agree(second, &rig.store).await;
        batches += 1;
        assert_eq!(lost(&rig.store).await, (batches, 5 * batches));
    }
    assert!(matches!(rig.admit(1).await, Decision::Admitted { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settled_batch_that_the_stream_has_forgotten_is_not_called_lost() {
    let mut rig = Rig::start().await;
    assert!(matches!(rig.admit(4).await, Decision::Admitted { .. }));
    let stored = rig.store_one("lane").await;
    rig.settle(&stored).await;
    let batch_id = request_of(&stored).batch_id;
    rig.in_redis("DEL", &format!("{{s0}}:batch:{batch_id}")).await;
    rig.redis.restart().await;
    answers(&rig.stream).await;
    let before = rig.stream.epoch(0).await.unwrap();
    agree(&rig.stream, &rig.store).await;
    assert_eq!(rig.stream.epoch(0).await.unwrap(), before);
    assert_eq!(lost(&rig.store).await, (0, 0));
    assert!(matches!(rig.admit(1).await, Decision::Admitted { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relaxed_stream_that_lost_its_last_writes_is_not_trusted() {
    let mut rig = Rig::start_on(Redis::start_with(&[("appendfsync", "no")]).await).await;
    assert!(matches!(rig.admit(3).await, Decision::Admitted { .. }));
    assert!(matches!(rig.admit(4).await, Decision::Admitted { .. }));
    rig.redis.kill().await;
    rig.redis.truncate_aof_tail(1);
    rig.redis.restart().await;
    rig.must_refuse().await;
    assert_eq!(reconcile(&*rig.stream, &*rig.store).await.unwrap(), EpochCheck::Rebuild(1));
    assert_eq!(lost(&rig.store).await, (1, 4));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_file_is_not_trusted() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name);
    // The threads of a stream release its folder shortly after it was dropped.
    let open = async || {
        let stream: SharedStream = eventually(DEADLINE, "the folder to be free", async || {
            let folder = folder.path().to_owned();
            EmbeddedStream::open(EmbeddedOptions { folder, backlog_events_max: 1_000 })
        })
        .await;
        stream
    };
    let store: SharedStore = SqliteStore::open_or_create(folder.path()).unwrap();
    store.migrate().await.unwrap();
    let (project, _key) =
        store.create_project("shop", "pro", &PolicyChange::default(), &KeyOptions::default()).await.unwrap();
    let stream = open().await;
    assert_eq!(reconcile(&*stream, &*store).await.unwrap(), EpochCheck::Rebuild(1));
    drop(stream);
    std::fs::copy(file("stream.db"), file("copy.db")).unwrap();

    let stream = open().await;
    agree(&stream, &store).await;
    admit(&stream, project, 5).await.unwrap();
    let stored: EntryId = store_one(&stream, &store, "lane").await.id;
    drop(stream);
    std::fs::rename(file("copy.db"), file("stream.db")).unwrap();

    let stream = open().await;
    assert_eq!(reconcile(&*stream, &*store).await.unwrap(), EpochCheck::Rebuild(1));
    assert!(stream.witness(0).await.unwrap().last > stored);
    agree(&stream, &store).await;
    let counters = stream.counters(&[project]).await.unwrap()[0];
    assert_eq!((counters.accepted, counters.pending), (5, 0));
}
