//! The table of routes, and the way from a request to its handler. What all answers share is added here.

use std::sync::Arc;
use std::time::Duration;

use crate::metrics::{self, InFlight};
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONNECTION, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::http::request::Parts;
use hyper::{Method, Request, StatusCode};
use millrace_event::dialect::{Dialect, segment};

use crate::accounts::Known;
use crate::answer::Answer;
use crate::body::Upload;
use crate::error::Problem;
use crate::ratelimit::Fields;
use crate::service::Service;
use crate::status::View;
use crate::wait::Waited;
use crate::{batches, cors, health, ingest, limits, openapi, signature, usage};

/// One route.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET` (which serves `HEAD`, too) or `POST`.
    pub method: Verb,
    /// The path; a last segment in braces stands for any one segment. Also the route's name in metrics.
    pub path: &'static str,
    handler: Handler,
}

/// The methods that routes have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    /// Reads.
    Get,
    /// Sends events.
    Post,
}

#[derive(Clone, Copy, Debug)]
enum Handler {
    /// Answers anybody.
    Open(Open),
    /// Answers the caller whose key is in the head.
    Keyed(Keyed),
    /// Answers the caller whose key is in the head or in the body.
    Segment(&'static Dialect),
    /// Answers whom the status page is shown to; for everybody else it is not there.
    Status(View),
}

#[derive(Clone, Copy, Debug)]
enum Open {
    Alive,
    Ready,
    Document,
}

#[derive(Clone, Copy, Debug)]
enum Keyed {
    Events,
    Batch,
    Usage,
    Limits,
}

const fn get(path: &'static str, handler: Handler) -> Route {
    Route { method: Verb::Get, path, handler }
}

const fn post(path: &'static str, handler: Handler) -> Route {
    Route { method: Verb::Post, path, handler }
}

const fn segment(path: &'static str, dialect: &'static Dialect) -> Route {
    post(path, Handler::Segment(dialect))
}

/// Every route. The one-letter paths are what Segment's browser library uses.
pub const ROUTES: &[Route] = &[
    post("/v1/events", Handler::Keyed(Keyed::Events)),
    segment("/v1/batch", &segment::BATCH),
    segment("/v1/track", &segment::TRACK),
    segment("/v1/identify", &segment::IDENTIFY),
    segment("/v1/page", &segment::PAGE),
    segment("/v1/screen", &segment::SCREEN),
    segment("/v1/group", &segment::GROUP),
    segment("/v1/alias", &segment::ALIAS),
    segment("/v1/import", &segment::BATCH),
    segment("/v1/b", &segment::BATCH),
    segment("/v1/t", &segment::TRACK),
    segment("/v1/i", &segment::IDENTIFY),
    segment("/v1/p", &segment::PAGE),
    segment("/v1/s", &segment::SCREEN),
    segment("/v1/g", &segment::GROUP),
    segment("/v1/a", &segment::ALIAS),
    get("/v1/batches/{id}", Handler::Keyed(Keyed::Batch)),
    get("/v1/usage", Handler::Keyed(Keyed::Usage)),
    get("/v1/limits", Handler::Keyed(Keyed::Limits)),
    get("/healthz", Handler::Open(Open::Alive)),
    get("/readyz", Handler::Open(Open::Ready)),
    get("/openapi.json", Handler::Open(Open::Document)),
    get("/", Handler::Status(View::Page)),
    get("/status/stream", Handler::Status(View::Live)),
];

/// The route's name in metrics for requests that have none.
const UNMATCHED: &str = "unmatched";

/// What routes are called in metrics, by their places in [`ROUTES`]; the last one is for requests that have none.
pub fn names() -> Vec<&'static str> {
    ROUTES.iter().map(|route| route.path).chain([UNMATCHED]).collect()
}

impl Route {
    /// Whether the path is this route's.
    fn matches(&self, path: &str) -> bool {
        match self.path.strip_suffix("{id}") {
            Some(prefix) => path.strip_prefix(prefix).is_some_and(|id| !id.is_empty() && !id.contains('/')),
            None => self.path == path,
        }
    }

    /// Whether this is the status page's: not part of the interface for programs, and not for pages of other sites.
    pub fn is_for_people(&self) -> bool {
        matches!(self.handler, Handler::Status(_))
    }

    fn takes(&self, method: &Method) -> bool {
        match self.method {
            Verb::Get => method == Method::GET || method == Method::HEAD,
            Verb::Post => method == Method::POST,
        }
    }

    fn allow(&self) -> &'static str {
        match self.method {
            Verb::Get => "GET, HEAD",
            Verb::Post => "POST, OPTIONS",
        }
    }
}

/// Answers one request.
pub async fn answer(service: Arc<Service>, request: Request<Incoming>) -> Answer {
    let in_flight = InFlight::new();
    let (head, body) = request.into_parts();
    let upload = Upload::new(&head.headers, body);
    let path = head.uri.path();
    let is_there =
        |route: &Route| route.matches(path) && (service.status.is_shown() || !route.is_for_people());
    let place = ROUTES.iter().position(is_there);
    let route = place.map(|place| &ROUTES[place]);
    let mut answer = match route {
        None => {
            let nothing =
                Problem::NotFound("there is nothing at this path; /openapi.json tells what there is");
            misdirected(&service, &head.method, &nothing)
        }
        Some(route) if route.takes(&head.method) => dispatch(&service, route, &head, upload).await,
        Some(route) if route.method == Verb::Post && head.method == Method::OPTIONS => cors::preflight(),
        Some(route) => {
            let wrong = Problem::MethodNotAllowed { allow: route.allow().to_owned() };
            misdirected(&service, &head.method, &wrong)
        }
    };
    let headers = answer.headers_mut();
    if !route.is_some_and(Route::is_for_people) {
        cors::allow_any_origin(headers);
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    if service.draining() {
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let waited = answer.extensions().get().map_or(Duration::ZERO, |Waited(waited)| *waited);
    in_flight.answered(place.unwrap_or(ROUTES.len()), answer.status().as_u16(), waited);
    answer
}

/// Nothing takes the request. Only of a post is it told on the status page: somebody expected to be heard.
fn misdirected(service: &Service, method: &Method, problem: &Problem) -> Answer {
    if method == Method::POST {
        return refuse(service, None, problem);
    }
    metrics::request_refused(problem.code());
    problem.answer()
}

fn refuse(service: &Service, known: Option<&Known>, problem: &Problem) -> Answer {
    metrics::request_refused(problem.code());
    service.status.note_request(known.map(|known| &known.account.project_name), problem);
    problem.answer()
}

async fn dispatch(service: &Service, route: &Route, head: &Parts, upload: Upload) -> Answer {
    match route.handler {
        Handler::Open(Open::Alive) => health::alive(),
        Handler::Open(Open::Ready) => health::ready(service).await,
        Handler::Open(Open::Document) => openapi::show(),
        Handler::Keyed(handler) => match service.caller(&head.headers) {
            Err(problem) => refuse(service, None, &problem),
            Ok(known) => for_caller(service, serve(service, handler, head, upload, &known).await, &known),
        },
        Handler::Segment(dialect) => match ingest::segment_caller(service, &head.headers, upload).await {
            Err(problem) => refuse(service, None, &problem),
            Ok((known, body)) => {
                for_caller(service, ingest::segment(service, head, body, &known, dialect).await, &known)
            }
        },
        Handler::Status(view) => {
            service.status.show(view, head, service.stage.clone()).unwrap_or_else(|problem| problem.answer())
        }
    }
}

async fn serve(
    service: &Service,
    handler: Keyed,
    head: &Parts,
    upload: Upload,
    known: &Arc<Known>,
) -> Result<Answer, Problem> {
    let project = known.account.project;
    // A report has no body, so its signature covers none.
    let signed = || signature::verify_now(&known.account, &head.headers, b"");
    match handler {
        Keyed::Events => ingest::native(service, head, upload, known).await,
        Keyed::Batch => {
            signed()?;
            let id = head.uri.path().rsplit('/').next().unwrap_or_default();
            batches::show(service, project, id).await
        }
        Keyed::Usage => {
            signed()?;
            usage::show(service, project, head.uri.query()).await
        }
        Keyed::Limits => {
            signed()?;
            limits::show(service, known).await
        }
    }
}

/// Whatever a known caller is told, the state of its limits is told with it.
fn for_caller(service: &Service, served: Result<Answer, Problem>, known: &Known) -> Answer {
    let mut answer = served.unwrap_or_else(|problem| refuse(service, Some(known), &problem));
    // The key was right and the signature was not: that is nobody we know.
    if answer.status() != StatusCode::UNAUTHORIZED {
        let fields = Fields::new(known.plan(), &known.project.limit_state());
        answer.headers_mut().insert("ratelimit-policy", fields.policy);
        answer.headers_mut().insert("ratelimit", fields.state);
    }
    answer
}
