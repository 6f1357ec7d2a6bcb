//! Workers die, stand still, or are told to stop, at the worst moments there are.

use rand::RngExt;
use testkit::oracle::{Invariant, Load};

use crate::metric;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, Need, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "worker killed after read",
        target: "worker",
        fault: "SIGKILL when entries are pending under its name and nothing is written, three times",
        expected: "taken over and written by others",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed_at(drill, "lane::after_read", Effect::Killed, TAKEN_OVER)),
    },
    Row {
        name: "worker killed inside copy",
        target: "worker",
        fault: "SIGKILL when the rows are sent and the end of the COPY is not, three times",
        expected: "rolled back, taken over and written by others",
        tier: Tier::Nightly,
        run: |drill| {
            Box::pin(killed_at(drill, "store::inside_copy", Effect::KilledInTransaction, TAKEN_OVER))
        },
    },
    Row {
        name: "worker killed after copy",
        target: "worker",
        fault: "SIGKILL between the COPY and the ledger, three times",
        expected: "rolled back, taken over and written by others",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed_at(drill, "store::after_copy", Effect::KilledInTransaction, TAKEN_OVER)),
    },
    Row {
        name: "worker killed after ledger",
        target: "worker",
        fault: "SIGKILL between the ledger and the meters, three times",
        expected: "rolled back, taken over and written by others",
        tier: Tier::Nightly,
        run: |drill| {
            Box::pin(killed_at(drill, "store::after_ledger", Effect::KilledInTransaction, TAKEN_OVER))
        },
    },
    Row {
        name: "worker killed before commit",
        target: "worker",
        fault: "SIGKILL when all is written and COMMIT is not sent, three times",
        expected: "rolled back, taken over and written by others",
        tier: Tier::Quick,
        run: |drill| {
            Box::pin(killed_at(drill, "store::before_commit", Effect::KilledInTransaction, TAKEN_OVER))
        },
    },
    Row {
        name: "worker killed after commit",
        target: "worker",
        fault: "SIGKILL between COMMIT and settling, three times",
        expected: "redelivered, known to the ledger, settled once",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed_at(drill, "store::after_commit", Effect::Killed, REDELIVERED)),
    },
    Row {
        name: "worker killed after settling",
        target: "worker",
        fault: "SIGKILL when the entries have left the stream, three times",
        expected: "nothing is left to do twice",
        tier: Tier::Nightly,
        run: |drill| Box::pin(killed_at(drill, "lane::after_settle", Effect::Killed, &[])),
    },
    Row {
        name: "worker paused after copy",
        target: "worker",
        fault: "SIGSTOP between the COPY and the ledger until others have done its work, twice, then SIGCONT",
        expected: "its session is ended, its entries are taken over, and when it wakes up it changes nothing",
        tier: Tier::Quick,
        run: |drill| Box::pin(stopped_at(drill, "store::after_copy", &[(Effect::StuckEnded, 2)])),
    },
    Row {
        name: "worker paused inside copy",
        target: "worker",
        fault: "SIGSTOP before the end of the COPY until others have done its work, twice, then SIGCONT",
        expected: "its session is ended, its entries are taken over, and when it wakes up it changes nothing",
        tier: Tier::Nightly,
        run: |drill| Box::pin(stopped_at(drill, "store::inside_copy", &[(Effect::StuckEnded, 2)])),
    },
    Row {
        name: "worker paused before commit",
        target: "worker",
        fault: "SIGSTOP with the meters locked until others have done its work, twice, then SIGCONT",
        expected: "its session is ended, its entries are taken over, and when it wakes up it changes nothing",
        tier: Tier::Nightly,
        run: |drill| Box::pin(stopped_at(drill, "store::before_commit", &[(Effect::StuckEnded, 2)])),
    },
    Row {
        name: "worker paused after read",
        target: "worker",
        fault: "SIGSTOP before anything is written until others have done its work, twice, then SIGCONT",
        expected: "its entries are taken over, and when it wakes up the ledger knows them",
        tier: Tier::Nightly,
        run: |drill| Box::pin(stopped_at(drill, "lane::after_read", &[(Effect::Redelivered, 2)])),
    },
    Row {
        name: "worker paused after commit",
        target: "worker",
        fault: "SIGSTOP between COMMIT and settling until others have settled, twice, then SIGCONT",
        expected: "settled once, by the others",
        tier: Tier::Nightly,
        run: |drill| Box::pin(stopped_at(drill, "store::after_commit", &[(Effect::Redelivered, 2)])),
    },
    Row {
        name: "workers restarted in turn",
        target: "worker",
        fault: "SIGTERM under load, ten times",
        expected: "each ends by itself and leaves neither entries nor consumers behind",
        tier: Tier::Quick,
        run: |drill| Box::pin(restarted_in_turn(drill)),
    },
    Row {
        name: "workers terminated without postgres",
        target: "worker",
        fault: "SIGTERM while their hands are full and PostgreSQL is away",
        expected: "what they held is taken over by their successors",
        tier: Tier::Quick,
        run: |drill| Box::pin(stopped_without_postgres(drill)),
    },
];

/// Kills of one drill.
const KILLS: u64 = 3;
/// What a worker held that died before COMMIT.
const TAKEN_OVER: &[Need] = &[(Effect::TakenOver, 1)];
/// What a worker held that died after it.
const REDELIVERED: &[Need] = &[(Effect::Redelivered, 1)];
/// Restarts of one drill.
const RESTARTS: usize = 10;
/// Lanes of one worker on one shard, when nobody says otherwise.
const LANES: usize = 2;
/// Long enough that no lane is taken for silent because the machine is busy.
const TAKEOVER_IDLE: (&str, &str) = ("TAKEOVER_IDLE_MS", "2000");

/// Workers die at a point by turns, which is a `effect` each time.
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

/// Each worker stands still once, until nothing is left that it held, and wakes up.
async fn stopped_at(drill: Drill, point: &str, needs: &[Need]) -> Verdict {
    let layout = Layout { worker: &[TAKEOVER_IDLE], ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    for (zombie, heir) in [(0, 1), (1, 0)] {
        let taken_over = system.workers[heir].metric(metric::TAKEN_OVER).await;
        let stuck_ended = system.workers[heir].metric(metric::STUCK_ENDED).await;
        system.workers[zombie].kill().await;
        system.workers[zombie].start_with(&[("FAILPOINTS", &format!("{point}=1*return(stop)"))]).await;
        let late = system.workers[zombie].metric(metric::SETTLED_LATE).await;
        system.workers[zombie].program().wait_for_line(&format!("failpoint {point}: SIGSTOP")).await;
        system.workers[heir].reaches(metric::TAKEN_OVER, taken_over + 1.0).await;
        system.what_stands_now_is_drained().await;
        if needs.iter().any(|(effect, _)| *effect == Effect::StuckEnded) {
            // Those who drained it need not have waited for that: a COPY that stands still may not hold anybody up.
            system.workers[heir].reaches(metric::STUCK_ENDED, stuck_ended + 1.0).await;
        }
        system.workers[zombie].program().resume();
        system.workers[zombie].reaches(metric::SETTLED_LATE, late + 1.0).await;
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
        assert_eq!(code, Some(0), "a worker that is told to stop ends by itself, and well");
        worker.start().await;
    }
    // Who was told to stop has taken its name off the list.
    for (shard, consumers) in system.consumers().await {
        let living = system.workers.len() * LANES;
        if consumers > living {
            let said = format!("shard {shard} has {consumers} consumers, {living} lanes live");
            system.violated(Invariant::Bounded, said);
        }
    }
    system.finish(clients, &[(Effect::Acknowledged, 100)]).await
}

async fn stopped_without_postgres(drill: Drill) -> Verdict {
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
        assert_eq!(code, Some(0), "a worker that is told to stop ends by itself, and well");
    }
    clients.acknowledge(50).await;
    let needs = [(Effect::Acknowledged, 100), (Effect::WriteFailed, 2), (Effect::TakenOver, 1)];
    system.finish(clients, &needs).await
}
