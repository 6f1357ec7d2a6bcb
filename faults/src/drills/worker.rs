//! Workers are killed, paused or terminated at critical moments.

use rand::RngExt;
use testkit::oracle::{Invariant, Load};

use crate::metric;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, Need, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "worker killed after read",
        target: "worker",
        fault: "SIGKILL after entries are delivered to it and before anything is written, three times",
        expected: "its entries are taken over and written by others",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed_at(drill, "lane::after_read", Effect::Killed, TAKEN_OVER)),
    },
    Row {
        name: "worker killed inside copy",
        target: "worker",
        fault: "SIGKILL after the rows are sent and before the end of the COPY, three times",
        expected: "rolled back; its entries are taken over and written by others",
        tier: Tier::Nightly,
        run: |drill| {
            Box::pin(killed_at(drill, "store::inside_copy", Effect::KilledInTransaction, TAKEN_OVER))
        },
    },
    Row {
        name: "worker killed after copy",
        target: "worker",
        fault: "SIGKILL between the COPY and the ledger, three times",
        expected: "rolled back; its entries are taken over and written by others",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed_at(drill, "store::after_copy", Effect::KilledInTransaction, TAKEN_OVER)),
    },
    Row {
        name: "worker killed after ledger",
        target: "worker",
        fault: "SIGKILL between the ledger and usage, three times",
        expected: "rolled back; its entries are taken over and written by others",
        tier: Tier::Nightly,
        run: |drill| {
            Box::pin(killed_at(drill, "store::after_ledger", Effect::KilledInTransaction, TAKEN_OVER))
        },
    },
    Row {
        name: "worker killed before commit",
        target: "worker",
        fault: "SIGKILL after everything is written and before COMMIT is sent, three times",
        expected: "rolled back; its entries are taken over and written by others",
        tier: Tier::Quick,
        run: |drill| {
            Box::pin(killed_at(drill, "store::before_commit", Effect::KilledInTransaction, TAKEN_OVER))
        },
    },
    Row {
        name: "worker killed after commit",
        target: "worker",
        fault: "SIGKILL between COMMIT and settling, three times",
        expected: "redelivered, found in the ledger, settled once",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed_at(drill, "store::after_commit", Effect::Killed, REDELIVERED)),
    },
    Row {
        name: "worker killed after settling",
        target: "worker",
        fault: "SIGKILL after the entries have left the stream, three times",
        expected: "no work is repeated",
        tier: Tier::Nightly,
        run: |drill| Box::pin(killed_at(drill, "lane::after_settle", Effect::Killed, &[])),
    },
    Row {
        name: "worker paused after copy",
        target: "worker",
        fault: "SIGSTOP between the COPY and the ledger until others have written its entries, twice, then SIGCONT",
        expected: "its session is ended, its entries are taken over, and it changes nothing when it continues",
        tier: Tier::Quick,
        run: |drill| Box::pin(paused_at(drill, "store::after_copy", &[(Effect::StuckEnded, 2)])),
    },
    Row {
        name: "worker paused inside copy",
        target: "worker",
        fault: "SIGSTOP before the end of the COPY until others have written its entries, twice, then SIGCONT",
        expected: "its session is ended, its entries are taken over, and it changes nothing when it continues",
        tier: Tier::Nightly,
        run: |drill| Box::pin(paused_at(drill, "store::inside_copy", &[(Effect::StuckEnded, 2)])),
    },
    Row {
        name: "worker paused before commit",
        target: "worker",
        fault: "SIGSTOP with usage locked until others have written its entries, twice, then SIGCONT",
        expected: "its session is ended, its entries are taken over, and it changes nothing when it continues",
        tier: Tier::Nightly,
        run: |drill| Box::pin(paused_at(drill, "store::before_commit", &[(Effect::StuckEnded, 2)])),
    },
    Row {
        name: "worker paused after read",
        target: "worker",
        fault: "SIGSTOP before anything is written until others have written its entries, twice, then SIGCONT",
        expected: "its entries are taken over, and it finds them in the ledger when it continues",
        tier: Tier::Nightly,
        run: |drill| Box::pin(paused_at(drill, "lane::after_read", &[(Effect::Redelivered, 2)])),
    },
    Row {
        name: "worker paused after commit",
        target: "worker",
        fault: "SIGSTOP between COMMIT and settling until others have settled, twice, then SIGCONT",
        expected: "settled once, by the others",
        tier: Tier::Nightly,
        run: |drill| Box::pin(paused_at(drill, "store::after_commit", &[(Effect::Redelivered, 2)])),
    },
    Row {
        name: "workers restarted in turn",
        target: "worker",
        fault: "SIGTERM under load, ten times",
        expected: "each stops gracefully and leaves neither pending entries nor consumers",
        tier: Tier::Quick,
        run: |drill| Box::pin(restarted_in_turn(drill)),
    },
    Row {
        name: "workers terminated without postgres",
        target: "worker",
        fault: "SIGTERM while entries are pending for them and PostgreSQL is down",
        expected: "their entries are taken over by the next workers",
        tier: Tier::Quick,
        run: |drill| Box::pin(terminated_without_postgres(drill)),
    },
];

/// Kills in one drill.
const KILLS: u64 = 3;
/// Needed after a death before COMMIT.
const TAKEN_OVER: &[Need] = &[(Effect::TakenOver, 1)];
/// Needed after a death after COMMIT.
const REDELIVERED: &[Need] = &[(Effect::Redelivered, 1)];
/// Restarts in one drill.
const RESTARTS: usize = 10;
/// Lanes of one worker on one shard, by default.
const LANES: usize = 2;
/// Long enough that no lane counts as silent because the machine is busy.
const TAKEOVER_IDLE: (&str, &str) = ("TAKEOVER_IDLE_MS", "2000");

/// Kills the workers in turn at a failpoint. Each death counts as `effect`.
async fn killed_at(drill: Drill, point: &str, effect: Effect, needs: &[Need]) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    for round in 0..KILLS {
        let victim = &mut system.workers[usize::from(round % 2 == 1)];
        victim.kill().await;
        victim.start_with(&[("FAILPOINTS", &format!("{point}=1*return(kill)"))]).await;
        victim.died().await;
        victim.start().await;
        clients.acknowledge(20).await;
    }
    system.note(effect, KILLS);
    system.finish(clients, &[&[(Effect::Acknowledged, 100), (effect, KILLS)], needs].concat()).await
}

/// Pauses each worker once at a failpoint, until its entries are drained.
async fn paused_at(drill: Drill, point: &str, needs: &[Need]) -> Verdict {
    let layout = Layout { worker: &[TAKEOVER_IDLE], ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    for (paused, other) in [(0, 1), (1, 0)] {
        let taken_over = system.workers[other].metric(metric::TAKEN_OVER).await;
        let stuck_ended = system.workers[other].metric(metric::STUCK_ENDED).await;
        system.workers[paused].kill().await;
        system.workers[paused].start_with(&[("FAILPOINTS", &format!("{point}=1*return(stop)"))]).await;
        let late = system.workers[paused].metric(metric::SETTLED_LATE).await;
        system.workers[paused].program().wait_for_line(&format!("failpoint {point}: SIGSTOP")).await;
        system.workers[other].reaches(metric::TAKEN_OVER, taken_over + 1.0).await;
        system.current_entries_are_drained().await;
        if needs.iter().any(|(effect, _)| *effect == Effect::StuckEnded) {
            // The other workers may have drained the stream before: a paused COPY must not block them.
            system.workers[other].reaches(metric::STUCK_ENDED, stuck_ended + 1.0).await;
        }
        system.workers[paused].program().resume();
        system.workers[paused].reaches(metric::SETTLED_LATE, late + 1.0).await;
    }
    let usual = [(Effect::Acknowledged, 100), (Effect::TakenOver, 2), (Effect::SettledLate, 2)];
    system.finish(clients, &[&usual, needs].concat()).await
}

async fn restarted_in_turn(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    for round in 0..RESTARTS {
        clients.acknowledge(rng.random_range(1..40)).await;
        let worker = &mut system.workers[round % 2];
        let code = worker.terminate().await;
        assert_eq!(code, Some(0), "the worker stops gracefully after SIGTERM");
        worker.start().await;
    }
    // A stopped worker has removed its consumers.
    for (shard, consumers) in system.consumers().await {
        let living = system.workers.len() * LANES;
        if consumers > living {
            let text = format!("shard {shard} has {consumers} consumers for {living} lanes");
            system.violated(Invariant::Bounded, text);
        }
    }
    system.finish(clients, &[(Effect::Acknowledged, 100)]).await
}

async fn terminated_without_postgres(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    system.postgres.stop_fast().await;
    for worker in &mut system.workers {
        let failed = worker.metric(metric::WRITE_FAILURES).await;
        worker.reaches(metric::WRITE_FAILURES, failed + 1.0).await;
    }
    for worker in &mut system.workers {
        let code = worker.terminate().await;
        assert_eq!(code, Some(0), "the worker stops gracefully after SIGTERM");
    }
    clients.acknowledge(50).await;
    let needs = [(Effect::Acknowledged, 100), (Effect::WriteFailed, 2), (Effect::TakenOver, 1)];
    system.finish(clients, &needs).await
}
