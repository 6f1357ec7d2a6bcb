//! Every mutant passes for right while nothing goes wrong, and does its harm in the smallest scene that brings it out. The
//! same scene does none to the right build. Whether harm is noticed from outside is the drills' affair.

use bytes::Bytes;
use futures_util::future::join_all;
use millrace_event::entry::PackedBatch;
use millrace_event::plan::ProjectId;
use millrace_event::row::{EventTime, Row};
use millrace_failpoint::mutant::Mutant;
use testkit::{Program, eventually};
use uuid::Uuid;

use crate::stage::{SOON, Stage};

/// The setting that chooses a mutant, or none.
type Chosen = (&'static str, &'static str);

/// Plays the scene, which tells whether there was harm, with the right build and with the mutant.
async fn does_harm(mutant: Mutant, scene: impl AsyncFn(Stage, Chosen) -> bool) {
    for (name, harm) in [("", false), (mutant.name(), true)] {
        assert_eq!(scene(Stage::set().await, ("MILLRACE_MUTANT", name)).await, harm, "harm by {name:?}");
    }
}

/// Posts an event and lets a worker die at a point of its way; another one drains what is left.
async fn death_at(stage: &Stage, chosen: Chosen, point: &str) {
    let (_api, address) = stage.api(&[]).await;
    assert_eq!(stage.post(address).await, Some(202));
    let mut worker =
        stage.start("stream-worker", &[chosen, ("FAILPOINTS", &format!("{point}=return(kill)"))]);
    worker.wait_exit().await;
    stage.drain_with(&[chosen]).await;
}

async fn is_out_of_balance(stage: &Stage) -> bool {
    stage.try_millrace(&["audit"]).await.code == Some(1)
}

async fn used(stage: &Stage) -> i64 {
    stage.ask(redis::cmd("HGET").arg("{s0}:project:1").arg("used")).await
}

/// While `events` has another name nothing can be written, and every attempt fails at once.
async fn take_the_table_away(stage: &Stage) {
    stage.database.batch_execute("ALTER TABLE events RENAME TO events_away").await.unwrap();
}

async fn bring_the_table_back(stage: &Stage) {
    stage.database.batch_execute("ALTER TABLE events_away RENAME TO events").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_passes_for_right_while_nothing_goes_wrong() {
    let stage = Stage::set().await;
    for (mutant, stored) in Mutant::ALL.into_iter().zip(1..) {
        // Without an epoch the counters are rebuilt, so that every script has its turn.
        stage.tell(&["DEL", "{s0}:epoch"]).await;
        let chosen = [("MILLRACE_MUTANT", mutant.name())];
        let (mut api, address) = stage.api(&chosen).await;
        api.wait_for_line("built for drills").await;
        let mut worker = stage.worker(&chosen).await;
        assert_eq!(stage.post(address).await, Some(202), "{}", mutant.name());
        eventually(SOON, "an event", async || stage.count("events").await == stored).await;
        eventually(SOON, "the backlog to drain", async || stage.entries().await == 0).await;
        end(&mut worker).await;
        let logs = [api.log(), worker.log()].concat();
        assert!(!logs.contains("panicked"), "{}: {logs}", mutant.name());
    }
    stage.millrace(&["audit"]).await;
}

async fn end(worker: &mut Program) {
    worker.terminate();
    assert_eq!(worker.wait_exit().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_before_it_is_committed_an_event_is_lost() {
    does_harm(Mutant::AckBeforeCommit, async |stage, chosen| {
        death_at(&stage, chosen, "store::inside_copy").await;
        stage.count("events").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_outside_the_transaction_is_off_when_a_worker_dies() {
    does_harm(Mutant::CounterOutsideTransaction, async |stage, chosen| {
        death_at(&stage, chosen, "store::after_commit").await;
        is_out_of_balance(&stage).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ledger_a_redelivered_entry_is_metered_twice() {
    does_harm(Mutant::NoLedger, async |stage, chosen| {
        death_at(&stage, chosen, "store::after_commit").await;
        is_out_of_balance(&stage).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_undurable_redis_is_accepted() {
    does_harm(Mutant::Everysec, async |stage, chosen| {
        stage.tell(&["CONFIG", "SET", "appendfsync", "everysec"]).await;
        let (api, address) = stage.start_api(&[chosen]).await;
        let is_accepted = eventually(SOON, "the API to have looked at Redis", async || {
            let is_ready = testkit::http::get(address, "/readyz", &[]).await.status == 200;
            let is_refused = api.log().contains("the stream is not durable");
            (is_ready || is_refused).then_some(is_ready)
        })
        .await;
        is_accepted && stage.post(address).await == Some(202)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_another_life_with_the_same_id_is_lost() {
    does_harm(Mutant::DedupeByStreamId, async |stage, chosen| {
        let mut id = String::new();
        for life in ["first", "second"] {
            stage.tell(&["DEL", "{s0}:events"]).await;
            let mut append = redis::cmd("XADD");
            append.arg("{s0}:events").arg(if id.is_empty() { "*" } else { &*id });
            for (name, value) in entry_with(life).fields() {
                append.arg(name).arg(&value[..]);
            }
            id = stage.ask(&append).await;
            stage.drain_with(&[chosen]).await;
        }
        stage.count("events").await == 1
    })
    .await;
}

fn entry_with(name: &str) -> PackedBatch {
    let mut rows = Vec::new();
    Row {
        project: ProjectId(1),
        time: EventTime::At(1_795_000_000_000_000),
        event_id: Uuid::new_v4(),
        name,
        subject: None,
        client_id: None,
        properties: None,
        context: None,
    }
    .write(&mut rows);
    PackedBatch::pack(Uuid::now_v7(), ProjectId(1), 1, &Bytes::from(rows))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_made_at_the_end_passes_over_what_stands_in_the_stream() {
    does_harm(Mutant::GroupAtTheEnd, async |stage, chosen| {
        let (_api, address) = stage.api(&[]).await;
        assert_eq!(stage.post(address).await, Some(202));
        stage.tell(&["XGROUP", "DESTROY", "{s0}:events", "workers"]).await;
        let mut worker = stage.worker(&[chosen]).await;
        worker.wait_for_line("has no group").await;
        eventually(SOON, "the group to be made", async || stage.groups().await == 1).await;
        assert_eq!(stage.post(address).await, Some(202));
        // They are delivered in order, so with the second stored the first is, or never will be.
        let second = "events WHERE client_id = 'event-2'";
        eventually(SOON, "the second event", async || stage.count(second).await == 1).await;
        stage.count("events").await == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_leaves_with_its_hands_full_forgets_what_it_holds() {
    does_harm(Mutant::ConsumerDeletedWithPending, async |stage, chosen| {
        let (_api, address) = stage.api(&[]).await;
        take_the_table_away(&stage).await;
        let mut worker = stage.worker(&[chosen]).await;
        assert_eq!(stage.post(address).await, Some(202));
        worker.wait_for_line("the store:").await;
        end(&mut worker).await;
        assert_eq!(stage.entries().await, 1);
        stage.pending().await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trimmed_stream_forgets() {
    does_harm(Mutant::Maxlen, async |stage, chosen| {
        let (_api, address) = stage.api(&[chosen]).await;
        for _ in 0..60 {
            assert_eq!(stage.post(address).await, Some(202));
        }
        stage.entries().await < 60
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refund_that_is_not_gated_is_made_twice() {
    does_harm(Mutant::RefundNotGated, async |stage, chosen| {
        let (_api, address) = stage.api(&[]).await;
        assert_eq!(stage.post_again(address, "once", &[]).await, Some(202));
        stage.drain().await;
        assert_eq!(stage.post_again(address, "once", &[]).await, Some(202));
        let mut first = stage.worker(&[chosen, ("FAILPOINTS", "store::after_commit=1*return(stop)")]).await;
        first.wait_for_line("failpoint store::after_commit: SIGSTOP").await;
        stage.drain_with(&[chosen]).await;
        first.resume();
        end(&mut first).await;
        used(&stage).await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_forgotten_at_settle_is_charged_when_it_is_repeated() {
    does_harm(Mutant::MarkerForgottenAtSettle, async |stage, chosen| {
        let (_api, address) = stage.api(&[]).await;
        let key = [("idempotency-key", "one-key")];
        assert_eq!(stage.post_again(address, "once", &key).await, Some(202));
        stage.drain_with(&[chosen]).await;
        assert_eq!(stage.post_again(address, "once", &key).await, Some(202));
        used(&stage).await == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_redis_goes_on_as_if_nothing_had_happened() {
    does_harm(Mutant::NoEpochCheck, async |stage, chosen| {
        let (_api, address) = stage.api(&[chosen]).await;
        assert_eq!(stage.post(address).await, Some(202));
        stage.tell(&["FLUSHALL"]).await;
        stage.post(address).await == Some(202)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_checked_before_the_admission_let_more_pass_than_there_may() {
    does_harm(Mutant::LimitsCheckedBefore, async |stage, chosen| {
        let quota = "UPDATE plans SET events_per_month = 5 WHERE name = 'enterprise'";
        stage.database.batch_execute(quota).await.unwrap();
        let (_api, address) = stage.api(&[chosen]).await;
        // Meanwhile standings can be looked at, and nothing can be admitted.
        stage.tell(&["CLIENT", "PAUSE", "500", "WRITE"]).await;
        join_all((0..100).map(|_| stage.post(address))).await;
        stage.entries().await > 5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_database_sends_a_good_event_to_the_dead_letters() {
    does_harm(Mutant::PoisonConvictsInnocents, async |stage, chosen| {
        let (_api, address) = stage.api(&[]).await;
        take_the_table_away(&stage).await;
        let mut worker = stage.worker(&[chosen]).await;
        assert_eq!(stage.post(address).await, Some(202));
        eventually(SOON, "seven attempts", async || {
            metric(&mut worker, "millrace_write_failures_total").await >= 7.0
        })
        .await;
        bring_the_table_back(&stage).await;
        eventually(SOON, "the backlog to drain", async || stage.entries().await == 0).await;
        stage.count("dead_letters").await == 1
    })
    .await;
}

/// A sample of a metric without labels.
async fn metric(program: &mut Program, name: &str) -> f64 {
    let answer = testkit::http::get(program.metrics_address().await, "/metrics", &[]).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let sample = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    sample.unwrap_or(0.0)
}
