//! The disk of PostgreSQL is full: that of its tables alone, then that of everything.

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
        fault: "the tablespace of events has no room, then has",
        expected: "writers wait; nothing is dead-lettered; it drains alone",
        tier: Tier::Nightly,
        run: |drill| Box::pin(tables_full(drill)),
    },
    Row {
        name: "disk of postgres full",
        target: "PostgreSQL",
        fault: "no room for the log of transactions: the server dies; then room, and a restart",
        expected: "requests are answered meanwhile; nothing is dead-lettered; exact",
        tier: Tier::Nightly,
        run: |drill| Box::pin(everything_full(drill)),
    },
];

const MIB: usize = 1 << 20;
/// What a server begins with, and as much again.
const DISK_BYTES: u64 = 192 << 20;
/// For tables alone.
const TABLES_BYTES: u64 = 48 << 20;
/// What stands in the server's log when a write found the disk full.
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
    // It must not go before the server that uses it.
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
    use_up_the_log(&system).await;
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

/// Writes to the server's log of transactions until there is no room for it, which no server survives.
async fn use_up_the_log(system: &System) {
    let database = system.postgres.connect().await;
    let message = "SELECT pg_logical_emit_message(false, 'drill', repeat('x', 4000000))";
    let mut written = 0;
    while database.batch_execute(message).await.is_ok() {
        written += 4_000_000;
        assert!(written < DISK_BYTES, "a log that is larger than its disk");
    }
    eventually(SOON, "the server to give up", async || database.is_closed()).await;
}

/// Leaves no room on a disk.
pub(super) fn fill(disk: &Path) {
    let mut ballast = File::create(disk.join(BALLAST)).expect("there is room for a name");
    let mut piece = vec![0_u8; MIB];
    // Ever smaller pieces, until not even a page fits.
    while !piece.is_empty() {
        if ballast.write_all(&piece).is_err() {
            piece.truncate(if piece.len() > 4_096 { 4_096 } else { 0 });
        }
    }
}

/// Gives it back.
pub(super) fn make_room(disk: &Path) {
    std::fs::remove_file(disk.join(BALLAST)).expect("it was made before");
}

const BALLAST: &str = "ballast";
