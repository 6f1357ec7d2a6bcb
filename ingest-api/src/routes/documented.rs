//! Tests: the OpenAPI document says of each route what the table of routes says.

use std::collections::BTreeSet;

use serde_json::Value;

use super::*;

fn members(value: &Value) -> &serde_json::Map<String, Value> {
    value.as_object().expect("an object where OpenAPI has one")
}

fn document() -> Value {
    serde_json::from_str(include_str!("../openapi.json")).expect("openapi.json is JSON")
}

#[test]
fn the_interface_document_has_every_route_for_programs_and_no_other() {
    let document = document();
    let paths = members(&document["paths"]);
    let documented: BTreeSet<_> = paths
        .iter()
        .flat_map(|(path, methods)| members(methods).keys().map(move |method| (path, method)))
        .map(|(path, method)| format!("{method} {path}"))
        .collect();
    let served: BTreeSet<_> = ROUTES
        .iter()
        .filter(|route| !route.is_page())
        .flat_map(|route| methods(route).iter().map(|method| format!("{method} {}", route.pattern)))
        .collect();
    assert_eq!(documented, served);
}

fn methods(route: &Route) -> &'static [&'static str] {
    match route.kind {
        Kind::Get | Kind::Page => &["get"],
        Kind::Post | Kind::Sdk | Kind::Correction | Kind::Question | Kind::Order => &["post"],
        Kind::SdkOrQuery | Kind::GetOrAsk | Kind::GetOrCreate => &["get", "post"],
        Kind::GetOrChange => &["get", "patch"],
        Kind::Put => &["put"],
        Kind::GetPutOrDelete => &["get", "put", "delete"],
        Kind::Delete => &["delete"],
    }
}

/// Every operation of a route in the document.
fn operations<'a>(document: &'a Value, route: &Route) -> impl Iterator<Item = &'a Value> {
    let path = &document["paths"][route.pattern];
    methods(route).iter().map(move |method| &path[*method])
}

/// Whether the route's SDKs are answered with 503 where others get 429.
fn is_without_429(route: &Route) -> bool {
    let posthog = ["/capture", "/e", "/i/v0/", "/i/v1/"];
    let both = ["/batch/", "/batch"];
    let amplitude = ["/2/httpapi", "/identify"];
    let is_posthog = posthog
        .iter()
        .any(|start| route.pattern == *start || start.ends_with('/') && route.pattern.starts_with(start));
    is_posthog || both.contains(&route.pattern) || amplitude.contains(&route.pattern)
}

/// Whether the route's SDKs would send again what they are refused with 413 or 415.
fn is_snowplows(route: &Route) -> bool {
    route.pattern == "/i" || route.pattern.starts_with("/com.snowplowanalytics.")
}

/// Whether the route's SDKs take only 204 for success.
fn is_answered_204(route: &Route) -> bool {
    route.pattern == "/v1/cloudevents"
}

/// Whether the path names one thing, which may not exist. That the key in a path is unknown is 401.
fn names_one(route: &Route) -> bool {
    matches!(route.access, Access::Read | Access::Admin) && route.pattern.contains('{')
}

/// The statuses of an operation that manages the installation.
fn statuses_of_admin(route: &Route, operation: &Value) -> &'static str {
    let has_body = operation["requestBody"].is_object();
    match (has_body, names_one(route), route.kind) {
        (false, false, _) => "200 400 401 403 503",
        (false, true, _) => "200 400 401 403 404 503",
        (true, _, Kind::GetOrChange) => "200 400 401 403 404 408 413 415 422 503",
        (true, _, Kind::GetPutOrDelete) => "200 400 401 403 404 408 413 415 422 503",
        (true, _, Kind::Put) => "200 201 400 401 403 404 408 413 415 422 503",
        (true, false, _) => "201 400 401 403 408 409 413 415 422 503",
        (true, true, _) => "201 400 401 403 404 408 409 413 415 422 503",
    }
}

#[test]
fn every_operation_lists_the_statuses_that_its_route_can_answer_and_no_other() {
    let document = document();
    let mut listed_somewhere = BTreeSet::new();
    let routes = ROUTES.iter().filter(|route| !route.is_page());
    for (route, operation) in
        routes.flat_map(|route| operations(&document, route).map(move |operation| (route, operation)))
    {
        let listed: Vec<_> = members(&operation["responses"]).keys().collect();
        let expected = match (route.kind, route.access) {
            (_, Access::Admin) => statuses_of_admin(route, operation),
            (Kind::Post, _) => "200 202 400 401 403 408 413 415 422 429 503",
            _ if is_snowplows(route) => "200 400 401 403 408 422 429 503",
            (Kind::Sdk, _) if is_without_429(route) => "200 400 401 403 408 413 415 422 503",
            (Kind::Sdk, _) if route.pattern == "/api/v1/events" => {
                "200 204 400 401 403 408 413 415 422 429 503"
            }
            // Its exporters come back after 503, and not after 408.
            (Kind::Sdk, _) if route.pattern == "/v1/logs" => "200 400 401 403 413 415 422 429 503",
            (Kind::Sdk, _) if is_answered_204(route) => "204 400 401 403 408 413 415 422 429 503",
            (Kind::Sdk | Kind::SdkOrQuery, _) => "200 400 401 403 408 413 415 422 429 503",
            (Kind::Correction, _) => "200 400 401 403 408 413 415 503",
            (Kind::Question, _) => "200 400",
            (Kind::Get, Access::Open) if route.pattern == "/readyz" => "200 400 503",
            (Kind::Get, Access::Open) => "200 400",
            (Kind::GetOrAsk, _) if operation["requestBody"].is_object() => {
                "200 400 401 403 404 408 413 415 503"
            }
            (Kind::Get | Kind::GetOrAsk, _) if names_one(route) => "200 400 401 403 404 503",
            (Kind::GetOrAsk, _) => unreachable!("such a route names what it asks"),
            (Kind::Get, _) => "200 400 401 403 503",
            (
                Kind::GetOrCreate
                | Kind::GetOrChange
                | Kind::Put
                | Kind::GetPutOrDelete
                | Kind::Order
                | Kind::Delete,
                _,
            ) => unreachable!("such a route manages the installation"),
            (Kind::Page, _) => unreachable!("pages are not in the document"),
        };
        assert_eq!(listed, expected.split(' ').collect::<Vec<_>>(), "{}", route.pattern);
        listed_somewhere.extend(listed.into_iter().cloned());
    }
    for code in ProblemCode::ALL {
        // The document has no operation for a method that a path does not take.
        let is_listed = listed_somewhere.contains(code.status().as_str());
        assert_eq!(is_listed, *code != ProblemCode::MethodNotAllowed, "{code:?}");
    }
}

#[test]
fn every_operation_names_the_ways_in_which_its_route_finds_a_key() {
    let document = document();
    let routes = ROUTES.iter().filter(|route| !route.is_page());
    for (route, operation) in
        routes.flat_map(|route| operations(&document, route).map(move |operation| (route, operation)))
    {
        let security = operation["security"].as_array().expect(route.pattern);
        let way = |way: &Value| members(way).keys().next().map_or("the body", String::as_str).to_owned();
        let named: Vec<_> = security.iter().map(way).collect();
        let expected: &[&str] = match (route.kind, route.access) {
            (_, Access::Open) => &[],
            (_, Access::Admin) => &["adminKey"],
            // The key is in the path.
            (Kind::Get, Access::Write) if route.pattern.contains("{id}") => &[],
            (_, Access::Read | Access::Correct) => &["bearer", "basic"],
            (Kind::Sdk, _) if route.pattern.starts_with("/api/s/") => {
                &["bearer", "basic", "xWriteKey", "writeKey", "the body"]
            }
            (Kind::Sdk | Kind::SdkOrQuery, _) => &["bearer", "basic", "writeKey", "the body"],
            (_, Access::Write) => &["bearer", "basic", "writeKey"],
        };
        assert_eq!(named, expected, "{}", route.pattern);
    }
}
