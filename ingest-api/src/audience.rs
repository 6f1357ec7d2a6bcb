//! Access control of the status page. Pure: no I/O.
//!
//! A web page of any site can make a browser on this machine send requests to `127.0.0.1`, also under a host
//! name of that site (DNS rebinding). So with `auto` the host of a request must be an IP address or
//! `localhost`, and only the status page itself may send requests from a browser. A request through a proxy
//! is refused, because its client may be on another machine.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

/// Headers that proxies add.
const PROXY_HEADERS: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// The setting `STATUS_PAGE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusPage {
    /// For clients on this machine if the server listens on loopback. Otherwise there is no page.
    Auto,
    /// For every client that reaches the server.
    On,
    Off,
}

/// The clients that may see the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// There is no page.
    Empty,
    /// Clients that reach the server by an IP address or `localhost`, without a proxy.
    ThisMachine,
    Everyone,
}

/// Why a request may not see the page.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum AccessError {
    /// The host is a name, or missing.
    #[error(
        "the status page is shown at an IP address or localhost only; set STATUS_PAGE=on to show it at any name"
    )]
    HostName,
    #[error("the status page is not shown through a proxy; set STATUS_PAGE=on to show it")]
    Proxy,
    #[error("the status page cannot be read by pages of other sites; open it directly")]
    OtherSite,
}

impl StatusPage {
    /// The audience of a server that listens on this address.
    pub fn audience(self, listening: SocketAddr) -> Audience {
        match self {
            Self::Off => Audience::Empty,
            Self::On => Audience::Everyone,
            Self::Auto if listening.ip().to_canonical().is_loopback() => Audience::ThisMachine,
            Self::Auto => Audience::Empty,
        }
    }
}

impl Audience {
    /// Checks whether a request with this head may see the page.
    ///
    /// # Errors
    /// The reason, as `AccessError`.
    pub fn check(self, head: &Parts) -> Result<(), AccessError> {
        let authority = authority(head);
        if self != Audience::Everyone {
            if !authority.as_ref().is_some_and(|authority| is_local(authority.host())) {
                return Err(AccessError::HostName);
            }
            if PROXY_HEADERS.iter().any(|name| head.headers.contains_key(*name)) {
                return Err(AccessError::Proxy);
            }
        }
        same_origin(&head.headers, authority.as_ref())
    }
}

/// Checks that the request comes from the status page itself, if the browser names the origin of its
/// requests. An image or script of another page must not use up the slot of a watcher.
///
/// # Errors
/// [`AccessError::OtherSite`].
pub fn check_fetch_site(head: &Parts) -> Result<(), AccessError> {
    match head.headers.get("sec-fetch-site") {
        None => Ok(()),
        Some(site) if site == "same-origin" || site == "none" => Ok(()),
        Some(_) => Err(AccessError::OtherSite),
    }
}

/// The host of the request: from the request line, or from the only `Host` header.
fn authority(head: &Parts) -> Option<Authority> {
    if let Some(authority) = head.uri.authority() {
        return Some(authority.clone());
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    if hosts.next().is_some() { None } else { host.parse().ok() }
}

/// Whether the host cannot be resolved by a name server of another site.
fn is_local(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

fn same_origin(headers: &HeaderMap, host: Option<&Authority>) -> Result<(), AccessError> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host, origins.next()) {
        (Some((_, origin)), Some(host), None) if host.as_str().eq_ignore_ascii_case(origin) => Ok(()),
        _ => Err(AccessError::OtherSite),
    }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn head(fields: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/");
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn check(audience: Audience, fields: &[(&str, &str)]) -> Result<(), AccessError> {
        audience.check(&head(fields))
    }

    #[test]
    fn by_default_there_is_a_page_on_loopback_only() {
        let audience = |setting: StatusPage, address: &str| setting.audience(address.parse().unwrap());
        for loopback in ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(audience(StatusPage::Auto, loopback), Audience::ThisMachine, "{loopback}");
        }
        for public in ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:8080"] {
            assert_eq!(audience(StatusPage::Auto, public), Audience::Empty, "{public}");
            assert_eq!(audience(StatusPage::On, public), Audience::Everyone, "{public}");
        }
        assert_eq!(audience(StatusPage::Off, "127.0.0.1:8080"), Audience::Empty);
    }

    #[test]
    fn a_host_name_is_refused_because_another_site_may_resolve_it() {
        let local = Audience::ThisMachine;
        for host in
            ["127.0.0.1:8080", "127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:8080", "10.1.2.3:80"]
        {
            assert_eq!(check(local, &[("host", host)]), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:80", "127.0.0.1.nip.io", "127.0.0.1@evil.example", ""]
        {
            assert_eq!(check(local, &[("host", host)]), Err(AccessError::HostName), "{host}");
        }
        assert_eq!(check(local, &[]), Err(AccessError::HostName));
        assert_eq!(check(local, &[("host", "127.0.0.1"), ("host", "127.0.0.1")]), Err(AccessError::HostName));
        assert_eq!(check(Audience::Everyone, &[("host", "status.example")]), Ok(()));
    }

    #[test]
    fn a_request_through_a_proxy_is_not_from_this_machine() {
        for name in PROXY_HEADERS {
            let fields = [("host", "127.0.0.1:8080"), (name, "203.0.113.7")];
            assert_eq!(check(Audience::ThisMachine, &fields), Err(AccessError::Proxy), "{name}");
            assert_eq!(check(Audience::Everyone, &fields), Ok(()), "{name}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused_for_every_audience() {
        for audience in [Audience::ThisMachine, Audience::Everyone] {
            let from = |origin| check(audience, &[("host", "127.0.0.1:8080"), ("origin", origin)]);
            assert_eq!(from("http://127.0.0.1:8080"), Ok(()));
            for origin in ["http://127.0.0.1:3000", "https://evil.example", "null", "", "http://127.0.0.1"] {
                assert_eq!(from(origin), Err(AccessError::OtherSite), "{origin}");
            }
        }
    }

    #[test]
    fn only_the_status_page_itself_may_watch() {
        let check = |site: &str| check_fetch_site(&head(&[("sec-fetch-site", site)]));
        assert_eq!(check_fetch_site(&head(&[])), Ok(()), "a client that is no browser");
        assert_eq!((check("same-origin"), check("none")), (Ok(()), Ok(())));
        for site in ["same-site", "cross-site"] {
            assert_eq!(check(site), Err(AccessError::OtherSite), "{site}");
        }
    }
}
