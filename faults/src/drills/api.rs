//! APIs are killed, paused or terminated, and replies to admissions are lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt;
use rand::rngs::StdRng;
use testkit::chaos::{Act, ChaosProxy, Moment, Trap, Weather};
use testkit::http::HttpClient;
use testkit::oracle::{Decision, Invariant, Load, Post, Project};
use testkit::{Upload, eventually};
use tokio_postgres::Client;

use super::scripts::ADMISSION;
use crate::node::SOON;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "api killed before admission",
        target: "API",
        fault: "SIGKILL after a batch is packed and before it is sent to the stream; another at any moment; four times",
        expected: "acknowledged events are stored; no batch twice when clients retry at the other API",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed_at(drill, &["api::before_admission"])),
    },
    Row {
        name: "api killed after admission",
        target: "API",
        fault: "SIGKILL after a batch is in the stream and before the answer; another at any moment; four times",
        expected: "no batch stored or charged twice when clients retry at the other API",
        tier: Tier::Quick,
        run: |drill| Box::pin(killed_at(drill, &["api::after_admission"])),
    },
    Row {
        name: "api killed during validation",
        target: "API",
        fault: "SIGKILL before the body is read, and after a batch is packed",
        expected: "no part of a batch is stored",
        tier: Tier::Nightly,
        run: |drill| Box::pin(killed_at(drill, &["api::after_auth", "api::after_validation"])),
    },
    Row {
        name: "api terminated under load",
        target: "API",
        fault: "SIGTERM with complete and partial requests in progress on a slow connection to Redis, four times",
        expected: "every request is answered; the process ends by itself",
        tier: Tier::Quick,
        run: |drill| Box::pin(terminated(drill)),
    },
    Row {
        name: "api paused after admission",
        target: "API",
        fault: "SIGSTOP for 6 to 15 s after a batch is in the stream and before the answer, then SIGCONT",
        expected: "late answers change nothing; no batch twice",
        tier: Tier::Nightly,
        run: |drill| Box::pin(paused(drill)),
    },
    Row {
        name: "replies to admissions lost",
        target: "API to Redis",
        fault: "replies to admissions cut, first single ones, then all",
        expected: "admission is retried under the same batch id: one entry for each batch",
        tier: Tier::Quick,
        run: |drill| Box::pin(replies_lost(drill)),
    },
    Row {
        name: "batch settled before its admission is retried",
        target: "API to Redis",
        fault: "the reply to an admission held until the batch is stored and settled, then cut",
        expected: "the retry gets the first answer: one entry, charged once",
        tier: Tier::Quick,
        run: |drill| Box::pin(settled_before_retry(drill)),
    },
];

const ROUNDS: usize = 4;

/// In each round one API dies at the failpoint. The other is killed at any moment, so that clients use the
/// first.
async fn killed_at(drill: Drill, points: &[&str]) -> Verdict {
    let mut rng = drill.rng(1);
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    clients.acknowledge(30).await;
    for round in 0..ROUNDS {
        let (victim, other) = (round % 2, (round + 1) % 2);
        let (point, earlier) = (points[round % points.len()], rng.random_range(1..20));
        system.apis[victim].kill().await;
        let failpoint = format!("{point}={earlier}*off->1*return(kill)");
        system.apis[victim].start_with(&[("FAILPOINTS", &failpoint)]).await;
        system.aim().await;
        // All clients use the other API; when it dies, they use the victim.
        system.apis[other].kill().await;
        system.apis[victim].died().await;
        for api in [victim, other] {
            system.apis[api].start().await;
        }
        system.aim().await;
        system.note(Effect::Killed, 3);
        clients.acknowledge(30).await;
    }
    let needs = [
        (Effect::Acknowledged, 150),
        (Effect::Killed, 3 * ROUNDS as u64),
        (Effect::Unknown, ROUNDS as u64),
        (Effect::Retried, 1),
    ];
    system.finish(clients, &needs).await
}

/// Requests in progress at each API when it receives SIGTERM.
const IN_PROGRESS: usize = 24;

async fn terminated(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let mut system = System::start(drill, Layout { proxy_api_redis: true, ..Layout::default() }).await;
    api_wire(&system).set(Weather::Delay { ms: 30, jitter_ms: 100 });
    let clients = system.load(Load::default());
    for round in 0..ROUNDS {
        let api = round % 2;
        clients.acknowledge(20).await;
        let server = system.apis[api].address().await;
        let mut in_progress = Vec::new();
        for at in 0..IN_PROGRESS {
            let project = system.project(["alpha", "beta"][at % 2]);
            in_progress.push(begin(project, server, &mut rng).await);
        }
        system.apis[api].program().terminate();
        for (name, answered) in join_all(in_progress.into_iter().map(finish)).await {
            match answered {
                Ok(Decision::Acknowledged) => system.note(Effect::Drained, 1),
                unanswered => {
                    let text = format!("{name}: in progress at SIGTERM, and then {unanswered:?}");
                    system.violated(Invariant::TotalsAgree, text);
                }
            }
        }
        let code = system.apis[api].program().wait_exit().await.code();
        if code != Some(0) || system.apis[api].log().contains("did not end in time") {
            let text = format!("API {api} did not stop gracefully after SIGTERM: {code:?}");
            system.violated(Invariant::Bounded, text);
        }
        system.apis[api].start().await;
        system.aim().await;
    }
    let needs = [(Effect::Acknowledged, 100), (Effect::Drained, (ROUNDS * IN_PROGRESS) as u64)];
    system.finish(clients, &needs).await
}

type InProgress = (Arc<Project>, Post, Upload);

/// Sends a request, or its beginning and a part of its body.
async fn begin(project: Arc<Project>, server: SocketAddr, rng: &mut StdRng) -> InProgress {
    let post = Post::new(&project, rng.random_range(1..10));
    let mut upload = post.upload(server, &project).await.expect("a running API accepts connections");
    let kept_back = if rng.random_bool(0.5) { 0 } else { rng.random_range(1..post.body_bytes()) };
    upload.send(upload.left() - kept_back).await.expect("a running API reads a request");
    (project, post, upload)
}

/// Sends the rest of the request and reads the answer.
async fn finish((project, mut post, mut upload): InProgress) -> (String, Result<Decision, String>) {
    let answer = match upload.send(upload.left()).await {
        Ok(()) => upload.answer().await,
        Err(error) => Err(error),
    };
    let decision = post.note(&project, &answer);
    let result = match answer {
        Ok(answer) if decision != Decision::Acknowledged => Err(answer.json().to_string()),
        Ok(_) => Ok(decision),
        Err(error) => Err(error.to_string()),
    };
    (project.name.clone(), result)
}

async fn paused(drill: Drill) -> Verdict {
    const POINT: &str = "api::after_admission";
    let mut rng = drill.rng(1);
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    for round in 0..2 {
        let (victim, other) = (round % 2, (round + 1) % 2);
        clients.acknowledge(30).await;
        system.apis[victim].kill().await;
        let failpoint = format!("{POINT}={}*off->1*return(stop)", rng.random_range(1..20));
        system.apis[victim].start_with(&[("FAILPOINTS", &failpoint)]).await;
        system.aim().await;
        system.apis[other].kill().await;
        system.apis[other].start().await;
        system.apis[victim].program().wait_for_line(&format!("failpoint {POINT}")).await;
        system.aim().await;
        // Longer than a client waits for its answer.
        tokio::time::sleep(Duration::from_millis(rng.random_range(6_000..15_000))).await;
        clients.acknowledge(30).await;
        system.apis[victim].program().resume();
    }
    system.finish(clients, &[(Effect::Acknowledged, 100), (Effect::Unknown, 2), (Effect::Retried, 1)]).await
}

/// Single replies that are lost, and consecutive ones.
const LOST_ONE_BY_ONE: u64 = 15;
const LOST_TOGETHER: u64 = 20;

async fn replies_lost(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let mut system = System::start(drill, Layout { proxy_api_redis: true, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    for _ in 0..LOST_ONE_BY_ONE {
        let trap = Trap::nth(rng.random_range(1..6), Moment::Reply(ADMISSION), Act::CutReply);
        let armed = api_wire(&system).arm(trap);
        eventually(SOON, "a reply to be cut", async || armed.sprung()).await;
        clients.acknowledge(3).await;
    }
    let armed = api_wire(&system).arm(Trap::every(1, Moment::Reply(ADMISSION), Act::CutReply));
    eventually(SOON, "every reply to be cut", async || armed.times() >= LOST_TOGETHER).await;
    api_wire(&system).heal();
    system.note(Effect::ReplyCut, LOST_ONE_BY_ONE + armed.times());
    clients.acknowledge(30).await;
    let needs = [
        (Effect::Acknowledged, 100),
        (Effect::ReplyCut, LOST_ONE_BY_ONE + LOST_TOGETHER),
        (Effect::Unknown, 5),
        (Effect::Retried, 5),
        (Effect::Reconnected, 10),
    ];
    system.finish(clients, &needs).await
}

async fn settled_before_retry(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let mut system = System::start(drill, Layout { proxy_api_redis: true, ..Layout::default() }).await;
    let database = system.postgres.connect().await;
    for round in 0..10 {
        let project = system.project(["alpha", "limited", "beta"][round % 3]);
        let api = system.apis[round % 2].address().await;
        // After the cut of the last round, the API checks the stream before it accepts batches.
        system.wait_until_ready(round % 2).await;
        let before = ledger_entries(&database).await;
        // A trap of the last round that caught nothing.
        api_wire(&system).heal();
        let armed = api_wire(&system).arm(Trap::first(Moment::Reply(ADMISSION), Act::Hold));
        // Without an idempotency key, only the API itself can retry the batch.
        let mut post = Post::once(&project, rng.random_range(5..20));
        let posting = tokio::spawn(async move { post.send(&mut HttpClient::new(api), &project).await });
        // The API may time out before on a busy machine, and refuses the batch while it does not trust the
        // stream. Then the round proves nothing.
        eventually(SOON, "the reply to be held", async || armed.sprung() || posting.is_finished()).await;
        eventually(SOON, "the batch to be stored and settled", async || {
            posting.is_finished() || ledger_entries(&database).await > before && system.entries().await == 0
        })
        .await;
        api_wire(&system).cut_held();
        if posting.await.expect("a post does not panic") == Decision::Acknowledged {
            system.note(Effect::ReplyCut, 1);
        }
    }
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    system
        .finish(clients, &[(Effect::Acknowledged, 10), (Effect::ReplyCut, 5), (Effect::Reconnected, 5)])
        .await
}

async fn ledger_entries(database: &Client) -> i64 {
    database.query_one("SELECT count(*) FROM batches", &[]).await.expect("PostgreSQL answers a drill").get(0)
}

fn api_wire(system: &System) -> &ChaosProxy {
    system.wire_api_redis.as_ref().expect("the layout has a proxy there")
}
