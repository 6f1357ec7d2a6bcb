//! Constructors of answers. Only `routes` adds the headers that all answers share.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// An answer. Its body is small and complete in memory, except for the stream that feeds the status page.
pub type Answer = Response<Either<Full<Bytes>, EventStream>>;

/// Server-sent events, sent one by one.
pub type EventStream = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

pub fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Either::Left(Full::new(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}

/// An answer whose JSON is already written.
pub fn json_text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    with_type(status, "application/json", body.into())
}

/// # Panics
/// When the value has a map whose keys are not strings.
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    json_text(status, serde_json::to_vec(value).expect("answers have string keys and finite numbers"))
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = status;
    answer
}

pub fn event_stream(body: EventStream) -> Answer {
    let mut answer = Response::new(Either::Right(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer
}

/// Whether the answer goes on until its client leaves.
pub fn is_stream(answer: &Answer) -> bool {
    matches!(answer.body(), Either::Right(_))
}
