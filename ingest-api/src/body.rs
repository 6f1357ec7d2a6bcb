//! Receives a body from its connection, at a lowest rate, up to a size, and within the memory that all bodies
//! share. A body that is not received is read and discarded, so that the answer reaches a client that is
//! still sending.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::HeaderMap;
use hyper::body::{Body, Incoming};
use hyper::header::EXPECT;
use tokio::time::{Instant, timeout_at};

use crate::connection_state::ConnectionState;
use crate::metrics;
use crate::pace::{Pace, PaceLimits};

/// How much of a body is read and discarded before the connection is closed.
const DISCARD_BYTES_MAX: u64 = 64 << 20;
/// How long a body is read and discarded before the connection is closed.
const DISCARD_TIME_MAX: Duration = Duration::from_secs(5);

/// Why a body was not received.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReceiveError {
    #[error("the body is larger than {max} bytes; send smaller batches")]
    TooLarge { max: usize },
    #[error(
        "the body stopped arriving, or arrives too slowly; send the same batch again, or smaller batches"
    )]
    TooSlow,
    /// The connection or the framing broke.
    #[error("the body ended early, or its framing is invalid; check Content-Length and Transfer-Encoding")]
    Broken,
    #[error("the bodies of all requests take too much memory; send the same batch again later")]
    OverBudget,
}

/// The memory that all bodies share. It is taken as bytes arrive and never waited for. No sender takes all of
/// it, so that one which sends many large bodies slowly does not shut out the others.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    bytes_max: usize,
    sender_bytes_max: usize,
}

/// The bytes that one sender has taken from the [`Budget`]: a project, or all clients without a known key
/// together.
#[derive(Clone, Debug, Default)]
pub struct SenderBytes(Arc<AtomicUsize>);

/// A share of the [`Budget`], returned when dropped.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    sender: SenderBytes,
    bytes: usize,
}

/// A body that has not been read.
pub struct Upload {
    body: Option<Incoming>,
    expects_continue: bool,
    connection: ConnectionState,
}

impl Budget {
    /// A sender may take half of it, or `request_bytes_max`, the largest request, if that is more.
    pub fn new(bytes_max: usize, request_bytes_max: usize) -> Arc<Self> {
        let sender_bytes_max = request_bytes_max.max(bytes_max / 2);
        Arc::new(Self { used: AtomicUsize::new(0), bytes_max, sender_bytes_max })
    }

    /// An empty reservation. [`Reservation::grow`] enlarges it.
    pub fn open(self: &Arc<Self>, sender: &SenderBytes) -> Reservation {
        Reservation { budget: Arc::clone(self), sender: sender.clone(), bytes: 0 }
    }
}

impl Reservation {
    /// Takes this many bytes more.
    ///
    /// # Errors
    /// [`ReceiveError::OverBudget`], with nothing taken.
    pub fn grow(&mut self, bytes: usize) -> Result<(), ReceiveError> {
        let of_sender = self.sender.0.fetch_add(bytes, Ordering::Relaxed);
        let before = self.budget.used.fetch_add(bytes, Ordering::Relaxed);
        if before + bytes > self.budget.bytes_max || of_sender + bytes > self.budget.sender_bytes_max {
            self.budget.used.fetch_sub(bytes, Ordering::Relaxed);
            self.sender.0.fetch_sub(bytes, Ordering::Relaxed);
            return Err(ReceiveError::OverBudget);
        }
        self.bytes += bytes;
        metrics::body_bytes_in_flight(before + bytes);
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.sender.0.fetch_sub(self.bytes, Ordering::Relaxed);
            let before = self.budget.used.fetch_sub(self.bytes, Ordering::Relaxed);
            metrics::body_bytes_in_flight(before - self.bytes);
        }
    }
}

impl Upload {
    pub fn new(headers: &HeaderMap, body: Incoming, connection: ConnectionState) -> Self {
        Self { body: Some(body), expects_continue: headers.contains_key(EXPECT), connection }
    }

    /// Reads the body, taking its memory from `reservation`.
    ///
    /// # Errors
    /// [`ReceiveError`]. The rest of the body is discarded, except when it arrives too slowly.
    pub async fn receive(
        mut self,
        reservation: &mut Reservation,
        bytes_max: usize,
        pace: PaceLimits,
    ) -> Result<Bytes, ReceiveError> {
        let body = self.body.as_mut().expect("only this function and dropping take it");
        // The lower bound is the Content-Length. Without one it is 0.
        if body.size_hint().lower() > bytes_max as u64 {
            return Err(ReceiveError::TooLarge { max: bytes_max });
        }
        let received = collect(body, reservation, bytes_max, Pace::new(pace)).await;
        if let Err(error @ (ReceiveError::TooLarge { .. } | ReceiveError::OverBudget)) = received {
            return Err(error);
        }
        self.body = None;
        metrics::body_received(received.as_ref().map_or(0, Bytes::len));
        received
    }
}

/// Reads to the end. A body that arrives in one piece, the common case, is not copied.
async fn collect(
    body: &mut Incoming,
    reservation: &mut Reservation,
    bytes_max: usize,
    mut pace: Pace,
) -> Result<Bytes, ReceiveError> {
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let began = Instant::now();
    // The end of a body with a Content-Length is known with its last byte, and needs no other timer.
    while !body.is_end_stream() {
        let next = timeout_at(began + pace.deadline(), body.frame()).await;
        let Some(frame) = next.map_err(|_| ReceiveError::TooSlow)? else { break };
        let Ok(piece) = frame.map_err(|_| ReceiveError::Broken)?.into_data() else { continue };
        if first.len() + rest.len() + piece.len() > bytes_max {
            return Err(ReceiveError::TooLarge { max: bytes_max });
        }
        reservation.grow(piece.len())?;
        pace.arrived(piece.len(), began.elapsed());
        if first.is_empty() && rest.is_empty() {
            first = piece;
        } else {
            if rest.is_empty() {
                rest.extend_from_slice(&std::mem::take(&mut first));
            }
            rest.extend_from_slice(&piece);
        }
    }
    Ok(if rest.is_empty() { first } else { rest.freeze() })
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(body) = self.body.take() else { return };
        // A client that waits for "100 Continue" has sent nothing yet, and will not after a final answer.
        if body.is_end_stream() || self.expects_continue {
            return;
        }
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let guard = self.connection.begin_discard();
            runtime.spawn(async move {
                discard(body).await;
                drop(guard);
            });
        }
    }
}

/// Reads and drops the rest of a body after its request was refused. Closing with unread bytes would reset
/// the connection, and the reset can overtake the answer.
async fn discard(mut body: Incoming) {
    let mut discarded = 0;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            discarded += frame.data_ref().map_or(0, |piece| piece.len() as u64);
            if discarded > DISCARD_BYTES_MAX {
                break;
            }
        }
    };
    if tokio::time::timeout(DISCARD_TIME_MAX, reading).await.is_err() {
        tracing::debug!("a refused body did not end in time");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bodies_share_one_budget_and_return_what_they_took() {
        let budget = Budget::new(100, 100);
        let mut one = budget.open(&SenderBytes::default());
        let mut two = budget.open(&SenderBytes::default());
        one.grow(60).unwrap();
        assert_eq!(two.grow(41), Err(ReceiveError::OverBudget));
        two.grow(40).unwrap();
        assert_eq!(one.grow(1), Err(ReceiveError::OverBudget));
        drop(two);
        one.grow(40).unwrap();
        drop(one);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn one_sender_takes_at_most_half_of_the_budget_and_gives_it_back() {
        let budget = Budget::new(100, 30);
        let (greedy, other) = (SenderBytes::default(), SenderBytes::default());
        let mut first = budget.open(&greedy);
        let mut second = budget.open(&greedy);
        first.grow(30).unwrap();
        assert_eq!(second.grow(21), Err(ReceiveError::OverBudget));
        second.grow(20).unwrap();
        budget.open(&other).grow(50).unwrap();
        drop(first);
        second.grow(30).unwrap();
        drop(second);
        assert_eq!(greedy.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_largest_request_finds_room_however_small_the_budget_is() {
        let budget = Budget::new(100, 90);
        let sender = SenderBytes::default();
        budget.open(&sender).grow(90).unwrap();
        assert_eq!(budget.open(&sender).grow(91), Err(ReceiveError::OverBudget));
    }
}
