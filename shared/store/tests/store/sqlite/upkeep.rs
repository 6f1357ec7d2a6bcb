//! Retention, free space, changes by other processes, and the views and indexes of the file.

use std::time::Duration;

use millrace_event::row::EventTime;
use millrace_store::{ChangeMark, KeyOptions, PolicyChange, UpkeepPolicy};
use rusqlite::Connection;
use testkit::eventually;
use uuid::Uuid;

use super::harness;
use crate::suite::*;

const DEADLINE: Duration = Duration::from_secs(60);

fn number(connection: &Connection, sql: &str) -> i64 {
    connection.query_row(sql, [], |row| row.get(0)).expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_returns_space_to_the_disk_while_writers_run() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let old = now - 5 * DAY_MS;
    let mut lane = writer(&store).await;
    let big = format!(r#"{{"text":"{}"}}"#, "x".repeat(2_000));
    for seq in 0..10 {
        let first = u128::from(seq) * 2_000;
        let batch: Vec<_> = events(old, first..first + 2_000)
            .into_iter()
            .map(|event| Event { properties: Some(big.clone()), ..event })
            .collect();
        lane.write(&[request(project, Uuid::now_v7(), entry(old, seq), &batch)]).await.expect("written");
    }
    let connection = harness.connect();
    let pages = number(&connection, "PRAGMA page_count");
    let policy = UpkeepPolicy { retention_days: Some(2), ..keep_all() };
    let (report, written) = tokio::join!(store.upkeep(&policy), async {
        let mut written = Vec::new();
        for seq in 0..20 {
            let batch = request(project, Uuid::now_v7(), entry(now, seq), &events(now + seq, 1..=10));
            written.extend(lane.write(&[batch]).await.expect("written").map_outcomes());
        }
        written
    });
    assert_eq!(report.expect("upkeep").expect("no other process does the upkeep").partitions_retired, 1);
    assert_eq!(written, vec![stored(10); 20]);
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, harness.events(project).await.len()), (20_200, 200));
    let left = number(&connection, "PRAGMA page_count");
    assert!(left < pages / 2, "{left} pages are left of {pages}");
}

#[tokio::test]
async fn using_a_key_is_not_a_change_of_accounts_but_its_expiry_is() {
    let harness = harness().await;
    let store = harness.store();
    let (_, key) = store
        .create_project("p", "free", &PolicyChange::default(), &KeyOptions::default())
        .await
        .expect("a project");
    let version = || number(&harness.connect(), "SELECT version FROM accounts_version");
    let before = version();
    store.touch_keys(&[key_use(key.key_id)]).await.expect("touched");
    assert_eq!(version(), before);
    store.create_key("p", &KeyOptions::default()).await.expect("a key");
    assert_eq!(version(), before + 1);
    let end = "UPDATE api_keys SET expires_at = 1 WHERE key_id = ?1";
    harness.connect().execute(end, [key.key_id]).expect("expired");
    assert_eq!(version(), before + 2);
}

#[tokio::test]
async fn a_change_made_with_sql_is_noticed() {
    let harness = harness().await;
    let store = harness.store();
    project(&store, "p").await;
    let quiet = async || {
        // All changes are noticed when a wait of a second times out.
        let started = tokio::time::Instant::now();
        store.accounts_changed(ChangeMark::default(), Duration::from_secs(1)).await;
        started.elapsed() >= Duration::from_secs(1)
    };
    eventually(DEADLINE, "the earlier changes to be noticed", quiet).await;
    let long = Duration::from_secs(600);
    let change = async { harness.connect().execute("UPDATE plans SET burst = 7 WHERE name = 'pro'", []) };
    let (_, changed) = tokio::time::timeout(DEADLINE, async {
        tokio::join!(store.accounts_changed(ChangeMark::default(), long), change)
    })
    .await
    .expect("the change is noticed");
    assert_eq!(changed.expect("changed"), 1);
}

#[tokio::test]
async fn events_are_readable_with_sql() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "shop").await;
    let id = Uuid::from_u128(0x0193_4f5e_7c2a_7def_8123_4567_89ab_cdef);
    let sold = Event {
        id,
        properties: Some(r#"{"price": 49.9, "deep": [1, {"a": null}]}"#.to_owned()),
        ..event(EventTime::At(1_795_248_000_123_456), 0)
    };
    let early = event(EventTime::At(-1), 2);
    let request = request(project, Uuid::now_v7(), entry(1_795_248_001_007, 0), &[sold, early]);
    writer(&store).await.write(&[request]).await.expect("written");
    let read =
        "SELECT project, timestamp, received_at, event_id, properties ->> '$.price', json_valid(properties)
                  FROM events_readable WHERE project_id = 1 AND timestamp_us > 0";
    let row = harness.connect().query_row(read, [], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
    });
    let (project, timestamp, received_at, event_id, price, valid): (
        String,
        String,
        String,
        String,
        f64,
        bool,
    ) = row.expect("a row");
    assert_eq!((project.as_str(), timestamp.as_str()), ("shop", "2026-11-21T08:00:00.123456Z"));
    assert_eq!((received_at.as_str(), event_id), ("2026-11-21T08:00:01.007000Z", id.to_string()));
    assert_eq!((price, valid), (49.9, true));
    let before = "SELECT timestamp FROM events_readable WHERE timestamp_us < 0";
    let before: String = harness.connect().query_row(before, [], |row| row.get(0)).expect("a row");
    assert_eq!(before, "1969-12-31T23:59:59.999999Z");
}

#[tokio::test]
async fn every_deletion_and_every_lookup_uses_an_index() {
    let harness = harness().await;
    let connection = harness.connect();
    for (sql, table) in [
        (
            "SELECT project_id, timestamp, event_id FROM events WHERE received_at < 9 ORDER BY received_at LIMIT 9",
            "events",
        ),
        ("DELETE FROM events WHERE (project_id, timestamp, event_id) IN (SELECT 1, 2, x'00')", "events"),
        (
            "DELETE FROM batches WHERE (batch_id, received_at, entry_seq, shard) IN (SELECT x'00', 1, 2, 3)",
            "batches",
        ),
        ("DELETE FROM undated_ids WHERE (project_id, event_id) IN (SELECT 1, x'00')", "undated_ids"),
        ("SELECT * FROM events_readable WHERE project_id = 1 AND timestamp_us > 5", "e"),
    ] {
        let mut plan = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).expect("a plan");
        let steps: Vec<String> =
            plan.query_map([], |row| row.get(3)).expect("steps").collect::<Result<_, _>>().expect("steps");
        assert!(steps.iter().any(|step| step.starts_with(&format!("SEARCH {table} "))), "{sql}: {steps:?}");
    }
}
