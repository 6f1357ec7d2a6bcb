//! APIs die, stand still, or are told to stop; answers of admissions are lost.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use rand::RngExt;
use rand::rngs::StdRng;
use testkit::chaos::{Act, Call, ChaosProxy, Moment, Trap, Weather};
use testkit::http::HttpClient;
use testkit::oracle::{Decision, Invariant, Load, Post, Project};
use testkit::{Upload, eventually};
use tokio_postgres::Client;

use crate::matrix::{Row, Tier};
use crate::node::SOON;
use crate::{Drill, Layout, Sight, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "api killed before admission",
        target: "API",
        fault: "SIGKILL with a batch packed and not yet sent to the stream; another at any moment; four times",
        expected: "acknowledged stored; no batch twice when clients ask the other API",
        tier: Tier::Quick,
        hold: |drill| Box::pin(killed_at(drill, &["api::before_admission"])),
    },
    Row {
        name: "api killed after admission",
        target: "API",
        fault: "SIGKILL with a batch in the stream and no answer sent; another at any moment; four times",
        expected: "no batch twice when clients ask the other API; nothing charged twice",
        tier: Tier::Quick,
        hold: |drill| Box::pin(killed_at(drill, &["api::after_admission"])),
    },
    Row {
        name: "api killed on the way to admission",
        target: "API",
        fault: "SIGKILL before the body is read, and with a batch packed",
        expected: "no part of a batch is stored",
        tier: Tier::Nightly,
        hold: |drill| Box::pin(killed_at(drill, &["api::after_auth", "api::after_validation"])),
    },
    Row {
        name: "api told to stop under load",
        target: "API",
        fault: "SIGTERM with whole and half requests under way on a slow wire, four times",
        expected: "every one is answered; the process ends by itself",
        tier: Tier::Quick,
        hold: |drill| Box::pin(told_to_stop(drill)),
    },
    Row {
        name: "api stopped after admission",
        target: "API",
        fault: "SIGSTOP for 6 to 15 s with a batch in the stream and no answer sent, then SIGCONT",
        expected: "late answers do no harm; no batch twice",
        tier: Tier::Nightly,
        hold: |drill| Box::pin(stopped(drill)),
    },
    Row {
        name: "answers of admissions lost",
        target: "API to Redis",
        fault: "replies to admissions cut, one now and then, later every one",
        expected: "asked again under the same batch id: one entry each",
        tier: Tier::Quick,
        hold: |drill| Box::pin(answers_lost(drill)),
    },
    Row {
        name: "admission settled before it is asked for again",
        target: "API to Redis",
        fault: "the reply to an admission held until the batch is stored and settled, then cut",
        expected: "asked again, answered as before: one entry, charged once",
        tier: Tier::Quick,
        hold: |drill| Box::pin(settled_meanwhile(drill)),
    },
];

const ROUNDS: usize = 4;
/// What admits a batch, told from other scripts by a key that no other of the APIs has.
const ADMISSION: Call = Call::named("EVALSHA").containing(":batch:");

/// In each round one API dies at the point and the other one, which its clients fled from, at any moment.
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
        // Everybody is at the other one now; when that dies they come.
        system.apis[other].kill().await;
        system.apis[victim].died().await;
        for api in [victim, other] {
            system.apis[api].start().await;
        }
        system.aim().await;
        system.saw(Sight::Killed, 3);
        clients.acknowledge(30).await;
    }
    let needs = [
        (Sight::Acknowledged, 150),
        (Sight::Killed, 3 * ROUNDS as u64),
        (Sight::Unknown, ROUNDS as u64),
        (Sight::Retried, 1),
    ];
    system.finish(clients, &needs).await
}

/// Requests that are under way at each API when it is told to stop.
const UNDER_WAY: usize = 24;

async fn told_to_stop(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let mut system = System::start(drill, Layout { proxy_api_redis: true, ..Layout::default() }).await;
    api_wire(&system).set(Weather::Delay { ms: 30, jitter_ms: 100 });
    let clients = system.load(Load::default());
    for round in 0..ROUNDS {
        let api = round % 2;
        clients.acknowledge(20).await;
        let server = system.apis[api].address().await;
        let mut under_way = Vec::new();
        for at in 0..UNDER_WAY {
            let project = system.project(["alpha", "beta"][at % 2]);
            under_way.push(begin(project, server, &mut rng).await);
        }
        system.apis[api].program().terminate();
        for (name, answered) in join_all(under_way.into_iter().map(finish)).await {
            match answered {
                Ok(Decision::Acknowledged) => system.saw(Sight::Drained, 1),
                unanswered => {
                    let said = format!("{name}: accepted before SIGTERM, and then {unanswered:?}");
                    system.found(Invariant::TotalsAgree, said);
                }
            }
        }
        let code = system.apis[api].program().wait_exit().await.code();
        if code != Some(0) || system.apis[api].log().contains("did not end in time") {
            let said = format!("API {api} was told to stop and did not come to a good end: {code:?}");
            system.found(Invariant::Bounded, said);
        }
        system.apis[api].start().await;
        system.aim().await;
    }
    let needs = [(Sight::Acknowledged, 100), (Sight::Drained, (ROUNDS * UNDER_WAY) as u64)];
    system.finish(clients, &needs).await
}

type UnderWay = (Arc<Project>, Post, Upload);

/// Sends a request, or a part of it that reaches into the body.
async fn begin(project: Arc<Project>, server: SocketAddr, rng: &mut StdRng) -> UnderWay {
    let post = Post::new(&project, rng.random_range(1..10));
    let mut upload = post.upload(server, &project).await.expect("an API that runs accepts connections");
    let kept_back = if rng.random_bool(0.5) { 0 } else { rng.random_range(1..post.body_bytes()) };
    upload.send(upload.left() - kept_back).await.expect("an API that runs takes a request");
    (project, post, upload)
}

/// Sends what is left of it, and hears the answer.
async fn finish((project, mut post, mut upload): UnderWay) -> (String, Result<Decision, String>) {
    let answer = match upload.send(upload.left()).await {
        Ok(()) => upload.answer().await,
        Err(error) => Err(error),
    };
    let decision = post.note(&project, &answer);
    let told = match answer {
        Ok(answer) if decision != Decision::Acknowledged => Err(answer.json().to_string()),
        Ok(_) => Ok(decision),
        Err(error) => Err(error.to_string()),
    };
    (project.name.clone(), told)
}

async fn stopped(drill: Drill) -> Verdict {
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
    system.finish(clients, &[(Sight::Acknowledged, 100), (Sight::Unknown, 2), (Sight::Retried, 1)]).await
}

/// Answers lost one by one, and answers lost while all are.
const LOST_ONE_BY_ONE: u64 = 15;
const LOST_TOGETHER: u64 = 20;

async fn answers_lost(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let mut system = System::start(drill, Layout { proxy_api_redis: true, ..Layout::default() }).await;
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    for _ in 0..LOST_ONE_BY_ONE {
        let trap = Trap::nth(rng.random_range(1..6), Moment::Reply(ADMISSION), Act::CutReply);
        let armed = api_wire(&system).arm(trap);
        eventually(SOON, "an answer to be cut", async || armed.sprung()).await;
        clients.acknowledge(3).await;
    }
    let armed = api_wire(&system).arm(Trap::every(1, Moment::Reply(ADMISSION), Act::CutReply));
    eventually(SOON, "every answer to be cut", async || armed.times() >= LOST_TOGETHER).await;
    api_wire(&system).heal();
    system.saw(Sight::ReplyCut, LOST_ONE_BY_ONE + armed.times());
    clients.acknowledge(30).await;
    let needs = [
        (Sight::Acknowledged, 100),
        (Sight::ReplyCut, LOST_ONE_BY_ONE + LOST_TOGETHER),
        (Sight::Unknown, 5),
        (Sight::Retried, 5),
        (Sight::Reconnected, 10),
    ];
    system.finish(clients, &needs).await
}

async fn settled_meanwhile(drill: Drill) -> Verdict {
    let mut rng = drill.rng(1);
    let mut system = System::start(drill, Layout { proxy_api_redis: true, ..Layout::default() }).await;
    let database = system.postgres.connect().await;
    for round in 0..10 {
        let project = system.project(["alpha", "limited", "beta"][round % 3]);
        let api = system.apis[round % 2].address().await;
        // The cut of the round before has left it in doubt about the stream, until it has looked.
        system.wait_until_ready(round % 2).await;
        let before = ledger_entries(&database).await;
        let armed = api_wire(&system).arm(Trap::first(Moment::Reply(ADMISSION), Act::Hold));
        // Without a key, so that only the API itself can ask for the same batch again.
        let mut post = Post::once(&project, rng.random_range(5..20));
        let posting = tokio::spawn(async move { post.send(&mut HttpClient::new(api), &project).await });
        eventually(SOON, "the answer to be held", async || armed.sprung()).await;
        eventually(SOON, "the batch to be stored and settled", async || {
            ledger_entries(&database).await > before && system.entries().await == 0
        })
        .await;
        api_wire(&system).cut_held();
        // On a machine so busy that the API had lost its patience it is unknown, and nothing was shown.
        if posting.await.expect("a post does not panic") == Decision::Acknowledged {
            system.saw(Sight::ReplyCut, 1);
        }
    }
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    system.finish(clients, &[(Sight::Acknowledged, 10), (Sight::ReplyCut, 5), (Sight::Reconnected, 5)]).await
}

async fn ledger_entries(database: &Client) -> i64 {
    database.query_one("SELECT count(*) FROM batches", &[]).await.expect("PostgreSQL answers a drill").get(0)
}

fn api_wire(system: &System) -> &ChaosProxy {
    system.wire_api_redis.as_ref().expect("the layout has a proxy there")
}
