//! The headers of a post: dialect, content encoding, idempotency key, preference to wait. Pure: no I/O.

use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use millrace_event::dialect::{Dialect, native};
use millrace_event::event::IDEMPOTENCY_KEY_BYTES_MAX;

use crate::encoding::Encoding;

/// Longest wait that a client can ask for, in seconds.
pub const WAIT_S_MAX: u64 = 30;

const ACCEPTED_TYPES: &str = "send application/json, text/json or text/plain for JSON, or application/x-ndjson, \
                              application/ndjson or application/jsonl for one event per line";

/// Why a header is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("the Content-Type is not supported; {ACCEPTED_TYPES}")]
    MediaType,
    /// What `curl -d` and HTML forms send.
    #[error(
        "the Content-Type is that of a form, as curl -d sends it; add -H 'Content-Type: application/json'; \
         {ACCEPTED_TYPES}"
    )]
    Form,
    /// Such as CloudEvents: every event would be refused for its unknown fields.
    #[error(
        "a Content-Type that ends with +json is another format than Millrace's own JSON; {ACCEPTED_TYPES}"
    )]
    OtherJson,
    #[error("the charset of the Content-Type is not supported; send UTF-8")]
    Charset,
    /// Unknown, or several encodings.
    #[error(
        "the Content-Encoding is not supported; send one of gzip, deflate and zstd, or do not compress the body"
    )]
    Encoding,
    #[error("{name} must be {expected}")]
    Invalid { name: &'static str, expected: &'static str },
}

/// The native dialect that the `Content-Type` names. JSON without one, and for `text/plain`, which a browser
/// may send without a preflight request. A repeated header must name the same dialect.
///
/// # Errors
/// [`HeaderError::MediaType`], [`HeaderError::Form`], [`HeaderError::OtherJson`] or
/// [`HeaderError::Charset`].
pub fn native_dialect(headers: &HeaderMap) -> Result<&'static Dialect, HeaderError> {
    let mut values = headers.get_all(CONTENT_TYPE).iter();
    let Some(value) = values.next() else { return Ok(&native::JSON) };
    let dialect = dialect_of_type(value)?;
    for other in values {
        if dialect_of_type(other)? != dialect {
            return Err(HeaderError::MediaType);
        }
    }
    Ok(dialect)
}

fn dialect_of_type(value: &HeaderValue) -> Result<&'static Dialect, HeaderError> {
    let value = value.to_str().map_err(|_| HeaderError::MediaType)?;
    let mut parts = value.split(';');
    let essence = parts.next().unwrap_or_default().trim().to_ascii_lowercase();
    let dialect = match essence.as_str() {
        "" | "application/json" | "text/plain" | "text/json" => &native::JSON,
        "application/x-ndjson" | "application/ndjson" | "application/jsonl" | "application/x-jsonl" => {
            &native::NDJSON
        }
        "application/x-www-form-urlencoded" => return Err(HeaderError::Form),
        other if other.ends_with("+json") => return Err(HeaderError::OtherJson),
        _ => return Err(HeaderError::MediaType),
    };
    if parts.all(has_supported_charset) { Ok(dialect) } else { Err(HeaderError::Charset) }
}

/// Whether a parameter of a media type is not a charset, or one whose ASCII characters are those of UTF-8.
/// Java's HTTP clients declare ISO-8859-1 unless told otherwise, also for plain ASCII. Its other letters are
/// not valid UTF-8, and are refused when the body is read.
fn has_supported_charset(parameter: &str) -> bool {
    let Some((name, value)) = parameter.split_once('=') else { return true };
    if !name.trim().eq_ignore_ascii_case("charset") {
        return true;
    }
    let value = value.trim().trim_matches(['"', '\'']);
    ["utf-8", "utf8", "us-ascii", "ascii", "iso-8859-1", ""]
        .iter()
        .any(|known| value.eq_ignore_ascii_case(known))
}

/// Checks that the `Content-Type` is one that [`native_dialect`] takes for JSON.
///
/// # Errors
/// As [`native_dialect`].
pub fn json_only(headers: &HeaderMap) -> Result<(), HeaderError> {
    if native_dialect(headers)? == &native::JSON { Ok(()) } else { Err(HeaderError::MediaType) }
}

/// The content encoding of the body. The header is a list (RFC 9110, section 8.4): `identity` and empty
/// members change nothing, and at most one other may remain.
///
/// # Errors
/// [`HeaderError::Encoding`].
pub fn content_encoding(headers: &HeaderMap) -> Result<Encoding, HeaderError> {
    let mut encoding = Encoding::Identity;
    for value in headers.get_all(CONTENT_ENCODING) {
        for name in value.to_str().map_err(|_| HeaderError::Encoding)?.split(',') {
            match (encoding, encoding_named(name.trim())?) {
                (_, Encoding::Identity) => {}
                (Encoding::Identity, named) => encoding = named,
                _ => return Err(HeaderError::Encoding),
            }
        }
    }
    Ok(encoding)
}

fn encoding_named(name: &str) -> Result<Encoding, HeaderError> {
    let known = [
        ("gzip", Encoding::Gzip),
        ("x-gzip", Encoding::Gzip),
        ("deflate", Encoding::Deflate),
        ("zstd", Encoding::Zstd),
        ("identity", Encoding::Identity),
        ("", Encoding::Identity),
    ];
    let found = known.iter().find(|(known, _)| name.eq_ignore_ascii_case(known));
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
    use hyper::header::HeaderName;

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
        for json in ["", "application/json", "Application/JSON; charset=utf-8", "text/plain", "text/json;"] {
            assert_eq!(dialect(json), Ok(&native::JSON), "{json}");
        }
        for lines in ["application/x-ndjson", "application/ndjson;charset=utf-8", "application/jsonl"] {
            assert_eq!(dialect(lines), Ok(&native::NDJSON), "{lines}");
        }
        for other in ["text/html", "multipart/form-data", "json", "application/json, application/json"] {
            assert_eq!(dialect(other), Err(HeaderError::MediaType), "{other}");
        }
        for form in ["application/x-www-form-urlencoded", "Application/X-WWW-Form-URLEncoded; charset=UTF-8"]
        {
            assert_eq!(dialect(form), Err(HeaderError::Form), "{form}");
        }
    }

    #[test]
    fn a_type_of_another_json_format_is_not_taken_for_native_json() {
        for other in [
            "application/cloudevents+json",
            "application/cloudevents-batch+json; charset=utf-8",
            "Application/CloudEvents+JSON",
            "application/vnd.api+json",
            "application/ld+json",
            "application/problem+json",
            "application/reports+json",
            "model/gltf+json",
        ] {
            assert_eq!(
                native_dialect(&headers(&[("content-type", other)])),
                Err(HeaderError::OtherJson),
                "{other}"
            );
        }
        for error in [HeaderError::MediaType, HeaderError::OtherJson, HeaderError::Form] {
            for accepted in ["application/json", "text/plain", "application/x-ndjson"] {
                assert!(error.to_string().contains(accepted), "{error}");
            }
        }
    }

    #[test]
    fn a_charset_that_is_not_a_superset_of_ascii_is_refused() {
        let dialect = |value: &str| native_dialect(&headers(&[("content-type", value)]));
        for supported in [
            "charset=UTF-8",
            "charset=\"utf-8\"",
            " Charset = utf8",
            "charset=ISO-8859-1",
            "version=1;charset=us-ascii",
        ] {
            let json = format!("application/json;{supported}");
            assert_eq!(dialect(&json), Ok(&native::JSON), "{json}");
        }
        for other in ["utf-16", "UTF-16LE", "utf-32", "utf-7", "shift_jis", "ibm037", "iso-8859-15"] {
            for media_type in ["application/json", "application/x-ndjson", "text/plain"] {
                let value = format!("{media_type}; charset={other}");
                assert_eq!(dialect(&value), Err(HeaderError::Charset), "{value}");
            }
        }
        assert_eq!(dialect("application/json; charset=utf-8; charset=utf-16"), Err(HeaderError::Charset));
    }

    #[test]
    fn a_repeated_content_type_must_name_the_same_dialect() {
        let twice = |one, two| native_dialect(&headers(&[("content-type", one), ("content-type", two)]));
        assert_eq!(twice("application/json", "text/plain"), Ok(&native::JSON));
        assert_eq!(twice("application/json", "application/x-ndjson"), Err(HeaderError::MediaType));
        assert_eq!(twice("application/json", "application/cloudevents+json"), Err(HeaderError::OtherJson));
    }

    #[test]
    fn at_most_one_encoding_other_than_identity_is_accepted() {
        let encoding = |value: &str| content_encoding(&headers(&[("content-encoding", value)]));
        assert_eq!(content_encoding(&headers(&[])), Ok(Encoding::Identity));
        assert_eq!(encoding("GZIP"), Ok(Encoding::Gzip));
        assert_eq!(encoding("zstd"), Ok(Encoding::Zstd));
        for (same, as_this) in [
            ("x-gzip", Encoding::Gzip),
            ("deflate", Encoding::Deflate),
            ("Deflate ", Encoding::Deflate),
            ("identity", Encoding::Identity),
            ("", Encoding::Identity),
            (" , ", Encoding::Identity),
            ("identity, gzip", Encoding::Gzip),
            ("gzip,", Encoding::Gzip),
        ] {
            assert_eq!(encoding(same), Ok(as_this), "{same:?}");
        }
        for other in [
            "br",
            "compress",
            "gzip, gzip",
            "gzip,zstd",
            "gzip, deflate",
            "deflate, identity, deflate",
            "gzip;q=1",
            "*",
        ] {
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
