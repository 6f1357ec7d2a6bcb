//! A POST whose bytes are sent as far and as fast as a test likes, by a client that may go away at any of them. It must
//! never send a byte that it was not told to send.

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{Answer, NoAnswer, no_answer};

/// More headers than any answer of ours has.
const HEADERS_MAX: usize = 32;

/// A request that is being sent, on a connection of its own. Dropping it closes the connection.
#[derive(Debug)]
pub struct Upload {
    stream: TcpStream,
    /// What was not sent yet.
    left: Bytes,
}

impl Upload {
    /// Connects; sends nothing. The answer will be the last one of the connection.
    ///
    /// # Errors
    /// [`NoAnswer`] when nobody listens.
    pub async fn open(
        server: SocketAddr,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Self, NoAnswer> {
        let stream = TcpStream::connect(server).await.map_err(no_answer)?;
        stream.set_nodelay(true).map_err(no_answer)?;
        let length = body.len();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: {server}\r\ncontent-length: {length}\r\nconnection: close\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        Ok(Self { stream, left: [request.as_bytes(), body].concat().into() })
    }

    /// Bytes that were not sent yet.
    pub fn left(&self) -> usize {
        self.left.len()
    }

    /// Sends the next so many bytes. When this returns, they are the operating system's.
    ///
    /// # Errors
    /// [`NoAnswer`] when the server has closed the connection.
    pub async fn send(&mut self, bytes: usize) -> Result<(), NoAnswer> {
        let part = self.left.split_to(bytes.min(self.left.len()));
        self.stream.write_all(&part).await.map_err(no_answer)
    }

    /// Tells the server that no more will come, sends nothing more, and still reads.
    ///
    /// # Errors
    /// [`NoAnswer`] when the server has closed the connection.
    pub async fn break_off(&mut self) -> Result<(), NoAnswer> {
        self.left.advance(self.left.len());
        self.stream.shutdown().await.map_err(no_answer)
    }

    /// Goes away with a reset, which throws away what the server has not read.
    ///
    /// # Errors
    /// [`NoAnswer`] when the server was faster.
    pub fn reset(self) -> Result<(), NoAnswer> {
        self.stream.set_zero_linger().map_err(no_answer)
    }

    /// Reads the answer, up to the end of the connection.
    ///
    /// # Errors
    /// [`NoAnswer`] when the connection ends without a whole one.
    pub async fn answer(mut self) -> Result<Answer, NoAnswer> {
        let mut received = BytesMut::new();
        loop {
            if let Some(answer) = parse(&received)? {
                return Ok(answer);
            }
            if self.stream.read_buf(&mut received).await.map_err(no_answer)? == 0 {
                return Err(no_answer(format!("the connection ended after {} bytes", received.len())));
            }
        }
    }
}

/// The answer, once its head and as much body as it announces are there.
fn parse(received: &[u8]) -> Result<Option<Answer>, NoAnswer> {
    let mut room = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut room);
    let httparse::Status::Complete(head_bytes) = head.parse(received).map_err(no_answer)? else {
        return Ok(None);
    };
    let mut headers = HeaderMap::new();
    for header in &*head.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(no_answer)?;
        headers.append(name, HeaderValue::from_bytes(header.value).map_err(no_answer)?);
    }
    let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    let length: usize = length.ok_or_else(|| no_answer("an answer without a length"))?;
    let Some(body) = received[head_bytes..].get(..length) else { return Ok(None) };
    let status = head.code.ok_or_else(|| no_answer("an answer without a status"))?;
    if status < 200 {
        return Err(no_answer(format!("an answer {status} that nobody asked for")));
    }
    Ok(Some(Answer { status, headers, body: Bytes::copy_from_slice(body) }))
}
