//! How answers are made. Only [`crate::routes`] adds the headers that all of them share.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Response, StatusCode};
use serde::Serialize;

/// An answer: the body is always whole in memory, and small.
pub type Answer = Response<Full<Bytes>>;

/// An answer of any type.
pub fn with_type(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
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
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = status;
    answer
}
