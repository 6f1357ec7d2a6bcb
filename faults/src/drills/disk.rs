//! The disk of PostgreSQL is full: first that of its tables, then that of everything.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use testkit::oracle::Load;
use testkit::{ServerOptions, Tmpfs, eventually};

use crate::metric;
use crate::node::SOON;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "disk of the events full",
        target: "PostgreSQL",
        fault: "the tablespace of events is full, then has room again",
        expected: "writers wait; nothing is dead-lettered; the stream drains by itself",
        tier: Tier::Nightly,
        run: |drill| Box::pin(tables_full(drill)),
    },
    Row {
        name: "disk of postgres full",
        target: "PostgreSQL",
        fault: "no room for the write-ahead log: the server dies; then room, and a restart",
        expected: "requests are answered meanwhile; nothing is dead-lettered; all totals are exact",
        tier: Tier::Nightly,
        run: |drill| Box::pin(everything_full(drill)),
    },
];

const MIB: usize = 1 << 20;
/// Twice the size of a new server.
const DISK_BYTES: u64 = 192 << 20;
/// The size of the tablespace.
const TABLES_BYTES: u64 = 48 << 20;
/// The line in the log of the server when the disk is full.
const FULL: &str = "No space left on device";

async fn tables_full(drill: Drill) -> Verdict {
    let disk = match Tmpfs::mount(TABLES_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return Verdict::skipped(reason),
    };
    let mut system = System::start(drill, Layout::default()).await;
    system.postgres.create_tablespace("small", &disk.path()).await;
    let database = system.postgres.connect().await;
    let partitions = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'events'::regclass";
    for partition in database.query(partitions, &[]).await.expect("partitions can be seen") {
        let name: String = partition.get(0);
        let moving = format!("ALTER TABLE {name} SET TABLESPACE small");
        database.batch_execute(&moving).await.expect("an empty table can be moved");
    }
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    fill(&disk.path());
    for worker in &mut system.workers {
        let failed = worker.metric(metric::WRITE_FAILURES).await;
        worker.reaches(metric::WRITE_FAILURES, failed + 8.0).await;
    }
    clients.acknowledge(50).await;
    make_room(&disk.path());
    clients.acknowledge(50).await;
    let full = system.postgres.log().matches(FULL).count() as u64;
    system.note(Effect::DiskFull, full);
    let needs = [(Effect::Acknowledged, 150), (Effect::DiskFull, 8), (Effect::WriteFailed, 16)];
    let verdict = system.finish(clients, &needs).await;
    // The disk must exist longer than the server that uses it.
    drop(disk);
    verdict
}

async fn everything_full(drill: Drill) -> Verdict {
    let disk = match Tmpfs::mount(DISK_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return Verdict::skipped(reason),
    };
    let path = disk.path();
    let settings = &[("max_wal_size", "64MB"), ("min_wal_size", "32MB")];
    let postgres = ServerOptions { settings, folder: Some(&path), ..ServerOptions::default() };
    let mut system = System::start(drill, Layout { postgres, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    fill(&path);
    fill_the_log(&system).await;
    for worker in &mut system.workers {
        let failed = worker.metric(metric::WRITE_FAILURES).await;
        worker.reaches(metric::WRITE_FAILURES, failed + 4.0).await;
    }
    clients.acknowledge(50).await;
    make_room(&path);
    system.postgres.restart().await;
    clients.acknowledge(50).await;
    let full = system.postgres.log().matches(FULL).count() as u64;
    system.note(Effect::DiskFull, full);
    let needs = [(Effect::Acknowledged, 150), (Effect::DiskFull, 1), (Effect::WriteFailed, 8)];
    let verdict = system.finish(clients, &needs).await;
    drop(disk);
    verdict
}

/// Fills the write-ahead log until the server ends.
async fn fill_the_log(system: &System) {
    let database = system.postgres.connect().await;
    let message = "SELECT pg_logical_emit_message(false, 'drill', repeat('x', 4000000))";
    let mut written = 0;
    while database.batch_execute(message).await.is_ok() {
        written += 4_000_000;
        assert!(written < DISK_BYTES, "the log is larger than its disk");
    }
    eventually(SOON, "the server to end", async || database.is_closed()).await;
}

/// Fills a disk.
pub(super) fn fill(disk: &Path) {
    let mut ballast = File::create(disk.join(BALLAST)).expect("a file can be created");
    let mut piece = vec![0_u8; MIB];
    // Smaller pieces at the end, until not even a page fits.
    while !piece.is_empty() {
        if ballast.write_all(&piece).is_err() {
            piece.truncate(if piece.len() > 4_096 { 4_096 } else { 0 });
        }
    }
}

/// Ends [`fill`].
pub(super) fn make_room(disk: &Path) {
    std::fs::remove_file(disk.join(BALLAST)).expect("the file exists");
}

const BALLAST: &str = "ballast";
