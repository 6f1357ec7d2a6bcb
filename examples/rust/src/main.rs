//! Sends three events over HTTP, and retries with the same ids until the server has answered.
//!
//! ```sh
//! MILLRACE_URL=http://127.0.0.1:8080 MILLRACE_KEY=mk_... cargo run --manifest-path examples/rust/Cargo.toml
//! ```
//!
//! The ids and timestamps are fixed, so a second run stores nothing new. For `https` addresses, enable a TLS
//! feature of `ureq` in `Cargo.toml`.

use std::error::Error;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use ureq::Agent;

const ATTEMPTS: u32 = 8;
const TIMEOUT: Duration = Duration::from_secs(10);
/// A longer Retry-After means that the month's quota is used up: retrying now is of no use.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// What one attempt came to.
enum Attempt {
    Accepted(Value),
    /// The same batch would be refused again.
    Refused(String),
    /// The server asked for another attempt, or no answer came. The batch may have been accepted anyway.
    Retry {
        reason: String,
        after: Option<Duration>,
    },
}

fn main() -> Result<(), Box<dyn Error>> {
    let key = std::env::var("MILLRACE_KEY").unwrap_or_default();
    if key.is_empty() {
        return Err("set MILLRACE_KEY to a key of your project".into());
    }
    let url = std::env::var("MILLRACE_URL").unwrap_or_else(|_| "http://127.0.0.1:8080".to_owned());
    let answer = send(&url, &key, &events())?;
    println!("{answer}");
    match answer["rejected"].as_array() {
        Some(rejected) if rejected.is_empty() => Ok(()),
        _ => Err("some events were rejected".into()),
    }
}

fn events() -> Value {
    json!({ "events": [
        { "name": "order_completed", "subject": "user-1", "id": "rust-order-1001",
          "timestamp": "2026-01-15T10:00:00Z", "properties": { "revenue": 19.9, "currency": "EUR" } },
        { "name": "order_completed", "subject": "user-2", "id": "rust-order-1002",
          "timestamp": "2026-01-15T10:05:00Z", "properties": { "revenue": 5.0, "currency": "EUR" } },
        { "name": "order_refunded", "subject": "user-1", "id": "rust-refund-1001",
          "timestamp": "2026-01-15T11:00:00Z", "properties": { "revenue": 19.9, "currency": "EUR" } },
    ] })
}

/// Posts a batch and returns the answer.
fn send(url: &str, key: &str, batch: &Value) -> Result<Value, Box<dyn Error>> {
    let agent: Agent =
        Agent::config_builder().http_status_as_error(false).timeout_global(Some(TIMEOUT)).build().into();
    let mut failed: Option<(String, Duration)> = None;
    for attempt in 0..ATTEMPTS {
        if let Some((reason, wait)) = &failed {
            eprintln!("attempt {attempt} failed: {reason}; retrying in {wait:?}");
            sleep(*wait);
        }
        match post(&agent, url, key, batch) {
            Attempt::Accepted(answer) => return Ok(answer),
            Attempt::Refused(reason) => return Err(format!("refused: {reason}").into()),
            Attempt::Retry { reason, after } => {
                failed = Some((reason, after.unwrap_or(Duration::from_secs(1 << attempt.min(5)))));
            }
        }
    }
    let (reason, _) = failed.ok_or("no attempt was made")?;
    Err(format!("gave up after {ATTEMPTS} attempts: {reason}").into())
}

fn post(agent: &Agent, url: &str, key: &str, batch: &Value) -> Attempt {
    let request = agent
        .post(format!("{url}/v1/events"))
        .header("authorization", format!("Bearer {key}"))
        .content_type("application/json");
    let answered = request.send(batch.to_string()).and_then(|mut response| {
        let after = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        Ok((
            response.status().as_u16(),
            after.map(Duration::from_secs),
            response.body_mut().read_to_string()?,
        ))
    });
    match answered {
        Ok((200..=299, _, body)) => match serde_json::from_str(&body) {
            Ok(answer) => Attempt::Accepted(answer),
            Err(error) => Attempt::Refused(format!("the answer is not JSON: {error}")),
        },
        Ok((status @ (408 | 429 | 500..), after, body)) if after.is_none_or(|wait| wait <= WAIT_MAX) => {
            Attempt::Retry { reason: format!("{status} {body}"), after }
        }
        Ok((status, _, body)) => Attempt::Refused(format!("{status} {body}")),
        Err(error) => Attempt::Retry { reason: error.to_string(), after: None },
    }
}
