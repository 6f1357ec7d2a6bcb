//! Upkeep, notifications and session settings.

use std::time::Duration;

use millrace_store::{KeyOptions, PolicyChange, UpkeepPolicy};

use super::harness;
use crate::suite::*;

#[tokio::test]
async fn rows_of_the_default_partition_move_when_their_day_gets_a_partition() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let admin = harness.connect().await;
    // As if upkeep had not run for days.
    let partitions =
        "SELECT format('DROP TABLE %I', c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid
                       WHERE inhparent = 'events'::regclass AND relname <> 'events_default'";
    for row in admin.query(partitions, &[]).await.expect("partitions") {
        admin.batch_execute(row.get(0)).await.expect("dropped");
    }
    let days = [0, 1, 2].map(|days| now - days * DAY_MS);
    let batch: Vec<_> =
        days.iter().flat_map(|&ms| events(ms, 1..=5)).chain(events(now - 90 * DAY_MS, [9])).collect();
    let first = request(project, new_batch_id(), entry(now, 0), &batch);
    let mut lane = writer(&store).await;
    lane.write(&[first]).await.expect("written");
    let in_default = async || -> i64 {
        admin.query_one("SELECT count(*) FROM events_default", &[]).await.expect("a count").get(0)
    };
    assert_eq!(in_default().await, 16);
    let before = harness.events(project).await;

    // A writer keeps writing while rows are moved.
    let policy = keep_all();
    let second = request(project, new_batch_id(), entry(now, 1), &batch);
    let (report, written) = tokio::join!(store.upkeep(&policy), async { lane.write(&[second]).await });
    assert!(report.expect("upkeep").expect("no other process does the upkeep").partitions_made >= 11);
    assert_eq!(written.expect("written").map_outcomes(), [duplicate(16)]);
    // The writer may have held a lock when the row of 90 days ago was to move.
    store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    assert_eq!(in_default().await, 0);
    assert_eq!(harness.events(project).await, before);
    balanced(&store, project).await;
}

#[tokio::test]
async fn only_one_process_at_a_time_does_the_upkeep() {
    let harness = harness().await;
    let store = harness.store();
    let rival = harness.connect().await;
    rival.batch_execute("SELECT pg_advisory_lock(1801807216)").await.expect("locked");
    assert_eq!(store.upkeep(&keep_all()).await.expect("an answer"), None);
    rival.batch_execute("SELECT pg_advisory_unlock(1801807216)").await.expect("unlocked");
    assert!(store.upkeep(&keep_all()).await.expect("an answer").is_some());
}

#[tokio::test]
async fn upkeep_gives_up_rather_than_block_a_writer() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let old = now_ms() - 5 * DAY_MS;
    let batch = request(project, new_batch_id(), entry(now_ms(), 0), &events(old, 1..=5));
    writer(&store).await.write(&[batch]).await.expect("written");
    let reader = harness.connect().await;
    reader.batch_execute("BEGIN; SELECT count(*) FROM events").await.expect("a long query");
    let policy = UpkeepPolicy { retention_days: Some(2), ..keep_all() };
    store.upkeep(&policy).await.expect_err("the table is in use");
    assert_eq!(balanced(&store, project).await.event_rows, 5);
    reader.batch_execute("COMMIT").await.expect("done");
    store.upkeep(&policy).await.expect("upkeep").expect("no other process does the upkeep");
    assert!(harness.events(project).await.is_empty());
    assert_eq!(balanced(&store, project).await.event_rows, 5);
}

#[tokio::test]
async fn using_a_key_is_not_a_change_of_accounts_but_its_expiry_is() {
    let harness = harness().await;
    let store = harness.store();
    let (project, key) = store
        .create_project("p", "free", &PolicyChange::default(), &KeyOptions::default())
        .await
        .expect("a project");
    let (client, mut connection) = harness.config.connect(tokio_postgres::NoTls).await.expect("a connection");
    let mut notified = Vec::new();
    let statements = async {
        client.batch_execute("LISTEN millrace_accounts").await.expect("listening");
        store.touch_keys(&[key_use(key.key_id)]).await.expect("touched");
        store.create_key("p", &KeyOptions::default()).await.expect("a key");
        client.batch_execute("UPDATE api_keys SET expires_at = now()").await.expect("expired");
        client.batch_execute("SELECT 1").await.expect("an answer after the notifications");
    };
    tokio::pin!(statements);
    loop {
        let next = std::future::poll_fn(|context| connection.poll_message(context));
        tokio::select! {
            () = &mut statements => break,
            Some(Ok(tokio_postgres::AsyncMessage::Notification(message))) = next => notified.push(message.payload().to_owned()),
        }
    }
    let expected = project.to_string();
    assert_eq!(notified, [expected.as_str(), &expected], "one notification of each change, with its project");
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
    // A trigger records the setting of the session that commits.
    admin
        .batch_execute(
            "CREATE TABLE seen (setting text);
             CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
             $$BEGIN INSERT INTO seen VALUES (current_setting('synchronous_commit')); RETURN NULL; END$$;
             CREATE TRIGGER see AFTER INSERT ON usage_hourly EXECUTE FUNCTION see();",
        )
        .await
        .expect("a trigger");
    let request = request(project, new_batch_id(), entry(now, 0), &events(now, 1..=2));
    tokio::time::timeout(Duration::from_secs(60), writer(&store).await.write(&[request]))
        .await
        .expect("in time")
        .expect("written");
    let seen: String = admin.query_one("SELECT setting FROM seen", &[]).await.expect("seen").get(0);
    assert_eq!(seen, "on");
}
