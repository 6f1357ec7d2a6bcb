//! More load than the backlog, a plan or a process allows.

use futures_util::future::join_all;
use testkit::chaos::{Act, Call, Moment, Trap, Weather};
use testkit::eventually;
use testkit::http::HttpClient;
use testkit::oracle::{Decision, Invariant, Load, PlanLimits, Post};
use tokio::net::TcpStream;

use crate::node::SOON;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "backlog full",
        target: "load",
        fault: "workers with 20 kB/s to PostgreSQL, later 0, under more load than they can store",
        expected: "503 backlog_full with Retry-After; the stream stays below its limit and drains by itself",
        tier: Tier::Quick,
        run: |drill| Box::pin(backlog_full(drill)),
    },
    Row {
        name: "plan exact on four apis",
        target: "limits",
        fault: "16 clients of one project on four APIs with a slow connection to Redis, over rate and quota; replies lost",
        expected: "rate and quota are used up exactly and not exceeded",
        tier: Tier::Quick,
        run: |drill| Box::pin(plan_exact(drill)),
    },
    Row {
        name: "out of file descriptors",
        target: "API",
        fault: "64 open files allowed, 120 idle connections",
        expected: "connected clients are served; new clients wait until the idle ones disconnect",
        tier: Tier::Nightly,
        run: |drill| Box::pin(out_of_files(drill)),
    },
    Row {
        name: "out of memory for bodies",
        target: "API",
        fault: "40 concurrent bodies of half a megabyte, with memory for a few",
        expected: "503 overloaded for the others; the process survives; all are accepted in the end",
        tier: Tier::Nightly,
        run: |drill| Box::pin(out_of_memory(drill)),
    },
];

/// Events of one shard that may wait.
const BACKLOG_EVENTS_MAX: u64 = 1_500;

async fn backlog_full(drill: Drill) -> Verdict {
    let limit = BACKLOG_EVENTS_MAX.to_string();
    let layout = Layout {
        proxy_worker_postgres: true,
        api: &[("BACKLOG_EVENTS_MAX", &limit)],
        // A slow transaction must not be ended as stuck.
        worker: &[("TRANSACTION_AGE_MAX_MS", "60000")],
        ..Layout::default()
    };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    set_worker_wire(&system, Weather::Throttle { bytes_per_s: 20_000 });
    let mut refused = 0;
    while refused < 10 {
        refused += u64::from(is_refused_as_promised(&mut system).await);
        check_backlog(&mut system).await;
    }
    clients.acknowledge(30).await;
    check_backlog(&mut system).await;

    // While nothing is stored, the backlog stays at its limit and the metric must match it.
    set_worker_wire(&system, Weather::Throttle { bytes_per_s: 0 });
    for worker in 0..system.workers.len() {
        eventually(SOON, "the metric of the backlog to be correct", async || {
            let (entries, metered) =
                (system.entries().await, system.workers[worker].metric("millrace_backlog_entries").await);
            if entries > 0 && metered == entries as f64 {
                Ok(())
            } else {
                Err(format!("{entries} and {metered}"))
            }
        })
        .await;
    }
    set_worker_wire(&system, Weather::Fair);
    clients.acknowledge(50).await;
    system.finish(clients, &[(Effect::Acknowledged, 150), (Effect::BacklogFull, 20)]).await
}

fn set_worker_wire(system: &System, weather: Weather) {
    system.wire_worker_postgres.as_ref().expect("the layout has a proxy there").set(weather);
}

/// Posts a batch that may not fit into the backlog. Returns whether it was refused, and checks that the
/// answer then has a `Retry-After`.
async fn is_refused_as_promised(system: &mut System) -> bool {
    let project = system.project("alpha");
    let api = system.addresses().await[0];
    let mut post = Post::new(&project, 20);
    let mut upload = post.upload(api, &project).await.expect("a running API accepts connections");
    upload.send(upload.left()).await.expect("a running API reads a request");
    let answer = upload.answer().await;
    if post.note(&project, &answer) == Decision::Acknowledged {
        return false;
    }
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            system.violated(Invariant::TotalsAgree, format!("a batch beyond the backlog got {error}"));
            return true;
        }
    };
    let after_s = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    let code = answer.json()["code"].clone();
    if (answer.status, code.as_str()) != (503, Some("backlog_full"))
        || after_s.is_none_or(|seconds| seconds == 0)
    {
        let text =
            format!("a batch beyond the backlog was answered {} {code}, after {after_s:?}", answer.status);
        system.violated(Invariant::TotalsAgree, text);
    }
    true
}

async fn check_backlog(system: &mut System) {
    let mut redis = system.redis().connect().await;
    for shard in 0..2 {
        let events: Option<u64> = redis::cmd("HGET")
            .arg(format!("{{s{shard}}}:shard"))
            .arg("backlog_events")
            .query_async(&mut redis)
            .await
            .expect("Redis answers a drill");
        let length: u64 = redis::cmd("XLEN")
            .arg(System::stream_key(shard))
            .query_async(&mut redis)
            .await
            .expect("Redis answers a drill");
        if length > BACKLOG_EVENTS_MAX || events.is_some_and(|events| events > BACKLOG_EVENTS_MAX) {
            let text =
                format!("shard {shard}: {length} entries, {events:?} events, {BACKLOG_EVENTS_MAX} allowed");
            system.violated(Invariant::Bounded, text);
        }
    }
}

async fn plan_exact(drill: Drill) -> Verdict {
    // All clients over the rate retry after a second, at the same moment.
    let limited = PlanLimits { requests_per_minute: 1_200, burst: 12, events_per_month: Some(1_500) };
    let layout = Layout { apis: 4, limited, proxy_api_redis: true, ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let wire = system.wire_api_redis.as_ref().expect("the layout has a proxy there");
    // Slow enough that limits checked before the admission are out of date.
    wire.set(Weather::Delay { ms: 20, jitter_ms: 5 });
    let lost = wire.arm(Trap::every(40, Moment::Reply(Call::named("EVALSHA")), Act::CutReply));
    let clients = system.load_of("limited", Load { clients: 16, ..Load::default() });
    let project = system.project("limited");
    eventually(SOON, "the quota to be used up", async || {
        project.history.tally().refused.get("quota_exceeded").is_some_and(|refused| *refused >= 50)
    })
    .await;
    system.note(Effect::ReplyCut, lost.times());
    let needs = [
        (Effect::Acknowledged, 60),
        (Effect::RateLimited, 20),
        (Effect::QuotaExceeded, 50),
        (Effect::ReplyCut, 3),
    ];
    system.finish(clients, &needs).await
}

/// Open files that an API may have, and clients that keep an idle connection.
const OPEN_FILES: u64 = 64;
const IDLE_CLIENTS: usize = 120;

async fn out_of_files(drill: Drill) -> Verdict {
    let mut system = System::start(drill, Layout::default()).await;
    system.apis[0].kill().await;
    system.apis[0].limits.open_files = Some(OPEN_FILES);
    system.apis[0].start().await;
    system.aim().await;
    let server = system.apis[0].address().await;
    let clients = system.load(Load::default());
    for _ in 0..3 {
        clients.acknowledge(30).await;
        let idle = join_all((0..IDLE_CLIENTS).map(|_| TcpStream::connect(server))).await;
        system.apis[0].program().wait_for_line("cannot accept connections").await;
        clients.acknowledge(30).await;
        drop(idle);
        let project = system.project("alpha");
        eventually(SOON, "a new client to be served", async || {
            Post::new(&project, 1).send(&mut HttpClient::new(server), &project).await
                == Decision::Acknowledged
        })
        .await;
        system.note(Effect::Shed, 1);
    }
    check_survival(&mut system);
    system.finish(clients, &[(Effect::Acknowledged, 150), (Effect::Shed, 3)]).await
}

/// Concurrent bodies, and the events in each.
const LARGE_BODIES: usize = 40;
const LARGE_BODY_EVENTS: u64 = 1_000;
/// Address space of the API.
const ADDRESS_SPACE_BYTES: u64 = 1 << 30;

async fn out_of_memory(drill: Drill) -> Verdict {
    // Room for the largest allowed body, and no more.
    let api = [
        ("SDK_BODY_BYTES_MAX", "4194304"),
        ("BODY_DECODED_BYTES_MAX", "4194304"),
        ("BODIES_IN_FLIGHT_BYTES_MAX", "8388608"),
    ];
    let mut system = System::start(drill, Layout { api: &api, ..Layout::default() }).await;
    system.apis[0].kill().await;
    system.apis[0].limits.address_space_bytes = Some(ADDRESS_SPACE_BYTES);
    system.apis[0].start().await;
    system.aim().await;
    let server = system.apis[0].address().await;
    let clients = system.load(Load::default());
    let project = system.project("beta");
    for _ in 0..2 {
        clients.acknowledge(20).await;
        let mut uploads = Vec::new();
        for _ in 0..LARGE_BODIES {
            let post = Post::new(&project, LARGE_BODY_EVENTS);
            let upload = post.upload(server, &project).await.expect("a running API accepts connections");
            uploads.push((post, upload));
        }
        // Everything except the last byte of each, so that no body frees memory for another.
        let begun = uploads.iter_mut().map(|(_, upload)| upload.send(upload.left() - 1));
        join_all(begun)
            .await
            .into_iter()
            .for_each(|sent| sent.expect("the API reads refused bodies to the end"));
        for (mut post, mut upload) in uploads {
            upload.send(1).await.expect("the API reads refused bodies to the end");
            if post.note(&project, &upload.answer().await) == Decision::Acknowledged {
                continue;
            }
            let mut http = HttpClient::new(server);
            let decided = async || post.send(&mut http, &project).await == Decision::Acknowledged;
            eventually(SOON, "a large body to be accepted", decided).await;
        }
    }
    check_survival(&mut system);
    system.finish(clients, &[(Effect::Acknowledged, 100 + LARGE_BODIES as u64), (Effect::Shed, 10)]).await
}

/// The first API, which the drill has started twice, has never ended by itself.
fn check_survival(system: &mut System) {
    let starts = system.apis[0].starts();
    if starts != 2 || !system.apis[0].is_running() {
        system
            .violated(Invariant::Bounded, format!("the API ended by itself; it was started {starts} times"));
    }
}
