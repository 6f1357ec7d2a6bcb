//! `GET /healthz`: the process is alive. `GET /readyz`: a batch sent now would be accepted.
//!
//! Anyone may read the answers: a reason must never contain an address, a password or a key.

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use millrace_reconcile::readiness::{self, Readiness};

use crate::answer::{self, Answer};
use crate::service::Service;

/// Always 200.
pub fn alive() -> Answer {
    answer::json_text(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// 200, or 503 with the reasons.
pub async fn ready(service: &Service) -> Answer {
    let readiness = readiness(service).await;
    let status = if readiness.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = answer::json(status, &readiness);
    if !readiness.is_ready() {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// Whether a batch sent now would be accepted.
pub async fn readiness(service: &Service) -> Readiness {
    let stream = stream_reasons(service).await;
    let mut reasons = own_reasons(service);
    reasons.extend(stream.iter().cloned());
    Readiness::new(reasons, &stream, service.accounts.fault())
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
    let health = &service.stream_health;
    let mut reasons = readiness::stream_reasons(&service.stream, health).await;
    if !health.is_durable_enough() {
        let reason = "the stream has not confirmed that every write is on disk before it answers";
        reasons.push(because(reason, health.durability_fault()));
    }
    reasons
}

fn because(reason: &str, fault: Option<String>) -> String {
    fault.map_or_else(|| reason.to_owned(), |fault| format!("{reason}: {fault}"))
}
