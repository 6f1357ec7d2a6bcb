//! Clients as they are: most do well, some repeat themselves, some send what cannot be read, some ask too much.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use testkit::http::HttpClient;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::stage::{POISON, PROJECTS, key_of};

/// A client of each project that goes on until it is told to stop.
pub struct Load {
    clients: JoinSet<()>,
    shared: Arc<Shared>,
}

/// What all of them know.
#[derive(Default)]
struct Shared {
    is_over: AtomicBool,
    accepted: AtomicU64,
    poisoned: AtomicU64,
    invalid: AtomicU64,
    per_second: AtomicU64,
}

/// What was answered 2xx for the first time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sent {
    pub accepted: u64,
    /// Of them, those PostgreSQL refuses.
    pub poisoned: u64,
    /// Events the validator refused.
    pub invalid: u64,
}

impl Load {
    /// Each client sends about so many batches a second.
    pub fn start(api: SocketAddr, batches_per_second: u64) -> Self {
        let shared = Arc::new(Shared::default());
        shared.per_second.store(batches_per_second, Ordering::Relaxed);
        let mut clients = JoinSet::new();
        for (number, (project, _)) in PROJECTS.iter().enumerate() {
            let client =
                Client { http: HttpClient::new(api), shared: Arc::clone(&shared), project, last: Vec::new() };
            clients.spawn(client.go_on(20 * (PROJECTS.len() - number)));
        }
        Self { clients, shared }
    }

    /// From now on at this pace.
    pub fn pace(&self, batches_per_second: u64) {
        self.shared.per_second.store(batches_per_second, Ordering::Relaxed);
    }

    /// Stops, and tells what was sent.
    pub async fn stop(mut self) -> Sent {
        self.shared.is_over.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { accepted, poisoned, invalid, .. } = &*self.shared;
        Sent { accepted: count(accepted), poisoned: count(poisoned), invalid: count(invalid) }
    }
}

struct Client {
    http: HttpClient,
    shared: Arc<Shared>,
    project: &'static str,
    /// The batch before this one, for those who repeat themselves.
    last: Vec<String>,
}

impl Client {
    async fn go_on(mut self, events: usize) {
        let mut number = 0;
        while !self.shared.is_over.load(Ordering::Relaxed) {
            number += 1;
            self.turn(number, events + number % 17).await;
            let pause = 1_000 / self.shared.per_second.load(Ordering::Relaxed).max(1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    async fn turn(&mut self, number: usize, events: usize) {
        let mut batch: Vec<_> = (0..events).map(|_| event("order_completed")).collect();
        if number.is_multiple_of(9) {
            batch.extend(self.last.iter().take(3).cloned());
        }
        let poisoned = u64::from(number.is_multiple_of(25));
        batch.extend((0..poisoned).map(|_| event(POISON)));
        let invalid = if number.is_multiple_of(11) {
            vec![r#"{"name":""}"#.to_owned(), r#"{"nam":"x"}"#.to_owned()]
        } else {
            vec![]
        };
        let refused = invalid.len() as u64;
        let body = format!("[{}]", [batch.as_slice(), &invalid].concat().join(","));
        let idempotency = Uuid::now_v7().to_string();
        if let Some(accepted) = self.post("/v1/events", &body, &[("idempotency-key", &idempotency)]).await {
            self.shared.accepted.fetch_add(accepted, Ordering::Relaxed);
            self.shared.poisoned.fetch_add(poisoned, Ordering::Relaxed);
            self.shared.invalid.fetch_add(refused, Ordering::Relaxed);
            self.last = batch;
            if number.is_multiple_of(13) {
                self.post("/v1/events", &body, &[("idempotency-key", &idempotency)]).await;
            }
        }
        self.stumble(number).await;
    }

    /// What is refused, and what only asks.
    async fn stumble(&mut self, number: usize) {
        match number % 20 {
            3 => drop(self.post("/v1/events", "{", &[]).await),
            8 => drop(self.post("/v1/events", "[]", &[]).await),
            13 => drop(
                self.http
                    .post("/v1/events", &[("authorization", "Bearer nobody-knows-this-key")], "[]")
                    .await,
            ),
            17 => {
                let bearer = format!("Bearer {}", key_of(self.project));
                drop(self.http.get("/v1/limits", &[("authorization", &bearer)]).await);
            }
            _ => {}
        }
    }

    /// How many events were accepted; `None` when the batch was refused.
    async fn post(&mut self, path: &str, body: &str, more: &[(&str, &str)]) -> Option<u64> {
        let bearer = format!("Bearer {}", key_of(self.project));
        let headers = [&[("authorization", bearer.as_str())], more].concat();
        let answer = self.http.post(path, &headers, body.to_owned()).await.unwrap();
        (answer.status == 202).then(|| answer.json()["accepted"].as_u64().unwrap())
    }
}

/// An event that can be recognised when it comes again.
fn event(name: &str) -> String {
    let id = Uuid::now_v7();
    format!(
        r#"{{"id":"{id}","name":"{name}","subject":"customer-4711","properties":{{"revenue":19.9,"currency":"EUR","items":["a","b"]}}}}"#
    )
}
