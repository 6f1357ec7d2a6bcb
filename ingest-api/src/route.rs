//! A route: its path, the methods that it takes, and what it asks of a key. The table is in `routes`.

use hyper::Method;

use crate::access::Access;
use crate::config::Limits;
use crate::cors::Credentials;

/// The methods that a route takes, and its kind of client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// `GET` and `HEAD`, and `OPTIONS` for a browser's preflight request.
    Get,
    /// `POST` in Millrace's own formats, and `OPTIONS`.
    Post,
    /// The same for calls of SDKs, which gather more in one body than other clients.
    Sdk,
    /// The same, and `GET` with the form in the query.
    SdkOrQuery,
    /// `GET`, `HEAD`, and `POST` with the question in the body.
    GetOrAsk,
    /// `POST` of a correction of events.
    Correction,
    /// `POST` of an SDK that asks for something. The body is not read.
    Question,
    /// `GET` and `HEAD` for the status page: not part of the interface for programs, and not for pages of
    /// other sites.
    Page,
}

/// The largest body that only asks a question.
const QUESTION_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The methods and the kind of client.
    pub kind: Kind,
    /// What the route asks of a key.
    pub access: Access,
    /// The path; `{id}` stands for any one segment. Also the route's name in metrics.
    pub pattern: &'static str,
}

impl Route {
    /// The segment of the path that `{id}` stands for, empty if the pattern has none. `None` when the path is
    /// not this route's. A route for a POST also takes its path with a slash at the end, which SDKs append.
    pub fn id_in<'path>(&self, path: &'path str) -> Option<&'path str> {
        match self.pattern.split_once("{id}") {
            Some((before, after)) => {
                let id = path.strip_prefix(before)?.strip_suffix(after)?;
                (!id.is_empty() && !id.contains('/')).then_some(id)
            }
            None if self.pattern == path => Some(""),
            None => (self.is_posted() && path.strip_suffix('/') == Some(self.pattern)).then_some(""),
        }
    }

    /// Whether the route is for people: not part of the interface, and not for pages of other sites.
    pub fn is_page(&self) -> bool {
        self.kind == Kind::Page
    }

    fn takes_events(&self) -> bool {
        matches!(self.kind, Kind::Post | Kind::Sdk | Kind::SdkOrQuery)
    }

    fn is_posted(&self) -> bool {
        self.takes_events() || matches!(self.kind, Kind::Correction | Kind::Question)
    }

    pub fn body_bytes_max(&self, limits: &Limits) -> usize {
        match self.kind {
            Kind::Get | Kind::Page | Kind::Question => 0,
            Kind::GetOrAsk => QUESTION_BYTES_MAX.min(limits.body_bytes_max),
            Kind::Post | Kind::Correction => limits.body_bytes_max,
            Kind::Sdk | Kind::SdkOrQuery => limits.sdk_body_bytes_max,
        }
    }

    pub fn takes(&self, method: &Method) -> bool {
        match self.kind {
            Kind::Get | Kind::Page => method == Method::GET || method == Method::HEAD,
            Kind::Post | Kind::Sdk | Kind::Correction | Kind::Question => method == Method::POST,
            Kind::SdkOrQuery => method == Method::POST || method == Method::GET,
            Kind::GetOrAsk => [Method::GET, Method::HEAD, Method::POST].contains(method),
        }
    }

    /// Its methods, as the header `Allow` lists them.
    pub fn allow(&self) -> &'static str {
        match self.kind {
            Kind::Get => "GET, HEAD, OPTIONS",
            Kind::Page => "GET, HEAD",
            Kind::Post | Kind::Sdk | Kind::Correction | Kind::Question => "POST, OPTIONS",
            Kind::SdkOrQuery => "GET, POST, OPTIONS",
            Kind::GetOrAsk => "GET, HEAD, POST, OPTIONS",
        }
    }

    /// Beacons are sent to routes for events, with credentials.
    pub fn credentials(&self) -> Credentials {
        if self.access == Access::Write { Credentials::Allowed } else { Credentials::Forbidden }
    }
}
