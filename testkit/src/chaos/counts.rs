//! What a proxy has seen, so that a drill can prove that it was one.

use std::sync::atomic::{AtomicU64, Ordering};

use super::weather::Direction;

/// What a proxy has seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ProxyCounts {
    /// Connections that were accepted.
    pub accepted: u64,
    /// Connections that were not, because the weather or the server refused.
    pub refused: u64,
    /// Accepted connections whose client was reset.
    pub reset: u64,
    /// How often traps have sprung.
    pub sprung: u64,
    /// Bytes passed on from clients to the server.
    pub bytes_up: u64,
    /// Bytes passed on from the server to clients.
    pub bytes_down: u64,
    /// Bytes lost, either way, other than by a reset.
    pub bytes_lost: u64,
}

#[derive(Default, Debug)]
pub(super) struct Counts {
    accepted: AtomicU64,
    refused: AtomicU64,
    reset: AtomicU64,
    bytes_up: AtomicU64,
    bytes_down: AtomicU64,
    bytes_lost: AtomicU64,
}

impl Counts {
    pub(super) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn reset(&self) {
        self.reset.fetch_add(1, Ordering::SeqCst);
    }

    pub(super) fn passed(&self, direction: Direction, bytes: usize) {
        let counter = match direction {
            Direction::Up => &self.bytes_up,
            Direction::Down => &self.bytes_down,
        };
        counter.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    pub(super) fn lost(&self, bytes: usize) {
        self.bytes_lost.fetch_add(bytes as u64, Ordering::SeqCst);
    }

    pub(super) fn seen(&self, sprung: u64) -> ProxyCounts {
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
