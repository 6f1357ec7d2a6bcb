//! What was refused, as its owner sees it: exact counts over processes, restarts and outages of the store, a
//! bounded number of samples, and nothing in them that could harm.

mod stack;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use ingest_api::StatusPage;
use millrace_event::printable::is_unprintable;
use millrace_store::{
    KeyOptions, PolicyChange, RejectionCount, RejectionKind, RejectionReport, RejectionSample, SAMPLES_KEPT,
    SharedStore,
};
use serde_json::{Value, json};
use stack::{PATIENCE, Server, Stack, gzip};
use testkit::eventually;
use testkit::http::{self, HttpClient};
use time::format_description::well_known::Rfc3339;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

/// Counts by kind and code.
type Counts = BTreeMap<(String, String), u64>;

fn expected(counts: &[(&str, &str, u64)]) -> Counts {
    counts.iter().map(|(kind, code, count)| (((*kind).to_owned(), (*code).to_owned()), *count)).collect()
}

/// The counts of an answer.
fn counts_in(report: &Value) -> Counts {
    let mut counts = Counts::new();
    for row in report["counts"].as_array().unwrap() {
        let text = |member: &str| row[member].as_str().unwrap().to_owned();
        *counts.entry((text("kind"), text("code"))).or_default() += row["count"].as_u64().unwrap();
    }
    counts
}

/// Waits until the answer of `GET /v1/rejections` has these counts.
async fn until_counts(stack: &Stack, expected: &Counts) -> Value {
    eventually(PATIENCE, "the counts to be written", async || {
        let report = stack.get("/v1/rejections?limit=100").await.json();
        if counts_in(&report) == *expected { Ok(report) } else { Err(format!("{report}")) }
    })
    .await
}

/// Waits until a server is ready and knows the key, without a refused batch.
async fn knows_key(server: SocketAddr, bearer: &str) {
    eventually(PATIENCE, "the key to be known", async || {
        let limits = http::get(server, "/v1/limits", &[("authorization", bearer)]).await;
        let ready = http::get(server, "/readyz", &[]).await;
        (limits.status == 200 && ready.status == 200).then_some(()).ok_or(format!("{limits:?} {ready:?}"))
    })
    .await;
}

/// Sends refusals over one connection: in each round two events of three are refused, and a whole request.
async fn refuse(server: SocketAddr, bearer: String, rounds: u64) {
    let mut client = HttpClient::new(server);
    let headers = [("authorization", bearer.as_str())];
    for _ in 0..rounds {
        let mixed = r#"[{"name":"good"},{"name":5},{"name":""}]"#;
        assert_eq!(client.post("/v1/events", &headers, mixed).await.unwrap().status, 202);
        assert_eq!(client.post("/v1/events", &headers, "[").await.unwrap().status, 400);
    }
}

async fn total(store: &SharedStore, kind: RejectionKind) -> u64 {
    let (from, to) = (OffsetDateTime::now_utc() - Duration::DAY, OffsetDateTime::now_utc() + Duration::DAY);
    let counts = store.rejections(None, from, to).await.expect("counts");
    counts.iter().filter(|row| row.kind == kind).map(|row| row.count).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_over_processes_restarts_and_outages_of_the_store() {
    let mut stack = Stack::start().await;
    let bearer = stack.bearer();
    let mut second = Server::start(stack.deps(StatusPage::Off)).await;
    knows_key(second.address, &bearer).await;
    let both = [stack.server.address, second.address];
    let on_both = async |rounds| {
        let tasks = both.map(|server| tokio::spawn(refuse(server, bearer.clone(), rounds)));
        futures_util::future::join_all(tasks).await.into_iter().for_each(|done| done.unwrap());
    };
    on_both(50).await;
    eventually(PATIENCE, "a report to be written", async || {
        (total(&stack.store, RejectionKind::Event).await > 0).then_some(()).ok_or("none")
    })
    .await;
    // The store dies while reports are written, and is away while more is refused.
    tokio::join!(on_both(200), stack.postgres.kill());
    on_both(50).await;
    stack.postgres.restart().await;
    on_both(20).await;
    // A graceful stop writes the rest at once.
    second.ask_to_stop();
    second.stopped().await;
    let mut third = Server::start(stack.deps(StatusPage::Off)).await;
    knows_key(third.address, &bearer).await;
    refuse(third.address, bearer.clone(), 10).await;
    third.ask_to_stop();
    third.stopped().await;

    let rounds = 2 * (50 + 200 + 50 + 20) + 10;
    let all = expected(&[
        ("event", "invalid_length", rounds),
        ("event", "invalid_type", rounds),
        ("request", "invalid_json", rounds),
    ]);
    let report = until_counts(&stack, &all).await;
    assert!(!report["samples"].as_array().unwrap().is_empty(), "{report}");
    stack.server.ask_to_stop();
    let Stack { server, store, .. } = stack;
    server.stopped().await;
    let stored = (total(&store, RejectionKind::Event).await, total(&store, RejectionKind::Request).await);
    assert_eq!(stored, (2 * rounds, rounds), "nothing was written twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_answered_while_the_store_does_not() {
    let mut stack = Stack::start().await;
    stack.postgres.pause();
    for _ in 0..100 {
        assert_eq!(stack.post(r#"{"name":5}"#).await.status, 422);
    }
    stack.postgres.resume();
    let all = expected(&[("event", "invalid_type", 100), ("request", "no_valid_event", 100)]);
    until_counts(&stack, &all).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_distinct_refusals_leaves_a_bounded_number_of_samples() {
    let stack = Stack::start().await;
    let long = "é".repeat(5_000);
    let mut client = stack.client();
    let bearer = stack.bearer();
    for batch in 0..60 {
        let events: Vec<_> =
            (0..50).map(|n| json!({"name": "a", format!("field {batch} {n}"): long})).collect();
        let body = serde_json::to_vec(&events).unwrap();
        let headers = [("authorization", bearer.as_str()), ("content-encoding", "gzip")];
        assert_eq!(client.post("/v1/events", &headers, gzip(&body)).await.unwrap().status, 422);
        assert_eq!(client.post("/v1/events", &headers[..1], format!("{{{batch}")).await.unwrap().status, 400);
    }
    let all = expected(&[
        ("event", "unknown_field", 3_000),
        ("request", "invalid_json", 60),
        ("request", "no_valid_event", 60),
    ]);
    let report = until_counts(&stack, &all).await;
    let samples = report["samples"].as_array().unwrap();
    assert!(samples.len() <= 100, "{}", samples.len());
    let payloads = samples.iter().map(|sample| sample["payload"].as_str().unwrap().len());
    assert!(payloads.max().unwrap() <= 4_096);
    let client = stack.postgres.connect().await;
    let kept =
        "SELECT kind, count(*), max(octet_length(payload)) FROM rejection_samples GROUP BY 1 ORDER BY 1";
    for row in client.query(kept, &[]).await.unwrap() {
        let (kind, count, bytes): (&str, i64, i32) = (row.get(0), row.get(1), row.get(2));
        assert!(count <= i64::from(SAMPLES_KEPT) && bytes <= 4_096, "{kind}: {count} of {bytes} bytes");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sample_shows_the_event_and_neither_a_key_nor_a_control_character() {
    let stack = Stack::start().await;
    let chosen = "a-key,chosen=by&an\"operator\"";
    let options = KeyOptions { chosen: Some(chosen.to_owned()), ..KeyOptions::default() };
    stack.store.create_key("test", &options).await.unwrap();
    let bearer = format!("Bearer {chosen}");
    knows_key(stack.server.address, &bearer).await;
    let hostile = "\u{9b}31m\u{202e}\u{7f}\u{1b}]0;";
    let body = json!([{"name": "ok"}, {"name": 5, hostile: "<script>"}, {"name": 6, "key": chosen, "other": stack.key}]);
    let headers = [("authorization", bearer.as_str())];
    let mut body = body.to_string().into_bytes();
    assert_eq!(http::post(stack.server.address, "/v1/events", &headers, body.clone()).await.status, 202);
    body.truncate(body.len() - 1);
    assert_eq!(http::post(stack.server.address, "/v1/events", &headers, body).await.status, 400);
    let all = expected(&[("event", "unknown_field", 2), ("request", "invalid_json", 1)]);
    until_counts(&stack, &all).await;

    let answer = stack.get("/v1/rejections").await;
    let text = String::from_utf8(answer.body.to_vec()).unwrap();
    assert!(!text.contains("a-key") && !text.contains(&stack.key), "{text}");
    assert!(!text.chars().any(is_unprintable), "{text:?}");
    let samples = answer.json()["samples"].as_array().unwrap().clone();
    let of = |kind: &str| samples.iter().filter(|sample| sample["kind"] == kind).collect::<Vec<_>>();
    let payload: Value = serde_json::from_str(of("event")[1]["payload"].as_str().unwrap()).unwrap();
    assert_eq!(payload, json!({"name": 5, hostile: "<script>"}));
    assert!(of("event")[0]["payload"].as_str().unwrap().contains(r#""key":"***"#), "{samples:?}");
    assert!(of("request")[0]["payload"].as_str().unwrap().starts_with(r#"[{"name":"ok"}"#), "{samples:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_batches_of_a_known_project_are_counted_each_for_its_owner() {
    let stack = Stack::start().await;
    let signed = KeyOptions { signed: true, ..KeyOptions::default() };
    let (shop, shop_key) =
        stack.store.create_project("shop", "pro", &PolicyChange::default(), &signed).await.unwrap();
    let server = stack.server.address;
    let signed = format!("Bearer {}", shop_key.key);
    eventually(PATIENCE, "the key to be known", async || {
        let answer = http::get(server, "/v1/limits", &[("authorization", &signed)]).await;
        (answer.json()["detail"] != "the key is not known").then_some(()).ok_or("401")
    })
    .await;
    assert_eq!(
        http::post(server, "/v1/events", &[("authorization", "Bearer unknown-key")], "[").await.status,
        401
    );
    assert_eq!(http::post(server, "/v1/events", &[("authorization", &signed)], "[]").await.status, 401);
    assert_eq!(stack.get("/v1/usage?from=never").await.status, 400, "a report is no batch");
    assert_eq!(stack.post("[]").await.status, 400);
    assert_eq!(stack.post_with(&[("content-type", "text/html")], "[]").await.status, 415);
    assert_eq!(stack.post_with(&[("content-encoding", "gzip")], "no gzip").await.status, 400);
    assert_eq!(stack.post_with(&[("idempotency-key", "")], "[]").await.status, 400);
    let own = expected(&[
        ("request", "empty_batch", 1),
        ("request", "invalid_encoding", 1),
        ("request", "invalid_header", 1),
        ("request", "unsupported_media_type", 1),
    ]);
    let report = until_counts(&stack, &own).await;
    let fields: Vec<_> =
        report["samples"].as_array().unwrap().iter().map(|sample| &sample["field"]).collect();
    assert_eq!(fields[0], "idempotency-key", "{report}");
    let (from, to) = (OffsetDateTime::now_utc() - Duration::DAY, OffsetDateTime::now_utc() + Duration::DAY);
    let others = stack.store.rejections(Some(shop), from, to).await.unwrap();
    let codes: Vec<_> = others.iter().map(|row| (row.code.as_str(), row.count)).collect();
    assert_eq!(codes, [("unauthenticated", 1)], "a wrong signature concerns the owner");
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_of_all_kinds_add_up_over_adjacent_periods() {
    let stack = Stack::start().await;
    let this_hour = OffsetDateTime::now_utc().truncate_to_hour();
    let row = |hours: i64, kind, code: &str, count| RejectionCount {
        hour: this_hour - Duration::hours(hours),
        project: stack.project,
        kind,
        code: code.to_owned(),
        count,
    };
    let counts = vec![
        row(0, RejectionKind::Event, "too_deep", 1),
        row(5, RejectionKind::Dead, "22P02", 2),
        row(23, RejectionKind::Conflict, "payload", 3),
        row(24, RejectionKind::Request, "empty_batch", 4),
    ];
    let sample = RejectionSample {
        project: stack.project,
        at: this_hour,
        kind: RejectionKind::Dead,
        code: "22P02".to_owned(),
        field: None,
        message: "not a number".to_owned(),
        payload: Some(b"\xff".to_vec()),
    };
    let report = RejectionReport { source: Uuid::new_v4(), number: 1, counts, samples: vec![sample] };
    stack.store.add_rejections(&report).await.unwrap();
    let all = [("event", "too_deep", 1), ("dead", "22P02", 2), ("conflict", "payload", 3)];
    let shown = |hours: i64| (this_hour - Duration::hours(hours)).format(&Rfc3339).unwrap();
    let day = stack.get(&format!("/v1/rejections?from={}&to={}", shown(23), shown(-1))).await.json();
    assert_eq!(counts_in(&day), expected(&all));
    assert_eq!((&day["from"], &day["to"]), (&json!(shown(23)), &json!(shown(-1))));
    assert_eq!(day["counts"][0]["hour"], shown(23), "ordered by the hour");
    let sample = json!({"at": shown(0), "kind": "dead", "code": "22P02", "message": "not a number", "payload": "\\xff"});
    assert_eq!(day["samples"], json!([sample]));
    let mut added_up = Vec::new();
    for hour in (-1..=23).rev() {
        let piece = format!("/v1/rejections?from={}&to={}&limit=0", shown(hour), shown(hour - 1));
        let piece = stack.get(&piece).await.json();
        assert_eq!(piece["samples"], json!([]));
        added_up.extend(piece["counts"].as_array().unwrap().clone());
    }
    assert_eq!(json!(added_up), day["counts"]);
    let refused = stack.get("/v1/rejections?from=2026-11-20&to=2026-11-20T10:20:00Z").await.json();
    let message = refused["message"].as_str().unwrap();
    assert!(message.contains("2026-11-20T10:00:00Z or 2026-11-20T11:00:00Z"), "{refused}");
    assert_eq!(stack.get("/v1/rejections?limit=101").await.json()["field"], "limit");
}
