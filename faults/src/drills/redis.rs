//! Redis dies, is paused, is full, or loses its data.

use std::time::Duration;

use rand::seq::IndexedRandom;
use testkit::eventually;
use testkit::oracle::{Clients, Invariant, Load, PlanLimits};

use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "redis killed",
        target: "redis",
        fault: "SIGKILL, SHUTDOWN and SIGKILL under load, each time restarted with its data after clients were refused",
        expected: "503 meanwhile; no acknowledged event is lost",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed(drill)),
    },
    Row {
        name: "redis wiped",
        target: "redis",
        fault: "FLUSHALL, then an empty folder, each with the quota of the month used up and PostgreSQL paused at first",
        expected: "503 until the counters are rebuilt; the quota stays used up",
        tier: Tier::Quick,
        run: |drill| Box::pin(wiped(drill)),
    },
    Row {
        name: "redis wiped with events in it",
        target: "redis",
        fault: "FLUSHALL under load, while acknowledged events wait and no worker runs",
        expected: "`millrace audit` names exactly the events that are missing; nothing twice; quota and counters are rebuilt",
        tier: Tier::Quick,
        run: |drill| Box::pin(wiped_with_events(drill)),
    },
    Row {
        name: "redis wiped under paused workers",
        target: "redis",
        fault: "FLUSHALL while a worker is stopped that has read acknowledged events; SIGCONT after the counters are rebuilt",
        expected: "the worker drops what was not counted; `millrace audit` names exactly the events that are missing",
        tier: Tier::Quick,
        run: |drill| Box::pin(wiped_under_paused_workers(drill)),
    },
    Row {
        name: "redis loses all keys but its entries",
        target: "redis",
        fault: "epoch, counters and consumer group deleted, twice, while entries wait for paused workers",
        expected: "waiting entries are delivered and counted; none is skipped",
        tier: Tier::Quick,
        run: |drill| Box::pin(loses_counters(drill)),
    },
    Row {
        name: "redis out of memory",
        target: "redis",
        fault: "maxmemory reached while workers are paused and hundreds of entries are in the stream",
        expected: "503 backlog_full; the full server is drained, and accepts batches again by itself",
        tier: Tier::Quick,
        run: |drill| Box::pin(out_of_memory(drill)),
    },
    Row {
        name: "redis paused",
        target: "redis",
        fault: "SIGSTOP until clients of every project have timed out, three times",
        expected: "timeouts are unknown outcomes; programs reconnect; nothing stays pending",
        tier: Tier::Quick,
        run: |drill| Box::pin(paused(drill, 3, PauseUntil::ClientsTimeOut)),
    },
    Row {
        name: "redis paused for long",
        target: "redis",
        fault: "SIGSTOP until every lane of every worker has timed out",
        expected: "the same; entries delivered to lost connections are read again",
        tier: Tier::Nightly,
        run: |drill| Box::pin(paused(drill, 1, PauseUntil::WorkersTimeOut)),
    },
    Row {
        name: "redis drops scripts and clients",
        target: "redis",
        fault: "SCRIPT FLUSH, CLIENT KILL, CLIENT PAUSE, idle connections closed and BGREWRITEAOF, at random",
        expected: "scripts are loaded again, programs reconnect",
        tier: Tier::Quick,
        run: |drill| Box::pin(disturbed(drill)),
    },
];

/// Lanes of one worker, over all shards of the default layout.
const LANES: usize = 4;
/// Entries in the stream when memory is full or keys are deleted.
const WAITING: u64 = 250;
/// Memory that Redis has left, in bytes: enough for its buffers.
const SPARE_BYTES: u64 = 512 << 10;
/// Each disturbance happens once, then this many random ones.
const DISTURBANCES_MORE: usize = 6;
const DISTURBANCES: &[&[&str]] = &[
    &["SCRIPT", "FLUSH"],
    &["CLIENT", "KILL", "TYPE", "normal"],
    &["CLIENT", "PAUSE", "300", "WRITE"],
    &["CONFIG", "SET", "timeout", "1"],
    &["BGREWRITEAOF"],
];

async fn killed(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    for gracefully in [false, true, false] {
        clients.acknowledge(50).await;
        if gracefully {
            system.command_redis(&["SHUTDOWN"]).await;
            system.redis_mut().wait_exit().await;
        } else {
            system.redis_mut().kill().await;
            system.note(Effect::Killed, 1);
        }
        system.more_unanswered(20).await;
        system.redis_mut().restart().await;
    }
    clients.acknowledge(50).await;
    let needs =
        [(Effect::Acknowledged, 200), (Effect::Unknown, 60), (Effect::Retried, 1), (Effect::Reconnected, 12)];
    system.finish(clients, &needs).await
}

/// How Redis loses its data.
#[derive(Clone, Copy)]
enum Wipe {
    Flush,
    NewFolder,
}

/// The stream is empty when Redis is wiped, because the promise does not cover its data. The quota is used
/// up, so any admission before the counters are rebuilt exceeds it.
async fn wiped(drill: Drill) -> Verdict {
    let limited = PlanLimits { requests_per_minute: 6_000, burst: 100, events_per_month: Some(150) };
    let mut system = System::start(drill, Layout { limited, ..Layout::default() }).await;
    system.expect_rebuild();
    for wipe in [Wipe::Flush, Wipe::NewFolder] {
        let clients = system.load(Load::default());
        let refused = system.over_quota();
        eventually(Duration::from_secs(60), "the quota to be used up", async || {
            system.over_quota() > refused
        })
        .await;
        system.come_to_rest(clients).await;

        // The counters cannot be rebuilt without PostgreSQL.
        system.postgres.pause();
        match wipe {
            Wipe::Flush => system.command_redis(&["FLUSHALL"]).await,
            Wipe::NewFolder => system.redis_mut().wipe_and_restart().await,
        }
        let clients = system.load(Load::default());
        answered(&system, &clients, 100).await;
        system.postgres.resume();
        clients.acknowledge(20).await;
        system.come_to_rest(clients).await;
    }
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    let needs = [
        (Effect::Rebuilt, 4),
        (Effect::Unknown, 100),
        (Effect::QuotaExceeded, 2),
        (Effect::Acknowledged, 60),
    ];
    system.finish(clients, &needs).await
}

async fn wiped_with_events(drill: Drill) -> Verdict {
    let (mut system, clients) = with_events_waiting(drill).await;
    system.command_redis(&["FLUSHALL"]).await;
    for worker in &mut system.workers {
        worker.start().await;
    }
    // Every API learns of it, whichever process rebuilds the counters.
    clients.acknowledge(100).await;
    finish_with_named_losses(system, clients).await
}

async fn wiped_under_paused_workers(drill: Drill) -> Verdict {
    let (mut system, clients) = with_events_waiting(drill).await;
    let worker = &mut system.workers[0];
    worker.start_with(&[("FAILPOINTS", "lane::after_read=1*return(stop)")]).await;
    worker.program().wait_for_line("failpoint lane::after_read: SIGSTOP").await;
    system.command_redis(&["FLUSHALL"]).await;
    // The counters of every shard are rebuilt without the entries that the worker has read.
    clients.acknowledge(100).await;
    system.workers[0].program().resume();
    system.workers[1].start().await;
    finish_with_named_losses(system, clients).await
}

/// No event is in two batches, so that a lost batch is a lost event.
fn single_events() -> Load {
    Load { copy_one_in: u32::MAX, ..Load::default() }
}

/// Acknowledged events wait in the stream, and no worker runs.
async fn with_events_waiting(drill: Drill) -> (System, Clients) {
    let mut system = System::start(drill, Layout::default()).await;
    system.expect_rebuild();
    let clients = system.load(single_events());
    clients.acknowledge(50).await;
    for worker in &mut system.workers {
        worker.kill().await;
    }
    clients.acknowledge(WAITING).await;
    (system, clients)
}

async fn finish_with_named_losses(mut system: System, clients: Clients) -> Verdict {
    system.come_to_rest(clients).await;
    system.expect_what_the_audit_names().await;
    let clients = system.load(single_events());
    clients.acknowledge(20).await;
    let needs = [(Effect::Acknowledged, 150), (Effect::Rebuilt, 1), (Effect::LostAndNamed, 100)];
    system.finish(clients, &needs).await
}

/// Waits until this many more requests have ended, acknowledged or not.
async fn answered(system: &System, clients: &Clients, more: u64) {
    let goal = system.unanswered() + clients.acknowledged() + more;
    let what = format!("{more} more requests to come to an end");
    let ended = async || system.unanswered() + clients.acknowledged() >= goal;
    eventually(Duration::from_secs(60), &what, ended).await;
}

async fn loses_counters(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    system.expect_rebuild();
    let clients = system.load(Load::default());
    for _ in 0..2 {
        clients.acknowledge(30).await;
        system.pause_workers();
        clients.acknowledge(WAITING).await;
        system.forget_counters().await;
        system.resume_workers();
        clients.acknowledge(30).await;
    }
    system.finish(clients, &[(Effect::Acknowledged, 200), (Effect::Rebuilt, 4), (Effect::Unknown, 1)]).await
}

async fn out_of_memory(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    system.pause_workers();
    clients.acknowledge(WAITING).await;
    let used = system.info("memory", "used_memory").await;
    let full = (used + SPARE_BYTES).to_string();
    system.command_redis(&["CONFIG", "SET", "maxmemory", &full]).await;

    let refusal = system.refusal_by_full_backlog().await;
    if refusal.header("retry-after").is_none() {
        system.violated(Invariant::Bounded, "503 backlog_full has no Retry-After".to_owned());
    }
    system.note(Effect::BacklogFull, 1);
    system.more_unanswered(20).await;
    system.resume_workers();
    clients.acknowledge(50).await;
    system.command_redis(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let needs =
        [(Effect::Acknowledged, 300), (Effect::BacklogFull, 1), (Effect::Unknown, 20), (Effect::Retried, 1)];
    system.finish(clients, &needs).await
}

/// How long Redis is paused.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PauseUntil {
    ClientsTimeOut,
    /// Workers wait longer than clients.
    WorkersTimeOut,
}

async fn paused(drill: Drill, rounds: u64, until: PauseUntil) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    for _ in 0..rounds {
        clients.acknowledge(50).await;
        system.redis_mut().pause();
        system.more_unanswered(9).await;
        if until == PauseUntil::WorkersTimeOut {
            for worker in &system.workers {
                let what = "every lane of a worker to time out";
                eventually(Duration::from_secs(60), what, async || outages_logged(&worker.log()) >= LANES)
                    .await;
            }
        }
        system.redis_mut().resume();
    }
    clients.acknowledge(50).await;
    let needs = [
        (Effect::Acknowledged, 100),
        (Effect::Unknown, 9 * rounds),
        (Effect::Retried, rounds),
        (Effect::Reconnected, rounds),
    ];
    system.finish(clients, &needs).await
}

/// Number of outages of the stream that lanes have logged. Each lane logs an outage once at the first
/// failure.
fn outages_logged(log: &str) -> usize {
    log.lines().filter(|line| line.contains("; trying again") && line.contains("failures=1 ")).count()
}

async fn disturbed(drill: Drill) -> Verdict {
    let mut rng = drill.rng(0);
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    let more = (0..DISTURBANCES_MORE).map(|_| DISTURBANCES.choose(&mut rng).expect("it is not empty"));
    let more: Vec<_> = more.collect();
    for words in DISTURBANCES.iter().chain(more) {
        clients.acknowledge(20).await;
        system.command_redis(words).await;
    }
    clients.acknowledge(20).await;
    // The connections of the oracle may be idle.
    system.command_redis(&["CONFIG", "SET", "timeout", "0"]).await;
    let forgotten = system.info("errorstats", "errorstat_NOSCRIPT").await;
    system.note(Effect::ScriptForgotten, forgotten);
    let needs = [(Effect::Acknowledged, 200), (Effect::ScriptForgotten, 1), (Effect::Reconnected, 4)];
    system.finish(clients, &needs).await
}
