//! Malicious and broken clients get a clear error or a closed connection, and the server continues to serve.

mod stack;

use std::time::Duration;

use stack::{PATIENCE, Stack, batch, default_limits, gzip, problem, zstd};
use testkit::http;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Everything that was received until the server closed the connection.
async fn raw(stack: &Stack, request: impl AsRef<[u8]>) -> String {
    let answer = http::raw(stack.server.address, request.as_ref(), PATIENCE).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn head(stack: &Stack, more: &str) -> String {
    format!("POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n{more}\r\n", stack.bearer())
}

/// The code in the text of an answer.
fn code(answer: &str) -> &str {
    answer.split_once(r#""code":""#).and_then(|(_, rest)| rest.split('"').next()).unwrap_or(answer)
}

#[tokio::test]
async fn each_hostile_body_gets_its_exact_status_and_the_server_continues() {
    let stack = Stack::start().await;
    let deep = |levels: usize| {
        format!(r#"{{"name":"a","properties":{}1{}}}"#, r#"{"a":"#.repeat(levels), "}".repeat(levels))
    };
    let keys: Vec<_> = (0..10_000).map(|key| format!(r#""key{key}":{key}"#)).collect();
    let cases: Vec<(&str, Vec<u8>, u16)> = vec![
        ("64 levels", deep(64).into(), 202),
        ("65 levels", deep(65).into(), 422),
        ("100,000 levels", deep(100_000).into(), 422),
        ("100,000 arrays", "[".repeat(100_000).into(), 400),
        ("1,000,000 arrays that close", [vec![b'['; 1_000_000], vec![b']'; 1_000_000]].concat(), 422),
        ("a lone surrogate", r#"{"name":"a","properties":{"x":"\ud800"}}"#.into(), 422),
        ("U+0000 escaped", r#"{"name":"a","properties":{"x":"\u0000"}}"#.into(), 202),
        ("U+0000 in the name", r#"{"name":"a\u0000b"}"#.into(), 202),
        ("U+0000 raw", b"{\"name\":\"a\0b\"}".to_vec(), 400),
        ("bad UTF-8", b"{\"name\":\"a\xff\xfe\"}".to_vec(), 400),
        ("overlong UTF-8", b"{\"name\":\"\xc0\xaf\"}".to_vec(), 400),
        ("a huge exponent", r#"{"name":"a","properties":{"x":1e131071}}"#.into(), 422),
        ("a tiny exponent", r#"{"name":"a","properties":{"x":1e-99999}}"#.into(), 422),
        (
            "10,000 digits",
            format!(r#"{{"name":"a","properties":{{"x":{}}}}}"#, "9".repeat(10_000)).into(),
            422,
        ),
        ("NaN", r#"{"name":"a","properties":{"x":NaN}}"#.into(), 400),
        ("10,000 keys", format!(r#"{{"name":"a","properties":{{{}}}}}"#, keys.join(",")).into(), 202),
        ("the same key twice", r#"{"name":"a","name":"b"}"#.into(), 422),
        ("half an object", r#"{"name":"a""#.into(), 400),
        ("two documents", r#"{"name":"a"}{"name":"b"}"#.into(), 400),
        ("a byte order mark", b"\xef\xbb\xbf{\"name\":\"a\"}".to_vec(), 202),
        ("only zeroes", vec![0; 100_000], 400),
        ("a name of 1 MB", format!(r#"{{"name":"{}"}}"#, "n".repeat(1 << 20)).into(), 422),
        ("a million empty events", format!("[{}]", ["{}"; 1_000_000].join(",")).into(), 413),
    ];
    for (what, body, expected) in cases {
        let answer = stack.post(body).await;
        assert_eq!(answer.status, expected, "{what}: {:?}", answer.body.slice(..answer.body.len().min(300)));
        if answer.status != 202 {
            problem(&answer);
        }
    }
    assert_eq!(stack.post(batch(1)).await.status, 202);
}

#[tokio::test]
async fn damaged_encodings_and_decompression_bombs_are_refused() {
    let mut limits = default_limits();
    limits.body_decoded_bytes_max = 1 << 20;
    let stack = Stack::start_with(limits).await;
    let text = batch(100);
    let (gz, zs) = (gzip(text.as_bytes()), zstd(text.as_bytes()));
    let zeroes = vec![b' '; 2 << 20];
    for (what, encoding, body, expected) in [
        ("truncated gzip", "gzip", gz[..gz.len() / 2].to_vec(), "invalid_encoding"),
        ("truncated zstd", "zstd", zs[..zs.len() / 2].to_vec(), "invalid_encoding"),
        ("gzip and garbage", "gzip", [&gz[..], b"garbage"].concat(), "invalid_encoding"),
        ("zstd and garbage", "zstd", [&zs[..], b"garbage"].concat(), "invalid_encoding"),
        ("zstd called gzip", "gzip", zs.clone(), "invalid_encoding"),
        ("a gzip bomb", "gzip", gzip(&zeroes), "payload_too_large"),
        ("a zstd bomb", "zstd", zstd(&zeroes), "payload_too_large"),
        ("gzip in gzip", "gzip", gzip(&gz), "invalid_json"),
    ] {
        let answer = stack.post_with(&[("content-encoding", encoding)], body).await;
        assert_eq!(problem(&answer), expected, "{what}");
    }
}

#[tokio::test]
async fn a_body_too_large_is_refused_before_it_is_read_and_the_answer_arrives() {
    let mut limits = default_limits();
    limits.body_bytes_max = 100_000;
    let stack = Stack::start_with(limits).await;
    // Refused because of its Content-Length, before anything was sent.
    let announced = raw(&stack, head(&stack, "Content-Length: 100001\r\nExpect: 100-continue\r\n")).await;
    assert_eq!(code(&announced), "payload_too_large", "{announced}");
    assert!(announced.starts_with("HTTP/1.1 413") && !announced.contains("100 Continue"), "{announced}");
    // A client that sends everything before it reads still gets its answer.
    let mut socket = TcpStream::connect(stack.server.address).await.unwrap();
    socket.write_all(head(&stack, "Content-Length: 16777216\r\n").as_bytes()).await.unwrap();
    for _ in 0..256 {
        socket.write_all(&[b' '; 65_536]).await.expect("the server continues to read");
    }
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    assert_eq!(code(&answer), "payload_too_large");
    assert!(answer.to_ascii_lowercase().contains("connection: close"), "{answer}");
    // A chunked body does not announce its length.
    let mut chunked = head(&stack, "Transfer-Encoding: chunked\r\n").into_bytes();
    for _ in 0..20 {
        chunked.extend_from_slice(format!("2000\r\n{}\r\n", " ".repeat(0x2000)).as_bytes());
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    let answer = raw(&stack, chunked).await;
    assert_eq!(code(&answer), "payload_too_large", "{answer}");
}

#[tokio::test]
async fn the_connection_stays_open_after_a_refused_body() {
    let stack = Stack::start().await;
    let mut client = stack.client();
    for _ in 0..3 {
        let refused = client.post("/v1/events", &[], vec![b' '; 1 << 20]).await.unwrap();
        assert_eq!(problem(&refused), "unauthenticated");
        assert_eq!(refused.header("connection"), None);
    }
    assert_eq!(
        client.post("/v1/events", &[("authorization", &stack.bearer())], batch(1)).await.unwrap().status,
        202
    );
}

#[tokio::test]
async fn clients_that_send_heads_or_bodies_slowly_are_disconnected() {
    let mut limits = default_limits();
    limits.header_timeout = Duration::from_millis(300);
    limits.idle_timeout = Duration::from_millis(300);
    limits.body_timeout = Duration::from_millis(300);
    let stack = Stack::start_with(limits).await;
    let half_a_head = raw(&stack, "POST /v1/events HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    assert!(half_a_head.is_empty() || half_a_head.starts_with("HTTP/1.1 4"), "{half_a_head}");
    assert_eq!(raw(&stack, "").await, "", "a silent connection is closed");
    let half_a_body = raw(&stack, head(&stack, "Content-Length: 100\r\n") + "{\"events\":").await;
    assert!(half_a_body.starts_with("HTTP/1.1 408"), "{half_a_body}");
    assert_eq!(code(&half_a_body), "request_timeout");
    assert!(half_a_body.to_ascii_lowercase().contains("connection: close"), "{half_a_body}");
}

#[tokio::test]
async fn the_deadline_of_a_head_does_not_end_idle_connections() {
    let mut limits = default_limits();
    limits.header_timeout = Duration::from_millis(200);
    let stack = Stack::start_with(limits).await;
    let mut socket = TcpStream::connect(stack.server.address).await.unwrap();
    let mut answer = vec![0; 4_096];
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(450)).await;
        socket.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let read = socket.read(&mut answer).await.unwrap();
        assert!(answer[..read].starts_with(b"HTTP/1.1 200"), "an idle connection is kept");
    }
    socket.write_all(b"GET /healthz HTTP/1.1\r\nX-Slow: ").await.unwrap();
    let ended = socket.read(&mut answer).await;
    assert!(matches!(ended, Ok(0) | Err(_)), "the connection is closed in the middle of the head: {ended:?}");
}

#[tokio::test]
async fn broken_framing_is_a_4xx_or_a_closed_connection() {
    let mut limits = default_limits();
    // Some of these look like an incomplete head.
    limits.header_timeout = Duration::from_millis(500);
    limits.idle_timeout = Duration::from_millis(500);
    let stack = Stack::start_with(limits).await;
    let mut requests = vec![
        head(&stack, "Content-Length: 10\r\nContent-Length: 11\r\n") + "0123456789",
        head(&stack, "Content-Length: -1\r\n"),
        head(&stack, "Content-Length: 99999999999999999999\r\n"),
        head(&stack, "Transfer-Encoding: chunked\r\n") + "zz\r\n",
        head(&stack, "Transfer-Encoding: gzip\r\n") + "abc",
        format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(100_000)),
        format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(100_000)),
        "GARBAGE\r\n\r\n".to_owned(),
        "GET / HTTP/9.9\r\n\r\n".to_owned(),
        "\0\0\0\0\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\0 a TLS hello".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(),
    ];
    let many_headers: String = (0..200).map(|header| format!("X-{header}: 1\r\n")).collect();
    requests.push(format!("GET / HTTP/1.1\r\nHost: x\r\n{many_headers}\r\n"));
    for request in requests {
        let answer = raw(&stack, &request).await;
        let shown = &request[..request.len().min(60)];
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{shown:?}: {answer}");
    }
    // The body is shorter than announced and the connection half closed, so the client can still read an
    // answer.
    let mut socket = TcpStream::connect(stack.server.address).await.unwrap();
    socket.write_all((head(&stack, "Content-Length: 100\r\n") + "{}").as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await.unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(stack.post(batch(1)).await.status, 202);
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let stack = Stack::start().await;
    let body = batch(2);
    let post = head(&stack, &format!("Content-Length: {}\r\n", body.len())) + &body;
    let get = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let last = "GET /nowhere HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answers = raw(&stack, [post.as_str(), get, &post, &post, get, last].concat()).await;
    let statuses: Vec<_> = answers.split("HTTP/1.1 ").skip(1).map(|answer| &answer[..3]).collect();
    assert_eq!(statuses, ["202", "200", "202", "202", "200", "404"], "{answers}");
    assert_eq!(stack.stream.backlog().await.unwrap().events, 6);
}

#[tokio::test]
async fn a_connection_over_the_limit_is_closed_and_the_others_are_served() {
    let mut limits = default_limits();
    limits.connections_max = 2;
    let stack = Stack::start_with(limits).await;
    let health = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    let mut kept = Vec::new();
    // The connection of the readiness check may take a moment to close.
    testkit::eventually(PATIENCE, "two connections to be served", async || {
        let mut socket = TcpStream::connect(stack.server.address).await.map_err(|error| error.to_string())?;
        socket.write_all(health).await.map_err(|error| error.to_string())?;
        let mut answer = [0; 12];
        socket.read_exact(&mut answer).await.map_err(|error| error.to_string())?;
        kept.push(socket);
        if kept.len() == 2 { Ok(()) } else { Err("one".to_owned()) }
    })
    .await;
    assert_eq!(raw(&stack, health).await, "", "the third is closed");
    let mut first = kept.swap_remove(0);
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut rest = String::new();
    first.read_to_string(&mut rest).await.unwrap();
    assert!(rest.contains("HTTP/1.1 200 OK"), "{rest}");
}

#[tokio::test]
async fn a_body_that_does_not_fit_into_the_shared_memory_is_503() {
    let mut limits = default_limits();
    limits.bodies_in_flight_bytes_max = 50_000;
    let stack = Stack::start_with(limits).await;
    let answer = stack.post(vec![b' '; 60_000]).await;
    assert_eq!((answer.status, problem(&answer).as_str()), (503, "overloaded"));
    assert_eq!(stack.post(batch(10)).await.status, 202, "the memory of the refused body is free again");
}

/// Everything about a request but its path and key.
fn post_of(stack: &Stack, version: &str, fields: &str, body: &str) -> String {
    let key = stack.bearer();
    format!("POST /v1/events {version}\r\nAuthorization: {key}\r\n{fields}\r\n{body}")
}

#[tokio::test]
async fn a_transfer_encoding_other_than_chunked_is_refused_and_the_connection_closed() {
    let stack = Stack::start().await;
    let chunked = "10\r\n{\"name\":\"a\"}    \r\n0\r\n\r\n";
    let next = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
    for fields in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: identity, chunked",
        "Transfer-Encoding: x, chunked",
        "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: gzip, chunked\r\nContent-Length: 5",
    ] {
        let post = post_of(&stack, "HTTP/1.1", &format!("Host: x\r\n{fields}\r\n"), chunked);
        let answer = raw(&stack, post + next).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{fields}: {answer}");
        assert_eq!(code(&answer), "invalid_header", "{fields}");
        assert!(answer.contains(r#""field":"transfer-encoding""#), "{fields}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{fields}: the connection is closed: {answer}");
    }
    // The end of these bodies is unknown, so hyper refuses them without a document.
    for fields in [
        "Transfer-Encoding: gzip",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, gzip",
        "Transfer-Encoding: chunked;q=1",
        "Transfer-Encoding:",
        "Transfer-Encoding : chunked",
        "X: y\r\n Transfer-Encoding: chunked",
    ] {
        let post = post_of(&stack, "HTTP/1.1", &format!("Host: x\r\n{fields}\r\n"), chunked);
        let answer = raw(&stack, post + next).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{fields}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{fields}: the connection is closed: {answer}");
    }
    let post = post_of(&stack, "HTTP/1.0", "Transfer-Encoding: chunked\r\n", chunked);
    assert!(raw(&stack, post).await.starts_with("HTTP/1.1 400"), "HTTP/1.0 has no transfer encodings");
    let post = post_of(
        &stack,
        "HTTP/1.1",
        "Host: x\r\nTransfer-Encoding: CHUNKED\r\nConnection: close\r\n",
        chunked,
    );
    assert!(raw(&stack, post).await.starts_with("HTTP/1.1 202"));
    assert_eq!(stack.stream.backlog().await.unwrap().events, 1, "no refused batch is in the stream");
}

#[tokio::test]
async fn with_both_lengths_the_chunks_count_and_nothing_after_them_is_a_request() {
    let stack = Stack::start().await;
    let body = "10\r\n{\"name\":\"a\"}    \r\n0\r\n\r\n";
    let smuggled = post_of(&stack, "HTTP/1.1", "Host: x\r\nContent-Length: 12\r\n", r#"{"name":"b"}"#);
    // A proxy that goes by Content-Length would see the second request as a part of the first, or the
    // reverse.
    for length in [0, body.len(), body.len() + smuggled.len()] {
        for fields in [
            format!("Host: x\r\nContent-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
            format!("Host: x\r\nTransfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
        ] {
            let answer = raw(&stack, post_of(&stack, "HTTP/1.1", &fields, body) + &smuggled).await;
            assert!(answer.starts_with("HTTP/1.1 202"), "{fields}: {answer}");
            assert!(answer.to_ascii_lowercase().contains("connection: close"), "{fields}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{fields}: {answer}");
        }
    }
    assert_eq!(stack.stream.backlog().await.unwrap().events, 6);
    for size in ["0xc", "-c", "+c", "c c", "", "fffffffffffffffff"] {
        let chunked = format!("{size}\r\n{{\"name\":\"b\"}}\r\n0\r\n\r\n");
        let fields = "Host: x\r\nTransfer-Encoding: chunked\r\n";
        let answer = raw(&stack, post_of(&stack, "HTTP/1.1", fields, &chunked) + &smuggled).await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{size:?}: {answer}");
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{size:?}: {answer}");
    }
    for fields in ["Content-Length: 12, 12", "Content-Length: +12", "Content-Length: 0x0c"] {
        let post = post_of(&stack, "HTTP/1.1", &format!("Host: x\r\n{fields}\r\n"), r#"{"name":"b"}"#);
        assert!(raw(&stack, post).await.starts_with("HTTP/1.1 400"), "{fields}");
    }
    assert_eq!(stack.stream.backlog().await.unwrap().events, 6);
}

#[tokio::test]
async fn http_1_1_requires_exactly_one_valid_host() {
    let stack = Stack::start().await;
    let body = r#"{"name":"a"}"#;
    let length = "Content-Length: 12\r\n";
    for (version, fields) in [
        ("HTTP/1.1", ""),
        ("HTTP/1.1", "Host: a\r\nHost: a\r\n"),
        ("HTTP/1.1", "Host: a\r\nHost: b\r\n"),
        ("HTTP/1.1", "Host: a b\r\n"),
        ("HTTP/1.1", "Host: a/b\r\n"),
        ("HTTP/1.1", "Host: user@a\r\n"),
        ("HTTP/1.1", "Host: a:port\r\n"),
        ("HTTP/1.0", "Host: a\r\nHost: b\r\n"),
        ("HTTP/1.0", "Host: a b\r\n"),
    ] {
        let answer = raw(&stack, post_of(&stack, version, &format!("{fields}{length}"), body)).await;
        assert!(answer.contains(" 400 Bad Request"), "{version} {fields}: {answer}");
        assert_eq!(code(&answer), "invalid_header", "{version} {fields}");
        assert!(answer.contains(r#""field":"host""#), "{version} {fields}: {answer}");
    }
    for path in ["/healthz", "/", "/v1/limits", "/nowhere"] {
        let answer = raw(&stack, format!("GET {path} HTTP/1.1\r\n\r\n")).await;
        assert_eq!(code(&answer), "invalid_header", "{path}");
    }
    let close = "Connection: close\r\n";
    for (version, fields) in [
        ("HTTP/1.0", ""),
        ("HTTP/1.0", "Host: a\r\n"),
        ("HTTP/1.1", "Host:\r\n"),
        ("HTTP/1.1", "Host: my_host.internal:8080\r\n"),
        ("HTTP/1.1", "Host: [::1]:8080\r\n"),
    ] {
        let answer = raw(&stack, post_of(&stack, version, &format!("{fields}{length}{close}"), body)).await;
        assert!(answer.contains(" 202 Accepted"), "{version} {fields}: {answer}");
    }
}
