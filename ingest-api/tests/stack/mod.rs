//! A complete ingest-api in the test's own process, with a real Redis and a real PostgreSQL.

#![allow(dead_code, reason = "each test file uses another part of it")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use ingest_api::config::{Config, Limits};
use ingest_api::{Deps, StatusPage, TrustedProxies, run};
use millrace_event::plan::ProjectId;
use millrace_reconcile::health::{Durability, StreamHealth};
use millrace_reconcile::keeper::CheckPeriods;
use millrace_store::postgres::{PostgresOptions, PostgresStore};
use millrace_store::{KeyOptions, NewKey, Operators, PolicyChange, SharedStore};
use millrace_stream::redis::{RedisOptions, RedisStream};
use millrace_stream::{EntryId, Outcome, PendingBatch, SettledBatch, Settlement, SharedStream};
use testkit::http::{Answer, HttpClient};
use testkit::{Postgres, Redis, eventually};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// Only a defect takes this long.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The backlog limit of the streams of tests.
pub const BACKLOG_EVENTS_MAX: u64 = 5_000;

pub struct Stack {
    pub redis: Redis,
    pub postgres: Postgres,
    pub stream: SharedStream,
    pub store: SharedStore,
    pub server: Server,
    pub project: ProjectId,
    /// A key of an enterprise project.
    pub key: String,
}

pub struct Server {
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    running: JoinHandle<std::io::Result<()>>,
}

/// The limits of a server without settings.
pub fn default_limits() -> Limits {
    Config::parse_from(["ingest-api"]).http.limits
}

/// A durable Redis and a PostgreSQL with an empty schema, opened as stream and store.
async fn backends() -> (Redis, Postgres, SharedStream, SharedStore) {
    let (redis, postgres) = tokio::join!(Redis::start(), Postgres::start());
    let stream = open_stream(&redis);
    let store = PostgresStore::new(PostgresOptions {
        source: postgres.config().into(),
        pool_size: 4,
        application: "test-ingest-api",
    });
    store.migrate().await.unwrap();
    (redis, postgres, stream, store)
}

/// Opens the stream as a new process would: no epoch is known yet.
pub fn open_stream(redis: &Redis) -> SharedStream {
    open_stream_at(redis.url())
}

/// Opens a stream at a URL, for a Redis behind a proxy.
pub fn open_stream_at(url: String) -> SharedStream {
    RedisStream::new(RedisOptions { backlog_events_max: BACKLOG_EVENTS_MAX, ..RedisOptions::new(url) })
        .unwrap()
}

impl Server {
    pub async fn start(deps: Deps) -> Self {
        Self::start_at("127.0.0.1:0", deps).await
    }

    pub async fn start_at(address: &str, deps: Deps) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(run(listener, None, deps, async {
            // Dropping the sender stops the server, so the error is expected.
            stopped.await.ok();
        }));
        Self { address, stop: Some(stop), running }
    }

    /// Asks the server to stop, as SIGTERM does.
    pub fn ask_to_stop(&mut self) {
        drop(self.stop.take());
    }

    pub async fn stopped(self) {
        self.running.await.unwrap().unwrap();
    }
}

impl Stack {
    pub async fn start() -> Self {
        Self::start_with(default_limits()).await
    }

    /// Starts everything and waits until the server is ready.
    pub async fn start_with(limits: Limits) -> Self {
        let (redis, postgres, stream, store) = backends().await;
        let (project, NewKey { key, .. }) = store
            .create_project("test", "enterprise", &PolicyChange::default(), &KeyOptions::default())
            .await
            .unwrap();
        let server = Server::start(Deps {
            stream: Arc::clone(&stream),
            store: Arc::clone(&store),
            stream_health: Arc::new(StreamHealth::new(Durability::Strict, 1)),
            check_periods: Some(CheckPeriods::API),
            status_page: StatusPage::Auto,
            trusted_proxies: TrustedProxies::default(),
            limits,
        })
        .await;
        let stack = Self { redis, postgres, stream, store, server, project, key };
        stack.ready().await;
        stack
    }

    /// The dependencies of another server on the same Redis and PostgreSQL.
    pub fn deps(&self, status_page: StatusPage) -> Deps {
        Deps {
            stream: open_stream(&self.redis),
            store: Arc::clone(&self.store),
            stream_health: Arc::new(StreamHealth::new(Durability::Strict, 1)),
            check_periods: Some(CheckPeriods::API),
            status_page,
            trusted_proxies: TrustedProxies::default(),
            limits: default_limits(),
        }
    }

    pub async fn ready(&self) {
        eventually(PATIENCE, "the server to be ready", async || {
            let answer = self.get("/readyz").await;
            (answer.status == 200).then_some(()).ok_or(format!("{answer:?}"))
        })
        .await;
    }

    pub fn client(&self) -> HttpClient {
        HttpClient::new(self.server.address)
    }

    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }

    pub async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> Answer {
        let bearer = self.bearer();
        let headers = [&[("authorization", bearer.as_str())], headers].concat();
        self.client()
            .send(method, path, &headers, body)
            .await
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], "").await
    }

    pub async fn post(&self, body: impl Into<bytes::Bytes>) -> Answer {
        self.send("POST", "/v1/events", &[], body).await
    }

    pub async fn post_with(&self, headers: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> Answer {
        self.send("POST", "/v1/events", headers, body).await
    }

    /// Creates a project with a key, and waits until the server accepts the key.
    pub async fn another_project(&self, name: &str, plan: &str, signed: bool) -> (ProjectId, NewKey) {
        let (project, key) = self
            .store
            .create_project(
                name,
                plan,
                &PolicyChange::default(),
                &KeyOptions { signed, ..KeyOptions::default() },
            )
            .await
            .unwrap();
        self.wait_for_key(&key.key).await;
        (project, key)
    }

    /// Creates another key of the project, and waits until the server knows it. Returns it as a Bearer token.
    pub async fn another_key(&self, options: &KeyOptions) -> String {
        let key = self.store.create_key("test", options).await.unwrap().key;
        self.wait_for_key(&key).await;
        format!("Bearer {key}")
    }

    /// Sends a request without the key of the project.
    pub async fn send_without_key(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<bytes::Bytes>,
    ) -> Answer {
        let sent = self.client().send(method, path, headers, body).await;
        sent.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// Creates a project with a key and a plan of its own, both named like the plan.
    pub async fn planned_project(
        &self,
        plan: &str,
        per_minute: i32,
        burst: i32,
        per_month: Option<i64>,
        per_batch: i32,
    ) -> (ProjectId, String) {
        let client = self.postgres.connect().await;
        let statement = "INSERT INTO plans (name, requests_per_minute, burst, events_per_month, events_per_batch) \
                         VALUES ($1, $2, $3, $4, $5)";
        client.execute(statement, &[&plan, &per_minute, &burst, &per_month, &per_batch]).await.unwrap();
        let (project, key) = self.another_project(plan, plan, false).await;
        (project, key.key)
    }

    /// Waits until the server knows the key.
    pub async fn wait_for_key(&self, key: &str) {
        let bearer = format!("Bearer {key}");
        eventually(PATIENCE, "the key to be known", async || {
            // Invalid JSON is not charged. A key that requires signatures is refused with another message.
            let answer = self.client().post("/v1/events", &[("authorization", &bearer)], "{").await.unwrap();
            (answer.json()["detail"] != "the key is not known").then_some(()).ok_or("401")
        })
        .await;
    }

    /// Settles every entry of the stream, as a worker does after storing it. Returns how many.
    pub async fn settle_all(&self) -> u64 {
        let pending = self.stream.pending_batches(0).await.unwrap();
        let mut reader = self.stream.reader(0, "test").await.unwrap();
        let entries: Vec<_> = pending.chunk_by(|one, next| one.id == next.id).collect();
        let mut read: Vec<EntryId> = Vec::new();
        while read.len() < entries.len() {
            let deliveries = reader.next(100, Duration::from_secs(1)).await.unwrap();
            read.extend(deliveries.iter().map(|delivery| delivery.id));
        }
        let settlements: Vec<_> = entries
            .into_iter()
            .map(|batches| Settlement {
                id: batches[0].id,
                bytes: batches.iter().map(|batch| batch.bytes).sum(),
                batches: batches.iter().map(stored).collect(),
                refunds: Vec::new(),
            })
            .collect();
        self.stream.settle(0, &settlements).await.unwrap()
    }
}

fn stored(batch: &PendingBatch) -> SettledBatch {
    let PendingBatch { batch_id, project, count, .. } = *batch;
    let outcome = Outcome { stored: count, duplicate: 0, dead: 0, conflict: 0 };
    SettledBatch { batch_id, project, count, outcome }
}

/// The code of a problem document. Checks the members and headers that all of them have.
#[track_caller]
pub fn problem(answer: &Answer) -> String {
    let shown = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{shown}");
    let document = answer.json();
    assert_eq!(document["status"], answer.status, "{shown}");
    for member in ["type", "title", "detail", "code", "message"] {
        let text = document[member].as_str().unwrap_or_default();
        assert!(!text.is_empty(), "{member} in {shown}");
    }
    let transient = matches!(answer.status, 429 | 503);
    let retry_after = answer.header("retry-after").map(|seconds| seconds.parse::<u64>().unwrap());
    assert_eq!(
        retry_after.is_some_and(|seconds| (1..=3_600).contains(&seconds)),
        transient,
        "retry-after of {shown}"
    );
    assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    document["code"].as_str().unwrap().to_owned()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zlib(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Deflate without the header that HTTP specifies.
pub fn raw_deflate(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write;
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A batch of valid events.
pub fn batch(count: usize) -> String {
    let events: Vec<_> =
        (0..count).map(|index| format!(r#"{{"name":"viewed","properties":{{"n":{index}}}}}"#)).collect();
    format!(r#"{{"events":[{}]}}"#, events.join(","))
}
