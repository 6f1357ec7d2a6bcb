//! The parts of a request's head that decide where the request ends and whom it is for, as far as hyper does
//! not check them. Pure: no I/O.
//!
//! A proxy and a server that read these fields differently can be made to see different requests (request
//! smuggling). So a field that leaves a doubt is refused, and the connection ends with the answer. hyper
//! itself refuses a `Transfer-Encoding` that does not end with `chunked`, or in HTTP/1.0, and
//! `Content-Length` that is not one number. Of a request with both fields it drops `Content-Length`, and ends
//! the connection after the answer, as RFC 9112 (section 6.1) allows.

use hyper::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::{HeaderMap, Version};

/// Why a head is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FramingError {
    #[error("HTTP/1.1 requires the header host; send it once")]
    NoHost,
    #[error("host must be one host name or IP address, with or without a port; send it once")]
    Host,
    /// Unknown, repeated, or several codings.
    #[error("transfer-encoding must be chunked and nothing else; compress with content-encoding instead")]
    TransferEncoding,
}

impl FramingError {
    /// The header to correct.
    pub fn field(self) -> &'static str {
        match self {
            Self::NoHost | Self::Host => "host",
            Self::TransferEncoding => "transfer-encoding",
        }
    }
}

/// Checks the head of a request.
///
/// # Errors
/// [`FramingError`]. The connection must be closed after the answer.
pub fn check(head: &Parts) -> Result<(), FramingError> {
    check_transfer_encoding(&head.headers)?;
    check_host(&head.headers, head.version)
}

/// RFC 9112 (section 6.1) suggests 501 for an unknown coding. The answer is 400 as for a repeated `chunked`:
/// clients send a batch again after 5xx, and this one would be refused forever.
fn check_transfer_encoding(headers: &HeaderMap) -> Result<(), FramingError> {
    let mut values = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(value) = values.next() else { return Ok(()) };
    let is_chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked") && values.next().is_none();
    if is_chunked { Ok(()) } else { Err(FramingError::TransferEncoding) }
}

/// RFC 9112, section 3.2. HTTP/1.0 does not require the header.
fn check_host(headers: &HeaderMap, version: Version) -> Result<(), FramingError> {
    let mut values = headers.get_all(HOST).iter();
    match (values.next(), values.next()) {
        (None, _) if version < Version::HTTP_11 => Ok(()),
        (None, _) => Err(FramingError::NoHost),
        (Some(host), None) if is_host(host) => Ok(()),
        (Some(_), _) => Err(FramingError::Host),
    }
}

/// `uri-host [ ":" port ]` of RFC 9110 (section 7.2). Empty is valid: the target then has no authority.
fn is_host(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    let (host, rest) = match bytes.first() {
        Some(b'[') => match bytes.iter().position(|byte| *byte == b']') {
            Some(end) => (&bytes[1..end], &bytes[end + 1..]),
            None => return false,
        },
        _ => bytes.split_at(bytes.iter().position(|byte| *byte == b':').unwrap_or(bytes.len())),
    };
    let is_address = bytes.len() != host.len() + rest.len();
    let is_valid = if is_address {
        // An IPv6 address, with or without a zone (RFC 6874), or a form of the future.
        !host.is_empty() && host.iter().all(|byte| is_name_byte(*byte) || *byte == b':' || *byte == b'%')
    } else {
        host.iter().all(|byte| is_name_byte(*byte) || *byte == b'%')
    };
    let has_valid_port = match rest.split_first() {
        None => true,
        Some((colon, port)) => *colon == b':' && port.iter().all(u8::is_ascii_digit),
    };
    is_valid && has_valid_port
}

/// The unreserved characters and the delimiters of a registered name (RFC 3986, section 2).
fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(version: Version, fields: &[(&str, &str)]) -> Result<(), FramingError> {
        let mut request = hyper::Request::builder().version(version);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        check(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn only_chunked_is_a_transfer_encoding() {
        let coded = |values: &[&str]| {
            let fields = values.iter().map(|value| ("transfer-encoding", *value));
            checked(Version::HTTP_11, &fields.chain([("host", "x")]).collect::<Vec<_>>())
        };
        assert_eq!(coded(&[]), Ok(()));
        assert_eq!(coded(&["chunked"]), Ok(()));
        assert_eq!(coded(&["Chunked"]), Ok(()));
        for values in [
            &["gzip, chunked"][..],
            &["gzip", "chunked"],
            &["chunked, chunked"],
            &["chunked", "chunked"],
            &["identity"],
            &["identity, chunked"],
            &[", chunked"],
            &["chunked,"],
            &["chunked;q=1"],
            &["xchunked"],
            &["\"chunked\""],
            &[""],
            &["trailers, chunked"],
        ] {
            assert_eq!(coded(values), Err(FramingError::TransferEncoding), "{values:?}");
        }
    }

    #[test]
    fn http_1_1_requires_one_host() {
        assert_eq!(checked(Version::HTTP_11, &[("host", "x")]), Ok(()));
        assert_eq!(checked(Version::HTTP_11, &[]), Err(FramingError::NoHost));
        assert_eq!(checked(Version::HTTP_10, &[]), Ok(()));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert_eq!(checked(version, &[("host", "x"), ("host", "x")]), Err(FramingError::Host));
            assert_eq!(checked(version, &[("host", "a b")]), Err(FramingError::Host));
        }
    }

    #[test]
    fn a_host_is_a_name_or_an_address_with_an_optional_port() {
        for host in [
            "",
            "x",
            "my_service.internal:8080",
            "127.0.0.1",
            "[::1]",
            "[::1]:80",
            "[fe80::1%25eth0]",
            "x:",
            "xn--bcher-kva.example",
            "b%C3%BCcher",
        ] {
            assert!(is_host(&HeaderValue::from_static(host)), "{host}");
        }
        for host in [
            "a b",
            "a/b",
            "a@b",
            "user:pass@b",
            "a:b",
            "a:80:80",
            "::1",
            "[::1",
            "[]",
            "[::1]x",
            "http://a",
            "a,b c",
            "a?",
            "a#",
            "a\tb",
            "<a>",
            "\"a\"",
            "a\\b",
        ] {
            assert!(!is_host(&HeaderValue::from_static(host)), "{host}");
        }
        assert!(!is_host(&HeaderValue::from_bytes("bücher".as_bytes()).unwrap()));
    }
}
