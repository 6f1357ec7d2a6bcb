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
    /// `GET`, `HEAD`, and `POST` of something new.
    GetOrCreate,
    /// `GET`, `HEAD`, and `PATCH` of what is changed.
    GetOrChange,
    /// `PUT` of something that exists or is new.
    Put,
    /// `GET`, `HEAD`, `PUT` of something that exists or is new, and `DELETE`.
    GetPutOrDelete,
    /// `POST` of what is to be done.
    Order,
    /// `DELETE`.
    Delete,
    /// `GET` and `HEAD` for the status page: not part of the interface for programs, and not for pages of
    /// other sites.
    Page,
}

/// The largest body that asks a question or changes a setting.
const QUESTION_BYTES_MAX: usize = 64 << 10;

#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// The methods and the kind of client.
    pub kind: Kind,
    /// What the route asks of a key.
    pub access: Access,
    /// The path; one or two names in brackets stand for any one segment each. Also the name in metrics.
    pub pattern: &'static str,
}

impl Route {
    /// The segments of the path that the names in brackets stand for, empty if the pattern has none. `None`
    /// when the path is not this route's. A route for a POST of events also takes its path with a slash at
    /// the end, which SDKs append.
    pub fn ids_in<'path>(&self, path: &'path str) -> Option<[&'path str; 2]> {
        let mut ids = [""; 2];
        let (mut pattern, mut path) = (self.pattern, path);
        for id in &mut ids {
            let Some((before, rest)) = pattern.split_once('{') else { break };
            let found = path.strip_prefix(before)?;
            let (segment, after) = found.split_at(found.find('/').unwrap_or(found.len()));
            if segment.is_empty() {
                return None;
            }
            *id = segment;
            (pattern, path) = (rest.split_once('}')?.1, after);
        }
        let has_slash_more =
            || self.is_posted() && ids[0].is_empty() && path.strip_suffix('/') == Some(pattern);
        (path == pattern || has_slash_more()).then_some(ids)
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
            Kind::Get | Kind::Page | Kind::Question | Kind::Delete => 0,
            Kind::GetOrAsk
            | Kind::GetOrCreate
            | Kind::GetOrChange
            | Kind::Put
            | Kind::GetPutOrDelete
            | Kind::Order => QUESTION_BYTES_MAX.min(limits.body_bytes_max),
            Kind::Post | Kind::Correction => limits.body_bytes_max,
            Kind::Sdk | Kind::SdkOrQuery => limits.sdk_body_bytes_max,
        }
    }

    pub fn takes(&self, method: &Method) -> bool {
        match self.kind {
            Kind::Get | Kind::Page => method == Method::GET || method == Method::HEAD,
            Kind::Post | Kind::Sdk | Kind::Correction | Kind::Question | Kind::Order => {
                method == Method::POST
            }
            Kind::Put => method == Method::PUT,
            Kind::Delete => method == Method::DELETE,
            Kind::GetPutOrDelete => [Method::GET, Method::HEAD, Method::PUT, Method::DELETE].contains(method),
            Kind::GetOrChange => [Method::GET, Method::HEAD, Method::PATCH].contains(method),
            Kind::SdkOrQuery => method == Method::POST || method == Method::GET,
            Kind::GetOrAsk | Kind::GetOrCreate => [Method::GET, Method::HEAD, Method::POST].contains(method),
        }
    }

    /// Its methods, as the header `Allow` lists them.
    pub fn allow(&self) -> &'static str {
        match self.kind {
            Kind::Get => "GET, HEAD, OPTIONS",
            Kind::Page => "GET, HEAD",
            Kind::Post | Kind::Sdk | Kind::Correction | Kind::Question | Kind::Order => "POST, OPTIONS",
            Kind::Put => "PUT, OPTIONS",
            Kind::Delete => "DELETE, OPTIONS",
            Kind::GetPutOrDelete => "GET, HEAD, PUT, DELETE, OPTIONS",
            Kind::GetOrChange => "GET, HEAD, PATCH, OPTIONS",
            Kind::SdkOrQuery => "GET, POST, OPTIONS",
            Kind::GetOrAsk | Kind::GetOrCreate => "GET, HEAD, POST, OPTIONS",
        }
    }

    /// Beacons are sent to routes for events, with credentials.
    pub fn credentials(&self) -> Credentials {
        if self.access == Access::Write { Credentials::Allowed } else { Credentials::Forbidden }
    }
}
