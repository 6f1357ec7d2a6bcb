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
        .filter_map(|route| match route.kind {
            Kind::Get => Some(format!("get {}", route.pattern)),
            Kind::Post | Kind::Sdk => Some(format!("post {}", route.pattern)),
            Kind::Page => None,
        })
        .collect();
    assert_eq!(documented, served);
}

/// The operation of a route in the document.
fn operation<'a>(document: &'a Value, route: &Route) -> &'a Value {
    let method = if route.takes_events() { "post" } else { "get" };
    &document["paths"][route.pattern][method]
}

#[test]
fn every_operation_lists_the_statuses_that_its_route_can_answer_and_no_other() {
    let document = document();
    let mut listed_somewhere = BTreeSet::new();
    for route in ROUTES.iter().filter(|route| !route.is_page()) {
        let operation = operation(&document, route);
        let listed: Vec<_> = members(&operation["responses"]).keys().collect();
        let expected = match (route.kind, route.access) {
            (Kind::Post, _) => "200 202 400 401 403 408 413 415 422 429 503",
            (Kind::Sdk, _) => "200 400 401 403 408 413 415 422 429 503",
            (Kind::Get, Access::Open) if route.pattern == "/readyz" => "200 400 503",
            (Kind::Get, Access::Open) => "200 400",
            (Kind::Get, _) if route.pattern == "/v1/batches/{id}" => "200 400 401 403 404 503",
            (Kind::Get, _) => "200 400 401 403 503",
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
    for route in ROUTES.iter().filter(|route| !route.is_page()) {
        let security = operation(&document, route)["security"].as_array().expect(route.pattern);
        let way = |way: &Value| members(way).keys().next().map_or("the body", String::as_str).to_owned();
        let named: Vec<_> = security.iter().map(way).collect();
        let expected: &[&str] = match (route.kind, route.access) {
            (_, Access::Open) => &[],
            // The key is in the path.
            (Kind::Get, Access::Write) if route.pattern.contains("{id}") => &[],
            (_, Access::Read) => &["bearer", "basic"],
            (Kind::Sdk, _) => &["bearer", "basic", "writeKey", "the body"],
            (_, Access::Write) => &["bearer", "basic", "writeKey"],
        };
        assert_eq!(named, expected, "{}", route.pattern);
    }
}
