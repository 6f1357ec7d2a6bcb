//! Settlements of committed entries that wait until standbys have the commit.
//!
//! With `SETTLE_AFTER=standby` an entry stays in the stream until a failover to a standby cannot lose it. The
//! lane continues to write, and keeps here what it will settle. This module must never release a settlement
//! whose commit may be missing on the standbys, and must never grow without a limit.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use millrace_store::{ReplicationProgress, Store, StoreError};
use millrace_stream::Settlement;

use crate::config::Settings;
use crate::metrics;

/// Transactions that may wait.
const TRANSACTIONS_MAX: usize = 64;
/// Entries that may wait; the last transaction may exceed it.
const ENTRIES_MAX: usize = 4_096;
/// The time between two questions to the server while settlements wait.
const POLL_MIN: Duration = Duration::from_millis(5);
const POLL_MAX: Duration = Duration::from_millis(500);
/// How long a lane that stops waits for the standbys. What is not settled then is delivered again.
pub const GRACE: Duration = Duration::from_secs(2);

/// The server of the store began another timeline: commits that were not on a standby are lost.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("PostgreSQL failed over while stored entries waited for a standby; reading them again")]
pub struct TimelineChange;

/// The entries of one transaction, and where its commit is in the log.
#[derive(Clone, Debug)]
struct CommittedTransaction {
    place: u64,
    settlements: Vec<Settlement>,
    since: Instant,
}

/// The committed transactions of one lane that are not settled, oldest first. All are of one timeline.
#[derive(Debug)]
pub struct SettlementQueue {
    timeline: u32,
    transactions: VecDeque<CommittedTransaction>,
    entries: usize,
    age_max: Duration,
}

impl SettlementQueue {
    /// `age_max` is how long a transaction may wait before the lane writes no more. It must be shorter than
    /// the time after which other lanes take over: a lane that waits takes nothing over itself.
    pub fn new(age_max: Duration) -> Self {
        Self { timeline: 0, transactions: VecDeque::new(), entries: 0, age_max }
    }

    /// Adds a transaction. `progress` was asked for after its commit.
    ///
    /// # Errors
    /// [`TimelineChange`] when earlier transactions are of another timeline.
    pub fn push(
        &mut self,
        progress: ReplicationProgress,
        settlements: Vec<Settlement>,
        now: Instant,
    ) -> Result<(), TimelineChange> {
        if self.transactions.is_empty() {
            self.timeline = progress.timeline;
        } else if self.timeline != progress.timeline {
            return Err(TimelineChange);
        }
        self.entries += settlements.len();
        metrics::settlements_waiting(settlements.len() as f64);
        let place = progress.committed;
        self.transactions.push_back(CommittedTransaction { place, settlements, since: now });
        Ok(())
    }

    /// Removes and returns the settlements of all transactions that the standbys have.
    ///
    /// # Errors
    /// [`TimelineChange`] when the server is on another timeline than the transactions.
    pub fn release(&mut self, progress: ReplicationProgress) -> Result<Vec<Settlement>, TimelineChange> {
        if self.transactions.is_empty() {
            return Ok(Vec::new());
        }
        if self.timeline != progress.timeline {
            return Err(TimelineChange);
        }
        let mut released = Vec::new();
        while self.transactions.front().is_some_and(|first| first.place <= progress.replicated) {
            released.extend(self.transactions.pop_front().into_iter().flat_map(|first| first.settlements));
        }
        self.entries -= released.len();
        metrics::settlements_waiting(-(released.len() as f64));
        Ok(released)
    }

    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Entries that wait.
    pub fn entries(&self) -> usize {
        self.entries
    }

    /// Whether the lane must wait before it writes more.
    pub fn is_full(&self, now: Instant) -> bool {
        self.transactions.len() >= TRANSACTIONS_MAX
            || self.entries >= ENTRIES_MAX
            || self.age(now) >= self.age_max
    }

    /// The time until the next question to the server: short at first, longer when the standbys are slow.
    pub fn poll_pause(&self, now: Instant) -> Duration {
        (self.age(now) / 4).clamp(POLL_MIN, POLL_MAX)
    }

    /// Forgets all transactions. Their entries are still in the stream.
    pub fn clear(&mut self) {
        metrics::settlements_waiting(-(self.entries as f64));
        self.transactions.clear();
        self.entries = 0;
    }

    fn age(&self, now: Instant) -> Duration {
        self.transactions.front().map_or(Duration::ZERO, |first| now.saturating_duration_since(first.since))
    }
}

impl Drop for SettlementQueue {
    fn drop(&mut self) {
        self.clear();
    }
}

/// Checks that the store can say what its standbys have, if these settings need it. A store that is not
/// reachable is checked later, by the lanes.
///
/// # Errors
/// What is missing, and how to grant it.
pub async fn check(store: &dyn Store, settings: &Settings) -> Result<(), String> {
    if settings.standbys() == 0 {
        return Ok(());
    }
    match store.servers().await {
        Ok(Some(server)) if server.standbys.is_none() => Err("SETTLE_AFTER=\"standby\": the role of DATABASE_URL \
            may not see the standbys of PostgreSQL: run GRANT pg_monitor TO that role, or set SETTLE_AFTER=commit"
            .to_owned()),
        Ok(Some(server)) if server.timeline.is_none() => Err("SETTLE_AFTER=\"standby\": this PostgreSQL does not \
            name its timeline: set SETTLE_AFTER=commit"
            .to_owned()),
        Ok(None) => Err(ON_FILES.to_owned()),
        Ok(Some(_)) | Err(StoreError::Unavailable(_) | StoreError::SchemaOutdated(_)) => Ok(()),
        Err(error) => Err(format!("SETTLE_AFTER=\"standby\": {error}")),
    }
}

const ON_FILES: &str = "SETTLE_AFTER=\"standby\": files have no standbys: set SETTLE_AFTER=commit";

#[cfg(test)]
mod tests {
    use millrace_stream::EntryId;
    use proptest::prelude::*;

    use super::*;

    const AGE_MAX: Duration = Duration::from_secs(4);

    fn settlements(first: u64, count: u64) -> Vec<Settlement> {
        let settlement = |ms| Settlement {
            id: EntryId { ms, seq: 0 },
            bytes: 1,
            batches: Vec::new(),
            refunds: Vec::new(),
        };
        (first..first + count).map(settlement).collect()
    }

    fn progress(timeline: u32, committed: u64, replicated: u64) -> ReplicationProgress {
        ReplicationProgress { timeline, committed, replicated }
    }

    #[test]
    fn an_entry_is_settled_only_when_the_standbys_have_its_commit() {
        let mut queue = SettlementQueue::new(AGE_MAX);
        queue.push(progress(1, 100, 0), settlements(1, 2), Instant::now()).unwrap();
        queue.push(progress(1, 200, 0), settlements(3, 1), Instant::now()).unwrap();
        assert_eq!(queue.release(progress(1, 300, 99)), Ok(vec![]));
        assert_eq!(queue.release(progress(1, 300, 100)), Ok(settlements(1, 2)));
        assert_eq!(queue.release(progress(1, 300, 300)), Ok(settlements(3, 1)));
        assert!(queue.is_empty() && queue.entries() == 0);
    }

    #[test]
    fn no_place_of_another_timeline_settles_anything() {
        let mut queue = SettlementQueue::new(AGE_MAX);
        queue.push(progress(1, 100, 0), settlements(1, 1), Instant::now()).unwrap();
        assert_eq!(queue.release(progress(2, 900, 900)), Err(TimelineChange));
        assert_eq!(queue.push(progress(2, 90, 0), settlements(2, 1), Instant::now()), Err(TimelineChange));
        queue.clear();
        queue.push(progress(2, 90, 0), settlements(2, 1), Instant::now()).unwrap();
        assert_eq!(queue.release(progress(2, 90, 90)), Ok(settlements(2, 1)));
    }

    #[test]
    fn the_queue_is_full_by_transactions_by_entries_and_by_age() {
        let now = Instant::now();
        let mut queue = SettlementQueue::new(AGE_MAX);
        assert!(!queue.is_full(now + AGE_MAX), "an empty queue has no age");
        for at in 0..TRANSACTIONS_MAX as u64 {
            assert!(!queue.is_full(now));
            queue.push(progress(1, at, 0), settlements(at, 1), now).unwrap();
        }
        assert!(queue.is_full(now));
        queue.clear();
        queue.push(progress(1, 1, 0), settlements(1, ENTRIES_MAX as u64), now).unwrap();
        assert!(queue.is_full(now));
        queue.clear();
        queue.push(progress(1, 1, 0), settlements(1, 1), now).unwrap();
        assert!(!queue.is_full(now) && queue.is_full(now + AGE_MAX));
        assert_eq!(queue.poll_pause(now), POLL_MIN);
        assert_eq!(queue.poll_pause(now + AGE_MAX), POLL_MAX);
    }

    proptest! {
        /// The model is the list of all entries with their places: released is exactly what was at or below
        /// the place that the standbys had at some question after the commit, each entry once, in order.
        #[test]
        fn exactly_the_replicated_entries_are_released_once_and_in_order(
            steps in prop::collection::vec((0_u64..50, 0_u64..4, 0_u64..120), 1..60)
        ) {
            let mut queue = SettlementQueue::new(AGE_MAX);
            let (mut place, mut next) = (0, 0);
            let mut model: Vec<(u64, EntryId, bool)> = Vec::new();
            let mut released: Vec<EntryId> = Vec::new();
            for (written, count, lag) in steps {
                place += written;
                let batch = settlements(next, count);
                next += count;
                model.extend(batch.iter().map(|one| (place, one.id, false)));
                queue.push(progress(1, place, 0), batch, Instant::now()).unwrap();
                let replicated = place.saturating_sub(lag);
                model.iter_mut().for_each(|(place, _, is_safe)| *is_safe |= *place <= replicated);
                released.extend(queue.release(progress(1, place, replicated)).unwrap().iter().map(|one| one.id));
                let expected: Vec<EntryId> =
                    model.iter().filter(|(_, _, is_safe)| *is_safe).map(|(_, id, _)| *id).collect();
                prop_assert_eq!(&released, &expected);
                prop_assert_eq!(queue.entries(), model.len() - released.len());
            }
        }
    }
}
