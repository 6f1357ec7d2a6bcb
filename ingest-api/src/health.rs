//! `GET /healthz`: the process is alive. `GET /readyz`: a batch sent now would be accepted, if it belongs to
//! a shard that has no fault. While one shard can take batches, the process must stay in the load balancer.
//!
//! Anyone may read the answers: a reason must never contain an address, a password or a key.

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use millrace_reconcile::readiness::{Needs, Readiness, stream_faults};

use crate::answer::{self, Answer};
use crate::service::Service;

/// Always 200.
pub fn alive() -> Answer {
    answer::json_text(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// 200, or 503 with the reasons. With 200, the reasons name the shards that cannot take batches.
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
    let stream = stream_faults(&service.stream, &service.stream_health, Needs::Durability).await;
    Readiness::new(own_reasons(service), &stream, service.accounts.fault())
}

/// The reasons why a batch sent now would be refused, or one of some shards; empty when every one would be
/// accepted. An unreachable store is not a reason, because batches are accepted without it.
pub async fn reasons(service: &Service) -> Vec<String> {
    let mut reasons = own_reasons(service);
    let stream = stream_faults(&service.stream, &service.stream_health, Needs::Durability).await;
    reasons.extend(stream.reasons);
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

fn because(reason: &str, fault: Option<String>) -> String {
    fault.map_or_else(|| reason.to_owned(), |fault| format!("{reason}: {fault}"))
}
