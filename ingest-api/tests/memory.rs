//! The memory that all bodies share, when some senders take as much of it as they can.

mod stack;

use stack::{Stack, batch, default_limits};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// Sends this many bodies for SDKs but their last bytes, and waits until the server refuses one of them. The
/// others are withheld until the set is dropped.
async fn withheld_bodies(
    stack: &Stack,
    authorization: &str,
    count: usize,
    bytes: usize,
) -> JoinSet<[u8; 12]> {
    let mut held = JoinSet::new();
    for _ in 0..count {
        let mut socket = TcpStream::connect(stack.server.address).await.unwrap();
        let head =
            format!("POST /v1/batch HTTP/1.1\r\nHost: x\r\n{authorization}Content-Length: {bytes}\r\n\r\n");
        socket.write_all(head.as_bytes()).await.unwrap();
        socket.write_all(&vec![b' '; bytes - 1]).await.unwrap();
        held.spawn(async move {
            let mut answer = [0; 12];
            socket.read_exact(&mut answer).await.unwrap();
            answer
        });
    }
    let refused = held.join_next().await.unwrap().unwrap();
    assert_eq!(&refused, b"HTTP/1.1 503");
    held
}

#[tokio::test]
async fn bodies_that_one_sender_withholds_do_not_shut_out_the_others() {
    let mut limits = default_limits();
    (limits.body_bytes_max, limits.sdk_body_bytes_max, limits.body_decoded_bytes_max) = (9_000, 9_000, 9_000);
    limits.bodies_in_flight_bytes_max = 80_000;
    let stack = Stack::start_with(limits).await;
    let (_, key) = stack.another_project("other", "pro", false).await;
    let other = format!("Bearer {}", key.key);
    for (sender, authorization) in
        [("clients without a key", String::new()), ("a project", format!("Authorization: {other}\r\n"))]
    {
        // Four of these bodies take half of the memory.
        let held = withheld_bodies(&stack, &authorization, 5, 9_000).await;
        let answer = stack.post(batch(100)).await;
        assert_eq!(answer.status, 202, "{sender}: {answer:?}");
        assert_eq!(held.len(), 4, "{sender} withhold the other bodies all the time");
    }
}
