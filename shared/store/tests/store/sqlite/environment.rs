//! Failures of the file are never taken for failures of the data.

use millrace_store::sqlite::SqliteStore;
use millrace_store::{Accounts, Operators, Payload, StoreError, WriteRequest};
use uuid::Uuid;

use super::harness;
use crate::suite::environment::a_failure_leaves_the_data_writable;
use crate::suite::*;

async fn check_failure(spoil: &str, repair: &str, sqlstate: &str) {
    let harness = harness().await;
    let connection = harness.connect();
    let run = async |sql: &str| connection.execute_batch(sql).expect("the statements run");
    a_failure_leaves_the_data_writable(&harness, run, spoil, repair, sqlstate).await;
}

#[tokio::test]
async fn the_lock_of_another_process_is_not_blamed_on_the_data() {
    check_failure("BEGIN IMMEDIATE; UPDATE ledger_watermark SET first_time = 0", "ROLLBACK", "55P03").await;
}

#[tokio::test]
async fn a_table_of_another_shape_is_not_blamed_on_the_data() {
    let spoil = "DROP VIEW events_readable; ALTER TABLE events RENAME name TO title";
    check_failure(spoil, "ALTER TABLE events RENAME title TO name", "XX000").await;
}

#[tokio::test]
async fn a_missing_table_is_not_blamed_on_the_data() {
    let spoil = "DROP VIEW usage_readable; ALTER TABLE usage_hourly RENAME TO gone";
    check_failure(spoil, "ALTER TABLE gone RENAME TO usage_hourly", "XX000").await;
}

#[tokio::test]
async fn a_file_without_migrations_has_an_outdated_schema() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = SqliteStore::open(folder.path()).expect("a store");
    for error in [
        store.accounts().await.expect_err("there are no tables"),
        store.revoke_key(1).await.expect_err("there are no tables"),
    ] {
        assert!(matches!(error, StoreError::SchemaOutdated(_)), "{error}");
    }
    store.migrate().await.expect("migrated");
    let connection = super::connect(folder.path());
    connection.execute_batch("DELETE FROM schema_migrations WHERE version > 1").expect("deleted");
    connection
        .execute_batch("DROP VIEW usage_readable; ALTER TABLE redrives RENAME TO gone")
        .expect("renamed");
    let error = store.redrives(1).await.expect_err("the table is gone");
    assert!(matches!(error, StoreError::SchemaOutdated(_)), "{error}");
}

#[tokio::test]
async fn a_missing_table_of_a_migrated_file_is_not_an_outdated_schema() {
    let harness = harness().await;
    harness.connect().execute_batch("ALTER TABLE redrives RENAME TO gone").expect("renamed");
    let error = harness.store().redrives(1).await.expect_err("the table is gone");
    assert!(matches!(&error, StoreError::Refused { sqlstate, .. } if sqlstate == "XX000"), "{error}");
}

#[tokio::test]
async fn a_row_that_is_not_utf_8_becomes_a_dead_letter_and_the_others_are_stored() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let good = request(project, Uuid::now_v7(), entry(now, 0), &events(now, 1..=3));
    let Payload::Rows(rows) = &good.payload else { unreachable!("the request has rows") };
    let mut spoiled = rows.to_vec();
    let at =
        spoiled.windows(10).rposition(|bytes| bytes == b"thing_done").expect("the last event has this name");
    spoiled[at] = 0xFF;
    let request = WriteRequest { payload: Payload::Rows(spoiled.into()), ..good };
    for redelivered in [false, true] {
        let written = writer(&store).await.write(std::slice::from_ref(&request)).await.expect("written");
        let outcome = millrace_event::Outcome { stored: 2, duplicate: 0, dead: 1, conflict: 0 };
        assert_eq!(written, [WriteOutcome { outcome, redelivered }]);
    }
    let letters = harness.letters(project).await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].event_index, letters[0].sqlstate.as_deref()), (Some(2), Some("22021")));
    balanced(&store, project).await;
}

#[tokio::test]
async fn a_file_that_is_not_a_database_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("events.db"), "text that is longer than a few bytes".repeat(100))
        .expect("written");
    let refused = SqliteStore::open(folder.path()).map(|_| ()).expect_err("not a database");
    assert!(matches!(&refused, StoreError::Refused { sqlstate, .. } if sqlstate == "XX001"), "{refused}");
    let file = folder.path().join("events.db");
    let error = SqliteStore::open(&file).map(|_| ()).expect_err("a file is not a folder");
    assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
}

#[tokio::test]
async fn a_damaged_file_is_named_and_not_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("events.db");
    std::fs::write(&path, vec![0x5a; 32_768]).expect("written");
    for refused in [SqliteStore::open(folder.path()), SqliteStore::open_or_create(folder.path())] {
        let refused = refused.err().expect("it is not a database").to_string();
        assert!(refused.contains(&path.display().to_string()) && refused.contains("restore it"), "{refused}");
    }
    assert_eq!(std::fs::read(&path).expect("read"), vec![0x5a; 32_768]);

    // The schema is intact, and a table is not.
    std::fs::remove_file(&path).expect("removed");
    drop(SqliteStore::open_or_create(folder.path()).expect("created"));
    let root = "SELECT rootpage FROM sqlite_schema WHERE name = 'plans'";
    let root: usize = super::connect(folder.path()).query_row(root, [], |row| row.get(0)).expect("a table");
    let mut bytes = std::fs::read(&path).expect("read");
    bytes[(root - 1) * 8_192..root * 8_192].fill(0x5a);
    std::fs::write(&path, bytes).expect("written");
    let store = SqliteStore::open(folder.path()).expect("the head is intact");
    let refused = store.plans().await.expect_err("the tables are damaged").to_string();
    assert!(refused.contains("events.db is damaged") && refused.contains("restore the file"), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_is_created_has_all_its_tables_from_the_first_moment() {
    for _ in 0..5 {
        let folder = tempfile::tempdir().expect("a folder");
        let mut starts = tokio::task::JoinSet::new();
        for _ in 0..4 {
            let folder = folder.path().to_owned();
            starts.spawn(async move {
                while !folder.join("events.db").exists() {
                    let create = folder.clone();
                    tokio::task::spawn_blocking(move || SqliteStore::open_or_create(&create))
                        .await
                        .unwrap()
                        .unwrap();
                }
                let store = SqliteStore::open(&folder).expect("a store");
                store.check_schema().await.expect("all migrations are applied");
                assert_eq!(store.plans().await.expect("the tables exist").len(), 3);
            });
        }
        while let Some(started) = starts.join_next().await {
            started.expect("a start that works");
        }
        let names = std::fs::read_dir(folder.path()).expect("a folder");
        let left = names.flatten().filter(|entry| entry.file_name().to_string_lossy().contains("new"));
        assert_eq!(left.count(), 0);
    }
}
