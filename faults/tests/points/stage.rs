//! Servers with one project, and programs built for drills.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use faults::MUTANT_PROGRAM;
use redis::{Cmd, FromRedisValue, Value};
use serde_json::json;
use testkit::http::HttpClient;
use testkit::{Launch, Postgres, Program, ProgramOutput, Redis, drill_build, eventually};
use tokio_postgres::Client;

pub const SOON: Duration = Duration::from_secs(60);
/// Settings of a worker whose take-over and upkeep come soon.
pub const QUICK: [(&str, &str); 2] = [("TAKEOVER_IDLE_MS", "300"), ("UPKEEP_INTERVAL_MS", "300")];
const KEY: &str = "points-test-key-1";

pub struct Stage {
    pub redis: Redis,
    pub postgres: Postgres,
    pub database: Client,
    profile: &'static str,
    /// Whether the program `mutant` takes the place of API and worker.
    is_of_mutants: bool,
    posted: Cell<u32>,
    /// The timestamp of all events, six days ago: in a day that upkeep makes, and not the oldest of them,
    /// which retention detaches first.
    time: String,
}

impl Stage {
    /// API and worker are those of the product.
    pub async fn of_products() -> Self {
        Self::new(drill_build(), false).await
    }

    /// API and worker are mutants, which are correct without `MILLRACE_MUTANT`.
    pub async fn of_mutants() -> Self {
        Self::new(faults::mutants::build(), true).await
    }

    async fn new(profile: &'static str, is_of_mutants: bool) -> Self {
        let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
        let database = postgres.connect().await;
        let six_days_ago = "SELECT to_char((now() - interval '6 days') AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')";
        let time = database.query_one(six_days_ago, &[]).await.unwrap().get(0);
        let posted = Cell::default();
        let stage = Self { redis, postgres, database, profile, is_of_mutants, posted, time };
        stage.millrace(&["migrate"]).await;
        stage.millrace(&["project", "create", "shop", "--plan", "enterprise", "--key", KEY]).await;
        stage
    }

    pub async fn millrace(&self, arguments: &[&str]) {
        let finished = self.try_millrace(arguments).await;
        assert_eq!(finished.code, Some(0), "millrace {arguments:?}: {finished:?}");
    }

    pub async fn try_millrace(&self, arguments: &[&str]) -> ProgramOutput {
        let (redis, database) = (self.redis.url(), self.postgres.url());
        let backends = [("REDIS_URL", &*redis), ("DATABASE_URL", &*database)];
        let launch =
            Launch { profile: Some(self.profile), arguments, variables: &backends, ..Launch::default() };
        Program::run_to_end("millrace", &launch).await
    }

    pub fn start(&self, name: &str, more: &[(&str, &str)]) -> Program {
        let (redis, database) = (self.redis.url(), self.postgres.url());
        let usual = [
            ("REDIS_URL", &*redis),
            ("DATABASE_URL", &*database),
            ("METRICS_ADDR", "127.0.0.1:0"),
            ("WORKER_LANES", "1"),
        ];
        let variables = [&usual, more].concat();
        let mut launch = Launch { profile: Some(self.profile), variables: &variables, ..Launch::default() };
        if !self.is_of_mutants {
            return Program::launch(name, &launch);
        }
        let arguments = [name];
        launch.arguments = &arguments;
        Program::launch(MUTANT_PROGRAM, &launch)
    }

    /// An API process that listens, ready or not.
    pub async fn start_api(&self, more: &[(&str, &str)]) -> (Program, SocketAddr) {
        let mut program = self.start("ingest-api", &[&[("LISTEN_ADDR", "127.0.0.1:0")], more].concat());
        let address = program.address().await;
        (program, address)
    }

    /// An API process that is ready.
    pub async fn api(&self, more: &[(&str, &str)]) -> (Program, SocketAddr) {
        let (program, address) = self.start_api(more).await;
        eventually(SOON, "the API to be ready", async || {
            testkit::http::get(address, "/readyz", &[]).await.status == 200
        })
        .await;
        (program, address)
    }

    pub async fn worker(&self, more: &[(&str, &str)]) -> Program {
        let mut program = self.start("stream-worker", &[&QUICK, more].concat());
        program.wait_for_line("lanes are draining").await;
        program
    }

    /// Posts a new event and returns the status of the answer, or `None` without an answer.
    pub async fn post(&self, api: SocketAddr) -> Option<u16> {
        self.posted.set(self.posted.get() + 1);
        let id = format!("event-{}", self.posted.get());
        self.post_again(api, &id, &[]).await
    }

    /// The partition of all events.
    pub fn partition(&self) -> String {
        format!("events_{}", self.time[..10].replace('-', ""))
    }

    /// Posts an event with this id.
    pub async fn post_again(&self, api: SocketAddr, id: &str, more: &[(&str, &str)]) -> Option<u16> {
        let event = json!({"id": id, "name": "tested", "timestamp": self.time});
        self.post_body(api, "/v1/events", json!({"events": [event]}).to_string(), more).await
    }

    /// Posts a call of an SDK and one that no event can be made of.
    pub async fn post_calls(&self, api: SocketAddr) -> Option<u16> {
        let good = r#"{"type":"track","event":"tested","messageId":"good"}"#;
        let body = format!(r#"{{"batch":[{good},{{"type":"tarck","event":"tested"}}]}}"#);
        self.post_body(api, "/v1/batch", body, &[]).await
    }

    pub async fn post_body(
        &self,
        api: SocketAddr,
        path: &str,
        body: String,
        more: &[(&str, &str)],
    ) -> Option<u16> {
        let authorization = format!("Bearer {KEY}");
        let mut client = HttpClient::new(api);
        let headers = [&[("authorization", &*authorization)], more].concat();
        let posted = client.post(path, &headers, body).await;
        posted.ok().map(|answer| answer.status)
    }

    /// Appends an entry to the stream that becomes a dead letter.
    pub async fn force_damaged_entry(&self) {
        self.command(&["XADD", "{s0}:events", "*", "v", "from the future"]).await;
    }

    /// Number of entries in the stream.
    pub async fn entries(&self) -> u64 {
        self.query(redis::cmd("XLEN").arg("{s0}:events")).await
    }

    /// Number of entries that are pending for a consumer.
    pub async fn pending(&self) -> u64 {
        let pending: (u64, Value, Value, Value) =
            self.query(redis::cmd("XPENDING").arg("{s0}:events").arg("workers")).await;
        pending.0
    }

    /// Number of consumer groups of the stream.
    pub async fn groups(&self) -> usize {
        let groups: Vec<Value> = self.query(redis::cmd("XINFO").arg("GROUPS").arg("{s0}:events")).await;
        groups.len()
    }

    /// Sends Redis a command.
    pub async fn command(&self, words: &[&str]) {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).exec_async(&mut self.redis.connect().await).await.unwrap();
    }

    pub async fn query<T: FromRedisValue>(&self, command: &Cmd) -> T {
        command.query_async(&mut self.redis.connect().await).await.unwrap()
    }

    /// Number of rows of a table or another FROM item.
    pub async fn count(&self, from: &str) -> i64 {
        self.database.query_one(&format!("SELECT count(*) FROM {from}"), &[]).await.unwrap().get(0)
    }

    /// Runs a worker until the stream is empty.
    pub async fn drain(&self) {
        self.drain_with(&[]).await;
    }

    pub async fn drain_with(&self, more: &[(&str, &str)]) {
        let _worker = self.worker(more).await;
        eventually(SOON, "the backlog to drain", async || self.entries().await == 0).await;
    }
}
