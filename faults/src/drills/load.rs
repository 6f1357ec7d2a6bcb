//! More than there is room for: in the backlog, in a plan, in a process.

use futures_util::future::join_all;
use testkit::chaos::{Act, Call, Moment, Trap, Weather};
use testkit::eventually;
use testkit::http::HttpClient;
use testkit::oracle::{Decision, Invariant, Load, PlanLimits, Post};
use tokio::net::TcpStream;

use crate::matrix::{Row, Tier};
use crate::node::SOON;
use crate::{Drill, Layout, Sight, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "backlog full",
        target: "load",
        fault: "workers on a wire of 20 kB/s, later on none, under more load than they can store",
        expected: "503 backlog_full with Retry-After; the stream stays below its limit and drains by itself",
        tier: Tier::Quick,
        hold: |drill| Box::pin(backlog_full(drill)),
    },
    Row {
        name: "plan exact on four apis",
        target: "limits",
        fault: "16 clients of one project on four APIs far from Redis, over rate and quota; answers lost",
        expected: "rate and quota used to the last request and event, and not exceeded by one",
        tier: Tier::Quick,
        hold: |drill| Box::pin(plan_exact(drill)),
    },
    Row {
        name: "out of file descriptors",
        target: "API",
        fault: "64 open files allowed, 120 idle connections",
        expected: "who is connected is served; who is not waits; all are when the others have gone",
        tier: Tier::Nightly,
        hold: |drill| Box::pin(out_of_files(drill)),
    },
    Row {
        name: "out of memory for bodies",
        target: "API",
        fault: "40 bodies of half a megabyte at once, with room for a few",
        expected: "503 overloaded for the others; the process lives; all pass in the end",
        tier: Tier::Nightly,
        hold: |drill| Box::pin(out_of_memory(drill)),
    },
];

/// Events of one shard that may wait.
const BACKLOG_EVENTS_MAX: u64 = 1_500;

async fn backlog_full(drill: Drill) -> Verdict {
    let limit = BACKLOG_EVENTS_MAX.to_string();
    let layout = Layout {
        proxy_worker_postgres: true,
        api: &[("BACKLOG_EVENTS_MAX", &limit)],
        // A slow transaction is no zombie here.
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
        look_at_backlog(&mut system).await;
    }
    clients.acknowledge(30).await;
    look_at_backlog(&mut system).await;

    // With nothing stored the backlog stands still at its limit, and the meter must say what is there.
    set_worker_wire(&system, Weather::Throttle { bytes_per_s: 0 });
    for worker in 0..system.workers.len() {
        eventually(SOON, "the meter of the backlog to be right", async || {
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
    system.finish(clients, &[(Sight::Acknowledged, 150), (Sight::BacklogFull, 20)]).await
}

fn set_worker_wire(system: &System, weather: Weather) {
    system.wire_worker_postgres.as_ref().expect("the layout has a proxy there").set(weather);
}

/// Posts a batch that perhaps does not fit, by hand. Whether it did not; and then the answer has to say when to come
/// again.
async fn is_refused_as_promised(system: &mut System) -> bool {
    let project = system.project("alpha");
    let api = system.addresses().await[0];
    let mut post = Post::new(&project, 20);
    let mut upload = post.upload(api, &project).await.expect("an API that runs accepts connections");
    upload.send(upload.left()).await.expect("an API that runs takes a request");
    let answer = upload.answer().await;
    if post.note(&project, &answer) == Decision::Acknowledged {
        return false;
    }
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            system.found(Invariant::TotalsAgree, format!("a batch beyond the backlog got {error}"));
            return true;
        }
    };
    let after_s = answer.header("retry-after").and_then(|seconds| seconds.parse::<u64>().ok());
    let code = answer.json()["code"].clone();
    if (answer.status, code.as_str()) != (503, Some("backlog_full"))
        || after_s.is_none_or(|seconds| seconds == 0)
    {
        let said =
            format!("a batch beyond the backlog was answered {} {code}, after {after_s:?}", answer.status);
        system.found(Invariant::TotalsAgree, said);
    }
    true
}

async fn look_at_backlog(system: &mut System) {
    let mut redis = system.redis.connect().await;
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
            let said =
                format!("shard {shard}: {length} entries, {events:?} events, {BACKLOG_EVENTS_MAX} allowed");
            system.found(Invariant::Bounded, said);
        }
    }
}

async fn plan_exact(drill: Drill) -> Verdict {
    // Whoever is over the rate is told to come again in a second, and then all of them come at once.
    let limited = PlanLimits { requests_per_minute: 1_200, burst: 12, events_per_month: Some(1_500) };
    let layout = Layout { apis: 4, limited, proxy_api_redis: true, ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let wire = system.wire_api_redis.as_ref().expect("the layout has a proxy there");
    // So far away that whoever looks first and admits afterwards is late.
    wire.set(Weather::Delay { ms: 20, jitter_ms: 5 });
    let lost = wire.arm(Trap::every(40, Moment::Reply(Call::named("EVALSHA")), Act::CutReply));
    let clients = system.load_of("limited", Load { clients: 16, ..Load::default() });
    let project = system.project("limited");
    eventually(SOON, "the quota to be used up", async || {
        project.history.tally().refused.get("quota_exceeded").is_some_and(|refused| *refused >= 50)
    })
    .await;
    system.saw(Sight::ReplyCut, lost.times());
    let needs = [
        (Sight::Acknowledged, 60),
        (Sight::RateLimited, 20),
        (Sight::QuotaExceeded, 50),
        (Sight::ReplyCut, 3),
    ];
    system.finish(clients, &needs).await
}

/// Files an API may have open in the drill, and clients that hold a connection and ask for nothing.
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
        system.saw(Sight::Shed, 1);
    }
    stayed_alive(&mut system);
    system.finish(clients, &[(Sight::Acknowledged, 150), (Sight::Shed, 3)]).await
}

/// Bodies at once, and the events that make each of them large.
const LARGE_BODIES: usize = 40;
const LARGE_BODY_EVENTS: u64 = 1_000;
/// What an API may have of the machine's addresses in the drill.
const ADDRESS_SPACE_BYTES: u64 = 1 << 30;

async fn out_of_memory(drill: Drill) -> Verdict {
    // Room for the largest body there may be, and no more.
    let api = [("BODY_DECODED_BYTES_MAX", "4194304"), ("BODIES_IN_FLIGHT_BYTES_MAX", "8388608")];
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
            let upload = post.upload(server, &project).await.expect("an API that runs accepts connections");
            uploads.push((post, upload));
        }
        // All of them, but for the last byte of each, so that none makes room for another.
        let begun = uploads.iter_mut().map(|(_, upload)| upload.send(upload.left() - 1));
        join_all(begun).await.into_iter().for_each(|sent| sent.expect("a refused body is read to its end"));
        for (mut post, mut upload) in uploads {
            upload.send(1).await.expect("a refused body is read to its end");
            if post.note(&project, &upload.answer().await) == Decision::Acknowledged {
                continue;
            }
            let mut http = HttpClient::new(server);
            let decided = async || post.send(&mut http, &project).await == Decision::Acknowledged;
            eventually(SOON, "a large body to be taken alone", decided).await;
        }
    }
    stayed_alive(&mut system);
    system.finish(clients, &[(Sight::Acknowledged, 100 + LARGE_BODIES as u64), (Sight::Shed, 10)]).await
}

/// The API that is short of something, the first one, was started twice by the drill and never ended by itself.
fn stayed_alive(system: &mut System) {
    let lives = system.apis[0].lives();
    if lives != 2 || !system.apis[0].is_running() {
        system.found(Invariant::Bounded, format!("the API died of want, in life {lives}"));
    }
}
