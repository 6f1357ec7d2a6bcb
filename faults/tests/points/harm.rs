//! Every mutant behaves correctly while nothing fails, and does its harm in the smallest scene that needs the
//! correct code. The same program without its bug does no harm there. Whether the oracle notices the harm is
//! tested by the drills.

use std::collections::BTreeSet;

use faults::MUTANT_PROGRAM;
use faults::mutants::MUTANTS;
use futures_util::future::join_all;
use millrace_event::entry::{NewBatch, PackedEntry};
use millrace_event::plan::ProjectId;
use millrace_event::row::{EventTime, Row};
use testkit::{Launch, Program, eventually};
use uuid::Uuid;

use crate::stage::{SOON, Stage};

/// The environment variable that chooses a mutant. With an empty value the program is correct.
pub type MutantVariable = (&'static str, &'static str);

/// Runs a scene, which returns whether there was harm, with the correct program and with the mutant.
pub async fn does_harm(mutant: &'static str, scene: impl AsyncFn(Stage, MutantVariable) -> bool) {
    for (name, harm) in [("", false), (mutant, true)] {
        assert_eq!(
            scene(Stage::of_mutants().await, ("MILLRACE_MUTANT", name)).await,
            harm,
            "harm by {name:?}"
        );
    }
}

/// Posts an event and kills a worker at a failpoint. Then another worker drains the stream.
async fn death_at(stage: &Stage, chosen: MutantVariable, point: &str) {
    let (_api, address) = stage.api(&[]).await;
    assert_eq!(stage.post(address).await, Some(202));
    let mut worker =
        stage.start("stream-worker", &[chosen, ("FAILPOINTS", &format!("{point}=return(kill)"))]);
    worker.wait_exit().await;
    stage.drain_with(&[chosen]).await;
}

pub async fn is_out_of_balance(stage: &Stage) -> bool {
    stage.try_millrace(&["audit"]).await.code == Some(1)
}

pub async fn used(stage: &Stage) -> i64 {
    stage.query(redis::cmd("HGET").arg("{s0}:project:1").arg("used")).await
}

/// While `events` has another name, every write fails immediately.
async fn rename_the_table(stage: &Stage) {
    stage.database.batch_execute("ALTER TABLE events RENAME TO events_away").await.unwrap();
}

async fn restore_the_table(stage: &Stage) {
    stage.database.batch_execute("ALTER TABLE events_away RENAME TO events").await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn every_mutant_behaves_correctly_while_nothing_fails() {
    let stage = Stage::of_mutants().await;
    let names: BTreeSet<_> = MUTANTS.iter().map(|mutant| mutant.name).collect();
    for (name, stored) in names.into_iter().zip(1..) {
        // Without an epoch the counters are rebuilt, so that every script runs.
        stage.command(&["DEL", "{s0}:epoch"]).await;
        let chosen = [("MILLRACE_MUTANT", name)];
        let (api, address) = stage.api(&chosen).await;
        let mut worker = stage.worker(&chosen).await;
        assert_eq!(stage.post(address).await, Some(202), "{}", name);
        eventually(SOON, "an event", async || stage.count("events").await == stored).await;
        eventually(SOON, "the backlog to drain", async || stage.entries().await == 0).await;
        end(&mut worker).await;
        let logs = [api.log(), worker.log()].concat();
        assert!(!logs.contains("panicked"), "{}: {logs}", name);
    }
    stage.millrace(&["audit"]).await;
}

async fn end(worker: &mut Program) {
    worker.terminate();
    assert_eq!(worker.wait_exit().await.code(), Some(0));
}

#[tokio::test]
async fn an_unknown_mutant_does_not_start() {
    let variables = [("MILLRACE_MUTANT", "unknown")];
    let launch = Launch {
        profile: Some(faults::mutants::build()),
        arguments: &["ingest-api"],
        variables: &variables,
        ..Launch::default()
    };
    let finished = Program::run_to_end(MUTANT_PROGRAM, &launch).await;
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(
        finished.stderr.contains("no such mutant") && finished.stderr.contains("no-ledger"),
        "{finished:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_acknowledged_before_its_commit_is_lost() {
    does_harm("ack-before-commit", async |stage, chosen| {
        death_at(&stage, chosen, "store::inside_copy").await;
        stage.count("events").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_counter_outside_the_transaction_is_wrong_after_a_crash() {
    does_harm("counter-outside-the-transaction", async |stage, chosen| {
        death_at(&stage, chosen, "store::after_commit").await;
        is_out_of_balance(&stage).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_ledger_a_redelivered_entry_is_metered_twice() {
    does_harm("no-ledger", async |stage, chosen| {
        death_at(&stage, chosen, "store::after_commit").await;
        is_out_of_balance(&stage).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_the_ledger_has_in_two_rows_is_metered_twice() {
    does_harm("written-in-two-rows", async |stage, chosen| {
        death_at(&stage, chosen, "store::after_commit").await;
        is_out_of_balance(&stage).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_does_not_sync_every_write_is_accepted() {
    does_harm("everysec", async |stage, chosen| {
        stage.command(&["CONFIG", "SET", "appendfsync", "everysec"]).await;
        let (api, address) = stage.start_api(&[chosen]).await;
        let is_accepted = eventually(SOON, "the API to check the settings of Redis", async || {
            let is_ready = testkit::http::get(address, "/readyz", &[]).await.status == 200;
            let is_refused = api.log().contains("appendfsync");
            (is_ready || is_refused).then_some(is_ready)
        })
        .await;
        is_accepted && stage.post(address).await == Some(202)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_with_the_id_of_an_earlier_one_is_lost() {
    does_harm("dedupe-by-stream-id", async |stage, chosen| {
        let mut id = String::new();
        for name in ["first", "second"] {
            stage.command(&["DEL", "{s0}:events"]).await;
            let mut append = redis::cmd("XADD");
            append.arg("{s0}:events").arg(if id.is_empty() { "*" } else { &*id });
            for (name, value) in entry_with(name).fields() {
                append.arg(name).arg(&value[..]);
            }
            id = stage.query(&append).await;
            stage.drain_with(&[chosen]).await;
        }
        stage.count("events").await == 1
    })
    .await;
}

fn entry_with(name: &str) -> PackedEntry {
    PackedEntry::pack([&NewBatch::new(Uuid::now_v7(), ProjectId(1), 1, row_with(name))])
}

fn row_with(name: &str) -> Vec<u8> {
    let mut rows = Vec::new();
    Row { time: EventTime::At(1_795_000_000_000_000), ..Row::bare(ProjectId(1), Uuid::new_v4(), name) }
        .write(&mut rows);
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_not_admitted_is_stored() {
    does_harm("stores-what-was-refused", async |stage, chosen| {
        let batch = |name: &str| NewBatch::new(Uuid::now_v7(), ProjectId(1), 1, row_with(name));
        let mut entry = PackedEntry::pack(&[batch("admitted"), batch("refused")]);
        entry.batches[1].is_admitted = false;
        let mut append = redis::cmd("XADD");
        append.arg("{s0}:events").arg("*");
        for (name, value) in entry.fields() {
            append.arg(name).arg(&value[..]);
        }
        let _: String = stage.query(&append).await;
        stage.drain_with(&[chosen]).await;
        assert_eq!(stage.count("events WHERE name = 'admitted'").await, 1);
        stage.count("events WHERE name = 'refused'").await == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_at_the_end_of_the_stream_skips_the_entries_before_it() {
    does_harm("group-at-the-end", async |stage, chosen| {
        let (_api, address) = stage.api(&[]).await;
        assert_eq!(stage.post(address).await, Some(202));
        stage.command(&["XGROUP", "DESTROY", "{s0}:events", "workers"]).await;
        let _worker = stage.worker(&[chosen]).await;
        eventually(SOON, "the group to be created", async || stage.groups().await == 1).await;
        assert_eq!(stage.post(address).await, Some(202));
        // Entries are delivered in order: once the second is stored, the first is too, or never will be.
        let second = "events WHERE client_id = 'event-2'";
        eventually(SOON, "the second event", async || stage.count(second).await == 1).await;
        stage.count("events").await == 1
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_deletes_its_consumer_forgets_its_pending_entries() {
    does_harm("consumer-deleted-with-pending", async |stage, chosen| {
        let (_api, address) = stage.api(&[]).await;
        rename_the_table(&stage).await;
        let mut worker = stage.worker(&[chosen]).await;
        assert_eq!(stage.post(address).await, Some(202));
        eventually(SOON, "a failed write", async || {
            metric(&mut worker, "millrace_write_failures_total").await >= 1.0
        })
        .await;
        end(&mut worker).await;
        assert_eq!(stage.entries().await, 1);
        stage.pending().await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trimmed_stream_loses_entries() {
    does_harm("maxlen", async |stage, chosen| {
        let (_api, address) = stage.api(&[chosen]).await;
        for _ in 0..60 {
            assert_eq!(stage.post(address).await, Some(202));
        }
        stage.entries().await < 60
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_of_an_entry_settled_twice_are_refunded_twice() {
    does_harm("refund-not-gated", async |stage, chosen| {
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
async fn a_batch_forgotten_when_it_is_settled_is_charged_again() {
    does_harm("marker-forgotten-at-settle", async |stage, chosen| {
        let (_api, address) = stage.api(&[]).await;
        let key = [("idempotency-key", "one-key")];
        assert_eq!(stage.post_again(address, "once", &key).await, Some(202));
        let mut worker = stage.worker(&[chosen]).await;
        eventually(SOON, "the backlog to drain", async || stage.entries().await == 0).await;
        // The mutant forgets the batch right after it is settled.
        end(&mut worker).await;
        assert_eq!(stage.post_again(address, "once", &key).await, Some(202));
        used(&stage).await == 2
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wiped_redis_accepts_batches_immediately() {
    does_harm("no-epoch-check", async |stage, chosen| {
        let (_api, address) = stage.api(&[chosen]).await;
        // Nothing was acknowledged before. Otherwise a connection that is made late misses what was, and even
        // the mutant refuses the batch.
        stage.command(&["FLUSHALL"]).await;
        stage.post(address).await == Some(202)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_checked_before_the_admission_admit_too_many_events() {
    does_harm("limits-checked-before", async |stage, chosen| {
        let quota = "UPDATE plans SET events_per_month = 5 WHERE name = 'enterprise'";
        stage.database.batch_execute(quota).await.unwrap();
        let (_api, address) = stage.api(&[chosen]).await;
        // During the pause the state of the limits can be read, and no batch can be admitted.
        stage.command(&["CLIENT", "PAUSE", "500", "WRITE"]).await;
        join_all((0..100).map(|_| stage.post(address))).await;
        used(&stage).await > 5
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_the_database_dead_letters_a_good_event() {
    does_harm("failure-counts-as-poison", async |stage, chosen| {
        let (_api, address) = stage.api(&[]).await;
        rename_the_table(&stage).await;
        let mut worker = stage.worker(&[chosen]).await;
        assert_eq!(stage.post(address).await, Some(202));
        eventually(SOON, "seven attempts", async || {
            metric(&mut worker, "millrace_write_failures_total").await >= 7.0
        })
        .await;
        restore_the_table(&stage).await;
        eventually(SOON, "the backlog to drain", async || stage.entries().await == 0).await;
        stage.count("dead_letters").await == 1
    })
    .await;
}

/// The value of a metric without labels.
async fn metric(program: &mut Program, name: &str) -> f64 {
    let answer = testkit::http::get(program.metrics_address().await, "/metrics", &[]).await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    let sample = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    sample.unwrap_or(0.0)
}
