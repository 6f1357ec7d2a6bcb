//! Clients that cancel events, again and again and at the same time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::client::Targets;
use super::events::EventKind;
use super::project::Project;
use crate::eventually::eventually;
use crate::http::HttpClient;

const PATH: &str = "/v1/events/cancel";
/// Clients for each project. They ask for the same events.
const CLIENTS: u64 = 2;
/// Events of one request, at most.
const EVENTS_MAX: u64 = 12;
const PAUSE: Duration = Duration::from_millis(15);
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
const SETTLED_DEADLINE: Duration = Duration::from_secs(60);

/// Running clients that cancel acknowledged events. Dropping them stops them.
#[derive(Debug)]
pub struct Cancellers {
    projects: Vec<Arc<Project>>,
    targets: Targets,
    stopping: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Cancellers {
    /// Starts the clients of these projects, which must recognize events by id and timestamp.
    pub fn start(projects: &[Arc<Project>], targets: &Targets, seed: u64) -> Self {
        let stopping: Arc<AtomicBool> = Arc::default();
        let mut tasks = Vec::new();
        for (index, project) in (0..).zip(projects) {
            for client in 0..CLIENTS {
                let rng = StdRng::seed_from_u64(seed ^ (client << 32 | index) ^ 0xCA9C);
                let (project, targets) = (Arc::clone(project), targets.clone());
                tasks.push(tokio::spawn(run(project, targets, rng, Arc::clone(&stopping))));
            }
        }
        Self { projects: projects.to_vec(), targets: targets.clone(), stopping, tasks }
    }

    /// The number of events that are cancelled for certain.
    pub fn cancelled(&self) -> u64 {
        self.projects.iter().map(|project| project.history.cancelled.certain().len() as u64).sum()
    }

    /// Waits until this many more events are cancelled.
    ///
    /// # Panics
    /// When that takes longer than a minute.
    pub async fn cancel(&self, more: u64) {
        let goal = self.cancelled() + more;
        eventually(SETTLED_DEADLINE, "more events to be cancelled", async || self.cancelled() >= goal).await;
    }

    /// Stops, and asks again for every event whose cancellation was not answered. All programs must run.
    ///
    /// # Panics
    /// When an event cannot be cancelled within a minute.
    pub async fn stop(mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        for task in self.tasks.drain(..) {
            task.await.expect("a client does not panic");
        }
        for project in &self.projects {
            let what = format!("every cancellation of {} to be answered", project.name);
            eventually(SETTLED_DEADLINE, &what, async || {
                let uncertain = project.history.cancelled.uncertain();
                for numbers in uncertain.chunks(100) {
                    request(project, &self.targets, 0, numbers).await;
                }
                let left = project.history.cancelled.uncertain_statuses();
                if left.is_empty() { Ok(()) } else { Err(format!("events {left:?} are left")) }
            })
            .await;
        }
    }
}

impl Drop for Cancellers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn run(project: Arc<Project>, targets: Targets, mut rng: StdRng, stopping: Arc<AtomicBool>) {
    let mut asked = Vec::new();
    while !stopping.load(Ordering::SeqCst) {
        let numbers = choose(&project, &mut rng, &asked);
        if !numbers.is_empty() {
            request(&project, &targets, rng.random_range(0..8), &numbers).await;
            asked.extend(numbers);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Acknowledged events that can be named, of which a third were asked for before.
fn choose(project: &Project, rng: &mut StdRng, asked: &[u64]) -> Vec<u64> {
    let count = project.history.count();
    let mut numbers = BTreeSet::new();
    for _ in 0..rng.random_range(0..EVENTS_MAX) {
        if !asked.is_empty() && rng.random_range(0..3) == 0 {
            numbers.insert(asked[rng.random_range(0..asked.len())]);
        } else if count > 0 {
            numbers.insert(rng.random_range(0..count));
        }
    }
    let can_be_named = |number: &u64| {
        let is_stored = project.history.outcome(*number).is_some_and(|outcome| outcome.acknowledged);
        is_stored && matches!(project.history.event(*number).kind, EventKind::Dated | EventKind::Named)
    };
    numbers.into_iter().filter(can_be_named).collect()
}

/// Asks once to cancel these events, and records the answer, if there is one.
async fn request(project: &Project, targets: &Targets, turn: usize, numbers: &[u64]) {
    let Some(server) = targets.nth(turn) else { return };
    project.history.cancelled.ask(numbers);
    let named = |number: &u64| {
        let event = project.history.event(*number).json();
        json!({ "id": event["id"], "timestamp": event["timestamp"] })
    };
    let body = json!({ "events": numbers.iter().map(named).collect::<Vec<_>>(), "reason": "a drill" });
    let authorization = format!("Bearer {}", project.key);
    let mut http = HttpClient::new(server);
    let headers = [("authorization", authorization.as_str())];
    let answer = http.post(PATH, &headers, body.to_string());
    let Ok(Ok(answer)) = tokio::time::timeout(ANSWER_DEADLINE, answer).await else { return };
    match answer.status {
        200 => {
            let body = answer.json();
            let statuses = body["events"].as_array().map_or(&[][..], Vec::as_slice);
            for (number, status) in numbers.iter().zip(statuses) {
                project.history.cancelled.answer(*number, status["status"].as_str().unwrap_or_default());
            }
        }
        500.. => {}
        status => {
            let said = format!("a cancellation was answered {status} {}", Value::to_string(&answer.json()));
            project.history.contradiction(said);
        }
    }
}
