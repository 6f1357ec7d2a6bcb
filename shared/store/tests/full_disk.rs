//! A full disk is not blamed on the data and loses nothing. Needs a file system of a fixed size, which only
//! root may mount; elsewhere the test is reported as ignored.

mod helpers;

use std::process::ExitCode;

use helpers::*;
use libtest_mimic::{Arguments, Trial};
use millrace_store::sqlite::SqliteStore;
use millrace_store::{SharedStore, WriteOutcome};
use testkit::Tmpfs;
use uuid::Uuid;

const MIB: u64 = 1 << 20;
const BATCH_EVENTS: u64 = 500;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let reason = Tmpfs::mount(MIB).err();
    if let Some(reason) = &reason {
        eprintln!("ignored: {reason}");
    }
    let trial = Trial::test("a_full_disk_is_not_blamed_on_the_data_and_loses_nothing", || {
        let runtime = tokio::runtime::Runtime::new().expect("a runtime");
        runtime.block_on(a_full_disk_is_not_blamed_on_the_data_and_loses_nothing());
        Ok(())
    });
    libtest_mimic::run(&arguments, vec![trial.with_ignored_flag(reason.is_some())]).exit_code()
}

async fn a_full_disk_is_not_blamed_on_the_data_and_loses_nothing() {
    let disk = Tmpfs::mount(4 * MIB).expect("run this test as root");
    let store: SharedStore = SqliteStore::open(&disk.path().join("data")).expect("a store");
    store.migrate().await.expect("migrated");
    let project = project(&store, "p").await;
    let now = now_ms();
    let batch = |seq: u64| {
        let first = u128::from(seq * BATCH_EVENTS);
        let events = events(now, first..first + u128::from(BATCH_EVENTS));
        request(project, Uuid::now_v7(), entry(now, seq), &events)
    };
    let (mut written, mut lane) = (Vec::new(), writer(&store).await);
    let (failed, sqlstate) = loop {
        let request = batch(written.len() as u64);
        match lane.write(std::slice::from_ref(&request)).await {
            Ok(_) => written.push(request),
            Err(error) => break (request, sqlstate_of(&error).to_owned()),
        }
    };
    assert_eq!(sqlstate, "53100");
    writer(&store).await.write(std::slice::from_ref(&failed)).await.expect_err("the disk is still full");
    assert_eq!(balanced(&store, project).await.stored, written.len() as u64 * BATCH_EVENTS);
    disk.resize(64 * MIB);
    let after = writer(&store).await.write(std::slice::from_ref(&failed)).await.expect("written");
    assert_eq!(after, [WriteOutcome { outcome: stored(500), redelivered: false }]);
    let again = writer(&store).await.write(&written).await.expect("written");
    assert!(again.iter().all(|written| written.redelivered));
    let totals = balanced(&store, project).await;
    assert_eq!((totals.stored, totals.dead), ((written.len() as u64 + 1) * BATCH_EVENTS, 0));
}
