//! The table of routes, and the dispatch of a request to its function. The headers that all answers share are
//! added here. Each row says what the route asks of a key: `Request::admit` checks it for all of them.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONNECTION, HeaderValue, X_CONTENT_TYPE_OPTIONS};

use crate::access::Access;
use crate::answer::Answer;
use crate::body::Upload;
use crate::connection_state::ConnectionState;
use crate::cors::Credentials;
use crate::error::Problem;
use crate::handlers::{admin, ask, bootstrap, events, page, refuse_misdirected, report, sdk};
use crate::meters::openmeter;
use crate::metrics::RequestTimer;
use crate::problem_code::ProblemCode;
use crate::request::Request;
use crate::route::{Kind, Route};
use crate::sdk::{amplitude, cloudevents, jitsu, lago, mixpanel, otlp, posthog, segment, snowplow};
use crate::service::Service;
use crate::wait::ClientWait;
use crate::{admin, batches, cancel, cors, framing, health, limits, meters, openapi, rejections, usage};

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
    Sdk Write "/v1/logs" => sdk(request, upload, otlp::logs(&request.head.headers)).await,
    SdkOrQuery Write "/track" => sdk(request, upload, &mixpanel::EVENTS).await,
    SdkOrQuery Write "/import" => sdk(request, upload, &mixpanel::EVENTS).await,
    SdkOrQuery Write "/engage" => sdk(request, upload, &mixpanel::PEOPLE).await,
    SdkOrQuery Write "/groups" => sdk(request, upload, &mixpanel::GROUPS).await,
    Sdk Write "/api/s/{id}" => sdk(request, upload, jitsu::of_type(request.id)).await,
    Sdk Write "/api/s/s2s/{id}" => sdk(request, upload, jitsu::of_type(request.id)).await,
    Sdk Write "/com.snowplowanalytics.snowplow/tp2" => sdk(request, upload, &snowplow::EVENTS).await,
    SdkOrQuery Write "/i" => sdk(request, upload, &snowplow::EVENTS).await,
    Question Open "/flags" => posthog::flags(),
    Question Open "/decide" => posthog::flags(),
    Get Write "/array/{id}/config" => bootstrap(request, posthog::config(request)),
    Get Write "/array/{id}/config.js" => bootstrap(request, posthog::config_script(request)),
    Get Write "/v1/projects/{id}/settings" => bootstrap(request, crate::bootstrap::segment_settings(request)),
    Get Write "/sourceConfig" => bootstrap(request, crate::bootstrap::source_config(request)),
    Get Write "/sourceConfig/" => bootstrap(request, crate::bootstrap::source_config(request)),
    Correction Correct "/v1/events/cancel" => ask(request, upload, cancel::post).await,
    Get Read "/v1/batches/{id}" => report(request, batches::get).await,
    Get Read "/v1/usage" => report(request, usage::get).await,
    Get Read "/v1/rejections" => report(request, rejections::get).await,
    Get Read "/v1/meters" => report(request, meters::list).await,
    Get Read "/v1/meters/{id}" => report(request, meters::show).await,
    Get Read "/v1/meters/{id}/query" => report(request, meters::query).await,
    Get Read "/v1/meters/{id}/limits" => report(request, meters::limits).await,
    Get Read "/api/v1/meters" => report(request, openmeter::list).await,
    Get Read "/api/v1/meters/{id}" => report(request, openmeter::get).await,
    GetOrAsk Read "/api/v1/meters/{id}/query" => ask(request, upload, openmeter::query).await,
    Get Read "/v1/limits" => report(request, limits::get).await,
    GetOrCreate Admin "/v1/admin/projects" => admin(request, upload, admin::projects).await,
    GetOrChange Admin "/v1/admin/projects/{name}" => admin(request, upload, admin::project).await,
    GetOrCreate Admin "/v1/admin/projects/{name}/keys" => admin(request, upload, admin::keys).await,
    GetOrCreate Admin "/v1/admin/projects/{name}/meters" => admin(request, upload, admin::meters).await,
    Delete Admin "/v1/admin/projects/{name}/meters/{slug}" => admin(request, upload, admin::delete_meter).await,
    GetPutOrDelete Admin "/v1/admin/projects/{name}/limits" => admin(request, upload, admin::limits).await,
    Get Admin "/v1/admin/projects/{name}/thresholds" => admin(request, upload, admin::thresholds).await,
    GetPutOrDelete Admin "/v1/admin/projects/{name}/thresholds/{threshold}" => admin(request, upload, admin::threshold).await,
    Get Admin "/v1/admin/projects/{name}/notifications" => admin(request, upload, admin::notifications).await,
    Order Admin "/v1/admin/keys/{key_id}/rotate" => admin(request, upload, admin::rotate_key).await,
    Delete Admin "/v1/admin/keys/{key_id}" => admin(request, upload, admin::revoke_key).await,
    Get Admin "/v1/admin/plans" => admin(request, upload, admin::plans).await,
    Put Admin "/v1/admin/plans/{name}" => admin(request, upload, admin::set_plan).await,
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

/// Answers one request of a connection.
pub async fn answer(
    service: Arc<Service>,
    request: hyper::Request<Incoming>,
    connection: ConnectionState,
) -> Answer {
    let timer = RequestTimer::start();
    let (head, body) = request.into_parts();
    let peer = connection.peer();
    let upload = Upload::new(&head.headers, body, connection);
    let path = head.uri.path();
    let has_page = service.status.is_shown();
    let found = ROUTES.iter().enumerate().find_map(|(index, route)| {
        let ids = route.ids_in(path)?;
        (has_page || !route.is_page()).then_some((index, route, ids))
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
        (Ok(()), Some((_, route, [id, second_id]))) if route.takes(&head.method) => {
            let (access, body_bytes_max) = (route.access, route.body_bytes_max(&service.limits));
            let request =
                Request { service: &service, head: &head, peer, access, id, second_id, body_bytes_max };
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

#[cfg(test)]
mod documented;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_for_a_post_and_no_other_takes_one_slash_more() {
        let without_id = ROUTES.iter().filter(|route| !route.pattern.contains('}'));
        for route in without_id.filter(|route| !route.pattern.ends_with('/')) {
            let takes = |end: &str| route.ids_in(&format!("{}{end}", route.pattern)).is_some();
            assert!(takes(""), "{route:?}");
            let is_for_sdks = route.takes(&Method::POST) && route.access != Access::Admin;
            assert_eq!(takes("/"), is_for_sdks, "{route:?}");
            assert!(!takes("//") && !takes("/x"), "{route:?}");
        }
    }

    #[test]
    fn a_pattern_with_an_id_takes_one_segment_that_is_not_empty() {
        let route = ROUTES.iter().find(|route| route.pattern == "/v1/batches/{id}").unwrap();
        assert_eq!(route.ids_in("/v1/batches/7"), Some(["7", ""]));
        let meter = ROUTES.iter().find(|route| route.pattern.ends_with("/meters/{slug}")).unwrap();
        assert_eq!(meter.ids_in("/v1/admin/projects/a%2Fb/meters/c"), Some(["a%2Fb", "c"]));
        for path in ["projects/a/meters", "projects/a/meters/", "projects//meters/c", "projects/a/b/meters/c"]
        {
            assert_eq!(meter.ids_in(&format!("/v1/admin/{path}")), None, "{path}");
        }
        for path in ["/v1/batches", "/v1/batches/", "/v1/batches/7/", "/v1/batches/7/8", "/v1/limits"] {
            assert_eq!(route.ids_in(path), None, "{path}");
        }
    }
}
