//! `millrace shards`: the number of shards changes while nothing waits, and nothing is lost, counted twice or
//! forgotten.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use testkit::http::{self, Answer};
use testkit::{Deployment, Program, RedisCluster, StreamServers, eventually};

/// Generous: only a defect exceeds it.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many that some of them move at every change of the number of shards.
const PROJECTS: usize = 8;

/// Runs a command and returns its JSON.
async fn json(deployment: &Deployment<impl StreamServers>, arguments: &[&str]) -> Value {
    let text = deployment.millrace(&[arguments, &["--json"]].concat()).await;
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

async fn post(address: SocketAddr, key: &str, batch: &str, events: usize) -> Answer {
    let headers = [("authorization", format!("Bearer {key}")), ("idempotency-key", batch.to_owned())];
    let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
    let event = r#"{"name":"a"}"#;
    http::post(address, "/v1/events", &headers, format!("[{}]", vec![event; events].join(","))).await
}

async fn accepted(address: SocketAddr, key: &str, batch: &str, events: usize) -> String {
    let answer = post(address, key, batch, events).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["batch_id"].as_str().unwrap().to_owned()
}

/// What the project has used of the month's quota.
async fn used(address: SocketAddr, key: &str) -> u64 {
    let answer = http::get(address, "/v1/limits", &[("authorization", &format!("Bearer {key}"))]).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["events"]["used"].as_u64().unwrap()
}

/// Waits until nothing waits and the audit is exact, and returns it.
async fn settled_audit(deployment: &Deployment<impl StreamServers>, shards: &str) -> Value {
    eventually(PATIENCE, "an exact audit", async || {
        let audit = json(deployment, &["audit", "--stream-shards", shards]).await;
        assert_eq!(audit["holds"], true, "{audit}");
        (audit["exact"] == true).then_some(audit.clone()).ok_or(audit)
    })
    .await
}

async fn start(deployment: &Deployment<impl StreamServers>, shards: &str) -> (Program, SocketAddr, Program) {
    let settings = [("STREAM_SHARDS", shards)];
    let (api, address) = deployment.start_api(&settings).await;
    (api, address, deployment.start_worker(&settings).await)
}

/// While events wait, the number stays, and the command says how many.
async fn assert_that_waiting_events_keep_the_number(
    deployment: &Deployment<impl StreamServers>,
    shards: &str,
    other: &str,
) {
    let refused = deployment.try_millrace(&["shards", "set", other]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    let words = format!("{PROJECTS} accepted events are still in the stream");
    assert!(refused.stderr.contains(&words), "{refused:?}");
    assert_eq!(json(deployment, &["shards", "show"]).await["shards"].to_string(), shards);
}

/// Starts with the first of these numbers of shards, and changes it to each of the others in turn.
async fn the_number_changes(deployment: &Deployment<impl StreamServers>, numbers: &[&str]) {
    let mut keys = Vec::new();
    for number in 0..PROJECTS {
        let created = json(deployment, &["project", "create", &format!("p{number}"), "--plan", "pro"]).await;
        keys.push(created["key"].as_str().unwrap().to_owned());
    }
    let (mut api, mut address, mut worker) = start(deployment, numbers[0]).await;
    let mut first_ids = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        first_ids.push(accepted(address, key, "first", number + 1).await);
    }
    settled_audit(deployment, numbers[0]).await;
    assert_eq!(json(deployment, &["shards", "show"]).await["shards"].to_string(), numbers[0]);

    let mut stored_each = 1;
    for change in numbers.windows(2) {
        let (before, after) = (change[0], change[1]);
        worker.kill().await;
        for key in &keys {
            accepted(address, key, &format!("waits-with-{before}-shards"), 1).await;
        }
        stored_each += 1;
        assert_that_waiting_events_keep_the_number(deployment, before, after).await;
        worker = deployment.start_worker(&[("STREAM_SHARDS", before), ("TAKEOVER_IDLE_MS", "500")]).await;
        settled_audit(deployment, before).await;

        assert_eq!(json(deployment, &["shards", "set", after]).await["before"].to_string(), before);
        // The old processes may not serve any more, and say why.
        let refused = post(address, &keys[0], "refused", 1).await;
        assert_eq!(refused.status, 503, "{refused:?}");
        let words = format!("STREAM_SHARDS={before}: this installation has {after} on record");
        eventually(PATIENCE, "the API to say why it refuses", async || {
            let ready = http::get(address, "/readyz", &[]).await;
            let text = String::from_utf8_lossy(&ready.body).into_owned();
            if ready.status == 503 && text.contains(&words) { Ok(()) } else { Err(text) }
        })
        .await;
        let audit = deployment.try_millrace(&["audit", "--stream-shards", before]).await;
        assert_eq!(audit.code, Some(2), "{audit:?}");
        assert!(audit.stderr.contains(&words), "{audit:?}");
        api.kill().await;
        worker.kill().await;
        (api, address, worker) = start(deployment, after).await;
        for (number, key) in keys.iter().enumerate() {
            let stored = (number + stored_each) as u64;
            assert_eq!(used(address, key).await, stored, "the quota of project {number}");
            // The marker of the key is in the old shard. The ledger recognizes the batch.
            assert_eq!(accepted(address, key, "first", number + 1).await, first_ids[number]);
            accepted(address, key, &format!("with-{after}-shards-in-place-of-{before}"), 1).await;
        }
        stored_each += 1;
        let audit = settled_audit(deployment, after).await;
        for (number, key) in keys.iter().enumerate() {
            let stored = (number + stored_each) as u64;
            let balance = &audit["projects"][number];
            assert_eq!(balance["stored"], stored, "{balance}");
            assert_eq!(used(address, key).await, stored, "a duplicate is refunded");
        }
    }
    let last = numbers[numbers.len() - 1];
    let again = deployment.try_millrace(&["shards", "set", last]).await;
    assert_eq!(again.code, Some(0), "{again:?}");
    assert_eq!(http::get(address, "/readyz", &[]).await.status, 200, "the same number changes nothing");
}

#[tokio::test]
async fn the_number_of_shards_changes_and_nothing_is_lost_or_counted_twice() {
    the_number_changes(&Deployment::start().await, &["1", "4", "2"]).await;
}

/// The slots of two shards are on one master, and those of four on all three.
#[tokio::test]
async fn the_number_of_shards_changes_in_a_redis_cluster_too_and_back() {
    let deployment = Deployment::start_on(RedisCluster::start(3, 0, &[])).await;
    the_number_changes(&deployment, &["2", "4", "2"]).await;
}

#[tokio::test]
async fn the_number_of_shards_stays_while_events_wait() {
    let deployment = Deployment::start().await;
    let refused = deployment.try_millrace(&["shards", "set", "4"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("has not served yet"), "{refused:?}");
    let created = json(&deployment, &["project", "create", "p", "--plan", "pro"]).await;
    let key = created["key"].as_str().unwrap();
    let (_api, address) = deployment.start_api(&[]).await;
    accepted(address, key, "a", 3).await;
    let refused = deployment.try_millrace(&["shards", "set", "4"]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("3 accepted events are still in the stream"), "{refused:?}");
    accepted(address, key, "b", 1).await;
    assert_eq!(json(&deployment, &["shards", "show"]).await["shards"], 1);
}

#[tokio::test]
async fn files_have_one_shard() {
    let folder = tempfile::TempDir::new().unwrap();
    let data = folder.path().display().to_string();
    let mut service = Program::start(
        "millrace",
        &[("DATA_DIR", &data), ("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")],
    );
    service.wait_for_line("Metrics").await;
    let refused = Program::run("millrace", &["shards", "set", "2"], &[("DATA_DIR", &data)]).await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(refused.stderr.contains("an installation on files has one shard"), "{refused:?}");
}
