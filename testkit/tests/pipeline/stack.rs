//! A deployment with one project, and the queries of the tests.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use testkit::http::{Answer, HttpClient, NoAnswer};
use testkit::{Deployment, Program, eventually};

/// The deadline for everything that happens without an action of the test.
pub const SOON: Duration = Duration::from_secs(60);

pub const KEY: &str = "pipeline-test-key-1";

pub struct Stack {
    pub servers: Deployment,
    pub database: tokio_postgres::Client,
}

impl Stack {
    /// Starts servers with one project `shop` on the plan `enterprise`.
    pub async fn start() -> Self {
        let servers = Deployment::start().await;
        let database = servers.postgres.connect().await;
        let stack = Self { servers, database };
        stack.project("shop", "enterprise", KEY).await;
        stack
    }

    pub async fn project(&self, name: &str, plan: &str, key: &str) {
        self.millrace(&["project", "create", name, "--plan", plan, "--key", key]).await;
    }

    pub async fn plan(&self, name: &str, per_minute: i32, burst: i32, per_month: i64) {
        let insert = "INSERT INTO plans (name, requests_per_minute, burst, events_per_month, events_per_batch) \
                      VALUES ($1, $2, $3, $4, 1000)";
        self.database.execute(insert, &[&name, &per_minute, &burst, &per_month]).await.unwrap();
    }

    /// Runs `millrace`, which must succeed.
    pub async fn millrace(&self, arguments: &[&str]) -> String {
        self.servers.millrace(arguments).await
    }

    pub async fn try_millrace(&self, arguments: &[&str]) -> testkit::ProgramOutput {
        self.servers.try_millrace(arguments).await
    }

    /// An API process that is ready.
    pub async fn api(&self) -> (Program, SocketAddr) {
        self.servers.start_api(&[]).await
    }

    pub async fn worker(&self) -> Program {
        self.worker_with(&[]).await
    }

    /// A worker with a short takeover time, so that tests need not wait a minute.
    pub async fn worker_with(&self, more: &[(&str, &str)]) -> Program {
        let short = [("TAKEOVER_IDLE_MS", "500"), ("UPKEEP_INTERVAL_MS", "500")];
        self.servers.start_worker(&[&short, more].concat()).await
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.database.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub async fn events(&self) -> i64 {
        self.count("SELECT count(*) FROM events").await
    }

    /// Waits until the stream is empty, then runs `millrace audit` and compares the sums itself.
    pub async fn settle_and_audit(&self) {
        let mut redis = self.servers.redis.connect().await;
        eventually(SOON, "the backlog to drain", async || {
            let left: i64 = redis::cmd("XLEN").arg("{s0}:events").query_async(&mut redis).await.unwrap();
            if left == 0 { Ok(()) } else { Err(format!("{left} entries")) }
        })
        .await;
        self.millrace(&["audit"]).await;
        let sums = "SELECT (SELECT sum(stored + duplicate + dead) FROM batches)::bigint, \
                    (SELECT sum(events + duplicates + dead) FROM usage_hourly)::bigint, \
                    ((SELECT count(*) FROM events) + (SELECT coalesce(sum(event_count), 0) FROM dead_letters \
                    WHERE redriven_at IS NULL) \
                    + (SELECT sum(duplicate) FROM batches))::bigint";
        let row = self.database.query_one(sums, &[]).await.unwrap();
        let (ledger, usage, rows): (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!((ledger, usage), (usage, rows), "ledger, usage and rows");
    }
}

/// An event with this id, also as a property.
pub fn event(id: &str) -> Value {
    json!({"id": id, "name": "tested", "timestamp": "2026-11-21T08:00:00.000001Z", "properties": {"id": id, "price": 19.90}})
}

pub fn body(events: &[Value]) -> Bytes {
    json!({ "events": events }).to_string().into()
}

pub async fn post(client: &mut HttpClient, key: &str, events: &[Value]) -> Result<Answer, NoAnswer> {
    let authorization = format!("Bearer {key}");
    client.post("/v1/events", &[("authorization", &authorization)], body(events)).await
}
