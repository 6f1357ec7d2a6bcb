//! Cross-origin requests (Fetch, "CORS protocol"). Pages of any origin may use the interface, because a key
//! in a page is public and a key with a list of origins is checked for itself.
//!
//! Routes that take events also allow requests with credentials, because `navigator.sendBeacon` always sends
//! them so, and a beacon of JSON has a preflight request. That is safe as long as the server never does what
//! this module forbids: it must never read a cookie, and never ask a browser for a user name
//! (`WWW-Authenticate: Basic`), so that credentials which the browser adds by itself mean nothing. Routes
//! that report never allow credentials.

use hyper::StatusCode;
use hyper::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ALLOW, HeaderMap, HeaderName, HeaderValue,
    ORIGIN, VARY,
};

use crate::answer::{self, Answer};

/// Allowed in every answer to a preflight request.
const ALLOW_HEADERS: &str = "authorization, content-type, content-encoding, idempotency-key, prefer, x-retry-count, \
                             webhook-id, webhook-timestamp, webhook-signature";
/// Most names of headers that a page may ask for.
const NAMES_MAX: usize = 64;
/// Longest list of headers that a page may ask for, in bytes.
const NAMES_BYTES_MAX: usize = 4_096;
/// Longest origin that is repeated, in bytes.
const ORIGIN_BYTES_MAX: usize = 300;
/// Seconds for which a browser may keep the answer to a preflight request. Browsers keep it no longer.
const MAX_AGE: HeaderValue = HeaderValue::from_static("7200");
const ANY: HeaderValue = HeaderValue::from_static("*");
const YES: HeaderValue = HeaderValue::from_static("true");
const EXPOSE_HEADERS: HeaderValue =
    HeaderValue::from_static("RateLimit, RateLimit-Policy, Retry-After, Preference-Applied");
/// Asked by pages of a public site before a request to an address of a private network.
const REQUEST_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-request-private-network");
const ALLOW_PRIVATE_NETWORK: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const VARY_PREFLIGHT: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, Access-Control-Request-Private-Network",
);

/// Whether pages may send credentials with a request, which the server ignores.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Credentials {
    Allowed,
    Forbidden,
}

/// Whether a request with the method OPTIONS is a browser's preflight request.
pub fn is_preflight(headers: &HeaderMap) -> bool {
    headers.contains_key(ORIGIN) && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight request for a path that takes these methods. A page may use every header that it
/// asks for: tracing libraries add some to each request, and the server ignores those that it does not know.
pub fn preflight(methods: &'static str, asked: &HeaderMap) -> Answer {
    let mut answer = answer::empty(StatusCode::NO_CONTENT);
    let headers = answer.headers_mut();
    headers.insert(ALLOW, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(methods));
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed_headers(asked));
    headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
    headers.insert(VARY, VARY_PREFLIGHT);
    if asked.get(REQUEST_PRIVATE_NETWORK).is_some_and(|value| value == "true") {
        headers.insert(ALLOW_PRIVATE_NETWORK, YES);
    }
    answer
}

/// The known headers, and those that are asked for if all of them are names of headers within the limits.
fn allowed_headers(asked: &HeaderMap) -> HeaderValue {
    let mut allowed = ALLOW_HEADERS.to_owned();
    let (mut names, mut bytes) = (0, 0);
    for list in asked.get_all(ACCESS_CONTROL_REQUEST_HEADERS) {
        let known_only = HeaderValue::from_static(ALLOW_HEADERS);
        bytes += list.len();
        let Ok(list) = list.to_str() else { return known_only };
        if bytes > NAMES_BYTES_MAX {
            return known_only;
        }
        for name in list.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            names += 1;
            // A star would stand for every header.
            let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else { return known_only };
            if names > NAMES_MAX || name.as_str().contains('*') {
                return known_only;
            }
            if !allowed.split(", ").any(|known| known == name.as_str()) {
                allowed.push_str(", ");
                allowed.push_str(name.as_str());
            }
        }
    }
    HeaderValue::try_from(allowed).expect("names of headers are visible characters")
}

/// Adds the headers that let a page read an answer. Errors need them, too. `asked` has the headers of the
/// request.
pub fn allow_origin(headers: &mut HeaderMap, asked: &HeaderMap, credentials: Credentials) {
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSE_HEADERS);
    match (credentials, page_origin(asked)) {
        (Credentials::Allowed, Some(origin)) => {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, YES);
            if !headers.contains_key(VARY) {
                headers.insert(VARY, HeaderValue::from_static("Origin"));
            }
        }
        _ => {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, ANY);
        }
    }
}

/// The only `Origin` of the request, if it may be repeated in an answer.
fn page_origin(asked: &HeaderMap) -> Option<HeaderValue> {
    let mut origins = asked.get_all(ORIGIN).iter();
    let origin = origins.next().filter(|_| origins.next().is_none())?;
    let bytes = origin.as_bytes();
    let is_plain = bytes.iter().all(|byte| byte.is_ascii_graphic() && *byte != b',' && *byte != b'*');
    (is_plain && (1..=ORIGIN_BYTES_MAX).contains(&bytes.len())).then(|| origin.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(fields: &[(&str, &str)]) -> HeaderMap {
        let field =
            |(name, value): &(&str, &str)| (name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        headers
    }

    fn allowed(asked: &str) -> String {
        let value = allowed_headers(&headers(&[("access-control-request-headers", asked)]));
        value.to_str().unwrap().to_owned()
    }

    #[test]
    fn a_page_may_use_every_header_that_it_asks_for_once() {
        let traced = allowed("baggage,Sentry-Trace, traceparent,,x-datadog-trace-id,authorization");
        assert_eq!(
            traced,
            format!("{ALLOW_HEADERS}, baggage, sentry-trace, traceparent, x-datadog-trace-id")
        );
        let lists = [("access-control-request-headers", "a"), ("access-control-request-headers", "b")];
        assert_eq!(allowed_headers(&headers(&lists)), format!("{ALLOW_HEADERS}, a, b"));
        let most: Vec<_> = (0..NAMES_MAX).map(|number| format!("x-{number}")).collect();
        assert!(allowed(&most.join(",")).ends_with(", x-63"));
    }

    #[test]
    fn a_list_that_no_browser_sends_is_not_repeated() {
        let many: Vec<_> = (0..=NAMES_MAX).map(|number| format!("x-{number}")).collect();
        for asked in [
            many.join(","),
            "a".repeat(NAMES_BYTES_MAX + 1),
            "x-a b".to_owned(),
            "x:a".to_owned(),
            "x-\"a\"".to_owned(),
            "*".to_owned(),
            "x-a, *".to_owned(),
        ] {
            assert_eq!(allowed(&asked), ALLOW_HEADERS, "{asked}");
        }
        assert_eq!(allowed(""), ALLOW_HEADERS);
    }

    #[test]
    fn credentials_are_allowed_to_one_named_origin_and_never_to_any() {
        let answered = |credentials, fields: &[_]| {
            let mut answer = HeaderMap::new();
            allow_origin(&mut answer, &headers(fields), credentials);
            let text = |name| answer.get(name).map(|value| value.to_str().unwrap().to_owned());
            (text(ACCESS_CONTROL_ALLOW_ORIGIN).unwrap(), text(ACCESS_CONTROL_ALLOW_CREDENTIALS), text(VARY))
        };
        let page = [("origin", "https://shop.example")];
        let named = ("https://shop.example".to_owned(), Some("true".to_owned()), Some("Origin".to_owned()));
        assert_eq!(answered(Credentials::Allowed, &page), named);
        let any = ("*".to_owned(), None, None);
        assert_eq!(answered(Credentials::Forbidden, &page), any);
        for other in
            [&[][..], &[page[0], page[0]], &[("origin", "a, b")], &[("origin", "*")], &[("origin", "")]]
        {
            assert_eq!(answered(Credentials::Allowed, other), any, "{other:?}");
        }
    }
}
