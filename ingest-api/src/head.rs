//! A deadline for the head of a request that does not end idle connections.
//!
//! hyper's own timer runs from the end of one answer to the end of the next head, so it has to be as long as a connection
//! may be idle: a proxy or an SDK that sends now and then would otherwise meet a connection that closes under its
//! request. Here the time counts from the first byte of a head, so that whoever sends it drop by drop is cut off.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Whether a request is being answered; the service says so, and the socket looks. Odd while one is, and another number
/// for each, so that a deadline is never taken for that of a later head.
#[derive(Clone, Debug, Default)]
pub struct Answering(Arc<AtomicU64>);

impl Answering {
    /// A head is complete: its request is being answered until the guard is dropped.
    pub fn begin(&self) -> AnsweringGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        AnsweringGuard(self.clone())
    }

    fn turn(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// See [`Answering::begin`].
#[derive(Debug)]
pub struct AnsweringGuard(Answering);

impl Drop for AnsweringGuard {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client's socket, whose reads fail when a head that has begun does not end in time.
#[derive(Debug)]
pub struct HeadDeadline {
    socket: TcpStream,
    answering: Answering,
    head_time_max: Duration,
    /// Armed by the first byte of a head, for this turn only.
    deadline: Option<(u64, Pin<Box<Sleep>>)>,
}

impl HeadDeadline {
    /// A head may take `head_time_max` from its first byte.
    pub fn new(socket: TcpStream, answering: Answering, head_time_max: Duration) -> Self {
        Self { socket, answering, head_time_max, deadline: None }
    }
}

impl AsyncRead for HeadDeadline {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let turn = self.answering.turn();
        let is_answering = turn % 2 == 1;
        match &mut self.deadline {
            Some((armed_in, deadline)) if *armed_in == turn => {
                if deadline.as_mut().poll(context).is_ready() {
                    let late = io::Error::new(io::ErrorKind::TimedOut, "the head did not end in time");
                    return Poll::Ready(Err(late));
                }
            }
            _ => self.deadline = None,
        }
        let before = buffer.filled().len();
        let read = ready!(Pin::new(&mut self.socket).poll_read(context, buffer));
        // Bytes that come while a request is answered are its body, or a head whose time begins when its turn comes.
        if buffer.filled().len() > before && self.deadline.is_none() && !is_answering {
            self.deadline = Some((turn, Box::pin(sleep_until(Instant::now() + self.head_time_max))));
        }
        Poll::Ready(read)
    }
}

impl AsyncWrite for HeadDeadline {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(context, bytes)
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
        Pin::new(&mut self.socket).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }
}
