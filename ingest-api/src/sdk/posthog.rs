//! PostHog's protocols: `/batch/` and its relatives, and version 1, which answers each event by its id. Also
//! what `posthog-js` asks for before it sends anything: no feature flags, and nothing that would make it load
//! code from its vendor.
//!
//! `posthog-js` drops a batch after any 4xx, and the SDK for Python after any but 408 and 429. So a request
//! that may succeed later is always answered with 503.

use bytes::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::http::request::Parts;
use hyper::{HeaderMap, StatusCode};
use millrace_event::dialect::posthog;
use millrace_event::event::Rejection;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::{Protocol, later, ok, with_member};
use crate::answer::{self, Answer};
use crate::auth::{self, CredentialsError};
use crate::error::Problem;
use crate::ingest::Receipt;
use crate::packing::Packing;
use crate::request::{Refusal, Request};

/// `/batch/`, `/capture/`, `/e/` and `/i/v0/e/`.
pub static CAPTURE: Protocol = Protocol {
    dialect: &posthog::CAPTURE,
    packing: Packing::Detected,
    id_member: None,
    complete: None,
    choose: None,
    empty: None,
    success: |_, _| ok(r#"{"status":1}"#),
    refusal,
};

/// `/i/v1/analytics/events`
pub static ANALYTICS: Protocol = Protocol {
    dialect: &posthog::CAPTURE,
    packing: Packing::Detected,
    id_member: Some("uuid"),
    complete: Some(with_sdk_info),
    choose: None,
    empty: None,
    success: results,
    refusal,
};

/// Version 1 names the SDK in a header only.
fn with_sdk_info(headers: &HeaderMap, json: Bytes) -> Bytes {
    match headers.get("posthog-sdk-info").and_then(|info| info.to_str().ok()) {
        Some(info) => with_member(json, posthog::SDK_INFO, info),
        None => json,
    }
}

/// The events that became dead letters, by their ids. An event that is not named was accepted.
fn results(_head: &Parts, receipt: &Receipt) -> Answer {
    let dropped = |(id, rejection): (&Option<String>, &Rejection)| {
        let id = id.clone()?;
        Some((id, json!({ "result": "drop", "details": rejection.message })))
    };
    let results: Map<_, _> = receipt.dead_ids.iter().zip(&receipt.dead).filter_map(dropped).collect();
    ok(json!({ "results": results }).to_string())
}

fn refusal(problem: &Problem) -> Answer {
    later(problem).map_or_else(|| problem.answer(), |status| problem.answer_with(status))
}

/// `POST /flags` and `POST /decide`: there are no feature flags. The body is not read.
pub fn flags() -> Answer {
    answer::json(StatusCode::OK, &settings())
}

/// `GET /array/KEY/config`
///
/// # Errors
/// `unauthenticated` and `forbidden`.
pub fn config(request: Request<'_>) -> Result<Answer, Refusal> {
    key_in_path(request)?;
    Ok(answer::json(StatusCode::OK, &settings()))
}

/// `GET /array/KEY/config.js`: the same as a script, in the variable where the SDK looks for it.
///
/// # Errors
/// `unauthenticated` and `forbidden`.
pub fn config_script(request: Request<'_>) -> Result<Answer, Refusal> {
    let key = Value::String(key_in_path(request)?);
    let settings = json!({ "config": settings(), "siteApps": [] });
    let script = format!(
        "(window._POSTHOG_REMOTE_CONFIG = window._POSTHOG_REMOTE_CONFIG || {{}})[{key}] = {settings};\n"
    );
    let mut answer = answer::json_text(StatusCode::OK, script);
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/javascript; charset=utf-8"));
    Ok(answer)
}

fn key_in_path(request: Request<'_>) -> Result<String, Refusal> {
    let key = percent_decode_str(request.id).decode_utf8().map_err(|_| CredentialsError::Malformed)?;
    let key = auth::checked_key(key.into_owned())?;
    request.admit(&key)?;
    Ok(key)
}

/// Everything that the SDK would load more code for is off.
fn settings() -> Value {
    json!({
        "flags": {},
        "featureFlags": {},
        "featureFlagPayloads": {},
        "errorsWhileComputingFlags": false,
        "hasFeatureFlags": false,
        "supportedCompression": ["gzip", "gzip-js"],
        "sessionRecording": false,
        "heatmaps": false,
        "surveys": false,
        "productTours": false,
        "conversations": false,
        "logs": false,
        "siteApps": [],
        "toolbarParams": {},
        "isAuthenticated": false,
        "capturePerformance": false,
        "captureDeadClicks": false,
        "autocaptureExceptions": false,
        "defaultIdentifiedOnly": true,
    })
}

#[cfg(test)]
mod tests {
    use hyper::header::RETRY_AFTER;

    use super::*;

    #[test]
    fn a_limit_is_answered_with_a_status_after_which_every_sdk_comes_back() {
        let answer = refusal(&Problem::rate_limited(2_000_000));
        assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.headers()[RETRY_AFTER], "2");
        assert_eq!(refusal(&Problem::idempotency_conflict()).status(), StatusCode::UNPROCESSABLE_ENTITY);
    }
}
