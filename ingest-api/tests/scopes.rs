//! What a key may do: its scope, and the pages that may use it.

mod stack;

use ingest_api::Access;
use ingest_api::routes::ROUTES;
use millrace_event::policy::KeyScope;
use millrace_store::KeyOptions;
use stack::{Stack, batch, problem};
use testkit::http;

fn scope(scope: KeyScope) -> KeyOptions {
    KeyOptions { scope, ..KeyOptions::default() }
}

fn origins(origins: &[&str]) -> KeyOptions {
    let allowed_origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
    KeyOptions { scope: KeyScope::Write, allowed_origins, ..KeyOptions::default() }
}

/// A path of the route. A route with the key in its path gets this one.
fn path_of(pattern: &str, bearer: &str) -> String {
    let id = if has_key_in_path(pattern) { &bearer[7..] } else { "018f2b6e-0000-7000-8000-000000000000" };
    pattern.replace("{id}", id)
}

/// Whether an SDK asks for its settings with the key in the path.
fn has_key_in_path(pattern: &str) -> bool {
    pattern.starts_with("/v1/projects/") || pattern.starts_with("/array/")
}

#[tokio::test]
async fn every_route_refuses_a_key_of_the_wrong_scope_and_says_which_it_needs() {
    let stack = Stack::start().await;
    for (key_scope, may) in [
        (KeyScope::Write, [Access::Write, Access::Write]),
        (KeyScope::Read, [Access::Read, Access::Read]),
        (KeyScope::Full, [Access::Write, Access::Read]),
    ] {
        let may_correct = key_scope == KeyScope::Full;
        let bearer = stack.another_key(&scope(key_scope)).await;
        let has: &str = key_scope.into();
        for route in ROUTES.iter().filter(|route| route.access != Access::Open) {
            let method = route.allow().split(", ").next().unwrap();
            let path = path_of(route.pattern, &bearer);
            let answer = stack.send_without_key(method, &path, &[("authorization", &bearer)], "{").await;
            if may.contains(&route.access) || (may_correct && route.access == Access::Correct) {
                assert!(![401, 403].contains(&answer.status), "{has}: {method} {path}: {answer:?}");
                continue;
            }
            assert_eq!(answer.status, 403, "{has}: {path}");
            if route.access == Access::Admin {
                let message = answer.json()["message"].to_string();
                assert!(message.contains("millrace admin-key create"), "{has}: {path}: {message}");
                continue;
            }
            // Some SDKs read an answer in a form of their own, which has the same message.
            if answer.header("content-type") == Some("application/problem+json") {
                assert_eq!(problem(&answer), "forbidden", "{has}: {path}");
            }
            let (needed, scopes) = match route.access {
                Access::Write => ("write", "write or full"),
                Access::Correct => ("full", "full"),
                Access::Read | Access::Admin | Access::Open => ("read", "read or full"),
            };
            let message = answer.json()["message"].to_string();
            for said in [
                format!("scope {scopes}"),
                format!("scope of this key is {has}"),
                format!("millrace key create PROJECT --scope {needed}"),
            ] {
                assert!(message.contains(&said), "{message} does not say {said:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_may_not_send_is_refused_before_its_body_is_read() {
    let stack = Stack::start().await;
    let bearer = stack.another_key(&scope(KeyScope::Read)).await;
    for path in ["/v1/events", "/v1/batch"] {
        // The body never comes.
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\
             Connection: close\r\n\r\n"
        );
        let answer = http::raw(stack.server.address, head.as_bytes(), stack::PATIENCE).await;
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.starts_with("HTTP/1.1 403 Forbidden"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn a_key_of_a_page_learns_nothing_about_its_project() {
    let stack = Stack::start().await;
    let (_, key) = stack.planned_project("tiny", 60, 2, Some(1_000), 10).await;
    let full = format!("Bearer {key}");
    let key = stack.store.create_key("tiny", &scope(KeyScope::Write)).await.unwrap().key;
    stack.wait_for_key(&key).await;
    let page = format!("Bearer {key}");
    let post = async |path: &str, bearer: &str, body: String| {
        let headers = [("authorization", bearer), ("prefer", "wait=1")];
        stack.send_without_key("POST", path, &headers, body).await
    };
    let calls = r#"{"batch":[{"type":"track","event":"e","userId":"u"}]}"#.to_owned();
    let answers = [
        post("/v1/events", &page, batch(1)).await,
        post("/v1/batch", &page, calls.clone()).await,
        post("/v1/events", &page, "{".to_owned()).await,
        post("/v1/events", &page, batch(1)).await,
        post("/v1/batch", &page, calls).await,
    ];
    assert_eq!(answers.iter().map(|answer| answer.status).collect::<Vec<_>>(), [202, 200, 400, 429, 429]);
    for answer in &answers {
        for name in ["ratelimit", "ratelimit-policy", "preference-applied"] {
            assert_eq!(answer.header(name), None, "{answer:?}");
        }
        assert_eq!(answer.header("retry-after").is_some(), answer.status == 429, "{answer:?}");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains("tiny") && !text.contains("stored"), "{text}");
    }
    let seen = post("/v1/events", &full, "{".to_owned()).await;
    assert!(seen.header("ratelimit").is_some(), "a full key sees the limits: {seen:?}");
}

#[tokio::test]
async fn a_key_of_a_page_learns_no_number_of_its_plan_from_a_refusal() {
    let stack = Stack::start().await;
    stack.planned_project("small", 600, 600, Some(1_000), 3).await;
    stack.planned_project("monthly", 600, 600, Some(7), 5).await;
    for (project, events, code) in [("small", 4, "too_many_events"), ("monthly", 5, "quota_exceeded")] {
        let full =
            format!("Bearer {}", stack.store.create_key(project, &scope(KeyScope::Full)).await.unwrap().key);
        let page = stack.store.create_key(project, &scope(KeyScope::Write)).await.unwrap().key;
        stack.wait_for_key(&page).await;
        let page = format!("Bearer {page}");
        let post = async |bearer: &str| {
            let headers = [("authorization", bearer)];
            let answer = stack.send_without_key("POST", "/v1/events", &headers, batch(events)).await;
            (answer.status, answer)
        };
        if code == "quota_exceeded" {
            assert_eq!(post(&full).await.0, 202, "the quota is used up but for two events");
        }
        let (_, told) = post(&page).await;
        assert_eq!(problem(&told), code, "{told:?}");
        let message = told.json()["message"].as_str().unwrap().to_owned();
        assert!(!message.contains(|letter: char| letter.is_ascii_digit()), "{message}");
        assert!(!message.contains("RateLimit"), "the answer has no such header: {message}");
        let (_, told) = post(&full).await;
        assert!(told.header("ratelimit").is_some(), "{told:?}");
    }
}

#[tokio::test]
async fn a_key_with_origins_is_accepted_from_these_pages_only_and_a_page_can_read_why() {
    let stack = Stack::start().await;
    let listed = ["https://shop.example", "http://localhost:3000"];
    let bearer = stack.another_key(&origins(&listed)).await;
    let key = &bearer[7..];
    let keyed = format!(r#"{{"writeKey":"{key}","batch":[{{"type":"track","event":"e","userId":"u"}}]}}"#);
    let post = async |path: &str, key: &[(&str, &str)], origin: Option<&str>, body: String| {
        let origin: Vec<_> = origin.map(|origin| ("origin", origin)).into_iter().collect();
        stack.send_without_key("POST", path, &[key, &origin].concat(), body).await
    };
    let header = [("authorization", bearer.as_str())];
    for (origin, allowed, reason) in [
        (Some("https://shop.example"), true, ""),
        (Some("HTTPS://Shop.Example"), true, ""),
        (Some("http://localhost:3000"), true, ""),
        (None, false, "does not have one Origin header"),
        (Some("https://evil.example"), false, "is none of them"),
        (Some("http://shop.example"), false, "is none of them"),
        (Some("https://shop.example:8443"), false, "is none of them"),
        (Some("null"), false, "is none of them"),
    ] {
        let query = format!("/v1/batch?writeKey={key}");
        let answers = [
            post("/v1/events", &header, origin, batch(1)).await,
            post("/v1/batch", &[], origin, keyed.clone()).await,
            post(&query, &[], origin, keyed.clone()).await,
        ];
        for answer in answers {
            assert_eq!([200, 202].contains(&answer.status), allowed, "{origin:?}: {answer:?}");
            let readable = answer.header("access-control-allow-origin");
            assert_eq!(readable, Some(origin.unwrap_or("*")), "{origin:?}");
            if !allowed {
                let document = answer.json();
                assert_eq!(document["code"], "forbidden", "{origin:?}");
                let message = document["message"].as_str().unwrap();
                assert!(message.contains(reason) && !message.contains("evil"), "{origin:?}: {message}");
            }
        }
    }
}

#[tokio::test]
async fn a_signed_key_has_a_scope_as_every_key() {
    let stack = Stack::start().await;
    let options = KeyOptions { signed: true, ..scope(KeyScope::Write) };
    let bearer = stack.another_key(&options).await;
    let header = [("authorization", bearer.as_str())];
    let unsigned = stack.send_without_key("POST", "/v1/events", &header, batch(1)).await;
    assert_eq!(unsigned.status, 401, "{unsigned:?}");
    let report = stack.send_without_key("GET", "/v1/usage", &header, "").await;
    assert_eq!(problem(&report), "forbidden");
}

#[tokio::test]
async fn the_key_may_be_in_the_query_of_routes_for_events_and_nowhere_else() {
    let stack = Stack::start().await;
    let (key, bearer) = (stack.key.clone(), stack.bearer());
    for route in ROUTES.iter().filter(|route| route.access != Access::Open && !has_key_in_path(route.pattern))
    {
        let method = route.allow().split(", ").next().unwrap();
        let path = path_of(route.pattern, &bearer);
        let answer = stack.send_without_key(method, &format!("{path}?writeKey={key}"), &[], "{").await;
        assert_eq!(answer.status == 401, route.access != Access::Write, "{method} {path}: {answer:?}");
    }
    for (query, headers, status) in [
        ("writeKey=no".to_owned(), &[][..], 401),
        (format!("writeKey={key}&writeKey={key}"), &[], 401),
        (format!("writeKey={key}"), &[("authorization", "Bearer no")], 401),
        (format!("x=1&writeKey={key}&sentAt=2"), &[], 202),
        ("writeKey=no".to_owned(), &[("authorization", bearer.as_str())], 202),
    ] {
        let answer = stack.send_without_key("POST", &format!("/v1/events?{query}"), headers, batch(1)).await;
        assert_eq!(answer.status, status, "{query} {headers:?}: {answer:?}");
    }
}
