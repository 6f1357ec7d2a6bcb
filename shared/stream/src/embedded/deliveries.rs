//! Which entries were delivered to which consumer. This is in memory only: after a restart no entry is
//! delivered, and every entry can be read again.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::position::Position;

/// The consumers, and the entries that are pending for them.
#[derive(Default)]
pub(super) struct Deliveries {
    pending: BTreeMap<Position, PendingEntry>,
    /// The last entry that was delivered.
    last: Position,
    /// When each consumer last called.
    active: HashMap<Arc<str>, Instant>,
}

struct PendingEntry {
    consumer: Arc<str>,
    /// When it was last delivered.
    since: Instant,
    delivered: u32,
}

impl Deliveries {
    /// Records that this consumer is active.
    pub(super) fn touch(&mut self, consumer: &Arc<str>) {
        self.active.insert(Arc::clone(consumer), Instant::now());
    }

    /// The last entry that was delivered.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Delivers new entries, oldest first.
    pub(super) fn deliver(&mut self, consumer: &Arc<str>, positions: impl Iterator<Item = Position>) {
        let since = Instant::now();
        for position in positions {
            let consumer = Arc::clone(consumer);
            self.last = position;
            self.pending.insert(position, PendingEntry { consumer, since, delivered: 1 });
        }
    }

    /// Delivers again entries that are pending for this consumer. Returns each with the number of its
    /// deliveries.
    pub(super) fn deliver_again(
        &mut self,
        consumer: &Arc<str>,
        after: Position,
        entries_max: usize,
    ) -> Vec<(Position, u32)> {
        let later = self.pending.range_mut((Bound::Excluded(after), Bound::Unbounded));
        let own = later.filter(|(_, entry)| entry.consumer == *consumer);
        own.take(entries_max).map(|(position, entry)| (*position, entry.deliver_again())).collect()
    }

    /// Delivers to this consumer the entries that were last delivered at least `idle` ago. Returns each with
    /// the number of its deliveries.
    pub(super) fn take_over(
        &mut self,
        consumer: &Arc<str>,
        idle: Duration,
        entries_max: usize,
    ) -> Vec<(Position, u32)> {
        let silent = self.pending.iter_mut().filter(|(_, entry)| entry.since.elapsed() >= idle);
        let taken = silent.take(entries_max).map(|(position, entry)| {
            entry.consumer = Arc::clone(consumer);
            (*position, entry.deliver_again())
        });
        taken.collect()
    }

    /// Forgets entries that were removed from the stream.
    pub(super) fn forget(&mut self, positions: &[Position]) {
        for position in positions {
            self.pending.remove(position);
        }
    }

    /// Removes the consumers that were idle this long and have nothing pending: only the named one, or all.
    /// Returns how many.
    pub(super) fn retire(&mut self, idle: Duration, only: Option<&Arc<str>>) -> u64 {
        let before = self.active.len();
        let has_pending =
            |consumer: &Arc<str>| self.pending.values().any(|entry| entry.consumer == *consumer);
        self.active.retain(|consumer, last_call| {
            only.is_some_and(|only| only != consumer) || last_call.elapsed() < idle || has_pending(consumer)
        });
        (before - self.active.len()) as u64
    }
}

impl PendingEntry {
    fn deliver_again(&mut self) -> u32 {
        self.since = Instant::now();
        self.delivered += 1;
        self.delivered
    }
}
