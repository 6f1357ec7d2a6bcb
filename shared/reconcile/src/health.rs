//! The health of each shard of the stream, as far as this process knows it: whether the shard is durable
//! enough, and whether its epoch is the recorded one.
//!
//! The keeper updates it. A caller whose call to the stream fails marks the shard as stale, and the next
//! check is then due immediately. A shard must never count as durable between a failure and the check that
//! follows it: the next answer may come from another server, or from the same one with other settings. A
//! failure of one shard must never change the health of another, which may be on another server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

pub use millrace_stream::Durability;
use millrace_stream::StreamError;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use crate::metrics;
use crate::shared_incident::SharedIncident;

/// The health of all shards, shared by every part of one process.
#[derive(Debug)]
pub struct StreamHealth {
    shards: Vec<ShardHealth>,
}

/// The health of one shard.
#[derive(Debug)]
pub struct ShardHealth {
    shard: u16,
    demanded: Durability,
    /// Starts at 1 and grows whenever the shard's durability becomes uncertain.
    generation: AtomicU64,
    /// The generation in which the last check found the shard durable; 0 when there is none.
    checked_generation: AtomicU64,
    /// The last check of the shard passed, or found it full.
    usable: AtomicBool,
    epoch_trusted: watch::Sender<bool>,
    durability_stale: Notify,
    epoch_stale: Notify,
    /// What the gauges say of all shards.
    sums: Arc<Sums>,
    /// Why the shard cannot be used.
    stream_fault: SharedIncident,
    /// Which settings are not durable.
    durability_fault: SharedIncident,
    /// What the operator must know and Millrace does not refuse.
    durability_warning: SharedIncident,
    /// Why the epoch cannot be compared with the recorded one.
    epoch_fault: SharedIncident,
}

/// The last result for each shard.
#[derive(Debug)]
struct Sums {
    durable: Vec<AtomicBool>,
    trusted: Vec<AtomicBool>,
}

impl StreamHealth {
    /// Before the first checks no shard is durable enough under [`Durability::Strict`], and none is trusted.
    /// There is at least one shard.
    pub fn new(demanded: Durability, shards: u16) -> Self {
        let count = shards.max(1);
        let results = || (0..count).map(|_| AtomicBool::new(false)).collect();
        let sums = Arc::new(Sums { durable: results(), trusted: results() });
        let incidents = || SharedIncident::of_shards(count);
        let faults = incidents().zip(incidents());
        let faults = faults.zip(incidents().zip(incidents()));
        let shards = (0..count).zip(faults).map(
            |(shard, ((stream_fault, durability_fault), (durability_warning, epoch_fault)))| ShardHealth {
                shard,
                demanded,
                generation: AtomicU64::new(1),
                checked_generation: AtomicU64::new(0),
                usable: AtomicBool::new(false),
                epoch_trusted: watch::Sender::new(false),
                durability_stale: Notify::new(),
                epoch_stale: Notify::new(),
                sums: Arc::clone(&sums),
                stream_fault,
                durability_fault,
                durability_warning,
                epoch_fault,
            },
        );
        Self { shards: shards.collect() }
    }

    /// # Panics
    /// When there is no such shard.
    pub fn shard(&self, shard: u16) -> &ShardHealth {
        &self.shards[usize::from(shard)]
    }

    /// All shards, in order.
    pub fn shards(&self) -> &[ShardHealth] {
        &self.shards
    }
}

impl ShardHealth {
    /// Whether the last checks found every shard durable.
    pub(crate) fn are_all_durable(&self) -> bool {
        self.sums.durable.iter().all(|durable| durable.load(Ordering::Relaxed))
    }

    /// Whether the epoch of every shard was the recorded one at the last comparison.
    pub(crate) fn are_all_trusted(&self) -> bool {
        self.sums.trusted.iter().all(|trusted| trusted.load(Ordering::Relaxed))
    }

    /// The number of the shard.
    pub fn number(&self) -> u16 {
        self.shard
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

    /// A call to the stream failed. Logs the reason, once for each, and makes the checks due that find out
    /// what it means. Nothing counts as durable from now until the next check, unless the stream refused the
    /// call because it has no room: then it is still the same server with the same settings.
    pub fn call_failed(&self, error: &StreamError) {
        match error {
            StreamError::EpochChanged => return self.mark_epoch_stale(),
            StreamError::Unavailable(_) | StreamError::Unknown(_) | StreamError::ReadOnly(_) => {
                self.mark_stale();
            }
            StreamError::Full(_) | StreamError::Refused(_) => self.durability_stale.notify_one(),
        }
        self.note_failure(error);
    }

    /// Why the stream cannot be used, as the last check found; `None` when it can be used.
    pub fn stream_fault(&self) -> Option<String> {
        self.stream_fault.reason()
    }

    /// Which settings of the stream are not durable, as the last check found.
    pub fn durability_fault(&self) -> Option<String> {
        self.durability_fault.reason()
    }

    /// Why the epoch could not be compared with the recorded one.
    pub fn epoch_fault(&self) -> Option<String> {
        self.epoch_fault.reason()
    }

    pub(crate) fn note_failure(&self, error: &StreamError) {
        let reason = error.reason();
        if self.stream_fault.note(&reason) {
            tracing::warn!(shard = self.shard, %reason, "a call to the stream failed");
        }
    }

    /// Records that a check of the stream failed.
    pub(crate) fn stream_failed(&self, error: &StreamError) {
        let reason = error.reason();
        if self.stream_fault.begin(&reason) {
            tracing::warn!(shard = self.shard, %reason, "the stream cannot be used");
        }
        // A full stream may need an epoch before it can be drained.
        self.record_usable(matches!(error, StreamError::Full(_)));
    }

    /// Records that a check of the stream passed.
    pub(crate) fn stream_works(&self) {
        if self.stream_fault.end() {
            tracing::info!("the stream works again");
        }
        self.record_usable(true);
    }

    /// Whether this process may give the stream a new epoch: only if events would be accepted on it.
    pub(crate) fn may_rebuild(&self) -> bool {
        self.usable.load(Ordering::Relaxed) && self.is_durable_enough()
    }

    fn record_usable(&self, usable: bool) {
        let could_not = !self.may_rebuild();
        self.usable.store(usable, Ordering::Relaxed);
        if could_not && self.may_rebuild() {
            // A comparison waits for this.
            self.epoch_stale.notify_one();
        }
    }

    /// Records which settings are not durable; empty when all are. Returns whether that is new.
    pub(crate) fn record_faults(&self, faults: &str) -> bool {
        match faults {
            "" => self.durability_fault.end(),
            faults => self.durability_fault.begin(faults),
        }
    }

    /// Records what the operator must know; empty when there is nothing. Returns whether that is new.
    pub(crate) fn record_warning(&self, warning: &str) -> bool {
        match warning {
            "" => self.durability_warning.end(),
            warning => self.durability_warning.begin(warning),
        }
    }

    /// Records why the epoch cannot be compared; `None` when it was. Returns whether that is new.
    pub(crate) fn record_epoch_fault(&self, reason: Option<&str>) -> bool {
        match reason {
            None => self.epoch_fault.end(),
            Some(reason) => self.epoch_fault.begin(reason),
        }
    }

    /// The generation that a durability check covers. Read it before the check: a failure during the check
    /// starts a new generation, which this check does not cover.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    pub(crate) fn record_durability(&self, generation: u64, durable: bool) {
        self.sums.durable[usize::from(self.shard)].store(durable, Ordering::Relaxed);
        metrics::durability_checked(durable, self.are_all_durable());
        let could_not = !self.may_rebuild();
        self.checked_generation.store(if durable { generation } else { 0 }, Ordering::Relaxed);
        if could_not && self.may_rebuild() {
            // A comparison waits for this.
            self.epoch_stale.notify_one();
        }
    }

    pub(crate) fn record_epoch(&self, trusted: bool) {
        self.sums.trusted[usize::from(self.shard)].store(trusted, Ordering::Relaxed);
        metrics::epoch_trusted(self.are_all_trusted());
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

    fn one(demanded: Durability) -> StreamHealth {
        StreamHealth::new(demanded, 1)
    }

    #[test]
    fn a_failure_of_one_shard_leaves_the_others_as_they_are() {
        let health = StreamHealth::new(Durability::Strict, 3);
        for shard in health.shards() {
            shard.record_durability(shard.generation(), true);
            shard.record_epoch(true);
        }
        health.shard(1).call_failed(&StreamError::Unavailable("away".to_owned()));
        health.shard(2).call_failed(&StreamError::EpochChanged);
        let is = |shard: &ShardHealth| (shard.is_durable_enough(), shard.is_epoch_trusted());
        let found: Vec<_> = health.shards().iter().map(is).collect();
        assert_eq!(found, [(true, true), (false, true), (false, false)]);
    }

    #[test]
    fn before_the_first_check_only_relaxed_durability_is_met() {
        assert!(!one(Durability::Strict).shard(0).is_durable_enough());
        assert!(one(Durability::Relaxed).shard(0).is_durable_enough());
    }

    #[test]
    fn a_check_counts_only_for_the_generation_in_which_it_began() {
        let health = one(Durability::Strict);
        let health = health.shard(0);
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
        let health = one(Durability::Strict);
        let health = health.shard(0);
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
        let health = one(Durability::Strict);
        let health = health.shard(0);
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
