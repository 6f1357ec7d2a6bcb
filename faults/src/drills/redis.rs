//! Redis dies, stands still, is full, or has lost its memory.

use std::time::Duration;

use rand::seq::IndexedRandom;
use testkit::eventually;
use testkit::oracle::{Clients, Invariant, Load, PlanLimits};

use crate::matrix::{Row, Tier};
use crate::{Drill, Layout, Sight, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "redis killed",
        target: "redis",
        fault: "SIGKILL, SHUTDOWN and SIGKILL again under load, restarted on its data once clients are refused",
        expected: "503 meanwhile; nothing acknowledged is lost",
        tier: Tier::Quick,
        hold: |drill| Box::pin(killed(drill)),
    },
    Row {
        name: "redis wiped",
        target: "redis",
        fault: "FLUSHALL, then an empty folder, each with the month's quota used up and PostgreSQL silent at first",
        expected: "503 until the counters are rebuilt; the month does not begin anew",
        tier: Tier::Quick,
        hold: |drill| Box::pin(wiped(drill)),
    },
    Row {
        name: "redis forgets all but its entries",
        target: "redis",
        fault: "epoch, counters and consumer group deleted, twice, while entries wait for workers that stand still",
        expected: "what waits is delivered and counted; nothing is skipped",
        tier: Tier::Quick,
        hold: |drill| Box::pin(forgets_counters(drill)),
    },
    Row {
        name: "redis out of memory",
        target: "redis",
        fault: "maxmemory reached while workers stand still with hundreds of entries in the stream",
        expected: "503 backlog_full; the full server is drained, and admits again by itself",
        tier: Tier::Quick,
        hold: |drill| Box::pin(out_of_memory(drill)),
    },
    Row {
        name: "redis stands still",
        target: "redis",
        fault: "SIGSTOP until clients of every project are left without an answer, three times",
        expected: "timeouts are unknown outcomes; connections are made anew, nothing stays pending",
        tier: Tier::Quick,
        hold: |drill| Box::pin(stands_still(drill, 3, Still::ForClients)),
    },
    Row {
        name: "redis stands still for long",
        target: "redis",
        fault: "SIGSTOP until every lane of every worker has given up its call",
        expected: "the same; what was handed out to connections that are gone is read again",
        tier: Tier::Nightly,
        hold: |drill| Box::pin(stands_still(drill, 1, Still::ForWorkers)),
    },
    Row {
        name: "redis forgets scripts and drops clients",
        target: "redis",
        fault: "SCRIPT FLUSH, CLIENT KILL, CLIENT PAUSE, idle connections closed and BGREWRITEAOF, at random",
        expected: "scripts are loaded again, connections are made anew",
        tier: Tier::Quick,
        hold: |drill| Box::pin(disturbed(drill)),
    },
];

/// Lanes of a worker, on all shards of a usual system together.
const LANES: usize = 4;
/// Entries that stand in the stream when its memory is found full, or most of what it knows is gone.
const WAITING: u64 = 250;
/// What is left of its memory then, in bytes: enough for its own buffers to come and go.
const SPARE_BYTES: u64 = 512 << 10;
/// Disturbances of one drill, each once, and then so many at random.
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
    for politely in [false, true, false] {
        clients.acknowledge(50).await;
        if politely {
            system.tell_redis(&["SHUTDOWN"]).await;
            system.redis.wait_exit().await;
        } else {
            system.redis.kill().await;
            system.saw(Sight::Killed, 1);
        }
        system.more_unanswered(20).await;
        system.redis.restart().await;
    }
    clients.acknowledge(50).await;
    let needs =
        [(Sight::Acknowledged, 200), (Sight::Unknown, 60), (Sight::Retried, 1), (Sight::Reconnected, 12)];
    system.finish(clients, &needs).await
}

/// How a Redis loses its memory.
#[derive(Clone, Copy)]
enum Wipe {
    Flush,
    NewFolder,
}

/// What was acknowledged and not stored goes with a Redis that is wiped, which is outside of the promise; so the
/// stream is empty when it happens. The quota is used up, so an admission before the counters are back is one too many.
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

        // The counters cannot be rebuilt without it.
        system.postgres.pause();
        match wipe {
            Wipe::Flush => system.tell_redis(&["FLUSHALL"]).await,
            Wipe::NewFolder => system.redis.wipe_and_restart().await,
        }
        let clients = system.load(Load::default());
        answered(&system, &clients, 100).await;
        system.postgres.resume();
        clients.acknowledge(20).await;
        system.come_to_rest(clients).await;
    }
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    let needs =
        [(Sight::Rebuilt, 4), (Sight::Unknown, 100), (Sight::QuotaExceeded, 2), (Sight::Acknowledged, 60)];
    system.finish(clients, &needs).await
}

/// Waits until so many more requests were answered, whether acknowledged or not.
async fn answered(system: &System, clients: &Clients, more: u64) {
    let goal = system.unanswered() + clients.acknowledged() + more;
    let what = format!("{more} more requests to come to an end");
    let ended = async || system.unanswered() + clients.acknowledged() >= goal;
    eventually(Duration::from_secs(60), &what, ended).await;
}

async fn forgets_counters(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    system.expect_rebuild();
    let clients = system.load(Load::default());
    let shards = 0..Layout::default().shards;
    for _ in 0..2 {
        clients.acknowledge(30).await;
        system.pause_workers();
        clients.acknowledge(WAITING).await;
        for shard in shards.clone() {
            let mut counters = vec![format!("{{s{shard}}}:epoch"), format!("{{s{shard}}}:shard")];
            let of_projects =
                system.projects.iter().map(|(project, _)| format!("{{s{shard}}}:project:{}", project.id));
            counters.extend(of_projects);
            // One command, so that nobody can put an epoch above counters that are gone.
            let words: Vec<_> = ["DEL"].into_iter().chain(counters.iter().map(String::as_str)).collect();
            system.tell_redis(&words).await;
            system.tell_redis(&["XGROUP", "DESTROY", &System::stream_key(shard), "workers"]).await;
        }
        system.resume_workers();
        clients.acknowledge(30).await;
    }
    system.finish(clients, &[(Sight::Acknowledged, 200), (Sight::Rebuilt, 4), (Sight::Unknown, 1)]).await
}

async fn out_of_memory(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    system.pause_workers();
    clients.acknowledge(WAITING).await;
    let used = system.info("memory", "used_memory").await;
    let full = (used + SPARE_BYTES).to_string();
    system.tell_redis(&["CONFIG", "SET", "maxmemory", &full]).await;

    let refusal = system.refusal_by_full_backlog().await;
    if refusal.header("retry-after").is_none() {
        system.found(Invariant::Bounded, "503 backlog_full does not say when to come back".to_owned());
    }
    system.saw(Sight::BacklogFull, 1);
    system.more_unanswered(20).await;
    system.resume_workers();
    clients.acknowledge(50).await;
    system.tell_redis(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let needs =
        [(Sight::Acknowledged, 300), (Sight::BacklogFull, 1), (Sight::Unknown, 20), (Sight::Retried, 1)];
    system.finish(clients, &needs).await
}

/// For how long a Redis stands still.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Still {
    /// Until clients are told so.
    ForClients,
    /// Until workers, who wait longer, have given up, too.
    ForWorkers,
}

async fn stands_still(drill: Drill, rounds: u64, still: Still) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    for _ in 0..rounds {
        clients.acknowledge(50).await;
        system.redis.pause();
        system.more_unanswered(9).await;
        if still == Still::ForWorkers {
            for worker in &system.workers {
                let what = "every lane of a worker to give up its call";
                eventually(Duration::from_secs(60), what, async || outages_told(&worker.log()) >= LANES)
                    .await;
            }
        }
        system.redis.resume();
    }
    clients.acknowledge(50).await;
    let needs = [
        (Sight::Acknowledged, 100),
        (Sight::Unknown, 9 * rounds),
        (Sight::Retried, rounds),
        (Sight::Reconnected, rounds),
    ];
    system.finish(clients, &needs).await
}

/// How often lanes have told that the stream fails them: each once in an outage, whatever it was at.
fn outages_told(log: &str) -> usize {
    log.lines().filter(|line| line.contains("; trying again") && line.contains("failures=0")).count()
}

async fn disturbed(drill: Drill) -> Verdict {
    let mut rng = drill.rng(0);
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    let more = (0..DISTURBANCES_MORE).map(|_| DISTURBANCES.choose(&mut rng).expect("it is not empty"));
    let more: Vec<_> = more.collect();
    for words in DISTURBANCES.iter().chain(more) {
        clients.acknowledge(20).await;
        system.tell_redis(words).await;
    }
    clients.acknowledge(20).await;
    // The oracle's own connections may be idle.
    system.tell_redis(&["CONFIG", "SET", "timeout", "0"]).await;
    let forgotten = system.info("errorstats", "errorstat_NOSCRIPT").await;
    system.saw(Sight::ScriptForgotten, forgotten);
    let needs = [(Sight::Acknowledged, 200), (Sight::ScriptForgotten, 1), (Sight::Reconnected, 4)];
    system.finish(clients, &needs).await
}
