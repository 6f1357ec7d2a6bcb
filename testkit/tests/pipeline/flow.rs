//! Batches without faults, and their status.

use serde_json::json;
use testkit::eventually;
use testkit::http::{HttpClient, get};

use crate::stack::{KEY, SOON, Stack, body, event, post};

#[tokio::test(flavor = "multi_thread")]
async fn a_posted_event_is_stored_and_metered_and_its_batch_can_be_queried() {
    let stack = Stack::start().await;
    let (_api, address) = stack.api().await;
    let _worker = stack.worker().await;
    let mut client = HttpClient::new(address);
    let authorization = format!("Bearer {KEY}");
    let auth = ("authorization", authorization.as_str());

    let batch = body(&[
        event("a"),
        json!({"name": "undated", "id": "u"}),
        json!({"name": 5}),
        json!({"name": "bare"}),
    ]);
    let answer = client.post("/v1/events", &[auth, ("prefer", "wait=30")], batch).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    let accepted = answer.json();
    assert_eq!(
        (&accepted["accepted"], &accepted["stored"], &accepted["dead"]),
        (&json!(3), &json!(3), &json!(0)),
        "{accepted}"
    );
    assert_eq!(accepted["rejected"][0]["index"], 2);

    let row = stack
        .database
        .query_one(
            "SELECT client_id, subject, properties, timestamp = '2026-11-21T08:00:00.000001Z' \
             FROM events WHERE name = 'tested'",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.get::<_, &str>(0), "a");
    assert_eq!(row.get::<_, Option<&str>>(1), None);
    assert_eq!(row.get::<_, serde_json::Value>(2), json!({"id": "a", "price": 19.90}));
    assert!(row.get::<_, bool>(3), "the timestamp in the request");

    let batch_id = accepted["batch_id"].as_str().unwrap();
    let status = get(address, &format!("/v1/batches/{batch_id}"), &[auth]).await;
    assert_eq!((status.status, &status.json()["status"]), (200, &json!("stored")), "{status:?}");
    assert_eq!(status.json()["stored"], 3);
    let usage = get(address, "/v1/usage?window=month", &[auth]).await;
    assert_eq!(usage.status, 200, "{usage:?}");
    assert_eq!(usage.json()["usage"][0]["events"], 3, "{usage:?}");
    stack.settle_and_audit().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_event_is_stored_once_even_in_different_batches() {
    let stack = Stack::start().await;
    let (_api, address) = stack.api().await;
    let worker = stack.worker().await;
    let mut client = HttpClient::new(address);
    let undated = json!({"id": "undated", "name": "tested"});
    for _ in 0..5 {
        let events = [event("same"), undated.clone(), event("same")];
        assert_eq!(post(&mut client, KEY, &events).await.unwrap().status, 202);
    }
    stack.settle_and_audit().await;
    assert_eq!(stack.events().await, 2);
    assert_eq!(stack.count("SELECT sum(duplicates)::bigint FROM usage_hourly").await, 13);
    let used: i64 = redis::cmd("HGET")
        .arg("{s0}:project:1")
        .arg("used")
        .query_async(&mut stack.servers.redis.connect().await)
        .await
        .unwrap();
    assert_eq!(used, 2, "duplicates are refunded");
    drop(worker);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_worker_finishes_its_work_and_leaves_nothing_pending() {
    let stack = Stack::start().await;
    let (mut api, address) = stack.api().await;
    let mut client = HttpClient::new(address);
    let mut sent = 0;
    for round in 0..10 {
        let mut worker = stack.worker().await;
        for _ in 0..10 {
            let events: Vec<_> = (0..20).map(|index| event(&format!("{round}-{sent}-{index}"))).collect();
            assert_eq!(post(&mut client, KEY, &events).await.unwrap().status, 202);
            sent += events.len();
        }
        worker.terminate();
        assert!(worker.wait_exit().await.success());
    }
    let _worker = stack.worker().await;
    eventually(SOON, "all events", async || stack.events().await == i64::try_from(sent).unwrap()).await;
    stack.settle_and_audit().await;
    api.terminate();
    assert!(api.wait_exit().await.success());
}
