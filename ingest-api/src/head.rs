//! A deadline for the head of a request that does not end idle connections.
//!
//! hyper's own timer runs from the end of one answer to the end of the next head, so it must be as long as a
//! connection may be idle. Otherwise a proxy or an SDK that seldom sends would find its connection closed as
//! it sends. Here the time counts from the first byte of a head, so that a client that sends it slowly is
//! disconnected.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

/// Counts the beginnings and ends of answers on one connection. The number is odd while a request is being
/// answered, and never the same for two heads, so that a deadline cannot be mistaken for that of a later
/// head.
#[derive(Clone, Debug, Default)]
pub struct AnswerCount(Arc<AtomicU64>);

impl AnswerCount {
    /// A head is complete. Its request is being answered until the guard is dropped.
    pub fn begin(&self) -> AnswerGuard {
        self.0.fetch_add(1, Ordering::Relaxed);
        AnswerGuard(self.clone())
    }

    fn current(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Counts the end of an answer when dropped.
#[derive(Debug)]
pub struct AnswerGuard(AnswerCount);

impl Drop for AnswerGuard {
    fn drop(&mut self) {
        self.0.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A client's socket. Its reads fail when a head has begun and does not end in time.
#[derive(Debug)]
pub struct HeadDeadline {
    socket: TcpStream,
    answers: AnswerCount,
    head_time_max: Duration,
    /// Set by the first byte of a head, with the count at that moment.
    deadline: Option<(u64, Pin<Box<Sleep>>)>,
}

impl HeadDeadline {
    /// A head may take `head_time_max` from its first byte.
    pub fn new(socket: TcpStream, answers: AnswerCount, head_time_max: Duration) -> Self {
        Self { socket, answers, head_time_max, deadline: None }
    }
}

impl AsyncRead for HeadDeadline {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let count = self.answers.current();
        let is_answering = count % 2 == 1;
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
        let read = ready!(Pin::new(&mut self.socket).poll_read(context, buffer));
        // Bytes that arrive while a request is answered are its body, or a head whose time begins after that
        // answer.
        if buffer.filled().len() > before && self.deadline.is_none() && !is_answering {
            self.deadline = Some((count, Box::pin(sleep_until(Instant::now() + self.head_time_max))));
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
