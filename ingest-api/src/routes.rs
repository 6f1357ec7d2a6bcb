//! The table of routes, and the dispatch of a request to its function. The headers that all answers share are
//! added here. Each row says what the route asks of a key: `Request::admit` checks it for all of them.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONNECTION, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use crate::access::Access;
use crate::answer::Answer;
use crate::api_key::ApiKey;
use crate::body::Upload;
use crate::config::Limits;
use crate::connection_state::ConnectionState;
use crate::cors::Credentials;
use crate::error::Problem;
use crate::metrics::{self, RequestTimer};
use crate::problem_code::ProblemCode;
use crate::ratelimit::Fields;
use crate::request::{Refusal, Request};
use crate::sdk::{self, Protocol, amplitude, cloudevents, lago, mixpanel, posthog, segment};
use crate::service::Service;
use crate::wait::ClientWait;
use crate::{
    batches, bootstrap, cors, framing, health, ingest, limits, openapi, rejections, signature, usage,
};

/// The methods that a route takes, and its kind of client.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// `GET` and `HEAD`, and `OPTIONS` for a browser's preflight request.
    Get,
    /// `POST` in Millrace's own formats, and `OPTIONS`.
    Post,
    /// The same for calls of SDKs, which gather more in one body than other clients.
    Sdk,
    /// The same, and `GET` with the form in the query.
    SdkOrQuery,
    /// `POST` of an SDK that asks for something. The body is not read.
    Question,
    /// `GET` and `HEAD` for the status page: not part of the interface for programs, and not for pages of
    /// other sites.
    Page,
}

#[derive(Clone, Copy, Debug)]
pub struct Route {
    kind: Kind,
    /// What the route asks of a key.
    pub access: Access,
    /// The path; `{id}` stands for any one segment. Also the route's name in metrics.
    pub pattern: &'static str,
}

/// Makes the table [`ROUTES`], and `dispatch`, which runs the expression of a row. A `match` on the pattern
/// and not a function pointer, because the future of a pointer would have to be boxed for each request. The
/// compiler compares the patterns in the order of the rows, so the most frequent one stands first.
macro_rules! routes {
    (($request:ident, $upload:ident) { $($kind:ident $access:ident $pattern:literal => $answer:expr,)* }) => {
        /// Every route, in the order in which they are compared with a path.
        pub const ROUTES: &[Route] = &[
            $(Route { kind: Kind::$kind, access: Access::$access, pattern: $pattern }),*
        ];

        async fn dispatch(route: &Route, $request: Request<'_>, $upload: Upload) -> Answer {
            match route.pattern {
                $($pattern => $answer,)*
                pattern => unreachable!("{pattern} is not in the table of routes"),
            }
        }
    };
}

// The one-letter paths are what Segment's browser library uses.
routes! { (request, upload) {
    Post Write "/v1/events" => events(request, upload).await,
    Sdk Write "/v1/batch" => sdk(request, upload, &segment::BATCH).await,
    Sdk Write "/v1/track" => sdk(request, upload, &segment::TRACK).await,
    Sdk Write "/v1/identify" => sdk(request, upload, &segment::IDENTIFY).await,
    Sdk Write "/v1/page" => sdk(request, upload, &segment::PAGE).await,
    Sdk Write "/v1/screen" => sdk(request, upload, &segment::SCREEN).await,
    Sdk Write "/v1/group" => sdk(request, upload, &segment::GROUP).await,
    Sdk Write "/v1/alias" => sdk(request, upload, &segment::ALIAS).await,
    Sdk Write "/v1/import" => sdk(request, upload, &segment::BATCH).await,
    Sdk Write "/v1/b" => sdk(request, upload, &segment::BATCH).await,
    Sdk Write "/v1/t" => sdk(request, upload, &segment::TRACK).await,
    Sdk Write "/v1/i" => sdk(request, upload, &segment::IDENTIFY).await,
    Sdk Write "/v1/p" => sdk(request, upload, &segment::PAGE).await,
    Sdk Write "/v1/s" => sdk(request, upload, &segment::SCREEN).await,
    Sdk Write "/v1/g" => sdk(request, upload, &segment::GROUP).await,
    Sdk Write "/v1/a" => sdk(request, upload, &segment::ALIAS).await,
    Sdk Write "/beacon/v1/batch" => sdk(request, upload, &segment::BATCH).await,
    Sdk Write "/batch/" => sdk(request, upload, &posthog::CAPTURE).await,
    Sdk Write "/capture" => sdk(request, upload, &posthog::CAPTURE).await,
    Sdk Write "/e" => sdk(request, upload, &posthog::CAPTURE).await,
    Sdk Write "/i/v0/e" => sdk(request, upload, &posthog::CAPTURE).await,
    Sdk Write "/i/v0/ai/batch" => sdk(request, upload, &posthog::CAPTURE).await,
    Sdk Write "/i/v1/analytics/events" => sdk(request, upload, &posthog::ANALYTICS).await,
    Sdk Write "/api/v1/events" => sdk(request, upload, &cloudevents::SHARED).await,
    Sdk Write "/v1/cloudevents" => sdk(request, upload, &cloudevents::EVENTS).await,
    Sdk Write "/api/v1/events/batch" => sdk(request, upload, &lago::BATCH).await,
    Sdk Write "/2/httpapi" => sdk(request, upload, &amplitude::EVENTS).await,
    Sdk Write "/batch" => sdk(request, upload, &amplitude::EVENTS).await,
    Sdk Write "/identify" => sdk(request, upload, &amplitude::IDENTIFY).await,
    SdkOrQuery Write "/track" => sdk(request, upload, &mixpanel::EVENTS).await,
    SdkOrQuery Write "/import" => sdk(request, upload, &mixpanel::EVENTS).await,
    SdkOrQuery Write "/engage" => sdk(request, upload, &mixpanel::PEOPLE).await,
    SdkOrQuery Write "/groups" => sdk(request, upload, &mixpanel::GROUPS).await,
    Question Open "/flags" => posthog::flags(),
    Question Open "/decide" => posthog::flags(),
    Get Write "/array/{id}/config" => bootstrap(request, posthog::config(request)),
    Get Write "/array/{id}/config.js" => bootstrap(request, posthog::config_script(request)),
    Get Write "/v1/projects/{id}/settings" => bootstrap(request, bootstrap::segment_settings(request)),
    Get Write "/sourceConfig" => bootstrap(request, bootstrap::source_config(request)),
    Get Write "/sourceConfig/" => bootstrap(request, bootstrap::source_config(request)),
    Get Read "/v1/batches/{id}" => report(request, batches::get).await,
    Get Read "/v1/usage" => report(request, usage::get).await,
    Get Read "/v1/rejections" => report(request, rejections::get).await,
    Get Read "/v1/limits" => report(request, limits::get).await,
    Get Open "/healthz" => health::alive(),
    Get Open "/readyz" => health::ready(request.service).await,
    Get Open "/openapi.json" => openapi::get(),
    Page Open "/" => page(request.service.status.page(request.head)),
    Page Open "/status/stream" => page(request.service.status.stream(request.head)),
} }

/// The name in metrics of requests that have no route.
const UNMATCHED: &str = "unmatched";
/// The methods of a path that may or may not exist.
const ANY_METHOD: &str = "GET, HEAD, POST, OPTIONS";

/// The names of routes in metrics, by their index in [`ROUTES`]. The last one is for requests that have no
/// route.
pub fn names() -> Vec<&'static str> {
    ROUTES.iter().map(|route| route.pattern).chain([UNMATCHED]).collect()
}

impl Route {
    /// The segment of the path that `{id}` stands for, empty if the pattern has none. `None` when the path is
    /// not this route's. A route for a POST also takes its path with a slash at the end, which SDKs append.
    fn id_in<'path>(&self, path: &'path str) -> Option<&'path str> {
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
        self.takes_events() || self.kind == Kind::Question
    }

    fn body_bytes_max(&self, limits: &Limits) -> usize {
        match self.kind {
            Kind::Get | Kind::Page | Kind::Question => 0,
            Kind::Post => limits.body_bytes_max,
            Kind::Sdk | Kind::SdkOrQuery => limits.sdk_body_bytes_max,
        }
    }

    fn takes(&self, method: &Method) -> bool {
        match self.kind {
            Kind::Get | Kind::Page => method == Method::GET || method == Method::HEAD,
            Kind::Post | Kind::Sdk | Kind::Question => method == Method::POST,
            Kind::SdkOrQuery => method == Method::POST || method == Method::GET,
        }
    }

    /// Its methods, as the header `Allow` lists them.
    pub fn allow(&self) -> &'static str {
        match self.kind {
            Kind::Get => "GET, HEAD, OPTIONS",
            Kind::Page => "GET, HEAD",
            Kind::Post | Kind::Sdk | Kind::Question => "POST, OPTIONS",
            Kind::SdkOrQuery => "GET, POST, OPTIONS",
        }
    }

    /// Beacons are sent to routes for events, with credentials.
    fn credentials(&self) -> Credentials {
        if self.access == Access::Write { Credentials::Allowed } else { Credentials::Forbidden }
    }
}

/// Answers one request of a connection.
pub async fn answer(
    service: Arc<Service>,
    request: hyper::Request<Incoming>,
    connection: ConnectionState,
) -> Answer {
    let timer = RequestTimer::start();
    let (head, body) = request.into_parts();
    let upload = Upload::new(&head.headers, body, connection);
    let path = head.uri.path();
    let has_page = service.status.is_shown();
    let found = ROUTES.iter().enumerate().find_map(|(index, route)| {
        let id = route.id_in(path)?;
        (has_page || !route.is_page()).then_some((index, route, id))
    });
    let mut answer = match (framing::check(&head), found) {
        (Err(error), _) => refuse_misdirected(&service, &head.method, &error.into()),
        // So that a page can read the answer to a wrong path.
        (Ok(()), None) if head.method == Method::OPTIONS && cors::is_preflight(&head.headers) => {
            cors::preflight(ANY_METHOD, &head.headers)
        }
        (Ok(()), None) => {
            let message = "there is no such path; /openapi.json lists all paths";
            refuse_misdirected(&service, &head.method, &Problem::new(ProblemCode::NotFound, message))
        }
        (Ok(()), Some((_, route, id))) if route.takes(&head.method) => {
            let (access, body_bytes_max) = (route.access, route.body_bytes_max(&service.limits));
            let request = Request { service: &service, head: &head, access, id, body_bytes_max };
            dispatch(route, request, upload).await
        }
        (Ok(()), Some((_, route, _))) if !route.is_page() && head.method == Method::OPTIONS => {
            cors::preflight(route.allow(), &head.headers)
        }
        (Ok(()), Some((_, route, _))) => {
            refuse_misdirected(&service, &head.method, &Problem::method_not_allowed(route.allow()))
        }
    };
    let headers = answer.headers_mut();
    if !found.is_some_and(|(_, route, _)| route.is_page()) {
        let credentials = found.map_or(Credentials::Forbidden, |(_, route, _)| route.credentials());
        cors::allow_origin(headers, &head.headers, credentials);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if service.draining() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let waited = answer.extensions().get().map_or(Duration::ZERO, |ClientWait(waited)| *waited);
    timer.answered(found.map_or(ROUTES.len(), |(index, ..)| index), answer.status().as_u16(), waited);
    answer
}

/// Refuses a request that has no route, or a doubtful head. The status page shows it only if it is a POST,
/// which was probably meant to send events.
fn refuse_misdirected(service: &Service, method: &Method, problem: &Problem) -> Answer {
    if method == Method::POST {
        note_refused(service, None, problem);
        return problem.answer();
    }
    metrics::request_refused(problem.code);
    problem.answer()
}

fn note_refused(service: &Service, key: Option<&ApiKey>, problem: &Problem) {
    metrics::request_refused(problem.code);
    service.status.note_request(key.map(|key| &key.account.project_name), problem);
}

/// Takes a batch from the caller whose key is in the headers.
async fn events(request: Request<'_>, upload: Upload) -> Answer {
    match ingest::events_caller(request) {
        Err(refusal) => refuse_caller(request.service, &refusal),
        Ok(key) => {
            let answer = ingest::post_events(request, upload, &key).await;
            batch_answer(request.service, &key, answer, Problem::answer)
        }
    }
}

/// Takes a batch of an SDK from the caller whose key is in the headers or in the body.
async fn sdk(request: Request<'_>, upload: Upload, protocol: &'static Protocol) -> Answer {
    let service = request.service;
    match sdk::caller(request, upload, protocol).await {
        Err(Refusal { problem, key }) => {
            note_refused_caller(service, key.as_deref(), &problem);
            (protocol.refusal)(&problem)
        }
        Ok((key, body)) => {
            let answer = sdk::post(request, body, &key, protocol).await;
            batch_answer(service, &key, answer, protocol.refusal)
        }
    }
}

/// As [`with_limits`], for a request that sends events: its refusal is noted for the owner of the project.
fn batch_answer(
    service: &Service,
    key: &ApiKey,
    answer: Result<Answer, Problem>,
    refusal: fn(&Problem) -> Answer,
) -> Answer {
    if let Err(problem) = &answer {
        service.rejections.note_request(key.account.project, problem);
    }
    with_limits(service, key, answer, refusal)
}

/// Refuses a request that has no caller. If its key is known, the owner of the project learns of it.
fn refuse_caller(service: &Service, Refusal { problem, key }: &Refusal) -> Answer {
    note_refused_caller(service, key.as_deref(), problem);
    problem.answer()
}

fn note_refused_caller(service: &Service, key: Option<&ApiKey>, problem: &Problem) {
    if let Some(key) = key {
        service.rejections.note_request(key.account.project, problem);
    }
    note_refused(service, key, problem);
}

/// Answers an SDK in a web page that asks for its settings.
fn bootstrap(request: Request<'_>, answer: Result<Answer, Refusal>) -> Answer {
    answer.unwrap_or_else(|refusal| refuse_caller(request.service, &refusal))
}

/// Answers a report to the caller whose key is in the headers.
async fn report<'a>(
    request: Request<'a>,
    get: impl AsyncFnOnce(Request<'a>, &ApiKey) -> Result<Answer, Problem>,
) -> Answer {
    let headers = &request.head.headers;
    match request.caller() {
        Err(refusal) => refuse_caller(request.service, &refusal),
        Ok(key) => {
            // The request has no body, so its signature covers none.
            let answer = match signature::verify_now(&key.account, headers, b"") {
                Ok(()) => get(request, &key).await,
                Err(error) => Err(error.into()),
            };
            with_limits(request.service, &key, answer, Problem::answer)
        }
    }
}

/// Answers for the status page. A refusal is not counted: the page is not part of the interface.
fn page(answer: Result<Answer, Problem>) -> Answer {
    answer.unwrap_or_else(|problem| problem.answer())
}

/// Adds the state of the caller's limits to its answer. A key for web pages learns nothing of its project.
/// Nor does a signed key, which may be stolen, before its signature was checked.
fn with_limits(
    service: &Service,
    key: &ApiKey,
    answer: Result<Answer, Problem>,
    refusal: fn(&Problem) -> Answer,
) -> Answer {
    let is_signed = match &answer {
        Ok(_) => true,
        Err(problem) => problem.code.follows_the_signature(),
    };
    let sees_limits = key.sees_limits() && (is_signed || key.account.signing_secrets.is_empty());
    let mut answer = answer.unwrap_or_else(|problem| {
        note_refused(service, Some(key), &problem);
        refusal(&if sees_limits { problem } else { problem.without_limits() })
    });
    if sees_limits {
        let fields = Fields::new(key.plan(), &key.project.limit_state());
        answer.headers_mut().insert("ratelimit-policy", fields.policy);
        answer.headers_mut().insert("ratelimit", fields.state);
    }
    answer
}

#[cfg(test)]
mod documented;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_for_a_post_and_no_other_takes_one_slash_more() {
        for route in ROUTES.iter().filter(|route| !route.pattern.ends_with(['}', '/'])) {
            let takes = |end: &str| route.id_in(&format!("{}{end}", route.pattern)).is_some();
            assert!(takes(""), "{route:?}");
            assert_eq!(takes("/"), route.takes(&Method::POST), "{route:?}");
            assert!(!takes("//") && !takes("/x"), "{route:?}");
        }
    }

    #[test]
    fn a_pattern_with_an_id_takes_one_segment_that_is_not_empty() {
        let route = ROUTES.iter().find(|route| route.pattern == "/v1/batches/{id}").unwrap();
        assert_eq!(route.id_in("/v1/batches/7"), Some("7"));
        for path in ["/v1/batches", "/v1/batches/", "/v1/batches/7/", "/v1/batches/7/8", "/v1/limits"] {
            assert_eq!(route.id_in(path), None, "{path}");
        }
    }
}
