//! The address under which a client reached the server, also through proxies. Pure: no I/O.
//!
//! It is repeated only to the client that named it, in an answer that nothing may keep. So a client that
//! forges a header misleads itself alone.

use hyper::header::{FORWARDED, HOST, HeaderMap, HeaderName, ORIGIN, REFERER};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

use crate::headers::HeaderError;

/// Longest address, in bytes.
const BYTES_MAX: usize = 500;

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicAddress {
    /// `http` or `https`.
    pub scheme: &'static str,
    /// The host, with its port and with the path that a proxy removed, without a slash at its end.
    pub rest: String,
}

impl PublicAddress {
    /// The address of the request with this head. `X-Forwarded-Host`, `X-Forwarded-Proto` and
    /// `X-Forwarded-Prefix` of a proxy, or its `Forwarded`, precede the request's own host.
    ///
    /// # Errors
    /// [`HeaderError::Invalid`] when there is no valid host.
    pub fn of(head: &Parts) -> Result<Self, HeaderError> {
        let headers = &head.headers;
        let host = forwarded(headers, "x-forwarded-host", "host")
            .or_else(|| head.uri.authority().map(|authority| authority.as_str().to_owned()))
            .or_else(|| text(headers, &HOST).map(str::to_owned));
        let host: Option<Authority> = host.and_then(|host| host.parse().ok());
        let host = host.filter(|host| !host.as_str().contains('@') && !host.host().is_empty());
        let expected = "the host and port under which clients reach this server";
        let host = host.ok_or(HeaderError::Invalid { name: "host", expected })?;
        let prefix = text(headers, &HeaderName::from_static("x-forwarded-prefix")).unwrap_or_default();
        let prefix = first(prefix).trim_end_matches('/');
        let is_path = |letter: u8| letter.is_ascii_alphanumeric() || b"/-._~%".contains(&letter);
        let is_prefix = prefix.starts_with('/') && !prefix.starts_with("//") && prefix.bytes().all(is_path);
        let rest = format!("{host}{}", if is_prefix { prefix } else { "" });
        if rest.len() > BYTES_MAX {
            return Err(HeaderError::Invalid { name: "host", expected });
        }
        Ok(Self { scheme: scheme(headers, &host), rest })
    }
}

/// A proxy says which scheme the client used. If none does: a browser sends nothing without TLS from a page
/// with TLS, and names the site of a page only with TLS, except to its own machine.
fn scheme(headers: &HeaderMap, host: &Authority) -> &'static str {
    if let Some(scheme) = forwarded(headers, "x-forwarded-proto", "proto") {
        return if scheme.eq_ignore_ascii_case("https") { "https" } else { "http" };
    }
    let from_tls = [ORIGIN, REFERER].iter().any(|name| {
        text(headers, name)
            .is_some_and(|page| page.get(..8).is_some_and(|s| s.eq_ignore_ascii_case("https://")))
    });
    let is_trusted = from_tls || headers.contains_key("sec-fetch-site");
    if is_trusted && !is_own_machine(host.host()) { "https" } else { "http" }
}

fn is_own_machine(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_loopback = address.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
    let host = host.to_ascii_lowercase();
    is_loopback || host == "localhost" || host.ends_with(".localhost")
}

/// What the first proxy says, in its own header or in the `Forwarded` of RFC 7239.
fn forwarded(headers: &HeaderMap, name: &'static str, parameter: &str) -> Option<String> {
    if let Some(value) = text(headers, &HeaderName::from_static(name)) {
        return Some(first(value).to_owned()).filter(|value| !value.is_empty());
    }
    let pairs = first(text(headers, &FORWARDED)?).split(';').filter_map(|pair| pair.split_once('='));
    let value = pairs.filter(|(name, _)| name.trim().eq_ignore_ascii_case(parameter)).map(|(_, value)| value);
    value.map(|value| value.trim().trim_matches('"').to_owned()).find(|value| !value.is_empty())
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn first(list: &str) -> &str {
    list.split(',').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn address(fields: &[(&str, &str)]) -> Result<String, HeaderError> {
        let mut request = Request::builder().uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let head = request.body(()).unwrap().into_parts().0;
        PublicAddress::of(&head).map(|address| format!("{}://{}", address.scheme, address.rest))
    }

    #[test]
    fn the_address_is_the_one_that_the_client_used() {
        let host = ("host", "events.example:8443");
        for (fields, expected) in [
            (&[("host", "127.0.0.1:8080")][..], "http://127.0.0.1:8080"),
            (&[("host", "[::1]:8080")], "http://[::1]:8080"),
            (&[host], "http://events.example:8443"),
            (&[host, ("x-forwarded-proto", "https")], "https://events.example:8443"),
            (&[host, ("x-forwarded-proto", "HTTPS, http")], "https://events.example:8443"),
            (&[host, ("x-forwarded-host", "a.example, b")], "http://a.example"),
            (&[host, ("x-forwarded-prefix", "/in/")], "http://events.example:8443/in"),
            (&[host, ("x-forwarded-prefix", "//evil.example")], "http://events.example:8443"),
            (
                &[host, ("forwarded", "for=1.2.3.4;Proto=https;host=\"a.example:1\", for=x")],
                "https://a.example:1",
            ),
            (
                &[host, ("x-forwarded-proto", "http"), ("origin", "https://shop.example")],
                "http://events.example:8443",
            ),
        ] {
            assert_eq!(address(fields).as_deref(), Ok(expected), "{fields:?}");
        }
    }

    #[test]
    fn behind_a_proxy_that_says_nothing_a_browser_with_tls_is_recognized() {
        let host = ("host", "events.example");
        for (fields, expected) in [
            (&[host, ("origin", "https://shop.example")][..], "https://events.example"),
            (&[host, ("referer", "https://events.example/page")], "https://events.example"),
            (
                &[host, ("origin", "http://shop.example"), ("sec-fetch-site", "cross-site")],
                "https://events.example",
            ),
            (&[host, ("origin", "http://shop.example")], "http://events.example"),
            (&[("host", "localhost:8080"), ("origin", "https://shop.example")], "http://localhost:8080"),
            (&[("host", "127.0.0.1:8080"), ("sec-fetch-site", "cross-site")], "http://127.0.0.1:8080"),
        ] {
            assert_eq!(address(fields).as_deref(), Ok(expected), "{fields:?}");
        }
    }

    #[test]
    fn without_a_valid_host_there_is_no_address() {
        let long = "a".repeat(BYTES_MAX + 1);
        for fields in [&[][..], &[("host", "")], &[("host", "a b")], &[("host", "u@h")], &[("host", &long)]] {
            assert!(address(fields).is_err(), "{fields:?}");
        }
    }
}
