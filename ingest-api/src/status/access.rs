//! Who may see the status page. No I/O in this room.
//!
//! A page of any site can send the browser of somebody on this machine to `127.0.0.1`, and a name of its own may lead
//! there (DNS rebinding): so in `auto` only an IP address or `localhost` is taken for a host, and a page that asks must
//! be our own. A proxy on this machine is not a person on this machine.

use std::net::{IpAddr, SocketAddr};

use hyper::header::{HOST, HeaderMap, ORIGIN};
use hyper::http::request::Parts;
use hyper::http::uri::Authority;

/// What proxies add to a request that they pass on.
const PROXY_HEADERS: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-real-ip"];

/// The setting `STATUS_PAGE`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusPage {
    /// For this machine when the server listens on loopback, otherwise for nobody.
    Auto,
    /// For everybody who reaches the server.
    On,
    /// For nobody.
    Off,
}

/// Whom the page is shown to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Audience {
    /// There is no page.
    Nobody,
    /// Whoever asks this machine by its address.
    ThisMachine,
    /// Whoever asks.
    Everybody,
}

/// Somebody the page is not meant for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Stranger {
    /// The host was asked for by a name, or by none.
    Named,
    /// A proxy asks.
    Proxy,
    /// A page of another site asks.
    OtherSite,
}

impl StatusPage {
    /// Whom a server that listens there shows its page to.
    pub fn audience(self, listening: SocketAddr) -> Audience {
        match self {
            Self::Off => Audience::Nobody,
            Self::On => Audience::Everybody,
            Self::Auto if listening.ip().to_canonical().is_loopback() => Audience::ThisMachine,
            Self::Auto => Audience::Nobody,
        }
    }
}

impl Stranger {
    /// What would help, for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Named => {
                "the status page is shown at an IP address or localhost; STATUS_PAGE=on shows it at any name"
            }
            Self::Proxy => "the status page is not shown through a proxy; STATUS_PAGE=on does",
            Self::OtherSite => "the status page is not for pages of other sites",
        }
    }
}

impl Audience {
    /// Whether a request with this head may be answered.
    ///
    /// # Errors
    /// The [`Stranger`] who asks.
    pub fn admits(self, head: &Parts) -> Result<(), Stranger> {
        let authority = authority(head);
        if self != Audience::Everybody {
            if !authority.as_ref().is_some_and(|authority| is_local(authority.host())) {
                return Err(Stranger::Named);
            }
            if PROXY_HEADERS.iter().any(|name| head.headers.contains_key(*name)) {
                return Err(Stranger::Proxy);
            }
        }
        same_origin(&head.headers, authority.as_ref())
    }
}

/// Whether it is our page that asks, as far as the browser says. Nobody else's image or script may take a watcher's place.
///
/// # Errors
/// [`Stranger::OtherSite`].
pub fn asked_by_the_page(head: &Parts) -> Result<(), Stranger> {
    match head.headers.get("sec-fetch-site") {
        None => Ok(()),
        Some(site) if site == "same-origin" || site == "none" => Ok(()),
        Some(_) => Err(Stranger::OtherSite),
    }
}

/// The host that was asked for: the request line's, or the one `Host` header's.
fn authority(head: &Parts) -> Option<Authority> {
    if let Some(authority) = head.uri.authority() {
        return Some(authority.clone());
    }
    let mut hosts = head.headers.get_all(HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    if hosts.next().is_some() { None } else { host.parse().ok() }
}

/// Whether nobody's name server has a say in what this host is.
fn is_local(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    address.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost")
}

fn same_origin(headers: &HeaderMap, ours: Option<&Authority>) -> Result<(), Stranger> {
    let mut origins = headers.get_all(ORIGIN).iter();
    let Some(origin) = origins.next() else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, ours, origins.next()) {
        (Some((_, theirs)), Some(ours), None) if ours.as_str().eq_ignore_ascii_case(theirs) => Ok(()),
        _ => Err(Stranger::OtherSite),
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

    fn admitted(audience: Audience, fields: &[(&str, &str)]) -> Result<(), Stranger> {
        audience.admits(&head(fields))
    }

    #[test]
    fn by_itself_the_page_is_there_on_loopback_only() {
        let audience = |setting: StatusPage, address: &str| setting.audience(address.parse().unwrap());
        for loopback in ["127.0.0.1:8080", "127.9.9.9:1", "[::1]:8080", "[::ffff:127.0.0.1]:80"] {
            assert_eq!(audience(StatusPage::Auto, loopback), Audience::ThisMachine, "{loopback}");
        }
        for public in ["0.0.0.0:8080", "[::]:8080", "10.0.0.1:8080"] {
            assert_eq!(audience(StatusPage::Auto, public), Audience::Nobody, "{public}");
            assert_eq!(audience(StatusPage::On, public), Audience::Everybody, "{public}");
        }
        assert_eq!(audience(StatusPage::Off, "127.0.0.1:8080"), Audience::Nobody);
    }

    #[test]
    fn a_name_that_somebody_else_may_resolve_is_no_host() {
        let local = Audience::ThisMachine;
        for host in
            ["127.0.0.1:8080", "127.0.0.1", "localhost:8080", "LOCALHOST", "[::1]:8080", "10.1.2.3:80"]
        {
            assert_eq!(admitted(local, &[("host", host)]), Ok(()), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:80", "127.0.0.1.nip.io", "127.0.0.1@evil.example", ""]
        {
            assert_eq!(admitted(local, &[("host", host)]), Err(Stranger::Named), "{host}");
        }
        assert_eq!(admitted(local, &[]), Err(Stranger::Named));
        assert_eq!(admitted(local, &[("host", "127.0.0.1"), ("host", "127.0.0.1")]), Err(Stranger::Named));
        assert_eq!(admitted(Audience::Everybody, &[("host", "status.example")]), Ok(()));
    }

    #[test]
    fn a_proxy_on_this_machine_brings_strangers() {
        for name in PROXY_HEADERS {
            let fields = [("host", "127.0.0.1:8080"), (name, "203.0.113.7")];
            assert_eq!(admitted(Audience::ThisMachine, &fields), Err(Stranger::Proxy), "{name}");
            assert_eq!(admitted(Audience::Everybody, &fields), Ok(()), "{name}");
        }
    }

    #[test]
    fn pages_of_other_origins_are_refused_by_every_audience() {
        for audience in [Audience::ThisMachine, Audience::Everybody] {
            let from = |origin| admitted(audience, &[("host", "127.0.0.1:8080"), ("origin", origin)]);
            assert_eq!(from("http://127.0.0.1:8080"), Ok(()));
            for origin in ["http://127.0.0.1:3000", "https://evil.example", "null", "", "http://127.0.0.1"] {
                assert_eq!(from(origin), Err(Stranger::OtherSite), "{origin}");
            }
        }
    }

    #[test]
    fn only_our_own_page_is_told_what_happens() {
        let asked = |site: &str| asked_by_the_page(&head(&[("sec-fetch-site", site)]));
        assert_eq!(asked_by_the_page(&head(&[])), Ok(()), "curl");
        assert_eq!((asked("same-origin"), asked("none")), (Ok(()), Ok(())));
        for site in ["same-site", "cross-site"] {
            assert_eq!(asked(site), Err(Stranger::OtherSite), "{site}");
        }
    }
}
