//! Stopping: every request that arrived is answered, no connection is cut off, and the server ends in time.

mod stack;

use std::time::Duration;

use stack::{PATIENCE, Stack, batch, default_limits};
use testkit::eventually;
use testkit::http::HttpClient;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;

/// A supervisor would kill a server that takes longer.
const DRAIN_MAX: Duration = Duration::from_secs(10);

/// Between an answer and the next request of the same client.
const THINK_TIME: Duration = Duration::from_millis(30);

#[tokio::test(flavor = "multi_thread")]
async fn no_request_is_cut_off_while_the_server_stops_under_load() {
    let mut stack = Stack::start().await;
    let (address, bearer) = (stack.server.address, stack.bearer());
    let (answered, mut answers) = mpsc::channel(10_000);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..16 {
        let (answered, bearer) = (answered.clone(), bearer.clone());
        clients.spawn(async move {
            let mut client = HttpClient::new(address);
            // Every request on an open connection must be answered. After "connection: close" it is not open
            // any more.
            for requests in 1_u64.. {
                let answer = client.post("/v1/events", &[("authorization", &bearer)], batch(1)).await;
                let answer = answer.unwrap_or_else(|error| panic!("request {requests}: {error}"));
                assert_eq!(answer.status, 202);
                answered.send(()).await.unwrap();
                if answer.header("connection") == Some("close") {
                    return requests;
                }
                // A client is idle most of the time, and the server could close an idle connection without an
                // answer.
                tokio::time::sleep(THINK_TIME).await;
            }
            unreachable!("a u64 does not end")
        });
    }
    drop(answered);
    for _ in 0..200 {
        answers.recv().await.unwrap();
    }
    let rest = tokio::spawn(async move { while answers.recv().await.is_some() {} });
    stack.server.ask_to_stop();
    let mut answered = 0;
    while let Some(client) = clients.join_next().await {
        answered += client.unwrap();
    }
    rest.await.unwrap();
    let Stack { server, stream, .. } = stack;
    tokio::time::timeout(DRAIN_MAX, server.stopped()).await.expect("the drain is bounded");
    assert_eq!(
        stream.pending_batches(0).await.unwrap().len() as u64,
        answered,
        "the stream has the batches that were answered, and no others"
    );
}

#[tokio::test]
async fn a_client_that_waits_for_its_outcome_is_answered_when_the_server_stops() {
    let mut stack = Stack::start().await;
    let (address, bearer) = (stack.server.address, stack.bearer());
    let waiting = tokio::spawn(async move {
        let headers = [("authorization", bearer.as_str()), ("prefer", "wait=30")];
        testkit::http::post(address, "/v1/events", &headers, batch(1)).await
    });
    eventually(PATIENCE, "the batch to be admitted", async || {
        (stack.stream.backlog().await.unwrap().entries == 1).then_some(())
    })
    .await;
    stack.server.ask_to_stop();
    let Stack { server, .. } = stack;
    tokio::time::timeout(DRAIN_MAX, server.stopped()).await.expect("the drain is bounded");
    assert_eq!(waiting.await.unwrap().status, 202);
}

#[tokio::test]
async fn a_stopping_server_is_not_ready_and_still_answers() {
    let mut limits = default_limits();
    limits.drain_grace = Duration::from_secs(5);
    let mut stack = Stack::start_with(limits).await;
    stack.server.ask_to_stop();
    eventually(PATIENCE, "not to be ready", async || {
        let answer = stack.get("/readyz").await;
        (answer.status == 503).then_some(()).ok_or(answer.status.to_string())
    })
    .await;
    let answer = stack.post(batch(1)).await;
    assert_eq!((answer.status, answer.header("connection")), (202, Some("close")));
    assert_eq!(stack.get("/healthz").await.status, 200);
}

#[tokio::test]
async fn idle_and_stuck_connections_do_not_delay_the_stop() {
    let mut stack = Stack::start().await;
    let mut idle = TcpStream::connect(stack.server.address).await.unwrap();
    let mut stuck = TcpStream::connect(stack.server.address).await.unwrap();
    stuck.write_all(b"POST /v1/events HTTP/1.1\r\nHost: x\r\n").await.unwrap();
    // Connections are accepted in order, so both are accepted when a later one is served.
    assert_eq!(stack.get("/healthz").await.status, 200);
    stack.server.ask_to_stop();
    let Stack { server, .. } = stack;
    tokio::time::timeout(DRAIN_MAX, server.stopped()).await.expect("the drain is bounded");
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(rest.is_empty());
}
