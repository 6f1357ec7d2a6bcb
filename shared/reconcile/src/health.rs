//! The health of the stream, as far as this process knows it: whether the stream is durable enough, and
//! whether its epoch is the recorded one.
//!
//! The keeper updates it. A caller whose call to the stream fails marks it as stale, and the next check is
//! then due immediately. A stream must never count as durable between a failure and the check that follows
//! it: the next answer may come from another server, or from the same one with other settings.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::metrics;

/// Whether an acknowledged event must be on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// Redis must run with `appendonly yes`, `appendfsync always`, `noeviction`; otherwise events are
    /// refused.
    Strict,
    /// Events are accepted under any settings of Redis. If Redis dies, acknowledged events can be lost.
    Relaxed,
}

/// The health of the stream, shared by every part of one process.
#[derive(Debug)]
pub struct StreamHealth {
    demanded: Durability,
    /// Starts at 1 and grows whenever the stream's durability becomes uncertain.
    generation: AtomicU64,
    /// The generation in which the last check found the stream durable; 0 when there is none.
    checked_generation: AtomicU64,
    epoch_trusted: watch::Sender<bool>,
    durability_stale: Notify,
    epoch_stale: Notify,
}

impl StreamHealth {
    /// Before the first checks the stream is neither durable enough under [`Durability::Strict`] nor trusted.
    pub fn new(demanded: Durability) -> Self {
        Self {
            demanded,
            generation: AtomicU64::new(1),
            checked_generation: AtomicU64::new(0),
            epoch_trusted: watch::Sender::new(false),
            durability_stale: Notify::new(),
            epoch_stale: Notify::new(),
        }
    }

    /// The durability that the settings demand.
    pub fn demanded(&self) -> Durability {
        self.demanded
    }

    /// Whether an event admitted now would be as durable as the settings demand.
    pub fn is_durable_enough(&self) -> bool {
        self.demanded == Durability::Relaxed
            || self.checked_generation.load(Ordering::Relaxed) == self.generation.load(Ordering::Relaxed)
    }

    /// Whether the stream's epoch was the recorded one at the last comparison.
    pub fn is_epoch_trusted(&self) -> bool {
        *self.epoch_trusted.borrow()
    }

    /// Waits until the stream's epoch is trusted.
    pub async fn epoch_trusted(&self) {
        let mut trusted = self.epoch_trusted.subscribe();
        trusted.wait_for(|trusted| *trusted).await.expect("the sender lives as long as self");
    }

    /// The stream failed or may have been replaced: durability and epoch are checked again immediately.
    pub fn mark_stale(&self) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.durability_stale.notify_one();
        self.epoch_stale.notify_one();
    }

    /// The stream refused a call because its epoch has changed.
    pub fn mark_epoch_stale(&self) {
        self.record_epoch(false);
        self.mark_stale();
    }

    /// The generation that a durability check covers. Read it before the check: a failure during the check
    /// starts a new generation, which this check does not cover.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(crate) fn record_durability(&self, generation: u64, durable: bool) {
        metrics::durability_checked(durable);
        self.checked_generation.store(if durable { generation } else { 0 }, Ordering::Relaxed);
    }

    pub(crate) fn record_epoch(&self, trusted: bool) {
        metrics::epoch_trusted(trusted);
        self.epoch_trusted.send_if_modified(|current| std::mem::replace(current, trusted) != trusted);
    }

    /// Returns when the durability has become uncertain, or after `at_most`.
    pub(crate) async fn durability_stale_within(&self, at_most: Duration) {
        stale_within(&self.durability_stale, at_most).await;
    }

    /// Returns when the epoch has become uncertain, or after `at_most`.
    pub(crate) async fn epoch_stale_within(&self, at_most: Duration) {
        stale_within(&self.epoch_stale, at_most).await;
    }
}

async fn stale_within(stale: &Notify, at_most: Duration) {
    // Either way the next check is due.
    drop(timeout(at_most, stale.notified()).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_check_only_relaxed_durability_is_met() {
        assert!(!StreamHealth::new(Durability::Strict).is_durable_enough());
        assert!(StreamHealth::new(Durability::Relaxed).is_durable_enough());
    }

    #[test]
    fn a_check_counts_only_for_the_generation_in_which_it_began() {
        let health = StreamHealth::new(Durability::Strict);
        let generation = health.generation();
        health.mark_stale();
        health.record_durability(generation, true);
        assert!(!health.is_durable_enough(), "the stream failed while it was checked");
        health.record_durability(health.generation(), true);
        assert!(health.is_durable_enough());
        health.record_durability(health.generation(), false);
        assert!(!health.is_durable_enough());
    }

    #[tokio::test]
    async fn a_failure_during_a_check_makes_the_next_check_due_immediately() {
        let health = StreamHealth::new(Durability::Strict);
        health.mark_stale();
        let day = Duration::from_secs(86_400);
        let both = async {
            health.durability_stale_within(day).await;
            health.epoch_stale_within(day).await;
        };
        timeout(Duration::from_secs(20), both).await.expect("both checks are due");
        let pause = Duration::from_millis(10);
        let began = std::time::Instant::now();
        health.epoch_stale_within(pause).await;
        assert!(began.elapsed() >= pause, "one failure makes one check due");
    }

    #[tokio::test]
    async fn an_epoch_is_trusted_from_a_comparison_until_it_is_marked_as_stale() {
        let health = StreamHealth::new(Durability::Strict);
        assert!(!health.is_epoch_trusted());
        health.record_epoch(true);
        health.epoch_trusted().await;
        assert!(health.is_epoch_trusted());
        health.mark_stale();
        assert!(health.is_epoch_trusted(), "the stream itself refuses every call under another epoch");
        health.mark_epoch_stale();
        assert!(!health.is_epoch_trusted());
    }
}
