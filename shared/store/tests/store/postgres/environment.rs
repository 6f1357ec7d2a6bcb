//! What is not the data's fault is never held against it.

use std::time::Duration;

use millrace_store::WriteError;
use uuid::Uuid;

use super::harness;
use crate::suite::*;

/// Writes one batch while `spoil` holds, expects a failure of the environment with that SQLSTATE; then writes it again
/// after `mend`, and expects it to be stored as if nothing had been.
async fn spoiled(spoil: &str, mend: &str, sqlstate: &str) {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let work = work(project, Uuid::now_v7(), entry(now, 0), &events(now, 1..=5));
    let mut lane = writer(&store).await;
    let saboteur = harness.connect().await;
    saboteur.batch_execute(spoil).await.expect("it can be spoilt");
    let refused = lane.write(std::slice::from_ref(&work)).await.expect_err("it cannot be written");
    assert_eq!(sqlstate_of(&refused), sqlstate, "{refused}");
    assert!(lane.write(std::slice::from_ref(&work)).await.is_err(), "a writer is not used after an error");
    saboteur.batch_execute(mend).await.expect("it can be mended");
    let written = writer(&store).await.write(&[work]).await.expect("written");
    assert_eq!(written.map_outcomes(), [stored(5)]);
    assert!(harness.letters(project).await.is_empty());
    balanced(&store, project).await;
}

#[tokio::test]
async fn a_lock_on_the_table_is_waited_for_and_not_held_against_the_data() {
    spoiled("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE", "ROLLBACK", "55P03").await;
}

#[tokio::test]
async fn a_lock_on_the_meters_is_not_held_against_the_data() {
    spoiled("BEGIN; LOCK TABLE usage_hourly IN ACCESS EXCLUSIVE MODE", "ROLLBACK", "55P03").await;
}

#[tokio::test]
async fn a_table_that_is_not_there_is_not_held_against_the_data() {
    spoiled("ALTER TABLE usage_hourly RENAME TO gone", "ALTER TABLE gone RENAME TO usage_hourly", "42P01")
        .await;
}

#[tokio::test]
async fn a_table_of_another_shape_is_not_held_against_the_data() {
    spoiled("ALTER TABLE events RENAME name TO title", "ALTER TABLE events RENAME title TO name", "42703")
        .await;
}

#[tokio::test]
async fn a_read_only_database_is_not_held_against_the_data() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let work = work(project, Uuid::now_v7(), entry(now, 0), &events(now, 1..=5));
    let admin = harness.connect().await;
    let name: String = admin.query_one("SELECT current_database()", &[]).await.expect("a name").get(0);
    let set = |value: &str| format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
    admin.batch_execute(&set("on")).await.expect("it can be set");
    let refused = writer(&store).await.write(std::slice::from_ref(&work)).await.expect_err("read-only");
    assert_eq!(sqlstate_of(&refused), "25006", "{refused}");
    admin
        .batch_execute(&format!("SET default_transaction_read_only = off; {}", set("off")))
        .await
        .expect("set");
    let written = writer(&store).await.write(&[work]).await.expect("written");
    assert_eq!(written.map_outcomes(), [stored(5)]);
    assert!(harness.letters(project).await.is_empty());
}

#[tokio::test]
async fn a_missing_ledger_partition_is_made() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    // Received before the days that are made ahead, as when the database was away for long.
    let old = now_ms() - 30 * DAY_MS;
    let works = [
        work(project, Uuid::now_v7(), entry(old, 0), &events(old, 1..=5)),
        work(project, Uuid::now_v7(), entry(old + DAY_MS, 0), &events(old, 5..=6)),
    ];
    let written = writer(&store).await.write(&works).await.expect("written");
    assert_eq!(written.iter().map(|written| written.outcome.stored).collect::<Vec<_>>(), [5, 1]);
    balanced(&store, project).await;
}

#[tokio::test]
async fn a_database_that_is_not_there_is_unavailable_and_not_refused() {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(1).user("nobody").dbname("nothing").connect_timeout(Duration::from_secs(5));
    let store = super::store(config.clone());
    let read = store.accounts().await.expect_err("nobody is there");
    assert!(matches!(read, millrace_store::StoreError::Unavailable(_)), "{read}");
    assert!(store.writer("w").await.is_err());
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    let refused = super::store(config).accounts().await.expect_err("no TLS");
    assert!(refused.to_string().contains("sslmode=require"), "{refused}");
}

fn sqlstate_of(error: &WriteError) -> &str {
    match error {
        WriteError::Environment { sqlstate, .. } => sqlstate,
        WriteError::LedgerRetired => "the ledger is retired",
    }
}
