//! The status page over HTTP: its contents, its audience, the limit of watchers, and the end of the feed.

mod stack;

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use ingest_api::StatusPage;
use ingest_api::status::WATCHERS_MAX;
use millrace_event::policy::KeyScope;
use millrace_store::{KeyOptions, Payload, WriteRequest};
use millrace_stream::EntryId;
use serde_json::Value;
use stack::{PATIENCE, Server, Stack, batch};
use testkit::eventually;
use testkit::http::{self, Answer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use uuid::Uuid;

/// A supervisor would kill a server that takes longer.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// A client that watches the feed over a plain socket.
struct Watcher {
    socket: TcpStream,
    received: String,
}

impl Watcher {
    async fn start(server: SocketAddr) -> Self {
        Self::on(TcpStream::connect(server).await.unwrap()).await
    }

    async fn on(mut socket: TcpStream) -> Self {
        let host = socket.peer_addr().unwrap();
        let request = format!("GET /status/stream HTTP/1.1\r\nHost: {host}\r\n\r\n");
        socket.write_all(request.as_bytes()).await.unwrap();
        Self { socket, received: String::new() }
    }

    /// Everything up to and including this text, which must arrive.
    async fn until(&mut self, end: &str) -> String {
        let reading = async {
            loop {
                if let Some(found) = self.received.find(end) {
                    return self.received.drain(..found + end.len()).collect();
                }
                let mut piece = vec![0; 16 << 10];
                let read = self.socket.read(&mut piece).await.unwrap();
                assert!(read > 0, "the stream ended without {end:?}: {}", self.received);
                self.received.push_str(std::str::from_utf8(&piece[..read]).unwrap());
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.unwrap_or_else(|_| panic!("{end:?} did not arrive"))
    }

    async fn head(&mut self) -> String {
        self.until("\r\n\r\n").await
    }

    /// The next state.
    async fn state(&mut self) -> Value {
        self.until("data: ").await;
        serde_json::from_str(&self.until("\n\n").await).unwrap()
    }

    /// The first state that fulfills the condition.
    async fn state_with(&mut self, what: &str, fact: impl Fn(&Value) -> bool) -> Value {
        let looking = async {
            loop {
                let state = self.state().await;
                if fact(&state) {
                    return state;
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.unwrap_or_else(|_| panic!("no state had {what}"))
    }
}

/// Checks the headers that every answer for the page needs, so that no other site can read it.
#[track_caller]
fn is_closed_to_other_sites(answer: &Answer) {
    assert_eq!(answer.header("access-control-allow-origin"), None, "{answer:?}");
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{answer:?}");
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{answer:?}");
}

#[tokio::test]
async fn the_page_loads_nothing_and_is_closed_to_other_sites() {
    let stack = Stack::start().await;
    let server = stack.server.address;
    let page = http::get(server, "/", &[]).await;
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    is_closed_to_other_sites(&page);
    let policy = page.header("content-security-policy").unwrap();
    for directive in
        ["default-src 'none'", "script-src 'sha256-", "connect-src 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.contains(directive), "{directive} in {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");

    let origin = ("origin", "https://elsewhere.example");
    let same_site = ("sec-fetch-site", "same-site");
    for (path, header) in [("/", origin), ("/status/stream", origin), ("/status/stream", same_site)] {
        let refused = http::get(server, path, &[header]).await;
        assert_eq!(refused.status, 404, "{path} {header:?}");
        is_closed_to_other_sites(&refused);
    }
    let posted = http::post(server, "/", &[], "").await;
    assert_eq!(posted.status, 405);
    is_closed_to_other_sites(&posted);
    assert_eq!(stack.get("/healthz").await.header("access-control-allow-origin"), Some("*"));
}

#[tokio::test]
async fn a_host_name_of_another_site_does_not_show_the_page() {
    let stack = Stack::start().await;
    for path in ["/", "/status/stream"] {
        let request =
            |host: &str| format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let refused =
            http::raw(stack.server.address, request("rebound.example:8080").as_bytes(), PATIENCE).await;
        let refused = String::from_utf8_lossy(&refused).to_ascii_lowercase();
        assert!(refused.starts_with("http/1.1 404") && refused.contains("status_page=on"), "{refused}");
        assert!(!refused.contains("access-control"), "{refused}");
    }
}

#[tokio::test]
async fn there_is_a_page_on_loopback_or_when_it_is_switched_on() {
    let stack = Stack::start().await;
    let named = "GET / HTTP/1.1\r\nHost: status.example\r\nConnection: close\r\n\r\n";
    for (address, setting, is_shown) in [
        ("127.0.0.1:0", StatusPage::Off, false),
        ("0.0.0.0:0", StatusPage::Auto, false),
        ("0.0.0.0:0", StatusPage::On, true),
    ] {
        let server = Server::start_at(address, stack.deps(setting)).await;
        let server = SocketAddr::from(([127, 0, 0, 1], server.address.port()));
        let answer = String::from_utf8(http::raw(server, named.as_bytes(), PATIENCE).await).unwrap();
        let expected = if is_shown { "HTTP/1.1 200" } else { "HTTP/1.1 404" };
        assert!(answer.starts_with(expected), "{address} {setting:?}: {answer}");
        if !is_shown {
            let nothing = http::get(server, "/nothing", &[]).await;
            assert_eq!(
                http::get(server, "/", &[]).await.body,
                nothing.body,
                "the same answer as for any unknown path"
            );
            assert_eq!(http::get(server, "/status/stream", &[]).await.body, nothing.body);
        }
    }
}

#[tokio::test]
async fn a_watcher_sees_rates_backlog_refusals_and_dead_letters() {
    let stack = Stack::start().await;
    let (limited, limited_key) = stack.planned_project("limited", 60, 60, Some(1_000), 100).await;
    let mut watcher = Watcher::start(stack.server.address).await;
    let head = watcher.head().await.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 200") && head.contains("content-type: text/event-stream"), "{head}");
    assert!(head.contains("cache-control: no-store") && !head.contains("access-control"), "{head}");
    watcher.until("retry: 2000\n\n").await;
    let is_known = |state: &Value| !state["today"].is_null() && !state["letters"].is_null();
    let first = watcher.state_with("the answers of the store", is_known).await;
    assert_eq!(first["unready"], serde_json::json!([]));
    assert_eq!((&first["backlog"]["events"], &first["letters"]), (&Value::from(0), &serde_json::json!([])));

    assert_eq!(stack.post(batch(50)).await.status, 202);
    // Backlog and counters are read concurrently, so one may show the batch a state earlier than the other.
    let moved = Cell::new(false);
    let state = watcher
        .state_with("accepted events and a backlog", |state| {
            moved.set(moved.get() || state["rates"]["accepted"].as_f64() > Some(0.0));
            moved.get() && state["backlog"]["events"] == 50
        })
        .await;
    assert!(state["backlog"]["bytes"].as_u64() > Some(0), "{state}");
    watcher.state_with("an age", |state| state["backlog"]["oldest_age_ms"].as_u64() > Some(0)).await;
    stack.settle_all().await;
    moved.set(false);
    watcher
        .state_with("stored events and no backlog", |state| {
            moved.set(moved.get() || state["rates"]["stored"].as_f64() > Some(0.0));
            moved.get() && state["backlog"]["events"] == 0
        })
        .await;

    let limited_bearer = format!("Bearer {limited_key}");
    let limited_auth = [("authorization", limited_bearer.as_str())];
    http::post(stack.server.address, "/v1/events", &limited_auth, r#"[{"name":""},{"name":"good"}]"#).await;
    http::post(stack.server.address, "/v1/events", &[("authorization", "Bearer unknown-key")], "{}").await;
    let state = watcher
        .state_with("refusals", |state| state["rejected"]["last"][0]["code"] == "unauthenticated")
        .await;
    let refused = &state["rejected"]["last"][1];
    assert_eq!((&refused["project"], &refused["field"]), (&"limited".into(), &"name".into()), "{refused}");
    assert!(!state.to_string().contains("unknown-key"), "keys are not shown: {state}");

    let dead = WriteRequest {
        entry: EntryId { ms: 1, seq: 0 },
        shard: 0,
        batch_id: Uuid::now_v7(),
        project: limited,
        count: 3,
        payload: Payload::DeadLetter {
            reason: "the entry is damaged".to_owned(),
            raw: Bytes::from_static(b"?"),
        },
    };
    stack.store.writer("test").await.unwrap().write(&[dated_now(dead)]).await.unwrap();
    let state = watcher.state_with("the dead letter", |state| state["letters"][0]["events"] == 3).await;
    assert_eq!(state["letters"][0]["reason"], "the entry is damaged", "{state}");
    // The counters of the project change, so its usage is asked for again.
    http::post(stack.server.address, "/v1/events", &limited_auth, batch(1)).await;
    let is_shown = |row: &Value| row["name"] == "limited" && row["dead"] == 3 && row["left"] == 998;
    let rows = |state: &Value| state["today"]["projects"].as_array().cloned().unwrap_or_default();
    watcher.state_with("usage and quota", |state| rows(state).iter().any(is_shown)).await;
}

#[tokio::test]
async fn a_watcher_sees_whose_key_has_the_wrong_scope() {
    let stack = Stack::start().await;
    let mut watcher = Watcher::start(stack.server.address).await;
    watcher.head().await;
    let read = KeyOptions { scope: KeyScope::Read, ..KeyOptions::default() };
    let bearer = stack.another_key(&read).await;
    http::post(stack.server.address, "/v1/events", &[("authorization", &bearer)], "{}").await;
    let is_forbidden = |state: &Value| state["rejected"]["last"][0]["code"] == "forbidden";
    let state = watcher.state_with("a key of the wrong scope", is_forbidden).await;
    assert_eq!(state["rejected"]["last"][0]["project"], "test", "the owner learns of it: {state}");
}

#[tokio::test]
async fn the_page_shows_what_every_process_refused_also_before_its_start() {
    let stack = Stack::start().await;
    let mut other = Server::start(stack.deps(StatusPage::Off)).await;
    let bearer = stack.bearer();
    eventually(PATIENCE, "the other process to be ready", async || {
        let answer = http::post(other.address, "/v1/events", &[("authorization", &bearer)], batch(1)).await;
        (answer.status == 202).then_some(()).ok_or(answer.status)
    })
    .await;
    let hostile = "[{\"name\":\"a\",\"\u{9b}31m\u{202e}<b>\":1},{\"name\":5}]";
    http::post(other.address, "/v1/events", &[("authorization", &bearer)], hostile).await;
    let is_shown = |state: &Value| {
        let (sums, last) = (&state["rejected"]["sums"], &state["rejected"]["last"]);
        let count = |code: &str| {
            let sums = sums.as_array().into_iter().flatten();
            sums.filter(|sum| sum["code"] == code && sum["project"] == "test")
                .map(|sum| sum["count"].clone())
                .next()
        };
        let is_counted =
            count("unknown_field") == Some(1.into()) && count("no_valid_event") == Some(1.into());
        is_counted && last[0]["code"] == "invalid_type" && last[1]["field"] == "\\u{9b}31m\\u{202e}<b>"
    };
    let mut watcher = Watcher::start(stack.server.address).await;
    let state = watcher.state_with("refusals of another process", is_shown).await;
    assert!(!state.to_string().contains("payload"), "contents of events are not shown: {state}");
    other.ask_to_stop();
    other.stopped().await;
    let restarted = Server::start(stack.deps(StatusPage::On)).await;
    let mut watcher = Watcher::start(restarted.address).await;
    watcher.state_with("refusals before the start", is_shown).await;
}

fn dated_now(request: WriteRequest) -> WriteRequest {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_millis();
    WriteRequest { entry: EntryId { ms: u64::try_from(now).unwrap(), seq: 0 }, ..request }
}

#[tokio::test]
async fn a_watcher_over_the_limit_is_refused_until_another_leaves() {
    let stack = Stack::start().await;
    let server = stack.server.address;
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS_MAX {
        let mut watcher = Watcher::start(server).await;
        assert!(watcher.head().await.starts_with("HTTP/1.1 200"));
        watchers.push(watcher);
    }
    let refused = http::get(server, "/status/stream", &[]).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (503, Some("overloaded")));
    assert!(refused.header("retry-after").is_some());
    is_closed_to_other_sites(&refused);
    for watcher in &mut watchers {
        watcher.state().await;
    }
    watchers.pop();
    eventually(PATIENCE, "a slot to be free", async || {
        let mut watcher = Watcher::start(server).await;
        let head = watcher.head().await;
        head.starts_with("HTTP/1.1 200").then_some(()).ok_or(head)
    })
    .await;
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_disconnected() {
    let stack = Stack::start().await;
    let server = stack.server.address;
    // Long refusals fill a small receive window soon.
    for number in 0..20 {
        let long = format!(r#"[{{"name":"a","{}{number}":1}}]"#, "x".repeat(5_000));
        assert_eq!(stack.post(long).await.status, 422);
    }
    let mut idle = Vec::new();
    for _ in 0..WATCHERS_MAX {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1_024).unwrap();
        let mut watcher = Watcher::on(socket.connect(server).await.unwrap()).await;
        let head = watcher.head().await;
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        idle.push(watcher);
    }
    // All slots were given, and their watchers are still here: one more has a slot that was taken back.
    eventually(PATIENCE * 2, "a slot to be free", async || {
        let mut watcher = Watcher::start(server).await;
        let head = watcher.head().await;
        head.starts_with("HTTP/1.1 200").then_some(()).ok_or(head)
    })
    .await;
    drop(idle);
}

#[tokio::test]
async fn watchers_do_not_delay_the_stop() {
    let mut stack = Stack::start().await;
    let mut watcher = Watcher::start(stack.server.address).await;
    watcher.state().await;
    stack.server.ask_to_stop();
    let mut rest = Vec::new();
    let end = tokio::time::timeout(DRAIN_MAX, watcher.socket.read_to_end(&mut rest)).await;
    end.expect("the feed ends when the server stops").unwrap();
    let rest = watcher.received + &String::from_utf8(rest).unwrap();
    assert!(rest.ends_with("0\r\n\r\n"), "the body is complete: {rest:?}");
    let Stack { server, .. } = stack;
    tokio::time::timeout(DRAIN_MAX, server.stopped()).await.expect("the drain is bounded");
}
