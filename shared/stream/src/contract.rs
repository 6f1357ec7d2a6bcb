//! The traits that every stream implements.

use std::time::Duration;

use async_trait::async_trait;
use millrace_event::plan::{LimitState, ProjectId};
use millrace_event::{BatchId, EntryId, Epoch, PendingBatch, ProjectCounters};

use crate::admission::{Admission, BatchState, Decision};
use crate::delivery::{Backlog, Delivery, Settlement, TakeOver};
use crate::error::StreamError;

/// The stream, as API processes, workers and operators see it. Cheap to share; safe to call from any task.
#[async_trait]
pub trait Stream: Send + Sync {
    /// How many shards there are.
    fn shards(&self) -> u16;

    /// Checks the plan and appends the batch, in one durable step. See [`Decision`].
    ///
    /// # Errors
    /// [`StreamError`]; after `Unknown` the batch may have been admitted, and the same call may be made again.
    async fn admit(&self, admission: &Admission<'_>) -> Result<Decision, StreamError>;

    /// What the stream remembers of a batch of this project's shard.
    async fn batch_state(&self, project: ProjectId, batch_id: BatchId) -> Result<BatchState, StreamError>;

    /// The project's rate and quota right now, changing nothing.
    async fn limit_state(&self, project: ProjectId) -> Result<LimitState, StreamError>;

    /// How much waits, over all shards.
    async fn backlog(&self) -> Result<Backlog, StreamError>;

    /// What is wrong with the durability settings; empty when acknowledged means on disk.
    async fn durability_faults(&self) -> Result<Vec<String>, StreamError>;

    /// Opens a reader with its own connection. `consumer` must be unique to one lane of one process life.
    async fn reader(&self, shard: u16, consumer: &str) -> Result<Box<dyn Reader>, StreamError>;

    /// Removes committed entries. Of each entry that was still pending, and only of those, duplicates and dead
    /// letters are refunded to the month the batch was received in. Returns how many were still pending.
    ///
    /// # Errors
    /// [`StreamError`]; after any error the same call may be made again.
    async fn settle(&self, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError>;

    /// Counts an attempt to write this entry alone, before the attempt; returns the count. An attempt that ended,
    /// well or badly, is forgotten with [`Stream::forget_attempts`]; so the count is of attempts that never returned.
    async fn note_attempt(&self, shard: u16, id: EntryId) -> Result<u32, StreamError>;

    /// Forgets the attempts of an entry. Settling does it, too.
    async fn forget_attempts(&self, shard: u16, id: EntryId) -> Result<(), StreamError>;

    /// Removes consumers that have been idle this long and have nothing pending. Returns how many.
    async fn retire_consumers(&self, shard: u16, idle: Duration) -> Result<u64, StreamError>;

    /// The epoch the shard bears, if any.
    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StreamError>;

    /// From now on only this epoch is trusted on the shard; until the first call nothing is admitted or settled.
    fn trust_epoch(&self, shard: u16, epoch: Epoch);

    /// Every batch in the shard's stream, oldest first, rows left out.
    async fn pending_batches(&self, shard: u16) -> Result<Vec<PendingBatch>, StreamError>;

    /// Begins a rebuild under this epoch: from now on nothing is admitted to the shard or settled on it, by anyone,
    /// whatever epoch they trust, until [`Stream::rebuild`] is called with the same epoch. A later fence replaces it.
    /// Without it, a batch admitted and settled between the count and the rebuild would be forgotten.
    async fn fence(&self, shard: u16, epoch: Epoch) -> Result<(), StreamError>;

    /// Replaces all counters of the shard and gives it a new epoch, in one step, if the shard is still fenced under
    /// this epoch and `expected` is what stands in the stream. Returns false, with nothing changed, when it is not.
    async fn rebuild(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[ProjectCounters],
        expected: &[PendingBatch],
    ) -> Result<bool, StreamError>;

    /// The counters of these projects, each read in one step.
    async fn counters(&self, projects: &[ProjectId]) -> Result<Vec<ProjectCounters>, StreamError>;
}

/// One lane's own view of one shard.
#[async_trait]
pub trait Reader: Send {
    /// The next entries nobody has read, at most `entries_max`; waits up to `wait` for the first (zero: not at all).
    async fn next(&mut self, entries_max: usize, wait: Duration) -> Result<Vec<Delivery>, StreamError>;

    /// Entries this consumer was handed and has not settled, after `after`, oldest first. To be read to the end
    /// after every error.
    async fn own_pending(&mut self, after: EntryId, entries_max: usize)
    -> Result<Vec<Delivery>, StreamError>;

    /// Takes entries over from consumers that have been silent for `idle`.
    async fn take_over(&mut self, idle: Duration, entries_max: usize) -> Result<TakeOver, StreamError>;

    /// Leaves the group if nothing is pending for this consumer; otherwise does nothing.
    async fn leave(&mut self) -> Result<(), StreamError>;
}

/// A shared [`Stream`] of any kind.
pub type SharedStream = std::sync::Arc<dyn Stream>;
