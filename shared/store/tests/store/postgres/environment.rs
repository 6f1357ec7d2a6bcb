//! Failures of PostgreSQL are never taken for failures of the data.

use std::time::Duration;

use millrace_store::StoreError;
use uuid::Uuid;

use super::harness;
use crate::suite::environment::a_failure_leaves_the_data_writable;
use crate::suite::*;

async fn check_failure(spoil: &str, repair: &str, sqlstate: &str) {
    let harness = harness().await;
    let session = harness.connect().await;
    let run = async |sql: &str| session.batch_execute(sql).await.expect("the statements run");
    a_failure_leaves_the_data_writable(&harness, run, spoil, repair, sqlstate).await;
}

#[tokio::test]
async fn a_lock_on_events_is_not_blamed_on_the_data() {
    check_failure("BEGIN; LOCK TABLE events IN ACCESS EXCLUSIVE MODE", "ROLLBACK", "55P03").await;
}

#[tokio::test]
async fn a_lock_on_usage_is_not_blamed_on_the_data() {
    check_failure("BEGIN; LOCK TABLE usage_hourly IN ACCESS EXCLUSIVE MODE", "ROLLBACK", "55P03").await;
}

#[tokio::test]
async fn a_missing_table_is_not_blamed_on_the_data() {
    check_failure(
        "ALTER TABLE usage_hourly RENAME TO gone",
        "ALTER TABLE gone RENAME TO usage_hourly",
        "42P01",
    )
    .await;
}

#[tokio::test]
async fn a_table_of_another_shape_is_not_blamed_on_the_data() {
    check_failure(
        "ALTER TABLE events RENAME name TO title",
        "ALTER TABLE events RENAME title TO name",
        "42703",
    )
    .await;
}

#[tokio::test]
async fn an_operators_check_on_the_ledger_is_not_taken_for_a_retired_day() {
    let spoil = "ALTER TABLE batches ADD CONSTRAINT small_batches CHECK (accepted < 3)";
    check_failure(spoil, "ALTER TABLE batches DROP CONSTRAINT small_batches", "23514").await;
}

#[tokio::test]
async fn an_operators_check_on_usage_is_not_taken_for_a_retired_day() {
    let spoil = "ALTER TABLE usage_hourly ADD CONSTRAINT little_usage CHECK (events < 3)";
    check_failure(spoil, "ALTER TABLE usage_hourly DROP CONSTRAINT little_usage", "23514").await;
}

#[tokio::test]
async fn a_read_only_database_is_not_blamed_on_the_data() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let request = request(project, Uuid::now_v7(), entry(now, 0), &events(now, 1..=5));
    let admin = harness.connect().await;
    let name: String = admin.query_one("SELECT current_database()", &[]).await.expect("a name").get(0);
    let set = |value: &str| format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
    admin.batch_execute(&set("on")).await.expect("it can be set");
    let failed = writer(&store).await.write(std::slice::from_ref(&request)).await.expect_err("read-only");
    assert_eq!(sqlstate_of(&failed), "25006", "{failed}");
    admin
        .batch_execute(&format!("SET default_transaction_read_only = off; {}", set("off")))
        .await
        .expect("set");
    let written = writer(&store).await.write(&[request]).await.expect("written");
    assert_eq!(written.map_outcomes(), [stored(5)]);
    assert!(harness.letters(project).await.is_empty());
}

#[tokio::test]
async fn a_missing_ledger_partition_is_created() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    // Received before the days that have partitions, as when the database was unreachable for weeks.
    let old = now_ms() - 30 * DAY_MS;
    let requests = [
        request(project, Uuid::now_v7(), entry(old, 0), &events(old, 1..=5)),
        request(project, Uuid::now_v7(), entry(old + DAY_MS, 0), &events(old, 5..=6)),
    ];
    let written = writer(&store).await.write(&requests).await.expect("written");
    assert_eq!(written.iter().map(|written| written.outcome.stored).collect::<Vec<_>>(), [5, 1]);
    balanced(&store, project).await;
}

#[tokio::test]
async fn a_database_without_migrations_has_an_outdated_schema() {
    let harness = harness().await;
    let empty = harness.empty_database().await;
    let error = super::store(empty.config()).accounts().await.expect_err("there are no tables");
    assert!(matches!(error, StoreError::SchemaOutdated(_)), "{error}");
}

#[tokio::test]
async fn an_unreachable_database_is_unavailable() {
    let mut config = tokio_postgres::Config::new();
    config.host("127.0.0.1").port(1).user("no-one").dbname("nothing").connect_timeout(Duration::from_secs(5));
    let store = super::store(config.clone());
    let error = store.accounts().await.expect_err("the port is closed");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(store.writer("w").await.is_err());
    config.ssl_mode(tokio_postgres::config::SslMode::Require);
    let refused = super::store(config).accounts().await.expect_err("no TLS");
    assert!(refused.to_string().contains("sslmode=require"), "{refused}");
}
