//! The limits of a plan hold exactly, across any number of API processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use millrace_event::plan::{LimitState, Plan, Refusal};
use serde_json::Value;
use testkit::eventually;
use testkit::http::{HttpClient, get};

use crate::stack::{SOON, Stack, body, event};

const PER_MINUTE: u32 = 60;
const BURST: u32 = 80;
const QUOTA: u64 = 200;

fn plan() -> Plan {
    Plan {
        name: "small".to_owned(),
        requests_per_minute: PER_MINUTE,
        burst: BURST,
        events_per_month: Some(QUOTA),
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
async fn client(address: std::net::SocketAddr, number: u64, counts: Arc<AdmissionCounts>) {
    let mut http = HttpClient::new(address);
    for round in 0..12_u64 {
        let count = 1 + (number + round) % 9;
        let events: Vec<Value> = (0..count)
            .map(|index| if index == 0 { "common".to_owned() } else { format!("{number}-{round}-{index}") })
            .map(|id| event(&id))
            .collect();
        let key = format!("{number}-{round}");
        let headers = [("authorization", "Bearer pipeline-small-key"), ("idempotency-key", key.as_str())];
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
async fn sixty_four_clients_of_four_processes_get_exactly_what_the_plan_allows() {
    let stack = Stack::start().await;
    stack.plan("small", PER_MINUTE as i32, BURST as i32, QUOTA as i64).await;
    stack.project("small", "small", "pipeline-small-key").await;
    let mut apis = Vec::new();
    for _ in 0..4 {
        apis.push(stack.api().await);
    }
    let worker = stack.worker().await;
    let counts = Arc::new(AdmissionCounts::default());
    let clients = (0..64).map(|number| {
        let address = apis[usize::try_from(number % 4).unwrap()].1;
        tokio::spawn(client(address, number, Arc::clone(&counts)))
    });
    for finished in join_all(clients).await {
        finished.unwrap();
    }
    stack.settle_and_audit().await;
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let (batches, events) = (count(&counts.accepted_batches), count(&counts.accepted_events));
    assert!(count(&counts.rate_limited) > 0, "the rate limit was reached");
    assert!(count(&counts.quota_exceeded) > 0, "the quota was reached");
    assert!(count(&counts.repeats) > 0, "batches were repeated");

    // The reference model must admit every admitted batch, in the same order, and all events of each
    // admission are charged.
    let ledger = "SELECT (extract(epoch FROM received_at) * 1000000)::bigint, accepted::bigint FROM batches \
                  JOIN projects USING (project_id) WHERE name = 'small' ORDER BY received_at, entry_seq";
    let rows = stack.database.query(ledger, &[]).await.unwrap();
    assert_eq!(rows.len() as u64, batches);
    let mut standing = LimitState::default();
    let mut charged = 0;
    for row in &rows {
        // The ledger has milliseconds, but the rate limit uses microseconds. The model gets the last one of
        // each.
        let now_us = u64::try_from(row.get::<_, i64>(0)).unwrap() + 999;
        let events = u64::try_from(row.get::<_, i64>(1)).unwrap();
        charged += events;
        standing.now_us = now_us;
        match standing.charge(&plan(), 0) {
            Ok(after) => standing = after,
            Err(Refusal::Rate { wait_us }) => panic!("admitted {wait_us} µs too early"),
            Err(Refusal::Quota) => unreachable!("nothing is charged to the quota here"),
        }
    }
    assert_eq!(charged, events);
    let stored = assert_usage_adds_up(&stack, events).await;
    eventually(SOON, "the used quota to equal the stored events", async || {
        let auth = [("authorization", "Bearer pipeline-small-key")];
        let used = get(apis[0].1, "/v1/limits", &auth).await.json();
        if used["events"]["used"] == stored { Ok(()) } else { Err(used.to_string()) }
    })
    .await;
    drop(worker);
}

/// Compares usage and rows with the number of accepted events. Returns the number of stored events.
async fn assert_usage_adds_up(stack: &Stack, accepted: u64) -> i64 {
    let sql = "SELECT coalesce(sum(events), 0)::bigint, coalesce(sum(duplicates), 0)::bigint FROM usage_hourly \
               JOIN projects USING (project_id) WHERE name = 'small'";
    let usage = stack.database.query_one(sql, &[]).await.unwrap();
    let (stored, duplicates): (i64, i64) = (usage.get(0), usage.get(1));
    assert_eq!(u64::try_from(stored + duplicates).unwrap(), accepted);
    assert!(duplicates > 0, "clients have sent the common event");
    assert!(u64::try_from(stored).unwrap() <= QUOTA, "{stored} events exceed the quota");
    let rows = "SELECT count(*) FROM events JOIN projects USING (project_id) WHERE projects.name = 'small'";
    assert_eq!(stack.count(rows).await, stored);
    stored
}
