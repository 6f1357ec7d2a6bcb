//! A running Millrace: Redis, PostgreSQL, API processes and workers, and what the tests ask of them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use testkit::http::{Answer, HttpClient, NoAnswer};
use testkit::{Postgres, Program, Redis, eventually};

/// How long anything may take that should happen by itself.
pub const SOON: Duration = Duration::from_secs(60);

pub const KEY: &str = "pipeline-test-key-1";

pub struct Stack {
    pub redis: Redis,
    pub postgres: Postgres,
    pub database: tokio_postgres::Client,
}

impl Stack {
    /// Servers, tables and one project `shop` on the plan `enterprise`.
    pub async fn start() -> Self {
        let (redis, postgres) = (Redis::start().await, Postgres::start().await);
        let database = postgres.connect().await;
        let stack = Self { redis, postgres, database };
        stack.millrace(&["migrate"]).await;
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

    /// Runs the operator's command, which must succeed.
    pub async fn millrace(&self, arguments: &[&str]) -> String {
        let finished = self.try_millrace(arguments).await;
        assert_eq!(finished.code, Some(0), "millrace {arguments:?}: {finished:?}");
        finished.stdout
    }

    pub async fn try_millrace(&self, arguments: &[&str]) -> testkit::ProgramOutput {
        let (redis, database) = (self.redis.url(), self.postgres.url());
        Program::run("millrace", arguments, &[("REDIS_URL", &redis), ("DATABASE_URL", &database)]).await
    }

    fn start_program(&self, name: &str, more: &[(&str, &str)]) -> Program {
        let (redis, database) = (self.redis.url(), self.postgres.url());
        let mut variables = vec![
            ("REDIS_URL", redis.as_str()),
            ("DATABASE_URL", database.as_str()),
            ("METRICS_ADDR", "127.0.0.1:0"),
        ];
        variables.extend_from_slice(more);
        Program::start(name, &variables)
    }

    /// An API process that is ready.
    pub async fn api(&self) -> (Program, SocketAddr) {
        let mut program = self.start_program("ingest-api", &[("LISTEN_ADDR", "127.0.0.1:0")]);
        let address = program.address().await;
        eventually(SOON, "the API to be ready", async || {
            let answer = testkit::http::get(address, "/readyz", &[]).await;
            if answer.status == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
        })
        .await;
        (program, address)
    }

    pub async fn worker(&self) -> Program {
        self.worker_with(&[]).await
    }

    /// A worker that takes over soon, so that tests need not wait a minute.
    pub async fn worker_with(&self, more: &[(&str, &str)]) -> Program {
        let mut variables = vec![("TAKEOVER_IDLE_MS", "500"), ("UPKEEP_INTERVAL_MS", "500")];
        variables.extend_from_slice(more);
        let mut program = self.start_program("stream-worker", &variables);
        program.wait_for_line("lanes are draining").await;
        program
    }

    pub async fn count(&self, sql: &str) -> i64 {
        self.database.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub async fn events(&self) -> i64 {
        self.count("SELECT count(*) FROM events").await
    }

    /// Waits until nothing waits in the stream, then asks the operator's audit, which must find everything in balance.
    pub async fn settle_and_audit(&self) {
        let mut redis = self.redis.connect().await;
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

/// An event that can be told from all others.
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
