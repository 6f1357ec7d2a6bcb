//! Failures of PostgreSQL are never taken for failures of the data.

use std::time::Duration;

use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{KeyOptions, Operators, PolicyChange, StoreError};
use testkit::chaos::{ChaosProxy, Wire};
use testkit::{Postgres, eventually};

use super::harness;
use crate::suite::environment::a_failure_leaves_the_data_writable;
use crate::suite::*;

/// Only a defect takes this long.
const SOON: Duration = Duration::from_secs(30);

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
    let request = request(project, new_batch_id(), entry(now, 0), &events(now, 1..=5));
    let admin = harness.connect().await;
    let name: String = admin.query_one("SELECT current_database()", &[]).await.expect("a name").get(0);
    let set = |value: &str| format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
    admin.batch_execute(&set("on")).await.expect("it can be set");
    let failed = store.writer("another").await.err().expect("it takes no writes");
    assert!(failed.to_string().contains("this PostgreSQL is read-only"), "{failed}");
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
        request(project, new_batch_id(), entry(old, 0), &events(old, 1..=5)),
        request(project, new_batch_id(), entry(old + DAY_MS, 0), &events(old, 5..=6)),
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
    let store = super::store(config);
    let error = store.accounts().await.expect_err("the port is closed");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
    assert!(store.writer("w").await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn accounts_are_read_and_events_written_only_where_the_server_takes_writes() {
    let (old, new) = tokio::join!(Postgres::start(), Postgres::start());
    let mut projects = Vec::new();
    for (server, name) in [(&old, "old"), (&new, "new")] {
        let store = super::store(server.config());
        store.migrate().await.expect("migrated");
        projects.push(project(&store, name).await);
    }
    let proxy = ChaosProxy::start(([127, 0, 0, 1], old.port()).into(), Wire::Postgres).await;
    let mut config = tokio_postgres::Config::new();
    config.user("postgres").dbname("postgres").host("127.0.0.1").port(proxy.address().port());
    let store = super::store(config.clone());
    let names = async || {
        let accounts = store.accounts().await?;
        Ok::<_, StoreError>(
            accounts.iter().map(|account| account.project_name.to_string()).collect::<Vec<_>>(),
        )
    };
    assert_eq!(names().await.expect("the old primary answers"), ["old"]);
    let mut lane = writer(&store).await;

    // The old primary lives on and takes no writes; the sessions of the pool stay open.
    let operator = old.connect().await;
    operator.batch_execute("ALTER SYSTEM SET default_transaction_read_only = on").await.expect("altered");
    operator.batch_execute("SELECT pg_reload_conf()").await.expect("reloaded");
    let refused = eventually(SOON, "the old primary to be refused", async || match names().await {
        Err(error) => Ok(error),
        Ok(names) => Err(format!("{names:?}")),
    })
    .await;
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(refused.to_string().contains("this PostgreSQL is read-only"), "{refused}");
    let now = now_ms();
    let request = request(projects[0], new_batch_id(), entry(now, 0), &events(now, 1..=5));
    let failed = lane.write(&[request]).await.expect_err("the session is read-only, too");
    assert_eq!(sqlstate_of(&failed), "25006", "{failed}");
    let refused = store.writer("w").await.err().expect("no writer");
    assert!(refused.to_string().contains("this PostgreSQL is read-only"), "{refused}");
    let command = PostgresStore::for_command(PostgresOptions {
        source: config.into(),
        pool_size: 1,
        application: "millrace",
    });
    assert_eq!(command.projects().await.expect("a command may read a standby").len(), 1);
    let refused = command
        .create_project("x", "pro", &PolicyChange::default(), &KeyOptions::default())
        .await
        .expect_err("it takes no writes");
    assert!(refused.to_string().contains("this PostgreSQL is read-only"), "{refused}");

    proxy.lead_to(([127, 0, 0, 1], new.port()).into());
    assert_eq!(names().await.expect("the new primary answers"), ["new"]);
    store.writer("w").await.expect("a writer");
}

#[tokio::test]
async fn a_schema_is_checked_after_a_migration_that_is_under_way() {
    let harness = harness().await;
    harness.store().check_schema().await.expect("all migrations are applied");
    let empty = harness.empty_database().await;
    let store = super::store(empty.config());
    let outdated = store.check_schema().await.expect_err("there are no tables").to_string();
    assert!(
        outdated.contains("0001_foundation") && outdated.contains("run `millrace migrate`"),
        "{outdated}"
    );
    let unprepared = store.writer("w").await.err().expect("there are no tables").to_string();
    assert!(unprepared.contains("run `millrace migrate`"), "{unprepared}");
    // Every process that starts migrates, and none finds half of the tables.
    let migrate = |config| async move { super::store(config).migrate().await };
    let check = async {
        eventually(SOON, "a migrated schema", async || match store.check_schema().await {
            Ok(()) => Ok(store.plans().await.expect("the tables exist")),
            Err(error) => Err(error.to_string()),
        })
        .await
    };
    let (first, second, third, plans) =
        tokio::join!(migrate(empty.config()), migrate(empty.config()), migrate(empty.config()), check);
    let applied: usize = [first, second, third].map(|applied| applied.expect("migrated").len()).iter().sum();
    assert!(applied >= 4 && plans.len() == 3, "{applied} {plans:?}");
}
