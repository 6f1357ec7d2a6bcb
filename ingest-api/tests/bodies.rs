//! Bodies as real clients send them: large, slow, in every encoding and with every content type.

mod stack;

use std::time::Duration;

use stack::{PATIENCE, Stack, batch, default_limits, gzip, problem, raw_deflate, zlib, zstd};
use testkit::http::{self, Answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An uncompressed body of an SDK for Python: 100 calls that are each under its limit of 32 KiB.
const PYTHON_SDK_BYTES: usize = 4_228_943;
const NATIVE_BYTES_MAX: usize = 4 << 20;
const SDK_BYTES_MAX: usize = 8 << 20;
const SDK_PATHS: [&str; 3] = ["/v1/batch", "/v1/import", "/v1/b"];

/// A Segment batch of calls that differ in nothing but their ids, with members in front of them.
fn calls(members: &str, count: usize, call_bytes: usize) -> String {
    let call = |index: usize| {
        let start = format!(
            r#"{{"type":"track","event":"e","userId":"u","messageId":"m{index:04}","properties":{{"t":""#
        );
        let end = r#""}}"#;
        let text = "x".repeat(call_bytes - start.len() - end.len());
        format!("{start}{text}{end}")
    };
    let calls: Vec<_> = (0..count).map(call).collect();
    format!(r#"{{{members}"batch":[{}]}}"#, calls.join(","))
}

/// JSON with white space after it, which makes it this long.
fn padded(mut json: String, bytes: usize) -> String {
    json.extend(std::iter::repeat_n(' ', bytes - json.len()));
    json
}

async fn post(stack: &Stack, path: &str, headers: &[(&str, &str)], body: impl Into<bytes::Bytes>) -> Answer {
    stack.send("POST", path, headers, body).await
}

#[tokio::test]
async fn bodies_of_sdks_may_have_8_mib_as_they_are_sent() {
    let stack = Stack::start().await;
    let python = padded(calls("", 100, 42_200), PYTHON_SDK_BYTES);
    for path in SDK_PATHS {
        assert_eq!(post(&stack, path, &[], python.clone()).await.status, 200, "{path}");
    }
    let node = calls("", 15, 400_000);
    assert_eq!(post(&stack, "/v1/batch", &[], node.clone()).await.status, 200);
    let keyed = calls(&format!(r#""writeKey":"{}","#, stack.key), 15, 400_000);
    let answer = http::post(stack.server.address, "/v1/batch", &[], keyed).await;
    assert_eq!(answer.status, 200, "the key may be in a large body: {answer:?}");
    assert_eq!(stack.stream.backlog().await.unwrap().events, 3 * 100 + 2 * 15);
    // Every route for calls has this limit, also those for one call.
    for path in [&SDK_PATHS[..], &["/v1/track", "/v1/t", "/v1/identify", "/v1/batch/"]].concat() {
        let answer = post(&stack, path, &[], padded(batch(1), SDK_BYTES_MAX + 1)).await;
        assert_eq!((answer.status, problem(&answer).as_str()), (413, "payload_too_large"), "{path}");
    }
    let largest = padded(calls("", 1, 1_000), SDK_BYTES_MAX);
    assert_eq!(post(&stack, "/v1/batch", &[], largest).await.status, 200);
}

#[tokio::test]
async fn bodies_of_native_events_may_have_4_mib_as_they_are_sent() {
    let stack = Stack::start().await;
    assert_eq!(stack.post(padded(batch(1), NATIVE_BYTES_MAX)).await.status, 202);
    for bytes in [NATIVE_BYTES_MAX + 1, PYTHON_SDK_BYTES, SDK_BYTES_MAX] {
        assert_eq!(problem(&stack.post(padded(batch(1), bytes)).await), "payload_too_large", "{bytes}");
    }
    let limits = stack.get("/v1/limits").await.json();
    assert_eq!(limits["batch"]["body_bytes_max"], NATIVE_BYTES_MAX);
    assert_eq!(limits["batch"]["sdk_body_bytes_max"], SDK_BYTES_MAX);
}

#[tokio::test]
async fn each_kind_of_route_has_its_own_setting() {
    let mut limits = default_limits();
    (limits.body_bytes_max, limits.sdk_body_bytes_max) = (5_000, 2_000);
    let stack = Stack::start_with(limits).await;
    let call = calls("", 1, 200);
    for (path, json, bytes, status) in [
        ("/v1/events", batch(1), 5_000, 202),
        ("/v1/events", batch(1), 5_001, 413),
        ("/v1/batch", call.clone(), 2_000, 200),
        ("/v1/batch", call, 2_001, 413),
    ] {
        assert_eq!(post(&stack, path, &[], padded(json, bytes)).await.status, status, "{bytes} to {path}");
    }
}

#[tokio::test]
async fn what_a_body_of_an_sdk_decompresses_to_has_the_same_limit_as_native_events() {
    let mut limits = default_limits();
    limits.body_decoded_bytes_max = 1 << 20;
    let stack = Stack::start_with(limits).await;
    let (fits, bomb) = (padded(calls("", 1, 200), 1 << 20), padded(calls("", 1, 200), (1 << 20) + 1));
    for (name, encode) in encodings() {
        let headers = [("content-encoding", name)];
        assert_eq!(post(&stack, "/v1/batch", &headers, encode(fits.as_bytes())).await.status, 200, "{name}");
        let refused = post(&stack, "/v1/batch", &headers, encode(bomb.as_bytes())).await;
        assert_eq!(problem(&refused), "payload_too_large", "{name}");
    }
}

type Encode = fn(&[u8]) -> Vec<u8>;

/// The names of encodings, each with what clients mean by it.
fn encodings() -> [(&'static str, Encode); 5] {
    [("gzip", gzip), ("x-gzip", gzip), ("deflate", zlib), ("deflate", raw_deflate), ("zstd", zstd)]
}

#[tokio::test]
async fn every_encoding_is_decoded_on_every_kind_of_route_and_damage_is_400() {
    let stack = Stack::start().await;
    let events = batch(50);
    let call = calls("", 3, 500);
    for (path, body, status) in [("/v1/events", &events, 202), ("/v1/batch", &call, 200)] {
        for (name, encode) in encodings() {
            let headers = [("content-encoding", name)];
            let encoded = encode(body.as_bytes());
            let sent = post(&stack, path, &headers, encoded.clone()).await;
            assert_eq!(sent.status, status, "{name} to {path}");
            for (what, bytes) in [
                ("cut", encoded[..encoded.len() - 1].to_vec()),
                ("followed by garbage", [&encoded[..], b"garbage"].concat()),
                ("not encoded", body.clone().into()),
                ("empty", Vec::new()),
            ] {
                let refused = post(&stack, path, &headers, bytes).await;
                let code = problem(&refused);
                assert_eq!((refused.status, code.as_str()), (400, "invalid_encoding"), "{name}, {what}");
            }
        }
    }
}

#[tokio::test]
async fn each_value_of_content_encoding_has_one_answer() {
    let stack = Stack::start().await;
    let plain = batch(1);
    for (values, body, code) in [
        (&[""][..], plain.clone().into(), None),
        (&["identity"], plain.clone().into(), None),
        (&["identity", ""], plain.clone().into(), None),
        (&["identity, gzip"], gzip(plain.as_bytes()), None),
        (&["Deflate"], zlib(plain.as_bytes()), None),
        (&["gzip, deflate"], gzip(&zlib(plain.as_bytes())), Some("unsupported_encoding")),
        (&["gzip", "deflate"], gzip(&zlib(plain.as_bytes())), Some("unsupported_encoding")),
        (&["gzip, gzip"], gzip(&gzip(plain.as_bytes())), Some("unsupported_encoding")),
        (&["br"], plain.clone().into(), Some("unsupported_encoding")),
        (&["compress"], plain.clone().into(), Some("unsupported_encoding")),
    ] {
        let headers: Vec<_> = values.iter().map(|value| ("content-encoding", *value)).collect();
        for path in ["/v1/events", "/v1/track"] {
            let answer = post(&stack, path, &headers, body.clone()).await;
            if let Some(code) = code {
                assert_eq!((answer.status, problem(&answer).as_str()), (415, code), "{values:?}");
                assert_eq!(answer.header("accept-encoding"), Some("gzip, deflate, zstd"), "{values:?}");
            } else if path == "/v1/events" {
                assert_eq!(answer.status, 202, "{values:?}: {answer:?}");
            }
        }
    }
}

#[tokio::test]
async fn types_of_other_formats_are_415_on_the_native_route_and_ignored_for_sdks() {
    let stack = Stack::start().await;
    let cloud_event = r#"{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"a":1}}"#;
    for media_type in [
        "application/cloudevents+json",
        "application/cloudevents+json; charset=utf-8",
        "application/cloudevents-batch+json",
        "application/vnd.api+json",
        "application/ld+json",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "application/json; charset=utf-16",
    ] {
        let headers = [("content-type", media_type)];
        let refused = stack.post_with(&headers, cloud_event).await;
        let code = problem(&refused);
        assert_eq!((refused.status, code.as_str()), (415, "unsupported_media_type"), "{media_type}");
        let message = refused.json()["message"].as_str().unwrap().to_owned();
        let names_what_to_send =
            ["application/json", "application/x-ndjson"].iter().all(|name| message.contains(name));
        assert!(names_what_to_send || message.contains("UTF-8"), "{media_type}: {message}");
        let taken = post(&stack, "/v1/batch", &headers, calls("", 1, 200)).await;
        assert_eq!(taken.status, 200, "{media_type}");
    }
    let form = stack.post_with(&[("content-type", "application/x-www-form-urlencoded")], batch(1)).await;
    assert!(form.json()["message"].as_str().unwrap().contains("curl -d"), "{form:?}");
    for media_type in ["application/json;charset=UTF-8", "text/plain; charset=ISO-8859-1", "text/json"] {
        assert_eq!(
            stack.post_with(&[("content-type", media_type)], batch(1)).await.status,
            202,
            "{media_type}"
        );
    }
}

#[tokio::test]
async fn every_route_for_events_takes_one_slash_more_without_a_redirect() {
    let stack = Stack::start().await;
    for path in ["/v1/events/", "/v1/batch/", "/v1/import/", "/v1/b/"] {
        let body = if path == "/v1/events/" { batch(1) } else { calls("", 1, 200) };
        let answer = post(&stack, path, &[], body).await;
        assert_eq!(answer.status, if path == "/v1/events/" { 202 } else { 200 }, "{path}");
    }
    for call in ["track", "identify", "page", "screen", "group", "alias", "t", "i", "p", "s", "g", "a"] {
        let body = r#"{"event":"e","userId":"u","groupId":"g","previousId":"p","name":"n"}"#;
        assert_eq!(post(&stack, &format!("/v1/{call}/"), &[], body).await.status, 200, "{call}");
        let twice = post(&stack, &format!("/v1/{call}//"), &[], body).await;
        assert_eq!(problem(&twice), "not_found", "{call}");
    }
}

/// A connection that has sent the head of a chunked request.
async fn begin_chunked(stack: &Stack) -> TcpStream {
    let mut socket = TcpStream::connect(stack.server.address).await.unwrap();
    let head = format!(
        "POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\nContent-Type: application/x-ndjson\r\n\
         Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
        stack.bearer()
    );
    socket.write_all(head.as_bytes()).await.unwrap();
    socket
}

/// Sends a piece after each pause until the server answers. Returns the answer.
async fn send_until_answered(socket: &mut TcpStream, pause: Duration, piece: &[u8]) -> String {
    let mut answer = Vec::new();
    let exchange = async {
        let (mut reading, mut writing) = socket.split();
        let mut first = [0];
        while tokio::time::timeout(pause, reading.read_exact(&mut first)).await.is_err() {
            writing.write_all(&[b"1\r\n", piece, b"\r\n"].concat()).await.unwrap();
        }
        answer.extend(first);
        reading.read_to_end(&mut answer).await.unwrap();
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the server answers");
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn a_stream_that_takes_longer_than_a_body_may_pause_is_accepted() {
    let mut limits = default_limits();
    limits.body_timeout = Duration::from_secs(2);
    let stack = Stack::start_with(limits).await;
    let mut socket = begin_chunked(&stack).await;
    for _ in 0..30 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        socket.write_all(b"d\r\n{\"name\":\"a\"}\n\r\n").await.unwrap();
    }
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 202") && answer.contains(r#""accepted":30"#), "{answer}");
}

#[tokio::test]
async fn a_client_that_drips_bytes_gets_408_and_its_connection_is_closed() {
    let mut limits = default_limits();
    limits.body_timeout = Duration::from_secs(1);
    let stack = Stack::start_with(limits).await;
    // It never pauses for a second, and the total time is far away: only the lowest rate ends it.
    let mut socket = begin_chunked(&stack).await;
    let answer = send_until_answered(&mut socket, Duration::from_millis(800), b"{").await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn after_the_total_time_a_body_below_the_speed_of_a_slow_link_gets_408() {
    let mut limits = default_limits();
    (limits.body_timeout, limits.body_time_max) = (Duration::from_secs(1), Duration::from_secs(1));
    let stack = Stack::start_with(limits).await;
    // 20 bytes per second are above the lowest rate of the beginning.
    let mut socket = begin_chunked(&stack).await;
    let answer = send_until_answered(&mut socket, Duration::from_millis(50), b" ").await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("request_timeout"), "{answer}");
}
