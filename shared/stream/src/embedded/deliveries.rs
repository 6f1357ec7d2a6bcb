//! Who was handed what: in memory only. After a restart nobody holds anything, and every entry is there to be read again.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::position::Position;

/// The consumers, and the entries they were handed and have not settled.
#[derive(Default)]
pub(super) struct Deliveries {
    handed: BTreeMap<Position, Handed>,
    last: Position,
    seen: HashMap<Arc<str>, Instant>,
}

struct Handed {
    consumer: Arc<str>,
    since: Instant,
    delivered: u32,
}

impl Deliveries {
    /// Notes that this consumer is alive.
    pub(super) fn see(&mut self, consumer: &Arc<str>) {
        self.seen.insert(Arc::clone(consumer), Instant::now());
    }

    /// The last entry handed out.
    pub(super) fn last(&self) -> Position {
        self.last
    }

    /// Hands entries out that nobody was handed before, oldest first.
    pub(super) fn hand(&mut self, consumer: &Arc<str>, positions: impl Iterator<Item = Position>) {
        let since = Instant::now();
        for position in positions {
            let consumer = Arc::clone(consumer);
            self.last = position;
            self.handed.insert(position, Handed { consumer, since, delivered: 1 });
        }
    }

    /// Hands a consumer what it holds already, and how often that was handed out by now.
    pub(super) fn hand_again(
        &mut self,
        consumer: &Arc<str>,
        after: Position,
        entries_max: usize,
    ) -> Vec<(Position, u32)> {
        let later = self.handed.range_mut((Bound::Excluded(after), Bound::Unbounded));
        let own = later.filter(|(_, handed)| handed.consumer == *consumer);
        own.take(entries_max).map(|(position, handed)| (*position, handed.again())).collect()
    }

    /// Hands a consumer what was handed to anybody so long ago.
    pub(super) fn take_over(
        &mut self,
        consumer: &Arc<str>,
        idle: Duration,
        entries_max: usize,
    ) -> Vec<(Position, u32)> {
        let silent = self.handed.iter_mut().filter(|(_, handed)| handed.since.elapsed() >= idle);
        let taken = silent.take(entries_max).map(|(position, handed)| {
            handed.consumer = Arc::clone(consumer);
            (*position, handed.again())
        });
        taken.collect()
    }

    /// Forgets entries that have left the stream.
    pub(super) fn forget(&mut self, positions: &[Position]) {
        for position in positions {
            self.handed.remove(position);
        }
    }

    /// Removes consumers, or the only one named, that were silent for so long and hold nothing. Returns how many.
    pub(super) fn retire(&mut self, idle: Duration, only: Option<&Arc<str>>) -> u64 {
        let before = self.seen.len();
        let holds = |consumer: &Arc<str>| self.handed.values().any(|handed| handed.consumer == *consumer);
        self.seen.retain(|consumer, seen| {
            only.is_some_and(|only| only != consumer) || seen.elapsed() < idle || holds(consumer)
        });
        (before - self.seen.len()) as u64
    }
}

impl Handed {
    fn again(&mut self) -> u32 {
        self.since = Instant::now();
        self.delivered += 1;
        self.delivered
    }
}
