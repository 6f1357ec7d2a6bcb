//! One batch as it is sent, the same at every attempt, and what an answer means for the history of its events.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use uuid::Uuid;

use super::client::Project;
use super::events::Event;
use crate::http::{Answer, HttpClient, NoAnswer, no_answer};
use crate::upload::Upload;

const PATH: &str = "/v1/events";
/// How long a client waits for an answer before it takes it for lost.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);

/// A batch of events of one project.
#[derive(Debug)]
pub struct Post {
    events: Vec<u64>,
    key: Option<String>,
    body: Bytes,
    was_unknown: bool,
}

/// What an answer decides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Decision {
    /// The events must be stored.
    Acknowledged,
    /// This attempt has stored nothing. The same may pass after so many seconds; never, when there are none.
    Refused {
        /// `Retry-After`.
        after_s: Option<u64>,
    },
    /// Nobody knows; the same must be sent again.
    Unknown,
}

impl Post {
    /// New events that can be sent again and again: under a key, when one of them has no identity of its own.
    pub fn new(project: &Project, count: u64) -> Self {
        let (numbers, events) = take(project, count);
        let key = events.iter().any(|event| !event.kind.has_identity()).then(new_key);
        Self::of(numbers, &events, key)
    }

    /// New events without a key. They can be sent once: what has no identity would be new again.
    pub fn once(project: &Project, count: u64) -> Self {
        let (numbers, events) = take(project, count);
        Self::of(numbers, &events, None)
    }

    /// A batch of these events, which have these numbers.
    pub(super) fn of(numbers: Vec<u64>, events: &[Event], key: Option<String>) -> Self {
        let json: Vec<Value> = events.iter().map(Event::json).collect();
        Self { events: numbers, key, body: json!({ "events": json }).to_string().into(), was_unknown: false }
    }

    /// Sends it and notes the answer, if one comes in time, or its absence.
    pub async fn send(&mut self, http: &mut HttpClient, project: &Project) -> Decision {
        let answer = self.ask(http, project).await;
        self.note(project, &answer)
    }

    /// Sends it. Whoever looks at the answer himself must [note](Post::note) it.
    ///
    /// # Errors
    /// [`NoAnswer`] when none comes in time.
    pub async fn ask(&self, http: &mut HttpClient, project: &Project) -> Result<Answer, NoAnswer> {
        let authorization = authorization(project);
        let headers = self.headers(&authorization);
        let answer = http.post(PATH, &headers, self.body.clone());
        let late = |_| Err(no_answer("the answer did not come in time"));
        tokio::time::timeout(ANSWER_DEADLINE, answer).await.unwrap_or_else(late)
    }

    /// Begins to send it by hand. Whoever does must [note](Post::note) how it went.
    ///
    /// # Errors
    /// [`NoAnswer`] when nobody listens.
    pub async fn upload(&self, server: SocketAddr, project: &Project) -> Result<Upload, NoAnswer> {
        let authorization = authorization(project);
        Upload::open(server, PATH, &self.headers(&authorization), &self.body).await
    }

    /// Bytes of its body.
    pub fn body_bytes(&self) -> usize {
        self.body.len()
    }

    /// Writes an answer, or its absence, into the history.
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

    /// It was sent, and nobody listened for the answer.
    pub fn note_unanswered(&mut self, project: &Project) {
        self.note(project, &Err(no_answer("nobody listened")));
    }

    /// It was not sent to its end: nothing of it may be stored.
    pub fn note_broken_off(&self, project: &Project) {
        project.history.refused(&self.events, "broken off");
    }

    fn note_acknowledged(&self, project: &Project, answer: &Answer) {
        let body = answer.json();
        let batch_id = body["batch_id"].as_str().and_then(|id| id.parse::<Uuid>().ok());
        let (Some(batch_id), Some(accepted)) = (batch_id, body["accepted"].as_u64()) else {
            let said = format!("an answer {} without batch or count: {body}", answer.status);
            return project.history.contradiction(said);
        };
        project.history.acknowledged(&self.events, batch_id, accepted, self.was_unknown);
    }

    fn headers<'a>(&'a self, authorization: &'a str) -> Vec<(&'static str, &'a str)> {
        let key = self.key.as_deref().map(|key| ("idempotency-key", key));
        [("authorization", authorization)].into_iter().chain(key).collect()
    }
}

/// A key that nobody else uses.
pub(super) fn new_key() -> String {
    Uuid::new_v4().to_string()
}

fn take(project: &Project, count: u64) -> (Vec<u64>, Vec<Event>) {
    let numbers = project.history.take_numbers(count);
    let events = numbers.iter().map(|&number| project.history.source.event(number)).collect();
    (numbers, events)
}

fn authorization(project: &Project) -> String {
    format!("Bearer {}", project.key)
}

pub(super) fn code(answer: &Answer) -> String {
    answer.json()["code"].as_str().unwrap_or("none").to_owned()
}
