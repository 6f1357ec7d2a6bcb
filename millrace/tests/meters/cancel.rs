//! Events that are cancelled over HTTP and by the command.

use serde_json::{Value, json};
use testkit::http::{Answer, post};

use crate::bill::{PERIOD, rows_without};
use crate::site::Site;

async fn cancel(site: &Site, body: &str) -> Answer {
    let bearer = format!("Bearer {}", site.key);
    post(site.address, "/v1/events/cancel", &[("authorization", &bearer)], body.to_owned()).await
}

async fn send(site: &Site, body: &str) -> Value {
    let bearer = format!("Bearer {}", site.key);
    let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
    let answer = post(site.address, "/v1/events", &headers, body.to_owned()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

/// The same event as three repetitions of it, and another one that has no timestamp.
const EVENTS: &str = r#"[
    {"id": "order-1", "name": "llm_call", "subject": "acme", "timestamp": "2026-10-25T12:00:00.5Z", "properties": {"tokens": 7}},
    {"id": "order-2", "name": "llm_call", "subject": "acme", "timestamp": "2026-10-25T12:00:01Z", "properties": {"tokens": 5}},
    {"id": "order-3", "name": "other"}
]"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_event_is_billed_no_more_on_files() {
    a_cancelled_event_is_billed_no_more(&Site::on_files().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_event_is_billed_no_more_on_servers() {
    a_cancelled_event_is_billed_no_more(&Site::on_servers().await).await;
}

async fn a_cancelled_event_is_billed_no_more(site: &Site) {
    site.create_meters(&[]).await;
    assert_eq!(send(site, EVENTS).await["stored"], 3);
    let asked = r#"{"events": [{"id": "order-1", "timestamp": "2026-10-25T13:00:00.500+01:00"}, {"id": "order-9"},
                               {"id": "order-1", "timestamp": "2026-10-25T12:00:00Z"}, {"id": "order-3"}], "reason": "a test"}"#;
    let answer = cancel(site, asked).await;
    let status = |index: u64, status: &str| json!({"index": index, "status": status});
    let events = |first: &str| {
        json!([status(0, first), status(1, "not_found"), status(2, "not_found"), status(3, first)])
    };
    assert_eq!((answer.status, answer.json()), (200, json!({"cancelled": 2, "events": events("cancelled")})));
    let again = cancel(site, asked).await.json();
    assert_eq!(again, json!({"cancelled": 0, "events": events("already_cancelled")}));
    let tokens = site.get(&format!("/v1/meters/tokens/query?{PERIOD}")).await;
    assert_eq!(rows_without(&tokens, &["start", "end"]), json!([{"events": 1, "value": 5}]));
    let usage = async || {
        let total = site.get("/v1/usage").await["total"].clone();
        ["events", "cancelled", "duplicates"].map(|member| total[member].as_u64().unwrap())
    };
    assert_eq!(usage().await, [1, 2, 0]);
    assert_eq!(send(site, EVENTS).await["duplicate"], 3, "cancelled for good");
    assert_eq!(usage().await, [1, 2, 3]);

    let commands = &site.installation;
    let by_command = ["event", "cancel", "shop", "order-2", "--timestamp", "2026-10-25T12:00:01Z"];
    let done = commands.json(&by_command).await;
    assert_eq!(
        done,
        json!({"project": "shop", "cancelled": 1, "events": [{"id": "order-2", "status": "cancelled"}]})
    );
    let missing = commands.run(&["event", "cancel", "shop", "order-9"]).await;
    assert_eq!(missing.code, Some(1));
    assert!(missing.stderr.contains("1 event not found: check the id"), "{missing:?}");
    assert_eq!(usage().await, [0, 3, 3]);
    let shown = commands.json(&["usage", "shop"]).await;
    assert_eq!((&shown["total"]["events"], &shown["total"]["cancelled"]), (&json!(0), &json!(3)));
    let audit = commands.json(&["audit"]).await;
    assert_eq!(audit["holds"], true, "{audit}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_request_to_cancel_says_what_is_wrong() {
    let site = Site::on_files().await;
    let many = vec![r#"{"id":"x"}"#; 1_001].join(",");
    for (body, status, says) in [
        ("[]".to_owned(), 400, "the body must be JSON such as"),
        (r#"{"events":[]}"#.to_owned(), 400, "name at least one"),
        (r#"{"events":[{"id":"x","timestamp":"today"}]}"#.to_owned(), 400, "events[0].timestamp"),
        (r#"{"events":[{"id":"x"}],"why":"y"}"#.to_owned(), 400, "an error in line 1"),
        (format!(r#"{{"events":[{{"id":"x"}}],"reason":"{}"}}"#, "y".repeat(501)), 400, "500 characters"),
        (format!(r#"{{"events":[{many}]}}"#), 413, "at most 1000 events"),
    ] {
        let answer = cancel(&site, &body).await;
        let message = answer.json()["message"].to_string();
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(message.contains(says), "{message} does not say {says:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_closed_month_is_cancelled_only_when_that_is_asked_for() {
    let site = Site::on_files().await;
    assert_eq!(send(&site, EVENTS).await["stored"], 3);
    let commands = &site.installation;
    let database = rusqlite::Connection::open(commands.data().join("events.db")).unwrap();
    let days_40 = 40_i64 * 86_400_000_000;
    for (table, column) in [("events", "received_at"), ("usage_hourly", "hour")] {
        let age = format!("UPDATE {table} SET {column} = {column} - 3 * {days_40}");
        database.execute(&age, []).unwrap();
    }
    let named = r#"{"events":[{"id":"order-1","timestamp":"2026-10-25T12:00:00.5Z"}]}"#;
    assert_eq!(cancel(&site, named).await.json()["events"][0]["status"], "too_old");
    let command = ["event", "cancel", "shop", "order-1", "--timestamp", "2026-10-25T12:00:00.5Z"];
    let refused = commands.run(&command).await;
    assert_eq!(refused.code, Some(1));
    assert!(refused.stderr.contains("1 event too old") && !refused.stderr.contains("found"), "{refused:?}");
    let done = commands.json(&[&command[..], &["--even-closed", "--reason", "a refund"]].concat()).await;
    assert_eq!(done["cancelled"], 1);
    let record = "SELECT cancelled_by LIKE 'command line: %', reason FROM cancellations";
    let record = database.query_row(record, [], |row| Ok((row.get::<_, bool>(0)?, row.get::<_, String>(1)?)));
    assert_eq!(record.unwrap(), (true, "a refund".to_owned()));
}
