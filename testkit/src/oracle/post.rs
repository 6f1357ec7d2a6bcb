//! One batch, which is the same at every attempt, and the recording of its responses in the history.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::events::Event;
use super::project::Project;
use crate::http::{Answer, HttpClient, NoAnswer, no_answer};
use crate::upload::Upload;

const PATH: &str = "/v1/events";
/// How long a client waits for a response.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A batch of events of one project.
#[derive(Debug)]
pub struct Post {
    events: Vec<u64>,
    key: Option<String>,
    body: Bytes,
    was_unknown: bool,
}

/// What a response means for the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The events must be stored.
    Acknowledged,
    /// This attempt has stored nothing. A retry may succeed after `after_s` seconds; never when it is `None`.
    Refused {
        /// `Retry-After`.
        after_s: Option<u64>,
    },
    /// The outcome is unknown; the batch must be sent again.
    Unknown,
}

impl Post {
    /// A batch of new events that can be retried: it has an idempotency key if an event has no identity.
    pub fn new(project: &Project, count: u64) -> Self {
        let (numbers, events) = new_events(project, count);
        let key = events.iter().any(|event| !event.kind.has_identity()).then(new_key);
        Self::from_events(numbers, &events, key)
    }

    /// A batch of new events without an idempotency key. It can be sent once, because a retry would store an
    /// event without identity again.
    pub fn once(project: &Project, count: u64) -> Self {
        let (numbers, events) = new_events(project, count);
        Self::from_events(numbers, &events, None)
    }

    /// A batch of these events, which have these numbers.
    pub(super) fn from_events(numbers: Vec<u64>, events: &[Event], key: Option<String>) -> Self {
        let json: Vec<Value> = events.iter().map(Event::json).collect();
        Self { events: numbers, key, body: json!({ "events": json }).to_string().into(), was_unknown: false }
    }

    /// Sends the batch and records the response, or its absence.
    pub async fn send(&mut self, http: &mut HttpClient, project: &Project) -> Decision {
        let answer = self.ask(http, project).await;
        self.note(project, &answer)
    }

    /// Sends the batch. The caller must record the response with [`Post::note`].
    ///
    /// # Errors
    /// [`NoAnswer`] when no response arrives in time.
    pub async fn ask(&self, http: &mut HttpClient, project: &Project) -> Result<Answer, NoAnswer> {
        let authorization = authorization(project);
        let headers = self.headers(&authorization);
        let answer = http.post(PATH, &headers, self.body.clone());
        let late = |_| Err(no_answer("no response in time"));
        tokio::time::timeout(ANSWER_DEADLINE, answer).await.unwrap_or_else(late)
    }

    /// Connects for a manual upload. The caller must record the outcome with [`Post::note`].
    ///
    /// # Errors
    /// [`NoAnswer`] when no process listens.
    pub async fn upload(&self, server: SocketAddr, project: &Project) -> Result<Upload, NoAnswer> {
        let authorization = authorization(project);
        Upload::open(server, PATH, &self.headers(&authorization), &self.body).await
    }

    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// Records a response, or its absence, in the history.
    pub fn note(&mut self, project: &Project, answer: &Result<Answer, NoAnswer>) -> Decision {
        let history = &project.history;
        match answer {
            Ok(answer) if answer.status < 300 => {
                self.note_acknowledged(project, answer);
                Decision::Acknowledged
            }
            Ok(answer) if answer.status < 500 => {
                history.refused(&self.events, &code(answer));
                let after_s = answer.header("retry-after").and_then(|seconds| seconds.parse().ok());
                Decision::Refused { after_s }
            }
            answer => {
                self.was_unknown = true;
                history.unknown(&self.events, answer.as_ref().ok().map(code).as_deref());
                Decision::Unknown
            }
        }
    }

    /// Records that the batch was sent but no client read the response.
    pub fn note_unanswered(&mut self, project: &Project) {
        self.note(project, &Err(no_answer("no client read the response")));
    }

    /// Records that the batch was not sent completely: none of it may be stored.
    pub fn note_broken_off(&self, project: &Project) {
        project.history.refused(&self.events, "broken off");
    }

    fn note_acknowledged(&self, project: &Project, answer: &Answer) {
        let body = answer.json();
        let batch_id = body["batch_id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
        let (Some(batch_id), Some(accepted)) = (batch_id, body["accepted"].as_u64()) else {
            let said = format!("a response {} without batch_id or accepted: {body}", answer.status);
            return project.history.contradiction(said);
        };
        project.history.acknowledged(&self.events, batch_id, accepted, self.was_unknown);
    }

    fn headers<'a>(&'a self, authorization: &'a str) -> Vec<(&'static str, &'a str)> {
        let key = self.key.as_deref().map(|key| ("idempotency-key", key));
        [("authorization", authorization)].into_iter().chain(key).collect()
    }
}

/// A new idempotency key.
pub(super) fn new_key() -> String {
    Uuid::new_v4().to_string()
}

fn new_events(project: &Project, count: u64) -> (Vec<u64>, Vec<Event>) {
    let numbers = project.history.take_numbers(count);
    let events = numbers.iter().map(|&number| project.history.source.event(number)).collect();
    (numbers, events)
}

fn authorization(project: &Project) -> String {
    format!("Bearer {}", project.key)
}

/// The error code in the body of a response.
pub(super) fn code(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or("none").to_owned()
}
