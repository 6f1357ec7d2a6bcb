//! What the parts of one connection know of each other: the socket, the requests, and the loop that serves
//! them.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// The state of one connection. Clones are the same connection.
#[derive(Clone, Debug, Default)]
pub struct ConnectionState(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// The other end.
    peer: Option<IpAddr>,
    /// Beginnings and ends of answers. Odd while a request is being answered, and never the same for two
    /// heads, so that a deadline cannot be mistaken for that of a later head.
    answers: AtomicU64,
    /// Bodies that are read and discarded after their answer.
    discarding: AtomicUsize,
    /// The next head has begun and is not complete.
    head_begun: AtomicBool,
    /// The client does not take what is written to it.
    is_blocked: AtomicBool,
    /// An answer on this connection has no end.
    is_stream: AtomicBool,
}

/// Counts the end of an answer when dropped.
#[derive(Debug)]
pub struct AnswerGuard(ConnectionState);

/// A body is being discarded until this is dropped.
#[derive(Debug)]
pub struct DiscardGuard(ConnectionState);

impl ConnectionState {
    /// A connection from this address.
    pub fn from_peer(peer: Option<IpAddr>) -> Self {
        Self(Arc::new(Inner { peer, ..Inner::default() }))
    }

    /// The address of the other end, which may be a proxy.
    pub fn peer(&self) -> Option<IpAddr> {
        self.0.peer
    }

    /// A head is complete. Its request is being answered until the guard is dropped.
    pub fn begin_answer(&self) -> AnswerGuard {
        self.0.head_begun.store(false, Ordering::Relaxed);
        self.0.answers.fetch_add(1, Ordering::Relaxed);
        AnswerGuard(self.clone())
    }

    /// The rest of a body is read after its answer.
    pub fn begin_discard(&self) -> DiscardGuard {
        self.0.discarding.fetch_add(1, Ordering::Relaxed);
        DiscardGuard(self.clone())
    }

    /// The first bytes of a head have arrived.
    pub fn head_begun(&self) {
        self.0.head_begun.store(true, Ordering::Relaxed);
    }

    /// Whether the client did not take the last bytes that were written to it.
    pub fn set_blocked(&self, is_blocked: bool) {
        self.0.is_blocked.store(is_blocked, Ordering::Relaxed);
    }

    /// The answer ends only when the client leaves.
    pub fn begin_stream(&self) {
        self.0.is_stream.store(true, Ordering::Relaxed);
    }

    /// Beginnings and ends of answers so far: an odd number while a request is being answered.
    pub fn answers(&self) -> u64 {
        self.0.answers.load(Ordering::Relaxed)
    }

    /// Whether a request is being answered.
    pub fn is_answering(&self) -> bool {
        self.answers() % 2 == 1
    }

    /// Whether nothing is under way in either direction. Only true when the socket was polled since the last
    /// change: an answer that was made and is not written yet is not known here.
    pub fn is_at_rest(&self) -> bool {
        let Inner { discarding, head_begun, is_blocked, is_stream, .. } = &*self.0;
        let flags = [head_begun, is_blocked, is_stream];
        !self.is_answering()
            && discarding.load(Ordering::Relaxed) == 0
            && flags.iter().all(|flag| !flag.load(Ordering::Relaxed))
    }
}

impl Drop for AnswerGuard {
    fn drop(&mut self) {
        self.0.0.answers.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for DiscardGuard {
    fn drop(&mut self) {
        self.0.0.discarding.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_is_at_rest_only_when_nothing_is_under_way() {
        let state = ConnectionState::default();
        assert!(state.is_at_rest());
        let guard = state.begin_answer();
        assert!(!state.is_at_rest() && state.is_answering());
        let discarding = state.begin_discard();
        drop(guard);
        assert!(!state.is_at_rest() && !state.is_answering(), "the rest of the body is a body, not a head");
        drop(discarding);
        assert!(state.is_at_rest());
        state.set_blocked(true);
        assert!(!state.is_at_rest());
        state.set_blocked(false);
        state.head_begun();
        assert!(!state.is_at_rest());
        drop(state.begin_answer());
        assert!(state.is_at_rest());
        state.begin_stream();
        assert!(!state.is_at_rest());
    }
}
