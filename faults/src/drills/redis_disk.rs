//! The disk of Redis is slow, full or broken, or loses the end of the last write.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use rand::RngExt;
use testkit::oracle::{Invariant, Load};
use testkit::{DiskError, ServerOptions, Shim, Tmpfs, eventually};

use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "redis killed on a slow disk",
        target: "redis",
        fault: "SIGKILL while every fsync takes 100 ms, three times under load",
        expected: "nothing is acknowledged that is not on disk",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed_on_a_slow_disk(drill)),
    },
    Row {
        name: "redis restarted without fsync",
        target: "redis",
        fault: "appendfsync everysec on a disk that stalls, then SIGKILL",
        expected: "nothing is accepted from the first request on, so nothing is lost",
        tier: Tier::Quick,
        run: |drill| Box::pin(restarted_without_fsync(drill)),
    },
    Row {
        name: "redis disk full",
        target: "redis",
        fault: "its file system full under load, twice; free space after a failed start",
        expected: "it ends before it answers; 503 meanwhile; no acknowledged event is lost",
        tier: Tier::Nightly,
        run: |drill| Box::pin(disk_full(drill)),
    },
    Row {
        name: "redis disk broken",
        target: "redis",
        fault: "every write and fsync fails with EIO, three times under load",
        expected: "it ends before it answers; no acknowledged event is lost",
        tier: Tier::Nightly,
        run: |drill| Box::pin(disk_broken(drill)),
    },
    Row {
        name: "redis loses the end of its file",
        target: "redis",
        fault: "SIGKILL inside an fsync, and the file truncated at a random position after the last fsync, five times; the file rewritten after each start",
        expected: "only requests without an acknowledgment are missing, and each is admitted once when it is repeated",
        tier: Tier::Nightly,
        run: |drill| Box::pin(truncated(drill)),
    },
];

/// Duration of an fsync on a slow disk.
const SLOW: Duration = Duration::from_millis(100);
/// Longer than a drill.
const STALLED: Duration = Duration::from_secs(600);
/// Data that a Redis without fsync has only in memory before it is killed, in bytes.
const UNWRITTEN_BYTES: u64 = 16 << 10;
/// Size of the small disk, and of the pieces that fill it.
const DISK_BYTES: u64 = 64 << 20;
const FILLER_BYTES: usize = 4 << 10;
/// Number of times that the file is truncated.
const TRUNCATIONS: u64 = 5;

async fn killed_on_a_slow_disk(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let mut system = start_on(&shim, drill).await;
    let clients = system.load(Load::default());
    for _ in 0..3 {
        clients.acknowledge(50).await;
        shim.slow_fsync(SLOW);
        clients.acknowledge(20).await;
        system.redis_mut().kill().await;
        system.note(Effect::Killed, 1);
        shim.slow_fsync(Duration::ZERO);
        system.redis_mut().restart().await;
    }
    clients.acknowledge(50).await;
    system
        .finish(
            clients,
            &[(Effect::Acknowledged, 200), (Effect::Killed, 3), (Effect::Unknown, 3), (Effect::Retried, 1)],
        )
        .await
}

/// A Redis that answers before the fsync and is killed loses what it has answered.
async fn restarted_without_fsync(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let mut system = start_on(&shim, drill).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    // Entries admitted from now on are only in Redis.
    system.pause_workers();
    system.redis_mut().kill().await;
    system.more_unanswered(20).await;
    let acknowledged = clients.acknowledged();
    system.redis_mut().restart_with(&[("appendfsync", "everysec")]).await;
    shim.slow_fsync(STALLED);
    let refused = system.unanswered() + 200;
    eventually(
        Duration::from_secs(60),
        "clients to be refused, or acknowledged without an fsync",
        async || {
            system.unanswered() >= refused
                || system.info("persistence", "aof_buffer_length").await > UNWRITTEN_BYTES
        },
    )
    .await;
    let unsafe_answers = clients.acknowledged() - acknowledged;
    system.redis_mut().kill().await;
    system.note(Effect::Killed, 2);
    shim.slow_fsync(Duration::ZERO);
    system.redis_mut().restart_with(&[]).await;
    system.resume_workers();
    clients.acknowledge(50).await;

    if unsafe_answers > 0 {
        let text =
            format!("{unsafe_answers} requests were acknowledged by a Redis that does not wait for fsync");
        system.violated(Invariant::NothingLost, text);
    }
    system.finish(clients, &[(Effect::Acknowledged, 100), (Effect::Unknown, 200), (Effect::Killed, 2)]).await
}

async fn disk_full(drill: Drill) -> Verdict {
    let disk = match Tmpfs::mount(DISK_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return Verdict::skipped(reason),
    };
    let folder = disk.path();
    let redis = ServerOptions { folder: Some(&folder), ..ServerOptions::default() };
    let mut system = System::start(drill, Layout { redis, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    for _ in 0..2 {
        clients.acknowledge(50).await;
        let filler = folder.join("filler");
        fill(&filler);
        system.redis_mut().wait_exit().await;
        system.note(Effect::Killed, 1);
        // Redis may start and end at the next append.
        if system.redis_mut().try_restart().await {
            system.redis_mut().wait_exit().await;
        }
        system.more_unanswered(20).await;
        std::fs::remove_file(&filler).expect("the file can be removed");
        system.redis_mut().restart().await;
    }
    clients.acknowledge(50).await;
    system
        .finish(
            clients,
            &[(Effect::Acknowledged, 150), (Effect::Killed, 2), (Effect::Unknown, 40), (Effect::Retried, 1)],
        )
        .await
}

/// Creates a file of all free space.
fn fill(file: &Path) {
    let mut file = std::fs::File::create(file).expect("a file can be created");
    while file.write_all(&[0; FILLER_BYTES]).is_ok() {}
}

async fn disk_broken(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let mut system = start_on(&shim, drill).await;
    let clients = system.load(Load::default());
    for _ in 0..3 {
        clients.acknowledge(50).await;
        shim.fail_disk(Some(DiskError::Broken));
        system.redis_mut().wait_exit().await;
        system.note(Effect::Killed, 1);
        system.more_unanswered(20).await;
        shim.fail_disk(None);
        system.redis_mut().restart().await;
    }
    clients.acknowledge(50).await;
    system
        .finish(
            clients,
            &[(Effect::Acknowledged, 200), (Effect::Killed, 3), (Effect::Unknown, 60), (Effect::Retried, 1)],
        )
        .await
}

/// While workers are paused and fsync stalls, everything added to the file is written and not synced.
async fn truncated(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let mut rng = drill.rng(0);
    let mut system = start_on(&shim, drill).await;
    for _ in 0..TRUNCATIONS {
        let clients = system.load(Load::default());
        clients.acknowledge(20).await;
        system.come_to_rest(clients).await;
        system.pause_workers();
        let folder = system.redis().folder().join("redis-data/appendonlydir");
        let synced = bytes_in(&folder);
        shim.slow_fsync(STALLED);
        let clients = system.load(Load::default());
        eventually(Duration::from_secs(60), "Redis to write", async || bytes_in(&folder) > synced).await;
        system.redis_mut().kill().await;
        system.note(Effect::Killed, 1);
        let unsynced = bytes_in(&folder) - synced;
        system.redis_mut().truncate_aof_tail(rng.random_range(1..=unsynced));
        shim.slow_fsync(Duration::ZERO);
        system.redis_mut().restart().await;
        rewrite_file(&mut system).await;
        system.resume_workers();
        clients.acknowledge(20).await;
        system.come_to_rest(clients).await;
    }
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    system
        .finish(
            clients,
            &[(Effect::Acknowledged, 200), (Effect::Killed, TRUNCATIONS), (Effect::Retried, TRUNCATIONS)],
        )
        .await
}

/// Makes Redis rewrite its file from its memory. Redis 7.0 truncates a partial command inside a transaction
/// but leaves the beginning of the transaction in the file, and continues to append to it. The next start
/// would then execute that transaction and append entries with ids that readers have passed.
async fn rewrite_file(system: &mut System) {
    system.command_redis(&["BGREWRITEAOF"]).await;
    eventually(Duration::from_secs(60), "Redis to rewrite its file", async || {
        system.info("persistence", "aof_rewrites").await > 0
            && system.info("persistence", "aof_rewrite_in_progress").await == 0
    })
    .await;
}

async fn start_on(shim: &Shim, drill: Drill) -> System {
    let variables = shim.variables();
    let redis = ServerOptions { variables: &variables, ..ServerOptions::default() };
    System::start(drill, Layout { redis, ..Layout::default() }).await
}

/// Total size of the files in a folder and its subfolders.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the folder can be read").flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        // The file was removed meanwhile.
        Err(_) => 0,
    };
    entries.map(size).sum()
}
