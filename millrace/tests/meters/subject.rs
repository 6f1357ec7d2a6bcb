//! Persons that are erased, anonymized and exported by the commands, next to a running installation.

use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use testkit::eventually;
use testkit::http::post;

use crate::installation::{PATIENCE, assert_fails};
use crate::site::Site;

/// The person. No other text has this name in it.
const ALICE: &str = "alice@example.com";

fn event(id: &str, subject: &str, tokens: i64) -> Value {
    json!({
        "id": id, "name": "llm_call", "subject": subject, "timestamp": "2026-10-25T12:00:00Z",
        "properties": {"tokens": tokens}, "context": {"ip": "192.0.2.1"},
    })
}

async fn send(site: &Site, events: &[Value], more: (&str, &str)) -> Value {
    let bearer = format!("Bearer {}", site.key);
    let headers = [("authorization", bearer.as_str()), more];
    let answer = post(site.address, "/v1/events", &headers, json!(events).to_string()).await;
    assert!(answer.status < 300, "{answer:?}");
    answer.json()
}

const WAIT: (&str, &str) = ("prefer", "wait=30");

async fn total(site: &Site) -> Value {
    let tokens = site.get("/v1/meters/tokens/query?from=2026-10-01T00:00:00Z&to=2026-11-01T00:00:00Z").await;
    tokens["rows"][0]["value"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_exported_and_erased_on_files() {
    a_person_is_exported_and_erased(&Site::on_files().await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_is_exported_and_erased_on_servers() {
    a_person_is_exported_and_erased(&Site::on_servers().await).await;
}

async fn a_person_is_exported_and_erased(site: &Site) {
    site.create_meters(&[]).await;
    let commands = &site.installation;
    let sent = [event("a", ALICE, 5), event("b", "bob", 7), event("c", ALICE, 11)];
    let key = ("idempotency-key", "first");
    send(site, &sent[..2], key).await;
    assert_eq!(send(site, &sent[2..], WAIT).await["stored"], 1);
    let refused = json!([{"name": "", "subject": ALICE}]).to_string();
    assert_eq!(site.post("/v1/events", &site.key, refused).await.status, 422);
    site.settled("shop").await;
    let before = total(site).await;
    assert_eq!(before, 23);

    let file = commands.home().join("alice.jsonl");
    let path = file.display().to_string();
    let exported = commands.run(&["subject", "export", "shop", ALICE, "--output", &path]).await;
    assert_eq!((exported.code, exported.stdout.as_str()), (Some(0), ""), "{exported:?}");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let records: Vec<Value> = std::fs::read_to_string(&file)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).expect("a line is JSON"))
        .collect();
    let events: Vec<_> = records.iter().filter(|record| record["record"] == "event").collect();
    let tokens = events.iter().map(|event| event["properties"]["tokens"].as_i64().unwrap());
    assert_eq!((events.len(), tokens.sum::<i64>()), (2, 16), "{records:?}");
    commands.fails(&["subject", "export", "shop", ALICE, "--output", &path], 1, "File exists").await;

    let erase = ["subject", "erase", "shop", ALICE];
    commands.fails(&erase, 2, "cannot be undone; add --yes").await;
    commands.fails(&["subject", "erase", "shap", ALICE, "--yes"], 1, "shop").await;
    let erased = commands.json(&[&erase[..], &["--yes"]].concat()).await;
    assert_eq!((&erased["subject"], &erased["events"]), (&Value::Null, &json!(2)), "{erased}");
    assert!(erased["samples"].as_u64() >= Some(1), "{erased}");
    let stored = site.events().await;
    assert_eq!(stored.iter().map(|event| &event["subject"]).collect::<Vec<_>>(), ["bob"]);
    assert_eq!(total(site).await, before, "the bill stays");
    site.settled("shop").await;
    // A batch that is sent again under its key is known.
    send(site, &sent[..2], key).await;
    site.settled("shop").await;
    assert_eq!(site.events().await.len(), 1);
    let again = commands.run(&[&erase[..], &["--yes"]].concat()).await;
    assert!(again.stdout.contains("had no event, dead letter or sample of this subject"), "{again:?}");
    let listed = commands.json(&["subject", "erasures", "shop"]).await;
    assert!(!listed.to_string().contains(ALICE), "{listed}");
    assert_eq!(listed["erasures"].as_array().unwrap().len(), 2);
    assert_eq!(listed["erasures"][1]["events"], 2);

    assert_eq!(commands.json(&["subject", "index", "create"]).await, json!({"index": true}));
    assert_eq!(send(site, &[event("d", ALICE, 13)], WAIT).await["stored"], 1);
    let anonymized = commands.json(&["subject", "anonymize", "shop", ALICE, "--yes"]).await;
    assert_eq!((&anonymized["kind"], &anonymized["events"]), (&json!("anonymize"), &json!(1)));
    let stored = site.events().await;
    let renamed = stored.iter().find(|event| event["subject"] == anonymized["pseudonym"]).expect("it stays");
    assert_eq!((&renamed["context"], &renamed["client_id"]), (&Value::Null, &Value::Null), "{renamed}");
    assert_eq!(renamed["properties"]["tokens"], 13);
    assert_eq!(commands.json(&["subject", "index", "drop"]).await, json!({"index": false}));
    site.settled("shop").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_erasure_waits_for_events_that_were_accepted_before_it() {
    let mut site = Site::on_servers().await;
    site.create_meters(&[]).await;
    assert_eq!(send(&site, &[event("a", ALICE, 5)], WAIT).await["stored"], 1);
    site.worker().kill().await;
    send(&site, &[event("b", ALICE, 7), event("c", "bob", 1)], ("x-nothing", "")).await;
    let erase = ["subject", "erase", "shop", ALICE, "--yes"];
    let open = site.installation.run(&[&erase[..], &["--no-wait"]].concat()).await;
    assert_fails(&open, 4, "2 events may still be stored: the erasure is open; repeat the command");
    let listed = site.installation.json(&["subject", "erasures"]).await;
    assert_eq!(listed["erasures"][0]["subject"], ALICE, "it is named until it is finished");
    let another = site.installation.run(&["subject", "anonymize", "shop", ALICE, "--yes"]).await;
    assert_fails(&another, 1, "of the kind erase is not finished");
    // The command is killed while it waits, and repeated.
    let mut waiting = site.installation.command(&erase);
    waiting.wait_for_line("waiting until 2 events").await;
    waiting.kill().await;
    let mut waiting = site.installation.command(&erase);
    waiting.wait_for_line("waiting until 2 events").await;
    let worker = site.installation.program("stream-worker", &[]);
    eventually(PATIENCE, "the erasure to end", async || {
        let listed = site.installation.json(&["subject", "erasures"]).await;
        let erasure = &listed["erasures"][0];
        if erasure["finished_at"].is_string() { Ok(()) } else { Err(listed.to_string()) }
    })
    .await;
    let stored = site.events().await;
    assert_eq!(stored.iter().map(|event| &event["subject"]).collect::<Vec<_>>(), ["bob"]);
    let report = site.settled("shop").await;
    assert_eq!(report["stored"], 3, "{report}");
    drop(worker);
}
