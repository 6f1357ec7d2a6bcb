//! `GET /healthz`: the process is alive. `GET /readyz`: a batch sent now would be accepted.
//!
//! Anyone may read the answers: a reason must never contain an address, a password or a key.

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use millrace_reconcile::health::Durability;
use serde::Serialize;

use crate::answer::{self, Answer};
use crate::service::Service;

const OK: &str = "ok";

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<String>,
    dependencies: Dependencies,
}

/// `ok` for each, or why it cannot be used.
#[derive(Serialize)]
struct Dependencies {
    stream: String,
    store: String,
}

/// Always 200.
pub fn alive() -> Answer {
    answer::json_text(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// 200, or 503 with the reasons.
pub async fn ready(service: &Service) -> Answer {
    let stream = stream_reasons(service).await;
    let store = service.accounts.fault();
    let mut reasons = own_reasons(service);
    reasons.extend(stream.iter().cloned());
    let dependencies = Dependencies {
        stream: if stream.is_empty() { OK.to_owned() } else { stream.join("; ") },
        store: store.unwrap_or_else(|| OK.to_owned()),
    };
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = answer::json(status, &Readiness { ready, reasons, dependencies });
    if !ready {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// The reasons why a batch sent now would be refused; empty when it would be accepted. An unreachable store
/// is not a reason, because batches are accepted without it.
pub async fn reasons(service: &Service) -> Vec<String> {
    let mut reasons = own_reasons(service);
    reasons.extend(stream_reasons(service).await);
    reasons
}

fn own_reasons(service: &Service) -> Vec<String> {
    let mut reasons = Vec::new();
    if service.draining() {
        reasons.push("the server is stopping".to_owned());
    }
    if !service.accounts.loaded() {
        reasons.push(because("the server has not read the keys yet", service.accounts.fault()));
    }
    reasons
}

async fn stream_reasons(service: &Service) -> Vec<String> {
    let mut reasons = Vec::new();
    let health = &service.stream_health;
    let answered = service.stream.epoch(0).await;
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
    if !health.is_durable_enough() {
        let reason = match health.demanded() {
            Durability::Replicated { .. } => "the stream has not confirmed that its replicas keep up with it",
            Durability::Strict | Durability::Relaxed => {
                "the stream has not confirmed that every write is on disk before it answers"
            }
        };
        reasons.push(because(reason, health.durability_fault()));
    }
    reasons
}

fn because(reason: &str, fault: Option<String>) -> String {
    fault.map_or_else(|| reason.to_owned(), |fault| format!("{reason}: {fault}"))
}
