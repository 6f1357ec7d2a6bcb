//! Limits of customers hold exactly: across API processes, kills of the worker, and a Redis that lost its
//! data.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::future::join_all;
use serde_json::{Value, json};
use testkit::eventually;
use testkit::http::{HttpClient, get};

use crate::stack::{KEY, SOON, Stack, body};

/// Each event takes 2.5, so 80 events fit.
const LIMIT: &str = "200.4";
const FIT: i64 = 80;

fn event(id: &str, subject: &str) -> Value {
    json!({"id": id, "name": "call", "subject": subject, "timestamp": "2026-11-21T08:00:00Z", "properties": {"n": 2.5}})
}

async fn limited(stack: &Stack) {
    let create =
        ["meter", "create", "shop", "used", "--event", "call", "--aggregation", "sum", "--value", "$.n"];
    stack.millrace(&create).await;
    stack.millrace(&["limit", "set", "shop", "--meter", "used", "--per", "month", LIMIT]).await;
}

async fn limit_of(address: SocketAddr, subject: &str) -> Value {
    let bearer = format!("Bearer {KEY}");
    let path = format!("/v1/meters/used/limits?subject={subject}");
    get(address, &path, &[("authorization", &bearer)]).await.json()["limits"][0].clone()
}

async fn known(address: SocketAddr) {
    eventually(SOON, "the limit to be known", async || {
        let limit = limit_of(address, "acme").await;
        if limit["limit"] == json!(200.4) { Ok(()) } else { Err(limit.to_string()) }
    })
    .await;
}

/// Sends batches of three events, of which one is a duplicate, until the limit refuses one. Counts the
/// refusals.
async fn send_until_refused(address: SocketAddr, prefix: String, subject: &str, refused: &AtomicU64) {
    let mut http = HttpClient::new(address);
    let bearer = format!("Bearer {KEY}");
    for batch in 0..60 {
        let events = [
            event("common", subject),
            event(&format!("{prefix}-{batch}-1"), subject),
            event(&format!("{prefix}-{batch}-2"), subject),
        ];
        let answer = http.post("/v1/events", &[("authorization", &bearer)], body(&events)).await;
        match answer {
            Ok(answer) if answer.status == 202 => {}
            Ok(answer) if answer.status == 429 => {
                assert_eq!(answer.json()["code"], "limit_exceeded", "{answer:?}");
                refused.fetch_add(1, Ordering::Relaxed);
            }
            other => panic!("{other:?}"),
        }
    }
}

async fn stored(stack: &Stack, subject: &str) -> i64 {
    stack.count(&format!("SELECT count(*) FROM events WHERE subject = '{subject}'")).await
}

/// Sends single new events until the limit refuses one: what duplicates gave back can be used.
async fn fill(address: SocketAddr, subject: &str) {
    let mut http = HttpClient::new(address);
    let bearer = format!("Bearer {KEY}");
    for number in 0..=FIT {
        let event = event(&format!("fill-{number}"), subject);
        let answer = http.post("/v1/events", &[("authorization", &bearer)], body(&[event])).await.unwrap();
        match answer.status {
            202 => {}
            429 => return,
            _ => panic!("{answer:?}"),
        }
    }
    panic!("more than the limit was admitted");
}

async fn exact_at_the_end(stack: &Stack, address: SocketAddr, subject: &str) {
    stack.settle_and_audit().await;
    eventually(SOON, "the refunds", async || {
        let used = limit_of(address, subject).await["used"].clone();
        let stored = stored(stack, subject).await as f64 * 2.5;
        if used == json!(stored) || used == json!(stored as u64) {
            Ok(())
        } else {
            Err(format!("{used}, {stored}"))
        }
    })
    .await;
    fill(address, subject).await;
    stack.settle_and_audit().await;
    assert_eq!(stored(stack, subject).await, FIT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_exact_from_four_processes_while_workers_are_killed() {
    let stack = Stack::start().await;
    limited(&stack).await;
    let mut apis = Vec::new();
    for _ in 0..4 {
        apis.push(stack.api().await);
    }
    for (_, address) in &apis {
        known(*address).await;
    }
    let refused = AtomicU64::new(0);
    let clients = (0..8_usize)
        .map(|client| send_until_refused(apis[client % 4].1, format!("c{client}"), "acme", &refused));
    let kills = async {
        for _ in 0..3 {
            let mut worker = stack.worker().await;
            let before = stack.count("SELECT count(*) FROM batches").await;
            eventually(SOON, "the worker to write", async || {
                let now = stack.count("SELECT count(*) FROM batches").await;
                let is_empty = stored(&stack, "acme").await >= FIT / 2;
                if now > before || is_empty { Ok(()) } else { Err(now) }
            })
            .await;
            worker.kill().await;
        }
    };
    tokio::join!(join_all(clients), kills);
    assert!(refused.into_inner() > 0, "the limit was reached");
    assert!(stored(&stack, "acme").await <= FIT);
    let _worker = stack.worker().await;
    exact_at_the_end(&stack, apis[0].1, "acme").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_exact_after_redis_lost_its_data() {
    let mut stack = Stack::start().await;
    limited(&stack).await;
    let (_api, address) = stack.api().await;
    known(address).await;
    let worker = stack.worker().await;
    let refused = AtomicU64::new(0);
    let mut http = HttpClient::new(address);
    let bearer = format!("Bearer {KEY}");
    let first: Vec<_> = (0..50).map(|number| event(&format!("before-{number}"), "acme")).collect();
    for batch in [&first[..], &first[..3]] {
        let answer = http.post("/v1/events", &[("authorization", &bearer)], body(batch)).await.unwrap();
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    stack.settle_and_audit().await;
    assert_eq!(limit_of(address, "acme").await["used"], json!(125));
    stack.servers.redis.wipe_and_restart().await;
    eventually(SOON, "the counters to be rebuilt", async || {
        let limit = limit_of(address, "acme").await;
        if limit["used"] == json!(125) { Ok(()) } else { Err(limit.to_string()) }
    })
    .await;
    eventually(SOON, "the API to be ready", async || {
        let answer = get(address, "/readyz", &[]).await;
        if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    send_until_refused(address, "after".to_owned(), "acme", &refused).await;
    assert!(refused.into_inner() > 0, "the limit was reached");
    exact_at_the_end(&stack, address, "acme").await;
    drop(worker);
}
