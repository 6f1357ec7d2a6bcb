//! `millrace` alone, on two files: one process and one disk, killed, stopped, slow, full and broken.

use std::time::Duration;

use rand::RngExt;
use testkit::oracle::Load;
use testkit::{DiskError, Shim, Tmpfs};

use super::disk::{fill, make_room};
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Need, Standalone, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "embedded killed at any moment",
        target: "millrace alone",
        fault: "SIGKILL under load at random moments, six times, once while it starts",
        expected: "acknowledged is on disk; nothing twice; what was pending is stored by the next life",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed_at_any_moment(drill)),
    },
    Row {
        name: "embedded killed around admission",
        target: "millrace alone",
        fault: "SIGKILL with a batch packed and not on disk, then with one on disk and no answer sent, twice each",
        expected: "no batch twice when clients ask the next life",
        tier: Tier::Quick,
        run: |drill| {
            Box::pin(killed_at(
                drill,
                &["api::before_admission", "api::after_admission"],
                &[(Effect::Retried, 1)],
            ))
        },
    },
    Row {
        name: "embedded killed around commit",
        target: "millrace alone",
        fault: "SIGKILL inside the transaction, then between COMMIT and settling, twice each",
        expected: "rolled back and written again; known to the ledger and settled once",
        tier: Tier::Quick,
        run: |drill| {
            Box::pin(killed_at(
                drill,
                &["store::before_commit", "store::after_commit"],
                &[(Effect::Redelivered, 1)],
            ))
        },
    },
    Row {
        name: "embedded killed around the drain",
        target: "millrace alone",
        fault: "SIGKILL with entries read and not written, after the ledger, and after settling, twice each",
        expected: "all invariants",
        tier: Tier::Nightly,
        run: |drill| {
            Box::pin(killed_at(
                drill,
                &["lane::after_read", "store::after_ledger", "lane::after_settle"],
                &[],
            ))
        },
    },
    Row {
        name: "embedded interrupted under load",
        target: "millrace alone",
        fault: "SIGINT under load, four times",
        expected: "requests under way are answered; the process ends by itself; the next life goes on",
        tier: Tier::Quick,
        run: |drill| Box::pin(told_to_stop(drill)),
    },
    Row {
        name: "embedded on a full disk",
        target: "the disk of millrace alone",
        fault: "no room for either file under load; SIGKILL; room again",
        expected: "503 and nothing acknowledged that is not on disk; it goes on alone",
        tier: Tier::Quick,
        run: |drill| Box::pin(full_disk(drill)),
    },
    Row {
        name: "embedded on a broken disk",
        target: "the disk of millrace alone",
        fault: "writes and fsyncs fail with EIO under load; SIGKILL; a sound disk",
        expected: "nothing acknowledged that is not on disk",
        tier: Tier::Nightly,
        run: |drill| Box::pin(broken_disk(drill)),
    },
    Row {
        name: "embedded on a slow disk",
        target: "the disk of millrace alone",
        fault: "every fsync takes 300 ms longer; SIGKILL while one is under way, three times",
        expected: "slow and exact: nobody is answered before the fsync has returned",
        tier: Tier::Nightly,
        run: |drill| Box::pin(slow_disk(drill)),
    },
    Row {
        name: "embedded paused",
        target: "millrace alone",
        fault: "SIGSTOP for some seconds, twice",
        expected: "late answers do no harm; no batch twice",
        tier: Tier::Nightly,
        run: |drill| Box::pin(stands_still(drill)),
    },
];

/// Kills at random moments in one drill.
const KILLS: u64 = 6;
/// Bytes of a disk that can be filled at once.
const DISK_BYTES: u64 = 64 << 20;

async fn killed_at_any_moment(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut alone = Standalone::start(drill, folder.path(), &[]).await;
    let clients = alone.load(Load::default());
    for kill in 0..KILLS {
        clients.acknowledge(rng.random_range(5..60)).await;
        alone.node.kill().await;
        if kill == KILLS / 2 {
            alone.node.launch(&[]);
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..200))).await;
            alone.node.program().kill().await;
        }
        alone.start_again(&[]).await;
    }
    clients.acknowledge(30).await;
    alone.note(Effect::Killed, KILLS + 1);
    let needs = [(Effect::Acknowledged, 60), (Effect::Killed, KILLS + 1), (Effect::Unknown, 1)];
    alone.finish(clients, &needs).await
}

/// The process dies at each of these points, twice.
async fn killed_at(drill: Drill, points: &[&str], needs: &[Need]) -> Verdict {
    let mut rng = drill.rng(1);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut alone = Standalone::start(drill, folder.path(), &[]).await;
    let clients = alone.load(Load::default());
    let mut killed = 0;
    for point in points.iter().cycle().take(2 * points.len()) {
        clients.acknowledge(20).await;
        alone.node.kill().await;
        let earlier = rng.random_range(1..20);
        alone.start_again(&[("FAILPOINTS", &format!("{point}={earlier}*off->1*return(kill)"))]).await;
        alone.node.died().await;
        alone.start_again(&[]).await;
        killed += 2;
    }
    clients.acknowledge(30).await;
    alone.note(Effect::Killed, killed);
    let usual = [(Effect::Acknowledged, 80), (Effect::Killed, killed)];
    alone.finish(clients, &[&usual, needs].concat()).await
}

async fn told_to_stop(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut alone = Standalone::start(drill, folder.path(), &[]).await;
    let clients = alone.load(Load::default());
    for _ in 0..4 {
        clients.acknowledge(rng.random_range(10..60)).await;
        alone.node.program().interrupt();
        let code = alone.node.program().wait_exit().await.code();
        assert_eq!(code, Some(0), "a process that is told to stop ends by itself, and well");
        alone.start_again(&[]).await;
    }
    clients.acknowledge(30).await;
    alone.finish(clients, &[(Effect::Acknowledged, 70)]).await
}

async fn full_disk(drill: Drill) -> Verdict {
    let disk = match Tmpfs::mount(DISK_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return Verdict::skipped(reason),
    };
    let mut alone = Standalone::start(drill, &disk.path(), &[]).await;
    let clients = alone.load(Load::default());
    clients.acknowledge(60).await;
    fill(&disk.path());
    alone.more_unanswered(20).await;
    alone.note(Effect::DiskFull, 1);
    alone.node.kill().await;
    make_room(&disk.path());
    alone.start_again(&[]).await;
    clients.acknowledge(30).await;
    // And once more without a restart: it must find by itself that there is room.
    fill(&disk.path());
    alone.more_unanswered(20).await;
    alone.note(Effect::DiskFull, 1);
    make_room(&disk.path());
    clients.acknowledge(60).await;
    let needs = [(Effect::Acknowledged, 150), (Effect::DiskFull, 2), (Effect::Unknown, 40)];
    let verdict = alone.finish(clients, &needs).await;
    // It must not go before the process that uses it.
    drop(disk);
    verdict
}

async fn broken_disk(drill: Drill) -> Verdict {
    let (shim, folder) = (Shim::create(), tempfile::tempdir().expect("a folder can be made"));
    let mut alone = Standalone::start(drill, folder.path(), &shim.variables()).await;
    let clients = alone.load(Load::default());
    clients.acknowledge(60).await;
    for _ in 0..3 {
        shim.fail_disk(Some(DiskError::Broken));
        alone.more_unanswered(20).await;
        alone.node.kill().await;
        shim.fail_disk(None);
        alone.start_again(&[]).await;
        clients.acknowledge(30).await;
    }
    alone.note(Effect::Killed, 3);
    let needs = [(Effect::Acknowledged, 150), (Effect::Killed, 3), (Effect::Unknown, 60)];
    alone.finish(clients, &needs).await
}

async fn slow_disk(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let (shim, folder) = (Shim::create(), tempfile::tempdir().expect("a folder can be made"));
    let mut alone = Standalone::start(drill, folder.path(), &shim.variables()).await;
    let clients = alone.load(Load::default());
    for _ in 0..3 {
        clients.acknowledge(30).await;
        shim.slow_fsync(Duration::from_millis(300));
        clients.acknowledge(20).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
        alone.node.program().kill().await;
        shim.slow_fsync(Duration::ZERO);
        alone.start_again(&[]).await;
    }
    clients.acknowledge(30).await;
    alone.note(Effect::Killed, 3);
    let needs =
        [(Effect::Acknowledged, 150), (Effect::Killed, 3), (Effect::Unknown, 3), (Effect::Retried, 1)];
    alone.finish(clients, &needs).await
}

async fn stands_still(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let folder = tempfile::tempdir().expect("a folder can be made");
    let mut alone = Standalone::start(drill, folder.path(), &[("TAKEOVER_IDLE_MS", "500")]).await;
    let clients = alone.load(Load::default());
    for _ in 0..2 {
        clients.acknowledge(60).await;
        alone.node.program().pause();
        tokio::time::sleep(Duration::from_millis(rng.random_range(1_000..4_000))).await;
        alone.node.program().resume();
    }
    clients.acknowledge(60).await;
    alone.finish(clients, &[(Effect::Acknowledged, 180)]).await
}
