//! `GET /readyz` of a worker tells whether entries that arrive now would be stored, and why not.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::http::{self, Answer};
use testkit::{Deployment, eventually};

const PATIENCE: Duration = Duration::from_secs(60);

/// Waits for this status, and returns the answer.
async fn readiness(metrics: SocketAddr, status: u16, reason: &str) -> Answer {
    eventually(PATIENCE, "the worker's readiness to change", async || {
        let answer = http::get(metrics, "/readyz", &[]).await;
        let body = answer.json().to_string();
        if answer.status == status && body.contains(reason) { Ok(answer) } else { Err(body) }
    })
    .await
}

#[tokio::test]
async fn a_worker_is_ready_while_it_can_reach_both_servers() {
    let mut deployment = Deployment::start().await;
    let mut worker = deployment.start_worker(&[]).await;
    let metrics = worker.metrics_address().await;
    let ready = readiness(metrics, 200, "").await;
    let all_well = r#"{"ready":true,"reasons":[],"dependencies":{"stream":"ok","store":"ok"}}"#;
    assert_eq!(ready.json().to_string(), all_well, "the shape of the API's answer");

    deployment.redis.kill().await;
    let unready = readiness(metrics, 503, "the stream cannot be reached").await;
    assert_eq!(unready.header("retry-after"), Some("1"));
    assert_eq!(unready.json()["dependencies"]["store"], "ok");
    shows_no_address(&unready, &deployment);
    deployment.redis.restart().await;
    readiness(metrics, 200, "").await;

    deployment.postgres.stop_immediate().await;
    let unready = readiness(metrics, 503, "the store cannot be used").await;
    assert_eq!(unready.json()["dependencies"]["stream"], "ok");
    shows_no_address(&unready, &deployment);
    deployment.redis.kill().await;
    let unready = readiness(metrics, 503, "the stream cannot be reached").await;
    assert_eq!(unready.json()["reasons"].as_array().map(Vec::len), Some(2), "{}", unready.json());
    assert_eq!(http::get(metrics, "/healthz", &[]).await.status, 200, "restarting the worker would not help");
    deployment.postgres.restart().await;
    deployment.redis.restart().await;
    readiness(metrics, 200, "").await;
}

/// Anyone who reaches the metrics address may read the answer.
fn shows_no_address(answer: &Answer, deployment: &Deployment) {
    let body = answer.json().to_string();
    for secret in ["127.0.0.1", &deployment.redis.port().to_string(), &deployment.postgres.port().to_string()]
    {
        assert!(!body.contains(secret), "{secret} in {body}");
    }
}

#[tokio::test]
async fn a_worker_without_tables_is_not_ready_and_the_api_tells_the_same_at_both_addresses() {
    let (redis, postgres) = tokio::join!(testkit::Redis::start(), testkit::Postgres::start());
    let (redis_url, database_url) = (redis.url(), postgres.url());
    let variables = [
        ("REDIS_URL", redis_url.as_str()),
        ("DATABASE_URL", &database_url),
        ("METRICS_ADDR", "127.0.0.1:0"),
        ("LISTEN_ADDR", "127.0.0.1:0"),
    ];
    let mut worker = testkit::Program::start("stream-worker", &variables);
    let mut api = testkit::Program::start("ingest-api", &variables);
    readiness(worker.metrics_address().await, 503, "the store cannot be used").await;
    let (public, metrics) = (api.address().await, api.metrics_address().await);
    readiness(metrics, 503, "the server has not read the keys yet").await;
    testkit::Program::run("millrace", &["migrate"], &variables).await;
    readiness(worker.metrics_address().await, 200, "").await;
    let ready = readiness(metrics, 200, "").await;
    assert_eq!(ready.json(), readiness(public, 200, "").await.json());
}
