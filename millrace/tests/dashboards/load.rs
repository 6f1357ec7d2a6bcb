//! The load: valid batches, duplicates, repeated batches, invalid and poison events, and refused requests.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use testkit::http::HttpClient;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::installation::{POISON, PROJECTS, key_of};

/// One running client for each project.
pub struct Load {
    clients: JoinSet<()>,
    state: Arc<LoadState>,
}

/// What all clients share.
#[derive(Default)]
struct LoadState {
    is_stopped: AtomicBool,
    accepted: AtomicU64,
    poison: AtomicU64,
    invalid: AtomicU64,
    is_quota_used: AtomicBool,
    batches_per_second: AtomicU64,
}

/// Counts of events in batches that were answered 2xx; a repeated batch counts once.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventCounts {
    pub accepted: u64,
    /// Accepted events that PostgreSQL refuses.
    pub poison: u64,
    /// Events that the validator refused.
    pub invalid: u64,
}

impl Load {
    /// Starts the clients. Each sends about this many batches per second.
    pub fn start(api: SocketAddr, batches_per_second: u64) -> Self {
        let state = Arc::new(LoadState::default());
        state.batches_per_second.store(batches_per_second, Ordering::Relaxed);
        let mut clients = JoinSet::new();
        for (number, (project, _)) in PROJECTS.iter().enumerate() {
            let http = HttpClient::new(api);
            let client = Client { http, state: Arc::clone(&state), project, last: Vec::new() };
            clients.spawn(client.run(20 * (PROJECTS.len() - number)));
        }
        Self { clients, state }
    }

    /// Changes the batches per second of each client.
    pub fn set_rate(&self, batches_per_second: u64) {
        self.state.batches_per_second.store(batches_per_second, Ordering::Relaxed);
    }

    /// Whether a batch did not fit into what was left of its project's quota.
    pub fn is_quota_used(&self) -> bool {
        self.state.is_quota_used.load(Ordering::Relaxed)
    }

    /// Stops the clients, and returns what they have sent.
    pub async fn stop(mut self) -> EventCounts {
        self.state.is_stopped.store(true, Ordering::Relaxed);
        while let Some(ended) = self.clients.join_next().await {
            ended.unwrap();
        }
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let LoadState { accepted, poison, invalid, .. } = &*self.state;
        EventCounts { accepted: count(accepted), poison: count(poison), invalid: count(invalid) }
    }
}

struct Client {
    http: HttpClient,
    state: Arc<LoadState>,
    project: &'static str,
    /// The events of the previous batch, some of which are sent again.
    last: Vec<String>,
}

impl Client {
    /// Sends batches of `events` to `events + 16` new events until the load is stopped.
    async fn run(mut self, events: usize) {
        let mut number = 0;
        while !self.state.is_stopped.load(Ordering::Relaxed) {
            number += 1;
            self.send_batch(number, events + number % 17).await;
            let pause = 1_000 / self.state.batches_per_second.load(Ordering::Relaxed).max(1);
            tokio::time::sleep(Duration::from_millis(pause)).await;
        }
    }

    /// Sends batch `number`, and one of the other requests in some turns.
    async fn send_batch(&mut self, number: usize, events: usize) {
        let mut batch: Vec<_> = (0..events).map(|_| event("order_completed")).collect();
        if number.is_multiple_of(9) {
            batch.extend(self.last.iter().take(3).cloned());
        }
        let poison = u64::from(number.is_multiple_of(25));
        batch.extend((0..poison).map(|_| event(POISON)));
        let invalid = if number.is_multiple_of(11) {
            vec![r#"{"name":""}"#.to_owned(), r#"{"nam":"x"}"#.to_owned()]
        } else {
            vec![]
        };
        let body = format!("[{}]", [batch.as_slice(), &invalid].concat().join(","));
        let key = Uuid::now_v7().to_string();
        if let Some(accepted) = self.post("/v1/events", &body, &[("idempotency-key", &key)]).await {
            self.state.accepted.fetch_add(accepted, Ordering::Relaxed);
            self.state.poison.fetch_add(poison, Ordering::Relaxed);
            self.state.invalid.fetch_add(invalid.len() as u64, Ordering::Relaxed);
            self.last = batch;
            if number.is_multiple_of(13) {
                self.post("/v1/events", &body, &[("idempotency-key", &key)]).await;
            }
        }
        self.send_other(number).await;
    }

    /// Requests that are refused, and queries.
    async fn send_other(&mut self, number: usize) {
        match number % 20 {
            3 => drop(self.post("/v1/events", "{", &[]).await),
            8 => drop(self.post("/v1/events", "[]", &[]).await),
            13 => drop(
                self.http
                    .post("/v1/events", &[("authorization", "Bearer this-key-does-not-exist")], "[]")
                    .await,
            ),
            17 => {
                let bearer = format!("Bearer {}", key_of(self.project));
                drop(self.http.get("/v1/limits", &[("authorization", &bearer)]).await);
            }
            _ => {}
        }
    }

    /// Returns the number of accepted events; `None` when the batch was refused.
    async fn post(&mut self, path: &str, body: &str, more: &[(&str, &str)]) -> Option<u64> {
        let bearer = format!("Bearer {}", key_of(self.project));
        let headers = [&[("authorization", bearer.as_str())], more].concat();
        let answer = self.http.post(path, &headers, body.to_owned()).await.unwrap();
        if answer.status == 429 && answer.json()["code"] == "quota_exceeded" {
            self.state.is_quota_used.store(true, Ordering::Relaxed);
        }
        (answer.status == 202).then(|| answer.json()["accepted"].as_u64().unwrap())
    }
}

/// A new event with an id, so that it is recognized when it is sent again.
fn event(name: &str) -> String {
    let id = Uuid::now_v7();
    format!(
        r#"{{"id":"{id}","name":"{name}","subject":"customer-4711","properties":{{"revenue":19.9,"currency":"EUR","items":["a","b"]}}}}"#
    )
}
