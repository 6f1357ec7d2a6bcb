//! The traits that every stream implements.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use millrace_event::limit::{Amount, Charge, Counter, CounterState};
use millrace_event::plan::{LimitState, ProjectId};
use millrace_event::{BatchId, EntryId, Epoch, PendingBatch, ProjectCounters};

use crate::admission::{Admission, BatchState, Decision};
use crate::delivery::{Backlog, Delivery, Settlement, TakeOver};
use crate::durability::DurabilityReport;
use crate::error::StreamError;
use crate::witness::Witness;

/// The stream for API processes, workers and operators. It is cheap to share and safe to call from any task.
#[async_trait]
pub trait Stream: Send + Sync {
    /// The number of shards. Shards are numbered from 0.
    fn shards(&self) -> u16;

    /// The same stream, for a thread that has a runtime of its own: its admissions wake no other thread,
    /// unless they share an entry. What the process knows of the stream is shared.
    fn for_another_runtime(self: Arc<Self>) -> SharedStream;

    /// Checks the plan and appends the batch, in one durable step. See [`Decision`]. Batches that are
    /// admitted at the same time can share an entry.
    ///
    /// # Errors
    /// [`StreamError`]. After `Unknown` the batch may have been admitted; the same call can be repeated
    /// safely.
    async fn admit(&self, admission: &Admission<'_>) -> Result<Decision, StreamError>;

    /// Looks up a batch by its id. `project` selects the shard.
    async fn batch_state(&self, project: ProjectId, batch_id: BatchId) -> Result<BatchState, StreamError>;

    /// The rate and quota that the project has used, on the stream's clock.
    async fn limit_state(&self, project: ProjectId) -> Result<LimitState, StreamError>;

    /// What is used of these counters of the project in the current windows, in their order, and the time on
    /// the stream's clock for which that holds, in microseconds since 1970.
    async fn limits_used(
        &self,
        project: ProjectId,
        counters: &[Counter],
    ) -> Result<(u64, Vec<Amount>), StreamError>;

    /// The backlog of all shards together.
    async fn backlog(&self) -> Result<Backlog, StreamError>;

    /// Whether the shard's server keeps an acknowledged batch as safe as the stream was opened for.
    async fn durability_report(&self, shard: u16) -> Result<DurabilityReport, StreamError>;

    /// Checks whether a batch could be admitted to the shard now, without admitting one. A failed admission
    /// is no such check: it would need a batch, and a process that gets none would never learn that it works
    /// again.
    ///
    /// # Errors
    /// [`StreamError`], for the reason that an admission would fail.
    async fn check_writable(&self, shard: u16) -> Result<(), StreamError>;

    /// Opens a reader with its own connection. `consumer` must be unique to one lane of one run of a process.
    async fn reader(&self, shard: u16, consumer: &str) -> Result<Box<dyn Reader>, StreamError>;

    /// Removes committed entries. Duplicates and dead letters are refunded to the month in which their batch
    /// was received, for entries that were still pending and for no others. Returns how many entries were
    /// still pending.
    ///
    /// # Errors
    /// [`StreamError`]. After any error the same call can be repeated safely.
    async fn settle(&self, shard: u16, settlements: &[Settlement]) -> Result<u64, StreamError>;

    /// Counts an attempt to write this entry alone, and returns the count. Call it before the attempt, and
    /// [`Stream::forget_attempts`] after the attempt returned: the count is then of attempts that never
    /// returned.
    async fn note_attempt(&self, shard: u16, id: EntryId) -> Result<u32, StreamError>;

    /// Sets the number of attempts to 0. [`Stream::settle`] does the same.
    async fn forget_attempts(&self, shard: u16, id: EntryId) -> Result<(), StreamError>;

    /// Removes the consumers that have been idle this long and have nothing pending. Returns how many.
    async fn retire_consumers(&self, shard: u16, idle: Duration) -> Result<u64, StreamError>;

    /// The epoch of the shard. `None` for a new shard, and while it is fenced.
    async fn epoch(&self, shard: u16) -> Result<Option<Epoch>, StreamError>;

    /// Where the shard stands, and what this process acknowledged and can no longer find. See [`Witness`]. It
    /// looks for single batches only when the data may have been replaced since the last decision.
    async fn witness(&self, shard: u16) -> Result<Witness, StreamError>;

    /// Admits to this shard and settles on it only under this epoch. Until the first call, nothing is
    /// admitted or settled. It also decides on the last [`Witness`]: its missing batches are not looked for
    /// again. If the stream noticed after that witness that the shard went back in time, the call has no
    /// effect.
    fn trust_epoch(&self, shard: u16, epoch: Epoch);

    /// The epoch of the last call of [`Stream::trust_epoch`] that had an effect.
    fn trusted_epoch(&self, shard: u16) -> Option<Epoch>;

    /// Every batch in the shard, oldest first, without its rows.
    async fn pending_batches(&self, shard: u16) -> Result<Vec<PendingBatch>, StreamError>;

    /// What the batches in the shard took of limits, oldest first; batches that took nothing are left out.
    async fn pending_charges(&self, shard: u16) -> Result<Vec<(PendingBatch, Vec<Charge>)>, StreamError>;

    /// Begins a rebuild under this epoch. From now on no process can admit to the shard or settle on it,
    /// until [`Stream::rebuild`] is called with the same epoch. A later fence replaces an earlier one.
    /// Without a fence, a batch admitted and settled between the count and the rebuild would be missing from
    /// the counters.
    async fn fence(&self, shard: u16, epoch: Epoch) -> Result<(), StreamError>;

    /// Sets the counters of limits that the shard has once it is rebuilt under this epoch; all others are
    /// then 0. Call it between [`Stream::fence`] and [`Stream::rebuild`]. Returns false, with nothing
    /// changed, when the shard is not fenced under this epoch.
    async fn restore_limits(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[(ProjectId, CounterState)],
    ) -> Result<bool, StreamError>;

    /// Replaces all counters of the shard and gives it this epoch, in one step. Returns false, with nothing
    /// changed, when the shard is not fenced under this epoch or does not hold exactly the `expected`
    /// batches. From then on, the shard stands above `floor`, and so is every entry that it gets.
    async fn rebuild(
        &self,
        shard: u16,
        epoch: Epoch,
        counters: &[ProjectCounters],
        expected: &[PendingBatch],
        floor: EntryId,
    ) -> Result<bool, StreamError>;

    /// The counters of these projects, in their order. The counters of one project are read in one step.
    async fn counters(&self, projects: &[ProjectId]) -> Result<Vec<ProjectCounters>, StreamError>;
}

/// One consumer's view of one shard.
#[async_trait]
pub trait Reader: Send {
    /// The next entries that were delivered to no consumer yet, at most `entries_max`. Waits up to `wait` for
    /// the first of them; zero does not wait.
    async fn next(&mut self, entries_max: usize, wait: Duration) -> Result<Vec<Delivery>, StreamError>;

    /// Entries after `after` that were delivered to this consumer and are not settled, oldest first. After
    /// every error, read all of them again.
    async fn own_pending(&mut self, after: EntryId, entries_max: usize)
    -> Result<Vec<Delivery>, StreamError>;

    /// Takes over entries that were delivered to any consumer at least `idle` ago and are not settled.
    async fn take_over(&mut self, idle: Duration, entries_max: usize) -> Result<TakeOver, StreamError>;

    /// Removes this consumer if nothing is pending for it; otherwise does nothing.
    async fn leave(&mut self) -> Result<(), StreamError>;
}

/// A shared [`Stream`] of any kind.
pub type SharedStream = Arc<dyn Stream>;
