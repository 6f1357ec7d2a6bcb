//! A reason of this crate as an error of the client library, so that everything that connects has one type
//! of error.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::{error, fmt};

use tokio::io::{AsyncRead, AsyncWrite, Empty, ReadBuf};
use tokio_postgres::config::{SslMode, SslNegotiation};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use tokio_postgres::{Config, Error};

/// Why this crate did not take a connection.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// Whether the server answers, and no later attempt can succeed before an operator changes something.
    pub(super) is_forever: bool,
}

impl Refusal {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_forever: false }
    }

    pub(super) fn forever(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), is_forever: true }
    }

    /// The refusal that this error carries.
    pub(super) fn of(error: &Error) -> Option<&Self> {
        error::Error::source(error)?.downcast_ref()
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.reason)
    }
}

impl error::Error for Refusal {}

/// The refusal as an error of the client library, which has no constructor for others: it is the error of a
/// handshake on a connection to nothing.
pub(super) async fn refusal(refusal: Refusal) -> Error {
    let mut config = Config::new();
    config.ssl_mode(SslMode::Require).ssl_negotiation(SslNegotiation::Direct);
    match config.connect_raw(tokio::io::empty(), Handshake(refusal)).await {
        Err(error) => error,
        Ok(_) => unreachable!("the handshake fails"),
    }
}

struct Handshake(Refusal);

impl TlsConnect<Empty> for Handshake {
    type Stream = NoStream;
    type Error = Refusal;
    type Future = Pin<Box<dyn Future<Output = Result<NoStream, Refusal>> + Send>>;

    fn connect(self, _stream: Empty) -> Self::Future {
        Box::pin(async { Err(self.0) })
    }
}

/// Has no value.
enum NoStream {}

impl TlsStream for NoStream {
    fn channel_binding(&self) -> ChannelBinding {
        match *self {}
    }
}

impl AsyncRead for NoStream {
    fn poll_read(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        _buffer: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        match *self {}
    }
}

impl AsyncWrite for NoStream {
    fn poll_write(
        self: Pin<&mut Self>,
        _context: &mut Context<'_>,
        _bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        match *self {}
    }

    fn poll_flush(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match *self {}
    }

    fn poll_shutdown(self: Pin<&mut Self>, _context: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_reason_is_found_in_the_error() {
        let error = refusal(Refusal::forever("too old")).await;
        let found = Refusal::of(&error).unwrap();
        assert!(found.is_forever && found.reason == "too old");
    }
}
