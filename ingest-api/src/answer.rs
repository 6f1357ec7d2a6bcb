//! How answers are made. Only [`crate::routes`] adds the headers that all of them share.

use std::convert::Infallible;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use http_body_util::{Either, Full, StreamBody};
use hyper::body::Frame;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// An answer: the body is whole in memory, and small; only the status page is told things one after the other.
pub type Answer = Response<Either<Full<Bytes>, Told>>;

/// A body that is sent piece by piece.
pub type Told = StreamBody<BoxStream<'static, Result<Frame<Bytes>, Infallible>>>;

/// An answer of any type.
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

/// An answer of anything that is JSON.
pub fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    json_text(status, serde_json::to_vec(value).expect("our answers have string keys and finite numbers"))
}

/// An answer without a body.
pub fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(Either::Left(Full::default()));
    *answer.status_mut() = status;
    answer
}

/// An answer of server-sent events.
pub fn event_stream(body: Told) -> Answer {
    let mut answer = Response::new(Either::Right(body));
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    answer
}
