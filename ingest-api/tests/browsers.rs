//! What a page of another origin may send and read, and what SDKs in pages ask for.

mod stack;

use ingest_api::Access;
use ingest_api::routes::ROUTES;
use serde_json::{Value, json};
use stack::{Stack, batch, default_limits, gzip};
use testkit::http::Answer;

const PAGE: (&str, &str) = ("origin", "https://shop.example");
const METHOD: &str = "access-control-request-method";
const HEADERS: &str = "access-control-request-headers";

async fn preflight(stack: &Stack, path: &str, headers: &[(&str, &str)]) -> Answer {
    stack.send_without_key("OPTIONS", path, &[&[PAGE], headers].concat(), "").await
}

#[tokio::test]
async fn every_route_that_a_page_can_read_answers_its_preflight_request() {
    let stack = Stack::start().await;
    // What tracing libraries and RudderStack's SDK add to a request.
    let asked = "anonymousid,authorization,baggage,content-type,newrelic,rsa-retry-attempt,sentat,sentry-trace,traceparent,\
                 tracestate,x-datadog-origin,x-datadog-parent-id,x-datadog-sampling-priority,x-datadog-trace-id";
    for route in ROUTES {
        let path = route.pattern.replace("{id}", "x");
        let method = route.allow().split(", ").next().unwrap();
        let answer = preflight(&stack, &path, &[(METHOD, method), (HEADERS, asked)]).await;
        if route.is_page() {
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (405, None), "{path}");
            continue;
        }
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{path}");
        let list = |name: &str| -> Vec<String> {
            let value = answer.header(name).unwrap_or_else(|| panic!("{path} has no {name}"));
            value.split(", ").map(str::to_owned).collect()
        };
        assert_eq!(list("access-control-allow-methods").join(", "), route.allow(), "{path}");
        let allowed = list("access-control-allow-headers");
        for name in asked.split(',').chain(["idempotency-key", "content-encoding", "prefer", "webhook-id"]) {
            assert!(
                allowed.iter().any(|allowed| allowed == name),
                "{path} does not allow {name}: {allowed:?}"
            );
        }
        assert!(allowed.iter().all(|name| name != "*"), "{path}");
        assert_eq!(answer.header("access-control-max-age"), Some("7200"), "{path}");
        assert!(list("vary").contains(&"Access-Control-Request-Headers".to_owned()), "{path}");
        assert_eq!(answer.header("access-control-allow-private-network"), None, "{path}");
        // A beacon of JSON has credentials, for which the origin must be named. Reports never allow them.
        let expected =
            if route.access == Access::Write { (Some(PAGE.1), Some("true")) } else { (Some("*"), None) };
        let allowed = ["access-control-allow-origin", "access-control-allow-credentials"];
        assert_eq!((answer.header(allowed[0]), answer.header(allowed[1])), expected, "{path}");
    }
}

#[tokio::test]
async fn a_preflight_request_never_repeats_what_no_browser_sends() {
    let stack = Stack::start().await;
    let long = "x".repeat(5_000);
    let many: Vec<_> = (0..100).map(|number| format!("x-{number}")).collect();
    for asked in ["*", "x-a b", "a\"b", &long, &many.join(",")] {
        let answer = preflight(&stack, "/v1/events", &[(METHOD, "POST"), (HEADERS, asked)]).await;
        let allowed = answer.header("access-control-allow-headers").unwrap();
        assert!(allowed.ends_with("webhook-signature") && !allowed.contains('*'), "{asked}: {allowed}");
    }
    let near = [(METHOD, "POST"), ("access-control-request-private-network", "true")];
    let answer = preflight(&stack, "/v1/events", &near).await;
    assert_eq!(answer.header("access-control-allow-private-network"), Some("true"));
}

#[tokio::test]
async fn a_page_can_read_answers_of_every_status() {
    let mut limits = default_limits();
    limits.body_bytes_max = 4_096;
    limits.body_decoded_bytes_max = 8_192;
    limits.bodies_in_flight_bytes_max = 3_000;
    let stack = Stack::start_with(limits).await;
    let bearer = stack.bearer();
    let (_, small) = stack.planned_project("small", 60, 1, None, 10).await;
    let small = format!("Bearer {small}");
    stack.send_without_key("POST", "/v1/events", &[("authorization", &small)], batch(1)).await;
    let html = [("content-type", "text/html")];
    for (method, path, key, headers, body, status) in [
        ("POST", "/v1/events", &bearer, &[][..], batch(1), 202),
        ("GET", "/v1/limits", &bearer, &[], String::new(), 200),
        ("POST", "/v1/events", &bearer, &[], "{".to_owned(), 400),
        ("POST", "/v1/batch", &"Bearer no".to_owned(), &[], "{}".to_owned(), 401),
        ("GET", "/v1/nothing", &bearer, &[], String::new(), 404),
        ("PUT", "/v1/events", &bearer, &[], String::new(), 405),
        ("POST", "/v1/events", &bearer, &[], " ".repeat(5_000), 413),
        ("POST", "/v1/events", &bearer, &html, batch(1), 415),
        ("POST", "/v1/events", &bearer, &[], r#"[{"name":""}]"#.to_owned(), 422),
        ("POST", "/v1/events", &small, &[], batch(1), 429),
        ("POST", "/v1/events", &bearer, &[], " ".repeat(4_000), 503),
    ] {
        let headers = [&[PAGE, ("authorization", key.as_str())], headers].concat();
        let answer = stack.send_without_key(method, path, &headers, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {answer:?}");
        let origin = answer.header("access-control-allow-origin");
        assert!(matches!(origin, Some("*") | Some("https://shop.example")), "{status}: {origin:?}");
        let exposed = answer.header("access-control-expose-headers").unwrap();
        assert!(["RateLimit", "RateLimit-Policy", "Retry-After"].iter().all(|name| exposed.contains(name)));
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{status}");
        assert_ne!(answer.header("www-authenticate"), Some("Basic"), "a browser must not ask for a name");
    }
    // A page asks before it sends to a wrong path, and then reads that there is none.
    let unknown = preflight(&stack, "/v1/nothing", &[(METHOD, "POST"), (HEADERS, "authorization")]).await;
    assert_eq!((unknown.status, unknown.header("access-control-allow-origin")), (204, Some("*")));
    assert_eq!(stack.send_without_key("OPTIONS", "/v1/nothing", &[], "").await.status, 404);
}

#[tokio::test]
async fn a_beacon_is_stored_in_every_form_that_a_browser_sends() {
    let stack = Stack::start().await;
    let call =
        |name: &str| json!({ "type": "track", "event": name, "userId": "u", "properties": { "t": "ä +&%" } });
    let keyed = |name: &str| json!({ "writeKey": stack.key, "batch": [call(name)] }).to_string();
    let plain = |name: &str| json!({ "batch": [call(name)] }).to_string();
    let encode = |text: &str| {
        percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC).to_string()
    };
    let part = |name: &str, text: &str| {
        format!("------B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{text}\r\n")
    };
    let blob = "------B\r\nContent-Disposition: form-data; name=\"data\"; filename=\"blob\"\r\n\
                Content-Type: application/json\r\n\r\n";
    let query = format!("?writeKey={}", stack.key);
    let (text, form) = ("text/plain;charset=UTF-8", "application/x-www-form-urlencoded;charset=UTF-8");
    let parts = "multipart/form-data; boundary=----B";
    let cases = [
        ("", text, keyed("1")),
        ("", "application/json", keyed("2")),
        (query.as_str(), text, plain("3")),
        (&query, "application/json", plain("4")),
        ("", form, format!("data={}", encode(&keyed("5")))),
        (&query, form, format!("payload={}&x=1", encode(&plain("6")))),
        ("", form, format!("writeKey={}&data={}", stack.key, encode(&plain("7")))),
        ("", parts, format!("{}------B--\r\n", part("data", &keyed("8")))),
        ("", parts, format!("{}{}------B--\r\n", part("writeKey", &stack.key), part("payload", &plain("9")))),
        (&query, parts, format!("{blob}{}\r\n------B--\r\n", plain("10"))),
    ];
    for path in ["/v1/batch", "/v1/b", "/beacon/v1/batch"] {
        for (query, content_type, body) in &cases {
            let headers = [PAGE, ("content-type", content_type)];
            let answer =
                stack.send_without_key("POST", &format!("{path}{query}"), &headers, body.clone()).await;
            assert_eq!(answer.status, 200, "{path}{query} {content_type} {body}: {answer:?}");
        }
    }
    let single = json!({ "writeKey": stack.key, "event": "single", "userId": "u" }).to_string();
    let form_of_one = format!("data={}", encode(&single));
    let answer = stack.send_without_key("POST", "/v1/track", &[("content-type", form)], form_of_one).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let packed = [("content-type", form), ("content-encoding", "gzip")];
    let form_packed = gzip(format!("data={}", encode(&keyed("11"))).as_bytes());
    assert_eq!(stack.send_without_key("POST", "/v1/batch", &packed, form_packed).await.status, 200);
    for content_type in [text, "application/json"] {
        let headers = [PAGE, ("content-type", content_type)];
        let answer = stack.send_without_key("POST", &format!("/v1/events{query}"), &headers, batch(1)).await;
        assert_eq!(answer.status, 202, "{content_type}: {answer:?}");
    }
    let events = (3 * cases.len() + 4) as u64;
    assert_eq!(stack.stream.backlog().await.unwrap().events, events, "each beacon is one event");
}

#[tokio::test]
async fn a_form_without_json_is_refused_with_what_to_send() {
    let stack = Stack::start().await;
    let form = ("content-type", "application/x-www-form-urlencoded");
    let parts = ("content-type", "multipart/form-data");
    for (content_type, body, says) in [
        (form, "event=x&userId=u", "no field data or payload"),
        (form, "data=%7B%7D&data=%7B%7D", "several fields data or payload"),
        (form, "data=%7B", "not valid JSON"),
        (parts, "--B\r\n", "no valid boundary"),
    ] {
        let answer = stack.send("POST", "/v1/batch", &[content_type], body).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (400, &json!("invalid_json")),
            "{body}: {answer:?}"
        );
        assert!(answer.json()["message"].as_str().unwrap().contains(says), "{body}: {answer:?}");
    }
    let native = stack.post_with(&[form], "data=%7B%7D").await;
    assert_eq!(native.status, 415, "the native route takes no forms: {native:?}");
}

#[tokio::test]
async fn the_settings_of_segments_sdk_name_this_server_and_no_other() {
    let stack = Stack::start().await;
    let settings = async |key: &str, headers: &[(&str, &str)]| {
        stack.send_without_key("GET", &format!("/v1/projects/{key}/settings"), headers, "").await
    };
    let host = stack.server.address.to_string();
    let https = [("x-forwarded-proto", "https"), ("x-forwarded-host", "events.example")];
    for (headers, protocol, api_host) in
        [(&[PAGE][..], "http", format!("{host}/v1")), (&https, "https", "events.example/v1".to_owned())]
    {
        let answer = settings(&stack.key, headers).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let document = answer.json();
        let names: Vec<_> = document["integrations"].as_object().unwrap().keys().collect();
        assert_eq!(names, ["Segment.io"], "any other integration is loaded from the vendor");
        let segment = &document["integrations"]["Segment.io"];
        let found = (&segment["apiKey"], &segment["protocol"], &segment["apiHost"]);
        assert_eq!(found, (&json!(stack.key), &json!(protocol), &json!(api_host)));
        assert_eq!(document["metrics"]["sampleRate"], 0, "the SDK reports nothing to its vendor");
        assert!(!String::from_utf8_lossy(&answer.body).contains("segment.com"));
        assert!(answer.header("ratelimit").is_none() && answer.header("cache-control") == Some("no-store"));
    }
    assert_eq!(settings("no", &[]).await.status, 401);
}

#[tokio::test]
async fn the_source_config_of_rudderstacks_sdk_has_no_destinations() {
    let stack = Stack::start().await;
    let bearer = stack.bearer();
    for path in ["/sourceConfig", "/sourceConfig/"] {
        let query = format!(
            "{path}?p=npm&v=3.34.1&build=modern&writeKey={}&lockIntegrationsVersion=false",
            stack.key
        );
        for (path, headers) in [(query.as_str(), &[PAGE][..]), (path, &[("authorization", bearer.as_str())])]
        {
            let answer = stack.send_without_key("GET", path, headers, "").await;
            assert_eq!(answer.status, 200, "{path}: {answer:?}");
            let source = &answer.json()["source"];
            assert_eq!((&source["enabled"], &source["destinations"]), (&json!(true), &json!([])), "{source}");
            let reported = |what: &str| &source["config"]["statsCollection"][what]["enabled"];
            assert_eq!((reported("errors"), reported("metrics")), (&Value::Bool(false), &Value::Bool(false)));
            assert!(!source.to_string().contains("test"), "nothing of the project: {source}");
        }
        for wrong in [path.to_owned(), format!("{path}?writeKey=no")] {
            assert_eq!(stack.send_without_key("GET", &wrong, &[], "").await.status, 401, "{wrong}");
        }
    }
}
