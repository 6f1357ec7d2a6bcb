//! What one process remembers of a shard: the batches that it has acknowledged. A stream that went back in
//! time lacks some of them, although its epoch is the same.
//!
//! This module must never forget the highest entry, allocate memory for a batch, or hold its lock for longer
//! than a copy of what it remembers.

use std::collections::{HashSet, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millrace_event::{AcknowledgedBatch, BatchId, EntryId, Epoch};

/// Batches that one process remembers, in all shards together: 4 MiB.
pub(crate) const REMEMBERED_MAX: usize = 65_536;
/// How long a batch is remembered.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);

/// What the stream shows of a shard, and what this process knows of it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Witness {
    /// The epoch of the shard. `None` for a new shard, and while it is fenced.
    pub epoch: Option<Epoch>,
    /// Where the stream stands: no entry that it ever had is higher. It never decreases, unless the stream
    /// goes back in time.
    pub last: EntryId,
    /// The highest entry that this process has acknowledged. It was read before `last`.
    pub acknowledged: EntryId,
    /// The epoch that this process trusted last.
    pub trusted: Option<Epoch>,
    /// Batches that this process acknowledged within the last minute and that the stream does not know. The
    /// stream also forgets a batch some time after it was settled: those that are in the store are not lost.
    pub missing: Vec<AcknowledgedBatch>,
}

/// The batches that one process has acknowledged in one shard.
pub(crate) struct AcknowledgedBatches {
    memory: Mutex<Memory>,
    capacity: usize,
}

struct Memory {
    last: EntryId,
    /// Oldest first. Its space is reserved once.
    recent: VecDeque<(Instant, AcknowledgedBatch)>,
}

impl AcknowledgedBatches {
    /// Remembers at most `capacity` batches.
    pub(crate) fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        let memory = Memory { last: EntryId::default(), recent: VecDeque::with_capacity(capacity) };
        Self { memory: Mutex::new(memory), capacity }
    }

    /// Remembers batches that were acknowledged now.
    pub(crate) fn remember(&self, batches: impl IntoIterator<Item = AcknowledgedBatch>) {
        let now = Instant::now();
        let mut memory = self.memory();
        let is_old = |at: Instant| now.duration_since(at) > REMEMBERED_FOR;
        while memory.recent.front().is_some_and(|(at, _)| is_old(*at)) {
            memory.recent.pop_front();
        }
        for batch in batches {
            memory.last = memory.last.max(batch.id);
            if memory.recent.len() == self.capacity {
                memory.recent.pop_front();
            }
            memory.recent.push_back((now, batch));
        }
    }

    /// The highest entry that was acknowledged.
    pub(crate) fn last(&self) -> EntryId {
        self.memory().last
    }

    /// The batches that were acknowledged within this time, and are remembered.
    pub(crate) fn within(&self, time: Duration) -> Vec<AcknowledgedBatch> {
        let now = Instant::now();
        let time = time.min(REMEMBERED_FOR);
        let memory = self.memory();
        let young = memory.recent.iter().filter(|(at, _)| now.duration_since(*at) <= time);
        young.map(|(_, batch)| *batch).collect()
    }

    /// All remembered batches.
    pub(crate) fn recent(&self) -> Vec<AcknowledgedBatch> {
        self.within(REMEMBERED_FOR)
    }

    /// Forgets batches whose fate is known.
    pub(crate) fn forget(&self, batches: &HashSet<BatchId>) {
        if !batches.is_empty() {
            self.memory().recent.retain(|(_, batch)| !batches.contains(&batch.batch_id));
        }
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use millrace_event::plan::ProjectId;
    use uuid::Uuid;

    use super::*;

    fn batch(ms: u64, seq: u64) -> AcknowledgedBatch {
        let id = EntryId { ms, seq };
        AcknowledgedBatch { id, batch_id: Uuid::new_v4(), project: ProjectId(1), count: 1 }
    }

    #[test]
    fn the_last_batches_are_remembered_and_the_highest_entry_is_never_forgotten() {
        let batches = AcknowledgedBatches::new(3);
        let all: Vec<_> = [(1, 0), (9, 2), (9, 1), (3, 0)].map(|(ms, seq)| batch(ms, seq)).into();
        batches.remember(all[..2].iter().copied());
        batches.remember(all[2..].iter().copied());
        assert_eq!(batches.recent(), all[1..]);
        assert_eq!(batches.last(), EntryId { ms: 9, seq: 2 });
        batches.forget(&all.iter().map(|batch| batch.batch_id).collect());
        assert_eq!(batches.recent(), []);
        assert_eq!(batches.last(), EntryId { ms: 9, seq: 2 });
    }

    #[test]
    fn remembering_a_batch_allocates_nothing() {
        let batches = AcknowledgedBatches::new(1_000);
        let reserved = batches.memory().recent.capacity();
        batches.remember((0..10_000).map(|ms| batch(ms, 0)));
        assert_eq!(batches.memory().recent.capacity(), reserved);
        assert_eq!(batches.recent().len(), 1_000);
    }

    /// Run it alone, in a release build: `cargo test --release -p millrace-stream --lib remembering_costs --
    /// --ignored --nocapture`.
    #[test]
    #[ignore = "a measurement"]
    fn remembering_costs_nanoseconds() {
        let batches = AcknowledgedBatches::new(REMEMBERED_MAX);
        let calls: Vec<_> = (0..1_000).map(|ms| [batch(ms, 0); 64]).collect();
        let began = Instant::now();
        for _ in 0..100 {
            for call in &calls {
                batches.remember(call.iter().copied());
            }
        }
        println!("{:.1} ns a batch in calls of 64", began.elapsed().as_nanos() as f64 / 6_400_000.0);
        let began = Instant::now();
        for call in &calls {
            for batch in call {
                batches.remember([*batch]);
            }
        }
        println!("{:.1} ns a batch in calls of 1", began.elapsed().as_nanos() as f64 / 64_000.0);
    }
}
