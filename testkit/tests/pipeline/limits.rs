//! The limits of a plan hold exactly, across any number of API processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use millrace_event::plan::{LimitState, Plan, Refusal};
use serde_json::Value;
use testkit::eventually;
use testkit::http::{HttpClient, get};

use crate::stack::{SOON, Stack, body, event};

/// Clients send 768 different batches: at this rate, all of them would take more than ten minutes.
const SLOW: (u32, u32, u64) = (60, 20, 1_000_000);
/// Clients send more than 3,000 different events at a rate that is never reached.
const SMALL: (u32, u32, u64) = (1_000_000, 1_000_000, 200);

/// A plan with these requests per minute, this burst and these events per month.
fn plan(name: &str, (requests_per_minute, burst, quota): (u32, u32, u64)) -> Plan {
    Plan {
        name: name.to_owned(),
        requests_per_minute,
        burst,
        events_per_month: Some(quota),
        events_per_batch: 1_000,
    }
}

#[derive(Default)]
struct AdmissionCounts {
    accepted_batches: AtomicU64,
    accepted_events: AtomicU64,
    rate_limited: AtomicU64,
    quota_exceeded: AtomicU64,
    repeats: AtomicU64,
}

/// A client that sends each batch three times with the same idempotency key. Every batch contains one event
/// that all clients send.
async fn client(address: std::net::SocketAddr, bearer: &str, number: u64, counts: &AdmissionCounts) {
    let mut http = HttpClient::new(address);
    for round in 0..12_u64 {
        let count = 1 + (number + round) % 9;
        let events: Vec<Value> = (0..count)
            .map(|index| if index == 0 { "common".to_owned() } else { format!("{number}-{round}-{index}") })
            .map(|id| event(&id))
            .collect();
        let key = format!("{number}-{round}");
        let headers = [("authorization", bearer), ("idempotency-key", key.as_str())];
        let mut first_answer = None;
        for _ in 0..3 {
            let answer = http.post("/v1/events", &headers, body(&events)).await.unwrap();
            match (answer.status, &first_answer) {
                (202, None) => {
                    counts.accepted_batches.fetch_add(1, Ordering::Relaxed);
                    counts.accepted_events.fetch_add(count, Ordering::Relaxed);
                    first_answer = Some(answer.json());
                }
                (202, Some(first)) => {
                    assert_eq!(&answer.json(), first, "a repeat gets the first response");
                    counts.repeats.fetch_add(1, Ordering::Relaxed);
                }
                (429, None) => {
                    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
                    let code = answer.json()["code"].as_str().unwrap().to_owned();
                    let counter =
                        if code == "rate_limited" { &counts.rate_limited } else { &counts.quota_exceeded };
                    counter.fetch_add(1, Ordering::Relaxed);
                }
                other => panic!("{other:?}: {answer:?}"),
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_of_four_processes_get_exactly_the_rate_of_the_plan() {
    let counts = flood("slow", SLOW).await;
    assert!(counts.rate_limited.load(Ordering::Relaxed) > 0, "the rate limit was reached");
    assert_eq!(counts.quota_exceeded.load(Ordering::Relaxed), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_clients_of_four_processes_get_exactly_the_quota_of_the_plan() {
    let counts = flood("small", SMALL).await;
    assert!(counts.quota_exceeded.load(Ordering::Relaxed) > 0, "the quota was reached");
    assert_eq!(counts.rate_limited.load(Ordering::Relaxed), 0);
}

/// Sends more than the plan allows, and checks everything that was admitted against the plan.
async fn flood(name: &str, limits: (u32, u32, u64)) -> Arc<AdmissionCounts> {
    let stack = Stack::start().await;
    let (per_minute, burst, quota) = limits;
    stack.plan(name, per_minute as i32, burst as i32, quota as i64).await;
    let key = format!("pipeline-{name}-key");
    let bearer = format!("Bearer {key}");
    stack.project(name, name, &key).await;
    let mut apis = Vec::new();
    for _ in 0..4 {
        apis.push(stack.api().await);
    }
    let worker = stack.worker().await;
    let counts = Arc::new(AdmissionCounts::default());
    let clients = (0..64).map(|number| {
        let address = apis[usize::try_from(number % 4).unwrap()].1;
        let (bearer, counts) = (bearer.clone(), Arc::clone(&counts));
        tokio::spawn(async move { client(address, &bearer, number, &counts).await })
    });
    for finished in join_all(clients).await {
        finished.unwrap();
    }
    stack.settle_and_audit().await;
    assert!(counts.repeats.load(Ordering::Relaxed) > 0, "batches were repeated");
    let events = assert_plan_allows_what_was_admitted(&stack, &plan(name, limits), &counts).await;
    let stored = assert_usage_adds_up(&stack, &plan(name, limits), events).await;
    eventually(SOON, "the used quota to equal the stored events", async || {
        let used = get(apis[0].1, "/v1/limits", &[("authorization", bearer.as_str())]).await.json();
        if used["events"]["used"] == stored { Ok(()) } else { Err(used.to_string()) }
    })
    .await;
    drop(worker);
    counts
}

/// The reference model must admit every admitted batch, in the same order, and all events of each admission
/// are charged. Returns the number of accepted events.
async fn assert_plan_allows_what_was_admitted(stack: &Stack, plan: &Plan, counts: &AdmissionCounts) -> u64 {
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (batches, events) = (count(&counts.accepted_batches), count(&counts.accepted_events));
    let ledger = "SELECT (extract(epoch FROM received_at) * 1000000)::bigint, accepted::bigint FROM ledger \
                  JOIN projects USING (project_id) WHERE name = $1 ORDER BY received_at, entry_seq";
    let rows = stack.database.query(ledger, &[&plan.name]).await.unwrap();
    assert_eq!(rows.len() as u64, batches);
    let mut state = LimitState::default();
    let mut charged = 0;
    for row in &rows {
        // The ledger has milliseconds, but the rate limit uses microseconds. The model gets the last one of
        // each.
        state.now_us = u64::try_from(row.get::<_, i64>(0)).unwrap() + 999;
        charged += u64::try_from(row.get::<_, i64>(1)).unwrap();
        match state.charge(plan, 0) {
            Ok(after) => state = after,
            Err(Refusal::Rate { wait_us }) => panic!("admitted {wait_us} µs too early"),
            Err(Refusal::Quota) => unreachable!("nothing is charged to the quota here"),
        }
    }
    assert_eq!(charged, events);
    events
}

/// Compares usage and rows with the number of accepted events. Returns the number of stored events.
async fn assert_usage_adds_up(stack: &Stack, plan: &Plan, accepted: u64) -> i64 {
    let sql = "SELECT coalesce(sum(events), 0)::bigint, coalesce(sum(duplicates), 0)::bigint FROM usage_hourly \
               JOIN projects USING (project_id) WHERE name = $1";
    let usage = stack.database.query_one(sql, &[&plan.name]).await.unwrap();
    let (stored, duplicates): (i64, i64) = (usage.get(0), usage.get(1));
    assert_eq!(u64::try_from(stored + duplicates).unwrap(), accepted);
    assert!(duplicates > 0, "clients have sent the common event");
    let quota = plan.events_per_month.expect("the plan has a quota");
    assert!(u64::try_from(stored).unwrap() <= quota, "{stored} events exceed the quota");
    let rows = "SELECT count(*) FROM events JOIN projects USING (project_id) WHERE projects.name = $1";
    let rows: i64 = stack.database.query_one(rows, &[&plan.name]).await.unwrap().get(0);
    assert_eq!(rows, stored);
    stored
}
