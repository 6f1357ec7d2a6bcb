//! A small HTTP client that keeps its connection, and a function that sends arbitrary bytes.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::{HOST, HeaderMap};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A complete response.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// The request got no response: it may or may not have been carried out.
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
    /// When the body is not JSON.
    pub fn json(&self) -> serde_json::Value {
        let shown = String::from_utf8_lossy(&self.body);
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("the body {shown:?} is not JSON: {error}"))
    }

    /// The value of a header, if the response has it and it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A client of one server. It opens a connection for the first request and reuses it as long as the server
/// allows.
#[derive(Debug)]
pub struct HttpClient {
    server: SocketAddr,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl HttpClient {
    /// Creates a client without opening a connection.
    pub fn new(server: SocketAddr) -> Self {
        Self { server, connection: None }
    }

    /// Sends a request and reads the complete response.
    ///
    /// # Errors
    /// [`NoAnswer`]. The next request opens a new connection.
    ///
    /// # Panics
    /// When the method, the path or a header is invalid in HTTP.
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

    /// # Errors
    /// See [`HttpClient::send`].
    pub async fn post(
        &mut self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, NoAnswer> {
        self.send("POST", path, headers, body).await
    }

    /// # Errors
    /// See [`HttpClient::send`].
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
        let method = Method::from_bytes(method.as_bytes()).expect("the method is valid");
        let mut request = Request::builder().method(method).uri(path).header(HOST, self.server.to_string());
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(Full::new(body)).expect("the path and the headers are valid")
    }
}

/// Sends one POST on a new connection.
///
/// # Panics
/// When it gets no response.
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

/// Sends one GET on a new connection.
///
/// # Panics
/// When it gets no response.
pub async fn get(server: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Answer {
    HttpClient::new(server).get(path, headers).await.unwrap_or_else(|error| panic!("GET {path}: {error}"))
}

/// Sends `bytes` unchanged and returns everything received until the server closes the connection or
/// `at_most` has passed.
///
/// # Panics
/// When the server does not accept the connection.
pub async fn raw(server: SocketAddr, bytes: &[u8], at_most: Duration) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).await.expect("the server accepts connections");
    let mut received = Vec::new();
    let exchange = async {
        // Errors are ignored: a server may respond and close before it has read everything.
        drop(stream.write_all(bytes).await);
        drop(stream.read_to_end(&mut received).await);
    };
    drop(tokio::time::timeout(at_most, exchange).await);
    received
}

pub(crate) async fn connect<B>(server: SocketAddr) -> Result<SendRequest<B>, NoAnswer>
where
    B: Body<Data = Bytes, Error: std::error::Error + Send + Sync> + Send + 'static,
{
    let stream = TcpStream::connect(server).await.map_err(no_answer)?;
    stream.set_nodelay(true).map_err(no_answer)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await.map_err(no_answer)?;
    // The task ends with the sender or the server. A waiting request receives the error.
    tokio::spawn(connection);
    Ok(sender)
}
