//! Cross-origin requests (Fetch, "CORS protocol"). Any origin may post, because a key in a page is public.
//! The browser must never send its own credentials, such as cookies.

use hyper::StatusCode;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, HeaderMap, HeaderValue,
};

use crate::answer::{self, Answer};

const ALLOW_HEADERS: HeaderValue = HeaderValue::from_static(
    "authorization, content-type, content-encoding, idempotency-key, prefer, x-retry-count, webhook-id, \
     webhook-timestamp, webhook-signature",
);
/// Seconds for which a browser may keep the answer to a preflight request. Browsers keep it no longer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const ANY: HeaderValue = HeaderValue::from_static("*");
const EXPOSE_HEADERS: HeaderValue =
    HeaderValue::from_static("RateLimit, RateLimit-Policy, Retry-After, Preference-Applied");

/// The answer to a preflight request.
pub fn preflight() -> Answer {
    let mut answer = answer::empty(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST, OPTIONS"));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    answer
}

/// Adds the headers that let a page of any origin read an answer. Errors need them, too.
pub fn allow_any_origin(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
}
