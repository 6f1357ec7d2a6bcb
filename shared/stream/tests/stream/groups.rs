//! Groups of batches that are admitted at the same time. Each is decided as if it were alone, after those
//! before it, and what a worker reads is exactly what was admitted.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use millrace_event::BatchGroup;
use millrace_event::entry::NewBatch;
use millrace_event::plan::{LimitState, Plan, ProjectId, Refusal, month_of};
use millrace_stream::{Admission, BatchId, BatchState, Decision, Outcome, SharedStream, StreamError};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use testkit::Redis;
use uuid::Uuid;

use crate::redis::{contents, run};
use crate::suite::*;

const BACKLOG_EVENTS_MAX: u64 = 400;
const PROJECTS: i64 = 3;

/// One of the batches that are sent at the same time.
#[derive(Clone, Debug)]
struct Sent {
    project: i64,
    count: u32,
    requests_per_minute: u32,
    burst: u32,
    events_per_month: Option<u64>,
    digest: Option<u8>,
    /// It has the id of the batch that was sent so many before it, in any group.
    repeats: Option<usize>,
    is_large: bool,
}

fn sent() -> impl Strategy<Value = Sent> {
    let limits = (
        prop_oneof![1_u32..100, 10_000_u32..60_000_000],
        prop_oneof![1_u32..6, 1_000_u32..2_000],
        proptest::option::weighted(0.5, 0_u64..120),
    );
    let repeats = proptest::option::weighted(0.3, 0_usize..6);
    let digest = proptest::option::weighted(0.4, 0_u8..2);
    (1..=PROJECTS, 1_u32..30, limits, digest, repeats, prop::bool::weighted(0.1)).prop_map(
        |(project, count, (requests_per_minute, burst, events_per_month), digest, repeats, is_large)| Sent {
            project,
            count,
            requests_per_minute,
            burst,
            events_per_month,
            digest,
            repeats,
            is_large,
        },
    )
}

/// A batch that is ready to be sent.
struct Ready {
    batch: NewBatch,
    rows: Vec<u8>,
    plan: Plan,
    digest: Option<[u8; 16]>,
}

impl Ready {
    fn new(sent: &Sent, ids: &mut Vec<BatchId>) -> Self {
        let earlier = sent.repeats.and_then(|before| ids.len().checked_sub(1 + before));
        let new_id = || if sent.digest.is_some() { Uuid::now_v7() } else { next_id() };
        let batch_id = earlier.map_or_else(new_id, |at| ids[at]);
        ids.push(batch_id);
        let rows = format!("{} rows of {batch_id} ", sent.count);
        let rows = rows.repeat(if sent.is_large { 4_000 } else { 1 }).into_bytes();
        let batch = NewBatch::new(batch_id, ProjectId(sent.project), sent.count, rows.clone());
        let Sent { requests_per_minute, burst, events_per_month, .. } = *sent;
        let plan = Plan { requests_per_minute, burst, events_per_month, ..plan() };
        // A batch with an idempotency key has an id without a group.
        let digest = sent.digest.filter(|_| BatchGroup::of(batch_id).is_none());
        Self { batch, rows, plan, digest: digest.map(|digest| [digest; 16]) }
    }

    async fn admit(&self, stream: &SharedStream) -> Decision {
        let Self { batch, plan, digest, .. } = self;
        stream.admit(&Admission { batch, plan, digest: *digest, awaited: false }).await.unwrap()
    }
}

/// What the stream must know between two batches.
#[derive(Default)]
struct Model {
    projects: HashMap<i64, Counters>,
    known: HashMap<BatchId, (u64, Option<[u8; 16]>)>,
    backlog_events: u64,
    /// Admitted and not read.
    rows: Vec<(BatchId, ProjectId, Bytes)>,
}

#[derive(Clone, Copy, Default)]
struct Counters {
    tat_us: u64,
    used: u64,
    accepted: u64,
    pending: i64,
}

impl Model {
    fn decide(&mut self, ready: &Ready, now_us: u64) -> Decision {
        let NewBatch { batch_id, project, count, .. } = ready.batch;
        let state = self.projects.entry(project.0).or_default();
        let limit_state = LimitState { now_us, tat_us: state.tat_us, used: state.used };
        if let Some((received_ms, digest)) = self.known.get(&batch_id) {
            let differs = digest.is_some() && ready.digest.is_some() && *digest != ready.digest;
            return match differs {
                true => Decision::Conflict { limit_state },
                false => Decision::Repeated { received_ms: *received_ms, limit_state },
            };
        }
        if self.backlog_events + u64::from(count) > BACKLOG_EVENTS_MAX {
            return Decision::BacklogFull { limit_state };
        }
        let charged = match limit_state.charge(&ready.plan, u64::from(count)) {
            Ok(charged) => charged,
            Err(Refusal::Rate { wait_us }) => return Decision::RateLimited { wait_us, limit_state },
            Err(Refusal::Quota) => return Decision::QuotaExceeded { limit_state },
        };
        (state.tat_us, state.used) = (charged.tat_us, charged.used);
        state.accepted += u64::from(count);
        state.pending += i64::from(count);
        self.backlog_events += u64::from(count);
        let received_ms = now_us / 1_000;
        self.known.insert(batch_id, (received_ms, ready.digest));
        self.rows.push((batch_id, project, ready.rows.clone().into()));
        Decision::Admitted { received_ms, limit_state: charged }
    }

    /// Reads and settles everything, with a duplicate in every batch.
    async fn drain(&mut self, stream: &SharedStream) {
        let mut reader = stream.reader(0, "lane").await.unwrap();
        let deliveries = reader.next(1_000, Duration::ZERO).await.unwrap();
        let mut rows = Vec::new();
        for delivery in &deliveries {
            let batches = delivery.entry.as_ref().unwrap().unpack().unwrap();
            rows.extend(batches.into_iter().map(|(batch, rows)| (batch.batch_id, batch.project, rows)));
        }
        assert_eq!(rows, std::mem::take(&mut self.rows));
        let settlements: Vec<_> = deliveries.iter().map(|delivery| settlement(delivery, 1, 0)).collect();
        assert_eq!(stream.settle(0, &settlements).await.unwrap(), deliveries.len() as u64);
        for batch in batches(&deliveries) {
            let state = self.projects.entry(batch.project.0).or_default();
            state.pending -= i64::from(batch.count);
            state.used -= 1;
            self.backlog_events -= u64::from(batch.count);
            let outcome = Outcome { stored: batch.count - 1, duplicate: 1, dead: 0, conflict: 0 };
            let settled = BatchState::Settled { project: batch.project, outcome };
            assert_eq!(stream.batch_state(batch.project, batch.batch_id).await.unwrap(), settled);
        }
    }

    async fn compare(&self, stream: &SharedStream) {
        for project in 1..=PROJECTS {
            let now = stream.counters(&[ProjectId(project)]).await.unwrap()[0];
            let Counters { used, accepted, pending, .. } =
                self.projects.get(&project).copied().unwrap_or_default();
            assert_eq!((now.accepted, now.pending, now.used), (accepted, pending, used));
        }
        let pending = stream.pending_batches(0).await.unwrap();
        let listed: Vec<_> = pending.iter().map(|batch| (batch.batch_id, batch.project)).collect();
        let expected: Vec<_> = self.rows.iter().map(|(batch, project, _)| (*batch, *project)).collect();
        assert_eq!(listed, expected);
        let backlog = stream.backlog().await.unwrap();
        assert_eq!(backlog.events, self.backlog_events);
        assert_eq!(backlog.bytes, pending.iter().map(|batch| u64::from(batch.bytes)).sum::<u64>());
        assert_eq!(backlog.entries, pending.chunk_by(|one, next| one.id == next.id).count() as u64);
    }
}

fn now_us(decision: &Decision) -> u64 {
    match decision {
        Decision::Admitted { limit_state, .. }
        | Decision::Repeated { limit_state, .. }
        | Decision::Conflict { limit_state }
        | Decision::BacklogFull { limit_state }
        | Decision::RateLimited { limit_state, .. }
        | Decision::QuotaExceeded { limit_state }
        | Decision::LimitExceeded { limit_state, .. } => limit_state.now_us,
        Decision::EpochChanged => panic!("the epoch is trusted"),
    }
}

/// Sends groups and compares every decision, and what is read afterwards, with the model. `clear` empties the
/// stream before each case.
fn assert_decides_as_the_model<H: Harness>(
    start: impl AsyncFn() -> H,
    clear: impl AsyncFn(&H, &SharedStream),
) {
    // One thread, so that the batches of a group are queued before any of them is sent.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let harness = runtime.block_on(start());
    let stream = runtime.block_on(trusted_stream_with_backlog(&harness, BACKLOG_EVENTS_MAX));
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let groups = proptest::collection::vec(proptest::collection::vec(sent(), 1..30), 1..5);
    let result = runner.run(&groups, |groups| {
        runtime.block_on(async {
            clear(&harness, &stream).await;
            rebuilt(&stream, EPOCH, &[]).await;
            let (mut model, mut ids) = (Model::default(), Vec::new());
            for group in groups {
                let ready: Vec<_> = group.iter().map(|sent| Ready::new(sent, &mut ids)).collect();
                let month = month_of(stream.limit_state(PROJECT).await.unwrap().now_us);
                let decisions = join_all(ready.iter().map(|ready| ready.admit(&stream))).await;
                for (ready, decision) in ready.iter().zip(decisions) {
                    let now_us = now_us(&decision);
                    assert_eq!(month, month_of(now_us), "run the test again: the month has ended");
                    assert_eq!(decision, model.decide(ready, now_us));
                }
                model.compare(&stream).await;
                if group.len() % 2 == 0 {
                    model.drain(&stream).await;
                    model.compare(&stream).await;
                }
            }
            model.drain(&stream).await;
        });
        Ok(())
    });
    result.unwrap();
}

#[test]
fn a_group_on_redis_is_decided_batch_by_batch_like_the_model() {
    assert_decides_as_the_model(crate::redis::harness, async |redis, _| {
        run(redis, &["FLUSHALL"]).await;
    });
}

#[test]
fn a_group_on_files_is_decided_batch_by_batch_like_the_model() {
    assert_decides_as_the_model(crate::embedded::harness, async |_, stream| {
        drain(stream, "lane").await;
    });
}

/// What a group of these batches is answered. All of them are sent in one call.
async fn answers(
    stream: &SharedStream,
    batches: &[NewBatch],
    plan: &Plan,
) -> Vec<Result<Decision, StreamError>> {
    let admit =
        |batch| async move { stream.admit(&Admission { batch, plan, digest: None, awaited: false }).await };
    join_all(batches.iter().map(admit)).await
}

#[tokio::test]
async fn a_group_is_one_entry_and_a_lone_batch_does_not_wait_for_others() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    let all: Vec<_> = (1..=64).map(batch).collect();
    for answer in answers(&stream, &all, &plan()).await {
        assert_admitted(answer.unwrap());
    }
    assert_eq!(stream.backlog().await.unwrap().entries, 1);
    assert_admitted(admit(&stream, &batch(1)).await);
    assert_eq!(stream.backlog().await.unwrap().entries, 2);
}

#[tokio::test]
async fn an_entry_that_cannot_be_appended_fails_its_batches_and_changes_nothing() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    let known = batch(5);
    assert_admitted(admit(&stream, &known).await);
    // Redis refuses every entry below it.
    run(&redis, &["XSETID", "{s0}:events", "18446744073709551615-1"]).await;
    let before = contents(&redis).await;
    let tight = Plan { events_per_month: Some(15), ..plan() };
    let fresh = batch(10);
    let group = [batch(20), known.clone(), fresh.clone(), fresh, batch(10)];
    let answers = answers(&stream, &group, &tight).await;
    assert!(matches!(answers[0], Ok(Decision::QuotaExceeded { .. })), "{answers:?}");
    assert!(matches!(answers[1], Ok(Decision::Repeated { .. })), "{answers:?}");
    for answer in &answers[2..] {
        assert!(matches!(answer, Err(StreamError::Refused(_))), "{answers:?}");
    }
    assert_eq!(contents(&redis).await, before);
}

#[tokio::test]
async fn a_group_of_which_nothing_is_admitted_leaves_no_entry() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    let before = contents(&redis).await;
    let none = Plan { events_per_month: Some(0), ..plan() };
    for answer in answers(&stream, &[batch(1), batch(2)], &none).await {
        assert!(matches!(answer, Ok(Decision::QuotaExceeded { .. })), "{answer:?}");
    }
    assert_eq!(contents(&redis).await, before);
}

#[tokio::test]
async fn entries_of_version_1_are_delivered_rebuilt_and_settled() {
    let redis = Redis::start().await;
    let stream = trusted_stream(&redis).await;
    let (old, new) = (keyed_batch(3), batch(4));
    let fields =
        millrace_event::entry::fields_of_version_1(old.batch_id, PROJECT, 3, &rows_of(old.batch_id, 3));
    let mut append = redis::cmd("XADD");
    append.arg("{s0}:events").arg("*");
    fields.iter().for_each(|(name, value)| {
        append.arg(name).arg(&value[..]);
    });
    // As admit.lua of release 0.1 left it.
    append.exec_async(&mut redis.connect().await).await.unwrap();
    let marker = format!("p - {} 3 1795219200000 -", PROJECT.0);
    run(&redis, &["SET", &format!("{{s0}}:batch:{}", old.batch_id), &marker]).await;
    run(&redis, &["HSET", "{s0}:project:7", "accepted", "3", "pending", "3"]).await;
    assert_admitted(admit(&stream, &new).await);
    assert!(matches!(admit(&stream, &old).await, Decision::Repeated { .. }));
    let pending = stream.pending_batches(0).await.unwrap();
    let listed: Vec<_> = pending.iter().map(|batch| (batch.batch_id, batch.project, batch.count)).collect();
    assert_eq!(listed, [(old.batch_id, PROJECT, 3), (new.batch_id, PROJECT, 4)]);
    let now = counters(&stream).await;
    rebuilt(&stream, Uuid::new_v4(), &[now]).await;
    assert_eq!(stream.backlog().await.unwrap().events, 7);
    let deliveries = drain(&stream, "lane").await;
    let rows = deliveries[0].entry.as_ref().unwrap().unpack().unwrap().remove(0).1;
    assert_eq!(rows, rows_of(old.batch_id, 3));
    assert_eq!(deliveries.len(), 2);
    let now = counters(&stream).await;
    assert_eq!((now.accepted, now.pending), (7, 0));
}
