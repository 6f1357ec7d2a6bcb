//! The headers of a post: dialect, content encoding, idempotency key, preference to wait. Pure: no I/O.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE};
use millrace_event::dialect::{Dialect, native};
use millrace_event::event::IDEMPOTENCY_KEY_BYTES_MAX;

use crate::encoding::Encoding;

/// Longest wait that a client can ask for, in seconds.
pub const WAIT_S_MAX: u64 = 30;

/// Why a header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    #[error(
        "the Content-Type is not supported; send application/json, or application/x-ndjson with one event per line"
    )]
    MediaType,
    /// Unknown, or several encodings.
    #[error("the Content-Encoding is not supported; send gzip or zstd, or do not compress the body")]
    Encoding,
    #[error("{name} must be {expected}")]
    Invalid { name: &'static str, expected: &'static str },
}

/// The native dialect that the `Content-Type` names. JSON without one, and for `text/plain`, which a browser
/// may send without a preflight request.
///
/// # Errors
/// [`HeaderError::MediaType`].
pub fn native_dialect(headers: &HeaderMap) -> Result<&'static Dialect, HeaderError> {
    let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(&native::JSON) };
    let value = value.to_str().map_err(|_| HeaderError::MediaType)?;
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    match essence.as_str() {
        "" | "application/json" | "text/plain" | "text/json" => Ok(&native::JSON),
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonl" => {
            Ok(&native::NDJSON)
        }
        other if other.starts_with("application/") && other.ends_with("+json") => Ok(&native::JSON),
        _ => Err(HeaderError::MediaType),
    }
}

/// The content encoding of the body.
///
/// # Errors
/// [`HeaderError::Encoding`].
pub fn content_encoding(headers: &HeaderMap) -> Result<Encoding, HeaderError> {
    let mut values = headers.get_all(CONTENT_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(Encoding::Identity) };
    if values.next().is_some() {
        return Err(HeaderError::Encoding);
    }
    let value = value.to_str().map_err(|_| HeaderError::Encoding)?.trim();
    let known = [
        ("gzip", Encoding::Gzip),
        ("x-gzip", Encoding::Gzip),
        ("zstd", Encoding::Zstd),
        ("identity", Encoding::Identity),
        ("", Encoding::Identity),
    ];
    let found = known.iter().find(|(name, _)| value.eq_ignore_ascii_case(name));
    found.map(|(_, encoding)| *encoding).ok_or(HeaderError::Encoding)
}

/// The value of `Idempotency-Key`.
///
/// # Errors
/// [`HeaderError::Invalid`].
pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<&str>, HeaderError> {
    let invalid = HeaderError::Invalid {
        name: "idempotency-key",
        expected: "one value of 1 to 255 visible ASCII characters",
    };
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().map_err(|_| invalid)?;
    let visible = key.bytes().all(|byte| byte.is_ascii_graphic());
    if !visible || !(1..=IDEMPOTENCY_KEY_BYTES_MAX).contains(&key.len()) || values.next().is_some() {
        return Err(invalid);
    }
    Ok(Some(key))
}

/// How long the client prefers to wait for the outcome: `Prefer: wait=SECONDS` (RFC 7240), at most 30
/// seconds. A preference that cannot be read is ignored.
pub fn preferred_wait(headers: &HeaderMap) -> Option<Duration> {
    let preferences = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    let seconds = preferences.flat_map(|value| value.split(',')).find_map(|preference| {
        let (name, value) = preference.split(';').next()?.split_once('=')?;
        let value = value.trim().trim_matches('"');
        if name.trim().eq_ignore_ascii_case("wait") { value.parse::<u64>().ok() } else { None }
    })?;
    (seconds > 0).then(|| Duration::from_secs(seconds.min(WAIT_S_MAX)))
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        headers
    }

    #[test]
    fn the_content_type_chooses_the_dialect() {
        let dialect = |value: &str| native_dialect(&headers(&[("content-type", value)]));
        assert_eq!(native_dialect(&headers(&[])), Ok(&native::JSON));
        for json in
            ["application/json", "Application/JSON; charset=utf-8", "text/plain", "application/x.y+json"]
        {
            assert_eq!(dialect(json), Ok(&native::JSON), "{json}");
        }
        for lines in ["application/x-ndjson", "application/ndjson;charset=utf-8", "application/jsonl"] {
            assert_eq!(dialect(lines), Ok(&native::NDJSON), "{lines}");
        }
        for other in ["text/html", "application/x-www-form-urlencoded", "multipart/form-data", "json"] {
            assert_eq!(dialect(other), Err(HeaderError::MediaType), "{other}");
        }
    }

    #[test]
    fn exactly_one_known_encoding_is_accepted() {
        let encoding = |value: &str| content_encoding(&headers(&[("content-encoding", value)]));
        assert_eq!(content_encoding(&headers(&[])), Ok(Encoding::Identity));
        assert_eq!(encoding("GZIP"), Ok(Encoding::Gzip));
        assert_eq!(encoding("zstd"), Ok(Encoding::Zstd));
        for other in ["br", "deflate", "gzip, gzip", "gzip,zstd"] {
            assert_eq!(encoding(other), Err(HeaderError::Encoding), "{other}");
        }
        let twice = headers(&[("content-encoding", "gzip"), ("content-encoding", "gzip")]);
        assert_eq!(content_encoding(&twice), Err(HeaderError::Encoding));
    }

    #[test]
    fn an_idempotency_key_is_1_to_255_visible_characters() {
        let key =
            |value: &str| idempotency_key(&headers(&[("idempotency-key", value)])).map(|key| key.is_some());
        assert_eq!(key("a"), Ok(true));
        assert_eq!(key(&"k".repeat(255)), Ok(true));
        for bad in ["", "two words", "tab\tbed"] {
            assert!(key(bad).is_err(), "{bad:?}");
        }
        assert!(key(&"k".repeat(256)).is_err());
        assert!(idempotency_key(&headers(&[("idempotency-key", "a"), ("idempotency-key", "a")])).is_err());
        let latin_1 = HeaderValue::from_bytes(b"caf\xe9").unwrap();
        assert!(
            idempotency_key(&HeaderMap::from_iter([(HeaderName::from_static("idempotency-key"), latin_1)]))
                .is_err()
        );
    }

    #[test]
    fn the_preference_to_wait_is_found_among_others_and_limited() {
        let wait = |value: &str| preferred_wait(&headers(&[("prefer", value)])).map(|wait| wait.as_secs());
        assert_eq!(wait("wait=5"), Some(5));
        assert_eq!(wait("respond-async, Wait = 7 ; x=y"), Some(7));
        assert_eq!(wait("wait=100000"), Some(WAIT_S_MAX));
        for none in ["wait=0", "wait=-1", "wait", "wait=soon", "return=minimal"] {
            assert_eq!(wait(none), None, "{none}");
        }
    }
}
