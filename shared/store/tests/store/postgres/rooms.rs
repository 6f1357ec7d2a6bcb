//! Partitions, notifications, and taking turns.

use std::time::Duration;

use millrace_store::UpkeepPolicy;
use uuid::Uuid;

use super::harness;
use crate::suite::*;

#[tokio::test]
async fn rows_of_the_default_partition_move_when_their_day_gets_its_own() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let admin = harness.connect().await;
    // As if the upkeep had not run for days.
    let partitions =
        "SELECT format('DROP TABLE %I', c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid
                       WHERE inhparent = 'events'::regclass AND relname <> 'events_default'";
    for row in admin.query(partitions, &[]).await.expect("partitions") {
        admin.batch_execute(row.get(0)).await.expect("dropped");
    }
    let days = [0, 1, 2].map(|days| now - days * DAY_MS);
    let batch: Vec<_> =
        days.iter().flat_map(|&ms| events(ms, 1..=5)).chain(events(now - 90 * DAY_MS, [9])).collect();
    let first = work(project, Uuid::now_v7(), entry(now, 0), &batch);
    let mut lane = writer(&store).await;
    lane.write(&[first]).await.expect("written");
    let in_default = async || -> i64 {
        admin.query_one("SELECT count(*) FROM events_default", &[]).await.expect("a count").get(0)
    };
    assert_eq!(in_default().await, 16);
    let before = harness.events(project).await;

    // A writer goes on while rows move under it.
    let policy = keep_all();
    let second = work(project, Uuid::now_v7(), entry(now, 1), &batch);
    let (report, written) = tokio::join!(store.upkeep(&policy), async { lane.write(&[second]).await });
    assert!(report.expect("upkeep").expect("our turn").partitions_made >= 11);
    assert_eq!(written.expect("written").map_outcomes(), [duplicate(16)]);
    assert_eq!(in_default().await, 1);
    assert_eq!(harness.events(project).await, before);
    balanced(&store, project).await;
}

#[tokio::test]
async fn one_process_at_a_time_does_the_upkeep() {
    let harness = harness().await;
    let store = harness.store();
    let rival = harness.connect().await;
    rival.batch_execute("SELECT pg_advisory_lock(1801807216)").await.expect("locked");
    assert_eq!(store.upkeep(&keep_all()).await.expect("an answer"), None);
    rival.batch_execute("SELECT pg_advisory_unlock(1801807216)").await.expect("unlocked");
    assert!(store.upkeep(&keep_all()).await.expect("an answer").is_some());
}

#[tokio::test]
async fn upkeep_gives_up_rather_than_keep_a_writer_waiting() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let old = now_ms() - 5 * DAY_MS;
    let batch = work(project, Uuid::now_v7(), entry(now_ms(), 0), &events(old, 1..=5));
    writer(&store).await.write(&[batch]).await.expect("written");
    let reader = harness.connect().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM events").await.expect("a long report");
    let policy = UpkeepPolicy { retention_days: Some(2), ..keep_all() };
    store.upkeep(&policy).await.expect_err("the table is in use");
    assert_eq!(balanced(&store, project).await.event_rows, 5);
    reader.batch_execute("COMMIT").await.expect("done");
    store.upkeep(&policy).await.expect("upkeep").expect("our turn");
    assert!(harness.events(project).await.is_empty());
    assert_eq!(balanced(&store, project).await.event_rows, 5);
}

#[tokio::test]
async fn undated_ids_are_forgotten_after_two_days() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let undated = |ms, id| {
        let batch = [event(millrace_event::row::EventTime::Undated, id)];
        work(project, Uuid::now_v7(), entry(ms, 0), &batch)
    };
    let works = [undated(now - 50 * 3_600_000, 1), undated(now - 46 * 3_600_000, 2)];
    writer(&store).await.write(&works).await.expect("written");
    let admin = harness.connect().await;
    let left = async || -> i64 {
        admin.query_one("SELECT count(*) FROM undated_ids", &[]).await.expect("a count").get(0)
    };
    let behind = UpkeepPolicy { oldest_pending_ms: Some(now - 3 * 3_600_000), ..keep_all() };
    store.upkeep(&behind).await.expect("upkeep").expect("our turn");
    assert_eq!(left().await, 2, "an entry that is still pending could repeat the first");
    store.upkeep(&keep_all()).await.expect("upkeep").expect("our turn");
    assert_eq!(left().await, 1);
}

#[tokio::test]
async fn the_use_of_a_key_is_no_change_of_accounts_but_its_end_is_one() {
    let harness = harness().await;
    let store = harness.store();
    let (_, key) = store.create_project("p", "free", None, false).await.expect("a project");
    let (client, mut connection) =
        harness.database.config().connect(tokio_postgres::NoTls).await.expect("a connection");
    let mut heard = Vec::new();
    let talk = async {
        client.batch_execute("LISTEN millrace_accounts").await.expect("listening");
        store.touch_keys(&[(key.key_id, time::OffsetDateTime::now_utc())]).await.expect("touched");
        store.create_key("p", None, false).await.expect("a key");
        client.batch_execute("UPDATE api_keys SET expires_at = now()").await.expect("an end by hand");
        client.batch_execute("SELECT 1").await.expect("an answer, after what was to be heard");
    };
    tokio::pin!(talk);
    loop {
        let next = std::future::poll_fn(|context| connection.poll_message(context));
        tokio::select! {
            () = &mut talk => break,
            Some(Ok(tokio_postgres::AsyncMessage::Notification(message))) = next => heard.push(message.payload().len()),
        }
    }
    assert_eq!(heard, [0, 0], "one notification of each change");
}

#[tokio::test]
async fn a_session_never_commits_before_the_disk_has_it() {
    let harness = harness().await;
    let admin = harness.connect().await;
    let name: String = admin.query_one("SELECT current_database()", &[]).await.expect("a name").get(0);
    admin.batch_execute(&format!("ALTER DATABASE {name} SET synchronous_commit = off")).await.expect("set");
    let store = harness.another();
    let project = project(&store, "p").await;
    let now = now_ms();
    // The commit waits, and can be seen to, for a session that left the setting alone does not.
    admin
        .batch_execute(
            "CREATE TABLE seen (setting text);
             CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END$$;
             CREATE TRIGGER see AFTER INSERT ON usage_hourly EXECUTE FUNCTION see();",
        )
        .await
        .expect("a witness");
    let work = work(project, Uuid::now_v7(), entry(now, 0), &events(now, 1..=2));
    tokio::time::timeout(Duration::from_secs(60), writer(&store).await.write(&[work]))
        .await
        .expect("in time")
        .expect("written");
    let seen: String = admin.query_one("SELECT setting FROM seen", &[]).await.expect("seen").get(0);
    assert_eq!(seen, "on");
}
