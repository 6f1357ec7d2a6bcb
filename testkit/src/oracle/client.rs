//! Clients that post as an SDK does: in batches, one request at a time, and the same batch again after a 5xx
//! or no response until it is acknowledged. They record every response and have no other information about
//! the system.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinHandle;

use super::events::{Event, Version};
use super::post::{Decision, Post, new_key};
use super::project::Project;
use crate::eventually::eventually;
use crate::http::{HttpClient, no_answer};

/// Pause before a request is retried.
const RETRY_PAUSE: Duration = Duration::from_millis(30);
/// A client abandons a batch whose `Retry-After` is longer: the quota is used up until next month.
const PATIENCE_S: u64 = 60;
/// A client of a project that recognizes events by their ids repeats events this much more often.
const COPIES_OF_BY_ID: u32 = 8;
/// A client sends copies of its last events only, this many.
const REMEMBERED: usize = 256;

/// The addresses of the running API processes.
#[derive(Clone, Default, Debug)]
pub struct Targets(Arc<Mutex<Vec<SocketAddr>>>);

impl Targets {
    /// Replaces the addresses.
    pub fn set(&self, addresses: Vec<SocketAddr>) {
        *self.0.lock().expect("no thread panics while it holds the targets") = addresses;
    }

    pub(super) fn nth(&self, turn: usize) -> Option<SocketAddr> {
        let addresses = self.0.lock().expect("no thread panics while it holds the targets");
        (!addresses.is_empty()).then(|| addresses[turn % addresses.len()])
    }
}

/// How much the clients post.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients per project.
    pub clients: u32,
    /// The largest number of new events in a batch.
    pub batch_events_max: u64,
    /// Pause between two batches of one client.
    pub pause: Duration,
    /// One event of an earlier batch is posted again for this many new events.
    pub copy_one_in: u32,
    /// One of this many batches is of calls in the format of SDKs, of which some cannot be delivered.
    pub calls_one_in: u32,
}

impl Default for Load {
    fn default() -> Self {
        Self {
            clients: 3,
            batch_events_max: 20,
            pause: Duration::from_millis(5),
            copy_one_in: 160,
            calls_one_in: 4,
        }
    }
}

/// Running clients. Dropping them stops them immediately.
#[derive(Debug)]
pub struct Clients {
    stopping: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    tasks: Vec<JoinHandle<()>>,
}

impl Clients {
    /// Starts the clients of every project.
    pub fn start(projects: &[Arc<Project>], targets: &Targets, load: Load, seed: u64) -> Self {
        let (stopping, acknowledged) = (Arc::default(), Arc::default());
        let mut tasks = Vec::new();
        for (index, project) in projects.iter().enumerate() {
            for client in 0..load.clients {
                let number = u64::from(client) << 32 | index as u64;
                let client = Client {
                    project: Arc::clone(project),
                    targets: targets.clone(),
                    load,
                    rng: StdRng::seed_from_u64(seed ^ number),
                    turn: client as usize,
                    connection: None,
                    posted: Vec::new(),
                    stopping: Arc::clone(&stopping),
                    acknowledged: Arc::clone(&acknowledged),
                };
                tasks.push(tokio::spawn(client.run()));
            }
        }
        Self { stopping, acknowledged, tasks }
    }

    /// The number of acknowledged requests of all clients.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::SeqCst)
    }

    /// Waits until `more` more requests have been acknowledged.
    ///
    /// # Panics
    /// When that takes longer than two minutes.
    pub async fn acknowledge(&self, more: u64) {
        let goal = self.acknowledged() + more;
        let what = format!("{more} more requests to be acknowledged");
        eventually(Duration::from_secs(120), &what, async || {
            let now = self.acknowledged();
            if now >= goal { Ok(()) } else { Err(format!("{} are missing", goal - now)) }
        })
        .await;
    }

    /// Starts no new batch. Returns when every started batch has been decided, or after `at_most`.
    pub async fn stop(mut self, at_most: Duration) {
        self.stopping.store(true, Ordering::SeqCst);
        let deadline = tokio::time::Instant::now() + at_most;
        for task in self.tasks.drain(..) {
            let abort = task.abort_handle();
            match tokio::time::timeout_at(deadline, task).await {
                Ok(ended) => ended.expect("a client does not panic"),
                Err(_) => abort.abort(),
            }
        }
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Client {
    project: Arc<Project>,
    targets: Targets,
    load: Load,
    rng: StdRng,
    turn: usize,
    connection: Option<HttpClient>,
    posted: Vec<u64>,
    stopping: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Client {
    async fn run(mut self) {
        while !self.stopping.load(Ordering::SeqCst) {
            let mut post = self.compose();
            self.post_until_decided(&mut post).await;
            tokio::time::sleep(self.load.pause).await;
        }
    }

    fn compose(&mut self) -> Post {
        let project = Arc::clone(&self.project);
        let history = &project.history;
        let of_calls = self.rng.random_range(0..self.load.calls_one_in) == 0;
        let count = self.rng.random_range(1..=self.load.batch_events_max);
        let numbers = if of_calls { history.take_calls(count) } else { history.take_numbers(count) };
        let mut made: Vec<_> = numbers.iter().map(|&number| history.event(number)).collect();
        let copies = self.copies(count, of_calls);
        let repeatable = made.iter().filter(|event| event.kind.has_identity());
        self.posted.extend(repeatable.map(|event| event.number));
        let forgotten = self.posted.len().saturating_sub(REMEMBERED);
        self.posted.drain(..forgotten);
        history.copied(copies.len() as u64);
        made.extend(copies);
        if of_calls {
            return Post::from_calls(&project, &made);
        }
        let needs_key = made.iter().any(|event| !event.kind.has_identity());
        let key = (needs_key || self.rng.random_bool(0.3)).then(new_key);
        Post::from_events(made.iter().map(|event| event.number).collect(), &made, key)
    }

    /// Copies of earlier events for a batch with so many new ones. When the project recognizes events by
    /// their ids, some have another timestamp and some also another payload.
    fn copies(&mut self, new_events: u64, of_calls: bool) -> Vec<Event> {
        let history = &self.project.history;
        let more = if self.project.is_by_id { COPIES_OF_BY_ID } else { 1 };
        let one_in = (self.load.copy_one_in / more).max(1);
        let wanted = (0..new_events).filter(|_| self.rng.random_range(0..one_in) == 0).count();
        let mut copies = Vec::new();
        for _ in 0..wanted.min(self.posted.len()) {
            let number = self.posted[self.rng.random_range(0..self.posted.len())];
            let event = history.event(number);
            // The order of two versions is known only if the first was acknowledged before.
            let is_known = history.outcome(number).is_some_and(|outcome| outcome.acknowledged);
            if event.kind.is_call() != of_calls || copies.iter().any(|copy: &Event| copy.number == number) {
                continue;
            }
            let version = match self.rng.random_range(0..3) {
                1 if self.project.is_by_id && is_known => Version::Restamped,
                2 if self.project.is_by_id && is_known => Version::Changed,
                _ => Version::First,
            };
            if version > Version::First {
                history.repeated(number, version);
            }
            copies.push(history.source.repeated(event, version));
        }
        copies
    }

    /// Sends the batch until it is acknowledged, refused permanently, or refused for longer than the client
    /// waits.
    async fn post_until_decided(&mut self, post: &mut Post) {
        loop {
            match self.attempt(post).await {
                Decision::Acknowledged => {
                    self.acknowledged.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Decision::Refused { after_s: Some(seconds) }
                    if seconds <= PATIENCE_S && !self.stopping.load(Ordering::SeqCst) =>
                {
                    tokio::time::sleep(Duration::from_secs(seconds)).await;
                }
                // The batch was refused and not admitted: the client abandons it.
                Decision::Refused { .. } => return tokio::time::sleep(RETRY_PAUSE).await,
                Decision::Unknown => {
                    self.connection = None;
                    self.turn += 1;
                    tokio::time::sleep(RETRY_PAUSE).await;
                }
            }
        }
    }

    async fn attempt(&mut self, post: &mut Post) -> Decision {
        if self.connection.is_none() {
            self.connection = self.targets.nth(self.turn).map(HttpClient::new);
        }
        match &mut self.connection {
            Some(connection) => post.send(connection, &self.project).await,
            None => post.note(&self.project, &Err(no_answer("no API process runs"))),
        }
    }
}
