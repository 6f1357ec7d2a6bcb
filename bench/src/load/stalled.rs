//! Held against a server that stalls, the generator must tell of everybody who waited.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

use super::{Load, Pace, Shape, Target, start};

const STALL: Duration = Duration::from_millis(400);
const ANSWER: &[u8] = b"HTTP/1.1 202 Accepted\r\nContent-Length: 14\r\n\r\n{\"accepted\":1}";

/// A server that reads at once, and answers nobody until it has stalled after its first request. Every request of one event
/// ends with `}]}`.
async fn serve(listener: TcpListener) {
    let answers_from = Arc::new(OnceLock::new());
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(stream, Arc::clone(&answers_from)));
    }
}

async fn answer(mut stream: TcpStream, answers_from: Arc<OnceLock<Instant>>) {
    let mut received = Vec::new();
    while stream.read_buf(&mut received).await.unwrap() > 0 {
        if received.ends_with(b"}]}") {
            received.clear();
            sleep_until(*answers_from.get_or_init(|| Instant::now() + STALL)).await;
            stream.write_all(ANSWER).await.unwrap();
        }
    }
}

/// How many requests were told of, and how many of them as having taken at least so long.
async fn told(pace: Pace, at_least: Duration) -> (u64, u64) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = Target { address: listener.local_addr().unwrap(), key: "none".to_owned(), days_ago: 0 };
    let server = tokio::spawn(serve(listener));
    let shape = Shape { events: 1..=1, duplicates: 0.0 };
    let window = Duration::from_secs(1);
    let load = Load { target, shape, connections: 2, pace, warm_up: Duration::ZERO, window };
    let tally = start(&load).await.unwrap().finish().await.unwrap();
    server.abort();
    assert_eq!((tally.refused, tally.unanswered), (0, 0));
    (tally.latency.count(), tally.latency.count_at_least(at_least))
}

#[tokio::test]
async fn at_a_fixed_pace_everybody_who_was_due_during_a_stall_has_waited() {
    // 100 a second are due. The stall begins no earlier than the first of them, so those of its first half wait for half
    // of it or longer.
    let (told, waited) = told(Pace::Fixed { requests_per_s: 100.0 }, STALL / 2).await;
    assert_eq!(told, 100, "every request that was due is told of");
    assert!(waited >= 20, "only {waited} of those who were due during the stall have waited");
}

#[tokio::test]
async fn a_closed_loop_tells_of_no_more_than_one_who_waited_on_each_connection() {
    // This is why it says nothing of latency: the other 38 were never sent.
    let (_, waited) = told(Pace::Closed, STALL / 2).await;
    assert!(waited >= 1, "the stall was not seen at all");
}
