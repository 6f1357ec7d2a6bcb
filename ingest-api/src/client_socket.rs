//! The socket of a client, with a deadline for the head of a request that does not end idle connections.
//!
//! hyper's own timer runs from the end of one answer to the end of the next head, so it must be as long as a
//! connection may be idle. Otherwise a proxy or an SDK that seldom sends would find its connection closed as
//! it sends. Here the time counts from the first byte of a head, so that a client that sends it slowly is
//! disconnected.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::connection_state::ConnectionState;

/// A client's socket. Its reads fail when a head has begun and does not end in time.
#[derive(Debug)]
pub struct ClientSocket {
    socket: TcpStream,
    state: ConnectionState,
    head_time_max: Duration,
    /// Set by the first byte of a head, with the count of answers at that moment.
    deadline: Option<(u64, Pin<Box<Sleep>>)>,
    /// Bytes that were read before and are to be read again.
    unread: Bytes,
}

impl ClientSocket {
    /// A head may take `head_time_max` from its first byte.
    pub fn new(socket: TcpStream, state: ConnectionState, head_time_max: Duration) -> Self {
        Self { socket, state, head_time_max, deadline: None, unread: Bytes::new() }
    }

    /// Has these bytes read again, before those that arrive.
    pub fn unread(&mut self, bytes: Bytes) {
        self.unread = bytes;
    }

    /// Whether there are bytes to be read again.
    pub fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Waits until bytes have arrived, or the client has left. It looks at the bytes, because a new socket
    /// may count as readable before any has arrived.
    ///
    /// # Errors
    /// Why the socket failed.
    pub async fn readable(&self) -> io::Result<()> {
        self.socket.peek(&mut [0]).await.map(drop)
    }

    /// Reads what was read before, else what has arrived.
    fn read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.unread.is_empty() {
            return Pin::new(&mut self.socket).poll_read(context, buffer);
        }
        let bytes = self.unread.split_to(self.unread.len().min(buffer.remaining()));
        buffer.put_slice(&bytes);
        Poll::Ready(Ok(()))
    }

    fn written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.state.set_blocked(written.is_pending());
        written
    }
}

impl AsyncRead for ClientSocket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.state.answers();
        match &mut self.deadline {
            Some((set_at, deadline)) if *set_at == count => {
                if deadline.as_mut().poll(context).is_ready() {
                    let late = io::Error::new(io::ErrorKind::TimedOut, "the head did not end in time");
                    return Poll::Ready(Err(late));
                }
            }
            _ => self.deadline = None,
        }
        let before = buffer.filled().len();
        let read = ready!(self.read(context, buffer));
        // Bytes that arrive while a request is answered are its body, or a head whose time begins after that
        // answer.
        if buffer.filled().len() > before && self.deadline.is_none() && !self.state.is_answering() {
            self.state.head_begun();
            self.deadline = Some((count, Box::pin(sleep_until(Instant::now() + self.head_time_max))));
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for ClientSocket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.written(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(context, slices);
        self.written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
