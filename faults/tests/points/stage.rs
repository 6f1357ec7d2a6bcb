//! Servers, and programs built for drills on them, for one small scene at a time.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use redis::{Cmd, FromRedisValue, Value};
use serde_json::json;
use testkit::http::HttpClient;
use testkit::{Launch, Postgres, Program, ProgramOutput, Redis, drill_build, eventually};
use tokio_postgres::Client;

pub const SOON: Duration = Duration::from_secs(60);
/// Settings of workers that take over and keep house soon, so that nobody has to wait for it.
pub const QUICK: [(&str, &str); 2] = [("TAKEOVER_IDLE_MS", "300"), ("UPKEEP_INTERVAL_MS", "300")];
const KEY: &str = "points-test-key-1";

/// Servers with one project, and programs built for drills.
pub struct Stage {
    pub redis: Redis,
    pub postgres: Postgres,
    pub database: Client,
    profile: &'static str,
    posted: Cell<u32>,
}

impl Stage {
    pub async fn set() -> Self {
        let profile = drill_build();
        let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
        let database = postgres.connect().await;
        let stage = Self { redis, postgres, database, profile, posted: Cell::default() };
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
        Program::run("millrace", arguments, &backends).await
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
        let launch = Launch { profile: Some(self.profile), variables: &variables, ..Launch::default() };
        Program::launch(name, &launch)
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

    /// Posts one event of its own. `None` when no answer comes.
    pub async fn post(&self, api: SocketAddr) -> Option<u16> {
        self.posted.set(self.posted.get() + 1);
        let id = format!("event-{}", self.posted.get());
        self.post_again(api, &id, &[]).await
    }

    /// Posts the event of this id, as often as it is called.
    pub async fn post_again(&self, api: SocketAddr, id: &str, more: &[(&str, &str)]) -> Option<u16> {
        let event = json!({"id": id, "name": "tested", "timestamp": "2026-11-21T08:00:00Z"});
        let body = json!({"events": [event]}).to_string();
        let authorization = format!("Bearer {KEY}");
        let mut client = HttpClient::new(api);
        let headers = [&[("authorization", &*authorization)], more].concat();
        let posted = client.post("/v1/events", &headers, body).await;
        posted.ok().map(|answer| answer.status)
    }

    /// Puts an entry into the stream that can only become a dead letter.
    pub async fn force_damaged_entry(&self) {
        self.tell(&["XADD", "{s0}:events", "*", "v", "from the future"]).await;
    }

    /// Entries in the stream.
    pub async fn entries(&self) -> u64 {
        self.ask(redis::cmd("XLEN").arg("{s0}:events")).await
    }

    /// Entries that were handed to a consumer who has them still.
    pub async fn pending(&self) -> u64 {
        let pending: (u64, Value, Value, Value) =
            self.ask(redis::cmd("XPENDING").arg("{s0}:events").arg("workers")).await;
        pending.0
    }

    /// Consumer groups of the stream.
    pub async fn groups(&self) -> usize {
        let groups: Vec<Value> = self.ask(redis::cmd("XINFO").arg("GROUPS").arg("{s0}:events")).await;
        groups.len()
    }

    /// Tells Redis to do something.
    pub async fn tell(&self, words: &[&str]) {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]).exec_async(&mut self.redis.connect().await).await.unwrap();
    }

    /// Asks Redis.
    pub async fn ask<T: FromRedisValue>(&self, command: &Cmd) -> T {
        command.query_async(&mut self.redis.connect().await).await.unwrap()
    }

    /// Rows of a table, or of what else can stand behind FROM.
    pub async fn count(&self, from: &str) -> i64 {
        self.database.query_one(&format!("SELECT count(*) FROM {from}"), &[]).await.unwrap().get(0)
    }

    /// Lets a worker to which nothing happens finish what others left.
    pub async fn drain(&self) {
        self.drain_with(&[]).await;
    }

    pub async fn drain_with(&self, more: &[(&str, &str)]) {
        let _worker = self.worker(more).await;
        eventually(SOON, "the backlog to drain", async || self.entries().await == 0).await;
    }
}
