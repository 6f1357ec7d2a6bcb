//! What is not the data's fault is never held against it.

use millrace_store::sqlite::SqliteStore;
use millrace_store::{Payload, StoreError, WriteError, WriteRequest};
use testkit::Tmpfs;
use uuid::Uuid;

use super::{harness, store};
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
    let saboteur = harness.connect();
    saboteur.execute_batch(spoil).expect("it can be spoilt");
    let refused = lane.write(std::slice::from_ref(&work)).await.expect_err("it cannot be written");
    assert_eq!(sqlstate_of(&refused), sqlstate, "{refused}");
    assert!(lane.write(std::slice::from_ref(&work)).await.is_err(), "a writer is not used after an error");
    saboteur.execute_batch(mend).expect("it can be mended");
    let written = writer(&store).await.write(&[work]).await.expect("written");
    assert_eq!(written.map_outcomes(), [stored(5)]);
    assert!(harness.letters(project).await.is_empty());
    balanced(&store, project).await;
}

#[tokio::test]
async fn another_process_that_holds_the_file_is_waited_for_and_not_held_against_the_data() {
    spoiled("BEGIN IMMEDIATE; UPDATE ledger_watermark SET first_time = 0", "ROLLBACK", "55P03").await;
}

#[tokio::test]
async fn a_table_of_another_shape_is_not_held_against_the_data() {
    let spoil = "DROP VIEW events_readable; ALTER TABLE events RENAME name TO title";
    spoiled(spoil, "ALTER TABLE events RENAME title TO name", "XX000").await;
}

#[tokio::test]
async fn a_table_that_is_not_there_is_not_held_against_the_data() {
    let spoil = "DROP VIEW usage_readable; ALTER TABLE usage_hourly RENAME TO gone";
    spoiled(spoil, "ALTER TABLE gone RENAME TO usage_hourly", "XX000").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_not_held_against_the_data_and_loses_nothing() {
    const MIB: u64 = 1 << 20;
    let disk = match Tmpfs::mount(4 * MIB) {
        Ok(disk) => disk,
        Err(reason) => return eprintln!("not tried: {reason}"),
    };
    let folder = disk.path().join("data");
    let store = store(&folder);
    store.migrate().await.expect("migrated");
    let project = project(&store, "p").await;
    let now = now_ms();
    let batch = |seq: u64| {
        let first = u128::from(seq) * 500;
        work(project, Uuid::now_v7(), entry(now, seq), &events(now, first..first + 500))
    };
    let (mut written, mut lane) = (Vec::new(), writer(&store).await);
    let (refused, sqlstate) = loop {
        let work = batch(written.len() as u64);
        match lane.write(std::slice::from_ref(&work)).await {
            Ok(_) => written.push(work),
            Err(error) => break (work, sqlstate_of(&error).to_owned()),
        }
    };
    assert_eq!(sqlstate, "53100");
    writer(&store).await.write(std::slice::from_ref(&refused)).await.expect_err("the disk is still full");
    assert_eq!(balanced(&store, project).await.stored, written.len() as u64 * 500);
    disk.resize(64 * MIB);
    let after = writer(&store).await.write(std::slice::from_ref(&refused)).await.expect("written");
    assert_eq!(after, [WriteOutcome { outcome: stored(500), redelivered: false }]);
    let again = writer(&store).await.write(&written).await.expect("written");
    assert!(again.iter().all(|written| written.redelivered));
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead), ((written.len() as u64 + 1) * 500, 0));
}

#[tokio::test]
async fn a_row_that_is_no_text_becomes_a_letter_and_its_neighbours_are_stored() {
    let harness = harness().await;
    let store = harness.store();
    let project = project(&store, "p").await;
    let now = now_ms();
    let good = work(project, Uuid::now_v7(), entry(now, 0), &events(now, 1..=3));
    let Payload::Rows(rows) = &good.body else { unreachable!("they are rows") };
    let mut spoilt = rows.to_vec();
    let at = spoilt.windows(10).rposition(|bytes| bytes == b"thing_done").expect("the last name");
    spoilt[at] = 0xFF;
    let work = WriteRequest { body: Payload::Rows(spoilt.into()), ..good };
    for redelivered in [false, true] {
        let written = writer(&store).await.write(std::slice::from_ref(&work)).await.expect("written");
        let outcome = millrace_event::Outcome { stored: 2, duplicate: 0, dead: 1 };
        assert_eq!(written, [WriteOutcome { outcome, redelivered }]);
    }
    let letters = harness.letters(project).await;
    assert_eq!(letters.len(), 1);
    assert_eq!((letters[0].event_index, letters[0].sqlstate.as_deref()), (Some(2), Some("22021")));
    balanced(&store, project).await;
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused_with_its_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(
        folder.path().join("events.db"),
        "a letter to a friend, of more than a few bytes".repeat(100),
    )
    .expect("written");
    let refused = SqliteStore::open(folder.path()).map(|_| ()).expect_err("no database");
    assert!(matches!(&refused, StoreError::Refused { sqlstate, .. } if sqlstate == "XX001"), "{refused}");
    let file = folder.path().join("events.db");
    let unmade = SqliteStore::open(&file).map(|_| ()).expect_err("a file is no folder");
    assert!(matches!(unmade, StoreError::Unavailable(_)), "{unmade}");
}

fn sqlstate_of(error: &WriteError) -> &str {
    match error {
        WriteError::Environment { sqlstate, .. } => sqlstate,
        WriteError::LedgerRetired => "the ledger is retired",
    }
}
