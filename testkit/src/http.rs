//! A small HTTP client that keeps its connection, and a way to send what no HTTP client would.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a server has answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

/// No answer came: the request may or may not have been carried out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NoAnswer(String);

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no answer: {}", self.0)
    }
}

impl std::error::Error for NoAnswer {}

pub(crate) fn no_answer(error: impl std::fmt::Display) -> NoAnswer {
    NoAnswer(error.to_string())
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// When it is none.
    pub fn json(&self) -> serde_json::Value {
        let shown = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error} in {shown:?}"))
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A client of one server. It opens a connection when it needs one and keeps it as long as the server does.
#[derive(Debug)]
pub struct HttpClient {
    server: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl HttpClient {
    /// A client that is not connected yet.
    pub fn new(server: SocketAddr) -> Self {
        Self { server, connection: None }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// [`NoAnswer`]; the next request opens a new connection.
    ///
    /// # Panics
    /// When method, path or headers are not what HTTP allows.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, NoAnswer> {
        let mut connection = match self.connection.take() {
            Some(connection) if !connection.is_closed() => connection,
            _ => connect(self.server).await?,
        };
        connection.ready().await.map_err(no_answer)?;
        let answer = connection.send_request(self.request(method, path, headers, body.into())).await;
        let (head, body) = answer.map_err(no_answer)?.into_parts();
        let body = body.collect().await.map_err(no_answer)?.to_bytes();
        self.connection = Some(connection);
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// POST. See [`HttpClient::send`].
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, NoAnswer> {
        self.send("POST", path, headers, body).await
    }

    /// GET. See [`HttpClient::send`].
    ///
    /// # Errors
    /// [`NoAnswer`].
    pub async fn get(&mut self, path: &str, headers: &[(&str, &str)]) -> Result<Answer, NoAnswer> {
        self.send("GET", path, headers, Bytes::new()).await
    }

    fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Request<Full<Bytes>> {
        let method = Method::from_bytes(method.as_bytes()).expect("a test sends a method that exists");
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.server.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body)).expect("a test sends a path and headers that HTTP allows")
    }
}

/// One POST on a connection of its own.
///
/// # Panics
/// When no answer comes.
pub async fn post(
    server: SocketAddr,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Answer {
    HttpClient::new(server)
        .post(path, headers, body)
        .await
        .unwrap_or_else(|error| panic!("POST {path}: {error}"))
}

/// One GET on a connection of its own.
///
/// # Panics
/// When no answer comes.
pub async fn get(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    HttpClient::new(server).get(path, headers).await.unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

/// Sends these very bytes and returns what came back until the server closed the connection, or until `at_most` has
/// passed.
///
/// # Panics
/// When no connection can be made.
pub async fn raw(server: SocketAddr, bytes: &[u8], at_most: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).await.expect("a server of ours accepts connections");
    let mut received = Vec::new();
    let talk = async {
        // A server may answer and close before it has read everything; what it answered is what counts.
        drop(stream.write_all(bytes).await);
        drop(stream.read_to_end(&mut received).await);
    };
    drop(tokio::time::timeout(at_most, talk).await);
    received
}

pub(crate) async fn connect(server: SocketAddr) -> Result<SendRequest<Full<Bytes>>, NoAnswer> {
    let stream = TcpStream::connect(server).await.map_err(no_answer)?;
    stream.set_nodelay(true).map_err(no_answer)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
    // It ends with the sender or the server; how it ended is told to the request that waits.
    tokio::spawn(connection);
    Ok(sender)
}
