//! A counter that its own process can read. The handles of the recorder can only be written.

use std::sync::atomic::{AtomicU64, Ordering};

/// One series of a counter.
pub struct Counter {
    recorded: metrics::Counter,
    total: AtomicU64,
}

impl Counter {
    pub(super) fn new(recorded: metrics::Counter) -> Self {
        Self { recorded, total: AtomicU64::new(0) }
    }

    pub fn increment(&self, by: u64) {
        self.recorded.increment(by);
        self.total.fetch_add(by, Ordering::Relaxed);
    }

    /// Raises the counter to a total that is counted elsewhere. A lower total changes nothing.
    pub fn raise_to(&self, total: u64) {
        self.recorded.absolute(total);
        self.total.fetch_max(total, Ordering::Relaxed);
    }

    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}
