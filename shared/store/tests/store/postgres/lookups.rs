//! The cost of lookups.

use std::time::Duration;

use millrace_event::Outcome;
use millrace_store::{SharedStore, WriteRequest};
use testkit::eventually;
use tokio::task::JoinHandle;
use tokio_postgres::Client;

use super::{PostgresHarness, harness};
use crate::suite::*;

const DEADLINE: Duration = Duration::from_secs(30);

/// Entries read from the primary keys of all partitions of events since the database was created.
async fn keys_read(harness: &PostgresHarness) -> i64 {
    let admin = harness.connect().await;
    let read = "SELECT coalesce(sum(idx_tup_read), 0)::bigint FROM pg_stat_user_indexes WHERE relname LIKE 'events%'";
    admin.query_one(read, &[]).await.expect("statistics").get(0)
}

#[tokio::test]
async fn a_query_planned_on_an_empty_partition_still_uses_the_primary_key() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let mut lane = writer(&store).await;
    let mut sequence = 0;
    let mut next = |ids: std::ops::Range<u128>| {
        sequence += 1;
        let batch: Vec<_> = ids.map(|id| event(at_ms(now), id)).collect();
        request(project, new_batch_id(), entry(now, sequence), &batch)
    };

    // The query is planned for the first duplicates, when the table is almost empty.
    for _ in 0..2 {
        lane.write(&[next(1..6)]).await.expect("written");
    }
    for thousand in 1..21 {
        lane.write(&[next(thousand * 1_000..(thousand + 1) * 1_000)]).await.expect("written");
    }
    let again = lane.write(&[next(5_000..5_100)]).await.expect("written");
    assert_eq!(again.map_outcomes(), [duplicate(100)]);

    // A session reports its statistics when it ends.
    drop(lane);
    let read = eventually(DEADLINE, "the statistics", async || {
        let read = keys_read(&harness).await;
        (read >= 105).then_some(read)
    });
    let read = read.await;
    assert!(read <= 1_000, "to find 105 rows, {read} were read");
}

#[tokio::test]
async fn a_lookup_of_events_of_today_waits_for_no_other_partition() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let today = |seq| request(project, new_batch_id(), entry(now, seq), &events(now, 1..=5));
    let mut lane = writer(&store).await;
    lane.write(&[today(0)]).await.expect("written");
    // As while a day is made or dropped.
    let rival = harness.connect().await;
    let old = "SELECT 'events_' || to_char(now() AT TIME ZONE 'UTC' - interval '5 days', 'YYYYMMDD')";
    let old: String = rival.query_one(old, &[]).await.expect("a name").get(0);
    let lock = format!("BEGIN; LOCK TABLE {old}, events_default IN ACCESS EXCLUSIVE MODE");
    rival.batch_execute(&lock).await.expect("locked");
    let again = lane.write(&[today(1)]).await.expect("written");
    assert_eq!(again[0].outcome, duplicate(5));
}

/// Writes in the background, with a session that then ends.
fn write(store: &SharedStore, request: WriteRequest) -> JoinHandle<Outcome> {
    let store = store.clone();
    tokio::spawn(async move { writer(&store).await.write(&[request]).await.expect("written")[0].outcome })
}

/// Waits until so many sessions of writers wait for the transaction of another.
async fn writers_wait(admin: &Client, sessions: i64) {
    let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'millrace-worker:%' AND wait_event = 'transactionid'";
    eventually(DEADLINE, "the writers to wait", async || {
        admin.query_one(waiting, &[]).await.expect("sessions can be seen").get::<_, i64>(0) == sessions
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_another_lane_is_storing_costs_no_lookup_of_every_row() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let next = |seq, ids| request(project, new_batch_id(), entry(now, seq), &events(now, ids));
    assert_eq!(write(&store, next(0, 1..=5)).await.expect("no panic"), stored(5));
    // The first lane waits before its COMMIT, and the second waits for the first.
    let (admin, rival) = (harness.connect().await, harness.connect().await);
    rival.batch_execute("BEGIN; SELECT FROM stream_positions FOR UPDATE").await.expect("locked");
    let first = write(&store, next(1, 1_001..=2_000));
    writers_wait(&admin, 1).await;
    let second = write(&store, next(2, 2_000..=4_000));
    writers_wait(&admin, 2).await;
    rival.batch_execute("ROLLBACK").await.expect("unlocked");
    assert_eq!(first.await.expect("no panic"), stored(1_000));
    assert_eq!(second.await.expect("no panic"), Outcome { duplicate: 1, ..stored(2_000) });
    assert_eq!(write(&store, next(3, 5_001..=6_000)).await.expect("no panic"), stored(1_000));

    // A session reports its statistics when it ends.
    let sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND application_name LIKE 'millrace-worker:%'";
    eventually(DEADLINE, "the sessions to end", async || {
        admin.query_one(sessions, &[]).await.expect("sessions can be seen").get::<_, i64>(0) == 0
    })
    .await;
    let looked_up = "SELECT sum(idx_scan)::bigint FROM pg_stat_user_indexes WHERE relname LIKE 'events%'";
    let looked_up: i64 = admin.query_one(looked_up, &[]).await.expect("statistics").get(0);
    assert!((1..=100).contains(&looked_up), "{looked_up} rows were looked up");
}
