//! Sessions that are killed while they write: a repetition writes the rows that were not committed, and
//! nothing twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use millrace_store::{PlanChange, SharedStore, UpkeepPolicy, WriteError, WriteOutcome, WriteRequest};
use testkit::{Postgres, eventually};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{harness, store};
use crate::suite::thresholds::{all, quota};
use crate::suite::*;

const DEADLINE: std::time::Duration = std::time::Duration::from_secs(60);

/// Writes in the background, as a lane would.
fn write(
    store: &SharedStore,
    requests: &[WriteRequest],
) -> tokio::task::JoinHandle<Result<Vec<WriteOutcome>, WriteError>> {
    let (store, requests) = (store.clone(), requests.to_vec());
    tokio::spawn(async move { store.writer("victim").await?.write(&requests).await })
}

/// Waits until the victim's session waits for `what`, and terminates it.
async fn kill_when_waiting(admin: &Client, what: &str) {
    let victim = "SELECT pid FROM pg_stat_activity
        WHERE application_name = 'millrace-worker:victim' AND datname = current_database() AND wait_event = $1";
    let pid: i32 = eventually(DEADLINE, "the victim to wait", async || {
        admin.query_opt(victim, &[&what]).await.expect("sessions can be seen").map(|row| row.get(0))
    })
    .await;
    admin.execute("SELECT pg_terminate_backend($1)", &[&pid]).await.expect("it can be killed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_killed_inside_copy_has_written_nothing() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let requests = [request(project, new_batch_id(), entry(now, 0), &events(now, 1..=3_000))];
    // An uncommitted row with a key of the batch: the COPY waits for it.
    let (admin, mut rival) = (harness.connect().await, harness.connect().await);
    let blocking = rival.transaction().await.expect("a transaction");
    let insert = "INSERT INTO events (project_id, timestamp, event_id, received_at, name)
                  VALUES ($1, timestamptz 'epoch' + $2 * interval '1 millisecond', $3, now(), 'rival')";
    let (ms, id) = (now as f64, Uuid::from_u128(2_000));
    blocking.execute(insert, &[&project.0, &ms, &id]).await.expect("inserted");
    let victim = write(&store, &requests);
    kill_when_waiting(&admin, "transactionid").await;
    let killed = victim.await.expect("no panic").expect_err("it was killed");
    assert!(matches!(&killed, WriteError::Environment { sqlstate, .. } if sqlstate == "57P01"), "{killed}");
    blocking.rollback().await.expect("rolled back");
    assert!(harness.events(project).await.is_empty());
    let written = write(&store, &requests).await.expect("no panic").expect("written");
    assert_eq!(written, [WriteOutcome { outcome: stored(3_000), redelivered: false }]);
    balanced(&store, project).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_was_lost_is_recognized() {
    let server = Postgres::start().await;
    let store = store(server.config());
    store.migrate().await.expect("migrated");
    let project = project(&store, "p").await;
    let now = now_ms();
    let first = request(project, new_batch_id(), entry(now, 0), &events(now, 1..=50));
    let second = request(project, new_batch_id(), entry(now, 1), &events(now, 40..=60));
    // A commit is on disk before it waits for a standby. This standby does not exist.
    let admin = server.connect().await;
    let hang = "ALTER SYSTEM SET synchronous_standby_names = 'missing'";
    admin.batch_execute(hang).await.expect("it can be set");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    eventually(DEADLINE, "the setting to hold", async || {
        let setting = admin.query_one("SHOW synchronous_standby_names", &[]).await.expect("a setting");
        setting.get::<_, &str>(0) == "missing"
    })
    .await;
    let victim = write(&store, std::slice::from_ref(&first));
    kill_when_waiting(&admin, "SyncRep").await;
    victim.await.expect("no panic").expect_err("no answer came");
    admin.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.expect("reset");
    admin.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    let written = write(&store, &[first, second]).await.expect("no panic").expect("written");
    assert_eq!(written[0], WriteOutcome { outcome: stored(50), redelivered: true });
    assert_eq!((written[1].outcome.stored, written[1].outcome.duplicate), (10, 11));
    assert_eq!(balanced(&store, project).await.stored, 60);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_that_was_written() {
    let mut server = Postgres::start().await;
    let store = store(server.config());
    store.migrate().await.expect("migrated");
    let project = project(&store, "p").await;
    let now = now_ms();
    let batch = |seq: u64| {
        let first = u128::from(seq) * 50;
        request(project, new_batch_id(), entry(now, seq), &events(now, first..first + 60))
    };
    let requests: Vec<_> = (0..40).map(batch).collect();
    let mut lane = writer(&store).await;
    for request in &requests[..20] {
        lane.write(std::slice::from_ref(request)).await.expect("written");
    }
    let racing = write(&store, &requests);
    server.kill().await;
    // The write may have been committed before the kill or not. The answer must be right in both cases.
    let before = racing.await.expect("no panic");
    lane.write(&requests[20..]).await.expect_err("the server is dead");
    server.restart().await;
    let written = write(&store, &requests).await.expect("no panic").expect("written");
    assert!(written[..20].iter().all(|written| written.redelivered));
    if let Ok(before) = before {
        assert_eq!(before.map_outcomes(), written.map_outcomes());
    }
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.stored + totals.duplicate), (39 * 50 + 60, 40 * 60));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_leaves_one_notification_of_the_transaction_that_reached_the_quota() {
    let mut server = Postgres::start().await;
    let store = store(server.config());
    store.migrate().await.expect("migrated");
    let change = PlanChange { events_per_month: Some(Some(400)), ..PlanChange::default() };
    store.set_plan("pro", &change).await.expect("a plan");
    let project = project(&store, "p").await;
    store.set_threshold("p", &quota("half", 50)).await.expect("set");
    let now = now_ms();
    let batch = |seq: u64| {
        let first = u128::from(seq) * 10;
        request(project, new_batch_id(), entry(now, seq), &events(now, first..first + 10))
    };
    let requests: Vec<_> = (0..40).map(batch).collect();
    let mut lane = writer(&store).await;
    for request in &requests[..15] {
        lane.write(std::slice::from_ref(request)).await.expect("written");
    }
    assert!(all(&store).await.is_empty());
    // Transactions of one batch each, of which the fifth reaches the quota. The kill meets any of them.
    let (rest, written) = (requests[15..].to_vec(), Arc::new(AtomicUsize::new(0)));
    let counted = Arc::clone(&written);
    let victim = tokio::spawn(async move {
        for request in rest {
            if lane.write(&[request]).await.is_err() {
                return;
            }
            counted.fetch_add(1, Ordering::Relaxed);
        }
    });
    eventually(DEADLINE, "some batches", async || written.load(Ordering::Relaxed) >= 3).await;
    server.kill().await;
    victim.await.expect("no panic");
    let written = written.load(Ordering::Relaxed);
    server.restart().await;
    let before = all(&store).await.len();
    assert!(before == 1 || written < 5, "{written} batches were confirmed");
    let mut lane = writer(&store).await;
    for request in &requests {
        lane.write(std::slice::from_ref(request)).await.expect("written");
    }
    let values: Vec<_> = all(&store).await.into_iter().map(|reached| reached.value).collect();
    assert_eq!(values, ["200"]);
    assert_eq!(balanced(&store, project).await.stored, 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transaction_that_is_too_old_is_terminated_and_releases_its_locks() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let requests = [request(project, new_batch_id(), entry(now, 0), &events(now, 1..=3))];
    // A worker that stopped responding in a transaction, and an unrelated session that is as old.
    let (stuck, unrelated) = (harness.connect().await, harness.connect().await);
    let freeze = "SET application_name = 'millrace-worker:stuck'; BEGIN; LOCK TABLE usage_hourly";
    stuck.batch_execute(freeze).await.expect("frozen");
    unrelated.batch_execute("BEGIN; SELECT count(*) FROM plans").await.expect("a transaction");
    let policy = UpkeepPolicy { transaction_age_max: std::time::Duration::ZERO, ..keep_all() };
    store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    eventually(DEADLINE, "the stuck session to end", async || stuck.is_closed()).await;
    unrelated.batch_execute("COMMIT").await.expect("the unrelated session is still open");
    let written = write(&store, &requests).await.expect("no panic").expect("written");
    assert_eq!(written.map_outcomes(), [stored(3)]);
}
