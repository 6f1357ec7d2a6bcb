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
        expected: "acknowledged events are on disk; nothing twice; pending entries are stored after the next start",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed_at_any_moment(drill)),
    },
    Row {
        name: "embedded killed around admission",
        target: "millrace alone",
        fault: "SIGKILL before a batch is on disk, then after it is on disk and before the answer, twice each",
        expected: "no batch twice when clients retry after the next start",
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
        expected: "rolled back and written again; found in the ledger and settled once",
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
        fault: "SIGKILL after entries are read, after the ledger is written, and after settling, twice each",
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
        expected: "requests in progress are answered; the process ends by itself; the next start continues",
        tier: Tier::Quick,
        run: |drill| Box::pin(interrupted(drill)),
    },
    Row {
        name: "embedded on a full disk",
        target: "the disk of millrace alone",
        fault: "no room for either file under load; SIGKILL; room again",
        expected: "503, and nothing is acknowledged that is not on disk; it recovers by itself",
        tier: Tier::Quick,
        run: |drill| Box::pin(full_disk(drill)),
    },
    Row {
        name: "embedded on a broken disk",
        target: "the disk of millrace alone",
        fault: "writes and fsyncs fail with EIO under load; SIGKILL; a working disk",
        expected: "nothing is acknowledged that is not on disk",
        tier: Tier::Nightly,
        run: |drill| Box::pin(broken_disk(drill)),
    },
    Row {
        name: "embedded on a slow disk",
        target: "the disk of millrace alone",
        fault: "every fsync takes 300 ms longer; SIGKILL during one, three times",
        expected: "slow and exact: no request is answered before the fsync has returned",
        tier: Tier::Nightly,
        run: |drill| Box::pin(slow_disk(drill)),
    },
    Row {
        name: "embedded paused",
        target: "millrace alone",
        fault: "SIGSTOP for some seconds, twice",
        expected: "late answers change nothing; no batch twice",
        tier: Tier::Nightly,
        run: |drill| Box::pin(paused(drill)),
    },
];

/// Kills at random moments in one drill.
const KILLS: u64 = 6;
/// Size of a disk that is filled quickly.
const DISK_BYTES: u64 = 64 << 20;

async fn killed_at_any_moment(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let folder = tempfile::tempdir().expect("a folder can be created");
    let mut standalone = Standalone::start(drill, folder.path(), &[]).await;
    let clients = standalone.load(Load::default());
    for kill in 0..KILLS {
        clients.acknowledge(rng.random_range(5..60)).await;
        standalone.node.kill().await;
        if kill == KILLS / 2 {
            standalone.node.launch(&[]);
            tokio::time::sleep(Duration::from_millis(rng.random_range(0..200))).await;
            standalone.node.program().kill().await;
        }
        standalone.start_again(&[]).await;
    }
    clients.acknowledge(30).await;
    standalone.note(Effect::Killed, KILLS + 1);
    let needs = [(Effect::Acknowledged, 60), (Effect::Killed, KILLS + 1), (Effect::Unknown, 1)];
    standalone.finish(clients, &needs).await
}

/// Kills the process at each of these failpoints, twice.
async fn killed_at(drill: Drill, points: &[&str], needs: &[Need]) -> Verdict {
    let mut rng = drill.rng(1);
    let folder = tempfile::tempdir().expect("a folder can be created");
    let mut standalone = Standalone::start(drill, folder.path(), &[]).await;
    let clients = standalone.load(Load::default());
    let mut killed = 0;
    for point in points.iter().cycle().take(2 * points.len()) {
        clients.acknowledge(20).await;
        standalone.node.kill().await;
        let earlier = rng.random_range(1..20);
        standalone.start_again(&[("FAILPOINTS", &format!("{point}={earlier}*off->1*return(kill)"))]).await;
        standalone.node.died().await;
        standalone.start_again(&[]).await;
        killed += 2;
    }
    clients.acknowledge(30).await;
    standalone.note(Effect::Killed, killed);
    let usual = [(Effect::Acknowledged, 80), (Effect::Killed, killed)];
    standalone.finish(clients, &[&usual, needs].concat()).await
}

async fn interrupted(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let folder = tempfile::tempdir().expect("a folder can be created");
    let mut standalone = Standalone::start(drill, folder.path(), &[]).await;
    let clients = standalone.load(Load::default());
    for _ in 0..4 {
        clients.acknowledge(rng.random_range(10..60)).await;
        standalone.node.program().interrupt();
        let code = standalone.node.program().wait_exit().await.code();
        assert_eq!(code, Some(0), "the process stops gracefully after SIGINT");
        standalone.start_again(&[]).await;
    }
    clients.acknowledge(30).await;
    standalone.finish(clients, &[(Effect::Acknowledged, 70)]).await
}

async fn full_disk(drill: Drill) -> Verdict {
    let disk = match Tmpfs::mount(DISK_BYTES) {
        Ok(disk) => disk,
        Err(reason) => return Verdict::skipped(reason),
    };
    let mut standalone = Standalone::start(drill, &disk.path(), &[]).await;
    let clients = standalone.load(Load::default());
    clients.acknowledge(60).await;
    fill(&disk.path());
    standalone.more_unanswered(20).await;
    standalone.note(Effect::DiskFull, 1);
    standalone.node.kill().await;
    make_room(&disk.path());
    standalone.start_again(&[]).await;
    clients.acknowledge(30).await;
    // This time without a restart: the process must notice by itself that there is room again.
    fill(&disk.path());
    standalone.more_unanswered(20).await;
    standalone.note(Effect::DiskFull, 1);
    make_room(&disk.path());
    clients.acknowledge(60).await;
    let needs = [(Effect::Acknowledged, 150), (Effect::DiskFull, 2), (Effect::Unknown, 40)];
    let verdict = standalone.finish(clients, &needs).await;
    // The disk must exist longer than the process that uses it.
    drop(disk);
    verdict
}

async fn broken_disk(drill: Drill) -> Verdict {
    let (shim, folder) = (Shim::create(), tempfile::tempdir().expect("a folder can be created"));
    let mut standalone = Standalone::start(drill, folder.path(), &shim.variables()).await;
    let clients = standalone.load(Load::default());
    clients.acknowledge(60).await;
    for _ in 0..3 {
        shim.fail_disk(Some(DiskError::Broken));
        standalone.more_unanswered(20).await;
        standalone.node.kill().await;
        shim.fail_disk(None);
        standalone.start_again(&[]).await;
        clients.acknowledge(30).await;
    }
    standalone.note(Effect::Killed, 3);
    let needs = [(Effect::Acknowledged, 150), (Effect::Killed, 3), (Effect::Unknown, 60)];
    standalone.finish(clients, &needs).await
}

async fn slow_disk(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let (shim, folder) = (Shim::create(), tempfile::tempdir().expect("a folder can be created"));
    let mut standalone = Standalone::start(drill, folder.path(), &shim.variables()).await;
    let clients = standalone.load(Load::default());
    for _ in 0..3 {
        clients.acknowledge(30).await;
        shim.slow_fsync(Duration::from_millis(300));
        clients.acknowledge(20).await;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..300))).await;
        standalone.node.program().kill().await;
        shim.slow_fsync(Duration::ZERO);
        standalone.start_again(&[]).await;
    }
    clients.acknowledge(30).await;
    standalone.note(Effect::Killed, 3);
    let needs =
        [(Effect::Acknowledged, 150), (Effect::Killed, 3), (Effect::Unknown, 3), (Effect::Retried, 1)];
    standalone.finish(clients, &needs).await
}

async fn paused(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let folder = tempfile::tempdir().expect("a folder can be created");
    let mut standalone = Standalone::start(drill, folder.path(), &[("TAKEOVER_IDLE_MS", "500")]).await;
    let clients = standalone.load(Load::default());
    for _ in 0..2 {
        clients.acknowledge(60).await;
        standalone.node.program().pause();
        tokio::time::sleep(Duration::from_millis(rng.random_range(1_000..4_000))).await;
        standalone.node.program().resume();
    }
    clients.acknowledge(60).await;
    standalone.finish(clients, &[(Effect::Acknowledged, 180)]).await
}
