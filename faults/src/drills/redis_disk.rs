//! The disk under Redis: slow, full, broken, or torn at the end of what was written last.

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
        expected: "what was not on disk was not acknowledged",
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
        fault: "its file system full under load, twice; space again after a start in vain",
        expected: "it ends before it answers; 503 meanwhile, nothing acknowledged is lost",
        tier: Tier::Nightly,
        run: |drill| Box::pin(disk_full(drill)),
    },
    Row {
        name: "redis disk broken",
        target: "redis",
        fault: "every write and fsync fails with EIO, three times under load",
        expected: "it ends before it answers; nothing acknowledged is lost",
        tier: Tier::Nightly,
        run: |drill| Box::pin(disk_broken(drill)),
    },
    Row {
        name: "redis loses the end of its file",
        target: "redis",
        fault: "SIGKILL inside an fsync, and a random cut into what was written and not yet synced, five times; the file written anew after each start",
        expected: "only what was never acknowledged is missing, and is admitted once when it is repeated",
        tier: Tier::Nightly,
        run: |drill| Box::pin(torn(drill)),
    },
];

/// An fsync of a slow disk.
const SLOW: Duration = Duration::from_millis(100);
/// An fsync that does not end while a drill lasts.
const STALLED: Duration = Duration::from_secs(600);
/// What a Redis that does not wait for its disk has in memory alone before it is killed, in bytes.
const UNWRITTEN_BYTES: u64 = 16 << 10;
/// The small disk, and the pieces in which it is filled up.
const DISK_BYTES: u64 = 64 << 20;
const FILLER_BYTES: usize = 4 << 10;
/// How often a file is torn.
const TEARS: u64 = 5;

async fn killed_on_a_slow_disk(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let mut system = start_on(&shim, drill).await;
    let clients = system.load(Load::default());
    for _ in 0..3 {
        clients.acknowledge(50).await;
        shim.slow_fsync(SLOW);
        clients.acknowledge(20).await;
        system.redis.kill().await;
        system.note(Effect::Killed, 1);
        shim.slow_fsync(Duration::ZERO);
        system.redis.restart().await;
    }
    clients.acknowledge(50).await;
    system
        .finish(
            clients,
            &[(Effect::Acknowledged, 200), (Effect::Killed, 3), (Effect::Unknown, 3), (Effect::Retried, 1)],
        )
        .await
}

/// A Redis that is killed while it has answers out for what it has not written keeps nothing of them.
async fn restarted_without_fsync(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let mut system = start_on(&shim, drill).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    // What is admitted from here on is in Redis and nowhere else.
    system.pause_workers();
    system.redis.kill().await;
    system.more_unanswered(20).await;
    let acknowledged = clients.acknowledged();
    system.redis.restart_with(&[("appendfsync", "everysec")]).await;
    shim.slow_fsync(STALLED);
    let refused = system.unanswered() + 200;
    eventually(Duration::from_secs(60), "clients to be refused, or served from memory", async || {
        system.unanswered() >= refused
            || system.info("persistence", "aof_buffer_length").await > UNWRITTEN_BYTES
    })
    .await;
    let careless = clients.acknowledged() - acknowledged;
    system.redis.kill().await;
    system.note(Effect::Killed, 2);
    shim.slow_fsync(Duration::ZERO);
    system.redis.restart_with(&[]).await;
    system.resume_workers();
    clients.acknowledge(50).await;

    if careless > 0 {
        let said =
            format!("{careless} requests were acknowledged by a Redis that does not wait for its disk");
        system.violated(Invariant::NothingLost, said);
    }
    system.finish(clients, &[(Effect::Acknowledged, 100), (Effect::Unknown, 200), (Effect::Killed, 2)]).await
}

async fn disk_full(drill: Drill) -> Verdict {
    let disk = match Tmpfs::mount(DISK_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return Verdict::skipped(reason),
    };
    let place = disk.path();
    let redis = ServerOptions { folder: Some(&place), ..ServerOptions::default() };
    let mut system = System::start(drill, Layout { redis, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    for _ in 0..2 {
        clients.acknowledge(50).await;
        let filler = place.join("filler");
        fill(&filler);
        system.redis.wait_exit().await;
        system.note(Effect::Killed, 1);
        // It may come up, to end again at the next append.
        if system.redis.try_restart().await {
            system.redis.wait_exit().await;
        }
        system.more_unanswered(20).await;
        std::fs::remove_file(&filler).expect("a file of ours can be removed");
        system.redis.restart().await;
    }
    clients.acknowledge(50).await;
    system
        .finish(
            clients,
            &[(Effect::Acknowledged, 150), (Effect::Killed, 2), (Effect::Unknown, 40), (Effect::Retried, 1)],
        )
        .await
}

/// Makes a file of all that the disk has left.
fn fill(file: &Path) {
    let mut file = std::fs::File::create(file).expect("a file can be made on a disk of ours");
    while file.write_all(&[0; FILLER_BYTES]).is_ok() {}
}

async fn disk_broken(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let mut system = start_on(&shim, drill).await;
    let clients = system.load(Load::default());
    for _ in 0..3 {
        clients.acknowledge(50).await;
        shim.fail_disk(Some(DiskError::Broken));
        system.redis.wait_exit().await;
        system.note(Effect::Killed, 1);
        system.more_unanswered(20).await;
        shim.fail_disk(None);
        system.redis.restart().await;
    }
    clients.acknowledge(50).await;
    system
        .finish(
            clients,
            &[(Effect::Acknowledged, 200), (Effect::Killed, 3), (Effect::Unknown, 60), (Effect::Retried, 1)],
        )
        .await
}

/// With nobody else at work, what stands in the file behind what was there before was written and never synced.
async fn torn(drill: Drill) -> Verdict {
    let shim = Shim::create();
    let mut rng = drill.rng(0);
    let mut system = start_on(&shim, drill).await;
    for _ in 0..TEARS {
        let clients = system.load(Load::default());
        clients.acknowledge(20).await;
        system.come_to_rest(clients).await;
        system.pause_workers();
        let place = system.redis.folder().join("redis-data/appendonlydir");
        let synced = bytes_in(&place);
        shim.slow_fsync(STALLED);
        let clients = system.load(Load::default());
        eventually(Duration::from_secs(60), "Redis to write", async || bytes_in(&place) > synced).await;
        system.redis.kill().await;
        system.note(Effect::Killed, 1);
        let unsynced = bytes_in(&place) - synced;
        system.redis.truncate_aof_tail(rng.random_range(1..=unsynced));
        shim.slow_fsync(Duration::ZERO);
        system.redis.restart().await;
        rewrite_file(&mut system).await;
        system.resume_workers();
        clients.acknowledge(20).await;
        system.come_to_rest(clients).await;
    }
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    system
        .finish(clients, &[(Effect::Acknowledged, 200), (Effect::Killed, TEARS), (Effect::Retried, TEARS)])
        .await
}

/// A Redis 7.0 that finds half a command inside of a transaction cuts the command off and leaves the beginning of the
/// transaction in its file, which it then goes on to write to; at the next start the transaction is carried out after
/// all, and what it appends stands where no reader looks any more. Written anew, the file holds what Redis holds.
async fn rewrite_file(system: &mut System) {
    system.tell_redis(&["BGREWRITEAOF"]).await;
    eventually(Duration::from_secs(60), "Redis to have written its file anew", async || {
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

/// Bytes of all the files in a folder and below.
fn bytes_in(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the folder of a server of ours can be read").flatten();
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => bytes_in(&entry.path()),
        Ok(metadata) => metadata.len(),
        // It is gone again.
        Err(_) => 0,
    };
    entries.map(size).sum()
}
