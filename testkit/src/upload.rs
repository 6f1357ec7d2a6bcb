//! A POST of which a test sends as many bytes as it likes, when it likes. It must never send a byte without a
//! call to [`Upload::send`].

use std::net::SocketAddr;

use bytes::{Buf, Bytes, BytesMut};
use hyper::HeaderMap;
use hyper::header::{HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::http::{Answer, NoAnswer, no_answer};

/// More headers than any response of the API has.
const HEADERS_MAX: usize = 32;

/// A partially sent request on its own connection. Dropping it closes the connection.
#[derive(Debug)]
pub struct Upload {
    stream: TcpStream,
    unsent: Bytes,
}

impl Upload {
    /// Connects without sending anything. The request asks the server to close the connection after the
    /// response.
    ///
    /// # Errors
    /// [`NoAnswer`] when no process listens.
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
        Ok(Self { stream, unsent: [request.as_bytes(), body].concat().into() })
    }

    /// The number of bytes not sent yet.
    pub fn left(&self) -> usize {
        self.unsent.len()
    }

    /// Sends the next `bytes` bytes. When this returns, the operating system has accepted them.
    ///
    /// # Errors
    /// [`NoAnswer`] when the server has closed the connection.
    pub async fn send(&mut self, bytes: usize) -> Result<(), NoAnswer> {
        let part = self.unsent.split_to(bytes.min(self.unsent.len()));
        self.stream.write_all(&part).await.map_err(no_answer)
    }

    /// Closes the sending half of the connection and discards the unsent bytes.
    ///
    /// # Errors
    /// [`NoAnswer`] when the server has closed the connection.
    pub async fn break_off(&mut self) -> Result<(), NoAnswer> {
        self.unsent.advance(self.unsent.len());
        self.stream.shutdown().await.map_err(no_answer)
    }

    /// Resets the connection. The server loses the bytes that it has not read yet.
    ///
    /// # Errors
    /// [`NoAnswer`] when the server has closed the connection before.
    pub fn reset(self) -> Result<(), NoAnswer> {
        self.stream.set_zero_linger().map_err(no_answer)
    }

    /// Reads the response.
    ///
    /// # Errors
    /// [`NoAnswer`] when the connection ends before the response is complete.
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

/// The response, if `received` contains its head and its complete body.
fn parse(received: &[u8]) -> Result<Option<Answer>, NoAnswer> {
    let mut buffer = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Response::new(&mut buffer);
    let httparse::Status::Complete(head_bytes) = head.parse(received).map_err(no_answer)? else {
        return Ok(None);
    };
    let mut headers = HeaderMap::new();
    for header in &*head.headers {
        let name = HeaderName::from_bytes(header.name.as_bytes()).map_err(no_answer)?;
        headers.append(name, HeaderValue::from_bytes(header.value).map_err(no_answer)?);
    }
    let length = headers.get("content-length").and_then(|length| length.to_str().ok()?.parse().ok());
    let length: usize = length.ok_or_else(|| no_answer("a response without content-length"))?;
    let Some(body) = received[head_bytes..].get(..length) else { return Ok(None) };
    let status = head.code.ok_or_else(|| no_answer("a response without a status"))?;
    if status < 200 {
        return Err(no_answer(format!("an unexpected interim response {status}")));
    }
    Ok(Some(Answer { status, headers, body: Bytes::copy_from_slice(body) }))
}
