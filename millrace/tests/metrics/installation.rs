//! The programs on servers, started one by one, and what is posted to them.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::http::{get, post};
use testkit::{Postgres, Program, Redis, eventually};

/// Generous: a deadline that is met only by a defect.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const FREE_PORTS: [(&str, &str); 2] = [("LISTEN_ADDR", "127.0.0.1:0"), ("METRICS_ADDR", "127.0.0.1:0")];
/// An event, and one that is refused.
const BATCH: &str = r#"[{"name":"a","id":"1","timestamp":"2026-11-01T00:00:00Z"},{"name":""}]"#;

pub struct Servers {
    pub redis: Redis,
    pub postgres: Postgres,
}

impl Servers {
    /// Redis, and PostgreSQL with our tables.
    pub async fn start() -> Self {
        let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
        let servers = Self { redis, postgres };
        servers.command(&["migrate"]).await;
        servers
    }

    pub async fn command(&self, arguments: &[&str]) -> String {
        let (redis, postgres) = self.urls();
        let variables = [("REDIS_URL", redis.as_str()), ("DATABASE_URL", postgres.as_str())];
        let finished = Program::run("millrace", arguments, &variables).await;
        assert_eq!(finished.code, Some(0), "{arguments:?}: {finished:?}");
        finished.stdout
    }

    /// Makes a project, and returns its key.
    pub async fn project(&self, name: &str, plan: &str) -> String {
        let made = self.command(&["project", "create", name, "--plan", plan, "--json"]).await;
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        made["key"].as_str().unwrap().to_owned()
    }

    /// A worker has one lane, so that the one that has lost its connection gets the next event.
    pub fn program(&self, name: &str) -> Program {
        let (redis, postgres) = self.urls();
        let variables =
            [("REDIS_URL", redis.as_str()), ("DATABASE_URL", postgres.as_str()), ("WORKER_LANES", "1")];
        let ports = if name == "stream-worker" { &FREE_PORTS[1..] } else { &FREE_PORTS[..] };
        Program::start(name, &[ports, &variables].concat())
    }

    fn urls(&self) -> (String, String) {
        (self.redis.url(), self.postgres.url())
    }
}

/// Posts events until they are answered with this status.
pub async fn post_until(api: SocketAddr, key: &str, body: &str, status: u16) {
    let bearer = format!("Bearer {key}");
    eventually(PATIENCE, "events to be answered", async || {
        let answer = post(api, "/v1/events", &[("authorization", &bearer)], body.to_owned()).await;
        (answer.status == status).then_some(()).ok_or(format!("{answer:?}"))
    })
    .await;
}

/// Posts what is stored, the same again, and what is refused.
pub async fn use_everything(api: SocketAddr, key: &str) {
    let bearer = format!("Bearer {key}");
    let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
    eventually(PATIENCE, "the server to be ready", async || {
        let answer = get(api, "/readyz", &[]).await;
        (answer.status == 200).then_some(()).ok_or(format!("{answer:?}"))
    })
    .await;
    for _ in 0..2 {
        let answer = post(api, "/v1/events", &headers, BATCH).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    assert_eq!(post(api, "/v1/t", &headers, "{").await.status, 400);
    assert_eq!(get(api, "/v1/usage", &headers).await.status, 200);
    assert_eq!(get(api, "/nowhere", &[]).await.status, 404);
}
