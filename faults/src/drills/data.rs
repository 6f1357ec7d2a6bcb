//! Data that must never reach the tables: refused by the API, or written directly into the stream.
//!
//! There is only one version of entries. An entry of another version is one of the damaged entries.

use std::sync::Arc;

use millrace_event::entry::{NewBatch, PackedEntry};
use millrace_event::plan::ProjectId;
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::http::HttpClient;
use testkit::oracle::{EventSource, History, Invariant, Load, PlanLimits, Project};
use uuid::Uuid;

use super::poison;
use crate::node::SOON;
use crate::row::{Row, Tier};
use crate::{Drill, Effect, Layout, System, Verdict};

pub(super) const ROWS: &[Row] = &[
    Row {
        name: "hostile events posted",
        target: "API",
        fault: "lone surrogates, huge numbers, 10,000 levels of nesting, bad UTF-8 and impossible dates, among valid events",
        expected: "4xx for the batch or for the event; every event answered 202 is stored",
        tier: Tier::Quick,
        run: |drill| Box::pin(hostile_events_posted(drill)),
    },
    Row {
        name: "poison in the stream",
        target: "worker",
        fault: "entries with rows that PostgreSQL refuses, written directly into the stream; SIGKILL at the first dead letter",
        expected: "each refused row is dead-lettered once, the rows around it are stored",
        tier: Tier::Quick,
        run: |drill| Box::pin(poison_in_the_stream(drill)),
    },
    Row {
        name: "damaged entries in the stream",
        target: "worker",
        fault: "entries of another version, truncated, with flipped bits, wrong sizes, missing fields or no project",
        expected: "each is dead-lettered as a whole, once; no worker ends; the entries around them are stored",
        tier: Tier::Quick,
        run: |drill| Box::pin(damaged_entries(drill)),
    },
    Row {
        name: "panics in the only worker",
        target: "worker",
        fault: "ten panics after reading and four after COMMIT, in a worker that is not restarted",
        expected: "the lane continues under its name with its pending entries; nothing is dead-lettered",
        tier: Tier::Quick,
        run: |drill| Box::pin(panics(drill)),
    },
];

/// Entries with bad data in each drill.
const ENTRIES: usize = 60;

async fn hostile_events_posted(drill: Drill) -> Verdict {
    let mut rng = drill.rng(28);
    let mut system = System::start(drill, Layout::default()).await;
    let clients = system.load(Load::default());
    let api = system.addresses().await[0];
    let mut refused = 0;
    for round in 0..ENTRIES {
        let project = &system.projects[round % 2].0;
        let bodies = poison::hostile_events();
        let (what, poison) = &bodies[round % bodies.len()];
        let numbers = project.history.take_numbers(rng.random_range(0..4));
        match post_among(&mut HttpClient::new(api), project, &numbers, poison).await {
            Ok(was_refused) => refused += u64::from(was_refused),
            Err(text) => system.violated(Invariant::RefusedStaysOut, format!("{what}: {text}")),
        }
    }
    clients.acknowledge(20).await;
    system.note(Effect::BodyRefused, refused);
    let needs = [(Effect::Acknowledged, 50), (Effect::BodyRefused, ENTRIES as u64)];
    system.finish(clients, &needs).await
}

/// Posts a hostile event between valid ones. Returns whether it was refused, alone or with the batch; any
/// other answer is an error.
async fn post_among(
    client: &mut HttpClient,
    project: &Project,
    good: &[u64],
    hostile: &[u8],
) -> Result<bool, String> {
    let mut events: Vec<Vec<u8>> =
        good.iter().map(|&number| project.history.source.event(number).json().to_string().into()).collect();
    events.insert(good.len() / 2, hostile.to_vec());
    let body = [b"{\"events\":[", &events.join(&b","[..])[..], b"]}"].concat();
    let (authorization, key) = (format!("Bearer {}", project.key), Uuid::new_v4().to_string());
    let headers = [("authorization", authorization.as_str()), ("idempotency-key", &key)];
    let answer = match client.post("/v1/events", &headers, body).await {
        Ok(answer) => answer,
        Err(error) => {
            project.history.unknown(good, None);
            return Err(error.to_string());
        }
    };
    let response: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let batch = response["batch_id"].as_str().and_then(|id| id.parse().ok());
    match (answer.status, batch, response["accepted"].as_u64()) {
        (202, Some(batch), Some(accepted)) => {
            project.history.acknowledged(good, batch, accepted, false);
            Ok(accepted == good.len() as u64)
        }
        (400..500, _, _) => {
            project.history.refused(good, response["code"].as_str().unwrap_or("none"));
            Ok(true)
        }
        _ => {
            project.history.unknown(good, response["code"].as_str());
            Err(format!("{} {response}", answer.status))
        }
    }
}

async fn poison_in_the_stream(drill: Drill) -> Verdict {
    let mut rng = drill.rng(29);
    // Isolating so many bad rows is slow on a busy machine and must not be ended as a stuck transaction.
    let layout = Layout { worker: &[("TRANSACTION_AGE_MAX_MS", "60000")], ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    clients.acknowledge(20).await;
    let victim = &mut system.workers[0];
    victim.kill().await;
    victim.start_with(&[("FAILPOINTS", "store::dead_letter_written=1*return(kill)")]).await;
    let mut dead = 0;
    for round in 0..ENTRIES / 2 {
        dead += force_poison(&system, round, &mut rng).await;
    }
    system.workers[0].died().await;
    system.note(Effect::KilledInTransaction, 1);
    clients.acknowledge(20).await;
    let needs = [
        (Effect::Acknowledged, 40),
        (Effect::DeadLettered, dead),
        (Effect::KilledInTransaction, 1),
        (Effect::TakenOver, 1),
    ];
    system.finish(clients, &needs).await
}

/// Appends one entry with refused rows among valid ones to the stream. Returns the number of refused rows.
pub(crate) async fn force_poison(system: &System, round: usize, rng: &mut StdRng) -> u64 {
    let project = &system.projects[round % 2].0;
    let poisons = poison::rows(ProjectId(project.id));
    let good = project.history.take_numbers(rng.random_range(0..6));
    let mut rows: Vec<Vec<u8>> = good
        .iter()
        .map(|&number| poison::good_row(ProjectId(project.id), &project.history.source.event(number)))
        .collect();
    let bad = rng.random_range(1..4);
    for at in 0..bad {
        rows.insert(rng.random_range(0..=rows.len()), poisons[(round + at) % poisons.len()].clone());
    }
    let count = u32::try_from(rows.len()).expect("a handful");
    let batch = NewBatch::new(Uuid::now_v7(), ProjectId(project.id), count, rows.concat());
    project.history.forced(&good, bad as u64);
    system.force(system.shard_of(project), &PackedEntry::pack([&batch]).fields()).await;
    bad as u64
}

async fn damaged_entries(drill: Drill) -> Verdict {
    let mut rng = drill.rng(30);
    let mut system = System::start(drill, Layout::default()).await;
    // Entries without a project are counted for project 0, on the shard where they were: the first.
    let no_project = no_project(&system);
    let clients = system.load(Load::default());
    let mut dead = 0;
    for round in 0..ENTRIES {
        let project = &system.projects[round % 2].0;
        let damaged = poison::damaged_entries(ProjectId(project.id));
        let entry = &damaged[round / 2 % damaged.len()];
        let owner = if entry.is_owned { project } else { &no_project };
        owner.history.forced(&[], entry.dead);
        dead += entry.dead;
        let shard = if entry.is_owned { system.shard_of(project) } else { 0 };
        system.force(shard, &entry.fields).await;
        if rng.random_bool(0.3) {
            clients.acknowledge(3).await;
        }
    }
    wait_for_letters(&system, dead).await;
    for at in 0..system.workers.len() {
        let worker = &mut system.workers[at];
        if !worker.is_running() || worker.log().contains("panicked") {
            system.violated(Invariant::PoisonSetAside, format!("worker {at} ended or panicked"));
        }
    }
    system.projects.push((
        no_project,
        PlanLimits { events_per_month: None, requests_per_minute: 600_000, burst: 600_000 },
    ));
    clients.acknowledge(20).await;
    let needs = [(Effect::Acknowledged, 40), (Effect::DeadLettered, dead)];
    system.finish(clients, &needs).await
}

async fn panics(drill: Drill) -> Verdict {
    // Fewer panics after COMMIT than it takes to dead-letter an entry.
    let points = "lane::after_read=10*panic;store::after_commit=4*panic";
    let layout = Layout { workers: 1, worker: &[("FAILPOINTS", points)], ..Layout::default() };
    let mut system = System::start(drill, layout).await;
    let clients = system.load(Load::default());
    let worker = &mut system.workers[0];
    eventually(SOON, "fourteen panics", async || {
        let panics = worker.log().matches("panicked at").count();
        if panics >= 14 { Ok(()) } else { Err(panics.to_string()) }
    })
    .await;
    system.note(Effect::Panicked, 14);
    clients.acknowledge(50).await;
    if system.workers[0].starts() > 1 || !system.workers[0].is_running() {
        system.violated(Invariant::Quiet, "the worker ended".to_owned());
    }
    let needs = [(Effect::Acknowledged, 50), (Effect::Panicked, 14), (Effect::Redelivered, 1)];
    system.finish(clients, &needs).await
}

fn no_project(system: &System) -> Arc<Project> {
    let history = History::new(EventSource::new(system.drill.seed, 0));
    Arc::new(Project { id: 0, name: "none".to_owned(), key: String::new(), is_by_id: false, history })
}

/// Waits until this many events are dead letters.
async fn wait_for_letters(system: &System, dead: u64) {
    let database = system.postgres.connect().await;
    let sum = "SELECT coalesce(sum(event_count), 0)::bigint FROM dead_letters";
    eventually(SOON, "the damaged entries to be dead letters", async || {
        let now: i64 = database.query_one(sum, &[]).await.map_err(|error| error.to_string())?.get(0);
        if u64::try_from(now).is_ok_and(|now| now >= dead) {
            Ok(())
        } else {
            Err(json!([now, dead]).to_string())
        }
    })
    .await;
}
