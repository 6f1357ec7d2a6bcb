//! `GET /healthz`: the process is alive. `GET /readyz`: a batch sent now would be accepted.

use hyper::StatusCode;
use hyper::header::{HeaderValue, RETRY_AFTER};
use serde::Serialize;

use crate::answer::{self, Answer};
use crate::service::Service;

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    reasons: Vec<&'static str>,
}

/// Always 200.
pub fn alive() -> Answer {
    answer::json_text(StatusCode::OK, r#"{"status":"ok"}"#)
}

/// 200, or 503 with the reasons.
pub async fn ready(service: &Service) -> Answer {
    let reasons = reasons(service).await;
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut answer = answer::json(status, &Readiness { ready, reasons });
    if !ready {
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    answer
}

/// The reasons why a batch sent now would be refused; empty when it would be accepted. An unreachable store
/// is not a reason, because batches are accepted without it.
pub async fn reasons(service: &Service) -> Vec<&'static str> {
    let mut reasons = Vec::new();
    if service.draining() {
        reasons.push("the server is stopping");
    }
    if !service.accounts.loaded() {
        reasons.push("the server has not read the keys yet");
    }
    match service.stream.epoch(0).await {
        Err(_) => reasons.push("the stream cannot be reached"),
        Ok(_) if !service.stream_health.is_epoch_trusted() => {
            reasons.push(
                "the stream's epoch differs from the recorded one and its counters are not rebuilt yet",
            );
        }
        Ok(_) => {}
    }
    if !service.stream_health.is_durable_enough() {
        reasons.push("the stream has not confirmed that every write is on disk before it answers");
    }
    reasons
}
