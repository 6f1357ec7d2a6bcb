//! One batch, which is the same at every attempt, and the recording of its responses in the history.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use uuid::Uuid;

use super::events::{Event, EventKind, Version};
use super::project::Project;
use crate::http::{Answer, HttpClient, NoAnswer, no_answer};
use crate::upload::Upload;

const PATH: &str = "/v1/events";
const SDK_PATH: &str = "/v1/batch";
/// How long a client waits for a response.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A batch of events of one project, or of calls in the format of SDKs.
#[derive(Debug)]
pub struct Post {
    path: &'static str,
    events: Vec<u64>,
    /// The events with another payload than they were first acknowledged with.
    changed: Vec<u64>,
    /// Index and code of each call that must become a dead letter.
    dead: Vec<(u64, &'static str)>,
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

    /// A batch of new calls of an SDK, of which some cannot be delivered. It can be retried.
    pub fn of_calls(project: &Project, count: u64) -> Self {
        let numbers = project.history.take_calls(count);
        let calls: Vec<_> = numbers.iter().map(|&number| project.history.event(number)).collect();
        Self::from_calls(project, &calls)
    }

    /// A batch of these events, which have these numbers.
    pub(super) fn from_events(numbers: Vec<u64>, events: &[Event], key: Option<String>) -> Self {
        let json: Vec<_> = events.iter().map(Event::json).collect();
        let body = json!({ "events": json }).to_string().into();
        let (changed, dead) = (changed(events), Vec::new());
        Self { path: PATH, events: numbers, changed, dead, key, body, was_unknown: false }
    }

    /// A batch of these calls. It has an idempotency key, because calls that cannot be delivered have no
    /// identity.
    pub(super) fn from_calls(project: &Project, calls: &[Event]) -> Self {
        let mut dead = Vec::new();
        let mut body = br#"{"batch":["#.to_vec();
        for (index, call) in (0..).zip(calls) {
            if index > 0 {
                body.push(b',');
            }
            if call.kind == EventKind::Undeliverable {
                let broken = project.history.source.broken_call(call.number);
                body.extend(broken.text);
                dead.push((index, broken.code));
            } else {
                body.extend(call.call_json().to_string().into_bytes());
            }
        }
        body.extend(b"]}");
        Self {
            path: SDK_PATH,
            events: calls.iter().map(|call| call.number).collect(),
            changed: changed(calls),
            dead,
            key: Some(new_key()),
            body: body.into(),
            was_unknown: false,
        }
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
        let answer = http.post(self.path, &headers, self.body.clone());
        let late = |_| Err(no_answer("no response in time"));
        tokio::time::timeout(ANSWER_DEADLINE, answer).await.unwrap_or_else(late)
    }

    /// Connects for a manual upload. The caller must record the outcome with [`Post::note`].
    ///
    /// # Errors
    /// [`NoAnswer`] when no process listens.
    pub async fn upload(&self, server: SocketAddr, project: &Project) -> Result<Upload, NoAnswer> {
        let authorization = authorization(project);
        Upload::open(server, self.path, &self.headers(&authorization), &self.body).await
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
        self.changed.iter().for_each(|&number| project.history.conflicted(number));
        if self.path == SDK_PATH {
            let listed = body["dead"].as_array().map_or(&[][..], Vec::as_slice);
            let listed: Vec<_> = listed.iter().map(|call| (call["index"].as_u64(), &call["code"])).collect();
            let expected: Vec<_> =
                self.dead.iter().map(|(index, code)| (Some(*index), json!(code))).collect();
            let is_equal = listed.iter().map(|(index, code)| (*index, (*code).clone())).eq(expected.clone());
            if !is_equal || body["success"] != true || answer.status != 200 {
                let said = format!("a response {} with {body} instead of dead {expected:?}", answer.status);
                project.history.contradiction(said);
            }
            return project.history.acknowledged_events(&self.events, self.was_unknown);
        }
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

/// The numbers of the events with another payload than they were first posted with.
fn changed(events: &[Event]) -> Vec<u64> {
    events.iter().filter(|event| event.version == Version::Changed).map(|event| event.number).collect()
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
