//! Whether a process can do its work, as `GET /readyz` of every program answers it.
//!
//! Anyone may read the answers: a reason must never contain an address, a password or a key.

use millrace_stream::SharedStream;
use serde::Serialize;

use crate::health::StreamHealth;

const OK: &str = "ok";

/// The answer of one process.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Readiness {
    ready: bool,
    reasons: Vec<String>,
    dependencies: Dependencies,
}

/// `ok` for each, or why it cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
struct Dependencies {
    stream: String,
    store: String,
}

impl Readiness {
    /// A process is ready when there are no `reasons` against it. `stream` and `store` say why these cannot
    /// be used; neither is a reason by itself, because not every process needs both.
    pub fn new(reasons: Vec<String>, stream: &[String], store: Option<String>) -> Self {
        let dependencies = Dependencies {
            stream: if stream.is_empty() { OK.to_owned() } else { stream.join("; ") },
            store: store.unwrap_or_else(|| OK.to_owned()),
        };
        Self { ready: reasons.is_empty(), reasons, dependencies }
    }

    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// The body of the answer.
    ///
    /// # Panics
    /// Never: texts can always be written as JSON.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts can be written as JSON")
    }
}

/// Why batches can neither be admitted to the stream nor settled; empty when they can.
pub async fn stream_reasons(stream: &SharedStream, health: &StreamHealth) -> Vec<String> {
    let mut reasons = Vec::new();
    let answered = stream.epoch(0).await;
    match (answered, health.stream_fault()) {
        (Err(error), _) => reasons.push(format!("the stream cannot be reached: {}", error.reason())),
        (Ok(_), Some(fault)) => reasons.push(format!("the stream cannot be used: {fault}")),
        (Ok(_), None) if !health.is_epoch_trusted() => reasons.push(match health.epoch_fault() {
            Some(fault) => format!("the stream's epoch is not confirmed: {fault}"),
            None => "the stream's epoch differs from the recorded one and its counters are not rebuilt yet"
                .to_owned(),
        }),
        (Ok(_), None) => {}
    }
    reasons
}
