//! PostgreSQL dies, is down, has locked tables, or loses its connections. Its disk is in `disk`.

use rand::seq::SliceRandom;
use testkit::ServerOptions;
use testkit::chaos::{Act, Moment, Transaction, Trap};
use testkit::eventually;
use testkit::oracle::{Invariant, Load};

use crate::metric;
use crate::node::SOON;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "postgres dies in a transaction",
        target: "PostgreSQL",
        fault: "SIGKILL of a session or an immediate shutdown, inside the COPY, after it, after the ledger and before COMMIT",
        expected: "recovered, rolled back, written again",
        tier: Tier::Quick,
        run: |drill| Box::pin(dies_in_a_transaction(drill)),
    },
    Row {
        name: "postgres down",
        target: "PostgreSQL",
        fault: "stopped under load until the backlog is full",
        expected: "requests are answered until the backlog is full, then 503 backlog_full; nothing is dead-lettered; the stream drains",
        tier: Tier::Quick,
        run: |drill| Box::pin(down(drill)),
    },
    Row {
        name: "usage and events locked",
        target: "PostgreSQL",
        fault: "ACCESS EXCLUSIVE on one table after the other, for longer than writers wait for a lock",
        expected: "writers time out and retry; no worker ends; requests are answered",
        tier: Tier::Quick,
        run: |drill| Box::pin(locked(drill, &["usage_hourly", "events"])),
    },
    Row {
        name: "every other table locked",
        target: "PostgreSQL",
        fault: "the same for the ledger, undated ids and the default partition",
        expected: "writers time out and retry; no worker ends; requests are answered",
        tier: Tier::Nightly,
        run: |drill| Box::pin(locked(drill, &["batches", "undated_ids", "events_default"])),
    },
    Row {
        name: "deadlocks",
        target: "PostgreSQL",
        fault: "another session locks usage and then the ledger, five times",
        expected: "the writers fail and write again",
        tier: Tier::Nightly,
        run: |drill| Box::pin(deadlocks(drill)),
    },
    Row {
        name: "transactions that cannot be serialized",
        target: "PostgreSQL",
        fault: "a server with default_transaction_isolation = repeatable read",
        expected: "all totals are exact",
        tier: Tier::Nightly,
        run: |drill| Box::pin(repeatable_reads(drill)),
    },
    Row {
        name: "connection to postgres cut around commit",
        target: "worker to PostgreSQL",
        fault: "connection reset before the end of the COPY, before COMMIT, before its answer, and after it, three times each",
        expected: "committed entries are recognized, the others are written again",
        tier: Tier::Quick,
        run: |drill| Box::pin(cut_around_commit(drill)),
    },
    Row {
        name: "copy into a black hole",
        target: "worker to PostgreSQL",
        fault: "inside a COPY the connection silently loses everything, twice",
        expected: "the stuck session is ended, and others take over and drain meanwhile",
        tier: Tier::Quick,
        run: |drill| Box::pin(copy_into_a_black_hole(drill)),
    },
];

/// Few lanes, so that each has many failures.
const ONE_LANE: (&str, &str) = ("WORKER_LANES", "1");
/// With this many failures of two lanes, one has more than the failed attempts after which an entry is
/// dead-lettered.
const MANY_FAILURES: f64 = 14.0;
/// A lane that waits five seconds for a lock must count neither as silent nor as stuck.
const PATIENT: &[(&str, &str)] = &[("TAKEOVER_IDLE_MS", "15000"), ("TRANSACTION_AGE_MAX_MS", "60000")];
/// A limit that is reached in seconds.
const BACKLOG_EVENTS_MAX: u64 = 3_000;

#[derive(Clone, Copy)]
enum Death {
    OfSession,
    OfServer,
}

async fn dies_in_a_transaction(drill: Drill) -> Verdict {
    let points = ["store::inside_copy", "store::after_copy", "store::after_ledger", "store::before_commit"];
    let mut deaths = [Death::OfSession, Death::OfServer, Death::OfSession, Death::OfServer];
    deaths.shuffle(&mut drill.rng(1));
    let layout = Layout { workers: 1, worker: &[ONE_LANE], ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    for (point, death) in points.into_iter().zip(deaths) {
        let worker = &mut system.workers[0];
        // A new process for each point. In one process with all of them, the other lane could reach the next
        // point with an answer from before the death of the server, and then no transaction would be open.
        worker.kill().await;
        let failed = worker.metric(metric::WRITE_FAILURES).await;
        worker.start_with(&[("FAILPOINTS", &format!("{point}=1*return(stop)"))]).await;
        worker.program().wait_for_line(&format!("failpoint {point}: SIGSTOP")).await;
        match death {
            Death::OfSession => system.kill_an_open_transaction().await,
            Death::OfServer => {
                system.postgres.stop_immediate().await;
                system.postgres.restart().await;
            }
        }
        system.note(Effect::KilledInTransaction, 1);
        let worker = &mut system.workers[0];
        worker.program().resume();
        worker.reaches(metric::WRITE_FAILURES, failed + 1.0).await;
        clients.acknowledge(20).await;
    }
    let needs = [(Effect::Acknowledged, 100), (Effect::KilledInTransaction, 4), (Effect::WriteFailed, 4)];
    system.finish(clients, &needs).await
}

async fn down(drill: Drill) -> Verdict {
    let backlog = BACKLOG_EVENTS_MAX.to_string();
    let layout =
        Layout { api: &[("BACKLOG_EVENTS_MAX", &backlog)], worker: &[ONE_LANE], ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    system.postgres.stop_fast().await;
    clients.acknowledge(100).await;
    let answer = system.refusal_by_full_backlog().await;
    if answer.header("retry-after").is_none() {
        system.violated(Invariant::Bounded, "503 backlog_full has no Retry-After".to_owned());
    }
    system.note(Effect::BacklogFull, 1);
    for worker in &mut system.workers {
        let failed = worker.metric(metric::WRITE_FAILURES).await;
        worker.reaches(metric::WRITE_FAILURES, failed.max(MANY_FAILURES)).await;
    }
    system.postgres.restart().await;
    clients.acknowledge(50).await;
    check_that_workers_live(&mut system);
    let needs = [
        (Effect::Acknowledged, 200),
        (Effect::BacklogFull, 1),
        (Effect::WriteFailed, 28),
        (Effect::Unknown, 1),
    ];
    system.finish(clients, &needs).await
}

async fn locked(drill: Drill, tables: &[&str]) -> Verdict {
    let mut system = System::start(drill, Layout { worker: PATIENT, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    for table in tables {
        let holder = system.postgres.connect().await;
        let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        holder.batch_execute(&lock).await.expect("the lock is granted");
        for worker in &mut system.workers {
            let failed = worker.metric(metric::WRITE_FAILURES).await;
            worker.reaches(metric::WRITE_FAILURES, failed + 1.0).await;
        }
        clients.acknowledge(20).await;
        holder.batch_execute("COMMIT").await.expect("the lock can be released");
    }
    check_that_workers_live(&mut system);
    let failures = system.workers.len() as u64 * tables.len() as u64;
    let needs = [(Effect::Acknowledged, 100), (Effect::WriteFailed, failures)];
    system.finish(clients, &needs).await
}

/// No failure of PostgreSQL ends a worker.
fn check_that_workers_live(system: &mut System) {
    for at in 0..system.workers.len() {
        let worker = &mut system.workers[at];
        if !worker.is_running() || worker.starts() != 1 {
            system.violated(Invariant::Bounded, format!("worker {at} has ended"));
        }
    }
}

async fn deadlocks(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let rival = system.postgres.connect().await;
    let observer = system.postgres.connect().await;
    // The rival checks for deadlocks later than the writers, so the writers detect it and fail.
    rival.batch_execute("SET deadlock_timeout = '1min'").await.expect("a superuser may");
    for _ in 0..5 {
        let lock = "BEGIN; LOCK TABLE usage_hourly IN ACCESS EXCLUSIVE MODE";
        rival.batch_execute(lock).await.expect("the lock is granted");
        let waiting = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
                        WHERE NOT granted AND relation = 'usage_hourly'::regclass
                          AND starts_with(application_name, 'millrace-worker:')";
        eventually(SOON, "a writer to wait for usage", async || {
            observer.query_one(waiting, &[]).await.expect("locks can be seen").get::<_, i64>(0) > 0
        })
        .await;
        let second = "LOCK TABLE batches IN ACCESS EXCLUSIVE MODE; COMMIT";
        rival.batch_execute(second).await.expect("the writers have failed");
        clients.acknowledge(20).await;
    }
    let lost = system.postgres.log().matches("deadlock detected").count() as u64;
    system.note(Effect::RaceLost, lost);
    system.finish(clients, &[(Effect::Acknowledged, 100), (Effect::RaceLost, 5)]).await
}

async fn repeatable_reads(drill: Drill) -> Verdict {
    let settings = &[("default_transaction_isolation", "repeatable read")];
    let layout =
        Layout { postgres: ServerOptions { settings, ..ServerOptions::default() }, ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    clients.acknowledge(500).await;
    let lost = system.postgres.log().matches("could not serialize access").count() as u64;
    system.note(Effect::RaceLost, lost);
    system.finish(clients, &[(Effect::Acknowledged, 500), (Effect::RaceLost, 5)]).await
}

async fn cut_around_commit(drill: Drill) -> Verdict {
    let layout = Layout { proxy_worker_postgres: true, ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let copied = Transaction::WithCopy;
    let moments = [
        (Moment::CopyDone, Act::Cut),
        (Moment::CommitSent(copied), Act::Cut),
        (Moment::CommitAnswered(copied), Act::Cut),
        (Moment::CommitAnswered(copied), Act::CutReply),
        (Moment::CommitDelivered(copied), Act::Cut),
    ];
    for _ in 0..3 {
        for (moment, act) in moments {
            let wire = system.wire_worker_postgres.as_ref().expect("the layout has a proxy there");
            let armed = wire.arm(Trap::first(moment, act));
            eventually(SOON, "a connection to be cut", async || armed.sprung()).await;
            system.note(Effect::ReplyCut, u64::from(matches!(moment, Moment::CommitAnswered(_))));
            clients.acknowledge(5).await;
        }
    }
    let needs = [
        (Effect::Acknowledged, 100),
        (Effect::ReplyCut, 6),
        (Effect::WriteFailed, 12),
        (Effect::Redelivered, 6),
    ];
    system.finish(clients, &needs).await
}

async fn copy_into_a_black_hole(drill: Drill) -> Verdict {
    let layout = Layout {
        proxy_worker_postgres: true,
        // Long enough that no lane counts as silent because the machine is busy.
        worker: &[("TAKEOVER_IDLE_MS", "2000")],
        ..Layout::default()
    };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    for stuck in [1.0, 2.0] {
        let wire = system.wire_worker_postgres.as_ref().expect("the layout has a proxy there");
        let armed = wire.arm(Trap::first(Moment::CopyData, Act::BlackHole));
        eventually(SOON, "a COPY to be lost", async || armed.sprung()).await;
        // The connection stays open, and its lane waits for an answer.
        system.workers_reach(metric::STUCK_ENDED, stuck).await;
        system.current_entries_are_drained().await;
        clients.acknowledge(20).await;
        system.wire_worker_postgres.as_ref().expect("the layout has a proxy there").heal();
    }
    let needs = [
        (Effect::Acknowledged, 100),
        (Effect::StuckEnded, 2),
        (Effect::TakenOver, 2),
        (Effect::SettledLate, 2),
    ];
    system.finish(clients, &needs).await
}
