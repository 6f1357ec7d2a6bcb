//! The HTTP contract: every form of body, every error with its code, and the headers that all answers share.

mod stack;

use stack::{Stack, batch, default_limits, gzip, problem, zstd};
use testkit::http;

type Headers<'a> = &'a [(&'a str, &'a str)];

const NDJSON: (&str, &str) = ("content-type", "application/x-ndjson");

#[tokio::test]
async fn every_form_of_body_and_every_encoding_is_accepted() {
    let stack = Stack::start().await;
    let lines = "{\"name\":\"a\"}\n\n{\"name\":\"b\"}\r\n";
    let forms: [(Headers<'_>, &str, u64); 7] = [
        (&[], r#"{"events":[{"name":"a"},{"name":"b"}]}"#, 2),
        (&[("content-type", "text/plain")], r#"[{"name":"a"}]"#, 1),
        (&[("content-type", "text/json")], r#"{"name":"a"}"#, 1),
        (&[("content-type", "application/json; charset=utf-8")], r#"{"name":"a","id":"1"}"#, 1),
        (&[NDJSON], lines, 2),
        (&[("content-type", "application/ndjson")], lines, 2),
        (&[("content-type", "application/jsonl")], lines, 2),
    ];
    for (headers, body, events) in forms {
        let encodings: [(Headers<'_>, Vec<u8>); 4] = [
            (&[], body.into()),
            (&[("content-encoding", "identity")], body.into()),
            (&[("content-encoding", "gzip")], gzip(body.as_bytes())),
            (&[("content-encoding", "zstd")], zstd(body.as_bytes())),
        ];
        for (encoding, encoded) in encodings {
            let answer = stack.post_with(&[headers, encoding].concat(), encoded).await;
            assert_eq!(answer.status, 202, "{headers:?} {encoding:?}: {answer:?}");
            let document = answer.json();
            assert_eq!(document["accepted"], events, "{headers:?} {encoding:?}");
            assert_eq!(document["rejected"], serde_json::json!([]));
            assert!(uuid::Uuid::try_parse(document["batch_id"].as_str().unwrap()).is_ok());
        }
    }
}

#[tokio::test]
async fn invalid_events_are_reported_by_index_and_the_others_are_accepted() {
    let stack = Stack::start().await;
    let answer = stack.post(r#"[{"name":"a"},{"name":""},{"name":"b"},7]"#).await;
    assert_eq!(answer.status, 202);
    let document = answer.json();
    assert_eq!(document["accepted"], 2);
    let rejected = document["rejected"].as_array().unwrap();
    let indices: Vec<_> = rejected.iter().map(|rejection| rejection["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [1, 3]);
    for rejection in rejected {
        assert!(!rejection["code"].as_str().unwrap().is_empty());
        assert!(!rejection["message"].as_str().unwrap().is_empty());
    }
}

#[tokio::test]
async fn every_error_of_the_request_has_its_status_and_code() {
    let mut limits = default_limits();
    limits.body_bytes_max = 4_096;
    limits.body_decoded_bytes_max = 8_192;
    let stack = Stack::start_with(limits).await;
    let large = " ".repeat(5_000);
    let bomb = gzip(" ".repeat(9_000).as_bytes());
    let many = format!("[{}]", ["1"; 1_001].join(","));
    let long_key = "k".repeat(256);
    let cases: [(Headers<'_>, Vec<u8>, u16, &str); 18] = [
        (&[], "{".into(), 400, "invalid_json"),
        (&[], "7".into(), 400, "invalid_json"),
        (&[], "".into(), 400, "invalid_json"),
        (&[], r#"{"events":[]}"#.into(), 400, "empty_batch"),
        (&[], "[]".into(), 400, "empty_batch"),
        (&[NDJSON], "\n\n".into(), 400, "empty_batch"),
        (&[("content-encoding", "gzip")], "{}".into(), 400, "invalid_encoding"),
        (&[("idempotency-key", "two words")], batch(1).into(), 400, "invalid_header"),
        (&[("idempotency-key", &long_key)], batch(1).into(), 400, "invalid_header"),
        (&[], large.into(), 413, "payload_too_large"),
        (&[("content-encoding", "gzip")], bomb, 413, "payload_too_large"),
        (&[], many.into(), 413, "too_many_events"),
        (&[("content-type", "text/html")], batch(1).into(), 415, "unsupported_media_type"),
        (
            &[("content-type", "application/x-www-form-urlencoded")],
            batch(1).into(),
            415,
            "unsupported_media_type",
        ),
        (&[("content-encoding", "br")], batch(1).into(), 415, "unsupported_encoding"),
        (&[("content-encoding", "gzip, gzip")], batch(1).into(), 415, "unsupported_encoding"),
        (&[], r#"[{"name":""}]"#.into(), 422, "no_valid_event"),
        (&[NDJSON], "7\n8\n".into(), 422, "no_valid_event"),
    ];
    for (headers, body, status, code) in cases {
        let shown = String::from_utf8_lossy(&body[..body.len().min(40)]).into_owned();
        let answer = stack.post_with(headers, body).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (status, code), "{headers:?} {shown}");
        assert!(answer.header("ratelimit").is_some(), "{headers:?} {shown}");
        let closes = answer.header("connection") == Some("close");
        assert_eq!(closes, matches!(code, "payload_too_large" | "invalid_encoding"), "{headers:?} {shown}");
    }
    let refused = stack.post(r#"[{"name":""}]"#).await.json();
    assert_eq!(refused["rejected"][0]["index"], 0, "{refused}");
    assert_eq!(stack.stream.backlog().await.unwrap().entries, 0, "no refused batch is in the stream");
}

#[tokio::test]
async fn a_request_without_a_known_key_is_unauthenticated() {
    let stack = Stack::start().await;
    let address = stack.server.address;
    let wrong = format!("{}x", stack.bearer());
    for (path, body) in [("/v1/events", batch(1)), ("/v1/batch", r#"{"batch":[]}"#.into())] {
        for headers in [
            &[][..],
            &[("authorization", "Bearer no")],
            &[("authorization", "what")],
            &[("authorization", &wrong)],
        ] {
            let answer = http::post(address, path, headers, body.clone()).await;
            assert_eq!(
                (answer.status, problem(&answer).as_str()),
                (401, "unauthenticated"),
                "{path} {headers:?}"
            );
            assert!(answer.header("www-authenticate").is_some());
            assert_eq!(answer.header("ratelimit"), None);
        }
    }
    for path in ["/v1/usage", "/v1/limits", "/v1/batches/018f2b6e-0000-7000-8000-000000000000"] {
        assert_eq!(problem(&http::get(address, path, &[]).await), "unauthenticated", "{path}");
    }
}

#[tokio::test]
async fn the_key_may_be_the_user_name_of_basic() {
    use base64::Engine;
    let stack = Stack::start().await;
    let credentials = base64::engine::general_purpose::STANDARD.encode(format!("{}:", stack.key));
    let basic = format!("Basic {credentials}");
    let answer = http::post(stack.server.address, "/v1/events", &[("authorization", &basic)], batch(1)).await;
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn other_paths_are_404_and_other_methods_405() {
    let stack = Stack::start().await;
    let with_a_slash = ["/v1/events//", "/v1/batches/", "/v1/limits/", "/v1/usage/", "/healthz/"];
    let unknown = ["/status", "/v1", "/v1/batches/a/b", "/metrics", "/v1/unknown"];
    for path in with_a_slash.into_iter().chain(unknown) {
        let answer = stack.get(path).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (404, "not_found"), "{path}");
    }
    for (method, path, allow) in [
        ("GET", "/v1/events", "POST, OPTIONS"),
        ("DELETE", "/v1/track", "POST, OPTIONS"),
        ("GET", "/v1/import/", "POST, OPTIONS"),
        ("POST", "/v1/usage", "GET, HEAD, OPTIONS"),
        ("PUT", "/healthz", "GET, HEAD, OPTIONS"),
    ] {
        let answer = stack.send(method, path, &[], "").await;
        assert_eq!(
            (answer.status, problem(&answer).as_str()),
            (405, "method_not_allowed"),
            "{method} {path}"
        );
        assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
    }
}

#[tokio::test]
async fn head_answers_like_get_without_the_body() {
    let stack = Stack::start().await;
    for path in ["/", "/healthz", "/openapi.json", "/v1/limits"] {
        let get = stack.get(path).await;
        let head = stack.send("HEAD", path, &[], "").await;
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
    }
}

#[tokio::test]
async fn segment_routes_answer_as_segment_sdks_expect() {
    use base64::Engine;
    let stack = Stack::start().await;
    let address = stack.server.address;
    let basic =
        format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(format!("{}:", stack.key)));
    let call = r#"{"event":"Order Completed","userId":"u1","groupId":"g","previousId":"p","name":"n"}"#;
    let calls = format!(r#"{{"batch":[{{"type":"track",{}]}}"#, &call[1..]);
    let batches = ["/v1/batch", "/v1/import", "/v1/b"].map(|path| (path, calls.as_str()));
    let singles = ["track", "identify", "page", "screen", "group", "alias", "t", "i", "p", "s", "g", "a"]
        .map(|call_type| format!("/v1/{call_type}"));
    let singles = singles.iter().map(|path| (path.as_str(), call));
    let with_a_slash = |path: &str| [path.to_owned(), format!("{path}/")];
    let paths = batches.into_iter().chain(singles);
    for (path, body) in paths.flat_map(|(path, body)| with_a_slash(path).map(|path| (path, body))) {
        // The content type is ignored, because SDKs send different ones.
        let form = ("content-type", "application/x-www-form-urlencoded");
        let encoded = [("authorization", basic.as_str()), ("content-encoding", "gzip"), form];
        let answer = http::post(address, &path, &encoded, gzip(body.as_bytes())).await;
        assert_eq!((answer.status, &answer.body[..]), (200, &br#"{"success":true}"#[..]), "{path}");
        assert!(answer.header("ratelimit").is_some(), "{path}");
    }
    let keyed = format!(r#"{{"writeKey":"{}",{}"#, stack.key, &calls[1..]);
    let answer = http::post(address, "/v1/batch", &[], keyed).await;
    assert_eq!(answer.status, 200, "the key may be in the body: {answer:?}");
    let unknown =
        http::post(address, "/v1/batch", &[], format!(r#"{{"writeKey":"no",{}"#, &calls[1..])).await;
    assert_eq!(problem(&unknown), "unauthenticated");
    let broken = http::post(address, "/v1/batch", &[("authorization", &basic)], "{").await;
    assert_eq!((broken.status, problem(&broken).as_str()), (400, "invalid_json"));
}

#[tokio::test]
async fn a_segment_answer_lists_the_calls_that_became_dead_letters() {
    let stack = Stack::start().await;
    let good = r#"{"type":"track","event":"ok","userId":"u"}"#;
    let call = |properties: &str| {
        format!(r#"{{"type":"track","event":"cut","userId":"u","properties":{{"t":{properties}}}}}"#)
    };
    let deep = format!("{}{}", "[".repeat(80), "]".repeat(80));
    let success = |dead: &[(u64, &str)], answer: &http::Answer| {
        assert_eq!(answer.status, 200, "{answer:?}");
        let document = answer.json();
        assert_eq!(document["success"], true);
        let listed: Vec<_> = document["dead"]
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .map(|call| (call["index"].as_u64().unwrap(), call["code"].as_str().unwrap().to_owned()))
            .collect();
        let expected: Vec<_> = dead.iter().map(|(index, code)| (*index, (*code).to_owned())).collect();
        assert_eq!(listed, expected, "{document}");
        assert_eq!(document.get("dead").is_some(), !dead.is_empty());
    };
    for (broken, dead) in [
        (call(r#""\ud83d""#), &[][..]),
        (call("NaN"), &[]),
        (call("\"\t\""), &[]),
        (call("1e400"), &[(1, "invalid_number")]),
        (call(&deep), &[(1, "too_deep")]),
        (r#"{"type":"tarck"}"#.to_owned(), &[(1, "invalid_type")]),
    ] {
        let calls = format!(r#""batch":[{good},{broken}]}}"#);
        // The key in the body gives the same answer as the key in the head.
        let keyed = format!(r#"{{"writeKey":"{}",{calls}"#, stack.key);
        let plain = [("content-type", "text/plain")];
        success(dead, &http::post(stack.server.address, "/v1/b", &plain, keyed).await);
        success(dead, &stack.send("POST", "/v1/batch", &[], format!("{{{calls}")).await);
    }
    let nothing_but_dead = stack.send("POST", "/v1/batch", &[], r#"{"batch":[{"type":"tarck"},5]}"#).await;
    success(&[(0, "invalid_type"), (1, "invalid_event")], &nothing_but_dead);
    let single = stack.send("POST", "/v1/track", &[], r#"{"userId":"u","properties":{"a":undefined}}"#).await;
    success(&[(0, "invalid_json")], &single);
    let natively = stack.post(r#"[{"name":"ok"},{"name":"n","properties":{"a":NaN}}]"#).await;
    assert_eq!((natively.status, &natively.json()["rejected"][0]["index"]), (202, &serde_json::json!(1)));
    // Everything that was accepted is in the stream, dead calls too: 6 batches twice, and the last ones.
    let pending = stack.stream.pending_batches(0).await.unwrap();
    assert_eq!(pending.iter().map(|batch| u64::from(batch.count)).sum::<u64>(), 6 * 2 * 2 + 2 + 1 + 1);
}

#[tokio::test]
async fn every_answer_to_a_known_key_has_the_state_of_its_limits() {
    let stack = Stack::start().await;
    let (_, key) = stack.another_project("small", "free", false).await;
    let bearer = format!("Bearer {}", key.key);
    let headers = [("authorization", bearer.as_str())];
    let mut client = stack.client();
    let before = client.get("/v1/limits", &headers).await.unwrap();
    assert_eq!(before.json()["events"]["used"], 0);
    let posted = client.post("/v1/events", &headers, batch(7)).await.unwrap();
    let policy = posted.header("ratelimit-policy").unwrap();
    assert!(policy.starts_with(r#""minute";q=100;w=60, "month";q=100000;w="#), "{policy}");
    assert!(posted.header("ratelimit").unwrap().contains(r#""month";r=99993;t="#), "{posted:?}");
    // This request does not ask the stream. Its limits are those of the previous answer.
    let refused = client.post("/v1/events", &headers, "{").await.unwrap();
    assert!(refused.header("ratelimit").unwrap().contains(r#""month";r=99993;t="#), "{refused:?}");
    let after = client.get("/v1/limits", &headers).await.unwrap().json();
    assert_eq!(after["plan"], "free");
    assert_eq!(after["events"]["used"], 7);
    assert_eq!(after["events"]["left"], 99_993);
    let unlimited = stack.get("/v1/limits").await;
    assert_eq!(unlimited.header("ratelimit-policy"), Some(r#""minute";q=10000;w=60"#));
    assert_eq!(unlimited.json()["events"]["per_month"], serde_json::Value::Null);
}

#[tokio::test]
async fn usage_is_reported_and_wrong_parameters_are_named() {
    let stack = Stack::start().await;
    let usage = stack.get("/v1/usage").await;
    assert_eq!(usage.status, 200, "{usage:?}");
    assert_eq!(usage.json()["window"], "day");
    assert_eq!(stack.get("/v1/usage?from=2026-01-01&to=2026-02-01&window=hour").await.status, 200);
    for (query, field) in [
        ("from=x", "from"),
        ("to=x", "to"),
        ("from=2026-11-26T19:00:00Z&to=2026-11-26T19:01:00Z", "to"),
        ("from=2026-11-26T19:01:00Z&to=2026-11-26T19:02:00Z", "from"),
        ("from=2026-11-26T19:59:00Z&to=2026-11-26T20:00:00Z", "from"),
        ("from=2026-11-26T00:00:00+05:30", "from"),
        ("from=2026-11-26T00:30:00%2005:30", "from"),
        ("from=9999-12-31T23:59:59-23:59", "from"),
        ("from=2026-11-26&to=2026-11-26", "from"),
        ("window=week", "window"),
        ("x=1", "query"),
    ] {
        let answer = stack.get(&format!("/v1/usage?{query}")).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (400, "invalid_parameter"), "{query}");
        assert_eq!(answer.json()["field"], field, "{query}");
    }
}

#[tokio::test]
async fn a_client_that_expects_100_continue_receives_it() {
    let stack = Stack::start().await;
    let body = batch(1);
    let request = format!(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Length: {}\r\n\
         Expect: 100-continue\r\nConnection: close\r\n\r\n{body}",
        stack.bearer(),
        body.len()
    );
    let answer = http::raw(stack.server.address, request.as_bytes(), stack::PATIENCE).await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted"), "{answer}");
}

#[tokio::test]
async fn the_interface_document_is_served() {
    let stack = Stack::start().await;
    let answer = http::get(stack.server.address, "/openapi.json", &[]).await;
    assert_eq!(answer.status, 200);
    let document = answer.json();
    assert_eq!(document["openapi"], "3.1.0");
    let codes =
        document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"].as_array().unwrap();
    assert!(codes.contains(&"rate_limited".into()), "{codes:?}");
}
