//! Imports of history: days of events that get their partition on demand.

use std::time::Duration;

use millrace_event::plan::ProjectId;
use millrace_store::{SharedStore, UpkeepPolicy, WriteRequest};
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use testkit::{Postgres, eventually};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use super::{PostgresHarness, harness, store};
use crate::suite::*;

const DEADLINE: Duration = Duration::from_secs(60);

/// Runs a round of upkeep, after which the writers of this store make days on demand.
async fn upkeep(store: &SharedStore, policy: &UpkeepPolicy) {
    store.upkeep(policy).await.expect("upkeep").expect("no other process does the upkeep");
}

/// Runs rounds of upkeep, each with a bounded amount of work, until this many rows are left in the default
/// partition.
async fn upkeep_until(store: &SharedStore, policy: &UpkeepPolicy, admin: &Client, left: i64) {
    eventually(DEADLINE, "rows to move into their days", async || {
        upkeep(store, policy).await;
        in_default(admin).await == left
    })
    .await;
}

async fn count(client: &Client, query: &str) -> i64 {
    client.query_one(query, &[]).await.expect("rows can be counted").get(0)
}

async fn in_default(client: &Client) -> i64 {
    count(client, "SELECT count(*) FROM events_default").await
}

/// Days that have a partition, without those that upkeep makes around today.
async fn old_days(client: &Client) -> i64 {
    let days = "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid
                 WHERE inhparent = 'events'::regclass AND relname <> 'events_default'
                   AND relname < 'events_' || to_char(now() AT TIME ZONE 'UTC' - interval '7 days', 'YYYYMMDD')";
    count(client, days).await
}

/// One event on each of these days before now, ids from `first_id` on.
fn on_days(days: impl IntoIterator<Item = u64>, first_id: u128) -> Vec<Event> {
    let now = now_ms();
    days.into_iter().zip(first_id..).map(|(day, id)| event(at_ms(now - day * DAY_MS), id)).collect()
}

fn batch(project: ProjectId, seq: u64, events: &[Event]) -> WriteRequest {
    request(project, new_batch_id(), entry(now_ms(), seq), events)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_import_of_old_days_makes_their_partitions_and_leaves_the_default_partition_empty() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    upkeep(&store, &keep_all()).await;
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut days: Vec<u64> = (8..408).chain(8..408).collect();
    days.shuffle(&mut rand::rngs::StdRng::seed_from_u64(seed));
    // Two lanes compete for the days.
    let mut lanes = JoinSet::new();
    for (lane, days) in (0_u64..).zip(days.chunks(400)) {
        let (store, days) = (store.clone(), days.to_vec());
        lanes.spawn(async move {
            let mut writer = writer(&store).await;
            for (seq, days) in (0_u64..).zip(days.chunks(50)) {
                let seq = lane * 100 + seq;
                let events = on_days(days.iter().copied(), u128::from(seq * 1_000));
                let written = writer.write(&[batch(project, seq, &events)]).await.expect("written");
                assert_eq!(written.map_outcomes(), [stored(50)]);
            }
        });
    }
    lanes.join_all().await;
    let admin = harness.connect().await;
    assert_eq!((old_days(&admin).await, in_default(&admin).await), (400, 0));
    assert_eq!(balanced(&store, project).await.event_rows, 800);
}

#[tokio::test]
async fn rows_of_the_default_partition_move_into_days_that_upkeep_makes_and_others_stay() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    // No upkeep of this process has run: its writers do not know what retention would drop.
    let (old, now) = (on_days((8..90).chain([120, 130]), 1), now_ms());
    let odd = [
        event(millrace_event::row::EventTime::At(-1), 1_001),
        event(at_ms(now + 30 * DAY_MS), 1_002),
        event(millrace_event::row::EventTime::At(-62_167_219_200_000_001), 1_003),
        event(millrace_event::row::EventTime::At(300_000_000_000_000_000), 1_004),
    ];
    let events: Vec<_> = old.iter().chain(&odd).cloned().collect();
    writer(&store).await.write(&[batch(project, 0, &events)]).await.expect("written");
    let admin = harness.connect().await;
    assert_eq!((old_days(&admin).await, in_default(&admin).await), (0, 88));
    let before = harness.events(project).await;

    let keep_100_days = UpkeepPolicy { retention_days: Some(100), ..keep_all() };
    upkeep_until(&store, &keep_100_days, &admin, 6).await;
    assert_eq!(old_days(&admin).await, 82);
    assert_eq!(harness.events(project).await, before);
    upkeep_until(&store, &keep_all(), &admin, 4).await;
    assert_eq!(old_days(&admin).await, 84, "rows outside 1970 to the days ahead stay");
    assert_eq!(harness.events(project).await, before);
    // Moved rows are still recognized.
    let written = writer(&store).await.write(&[batch(project, 1, &events)]).await.expect("written");
    assert_eq!(written.map_outcomes(), [duplicate(88)]);
    assert_eq!(balanced(&store, project).await.event_rows, 88);
}

#[tokio::test]
async fn retention_drops_days_made_on_demand_and_keeps_older_days_until_their_receipt_is_as_old() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let keep = |days| UpkeepPolicy { retention_days: Some(days), ..keep_all() };
    upkeep(&store, &keep(30)).await;
    let events = on_days([20, 25, 30, 31, 400], 1);
    writer(&store).await.write(&[batch(project, 0, &events)]).await.expect("written");
    let admin = harness.connect().await;
    assert_eq!((old_days(&admin).await, in_default(&admin).await), (3, 2));
    upkeep(&store, &keep(22)).await;
    assert_eq!((old_days(&admin).await, in_default(&admin).await), (1, 2));
    let totals = balanced(&store, project).await;
    assert_eq!((totals.event_rows, harness.events(project).await.len()), (5, 3));
}

#[tokio::test]
async fn events_never_has_more_partitions_than_the_servers_lock_table_allows() {
    // A quarter of 10 locks of 40 connections.
    let settings = [("max_locks_per_transaction", "10"), ("max_connections", "40")];
    let server = Postgres::start_with(&settings).await;
    let store = store(server.config());
    store.migrate().await.expect("migrated");
    let project = project(&store, "p").await;
    upkeep(&store, &keep_all()).await;
    let admin = server.connect().await;
    let partitions = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass";
    let events = on_days(8..208, 1);
    writer(&store).await.write(&[batch(project, 0, &events)]).await.expect("written");
    assert_eq!(count(&admin, partitions).await, 100);
    // Upkeep must not exceed the limit either.
    upkeep(&store, &keep_all()).await;
    assert_eq!(count(&admin, partitions).await, 100);
    assert_eq!(in_default(&admin).await, 200 - old_days(&admin).await);
    let newest =
        count(&admin, "SELECT count(*) FROM events_default WHERE timestamp > now() - interval '90 days'");
    assert_eq!(newest.await, 0, "the newest days come first");
    assert_eq!(balanced(&store, project).await.event_rows, 200);
}

#[tokio::test]
async fn an_import_does_not_wait_for_a_long_query_and_its_rows_move_later() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    upkeep(&store, &keep_all()).await;
    let reader = harness.connect().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM events").await.expect("a long query");
    let events = on_days(10..20, 1);
    let written = writer(&store).await.write(&[batch(project, 0, &events)]).await.expect("written");
    assert_eq!(written.map_outcomes(), [stored(10)]);
    upkeep(&store, &keep_all()).await;
    let admin = harness.connect().await;
    assert_eq!((old_days(&admin).await, in_default(&admin).await), (0, 10), "the table is in use");
    reader.batch_execute("COMMIT").await.expect("done");
    upkeep_until(&store, &keep_all(), &admin, 0).await;
    assert_eq!(old_days(&admin).await, 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_killed_while_it_moves_rows_has_moved_none() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let (admin, rival) = (harness.connect().await, harness.connect().await);
    // The row of one day cannot be inserted while the rival holds a lock. No timeout of a lock applies.
    let obstacle = "
        CREATE FUNCTION passes(id uuid) RETURNS boolean LANGUAGE plpgsql AS $$
        BEGIN
            IF id = '00000000-0000-0000-0000-000000000014' THEN
                WHILE NOT pg_try_advisory_xact_lock_shared(7) LOOP
                    PERFORM pg_sleep(0.01);
                END LOOP;
            END IF;
            RETURN true;
        END $$;
        ALTER TABLE events ADD CONSTRAINT passes CHECK (passes(event_id))";
    admin.batch_execute(obstacle).await.expect("a constraint");
    let events = on_days(10..20, 11);
    writer(&store).await.write(&[batch(project, 0, &events)]).await.expect("written");
    let before = harness.events(project).await;
    rival.batch_execute("SELECT pg_advisory_lock(7)").await.expect("locked");
    let mover = {
        let store = store.clone();
        tokio::spawn(async move { store.upkeep(&keep_all()).await })
    };
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
                 WHERE datname = current_database() AND wait_event = 'PgSleep'";
    eventually(DEADLINE, "the session that moves to wait", async || count(&admin, kill).await > 0).await;
    mover.await.expect("no panic").expect_err("it was killed");
    assert_eq!((old_days(&admin).await, in_default(&admin).await), (0, 10));
    assert_eq!(harness.events(project).await, before);
    rival.batch_execute("SELECT pg_advisory_unlock(7)").await.expect("unlocked");
    eventually(DEADLINE, "the killed session to end", async || {
        matches!(store.upkeep(&keep_all()).await, Ok(Some(_)))
    })
    .await;
    assert_eq!((old_days(&admin).await, in_default(&admin).await), (10, 0));
    assert_eq!(harness.events(project).await, before);
    assert_eq!(balanced(&store, project).await.event_rows, 10);
}

#[tokio::test]
async fn a_row_that_cannot_be_moved_holds_back_only_its_own_day() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let events = on_days(10..30, 1);
    writer(&store).await.write(&[batch(project, 0, &events)]).await.expect("written");
    let admin = harness.connect().await;
    // The event of 14 days ago, which was stored before the operator added the constraint.
    let constraint = "ALTER TABLE events ADD CONSTRAINT fifth
                      CHECK (event_id <> '00000000-0000-0000-0000-000000000005') NOT VALID";
    admin.batch_execute(constraint).await.expect("a constraint");
    upkeep_until(&store, &keep_all(), &admin, 1).await;
    assert_eq!(old_days(&admin).await, 19);
    assert_eq!(balanced(&store, project).await.event_rows, 20);
}

/// Moves the rows of a random day back to the default partition, as if its partition had never been made.
async fn unmake_a_day(harness: &PostgresHarness, random: &mut rand::rngs::StdRng) {
    let mut admin = harness.connect().await;
    let days = "SELECT relname::text FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid
                 WHERE inhparent = 'events'::regclass AND relname <> 'events_default' ORDER BY relname LIMIT 25";
    let days = admin.query(days, &[]).await.expect("partitions");
    let Some(day) = days.choose(random).map(|row| row.get::<_, String>(0)) else { return };
    let transaction = admin.transaction().await.expect("a transaction");
    let unmake = format!(
        "SET LOCAL lock_timeout = '2s'; ALTER TABLE events DETACH PARTITION {day};
         INSERT INTO events SELECT * FROM {day}; DROP TABLE {day}"
    );
    // A lock that is not available leaves the day as it is.
    if transaction.batch_execute(&unmake).await.is_ok() {
        transaction.commit().await.expect("committed");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writers_that_repeat_history_while_days_are_made_and_unmade_lose_and_duplicate_nothing() {
    const LANES: u64 = 3;
    let harness = harness().await;
    let keeper = harness.store();
    let project = project(&keeper, "p").await;
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    upkeep(&keeper, &keep_all()).await;
    let mut lanes = JoinSet::new();
    let now = now_ms();
    for lane in 0..LANES {
        // The writers of the last store know no days: their rows go to the default partition.
        let store = if lane < 2 { harness.store() } else { harness.another() };
        let mut random = rand::rngs::StdRng::seed_from_u64(seed ^ lane);
        lanes.spawn(async move {
            let mut writer = writer(&store).await;
            let (mut ids, mut accepted) = (std::collections::BTreeSet::new(), 0);
            for seq in 0..60 {
                // Ids repeat, each always on its own day.
                let batch: Vec<u128> = (0..40).map(|_| random.random_range(1..1_500)).collect();
                let events: Vec<_> =
                    batch.iter().map(|&id| event(at_ms(now - (8 + (id % 30) as u64) * DAY_MS), id)).collect();
                ids.extend(batch);
                accepted += events.len() as u64;
                let request = request(project, new_batch_id(), entry(now, lane * 1_000 + seq), &events);
                // As a lane that retries after the environment failed, and one that was delivered twice.
                let mut times = if random.random_bool(0.2) { 2 } else { 1 };
                while times > 0 {
                    times -= usize::from(writer.write(std::slice::from_ref(&request)).await.is_ok());
                    writer = store.writer("test").await.expect("a writer");
                }
            }
            (ids, accepted)
        });
    }
    let mut random = rand::rngs::StdRng::seed_from_u64(seed ^ 99);
    let (mut ids, mut accepted) = (std::collections::BTreeSet::new(), 0);
    let (mut rounds, mut done) = (0, 0);
    while done < LANES {
        match random.random_range(0..3) {
            0 => unmake_a_day(&harness, &mut random).await,
            // Fails when a writer holds a partition longer than a round waits.
            1 => rounds += u64::from(keeper.upkeep(&keep_all()).await.is_ok()),
            // Every event is counted once, also while rows are moved.
            _ => drop(balanced(&keeper, project).await),
        }
        while let Some(lane) = lanes.try_join_next() {
            let (of_lane, accepted_by_lane) = lane.expect("no panic");
            ids.extend(of_lane);
            accepted += accepted_by_lane;
            done += 1;
        }
    }
    let admin = harness.connect().await;
    upkeep_until(&keeper, &keep_all(), &admin, 0).await;
    let totals = balanced(&keeper, project).await;
    assert_eq!(totals.stored, ids.len() as u64, "seed {seed}");
    assert_eq!(totals.stored + totals.duplicate, accepted, "seed {seed}");
    assert!(rounds > 0, "no round of upkeep succeeded: seed {seed}");
    assert_eq!(old_days(&admin).await, 30, "seed {seed}");
}
