//! `POST /v1/events/cancel`: takes events back that were sent by mistake.

use hyper::StatusCode;
use millrace_event::dialect::without_nul;
use millrace_event::event::ClientIdentity;
use millrace_event::policy::Dedupe;
use millrace_store::{
    CANCEL_EVENTS_MAX, CANCEL_REASON_CHARS_MAX, CancelOrder, CancelOutcome, CancelledEvent, open_since,
};
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::answer::{self, Answer};
use crate::api_key::ApiKey;
use crate::body::Upload;
use crate::error::Problem;
use crate::problem_code::ProblemCode;
use crate::request::Request;
use crate::{headers, signature};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    events: Vec<NamedEvent>,
    reason: Option<String>,
}

/// An event by what its client sent.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedEvent {
    id: String,
    timestamp: Option<String>,
}

#[derive(Serialize)]
struct CancelReport {
    /// The number of events that this request has cancelled.
    cancelled: usize,
    events: Vec<EventReport>,
}

#[derive(Serialize)]
struct EventReport {
    index: usize,
    status: &'static str,
}

/// Why no event of the body can be looked for. A message must never repeat a part of the body.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CancelError {
    #[error(
        r#"the body must be JSON such as {{"events":[{{"id":"order-1","timestamp":"2026-11-21T09:30:00Z"}}],"reason":"why"}}: \
         an error in line {line}, column {column}"#
    )]
    Form { line: usize, column: usize },
    #[error(
        "events[{index}].timestamp must be an RFC 3339 time with a time zone, such as 2026-11-21T09:30:00.123Z"
    )]
    Timestamp { index: usize },
    #[error("the reason must have at most {CANCEL_REASON_CHARS_MAX} characters")]
    Reason,
    #[error("the body names no event; name at least one")]
    Empty,
    #[error("one request cancels at most {CANCEL_EVENTS_MAX} events; send several requests")]
    TooMany,
}

impl CancelError {
    pub fn code(&self) -> ProblemCode {
        match self {
            Self::Form { .. } | Self::Timestamp { .. } | Self::Reason => ProblemCode::InvalidJson,
            Self::Empty => ProblemCode::EmptyBatch,
            Self::TooMany => ProblemCode::TooManyEvents,
        }
    }
}

/// Cancels events of the key's project.
///
/// # Errors
/// Those of reading a body, 400 for a body in another form, 413 for too many events, 503 when the store
/// cannot be reached. Then nothing is cancelled, or the store has not said so: the request can be repeated.
pub async fn post(request: Request<'_>, upload: Upload, key: &ApiKey) -> Result<Answer, Problem> {
    let (service, all) = (request.service, &request.head.headers);
    let encoding = headers::content_encoding(all)?;
    let body = service.bodies.read(upload, encoding, request.body_bytes_max, Some(&key.project)).await?;
    signature::verify_now(&key.account, all, &body.raw)?;
    let mut order = order(&body.decoded, key)?;
    order.received_from = Some(open_since(OffsetDateTime::now_utc(), service.limits.cancel_days));
    let outcomes = service.reports.ask(service.store.cancel_events(&order)).await?;
    let cancelled = outcomes.iter().filter(|outcome| **outcome == CancelOutcome::Cancelled).count();
    if cancelled > 0 {
        tracing::info!(
            project = key.account.project.0,
            key = key.account.key_id,
            cancelled,
            "events were cancelled"
        );
    }
    let report = |(index, outcome): (usize, &CancelOutcome)| EventReport { index, status: outcome.into() };
    let events = outcomes.iter().enumerate().map(report).collect();
    Ok(answer::json(StatusCode::OK, &CancelReport { cancelled, events }))
}

fn order(body: &[u8], key: &ApiKey) -> Result<CancelOrder, CancelError> {
    let Body { events, reason } = serde_json::from_slice(body)
        .map_err(|error| CancelError::Form { line: error.line(), column: error.column() })?;
    if events.is_empty() {
        return Err(CancelError::Empty);
    }
    if events.len() > CANCEL_EVENTS_MAX {
        return Err(CancelError::TooMany);
    }
    let reason = reason.map(|reason| without_nul(&reason).into_owned());
    if reason.as_ref().is_some_and(|reason| reason.chars().count() > CANCEL_REASON_CHARS_MAX) {
        return Err(CancelError::Reason);
    }
    let by_id = key.account.policy.dedupe == Dedupe::Id;
    let events = events.iter().enumerate().map(|(index, event)| {
        let timestamp_us = event.timestamp.as_deref().map(microseconds).transpose();
        let timestamp_us = timestamp_us.map_err(|_| CancelError::Timestamp { index })?;
        let ClientIdentity { event_id, timestamp_us, .. } =
            ClientIdentity::of(&without_nul(&event.id), timestamp_us);
        Ok(CancelledEvent { event_id, timestamp_us, by_id })
    });
    Ok(CancelOrder {
        project: key.account.project,
        events: events.collect::<Result<_, _>>()?,
        by: format!("key {}", key.account.key_id),
        reason,
        received_from: None,
    })
}

/// Digits after the sixth are cut off, as in the timestamps of events.
fn microseconds(text: &str) -> Result<i64, time::error::Parse> {
    let time = OffsetDateTime::parse(text, &Rfc3339)?;
    Ok(i64::try_from(time.unix_timestamp_nanos().div_euclid(1_000)).expect("four-digit years fit"))
}
