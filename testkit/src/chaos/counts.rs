//! Counts of what a proxy did, so that a drill can prove that the proxy had an effect.

use std::sync::atomic::{AtomicU64, Ordering};

use super::wire::Direction;

/// What a proxy did since its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProxyCounts {
    /// Accepted connections.
    pub accepted: u64,
    /// Connections refused by the weather, or because the server refused them.
    pub refused: u64,
    /// Accepted connections whose client was reset.
    pub reset: u64,
    /// How often any trap has sprung.
    pub sprung: u64,
    /// Bytes forwarded from clients to the server.
    pub bytes_up: u64,
    /// Bytes forwarded from the server to clients.
    pub bytes_down: u64,
    /// Bytes lost in either direction, not counting those lost by a reset.
    pub bytes_lost: u64,
}

#[derive(Default, Debug)]
pub(super) struct Counters {
    accepted: AtomicU64,
    refused: AtomicU64,
    reset: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    bytes_lost: AtomicU64,
}

impl Counters {
    pub(super) fn count_accepted(&self) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn count_reset(&self) {
        self.reset.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn count_forwarded(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::Up => &self.bytes_up,
            Direction::Down => &self.bytes_down,
        };
        counter.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    pub(super) fn count_lost(&self, bytes: usize) {
        self.bytes_lost.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    pub(super) fn read(&self, sprung: u64) -> ProxyCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        ProxyCounts {
            accepted: read(&self.accepted),
            refused: read(&self.refused),
            reset: read(&self.reset),
            sprung,
            bytes_up: read(&self.bytes_up),
            bytes_down: read(&self.bytes_down),
            bytes_lost: read(&self.bytes_lost),
        }
    }
}
