//! A receiver of notifications that can be away, fail and hang up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use testkit::eventually;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::node::SOON;

/// The bodies that came with an answer of 200, by the id in their header.
pub(super) type Received = BTreeMap<String, BTreeSet<Vec<u8>>>;

#[derive(Default, Debug)]
struct State {
    received: Mutex<Received>,
    to_fail: AtomicU64,
    to_hang_up: AtomicU64,
}

#[derive(Debug)]
pub(super) struct Receiver {
    address: SocketAddr,
    state: Arc<State>,
    task: Option<JoinHandle<()>>,
}

impl Receiver {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("a listener has an address");
        let state: Arc<State> = Arc::default();
        let task = Some(tokio::spawn(serve(listener, Arc::clone(&state))));
        Self { address, state, task }
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// Refuses connections from now on.
    pub(super) fn leave(&mut self) {
        self.task.take().inspect(JoinHandle::abort);
    }

    pub(super) async fn come_back(&mut self) {
        let address = self.address;
        let listener =
            eventually(SOON, "the port to be free", async || TcpListener::bind(address).await).await;
        self.task = Some(tokio::spawn(serve(listener, Arc::clone(&self.state))));
    }

    /// Answers so many requests with 500.
    pub(super) fn fail_next(&self, requests: u64) {
        self.state.to_fail.store(requests, Ordering::SeqCst);
    }

    /// Reads so many requests and closes the connection.
    pub(super) fn hang_up_next(&self, requests: u64) {
        self.state.to_hang_up.store(requests, Ordering::SeqCst);
    }

    /// Waits until this many more notifications have come.
    pub(super) async fn receives(&self, more: usize) {
        let goal = self.received().len() + more;
        eventually(SOON, "a notification", async || self.received().len() >= goal).await;
    }

    pub(super) fn received(&self) -> Received {
        self.state.received.lock().expect("no thread panics while it holds them").clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.leave();
    }
}

async fn serve(listener: TcpListener, state: Arc<State>) {
    loop {
        let Ok((connection, _)) = listener.accept().await else { continue };
        tokio::spawn(answer(connection, Arc::clone(&state)));
    }
}

/// Reads one request. A connection that ends before its body is no request.
async fn answer(mut connection: TcpStream, state: Arc<State>) {
    let mut request = Vec::new();
    let (head, body) = loop {
        match connection.read_buf(&mut request).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
        let Some(end) = request.windows(4).position(|part| part == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&request[..end]).into_owned();
        let length = header(&head, "content-length").and_then(|length| length.parse::<usize>().ok());
        let body = &request[end + 4..];
        if length.is_some_and(|length| body.len() >= length) {
            break (head, body.to_vec());
        }
    };
    let take = |left: &AtomicU64| {
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    };
    // The sender does not know that the notification has come.
    let hangs_up = take(&state.to_hang_up);
    let fails = !hangs_up && take(&state.to_fail);
    if !fails {
        let id = header(&head, "webhook-id").unwrap_or_default().to_owned();
        state
            .received
            .lock()
            .expect("no thread panics while it holds them")
            .entry(id)
            .or_default()
            .insert(body);
    }
    if !hangs_up {
        let status = if fails { "500 Internal Server Error" } else { "200 OK" };
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        // The sender may be dead.
        drop(connection.write_all(answer.as_bytes()).await);
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}
