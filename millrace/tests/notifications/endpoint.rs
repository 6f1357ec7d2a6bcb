//! The endpoint of a webhook: answers as the test says, and records what it gets.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use testkit::eventually;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;

/// What the endpoint does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// The head of an answer, and nothing after it.
    Head(String),
    /// Closes the connection without an answer.
    Close,
    /// Never answers.
    Hang,
    /// A success whose body never ends.
    EndlessBody,
    /// A head that never ends.
    EndlessHead,
}

impl Reply {
    pub fn status(status: u16) -> Self {
        Self::Head(format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n"))
    }
}

/// A request that the endpoint got.
#[derive(Clone, Debug)]
pub struct Request {
    /// The method, and the path with its query.
    pub line: String,
    /// In lower case.
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(header, _)| header == name);
        found.map(|(_, value)| value.as_str()).unwrap_or_else(|| panic!("no {name} in {self:?}"))
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("the body is JSON")
    }

    /// Checks the signature with the reference library.
    pub fn verify(&self, secret: &str) {
        let mut headers = hyper::HeaderMap::new();
        for name in ["webhook-id", "webhook-timestamp", "webhook-signature"] {
            headers.insert(name, self.header(name).parse().expect("a header"));
        }
        let library = standardwebhooks::Webhook::new(secret).expect("a secret");
        library.verify(&self.body, &headers).unwrap_or_else(|error| panic!("{error}: {self:?}"));
    }
}

#[derive(Default)]
struct State {
    replies: VecDeque<Reply>,
    requests: Vec<Request>,
    connections: usize,
}

/// Ends with the runtime of its test.
#[derive(Clone)]
pub struct Endpoint {
    pub address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Endpoint {
    /// Answers 204 to every request that has no reply of its own.
    pub async fn start() -> Self {
        let (endpoint, listener) = Self::bind().await;
        let accepting = endpoint.clone();
        tokio::spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let endpoint = accepting.clone();
                tokio::spawn(async move { endpoint.serve(socket).await });
            }
        });
        endpoint
    }

    pub async fn bind() -> (Self, TcpListener) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        (Self { address, state: Arc::default() }, listener)
    }

    pub fn url(&self) -> String {
        format!("http://{}/in?x=1", self.address)
    }

    pub fn reply(&self, reply: Reply) {
        self.state.lock().expect("no test ends here").replies.push_back(reply);
    }

    pub fn requests(&self) -> Vec<Request> {
        self.state.lock().expect("no test ends here").requests.clone()
    }

    /// Connections that were accepted.
    pub fn connections(&self) -> usize {
        self.state.lock().expect("no test ends here").connections
    }

    /// Waits for this number of requests, and returns all.
    pub async fn wait_for(&self, count: usize) -> Vec<Request> {
        eventually(Duration::from_secs(60), "requests at the endpoint", async || {
            let requests = self.requests();
            if requests.len() >= count { Ok(requests) } else { Err(format!("{} requests", requests.len())) }
        })
        .await
    }

    /// Reads one request and replies.
    pub async fn serve(&self, mut socket: impl AsyncRead + AsyncWrite + Unpin) {
        self.state.lock().expect("no test ends here").connections += 1;
        let Some(request) = read(&mut socket).await else { return };
        let reply = {
            let mut state = self.state.lock().expect("no test ends here");
            state.requests.push(request);
            state.replies.pop_front().unwrap_or(Reply::status(204))
        };
        let (head, endless) = match reply {
            Reply::Close => return,
            Reply::Hang => return std::future::pending().await,
            Reply::Head(head) => (head, None),
            Reply::EndlessBody => {
                ("HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n".to_owned(), Some("x"))
            }
            Reply::EndlessHead => ("HTTP/1.1 200 OK\r\n".to_owned(), Some("a: b\r\n")),
        };
        let mut sent = socket.write_all(head.as_bytes()).await;
        while let (Ok(()), Some(more)) = (&sent, endless) {
            sent = socket.write_all(more.as_bytes()).await;
        }
        if sent.is_ok() {
            // Until the other side closes: an answer must not be lost by a reset.
            drop(socket.read(&mut [0]).await);
        }
    }
}

/// A request with `content-length`. `None` when the connection ends first.
async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Option<Request> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if socket.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).ok()?;
    let mut lines = head.split("\r\n");
    let line = lines.next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: Vec<_> =
        headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let mut request = Request { line, headers, body: bytes.split_off(head_end + 4) };
    let length: usize = request.header("content-length").parse().ok()?;
    while request.body.len() < length {
        if socket.read_buf(&mut request.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(request)
}
