//! PostgreSQL dies, is away, is locked, or loses its connections; its disk is in `disk`.

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
        fault: "inside the COPY, after it, after the ledger and before COMMIT: SIGKILL of a session, or an immediate stop",
        expected: "recovered, rolled back, written again",
        tier: Tier::Quick,
        run: |drill| Box::pin(dies_in_a_transaction(drill)),
    },
    Row {
        name: "postgres down",
        target: "PostgreSQL",
        fault: "stopped under load until the backlog is full",
        expected: "requests are answered until the backlog is full, then 503 by name; nobody is convicted; it drains",
        tier: Tier::Quick,
        run: |drill| Box::pin(away(drill)),
    },
    Row {
        name: "usage and events locked",
        target: "PostgreSQL",
        fault: "ACCESS EXCLUSIVE on one table after the other, for longer than writers wait for a lock",
        expected: "writers give up and try again; no worker ends; requests are answered",
        tier: Tier::Quick,
        run: |drill| Box::pin(locked(drill, &["usage_hourly", "events"])),
    },
    Row {
        name: "every other table locked",
        target: "PostgreSQL",
        fault: "the same for the ledger, undated ids and the default partition",
        expected: "writers give up and try again; no worker ends; requests are answered",
        tier: Tier::Nightly,
        run: |drill| Box::pin(locked(drill, &["batches", "undated_ids", "events_default"])),
    },
    Row {
        name: "deadlocks",
        target: "PostgreSQL",
        fault: "somebody locks the meters and then wants the ledger, five times",
        expected: "the writers lose and write again",
        tier: Tier::Nightly,
        run: |drill| Box::pin(deadlocks(drill)),
    },
    Row {
        name: "transactions that cannot be serialized",
        target: "PostgreSQL",
        fault: "a server whose transactions are repeatable reads unless they say otherwise",
        expected: "exact",
        tier: Tier::Nightly,
        run: |drill| Box::pin(repeatable_reads(drill)),
    },
    Row {
        name: "connection to postgres cut around commit",
        target: "worker to PostgreSQL",
        fault: "reset before the end of the COPY, before COMMIT, before its answer, and after it, three times each",
        expected: "what was committed is recognised, what was not is written again",
        tier: Tier::Quick,
        run: |drill| Box::pin(cut_around_commit(drill)),
    },
    Row {
        name: "copy into a black hole",
        target: "worker to PostgreSQL",
        fault: "inside a COPY everything vanishes and nobody is told, twice",
        expected: "the stuck session is ended, others take over and drain while it lasts",
        tier: Tier::Quick,
        run: |drill| Box::pin(copy_into_a_black_hole(drill)),
    },
];

/// A worker with few lanes, so that few failures are many for one of them.
const ONE_LANE: (&str, &str) = ("WORKER_LANES", "1");
/// So many failures of two lanes are, for one of them at least, more than an entry would need to be convicted.
const CONVICTING_FAILURES: f64 = 14.0;
/// Who waits for a lock, five seconds at most, is neither silent nor stuck.
const PATIENT: &[(&str, &str)] = &[("TAKEOVER_IDLE_MS", "15000"), ("TRANSACTION_AGE_MAX_MS", "60000")];
/// Small enough to be reached in seconds.
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
        // A life for each point. In one life with all of them armed, the other lane comes to the next point on an answer
        // that had arrived before its server died: then nothing is open any more that could be killed there.
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

async fn away(drill: Drill) -> Verdict {
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
        system.violated(Invariant::Bounded, "a full backlog does not say when to come again".to_owned());
    }
    system.note(Effect::BacklogFull, 1);
    for worker in &mut system.workers {
        let failed = worker.metric(metric::WRITE_FAILURES).await;
        worker.reaches(metric::WRITE_FAILURES, failed.max(CONVICTING_FAILURES)).await;
    }
    system.postgres.restart().await;
    clients.acknowledge(50).await;
    look_for_the_dead(&mut system);
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
        holder.batch_execute(&lock).await.expect("who waits long enough gets a lock");
        for worker in &mut system.workers {
            let failed = worker.metric(metric::WRITE_FAILURES).await;
            worker.reaches(metric::WRITE_FAILURES, failed + 1.0).await;
        }
        clients.acknowledge(20).await;
        holder.batch_execute("COMMIT").await.expect("a lock can be given back");
    }
    look_for_the_dead(&mut system);
    let failures = system.workers.len() as u64 * tables.len() as u64;
    let needs = [(Effect::Acknowledged, 100), (Effect::WriteFailed, failures)];
    system.finish(clients, &needs).await
}

/// A worker lives through everything that PostgreSQL can do.
fn look_for_the_dead(system: &mut System) {
    for at in 0..system.workers.len() {
        let worker = &mut system.workers[at];
        if !worker.is_running() || worker.lives() != 1 {
            system.violated(Invariant::Bounded, format!("worker {at} has ended"));
        }
    }
}

async fn deadlocks(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    let rival = system.postgres.connect().await;
    let watcher = system.postgres.connect().await;
    // The rival waits longer than the writers before it looks for a deadlock: they find it, and they lose.
    rival.batch_execute("SET deadlock_timeout = '1min'").await.expect("a superuser may");
    for _ in 0..5 {
        let lock = "BEGIN; LOCK TABLE usage_hourly IN ACCESS EXCLUSIVE MODE";
        rival.batch_execute(lock).await.expect("who waits long enough gets a lock");
        let waiting = "SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
                        WHERE NOT granted AND relation = 'usage_hourly'::regclass
                          AND starts_with(application_name, 'millrace-worker:')";
        eventually(SOON, "a writer to wait for the meters", async || {
            watcher.query_one(waiting, &[]).await.expect("locks can be seen").get::<_, i64>(0) > 0
        })
        .await;
        let wish = "LOCK TABLE batches IN ACCESS EXCLUSIVE MODE; COMMIT";
        rival.batch_execute(wish).await.expect("the writers have lost");
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
            let wire = system.wire_worker_postgres.as_ref().expect("the layout has it");
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
        // Long enough that no lane is taken for silent because the machine is busy.
        worker: &[("TAKEOVER_IDLE_MS", "2000")],
        ..Layout::default()
    };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    clients.acknowledge(50).await;
    for stuck in [1.0, 2.0] {
        let wire = system.wire_worker_postgres.as_ref().expect("the layout has it");
        let armed = wire.arm(Trap::first(Moment::CopyData, Act::BlackHole));
        eventually(SOON, "a COPY to vanish", async || armed.sprung()).await;
        // The hole stays open: the lane that fell into it waits for an answer all the while.
        system.workers_reach(metric::STUCK_ENDED, stuck).await;
        system.what_stands_now_is_drained().await;
        clients.acknowledge(20).await;
        system.wire_worker_postgres.as_ref().expect("the layout has it").heal();
    }
    let needs = [
        (Effect::Acknowledged, 100),
        (Effect::StuckEnded, 2),
        (Effect::TakenOver, 2),
        (Effect::SettledLate, 2),
    ];
    system.finish(clients, &needs).await
}
