//! The protocols of SDKs: how the SDKs of a family pack a body, in which dialect, and which answers they take
//! for success, for a reason to come back, and for a final refusal. One file for each family.
//!
//! An SDK that is answered in another way than its own sends a batch again and again, or drops it. So an
//! answer here is exactly what the SDK expects, and 2xx always means that every event of the batch is stored
//! or is a dead letter.

pub mod amplitude;
pub mod cloudevents;
pub mod jitsu;
pub mod lago;
pub mod mixpanel;
pub mod otlp;
pub mod posthog;
pub mod segment;
pub mod snowplow;

use std::sync::Arc;

use bytes::Bytes;
use hyper::http::request::Parts;
use hyper::{HeaderMap, Method, StatusCode};
use millrace_event::dialect::Dialect;
use millrace_failpoint::{self as failpoint, Point};
use serde_json::Value;

use crate::answer::{self, Answer};
use crate::api_key::ApiKey;
use crate::auth::{self, CredentialsError};
use crate::body::Upload;
use crate::body_reader::RequestBody;
use crate::encoding::Encoding;
use crate::error::Problem;
use crate::form::FormKind;
use crate::headers;
use crate::ingest::{IngestOptions, Receipt, accept, refuse_if_blocked};
use crate::packing::{self, Packing, Unpacked};
use crate::problem_code::ProblemCode;
use crate::project::Project;
use crate::request::{Refusal, Request};

/// The other protocol of a path, for headers and JSON that are of it.
type Choice = fn(&HeaderMap, &[u8]) -> Option<&'static Protocol>;

/// What one route of a family takes and answers.
pub struct Protocol {
    pub dialect: &'static Dialect,
    packing: Packing,
    /// The member of an event that names it in the answer, if the answer names events.
    id_member: Option<&'static str>,
    /// Adds what the headers say of the events to their JSON.
    complete: Option<fn(&HeaderMap, Bytes) -> Bytes>,
    /// Another protocol of the same path, if the headers and the JSON are of it.
    choose: Option<Choice>,
    /// The answer to a body without an event, if the protocol takes it for success.
    empty: Option<fn() -> Answer>,
    success: fn(&Parts, &Receipt) -> Answer,
    /// The answer to a refused request.
    pub refusal: fn(&Problem) -> Answer,
}

/// The body of a post.
pub enum SdkBody {
    /// Read already, because the key is in it.
    Read(RequestBody),
    Unread(Upload, Encoding),
}

/// Finds the key of a post: in the headers, in the query, or in the body, which is then read.
///
/// # Errors
/// `unauthenticated`, `forbidden`, `overloaded` before the accounts have been read, and those of reading a
/// body.
pub async fn caller(
    request: Request<'_>,
    upload: Upload,
    protocol: &'static Protocol,
) -> Result<(Arc<ApiKey>, SdkBody), Refusal> {
    let service = request.service;
    let encoding = headers::content_encoding(&request.head.headers)?;
    if let Some(key) = caller_in_head(request)? {
        return Ok((key, SdkBody::Unread(upload, encoding)));
    }
    let (body, in_form) = read_body(request, upload, encoding, None, protocol.packing).await?;
    let key = match in_form {
        KeysInForm { key: Some(key), .. } => auth::checked_key(key)?,
        KeysInForm { api_key, .. } => {
            let decoded = body.decoded.clone();
            let find = move || auth::key_in_body(protocol.dialect, &decoded);
            match (service.bodies.offload.run(body.decoded.len(), find).await, api_key) {
                (Err(CredentialsError::Missing), Some(key)) => auth::checked_key(key)?,
                (found, _) => found?,
            }
        }
    };
    Ok((request.admit(&key)?, SdkBody::Read(body)))
}

/// The key in the headers, or in the query. `None` when both have none.
fn caller_in_head(request: Request<'_>) -> Result<Option<Arc<ApiKey>>, Refusal> {
    if let Some(key) = request.beacon_caller()? {
        return Ok(Some(key));
    }
    match auth::write_key_in_headers(&request.head.headers) {
        Err(CredentialsError::Missing) => Ok(None),
        key => request.admit(&key?).map(Some),
    }
}

/// The keys in a form.
#[derive(Default)]
struct KeysInForm {
    key: Option<String>,
    api_key: Option<String>,
}

/// Reads and unpacks a body.
async fn read_body(
    request: Request<'_>,
    upload: Upload,
    encoding: Encoding,
    sender: Option<&Project>,
    packing: Packing,
) -> Result<(RequestBody, KeysInForm), Problem> {
    let bodies = &request.service.bodies;
    let mut body = bodies.read(upload, encoding, request.body_bytes_max, sender).await?;
    let mut kind = FormKind::of(&request.head.headers);
    if request.head.method == Method::GET {
        // The query is the form.
        let query = request.head.uri.query().unwrap_or_default();
        body.reservation.grow(query.len())?;
        body.decoded = Bytes::copy_from_slice(query.as_bytes());
        kind = Some(FormKind::UrlEncoded);
    }
    if kind.is_none() && packing == Packing::Plain {
        return Ok((body, KeysInForm::default()));
    }
    let (decoded, bytes_max) = (body.decoded.clone(), request.service.limits.body_decoded_bytes_max);
    let unpack = move || packing::unpack(packing, kind.as_ref(), decoded, bytes_max);
    let Unpacked { json, key, api_key } = bodies.offload.run(body.decoded.len(), unpack).await?;
    if json.as_ptr() != body.decoded.as_ptr() {
        body.reservation.grow(json.len())?;
        body.decoded = json;
    }
    Ok((body, KeysInForm { key, api_key }))
}

/// Takes a batch of an SDK.
///
/// # Errors
/// Those of the steps of [`crate::ingest`].
pub async fn post(
    request: Request<'_>,
    body: SdkBody,
    key: &ApiKey,
    protocol: &'static Protocol,
) -> Result<Answer, Problem> {
    failpoint::reach(Point::AfterAuth);
    let mut options = IngestOptions::read(protocol.dialect, request, key)?;
    refuse_if_blocked(key, &options)?;
    let mut body = match body {
        SdkBody::Read(body) => body,
        SdkBody::Unread(upload, encoding) => {
            read_body(request, upload, encoding, Some(&key.project), protocol.packing).await?.0
        }
    };
    if let Some(complete) = protocol.complete {
        let sent_bytes = body.decoded.len();
        body.decoded = complete(&request.head.headers, body.decoded);
        if body.decoded.len() > sent_bytes {
            body.reservation.grow(body.decoded.len())?;
        }
    }
    let chosen = protocol.choose.and_then(|choose| choose(&request.head.headers, &body.decoded));
    let protocol = chosen.unwrap_or(protocol);
    options.dialect = protocol.dialect;
    options.id_member = protocol.id_member;
    match (accept(request.service, &options, body, key, false).await, protocol.empty) {
        (Ok(receipt), _) => Ok((protocol.success)(request.head, &receipt)),
        (Err(problem), Some(empty)) if problem.code == ProblemCode::EmptyBatch => Ok(empty()),
        (Err(problem), _) => Err(problem),
    }
}

/// The status of a limit for SDKs that drop a batch after 429, or send it again at once.
fn later(problem: &Problem) -> Option<StatusCode> {
    (problem.code.status() == StatusCode::TOO_MANY_REQUESTS).then_some(StatusCode::SERVICE_UNAVAILABLE)
}

/// 200 with JSON, which most SDKs take for success, and no other 2xx.
fn ok(json: impl Into<Bytes>) -> Answer {
    answer::json_text(StatusCode::OK, json)
}

/// The JSON of an object with one member more, at its start. Any other JSON is not changed.
fn with_member(json: Bytes, name: &str, value: &str) -> Bytes {
    let text = json.trim_ascii_start();
    let Some(rest) = text.strip_prefix(b"{").filter(|rest| !rest.trim_ascii_start().starts_with(b"}")) else {
        return json;
    };
    let member = format!("{{{}:{},", Value::from(name), Value::from(value));
    [member.as_bytes(), rest].concat().into()
}
