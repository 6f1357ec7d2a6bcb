//! The key of a request, from its headers, from the query of a beacon, or from the body of an SDK. It must
//! never be logged or repeated in an answer.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use hyper::HeaderMap;
use hyper::header::AUTHORIZATION;
use millrace_event::dialect::Dialect;
use millrace_event::key::KEY_MEMBER;
use percent_encoding::percent_decode_str;

/// Longest key that is looked up, in bytes. Generated keys are shorter.
const KEY_BYTES_MAX: usize = 512;
/// The header of Jitsu's SDKs, and of no other.
const WRITE_KEY: &str = "x-write-key";

/// Why there is no key to look up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("no key was sent; send Authorization: Bearer KEY, or Basic with the key as user name")]
    Missing,
    #[error(
        "the Authorization header cannot be read; send exactly one: Bearer KEY, or Basic with the key as user name"
    )]
    Malformed,
    #[error("writeKey in the query cannot be read; send it once, with the key as its value")]
    MalformedQuery,
    #[error("the X-Write-Key header cannot be read; send exactly one: ID:SECRET, with the key as the secret")]
    MalformedWriteKey,
}

/// The key in the headers of a request: `Bearer`, or `Basic` with the key as user name.
///
/// # Errors
/// [`CredentialsError`].
pub fn key_in_headers(headers: &HeaderMap) -> Result<String, CredentialsError> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next().ok_or(CredentialsError::Missing)?;
    if values.next().is_some() {
        return Err(CredentialsError::Malformed);
    }
    let value = value.to_str().map_err(|_| CredentialsError::Malformed)?.trim();
    let (scheme, rest) = value.split_once(' ').ok_or(CredentialsError::Malformed)?;
    let rest = rest.trim();
    let key = if scheme.eq_ignore_ascii_case("bearer") {
        rest.to_owned()
    } else if scheme.eq_ignore_ascii_case("basic") {
        user_name(rest).ok_or(CredentialsError::Malformed)?
    } else {
        return Err(CredentialsError::Malformed);
    };
    of_valid_length(key)
}

/// The key in a query, for beacons, which cannot have an `Authorization` header: `writeKey`. Other parameters
/// are ignored.
///
/// # Errors
/// [`CredentialsError`].
pub fn key_in_query(query: &str) -> Result<String, CredentialsError> {
    let mut values = query.split('&').filter_map(|pair| {
        pair.split_once('=').filter(|(name, _)| *name == KEY_MEMBER).map(|(_, value)| value)
    });
    let value = values.next().ok_or(CredentialsError::Missing)?;
    if values.next().is_some() {
        return Err(CredentialsError::MalformedQuery);
    }
    let key = percent_decode_str(value).decode_utf8().map_err(|_| CredentialsError::MalformedQuery)?;
    of_valid_length(key.into_owned()).map_err(|_| CredentialsError::MalformedQuery)
}

/// The key in the header `X-Write-Key`, as Jitsu's SDKs send it: `ID:SECRET`, of which the secret is the key,
/// because the SDKs repeat the id in places that are not secret. Without a colon, it is the key as a whole.
///
/// # Errors
/// [`CredentialsError`].
pub fn write_key_in_headers(headers: &HeaderMap) -> Result<String, CredentialsError> {
    let mut values = headers.get_all(WRITE_KEY).iter();
    let value = values.next().ok_or(CredentialsError::Missing)?;
    if values.next().is_some() {
        return Err(CredentialsError::MalformedWriteKey);
    }
    let value = value.to_str().map_err(|_| CredentialsError::MalformedWriteKey)?.trim();
    let key = value.split_once(':').map_or(value, |(_id, secret)| secret);
    of_valid_length(key.to_owned()).map_err(|_| CredentialsError::MalformedWriteKey)
}

/// A key that was read from a form or a path.
///
/// # Errors
/// [`CredentialsError`].
pub fn checked_key(key: String) -> Result<String, CredentialsError> {
    of_valid_length(key)
}

/// The key in a body, for SDKs that send no `Authorization` header.
///
/// # Errors
/// [`CredentialsError`].
pub fn key_in_body(dialect: &Dialect, body: &[u8]) -> Result<String, CredentialsError> {
    of_valid_length(dialect.find_key(body).ok_or(CredentialsError::Missing)?)
}

fn of_valid_length(key: String) -> Result<String, CredentialsError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX { Err(CredentialsError::Malformed) } else { Ok(key) }
}

/// The user name in Basic credentials (RFC 7617), with padding or without: clients do both.
fn user_name(credentials: &str) -> Option<String> {
    let decoded = STANDARD.decode(credentials).or_else(|_| STANDARD_NO_PAD.decode(credentials)).ok()?;
    let text = String::from_utf8(decoded).ok()?;
    Some(text.split_once(':').map_or(text.as_str(), |(user, _)| user).to_owned())
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    fn key_of(value: &str) -> Result<String, CredentialsError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        key_in_headers(&headers)
    }

    #[test]
    fn a_key_is_read_from_bearer_and_from_the_user_name_of_basic() {
        assert_eq!(key_of("Bearer mk_1"), Ok("mk_1".into()));
        assert_eq!(key_of("bearer  mk_1 "), Ok("mk_1".into()));
        assert_eq!(key_of("Basic V0s6"), Ok("WK".into()));
        assert_eq!(key_of("basic bWtfMTpwYXNz"), Ok("mk_1".into()));
        assert_eq!(key_of("Basic bWtfMTpwYXNzdw"), Ok("mk_1".into()), "without padding");
    }

    #[test]
    fn any_other_authorization_is_malformed() {
        for value in ["", "mk_1", "Bearer", "Basic !!!", "Digest x", "Basic Og==", "Basic /////w=="] {
            assert_eq!(key_of(value), Err(CredentialsError::Malformed), "{value:?}");
        }
        assert_eq!(key_of(&format!("Bearer {}", "k".repeat(600))), Err(CredentialsError::Malformed));
        assert_eq!(key_in_headers(&HeaderMap::new()), Err(CredentialsError::Missing));
    }

    #[test]
    fn a_key_is_read_from_the_query_once() {
        assert_eq!(key_in_query("writeKey=mk_1"), Ok("mk_1".into()));
        assert_eq!(key_in_query("p=npm&writeKey=mk%5F1&v=3"), Ok("mk_1".into()));
        for missing in ["", "p=npm", "writekey=mk_1", "writeKey", "xwriteKey=mk_1"] {
            assert_eq!(key_in_query(missing), Err(CredentialsError::Missing), "{missing:?}");
        }
        for wrong in ["writeKey=", "writeKey=a&writeKey=a", "writeKey=%ff"] {
            assert_eq!(key_in_query(wrong), Err(CredentialsError::MalformedQuery), "{wrong:?}");
        }
    }

    #[test]
    fn a_key_is_the_secret_in_the_header_of_jitsus_sdks() {
        let key = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(WRITE_KEY, HeaderValue::from_static(value));
            }
            write_key_in_headers(&headers)
        };
        for (value, secret) in
            [("js.1:mk_1", "mk_1"), (" id:mk_1 ", "mk_1"), ("mk_1", "mk_1"), ("a:b:c", "b:c")]
        {
            assert_eq!(key(&[value]), Ok(secret.into()), "{value}");
        }
        assert_eq!(key(&[]), Err(CredentialsError::Missing));
        for wrong in [&[""][..], &["id:"], &["id:mk_1", "id:mk_1"]] {
            assert_eq!(key(wrong), Err(CredentialsError::MalformedWriteKey), "{wrong:?}");
        }
    }

    #[test]
    fn two_authorization_headers_are_malformed() {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer a"));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        assert_eq!(key_in_headers(&headers), Err(CredentialsError::Malformed));
    }
}
